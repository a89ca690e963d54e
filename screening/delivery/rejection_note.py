"""A note to the PACS that objects of an earlier result are superseded, so that it hides them.

A SOP instance can be changed by nobody, and taken back only by a Key Object Selection that rejects it (PS3.16 TID 2010
and CID 7010, as IHE Radiology uses them in Imaging Object Change Management). A PACS that does not know that profile
shows the note as what it is: a list of objects with the reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sr.coding import Code

from screening.delivery.context import DISCLAIMER, Delivery
from screening.delivery.objects import MANUFACTURER, add_equipment
from screening.delivery.outbox import Parcel

KIND = "rejection-note"

_REJECTED = Code("113001", "DCM", "Rejected for Quality Reasons")
_SERIES_NUMBER = 9006
_REASON = "Superseded: the exam was scored again and a newer result delivered"


def rejection_notes(delivery: Delivery, superseded: Iterable[Parcel]) -> tuple[Dataset, ...]:
    """Notes that reject what was delivered of an earlier result, one for each study.

    Objects whose file is gone cannot be named and are left out.
    """
    studies: dict[str, list[Dataset]] = {}
    for parcel in superseded:
        with contextlib.suppress(OSError, InvalidDicomError):
            header = dcmread(parcel.path, stop_before_pixels=True)
            studies.setdefault(str(header.StudyInstanceUID), []).append(header)
    return tuple(_note(delivery, study, headers) for study, headers in studies.items())


def _note(delivery: Delivery, study: str, headers: list[Dataset]) -> Dataset:
    uids = sorted(str(header.SOPInstanceUID) for header in headers)
    note = KeyObjectSelectionDocument(
        evidence=headers,
        content=KeyObjectSelection(_REJECTED, headers, description=f"{_REASON}. {DISCLAIMER}."),
        series_instance_uid=delivery.other_uid(f"{KIND}.series", study),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=delivery.instance_uid(KIND, *uids),
        instance_number=1,
        manufacturer=MANUFACTURER,
        series_description="Computer results superseded",
    )
    for item in note.ContentSequence:
        if "ReferencedSOPSequence" in item:
            # highdicom names them "Source", where the template has no name.
            del item.ConceptNameCodeSequence
    _stamp(delivery, note)
    return note


def _stamp(delivery: Delivery, note: Dataset) -> None:
    """Who made it and when, as in all objects of the delivery."""
    add_equipment(delivery, note)
    now = delivery.local_time
    note.InstanceCreationDate = note.ContentDate = note.SeriesDate = now.strftime("%Y%m%d")
    note.InstanceCreationTime = note.ContentTime = note.SeriesTime = now.strftime("%H%M%S")
