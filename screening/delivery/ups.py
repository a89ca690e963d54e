"""Workitems for reading, by the Unified Procedure Step service (PS3.4 Annex CC) over the web (UPS-RS, PS3.18 11).

One for each exam. Its UID follows from exam and bundle, so that creating it again is the same workitem. A procedure
step is a thing that changes, unlike an image or a report: where the exam was scored anew with images that came late,
the same workitem gets another priority, as long as no reader has taken it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import UID
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from screening.delivery.answers import RefusedError, UnreachableError
from screening.delivery.context import Delivery, Source
from screening.delivery.findings import algorithm_parameters, description
from screening.delivery.headers import DeliveryError
from screening.delivery.objects import reference
from screening.delivery.worklist import priority
from screening.errors import ConfigError

INTERPRETATION = Code("110005", "DCM", "Interpretation")
"""What is to be done (CID 9231)."""

_PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_EMPTY = (
    "TransactionUID",
    "ScheduledProcessingParametersSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "ProcedureStepProgressInformationSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
)
"""Type 2 when a workitem is created, and for the performer, the scheduler or nobody to fill (PS3.4 Table CC.2.5-3)."""

_CHANGEABLE = (
    "SpecificCharacterSet",
    "ScheduledProcedureStepPriority",
    "CommentsOnTheScheduledProcedureStep",
    "InputReadinessState",
    "InputInformationSequence",
)
"""What a new result of the exam changes; allowed in N-SET by the same table."""

_TEXT_LENGTH = 10_240
"""Of VR LT (PS3.5 6.2)."""
_ANSWER_BYTES, _CHUNK_BYTES = 1 << 22, 1 << 16
_BUSY = (429, 502, 503, 504)
_JSON = "application/dicom+json"


class Creation(StrEnum):
    """What became of a workitem: new, there before and now as it should be, or left alone because a reader has it."""

    CREATED = "created"
    UPDATED = "updated"
    TAKEN = "taken"


@dataclass(frozen=True)
class Retrieval:
    """Where a reader's workstation gets the images: base URL of a DICOMweb server, AE title of a DIMSE peer, or both.

    Raises `ConfigError` where neither is given (PS3.3 Table 10-3b asks for one).
    """

    wado_rs: str = ""
    ae_title: str = ""

    def __post_init__(self) -> None:
        if not self.wado_rs and not self.ae_title:
            raise ConfigError("say where workitems' images are retrieved from: a DICOMweb URL or an AE title")


@dataclass(frozen=True)
class Workitem:
    """A procedure step to be created: its UID, which is not in the dataset (PS3.18 11.4.1.4), and its attributes."""

    uid: UID
    dataset: Dataset

    @property
    def changes(self) -> Dataset:
        """The attributes that are sent where the workitem exists."""
        changed = Dataset()
        for keyword in _CHANGEABLE:
            changed[keyword] = self.dataset[keyword]
        return changed


def workitem(delivery: Delivery, retrieval: Retrieval, worklist: str = "Screening") -> Workitem:
    """The workitem "read this exam", with all that PS3.4 Table CC.2.5-3 asks for in N-CREATE.

    Priority is HIGH for category 10, MEDIUM for 8, 9 and exams without a score, else LOW. The input information names
    the exam's images by study and series. `worklist` is the Worklist Label, of at most 64 characters.
    """
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _EMPTY:
        setattr(dataset, keyword, Sequence() if keyword.endswith("Sequence") else "")
    for keyword in _PATIENT:
        if keyword in delivery.identity:
            dataset[keyword] = delivery.identity[keyword]
    dataset.StudyInstanceUID = delivery.identity.StudyInstanceUID
    dataset.ReferencedRequestSequence = Sequence([_request(delivery)])
    dataset.ProcedureStepState = "SCHEDULED"
    dataset.ScheduledProcedureStepPriority = priority(delivery.result).value
    dataset.WorklistLabel = worklist
    dataset.ProcedureStepLabel = "Read screening mammograms"
    dataset.ScheduledProcedureStepStartDateTime = delivery.local_time.strftime("%Y%m%d%H%M%S%z")
    dataset.ScheduledWorkitemCodeSequence = Sequence([_item(INTERPRETATION)])
    dataset.CommentsOnTheScheduledProcedureStep = _comments(delivery)
    dataset.InputReadinessState = "READY"
    dataset.InputInformationSequence = Sequence(_inputs(delivery, retrieval))
    return Workitem(delivery.other_uid("ups.workitem"), dataset)


def retrying_session(retries: int = 3, backoff_s: float = 1.0) -> requests.Session:
    """An HTTP session that tries again, ever later, where the server is away or busy. Credentials are the caller's.

    Posting a workitem twice is harmless: its UID makes the second a conflict. What a server says of how long to wait
    is not heeded, lest it stops the night.
    """
    retry = Retry(
        total=retries,
        backoff_factor=backoff_s,
        status_forcelist=_BUSY,
        allowed_methods=("GET", "POST"),
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def create_workitems(
    workitems: Iterable[Workitem],
    url: str,
    session: requests.Session,
    timeout_s: tuple[float, float] = (10.0, 30.0),
    uid_query: str = "workitem={}",
) -> Iterator[tuple[Workitem, Creation | DeliveryError]]:
    """Create workitems on the UPS-RS server at `url` (what stands before `/workitems`), one after the other.

    A workitem that the server refuses is that workitem's answer; the others follow.

    Parameters
    ----------
    timeout_s
        For the connection, and for each answer.
    uid_query
        How the server wants the UID in the query. PS3.18 11.4.1.1 writes `?{workitem}`, which most servers take for a
        name and a value; give "{}" for one that wants the bare UID, "AffectedSOPInstanceUID={}" for an older one.

    Raises
    ------
    UnreachableError
        If the server is away or busy, after the session's retries: the next would end alike, and all may be sent later.
    RefusedError
        If it refuses the credentials or has no such service: somebody has to act.
    """
    server = _Server(url.rstrip("/"), session, timeout_s, uid_query)
    for one in workitems:
        try:
            yield one, server.create(one)
        except DeliveryError as error:
            yield one, error


@dataclass(frozen=True)
class _Server:
    url: str
    session: requests.Session
    timeout_s: tuple[float, float]
    uid_query: str

    def create(self, one: Workitem) -> Creation:
        """Create the workitem (PS3.18 11.4), or update it (11.6) if it is there and still to be done."""
        status, _ = self._ask("POST", f"?{self.uid_query.format(one.uid)}", one.dataset)
        if status == HTTPStatus.CREATED:
            return Creation.CREATED
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
            raise RefusedError(
                f"{self._name} has no UPS-RS service at this address (HTTP {status}); not every PACS offers it"
            )
        if status != HTTPStatus.CONFLICT:
            raise DeliveryError(f"workitem {one.uid} was not created: the server answered HTTP {status}")
        if self._state(one.uid) != "SCHEDULED":
            return Creation.TAKEN
        status, _ = self._ask("POST", f"/{one.uid}", one.changes)
        if not 200 <= status < 300:
            raise DeliveryError(f"workitem {one.uid} was not updated: the server answered HTTP {status}")
        return Creation.UPDATED

    def _state(self, uid: UID) -> str:
        """Procedure Step State; "" where the server no longer shows a workitem, which it may once that is done."""
        status, body = self._ask("GET", f"/{uid}")
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return ""
        if status == HTTPStatus.OK:
            try:
                content = json.loads(body)
                found = content[0] if isinstance(content, list) else content
                return str(found["00741000"]["Value"][0])
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise DeliveryError(f"workitem {uid} exists, but the server's answer on it cannot be read") from error
        raise DeliveryError(f"workitem {uid} exists, but asking for its state ended with HTTP {status}")

    def _ask(self, method: str, rest: str, dataset: Dataset | None = None) -> tuple[int, bytes]:
        """Status and body of one request. No redirect is followed: patient data go to one address alone."""
        body = None if dataset is None else json.dumps([dataset.to_json_dict()]).encode()
        headers = {"Accept": _JSON} | ({"Content-Type": _JSON} if body is not None else {})
        address = f"{self.url}/workitems{rest}"
        try:
            with self.session.request(
                method, address, data=body, headers=headers, timeout=self.timeout_s, allow_redirects=False, stream=True
            ) as response:
                status, answer = response.status_code, self._body(response)
        except requests.RequestException as error:
            # Its own message would show the address, which may hold a password.
            raise UnreachableError(
                f"{self._name} cannot be reached ({type(error).__name__}); check the address, the network and TLS"
            ) from error
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise RefusedError(f"{self._name} refuses our credentials (HTTP {status}); correct them")
        if status in _BUSY:
            raise UnreachableError(f"{self._name} is busy (HTTP {status})")
        return status, answer

    def _body(self, response: requests.Response) -> bytes:
        """The answer's body, up to a length and within a time that a workitem needs at most."""
        body, deadline = b"", time.monotonic() + self.timeout_s[1]
        for chunk in response.iter_content(_CHUNK_BYTES):
            body += chunk
            if len(body) > _ANSWER_BYTES or time.monotonic() > deadline:
                raise UnreachableError(f"{self._name} does not come to the end of its answer")
        return body

    @property
    def _name(self) -> str:
        return f"the worklist server {quote(urlsplit(self.url).hostname or '', safe='.:')}"


