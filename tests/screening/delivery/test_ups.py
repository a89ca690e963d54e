"""Workitems for reading, and creating them on a server. Orthanc has no UPS: a small server here keeps the rules."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from screening.delivery.answers import RefusedError, UnreachableError
from screening.delivery.context import DISCLAIMER, Delivery
from screening.delivery.headers import DeliveryError
from screening.delivery.ups import (
    Creation,
    Retrieval,
    Workitem,
    create_workitems,
    retrying_session,
    workitem,
)
from screening.errors import ConfigError
from tests.support.deliveries import CASES, SHA256, Case, delivery

PACS = Retrieval(wado_rs="https://pacs.example/dicom-web/", ae_title="PACS")

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


def tag(keyword: str) -> str:
    """The attribute's name in DICOM JSON."""
    return f"{int(Tag(keyword)):08X}"


def problems(item: dict[str, Any]) -> list[str]:
    """What a creation request breaks of the table."""
    found = [f"{k} has no value" for k in MUST_HAVE_VALUE if not item.get(tag(k), {}).get("Value")]
    found += [f"{k} is missing" for k in MUST_BE_THERE if tag(k) not in item]
    found += [f"{k} is not empty" for k in MUST_BE_EMPTY if tag(k) not in item or item[tag(k)].get("Value")]
    return found + [f"{k} is not allowed" for k in NOT_ALLOWED if tag(k) in item]


