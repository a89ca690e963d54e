"""One DICOM file: read, checked, pseudonymised, and written whole or not at all."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, SecondaryCaptureImageStorage

from screening.errors import ImageError
from screening.exam import ImageKind
from screening.export.burnt_in import needs_check, text_suspected
from screening.export.clean import Woman, cleaned, identifiers_of
from screening.export.codestream import without_comments
from screening.export.pseudonyms import STANDARD_ROOT, Pseudonyms
from screening.store import write_atomically


class End(StrEnum):
    """How an instance of an export ended. Each ends in one of these ways."""

    EXPORTED = "exported"
    HELD_BACK = "held-back"
    FAILED = "failed"


class Why(StrEnum):
    """Why an instance was not exported. Codes are stable."""

    TEXT_IN_PIXELS = "text-in-pixels"
    BURNED_IN_STATED = "burned-in-annotation-stated"
    NOT_CHECKED = "pixels-cannot-be-checked"
    NOT_AN_IMAGE = "not-an-image-of-an-exam"
    PRIVATE_CLASS = "sop-class-not-standard"
    NOT_OF_AN_EXAM = "object-of-no-exam"
    UNKNOWN_WOMAN = "woman-unknown"
    UNREADABLE = "unreadable"
    OTHER_INSTANCE = "file-holds-another-instance"
    NO_PIXELS = "no-pixel-data"
    IDENTIFIER_LEFT = "identifier-left"
    DUPLICATE = "duplicate"


@dataclass(frozen=True)
class Source:
    """A file to export. `image_id`: its SOP Instance UID by the results; `kind` is None for our own objects."""

    path: Path
    exam_id: str
    woman_id: str
    image_id: str
    kind: ImageKind | None


@dataclass(frozen=True)
class Outcome:
    """How a file ended: where its pseudonymised copy is, relative to the export, with size and SHA-256; or why not."""

    end: End
    why: Why | None = None
    file: str = ""
    bytes: int = 0
    sha256: str = ""


class _NotExportedError(Exception):
    """This file is held back, or has failed."""

    def __init__(self, end: End, why: Why) -> None:
        super().__init__(why.value)
        self.outcome = Outcome(end, why)


def export_instance(source: Source, out: Path, pseudonyms: Pseudonyms) -> Outcome:
    """Write the pseudonymised copy of a file under `out`, as dicom/WOMAN/STUDY/INSTANCE.dcm, or say why not.

    Names are pseudonyms alone. Raises `StoreError` where `out` cannot be written; a bad file is that file's outcome.
    """
    if not source.woman_id.strip():
        return Outcome(End.HELD_BACK, Why.UNKNOWN_WOMAN)  # all of these would seem one woman
    woman = Woman.of(source.woman_id, pseudonyms)
    try:
        dataset = _pseudonymised(source, woman, pseudonyms)
        content = _encoded(dataset)
        if identifiers_of(_read(source.path), woman).stand_in_bytes(content):
            raise _NotExportedError(End.FAILED, Why.IDENTIFIER_LEFT)
    except _NotExportedError as reason:
        return reason.outcome
    except Exception:  # the one place where a bad file is isolated: pydicom answers malformed bytes with any exception
        return Outcome(End.FAILED, Why.UNREADABLE)
    file = f"dicom/{woman.pseudonym}/{dataset.StudyInstanceUID}/{dataset.SOPInstanceUID}.dcm"
    write_atomically(out / file, [content])
    return Outcome(End.EXPORTED, None, file, len(content), hashlib.sha256(content).hexdigest())


def _pseudonymised(source: Source, woman: Woman, pseudonyms: Pseudonyms) -> Dataset:
    original = _read(source.path)
    if source.image_id and str(original.get("SOPInstanceUID", "")).strip(" \0") != source.image_id:
        raise _NotExportedError(End.FAILED, Why.OTHER_INSTANCE)
    if not str(original.get("SOPClassUID", "")).startswith(STANDARD_ROOT):
        raise _NotExportedError(End.HELD_BACK, Why.PRIVATE_CLASS)
    if not all(original.get(one) for one in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")):
        raise _NotExportedError(End.FAILED, Why.UNREADABLE)
    _check_pixels(source, original)
    dataset = cleaned(original, woman, pseudonyms, (source.exam_id,))
    if "PixelData" in dataset:
        _clean_pixel_bytes(dataset, original)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(original.file_meta.TransferSyntaxUID)
    return dataset


def _read(path: Path) -> Dataset:
    # A file that is no DICOM raises, as does one of another transfer syntax than it says.
    return dcmread(path)


def _check_pixels(source: Source, original: Dataset) -> None:
    """Raise where an image must not go out for what its pixels may show."""
    if source.kind is not None and "PixelData" not in original:
        raise _NotExportedError(End.FAILED, Why.NO_PIXELS)
    if str(original.get("BurnedInAnnotation", "")).strip() == "YES":
        raise _NotExportedError(End.HELD_BACK, Why.BURNED_IN_STATED)
    ours = source.kind is None and original.SOPClassUID != SecondaryCaptureImageStorage
    if "PixelData" not in original or ours or not needs_check(original, source.kind):
        return
    try:
        suspect = text_suspected(source.path, int(original.get("NumberOfFrames") or 1))
    except ImageError:
        raise _NotExportedError(End.HELD_BACK, Why.NOT_CHECKED) from None
    if suspect:
        raise _NotExportedError(End.HELD_BACK, Why.TEXT_IN_PIXELS)


def _clean_pixel_bytes(dataset: Dataset, original: Dataset) -> None:
    """What is behind the image's last pixel, or in a codestream's comments, does not go out."""
    element = dataset["PixelData"]
    if original.file_meta.TransferSyntaxUID.is_encapsulated:
        element.value, element.VR = without_comments(element.value), "OB"  # PS3.5 A.4, whatever the source has
        return
    bits = dataset.Rows * dataset.Columns * dataset.get("SamplesPerPixel", 1) * dataset.BitsAllocated
    needed = (int(dataset.get("NumberOfFrames") or 1) * bits + 7) // 8
    element.value = element.value[:needed] + b"\0" * (needed % 2)


def _encoded(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
