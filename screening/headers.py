"""From one file's header and the site profile to an image that may be scored, or the reason why it is not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from math import isclose
from pathlib import Path
from typing import TypeVar

from pydicom import config, uid
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from screening.dicomfile import DicomFile, items, number, numbers, text, texts
from screening.errors import ImageError
from screening.exam import Image, ImageKind, Laterality, PresentationIntent, View
from screening.imaging.decode import PIXEL_KEYWORDS, SUPPORTED_SYNTAXES, PixelFormat, check_pixel_data
from screening.result import Reason, Rejection
from screening.site import Rule, SiteProfile, pseudonym
from screening.views import MODIFIER_CODES, MODIFIER_VIEWS, SPECIMEN_CODES, VIEW_CODES, ViewModifier, parse_view
from screening.volume_headers import (
    MAX_FRAMES,
    VOLUME_KEYWORDS,
    SlicePlace,
    is_stored_otherwise,
    is_tomosynthesis,
    slice_place,
    volume_header,
)

# Contact views are magnified 1.0 to 1.1 times (the breast lies some cm above the detector), magnification stands
# give 1.5 to 2.0: the limit lies well between the two.
MAX_CONTACT_MAGNIFICATION = 1.2
# Detectors and film scanners have 0.04 to 0.1 mm, reduced sets up to some tenths.
PIXEL_SPACING_RANGE_MM = (0.01, 1.0)
# A breast at the widest plausible spacing is longer than this.
MIN_SIDE = 32

CONTRADICTION = "the header contradicts itself"
"""How the warnings begin that name two attributes which disagree."""
PARTIAL_VIEW = "partial view: the image does not show the whole breast"

_TOMOSYNTHESIS_CLASSES = frozenset({uid.BreastTomosynthesisImageStorage})
_PROJECTION_CLASSES = frozenset(
    {
        uid.BreastProjectionXRayImageStorageForPresentation,
        uid.BreastProjectionXRayImageStorageForProcessing,
    }
)
_SYNTHETIC_TYPES = frozenset({"GENERATED_2D", "TOMO_2D"})
_SYNTHETIC_NAMES = re.compile(r"c-?view|s-?view|v-?preview|insight ?2d|intelligent ?2d|synthe(tic|si[sz]ed) ?2d", re.I)
_BIOPSY_TYPES = re.compile(r"(STEREO|PREFIRE|POSTFIRE|POSTBIOPSY|POSTMARKER)(_MINUS|_PLUS)?")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIRECTION = re.compile(r"[APRLHF]{1,3}")
_SIDES = {"L": Laterality.LEFT, "LEFT": Laterality.LEFT, "R": Laterality.RIGHT, "RIGHT": Laterality.RIGHT}

_KEYWORDS = frozenset(
    {
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "PatientID",
        "Modality",
        "ImageType",
        "PresentationIntentType",
        "QualityControlImage",
        "SeriesDescription",
        "AcquisitionDeviceProcessingDescription",
        "ViewModifierCodeSequence",
        "EstimatedRadiographicMagnificationFactor",
        "ImagerPixelSpacing",
        "PixelSpacing",
        "NominalScannedPixelSpacing",
        "BreastImplantPresent",
        "PartialView",
        "PatientOrientation",
        "StudyDate",
        "AcquisitionDate",
        "ContentDate",
        "Manufacturer",
        "SecondaryCaptureDeviceManufacturer",
        *PIXEL_KEYWORDS,
        *VOLUME_KEYWORDS,
    }
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Instance:
    """What one file says: an image that may be scored, or a rejection; and what is known of it either way.

    Facts that the header does not give, or gives in a malformed way, are empty or 0 (in a rejected instance only).
    `slice_place`: of a slice of a volume that is stored as a series, the series and where in it the slice belongs.
    """

    exam_id: str
    image_id: str
    woman_id: str
    exam_date: date | None
    manufacturer: str
    laterality: str
    view: str
    kind: str
    rows: int
    columns: int
    frames: int
    outcome: Image | Rejection
    slice_place: SlicePlace | None = None


@dataclass(frozen=True)
class Sources:
    """What gives an image's view, laterality and pixel spacing: attributes, or a key of the profile; "" for nothing."""

    view: str
    laterality: str
    spacing: str


