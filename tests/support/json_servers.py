"""Small real servers for tests of sending: a FHIR server and a worklist (UPS-RS) in memory, with faults on request."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydicom.tag import Tag

# PS3.4 Table CC.2.5-3, columns N-CREATE and N-SET, of what is used here.
MUST_HAVE_VALUE = (
    "ScheduledProcedureStepPriority",
    "ProcedureStepLabel",
    "ScheduledProcedureStepStartDateTime",
    "InputReadinessState",
    "ProcedureStepState",
    "WorklistLabel",
)
MUST_BE_THERE = (
    "ScheduledProcessingParametersSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledWorkitemCodeSequence",
    "CommentsOnTheScheduledProcedureStep",
    "InputInformationSequence",
    "PatientName",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthDate",
    "PatientSex",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "ReferencedRequestSequence",
)
MUST_BE_EMPTY = (
    "TransactionUID",
    "ProcedureStepProgressInformationSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
)
NOT_ALLOWED = ("SOPInstanceUID", "AffectedSOPInstanceUID", "ScheduledProcedureStepModificationDateTime")
NOT_SET = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "ReferencedRequestSequence", "AdmissionID")

Answer = tuple[int, Any]
S = TypeVar("S", bound="JsonServer")


def tag(keyword: str) -> str:
    """The attribute's name in DICOM JSON."""
    return f"{int(Tag(keyword)):08X}"


@dataclass
class JsonServer:
    """What is common. Each request takes the first of `faults`: a status to answer instead of doing anything, a body
    to answer with status 200, "cut" to close after the work is done, or seconds to wait before the answer to it."""

    url: str = ""
    media_type: str = ""
    faults: list[int | str | float | bytes] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def handle(self, method: str, path: str, body: Any) -> Answer:
        """Do what is asked for."""
        raise NotImplementedError


@dataclass
class FhirServer(JsonServer):
    """Takes transactions of PUTs, all or nothing, and keeps the latest version of each resource."""

    media_type: str = "application/fhir+json"
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def handle(self, method: str, path: str, body: Any) -> Answer:
        """A transaction at the base address."""
        if (method, path) != ("POST", "/r4") or body.get("type") != "transaction":
            return 404, None
        for entry in body["entry"]:
            request, resource = entry["request"], entry["resource"]
            name = f"{resource['resourceType']}/{resource['id']}"
            if request != {"method": "PUT", "url": name}:
                self.complaints.append(f"{request} of {name}")
            self.resources[name] = resource
            self.versions[name] = self.versions.get(name, 0) + 1
        done = [{"response": {"status": "201 Created"}} for _ in body["entry"]]
        return 200, {"resourceType": "Bundle", "type": "transaction-response", "entry": done}


@dataclass
class UpsServer(JsonServer):
    """A worklist that keeps the rules of the standard's table."""

    media_type: str = "application/dicom+json"
    items: dict[str, dict[str, Any]] = field(default_factory=dict)

    def handle(self, method: str, path: str, body: Any) -> Answer:
        """Create, show or change a workitem."""
        parts = urlsplit(path)
        uid = parts.path.removeprefix("/r4/workitems").strip("/")
        if method == "GET":
            return (200, [self.items[uid]]) if uid in self.items else (404, None)
        if uid:
            wrong = [keyword for keyword in NOT_SET if tag(keyword) in body[0]]
            self.complaints += [f"{keyword} cannot be set" for keyword in wrong]
            self.items[uid] |= body[0]
            return 200, None
        name, _, uid = parts.query.partition("=")
        assert name == "workitem"
        self.complaints += _problems(body[0])
        if uid in self.items:
            return 409, None
        self.items[uid] = body[0]
        return 201, None


def _problems(item: dict[str, Any]) -> list[str]:
    """What a creation request breaks of the table."""
    found = [f"{k} has no value" for k in MUST_HAVE_VALUE if not item.get(tag(k), {}).get("Value")]
    found += [f"{k} is missing" for k in MUST_BE_THERE if tag(k) not in item]
    found += [f"{k} is not empty" for k in MUST_BE_EMPTY if tag(k) not in item or item[tag(k)].get("Value")]
    return found + [f"{k} is not allowed" for k in NOT_ALLOWED if tag(k) in item]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    service: JsonServer

    def handle_error(self, *_: object) -> None:
        """A client that does not wait is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Http

    def _answer(self) -> None:
        service = self.server.service
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        if body is not None and self.headers["Content-Type"] != service.media_type:
            service.complaints.append("media type")
        service.requests.append((self.command, self.path))
        service.headers.append(dict(self.headers))
        fault = service.faults.pop(0) if service.faults else None
        if isinstance(fault, bytes):
            self._send(200, fault)
            return
        if isinstance(fault, int):
            self._send(fault, b"")
            return
        status, content = service.handle(self.command, self.path, body)
        if fault == "cut":
            self.close_connection = True
            return
        if isinstance(fault, float):
            time.sleep(fault)
        self._send(status, b"" if content is None else json.dumps(content).encode())

    def _send(self, status: int, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            if status == 307:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            # As application servers do: in pieces.
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            half = len(data) // 2
            for piece in filter(None, (data[:half], data[half:])):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = _answer  # noqa: N815 - names that the base class asks for

    def log_message(self, *_: object) -> None:
        """Tests stay quiet."""


@contextmanager
def serving(service: S, port: int = 0) -> Iterator[S]:
    """Serve on loopback, on a free port or on `port`."""
    with _Http(("127.0.0.1", port), _Handler) as http:
        http.service = service
        service.url = f"http://127.0.0.1:{http.server_address[1]}/r4"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            http.shutdown()
            thread.join()
