"""PACS for tests of sending that answer as they are told: over HTTP and over DIMSE, on loopback."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel

from screening.delivery.outbox import Object, Outbox, Parcel
from tests.support.dicom import mammogram, write_dicom

PATIENT, NAME = "NHS-4711", "Musterfrau^Erika"
"""Whose objects these are: must stand in no sentence and no file name."""
MADE = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)


def objects(folder: Path, count: int = 3, study: int = 1) -> list[Object]:
    """Small valid objects of one exam, in files."""
    made = []
    for number in range(1, count + 1):
        dataset = mammogram(
            np.full((8, 8), number, np.uint8), instance=number, study=study, PatientID=PATIENT, PatientName=NAME
        )
        path = write_dicom(folder / f"{dataset.SOPInstanceUID}.dcm", dataset)
        made.append(Object("summary-image", dataset.SOPClassUID, dataset.SOPInstanceUID, path))
    return made


def queue(outbox: Outbox, destination: str, folder: Path, exams: int = 1, count: int = 3) -> list[str]:
    """Queue some exams and return the UIDs of their objects in order."""
    uids = []
    for study in range(1, exams + 1):
        some = objects(folder, count, study)
        outbox.enqueue(destination, f"exam-{study}", MADE + timedelta(minutes=study), some)
        uids += [one.sop_instance_uid for one in some]
    return uids


def parcels(outbox: Outbox, folder: Path, count: int = 3) -> tuple[Parcel, ...]:
    """The parcels of one exam, queued for "pacs"."""
    queue(outbox, "pacs", folder, 1, count)
    return outbox.next_exam("pacs")


class WebPacs:
    """A DICOMweb service that stores. Each request takes the first of `script`, and behaves as that says."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stored: dict[str, bytes] = {}
        self.requests: list[dict[str, str]] = []
        self.script: list[Callable[[_Handler, dict[str, bytes]], None]] = []
        self.always: Callable[[_Handler, dict[str, bytes]], None] = store

    def answer(self, handler: _Handler, contents: dict[str, bytes]) -> None:
        """Answer one request."""
        self.requests.append(dict(handler.headers))
        (self.script.pop(0) if self.script else self.always)(handler, contents)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    pacs: WebPacs

    def handle_error(self, *_: object) -> None:
        """A client that is gone, or speaks no TLS, is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        boundary = self.headers["Content-Type"].split("boundary=")[1].encode()
        parts = [part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for part in body.split(b"--" + boundary)[1:-1]]
        self.server.pacs.answer(self, {str(dcmread(BytesIO(part)).SOPInstanceUID): part for part in parts})

    def log_message(self, *_: object) -> None:
        """Tests stay quiet."""


@contextmanager
def web_pacs(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[WebPacs]:
    """A DICOMweb service on loopback, on a free port or on `port`."""
    with _Server(("127.0.0.1", port), _Handler) as server:
        server.pacs = WebPacs(f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/dicom-web")
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.pacs
        finally:
            server.shutdown()
            thread.join()


def store(handler: _Handler, contents: dict[str, bytes]) -> None:
    """Store everything and say so."""
    handler.server.pacs.stored |= contents
    reply(handler, 200, json.dumps({"00081199": _sequence(contents)}))


def store_silently(handler: _Handler, contents: dict[str, bytes]) -> None:
    """Store everything and cut the connection before a word of it is said."""
    handler.server.pacs.stored |= contents
    handler.connection.close()


def cut(handler: _Handler, contents: dict[str, bytes]) -> None:
    """Cut the connection in the middle of an answer; nothing is stored."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
    handler.wfile.flush()
    handler.connection.close()


def says(status: int, body: str = "", **headers: str) -> Callable[[_Handler, dict[str, bytes]], None]:
    """Store nothing and answer this."""
    return lambda handler, contents: reply(handler, status, body, headers)


def slow(seconds: float) -> Callable[[_Handler, dict[str, bytes]], None]:
    """Store, but answer only after a while."""

    def answer(handler: _Handler, contents: dict[str, bytes]) -> None:
        handler.server.pacs.stored |= contents
        time.sleep(seconds)

    return answer