class _RejectedError(Exception):
    """Ends the reading of a header that gives a reason not to score its image."""

    def __init__(self, code: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.rejection = Rejection(code, sentence)


def header_keywords(profile: SiteProfile) -> frozenset[str]:
    """The attributes that reading a header under `profile` looks at; all others may be skipped."""
    rules = (*profile.woman, *profile.exam, *profile.view, *profile.laterality)
    attributes = (*(rule.attribute for rule in rules), *(exclusion.attribute for exclusion in profile.exclude))
    return _KEYWORDS | {attribute.partition(".")[0] for attribute in attributes}


def header_sources(header: Dataset, profile: SiteProfile) -> Sources:
    """Where `read_instance` takes view, laterality and pixel spacing from. Never raises for what a header says."""

    def first(rules: tuple[Rule, ...], gives: Callable[[Rule], bool]) -> str:
        return next((rule.attribute for rule in rules if _known(partial(gives, rule), False)), "")

    return Sources(
        view=first(profile.view, lambda rule: any(view is not None for view, _ in _views_by_rule(header, rule))),
        laterality=first(
            profile.laterality,
            lambda rule: any(rule.apply(value).upper() in _SIDES for value in _attribute(header, rule.attribute)),
        ),
        spacing=_known(lambda: _sourced_spacing(header, profile)[0], ""),
    )


def read_instance(file: DicomFile, path: Path, profile: SiteProfile, key: bytes | None = None) -> Instance:
    """Read an open file's header under a site profile; `key` turns identifiers into pseudonyms.

    Never raises for what a header says: every malformed or missing value makes a rejection with its sentence.
    """
    header = file.dataset
    try:
        image = _image(file, path, profile)
    except _RejectedError as rejected:
        return _rejected_instance(header, profile, key, rejected.rejection)
    except ImageError as error:
        return _rejected_instance(header, profile, key, Rejection(Reason.IMPLAUSIBLE_HEADER, str(error)))
    return Instance(
        exam_id=_exam_id(header, profile, key),
        image_id=image.image_id,
        woman_id=_woman_id(header, profile, key),
        exam_date=_exam_date(header),
        manufacturer=_known(lambda: _manufacturer(header), ""),
        laterality=image.laterality,
        view=image.view,
        kind=image.kind,
        rows=image.rows,
        columns=image.columns,
        frames=image.frames,
        outcome=image,
        slice_place=slice_place(header) if image.kind is ImageKind.DBT else None,
    )


def _rejected_instance(header: Dataset, profile: SiteProfile, key: bytes | None, rejection: Rejection) -> Instance:
    """What can still be said of a rejected file."""
    pixel_format = _known(lambda: PixelFormat.of(header), None)
    return Instance(
        exam_id=_known(lambda: _exam_id(header, profile, key), ""),
        image_id=_known(lambda: _uid(header, "SOPInstanceUID"), ""),
        woman_id=_known(lambda: _woman_id(header, profile, key), ""),
        exam_date=_known(lambda: _exam_date(header), None),
        manufacturer=_known(lambda: _manufacturer(header), ""),
        laterality=_known(lambda: str(_laterality(header, profile)[0]), ""),
        view=_known(lambda: str(_view(header, profile)[0]), ""),
        kind="" if rejection.code is Reason.NOT_MAMMOGRAPHY else _known(lambda: str(_kind(header)), ""),
        rows=pixel_format.rows if pixel_format else 0,
        columns=pixel_format.columns if pixel_format else 0,
        frames=pixel_format.frames if pixel_format else 0,
        outcome=rejection,
    )


def _known(read: Callable[[], _T], unknown: _T) -> _T:
    try:
        return read()
    except (_RejectedError, ImageError):
        return unknown


def _image(file: DicomFile, path: Path, profile: SiteProfile) -> Image:
    header = file.dataset
    intent = _eligible_intent(header, profile)
    image_id = _uid(header, "SOPInstanceUID")
    _exam_id(header, profile, None), _woman_id(header, profile, None), _exam_date(header)  # malformed ones reject
    if file.transfer_syntax not in SUPPORTED_SYNTAXES:
        name = file.transfer_syntax.name[:64] or "none stated"
        raise _RejectedError(
            Reason.TRANSFER_SYNTAX, f"the transfer syntax ({name}) is not supported; send the image in another"
        )
    kind = _kind(header)
    _check_exclusions(header, profile)
    frame_warnings: tuple[str, ...] = ()
    if kind is ImageKind.DBT or text(header, "SOPClassUID") in _TOMOSYNTHESIS_CLASSES:
        header, frame_warnings = volume_header(header)
    view, modifiers, view_warnings = _view(header, profile)
    _check_modifiers(header, modifiers, profile)
    laterality, laterality_warnings = _laterality(header, profile)
    if intent is PresentationIntent.FOR_PROCESSING and profile.reject.for_processing:
        raise _RejectedError(Reason.FOR_PROCESSING, "the image is raw (For Processing), which the site profile rejects")
    implant, state_warnings = _breast_state(header, modifiers, profile)
    pixel_format = _pixel_format(file, kind)
    return Image(
        image_id=image_id,
        path=path,
        laterality=laterality,
        view=view,
        kind=kind,
        rows=pixel_format.rows,
        columns=pixel_format.columns,
        frames=pixel_format.frames,
        pixel_spacing_mm=_pixel_spacing(header, profile),
        intent=intent,
        patient_orientation=_patient_orientation(header),
        implant=implant,
        warnings=(*view_warnings, *laterality_warnings, *frame_warnings, *state_warnings),
    )


def _eligible_intent(header: Dataset, profile: SiteProfile) -> PresentationIntent:
    """Reject what the profile does not make eligible; else the Presentation Intent Type, stated or by SOP class."""
    sop_class, modality = uid.UID(text(header, "SOPClassUID"), config.IGNORE), text(header, "Modality")
    if sop_class in _PROJECTION_CLASSES:
        raise _RejectedError(Reason.PROJECTION, "raw projections of a tomosynthesis are not scored")
    eligible = {entry.uid: entry.modalities for entry in profile.sop_classes}
    if modality not in eligible.get(sop_class, ("MG",)):
        raise _RejectedError(
            Reason.NOT_MAMMOGRAPHY, f"the Modality ({modality[:16] or 'none stated'}) is not mammography"
        )
    if sop_class not in eligible:
        name = sop_class.name[:64] or "none stated"
        raise _RejectedError(
            Reason.SOP_CLASS, f"the SOP class ({name}) is not eligible under site profile {profile.name}"
        )
    if is_stored_otherwise(header) and not is_tomosynthesis(header):
        raise _RejectedError(
            Reason.NOT_MAMMOGRAPHY,
            f"the Modality ({modality[:16]}) alone is not mammography: nothing names this {sop_class.name[:64]} a "
            "breast tomosynthesis",
        )
    if text(header, "QualityControlImage").upper() == "YES":
        raise _RejectedError(Reason.NOT_MAMMOGRAPHY, "this is a quality control image, not a mammogram")
    stated = text(header, "PresentationIntentType").upper()
    if stated in tuple(PresentationIntent):
        return PresentationIntent(stated)
    raw = sop_class == uid.DigitalMammographyXRayImageStorageForProcessing
    return PresentationIntent.FOR_PROCESSING if raw else PresentationIntent.FOR_PRESENTATION


def _kind(header: Dataset) -> ImageKind:
    """How the image was made, by Image Type (PS3.3 C.8.11.7.1.4) and, for vendors that predate it, by name."""
    types = {value.upper() for value in texts(header, "ImageType")}
    names = (text(header, "SeriesDescription"), text(header, "AcquisitionDeviceProcessingDescription"))
    if types & {"LOCALIZER", "SCOUT", "STEREO_SCOUT", "TOMO_SCOUT"}:
        raise _RejectedError(Reason.LOCALISER, "this is a localiser (Image Type), not a mammogram")
    if any(_BIOPSY_TYPES.fullmatch(value) for value in types):
        raise _RejectedError(Reason.BIOPSY, "this image guided a biopsy (Image Type); it is no screening view")
    if types & {"HIGH_ENERGY", "SUBTRACTION"}:
        raise _RejectedError(
            Reason.NOT_MAMMOGRAPHY, "this is a contrast image (Image Type), which no mammogram looks like"
        )
    if "TOMO_PROJ" in types:
        raise _RejectedError(Reason.PROJECTION, "this is a raw projection of a tomosynthesis (Image Type)")
    if types & _SYNTHETIC_TYPES or any(_SYNTHETIC_NAMES.search(name) for name in names):
        return ImageKind.SYNTHETIC
    if text(header, "SOPClassUID") in _TOMOSYNTHESIS_CLASSES or is_stored_otherwise(header):
        return ImageKind.DBT
    if types & {"TOMOSYNTHESIS", "TOMO"}:
        raise _RejectedError(
            Reason.TOMOSYNTHESIS,
            "this is a slice of a tomosynthesis (Image Type) stored as a mammogram; send the volume itself",
        )
    return ImageKind.FFDM


def _check_exclusions(header: Dataset, profile: SiteProfile) -> None:
    for exclusion in profile.exclude:
        if any(re.search(exclusion.pattern, value) for value in _attribute(header, exclusion.attribute)):
            raise _RejectedError(exclusion.code, exclusion.sentence)


def _view(header: Dataset, profile: SiteProfile) -> tuple[View, frozenset[ViewModifier], tuple[str, ...]]:
    """View, modifiers and warnings. The first rule that gives a view decides; modifiers count wherever they stand."""
    found: list[tuple[str, View]] = []
    modifiers = set(_coded_modifiers(header))
    for rule in profile.view:
        for view, more in _views_by_rule(header, rule):
            modifiers |= more
            if view is not None:
                found.append((rule.attribute, view))
    view = found[0][1] if found else None
    for modifier, own_view in MODIFIER_VIEWS.items():
        if modifier in modifiers and view in (None, View.MLO if own_view is View.AT else View.CC):
            return own_view, frozenset(modifiers - {modifier}), ()
    if view is None:
        attributes = ", ".join(rule.attribute for rule in profile.view)
        raise _RejectedError(
            Reason.UNKNOWN_VIEW, f"the header states no known view (looked at: {attributes}); correct it"
        )
    others = sorted({attribute for attribute, other in found if other is not view})
    warnings = (f"{CONTRADICTION} on the view: {found[0][0]} was taken, not {others[0]}",) if others else ()
    return view, frozenset(modifiers), warnings


def _views_by_rule(header: Dataset, rule: Rule) -> Iterable[tuple[View | None, frozenset[ViewModifier]]]:
    *parents, keyword = rule.attribute.split(".")
    if dictionary_VR(keyword) == "SQ":
        for item in items(_descend(header, parents), keyword):
            code = text(item, "CodeValue").upper()
            meaning = text(item, "CodeMeaning")
            if code in SPECIMEN_CODES or "SPECIMEN" in meaning.upper():
                raise _RejectedError(Reason.SPECIMEN, "this is an image of a tissue specimen")
            named = parse_view(meaning)
            yield VIEW_CODES.get(code, named[0] if named else None), frozenset(_coded_modifiers(item))
        return
    for value in _attribute(header, rule.attribute):
        label = rule.apply(value)
        if "SPECIMEN" in label.upper():
            raise _RejectedError(Reason.SPECIMEN, "this is an image of a tissue specimen")
        parsed = parse_view(label)
        if parsed is not None:
            yield parsed


def _coded_modifiers(item: Dataset) -> Iterable[ViewModifier]:
    for modifier in items(item, "ViewModifierCodeSequence"):
        code = text(modifier, "CodeValue").upper()
        if code in MODIFIER_CODES:
            yield MODIFIER_CODES[code]


def _check_modifiers(header: Dataset, modifiers: frozenset[ViewModifier], profile: SiteProfile) -> None:
    factor = _magnification(header)
    if ViewModifier.MAGNIFICATION in modifiers or factor > MAX_CONTACT_MAGNIFICATION:
        raise _RejectedError(
            Reason.MAGNIFICATION, f"this is a magnification view (factor {factor:g}), no screening view"
        )
    if ViewModifier.SPOT in modifiers:
        raise _RejectedError(Reason.SPOT, "this is a spot compression view, no screening view")
    for modifier in sorted(modifiers & set(profile.reject.modifiers)):
        raise _RejectedError(Reason.EXCLUDED_BY_SITE, f"the site profile rejects {modifier} views")


def _magnification(header: Dataset) -> float:
    """Estimated Radiographic Magnification Factor, 1 where it is absent or 0 (as some equipment writes for unknown)."""
    factor = number(header, "EstimatedRadiographicMagnificationFactor") or 1.0
    if factor < 0.9:
        raise ImageError(
            f"the Estimated Radiographic Magnification Factor is {factor:g}; no geometry makes it so small"
        )
    return factor


def _laterality(header: Dataset, profile: SiteProfile) -> tuple[Laterality, tuple[str, ...]]:
    found = []
    for rule in profile.laterality:
        for value in _attribute(header, rule.attribute):
            label = rule.apply(value).upper()
            if label in _SIDES:
                found.append((rule.attribute, _SIDES[label]))
    if not found:
        attributes = ", ".join(rule.attribute for rule in profile.laterality)
        raise _RejectedError(
            Reason.UNKNOWN_LATERALITY, f"the header states no single side (looked at: {attributes}); correct it"
        )
    attribute, side = found[0]
    others = [other for other, contrary in found if contrary is not side]
    warning = f"{CONTRADICTION} on laterality: {attribute} ({side}) was taken, not {', '.join(others)}"
    return side, (warning,) if others else ()


def _breast_state(
    header: Dataset, modifiers: frozenset[ViewModifier], profile: SiteProfile
) -> tuple[bool, tuple[str, ...]]:
    """Whether there is an implant, and warnings on it, on a partial view and on view modifiers."""
    displaced = ViewModifier.IMPLANT_DISPLACED in modifiers
    implant = displaced or text(header, "BreastImplantPresent").upper() == "YES"
    partial = text(header, "PartialView").upper() == "YES"
    if implant and profile.reject.implants:
        raise _RejectedError(Reason.EXCLUDED_BY_SITE, "the breast has an implant, which the site profile rejects")
    if partial and profile.reject.partial_views:
        raise _RejectedError(Reason.EXCLUDED_BY_SITE, "this is a partial view, which the site profile rejects")
    warnings = [f"{modifier.replace('-', ' ')} view" for modifier in sorted(modifiers)]
    if implant and not displaced:
        warnings.append("the breast has an implant, which hides part of it")
    if partial:
        warnings.append(PARTIAL_VIEW)
    return implant, tuple(warnings)


def _pixel_format(file: DicomFile, kind: ImageKind) -> PixelFormat:
    pixel_format = PixelFormat.of(file.dataset)
    if min(pixel_format.rows, pixel_format.columns) < MIN_SIDE:
        raise _RejectedError(
            Reason.TOO_SMALL, f"the image has {pixel_format.rows} x {pixel_format.columns} pixels, too few for a breast"
        )
    if kind is ImageKind.DBT:
        if pixel_format.frames > MAX_FRAMES:
            raise ImageError(f"the header declares {pixel_format.frames} frames, more than any volume has")
        # What is wrong with a volume's pixels is said when it is read: it is most of its exam, which has to tell.
        return pixel_format
    if pixel_format.frames > 1:
        raise ImageError(f"the header declares {pixel_format.frames} frames; a mammogram has one")
    try:
        check_pixel_data(file, pixel_format)
    except ImageError as error:
        raise _RejectedError(Reason.UNREADABLE, str(error)) from error
    return pixel_format


def _pixel_spacing(header: Dataset, profile: SiteProfile) -> tuple[float, float]:
    """Spacing (between rows, between columns) in mm in the plane of the breast."""
    return _sourced_spacing(header, profile)[1]


def _sourced_spacing(header: Dataset, profile: SiteProfile) -> tuple[str, tuple[float, float]]:
    """The attribute (or key of the profile) that gives the pixel spacing, and the spacing.

    Pixel Spacing is calibrated to the body part where it differs from Imager Pixel Spacing, which is that at the
    detector (PS3.3 10.7.1.1, 10.7.1.3). Scanned film states the scanner's spacing, which is the film's.
    """
    calibrated, at_detector = _spacing(header, "PixelSpacing"), _spacing(header, "ImagerPixelSpacing")
    if calibrated is not None and (at_detector is None or not all(map(isclose, calibrated, at_detector))):
        return "PixelSpacing", calibrated
    if at_detector is not None:
        factor = _magnification(header) if profile.pixel_spacing.correct_magnification else 1.0
        return "ImagerPixelSpacing", (at_detector[0] / factor, at_detector[1] / factor)
    scanned = _spacing(header, "NominalScannedPixelSpacing")
    if scanned is not None:
        return "NominalScannedPixelSpacing", scanned
    default = profile.pixel_spacing.default_mm
    if default is None:
        raise _RejectedError(
            Reason.UNKNOWN_SPACING,
            "the header states no pixel spacing, and the site profile has no pixel_spacing.default_mm",
        )
    return "pixel_spacing.default_mm", (default, default)


def _spacing(header: Dataset, keyword: str) -> tuple[float, float] | None:
    found = numbers(header, keyword)
    if not found:
        return None
    low, high = PIXEL_SPACING_RANGE_MM
    if len(found) != 2 or not all(low <= value <= high for value in found):
        raise ImageError(f"{keyword} is no pair of {low} to {high} mm; no mammogram has such a pixel spacing")
    return found[0], found[1]


def _patient_orientation(header: Dataset) -> tuple[str, ...]:
    """Patient Orientation where it holds two directions (PS3.3 C.7.6.1.1.1), else nothing: it is not needed."""
    nothing: tuple[str, ...] = ()
    found = _known(lambda: texts(header, "PatientOrientation"), nothing)
    return found if len(found) == 2 and all(_DIRECTION.fullmatch(value) for value in found) else nothing


def _exam_id(header: Dataset, profile: SiteProfile, key: bytes | None) -> str:
    """The exam that the image belongs to; fit to name a folder, whatever the header holds."""
    study = _uid(header, "StudyInstanceUID")
    attribute, found = _first(header, profile.exam, "exam")
    if attribute == "StudyInstanceUID" and found == study:
        return study
    if key is not None:
        return pseudonym(found, key)
    return found if _SAFE_ID.fullmatch(found) else f"exam-{hashlib.sha256(found.encode()).hexdigest()[:24]}"


def _woman_id(header: Dataset, profile: SiteProfile, key: bytes | None) -> str:
    if not text(header, "PatientID"):
        raise _RejectedError(
            Reason.MISSING_IDENTIFIER, "the header has no PatientID; without it exams cannot be told apart"
        )
    _, found = _first(header, profile.woman, "woman")
    return found if key is None else pseudonym(found, key)


def _first(header: Dataset, rules: tuple[Rule, ...], kind: str) -> tuple[str, str]:
    for rule in rules:
        for value in _attribute(header, rule.attribute):
            if found := rule.apply(value):
                return rule.attribute, found
    attributes = ", ".join(rule.attribute for rule in rules)
    raise _RejectedError(
        Reason.MISSING_IDENTIFIER, f"none of the site profile's {kind} rules gives a result ({attributes})"
    )


def _uid(header: Dataset, keyword: str) -> str:
    found = text(header, keyword)
    if not found:
        raise _RejectedError(Reason.MISSING_IDENTIFIER, f"the header has no {keyword}")
    if len(found) > 64 or not _UID.fullmatch(found):
        raise ImageError(f"{keyword} is no DICOM UID")
    return found


def _exam_date(header: Dataset) -> date | None:
    for keyword in ("StudyDate", "AcquisitionDate", "ContentDate"):
        found = text(header, keyword)
        if not found:
            continue
        try:
            return datetime.strptime(found.replace(".", ""), "%Y%m%d").date()  # with dots before DICOM 3.0
        except ValueError as error:
            raise ImageError(f"{keyword} is no date") from error
    return None


def _manufacturer(header: Dataset) -> str:
    return text(header, "Manufacturer") or text(header, "SecondaryCaptureDeviceManufacturer")


def _attribute(header: Dataset, path: str) -> tuple[str, ...]:
    """The non-empty text values at an attribute path of the site profile."""
    *parents, keyword = path.split(".")
    return tuple(value for value in texts(_descend(header, parents), keyword) if value)


def _descend(header: Dataset, parents: Iterable[str]) -> Dataset:
    for parent in parents:
        found = items(header, parent)
        header = found[0] if found else Dataset()
    return header
