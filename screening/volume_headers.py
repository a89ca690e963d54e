"""What is special in the headers of tomosynthesis volumes: functional groups, and stand-ins for the proper class.

A header of these is turned into one such as a mammogram has, so that the rules of a site profile read both alike.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from pydicom import uid
from pydicom.dataset import Dataset

from screening.dicomfile import integer, items, text, texts
from screening.imaging.decode import PixelFormat
from screening.imaging.functional_groups import GROUP_KEYWORDS, SHARED, frame_headers
from screening.imaging.stack import PLANE_KEYWORDS, plane_position_mm

MAX_FRAMES = 1000
"""More than the thickest breast has at the finest spacing."""

VOLUME_KEYWORDS = (
    GROUP_KEYWORDS
    | PLANE_KEYWORDS
    | {"BodyPartExamined", "SeriesInstanceUID", "InstanceNumber", "ProtocolName", "ImageLaterality", "Laterality"}
)

_SLICES = frozenset({uid.CTImageStorage})
_CAPTURES = frozenset(
    {
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    }
)
_NAMES = re.compile(r"tomo|\bdbt\b", re.I)
_DESCRIBED = re.compile(r"\b(?P<side>[LR])(?:EFT|IGHT)?[\s_-]*(?P<view>MLO|LMO|XCCL|XCCM|CC|ML|LM)\b", re.I)


@dataclass(frozen=True)
class SlicePlace:
    """A slice's series, its position along the normal of its plane (None if not stated), and its Instance Number."""

    series_id: str
    position_mm: float | None
    number: int


def is_stored_otherwise(header: Dataset) -> bool:
    """Whether an object is of a kind that systems without Breast Tomosynthesis Image Storage store volumes as.

    That is CT Image Storage, one instance a slice, or multi-frame Secondary Capture. Other things are stored as these,
    too; a capture of one frame is a volume only where it says so itself, else it is read as a mammogram.
    """
    sop_class = text(header, "SOPClassUID")
    if sop_class in _CAPTURES:
        return (integer(header, "NumberOfFrames") or 1) > 1 or is_tomosynthesis(header)
    return sop_class in _SLICES


def is_tomosynthesis(header: Dataset) -> bool:
    """Whether an object of such a class says that it is a breast tomosynthesis.

    By its Image Type or its description; a slice of modality MG or of a breast (Body Part Examined) is one, too.
    """
    types = {value.upper() for value in texts(header, "ImageType")}
    if types & {"TOMOSYNTHESIS", "TOMO"} or any(_NAMES.search(name) for name in _descriptions(header)):
        return True
    if text(header, "SOPClassUID") not in _SLICES:
        return False
    return text(header, "Modality") == "MG" or text(header, "BodyPartExamined").upper() == "BREAST"


def volume_header(header: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """The header as a single-frame image would have it, and warnings.

    What stands in functional groups is taken from the first frame. Side and view, where no attribute at the top level
    states them, come from the series' or protocol's description ("L MLO Tomosynthesis"); the side, as a last resort,
    from Frame Laterality, which in practice is wrong now and then (Buda et al. 2021 say so of BCS-DBT). Raises
    `ImageError` where functional groups and number of frames do not agree.
    """
    frames = frame_headers(header, PixelFormat.of(header).frames)
    flat = Dataset()
    flat.update(frames[0])
    if SHARED in header:
        flat[SHARED] = header[SHARED]
    described = next((found for name in _descriptions(header) if (found := _DESCRIBED.search(name))), None)
    sides = Counter(side for frame in frames if (side := text(frame, "FrameLaterality").upper()) in ("L", "R"))
    top = text(header, "ImageLaterality") or text(header, "Laterality")
    usual = max(sorted(sides), key=lambda side: sides[side], default="")
    side = top or (described["side"].upper() if described else usual)
    if side and not text(header, "ImageLaterality"):
        flat.ImageLaterality = side
    if described and not text(header, "ViewPosition") and not items(header, "ViewCodeSequence"):
        flat.ViewPosition = described["view"].upper()
    return flat, tuple(_side_warnings(sides, side))


def _side_warnings(sides: Counter[str], side: str) -> list[str]:
    contrary = sum(count for stated, count in sides.items() if side in ("L", "R") and stated != side)
    if not contrary:
        return []
    return [
        f"Frame Laterality says {'R' if side == 'L' else 'L'} in {contrary} of {sum(sides.values())} frames, against "
        f"{side} elsewhere: {side} was taken"
    ]


def slice_place(header: Dataset) -> SlicePlace | None:
    """Where a slice belongs; None for an object that is a whole volume. Raises `ImageError` for malformed places."""
    if text(header, "SOPClassUID") not in _SLICES:
        return None
    return SlicePlace(
        text(header, "SeriesInstanceUID"), plane_position_mm(header), integer(header, "InstanceNumber") or 0
    )


def _descriptions(header: Dataset) -> tuple[str, ...]:
    return text(header, "SeriesDescription"), text(header, "ProtocolName")
