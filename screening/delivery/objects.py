"""What all delivered objects share: identity, equipment, references, the check before writing, and writing."""

from __future__ import annotations

import copy
import io
import struct
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from pydicom import config, dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from screening.delivery.context import Delivery, Source
from screening.delivery.headers import PATIENT_AND_STUDY, DeliveryError
from screening.delivery.uids import derived_uid
from screening.store.files import write_atomically

MANUFACTURER = "Screening research pipeline"
"""In every object's equipment module: the model is named beside it."""

_SERIES_NUMBERS = {"cad-sr": 9001, "measurement-report": 9002}
_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "Manufacturer")


def new_object(delivery: Delivery, kind: str, sop_class: UID, modality: str, title: str) -> FileDataset:
    """An object of the source's patient and study, in a series of its own, with all general modules and no content.

    `kind` names the object in its UIDs ("cad-sr"); `title` is its Series Description (PS3.3 C.7.3.1), which viewers
    list. The caller adds the modules of the IOD.
    """
    instance = delivery.instance_uid(kind)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = derived_uid("", "", "implementation")
    meta.ImplementationVersionName = "SCREENING"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = instance
    copy_identity(delivery, dataset)
    dataset.Modality = modality
    dataset.SeriesInstanceUID = delivery.series_uid(kind)
    dataset.SeriesNumber = _SERIES_NUMBERS[kind]
    dataset.SeriesDescription = title[:64]
    dataset.InstanceNumber = 1
    add_equipment(delivery, dataset)
    now = delivery.local_time
    dataset.InstanceCreationDate = dataset.ContentDate = dataset.SeriesDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.ContentTime = dataset.SeriesTime = now.strftime("%H%M%S")
    return dataset


def new_report(delivery: Delivery, kind: str, sop_class: UID, title: str, root: Dataset) -> FileDataset:
    """A structured report with the content tree `root`: complete, unverified, with all sources as its evidence.

    Where it takes the place of an earlier result's report of its kind, that is its predecessor.
    SR Document General and SR Document Content modules (PS3.3 C.17.2, C.17.3).
    """
    dataset = new_object(delivery, kind, sop_class, "SR", title)
    dataset.ReferencedPerformedProcedureStepSequence = Sequence()
    dataset.PerformedProcedureCodeSequence = Sequence()
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.CurrentRequestedProcedureEvidenceSequence = evidence(delivery.sources)
    before = [one for one in delivery.predecessors if one.SOPClassUID == sop_class]
    if before:
        dataset.PredecessorDocumentsSequence = _hierarchy((one, _referenced(one)) for one in before)
    dataset.update(root)
    return dataset


def copy_identity(delivery: Delivery, dataset: Dataset) -> None:
    """Give `dataset` the patient and study of the source (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2)."""
    for keyword in PATIENT_AND_STUDY:
        if keyword in delivery.identity:
            dataset[keyword] = copy.deepcopy(delivery.identity[keyword])


def add_equipment(delivery: Delivery, dataset: Dataset) -> None:
    """Enhanced General Equipment (PS3.3 C.7.5.2): the model's name, the bundle's hash and the versions.

    The serial number is the bundle's SHA-256: it identifies the device that made the object, which is the bundle.
    """
    algorithm = delivery.algorithm
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = algorithm.name[:64]
    dataset.DeviceSerialNumber = algorithm.sha256
    dataset.SoftwareVersions = [algorithm.version[:64], f"screening {metadata.version('screening')}"[:64]]


def reference(source: Source, frames: Iterable[int] = ()) -> Dataset:
    """An item of a Referenced SOP Sequence (PS3.3 10.8): the source, or frames of it (counted from 1)."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class
    item.ReferencedSOPInstanceUID = source.sop_instance
    numbers = list(frames)
    if numbers:
        item.ReferencedFrameNumber = numbers
    return item


def evidence(sources: Iterable[Source]) -> Sequence:
    """Current Requested Procedure Evidence Sequence: the sources by study and series (PS3.3 C.17.2.3)."""
    return _hierarchy((one.header, reference(one)) for one in sources)


def _hierarchy(instances: Iterable[tuple[Dataset, Dataset]]) -> Sequence:
    """Hierarchical SOP Instance Reference macro (PS3.3 C.17.2.1), of headers with their items of a reference."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for header, item in instances:
        studies.setdefault(header.StudyInstanceUID, {}).setdefault(header.SeriesInstanceUID, []).append(item)
    items = []
    for study, members in studies.items():
        item = Dataset()
        item.ReferencedSeriesSequence = Sequence(_series_item(uid, instances) for uid, instances in members.items())
        item.StudyInstanceUID = study
        items.append(item)
    return Sequence(items)


def _referenced(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def _series_item(uid: str, instances: list[Dataset]) -> Dataset:
    item = Dataset()
    item.ReferencedSOPSequence = Sequence(instances)
    item.SeriesInstanceUID = uid
    return item


def encoded(dataset: Dataset) -> bytes:
    """The object as a DICOM file; raises `DeliveryError` unless it can be read back, is complete and valid.

    Checked are: identifiers and equipment that every object has; each value against its VR (PS3.5 6.2); in an SR that
    the evidence lists what the content refers to, and that references within the tree meet an item (PS3.3 C.17.3.2.5).
    """
    for keyword in _REQUIRED:
        if not dataset.get(keyword):
            raise DeliveryError(f"the object has no {keyword}")
    try:
        data = _bytes(dataset)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError, struct.error) as error:
        # The messages of pydicom quote values, which may identify a woman.
        raise DeliveryError(f"the object cannot be encoded ({type(error).__name__})") from error
    for element in _elements(dcmread(io.BytesIO(data))):
        try:
            _check_element(element)
        except (ValueError, TypeError, OverflowError) as error:
            raise DeliveryError(f"{element.name} {element.tag} of the object is not valid") from error
    if "ContentSequence" in dataset:
        _check_references(dataset)
    return data


def written(dataset: Dataset, folder: Path) -> Path:
    """Check the object and write it to `folder`, whole or not at all, named by its SOP Instance UID.

    A file of that name is left as it is: its content follows from its UID, and what was delivered must not change.

    Raises
    ------
    DeliveryError
        If the object is not valid; nothing is written.
    StoreError
        If the folder cannot be written or the disk is full.
    """
    data = encoded(dataset)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    if not path.is_file():
        write_atomically(path, [data])
    return path


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)
        else:
            yield element


def _check_element(element: DataElement) -> None:
    value = str(element.value) if element.VR == "PN" else element.value
    value = list(value) if isinstance(value, MultiValue) else value
    DataElement(element.tag, element.VR, value, validation_mode=config.RAISE)


def _check_references(dataset: Dataset) -> None:
    known = {
        str(instance.ReferencedSOPInstanceUID)
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    for item in _content(dataset):
        for one in item.get("ReferencedSOPSequence", ()):
            if str(one.ReferencedSOPInstanceUID) not in known:
                raise DeliveryError("the content refers to an instance that the evidence does not list")
        if "ReferencedContentItemIdentifier" in item:
            _check_target(dataset, item.ReferencedContentItemIdentifier)


def _content(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _content(child)


def _check_target(root: Dataset, identifier: Iterable[int] | int) -> None:
    first, *rest = [identifier] if isinstance(identifier, int) else list(identifier)
    item = root
    for position in rest:
        children = item.get("ContentSequence", ())
        if first != 1 or not 1 <= position <= len(children):
            raise DeliveryError("a reference within the content meets no item")
        item = children[position - 1]
    if "ValueType" not in item:
        raise DeliveryError("a reference within the content meets no item")


def _bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()