@dataclass
class UpsServer:
    """A worklist in memory. `answers`: statuses to give instead, one a request; "cut" closes after the work is done."""

    url: str = ""
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: list[int | str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def handle(self, method: str, path: str, body: list[dict[str, Any]] | None) -> tuple[int, Any]:
        parts = urlsplit(path)
        uid = parts.path.removeprefix("/rs/workitems").strip("/")
        if method == "GET":
            return (200, [self.items[uid]]) if uid in self.items else (404, None)
        assert body is not None
        assert len(body) == 1
        if uid:
            wrong = [keyword for keyword in NOT_SET if tag(keyword) in body[0]]
            self.complaints += [f"{keyword} cannot be set" for keyword in wrong]
            self.items[uid] |= body[0]
            return 200, None
        name, _, uid = parts.query.partition("=")
        assert name == "workitem"
        self.complaints += problems(body[0])
        if uid in self.items:
            return 409, None
        self.items[uid] = body[0]
        return 201, None


@pytest.fixture
def server() -> Iterator[UpsServer]:
    """The server, at a free port of this machine."""
    ups = UpsServer()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            if body is not None and self.headers["Content-Type"] != "application/dicom+json":
                ups.complaints.append("media type")
            ups.requests.append((self.command, self.path))
            answer = ups.answers.pop(0) if ups.answers else ""
            status, content = (answer, None) if isinstance(answer, int) else ups.handle(self.command, self.path, body)
            if answer == "cut":
                self.close_connection = True
                return
            with contextlib.suppress(ConnectionError):  # of a client that does not read to the end
                self._send(status, b"" if content is None else json.dumps(content).encode())

        def _send(self, status: int, data: bytes) -> None:
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

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        ups.url = f"http://127.0.0.1:{http.server_address[1]}/rs"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield ups
        http.shutdown()
        thread.join()


def item(folder: Path, case: Case = CASES["2d"]) -> Workitem:
    """The workitem of an exam made for the test."""
    return workitem(delivery(folder, case), PACS)


def create(server: UpsServer, *workitems: Workitem) -> list[Creation | DeliveryError]:
    """Create them with an impatient session."""
    with retrying_session(retries=2, backoff_s=0.0) as session:
        return [outcome for _, outcome in create_workitems(workitems, server.url, session, (30, 30))]


@pytest.mark.parametrize("name", CASES)
def test_creation_satisfies_the_standard_s_table(tmp_path: Path, server: UpsServer, name: str) -> None:
    one = item(tmp_path, CASES[name])
    assert create(server, one) == [Creation.CREATED]
    assert server.complaints == []
    assert list(server.items) == [one.uid]
    stored = Dataset.from_json(server.items[one.uid])
    assert stored == one.dataset
    for element in stored.iterall():
        if element.VR != "SQ":
            value = str(element.value) if element.VR == "PN" else element.value
            DataElement(element.tag, element.VR, value, validation_mode=config.RAISE)


def test_workitem_is_the_source_s_patient_and_names_each_image_once(tmp_path: Path) -> None:
    made = delivery(tmp_path, CASES["partly-rejected"])
    dataset = workitem(made, PACS).dataset
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"):
        assert dataset[keyword].value == made.identity[keyword].value
    assert dataset.ReferencedRequestSequence[0].AccessionNumber == "A-77"
    (series,) = dataset.InputInformationSequence
    named = sorted(one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence)
    assert named == sorted(source.result.image.image_id for source in made.sources)
    assert series.DICOMRetrievalSequence[0].RetrieveAETitle == "PACS"
    url = series.WADORSRetrievalSequence[0].RetrieveURL
    assert url == f"https://pacs.example/dicom-web/studies/{series.StudyInstanceUID}/series/{series.SeriesInstanceUID}"


@pytest.mark.parametrize(("category", "expected"), [(10, "HIGH"), (9, "MEDIUM"), (8, "MEDIUM"), (7, "LOW"), (1, "LOW")])
def test_category_gives_the_priority(tmp_path: Path, category: int, expected: str) -> None:
    made = delivery(tmp_path, CASES["2d"])
    other = replace(made, result=replace(made.result, category=category))
    assert workitem(other, PACS).dataset.ScheduledProcedureStepPriority == expected


def test_comments_say_what_it_is_and_which_model_says_so(tmp_path: Path) -> None:
    comments = item(tmp_path, CASES["partly-rejected"]).dataset.CommentsOnTheScheduledProcedureStep
    for words in (DISCLAIMER, SHA256, "recall-3", "Not processed: L CC: too-small"):
        assert words in comments


def test_where_images_come_from_has_to_be_said() -> None:
    with pytest.raises(ConfigError, match="retrieved from"):
        Retrieval()


def changed(made: Delivery) -> Delivery:
    """The same exam, scored anew: another category, another operating point, one image fewer."""
    return replace(made, result=replace(made.result, category=10, images=made.result.images[1:]), point=made.points[-1])


def test_creating_again_is_the_same_workitem_with_the_new_priority(tmp_path: Path, server: UpsServer) -> None:
    made = delivery(tmp_path, CASES["2d"])
    first, second = workitem(made, PACS), workitem(changed(made), PACS)
    assert create(server, first, first, second) == [Creation.CREATED, Creation.UPDATED, Creation.UPDATED]
    assert server.complaints == []
    (stored,) = server.items.values()
    assert stored[tag("ScheduledProcedureStepPriority")]["Value"] == ["HIGH"]
    assert stored[tag("PatientID")]["Value"] == ["woman-1"]


@pytest.mark.parametrize("state", ["IN PROGRESS", "COMPLETED", "CANCELED", "gone"])
def test_workitem_that_a_reader_has_taken_is_left_alone(tmp_path: Path, server: UpsServer, state: str) -> None:
    one = item(tmp_path)
    create(server, one)
    server.items[one.uid][tag("ProcedureStepState")]["Value"] = [state]
    if state == "gone":
        server.answers = [409, 410]
    before = json.dumps(server.items)
    assert create(server, one) == [Creation.TAKEN]
    assert json.dumps(server.items) == before


def test_connection_cut_after_the_work_was_done_makes_no_second_workitem(tmp_path: Path, server: UpsServer) -> None:
    server.answers = ["cut"]
    assert create(server, item(tmp_path)) == [Creation.UPDATED]
    assert len(server.items) == 1


def test_busy_server_is_asked_again(tmp_path: Path, server: UpsServer) -> None:
    server.answers = [503, 503]
    assert create(server, item(tmp_path)) == [Creation.CREATED]


def test_server_that_stays_busy_is_left_for_later(tmp_path: Path, server: UpsServer) -> None:
    server.answers = [503] * 9
    with pytest.raises(UnreachableError, match="busy"):
        create(server, item(tmp_path))
    assert len(server.requests) == 3  # the first and two retries


@pytest.mark.parametrize("status", [400, 500, 307])
def test_refused_workitem_is_its_own_answer_and_the_others_follow(
    tmp_path: Path, server: UpsServer, status: int
) -> None:
    server.answers = [status]
    one = item(tmp_path)
    refused, created = create(server, one, one)
    assert isinstance(refused, DeliveryError)
    assert f"HTTP {status}" in str(refused)
    assert created is Creation.CREATED
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", ["[]", "{}", "nonsense", '[{"00741000": 5}]', "[" * 10_000])
def test_unreadable_answer_on_a_workitem_is_an_error(
    tmp_path: Path, server: UpsServer, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    one = item(tmp_path)
    create(server, one)
    send = requests.Session.request

    def garbled(session: requests.Session, method: str, *args: Any, **kwargs: Any) -> requests.Response:
        response = send(session, method, *args, **kwargs)
        if method == "GET":
            monkeypatch.setattr(response, "iter_content", lambda size: iter([body.encode()]))
        return response

    monkeypatch.setattr(requests.Session, "request", garbled)
    (answer,) = create(server, one)
    assert "cannot be read" in str(answer)


def test_answer_without_an_end_is_not_read_to_its_end(
    tmp_path: Path, server: UpsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = item(tmp_path)
    create(server, one)
    pieces = iter(itertools.repeat(b" " * 65_536, 10_000))
    monkeypatch.setattr(requests.Response, "iter_content", lambda self, size: pieces)
    with pytest.raises(UnreachableError, match="end of its answer"):
        create(server, one)
    assert next(pieces, None) is not None


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials_are_one_sentence_and_one_request(tmp_path: Path, server: UpsServer, status: int) -> None:
    server.answers = [status]
    server.url = server.url.replace("//", "//reader:secret@")
    one = item(tmp_path)
    with pytest.raises(RefusedError, match="correct them") as caught:
        create(server, one, one)
    assert "secret" not in str(caught.value)
    assert len(server.requests) == 1


def test_server_without_the_service_is_one_sentence(tmp_path: Path, server: UpsServer) -> None:
    server.answers = [404]
    with pytest.raises(RefusedError, match="no UPS-RS service"):
        create(server, item(tmp_path))


def test_unreachable_server_is_one_sentence_without_address_or_patient(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        create(UpsServer(url="http://reader:secret@127.0.0.1:9/rs"), item(tmp_path))
    assert "secret" not in str(caught.value)
    assert "woman-1" not in str(caught.value)


def test_hostile_header_is_data_and_nothing_else(tmp_path: Path, server: UpsServer) -> None:
    name, number = "<script>alert(1)</script>^\"'\u00e9\u6c34", "../../etc/passwd"
    case = replace(CASES["2d"], header={"PatientName": name, "PatientID": number, "SpecificCharacterSet": "ISO_IR 192"})
    one = item(tmp_path, case)
    assert create(server, one) == [Creation.CREATED]
    stored = Dataset.from_json(server.items[one.uid])
    assert str(stored.PatientName) == name
    assert stored.PatientID == number
    assert all(number not in path for _, path in server.requests)
