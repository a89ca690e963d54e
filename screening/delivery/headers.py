"""A source's header for copying: valid elements only, so that what is made from it can be valid."""

from __future__ import annotations

import math
import re
import unicodedata
from pathlib import Path
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.valuerep import DA, DT, TM, PersonName

from screening.dicomfile import open_dicom


class DeliveryError(Exception):
    """One exam cannot be delivered, or one object of it is not valid and was not written; the others go on.

    The message says why, without identifiers other than UIDs.
    """


PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
)
"""What makes an object belong to the source's patient and study (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2)."""

_ALWAYS_THERE = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Type 2 in every object: empty where unknown."""

_IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
"""If one of these is invalid, nothing valid can be said of this woman and this image."""

_IMAGE = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "Modality",
    "ImageType",
    "BurnedInAnnotation",
    "PresentationIntentType",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "BodyPartExamined",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImageLaterality",
    "FrameLaterality",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "ImagerPixelSpacing",
    "PixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
    "PixelAspectRatio",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "PresentationLUTShape",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
    "VOILUTSequence",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
)
_KEYWORDS = frozenset((*PATIENT_AND_STUDY, *_IMAGE))

_ONE_LINE = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI", "UR"})
_MOMENTS = {"DA": DA, "DT": DT, "TM": TM}
_UTC_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_SEXES = ("M", "F", "O")


def source_header(path: Path) -> Dataset:
    """The header of a source image, up to its pixels: of the wanted elements those that are valid.

    Text is decoded, so that it can be written in another character set. What is invalid and optional (a name with a
    thousand letters, a sex that is no code) is left out; of the patient and study modules' type 2 elements an empty
    one is left. So objects made from it are the same patient's and valid.

    Raises
    ------
    ImageError
        If the file cannot be read or parsed.
    DeliveryError
        If an identifier is missing or invalid: without it no valid object can belong to this patient and study.
    """
    with open_dicom(path, _KEYWORDS) as file:
        header = _valid_elements(file.dataset)
    # Text was decoded; what is made from this header is written in UTF-8.
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _IDENTITY:
        value = header.get(keyword)
        if keyword != "PatientID" and not value:
            raise DeliveryError(f"{keyword} of the source is missing or invalid; no object can refer to it: correct it")
        if keyword == "PatientID" and keyword not in header and keyword in file.dataset:
            raise DeliveryError("PatientID of the source is invalid (too long, or with signs that DICOM forbids)")
    if header.get("PatientSex") not in _SEXES:
        header.PatientSex = ""
    if not _UTC_OFFSET.fullmatch(str(header.get("TimezoneOffsetFromUTC", ""))):
        header.pop("TimezoneOffsetFromUTC", None)
    for keyword in _ALWAYS_THERE:
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def _valid_elements(dataset: Dataset) -> Dataset:
    """A copy of what is valid, sequences included; text as `str`, of no character set."""
    copy = Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset converts elements, which may raise
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                copy[tag] = DataElement(tag, "SQ", Sequence(_valid_elements(item) for item in element.value))
            else:
                copy[tag] = _valid(element)
        except Exception:  # pydicom answers malformed values with almost any exception; this leaves them out
            continue
    return copy


def _valid(element: DataElement) -> DataElement:
    """The element anew, validated as PS3.5 6.2 asks of its VR; raises ValueError where it is not valid."""
    if element.VR not in dictionary_VR(element.tag).split(" or "):
        raise ValueError("another VR than the dictionary's")
    value = element.value
    if isinstance(value, PersonName):
        value = str(value)
    values: list[Any] = list(value) if isinstance(value, MultiValue | list) else [value]
    if len(values) > 1 and dictionary_VM(element.tag) == "1":
        raise ValueError("several values")
    for one in values:
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError("not a finite number")
        if isinstance(one, str) and element.VR in _ONE_LINE and not _printable(one):
            raise ValueError("control characters")
        if isinstance(one, str) and element.VR in _MOMENTS:
            _MOMENTS[element.VR](one)
    return DataElement(element.tag, element.VR, value, validation_mode=config.RAISE)


def _printable(text: str) -> bool:
    return not any(unicodedata.category(sign) in ("Cc", "Cs", "Co", "Cn") or sign == "\ufffd" for sign in text)
