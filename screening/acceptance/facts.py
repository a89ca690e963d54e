"""What the headers of a sample say: equipment, where view, side and spacing come from, and what is odd or missing.

Of a patient nothing is kept but a key that tells women apart while counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydicom import config, uid
from pydicom.dataset import Dataset

from screening.dicomfile import DicomFile, integer, items, open_dicom, text, texts, values
from screening.errors import ImageError
from screening.headers import header_keywords, header_sources
from screening.site import SiteProfile

_KEYWORDS = frozenset(
    {
        "ManufacturerModelName",
        "SoftwareVersions",
        "ProtocolName",
        "BodyPartExamined",
        "BurnedInAnnotation",
        "LossyImageCompression",
        "ViewPosition",
        "ViewCodeSequence",
        "ImageLaterality",
        "SharedFunctionalGroupsSequence",
        "WindowCenter",
        "VOILUTSequence",
        "StudyDescription",
    }
)
_T = TypeVar("_T")

_LONGEST = 64
"""Characters that are kept of a header's text."""


@dataclass(frozen=True)
class Facts:
    """One file's header, as far as equipment and protocol go. `woman`: only to count with; it is never shown.

    `protocol` is free text that somebody typed: show it only where several women share it. `odd`: codes of `ODD`.
    """

    image_id: str
    woman: str
    manufacturer: str
    model: str
    software: str
    protocol: str
    sop_class: str
    modality: str
    body_part: str
    transfer_syntax: str
    intent: str
    view_source: str
    laterality_source: str
    spacing_source: str
    rows: int
    columns: int
    bits: int
    odd: tuple[str, ...]


@dataclass(frozen=True)
class Oddity:
    """One thing that a header may lack or that makes its image odd: a sentence, and what it means for the score."""

    sentence: str
    meaning: str
    found: Callable[[Dataset], bool]


def _absent(*keywords: str) -> Callable[[Dataset], bool]:
    return lambda header: not any(values(header, keyword) for keyword in keywords)


def _says(keyword: str, value: str) -> Callable[[Dataset], bool]:
    return lambda header: text(header, keyword).upper() == value


ODD: dict[str, Oddity] = {
    "no-equipment": Oddity(
        "Manufacturer or model name is missing",
        "monitoring by machine cannot tell this equipment from other",
        lambda header: not text(header, "Manufacturer") or not text(header, "ManufacturerModelName"),
    ),
    "no-software": Oddity(
        "Software Versions is missing",
        "an update of the equipment, which may move the scores, goes unnoticed",
        _absent("SoftwareVersions"),
    ),
    "no-view-code": Oddity(
        "View Code Sequence is missing",
        "the view hangs on a text; modifiers such as magnification may be unknown",
        lambda header: not items(header, "ViewCodeSequence"),
    ),
    "no-laterality": Oddity(
        "Image Laterality is missing",
        "the side hangs on another attribute or a rule",
        _absent("ImageLaterality"),
    ),
    "no-orientation": Oddity(
        "Patient Orientation is missing",
        "images that are stored mirrored or upside down are not recognised by their header",
        lambda header: len(texts(header, "PatientOrientation")) != 2,
    ),
    "no-intent": Oddity(
        "Presentation Intent Type is missing",
        "processed and raw images are told apart by SOP class alone",
        _absent("PresentationIntentType"),
    ),
    "no-window": Oddity(
        "neither window nor VOI LUT",
        "the image's own range of values is displayed",
        lambda header: not texts(header, "WindowCenter") and not items(header, "VOILUTSequence"),
    ),
    "no-detector-spacing": Oddity(
        "Imager Pixel Spacing is missing",
        "the spacing comes from another attribute or from the site profile",
        _absent("ImagerPixelSpacing"),
    ),
    "no-date": Oddity(
        "Study Date is missing", "the exam cannot be joined with follow-up by date", _absent("StudyDate")
    ),
    "lossy": Oddity(
        "lossy compression (Lossy Image Compression = 01)",
        "fine calcifications may be lost before the image arrives",
        _says("LossyImageCompression", "01"),
    ),
    "burned-in": Oddity(
        "text burned into the pixels (Burned In Annotation = YES)",
        "a name may be in the pixels, and so in the pictures of the results",
        _says("BurnedInAnnotation", "YES"),
    ),
    "implant": Oddity(
        "implant (Breast Implant Present = YES)",
        "implants were rare in the training data",
        _says("BreastImplantPresent", "YES"),
    ),
    "partial": Oddity(
        "partial view (Partial View = YES)", "a part of the breast is not in the image", _says("PartialView", "YES")
    ),
}


def read_facts(paths: Iterable[Path], profile: SiteProfile) -> list[Facts]:
    """The facts of each file that can be parsed; others have no header to speak of and are left out."""
    keywords = header_keywords(profile) | _KEYWORDS
    found = []
    for path in paths:
        try:
            with open_dicom(path, keywords) as file:
                found.append(_facts(file, profile))
        except (ImageError, OSError):
            continue  # why it cannot be read stands among the rejections
    return found


def _facts(file: DicomFile, profile: SiteProfile) -> Facts:
    header = file.dataset
    sources = header_sources(header, profile)

    def short(keyword: str) -> str:
        return _known(lambda: text(header, keyword), "")[:_LONGEST]

    def whole(keyword: str) -> int:
        return _known(lambda: integer(header, keyword), None) or 0

    return Facts(
        image_id=short("SOPInstanceUID"),
        woman=_woman(header, profile),
        manufacturer=short("Manufacturer") or short("SecondaryCaptureDeviceManufacturer"),
        model=short("ManufacturerModelName"),
        software=" / ".join(_known(lambda: texts(header, "SoftwareVersions"), ()))[:_LONGEST],
        protocol=short("ProtocolName") or short("SeriesDescription"),
        sop_class=_name(short("SOPClassUID")),
        modality=short("Modality"),
        body_part=short("BodyPartExamined"),
        transfer_syntax=_name(str(file.transfer_syntax)),
        intent=short("PresentationIntentType"),
        view_source=sources.view,
        laterality_source=sources.laterality,
        spacing_source=sources.spacing,
        rows=whole("Rows"),
        columns=whole("Columns"),
        bits=whole("BitsStored"),
        # What is malformed is as good as missing.
        odd=tuple(code for code, oddity in ODD.items() if _known(partial(oddity.found, header), True)),
    )


def _woman(header: Dataset, profile: SiteProfile) -> str:
    """Whatever tells women apart under the profile's rules."""
    nothing: tuple[str, ...] = ()
    for rule in profile.woman:
        for value in _known(partial(texts, header, rule.attribute), nothing):
            if found := rule.apply(value):
                return found
    return ""


def _known(read: Callable[[], _T], unknown: _T) -> _T:
    try:
        return read()
    except ImageError:
        return unknown


def _name(value: str) -> str:
    """A UID's name in the standard, or the UID where it has none."""
    return (uid.UID(value, config.IGNORE).name if value else "")[:_LONGEST]
