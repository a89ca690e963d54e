"""Workitems for reading, by the Unified Procedure Step service (PS3.4 Annex CC) over the web (UPS-RS, PS3.18 11).

One for each exam. Its UID follows from the exam, so that creating it again is the same workitem. A procedure step is a
thing that changes, unlike an image or a report: where the exam was scored anew, with images that came late or by
another model, the same workitem gets another priority, as long as no reader has taken it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import UID

from screening.delivery.context import Delivery, Source
from screening.delivery.findings import algorithm_parameters, description
from screening.delivery.objects import reference
from screening.delivery.uids import derived_uid
from screening.delivery.worklist import priority
from screening.errors import ConfigError
from screening.store.files import write_atomically

KIND = "workitem"
SOP_CLASS = UID("1.2.840.10008.5.1.4.34.6.1")
"""Unified Procedure Step - Push."""

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

CHANGEABLE = tuple(
    f"{tag_for_keyword(keyword):08X}"
    for keyword in (
        "SpecificCharacterSet",
        "ScheduledProcedureStepPriority",
        "CommentsOnTheScheduledProcedureStep",
        "InputReadinessState",
        "InputInformationSequence",
    )
)
"""What a new result of the exam changes, as names in DICOM JSON; allowed in N-SET by the same table."""

UID_TAG = "00080018"

_TEXT_LENGTH = 10_240
"""Of VR LT (PS3.5 6.2)."""


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
    # Of the exam alone: whichever model scores it, it is to be read once.
    return Workitem(derived_uid(delivery.result.exam_id, "", "ups.workitem"), dataset)


def write_workitem(item: Workitem, path: Path) -> None:
    """Write it as DICOM JSON, with its UID, as a server shows it (PS3.18 11.5); raises `StoreError` if it cannot be."""
    content = {UID_TAG: {"vr": "UI", "Value": [str(item.uid)]}, **item.dataset.to_json_dict()}
    write_atomically(path, [json.dumps(content, indent=1).encode(), b"\n"])


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
