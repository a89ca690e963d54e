"""PACS for tests of fetching that answer as they are told: over HTTP and over DIMSE, on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined] # made when it is imported
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

_MULTIPART = 'multipart/related; type="application/dicom"; boundary=mark'

Files = dict[str, list[bytes]]
"""By Study Instance UID: the DICOM files of its instances."""


def files_of(paths: Sequence[Path]) -> Files:
    """Files by study, as they are on disk."""
    found: Files = {}
    for path in paths:
        found.setdefault(str(dcmread(path, stop_before_pixels=True).StudyInstanceUID), []).append(path.read_bytes())
    return found


class WebArchive:
    """A DICOMweb service that finds and retrieves. `faults`: by "search" or study, what the next requests get."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: Files = {}
        self.counts: dict[str, int] = {}
        self.faults: dict[str, list[Callable[[_Handler], None]]] = {}
        self.requests: list[str] = []
        self.page = 100
        self.pages = True

    def found(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        """What a search finds: all studies, from the offset if the service knows that."""
        offset = int(query["offset"][0]) if self.pages else 0
        return [
            {
                "0020000D": {"vr": "UI", "Value": [uid]},
                "00100020": {"vr": "LO", "Value": ["NHS-4711"]},
                "00201208": {"vr": "IS", "Value": [self.counts.get(uid, len(files))]},
            }
            for uid, files in self.files.items()
        ][offset : offset + self.page]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    archive: WebArchive

    def handle_error(self, *_: object) -> None:
        """A client that is gone is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        archive = self.server.archive
        parts = urlsplit(self.path)
        what = parts.path.rpartition("/studies")[2].strip("/") or "search"
        archive.requests.append(what)
        if archive.faults.get(what):
            archive.faults[what].pop(0)(self)
        elif what == "search":
            reply(self, 200, json.dumps(archive.found(parse_qs(parts.query))).encode(), "application/dicom+json")
        else:
            reply(self, 200, multipart(archive.files[what]), _MULTIPART)

    def log_message(self, *_: object) -> None:
        """Tests stay quiet."""


def multipart(files: Sequence[bytes]) -> bytes:
    """A multipart/related body with the boundary "mark"."""
    head = b"--mark\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + file + b"\r\n" for file in files) + b"--mark--\r\n"


def reply(handler: _Handler, status: int, body: bytes, kind: str) -> None:
    """Send an answer."""
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def says(status: int, body: bytes = b"", kind: str = "application/dicom+json") -> Callable[[_Handler], None]:
    """Answer this."""
    return lambda handler: reply(handler, status, body, kind)


def half(handler: _Handler) -> None:
    """Send the first half of a study, and cut the connection."""
    _half(handler)


def half_of_what_was_announced(handler: _Handler) -> None:
    """The same after an announcement of the whole length."""
    _half(handler, announced=True)


def trickle(handler: _Handler) -> None:
    """Send a few bytes at a time, for as long as somebody listens."""
    handler.send_response(200)
    handler.send_header("Content-Type", _MULTIPART)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b"-")
        handler.wfile.flush()
        time.sleep(0.05)


def silence(handler: _Handler) -> None:
    """Say nothing for longer than tests wait."""
    time.sleep(1.0)


def _half(handler: _Handler, announced: bool = False) -> None:
    archive = handler.server.archive
    body = multipart(archive.files[archive.requests[-1]])
    handler.send_response(200)
    handler.send_header("Content-Type", _MULTIPART)
    if announced:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    handler.connection.close()


@contextmanager
def web_archive() -> Iterator[WebArchive]:
    """A DICOMweb service on a free port on loopback."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.archive = WebArchive(f"http://127.0.0.1:{server.server_address[1]}/dicom-web")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.archive
        finally:
            server.shutdown()
            thread.join()


@dataclass
class DimseArchive:
    """A DIMSE peer that finds and, by C-GET, retrieves.

    `cuts`: it aborts so many retrievals after the first instance. `counts`: how many instances it says a study has.
    """

    port: int
    files: Files = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    cuts: int = 0
    find_status: int = 0
    get_status: int = 0
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address as site profiles write it."""
        return f"dicom://PACS@127.0.0.1:{self.port}"

    def on_find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        """Answer a C-FIND."""
        self.requests.append("search")
        if self.find_status:
            yield self.find_status, None
            return
        for uid, files in self.files.items():
            found = Dataset()
            found.QueryRetrieveLevel = "STUDY"
            found.add_new("StudyInstanceUID", "UI", uid)
            found.NumberOfStudyRelatedInstances = self.counts.get(uid, len(files))
            yield 0xFF00, found

    def on_get(self, event: Event) -> Iterator[Any]:
        """Answer a C-GET."""
        uid = str(event.identifier.StudyInstanceUID)
        self.requests.append(uid)
        if self.get_status:
            yield 1
            yield self.get_status, None
            return
        yield len(self.files[uid])
        for number, file in enumerate(self.files[uid]):
            if number and self.cuts:
                self.cuts -= 1
                event.assoc.abort()
                return
            yield 0xFF00, dcmread(BytesIO(file))

    def on_move(self, event: Event) -> Iterator[Any]:
        """Answer a C-MOVE: it knows no destination."""
        self.requests.append("move")
        yield None, None

    def on_user(self, event: Event) -> tuple[bool, None]:
        """Accept only the user that is expected."""
        self.requests.append("user")
        return event.secondary_field == b"right", None


@contextmanager
def dimse_archive(port: int, offers_get: bool = True, asks_for_user: bool = False) -> Iterator[DimseArchive]:
    """A DIMSE peer on loopback that is called PACS."""
    archive = DimseArchive(port)
    ae = AE("PACS")
    ae.require_called_aet = True
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    if offers_get:
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_supported_context(
        DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, scu_role=True, scp_role=True
    )
    handlers: list[Any] = [
        (evt.EVT_C_FIND, archive.on_find),
        (evt.EVT_C_GET, archive.on_get),
        (evt.EVT_C_MOVE, archive.on_move),
    ]
    if asks_for_user:
        handlers.append((evt.EVT_USER_ID, archive.on_user))
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield archive
    finally:
        server.shutdown()