def trickle(handler: _Handler, contents: dict[str, bytes]) -> None:
    """Answer one byte at a time, for ever."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n\r\n")
    for _ in range(200):
        handler.wfile.write(b" " * 65_536)
        handler.wfile.flush()
        time.sleep(0.05)


def partly(status: int, reasons: Sequence[int | None]) -> Callable[[_Handler, dict[str, bytes]], None]:
    """Answer `status`; instance i failed for reason i, None: it is stored."""

    def answer(handler: _Handler, contents: dict[str, bytes]) -> None:
        good = {uid: content for (uid, content), why in zip(contents.items(), reasons, strict=True) if why is None}
        handler.server.pacs.stored |= good
        failed = _sequence(uid for uid, why in zip(contents, reasons, strict=True) if why is not None)
        for item, why in zip(failed["Value"], [why for why in reasons if why is not None], strict=True):
            item["00081197"] = {"vr": "US", "Value": [why]}
        reply(handler, status, json.dumps([{"00081199": _sequence(good), "00081198": failed}]))

    return answer


def reply(handler: _Handler, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
    """Send an answer."""
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body.encode())


def _sequence(uids: Any) -> dict[str, Any]:
    return {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]}


@dataclass
class DimsePacs:
    """A DIMSE peer that stores, answers each C-STORE with the first of `statuses`, and commits as it is told.

    `reports`: on "same" association, by a "call" back to `call_back`, or "never". `lost`: UIDs that it does not commit
    to. `cut_after`: it aborts instead of answering after so many objects.
    """

    port: int
    stored: list[Dataset] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    cut_after: int | None = None
    reports: str = "same"
    call_back: int = 0
    lost: set[str] = field(default_factory=set)
    requests: int = 0
    users: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address as site profiles write it."""
        return f"dicom://PACS@127.0.0.1:{self.port}"

    def on_store(self, event: Event) -> int:
        """Answer a C-STORE."""
        if self.cut_after is not None and len(self.stored) >= self.cut_after:
            event.assoc.abort()
            return 0x0110
        status = self.statuses.pop(0) if self.statuses else 0
        if status == 0:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.stored.append(dataset)
        return status

    def on_user(self, event: Event) -> tuple[bool, None]:
        """Accept only the user that is expected."""
        self.users.append((event.primary_field, event.secondary_field))
        return event.secondary_field == b"right", None

    def on_commitment(self, event: Event) -> tuple[int, Dataset | None]:
        """Answer a request for commitment, and report a moment later."""
        self.requests += 1
        thread = threading.Thread(target=self._report, args=(event.assoc, event.action_information))
        if self.reports != "never":
            threading.Timer(0.1, thread.start).start()
        return 0x0000, None

    def _report(self, association: Association, request: Dataset) -> None:
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        items = list(request.ReferencedSOPSequence)
        report.ReferencedSOPSequence = [one for one in items if one.ReferencedSOPInstanceUID not in self.lost]
        report.FailedSOPSequence = [one for one in items if one.ReferencedSOPInstanceUID in self.lost]
        for item in report.FailedSOPSequence:
            item.FailureReason = 0x0112
        if self.reports == "call":
            ae = AE("PACS")
            ae.add_requested_context(StorageCommitmentPushModel)
            role = build_role(StorageCommitmentPushModel, scp_role=True)
            association = ae.associate("127.0.0.1", self.call_back, ext_neg=[role], ae_title="SCREENING")
        association.send_n_event_report(
            report, 2 if self.lost else 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
        )
        if self.reports == "call":
            association.release()


@contextmanager
def dimse_pacs(
    port: int,
    sop_classes: Sequence[str] = (DigitalMammographyXRayImageStorageForPresentation, StorageCommitmentPushModel),
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian,),
    tls: ssl.SSLContext | None = None,
    asks_for_user: bool = False,
) -> Iterator[DimsePacs]:
    """A DIMSE peer on loopback that is called PACS and takes only these SOP classes and transfer syntaxes."""
    pacs = DimsePacs(port)
    ae = AE("PACS")
    ae.require_called_aet = True
    for uid in sop_classes:
        ae.add_supported_context(uid, list(syntaxes))
    handlers: list[Any] = [(evt.EVT_C_STORE, pacs.on_store), (evt.EVT_N_ACTION, pacs.on_commitment)]
    if asks_for_user:
        handlers.append((evt.EVT_USER_ID, pacs.on_user))
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls)
    assert server is not None
    try:
        yield pacs
    finally:
        server.shutdown()