def _request(delivery: Delivery) -> Dataset:
    """An item of the Referenced Request Sequence, by which readers find the exam."""
    item = Dataset()
    item.StudyInstanceUID = delivery.identity.StudyInstanceUID
    item.AccessionNumber = delivery.identity.AccessionNumber
    item.RequestedProcedureID = item.RequestedProcedureDescription = ""
    for keyword in (
        "IssuerOfAccessionNumberSequence",
        "OrderPlacerIdentifierSequence",
        "OrderFillerIdentifierSequence",
        "RequestedProcedureCodeSequence",
    ):
        setattr(item, keyword, Sequence())
    return item


def _comments(delivery: Delivery) -> str:
    """For people: what was found and what was not processed; which model says so."""
    algorithm = delivery.algorithm
    lines = (description(delivery), f"{algorithm.name} {algorithm.version}", *algorithm_parameters(delivery))
    text = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in "\n".join(lines))
    return text.replace("\n", "\r\n")[:_TEXT_LENGTH]


def _inputs(delivery: Delivery, retrieval: Retrieval) -> Iterator[Dataset]:
    """The exam's images, an item for each series (PS3.3 Table 10-3b)."""
    series: dict[tuple[str, str], list[Source]] = {}
    for source in delivery.sources:
        series.setdefault((source.header.StudyInstanceUID, source.header.SeriesInstanceUID), []).append(source)
    for (study, uid), sources in series.items():
        item = Dataset()
        item.TypeOfInstances = "DICOM"
        item.StudyInstanceUID, item.SeriesInstanceUID = study, uid
        item.ReferencedSOPSequence = Sequence(reference(source) for source in sources)
        if retrieval.ae_title:
            item.DICOMRetrievalSequence = Sequence([_one("RetrieveAETitle", retrieval.ae_title)])
        if retrieval.wado_rs:
            address = f"{retrieval.wado_rs.rstrip('/')}/studies/{study}/series/{uid}"
            item.WADORSRetrievalSequence = Sequence([_one("RetrieveURL", address)])
        yield item


def _one(keyword: str, value: Any) -> Dataset:
    item = Dataset()
    setattr(item, keyword, value)
    return item


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
