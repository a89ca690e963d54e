"""What the objects that viewers show as pictures or over them share: general modules and references to one source."""

from __future__ import annotations

import copy

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from screening.delivery.context import Delivery, Source
from screening.delivery.headers import PATIENT_AND_STUDY
from screening.delivery.objects import add_equipment, reference
from screening.delivery.uids import derived_uid

_SERIES_NUMBERS = {"presentation-state": 9003, "summary-image": 9004, "heatmap": 9005}


def new_image_object(
    delivery: Delivery, kind: str, sop_class: UID, modality: str, title: str, source: Source | None = None
) -> FileDataset:
    """An object with all general modules and no content, in a series of its kind; the caller adds the IOD's modules.

    Parameters
    ----------
    kind
        Names the object in its UIDs, one of those that have a series number.
    title
        Its Series Description (PS3.3 C.7.3.1), which viewers list.
    source
        The one image that the object is about, whose patient, study and laterality it takes; None: the exam.
    """
    header = delivery.identity if source is None else source.header
    more = () if source is None else (str(source.sop_instance),)
    dataset = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = delivery.instance_uid(kind, *more)
    for keyword in PATIENT_AND_STUDY:
        if keyword in header:
            dataset[keyword] = copy.deepcopy(header[keyword])
    dataset.Modality = modality
    # Of an exam empty, and not absent: the breast is a paired organ, and these are both (PS3.3 C.7.3.1).
    dataset.Laterality = "" if source is None else source.result.image.laterality.value
    dataset.SeriesInstanceUID = _series_uid(delivery, kind, header)
    dataset.SeriesNumber = _SERIES_NUMBERS[kind]
    dataset.SeriesDescription = title
    dataset.InstanceNumber = 1 if source is None else 1 + _position(delivery, source)
    add_equipment(delivery, dataset)
    now = delivery.local_time
    dataset.InstanceCreationDate = dataset.SeriesDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.SeriesTime = now.strftime("%H%M%S")
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = derived_uid("", "", "implementation")
    dataset.file_meta.ImplementationVersionName = "SCREENING"
    return dataset


def _position(delivery: Delivery, source: Source) -> int:
    return [one.sop_instance for one in delivery.sources].index(source.sop_instance)


def referenced_series(source: Source, keyword: str) -> Sequence:
    """Referenced Series Sequence with the source alone; `keyword`: what the IOD calls its sequence of instances."""
    series = Dataset()
    series.SeriesInstanceUID = source.header.SeriesInstanceUID
    setattr(series, keyword, Sequence([reference(source)]))
    return Sequence([series])


def _series_uid(delivery: Delivery, kind: str, header: Dataset) -> UID:
    """One series an exam and kind; where a site profile groups several studies to an exam, one for each of these."""
    if header.StudyInstanceUID == delivery.identity.StudyInstanceUID:
        return delivery.series_uid(kind)
    return delivery.other_uid(f"{kind}.series", str(header.StudyInstanceUID))
