"""Functional groups of multi-frame objects (PS3.3 C.7.6.16), read so that a frame looks like a single-frame image."""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from screening.dicomfile import items
from screening.errors import ImageError

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
GROUP_KEYWORDS = frozenset({SHARED, PER_FRAME})
_GROUP_TAGS = frozenset(tag_for_keyword(keyword) for keyword in GROUP_KEYWORDS)

_GROUPS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
    "FrameAnatomySequence",
    "PatientOrientationInFrameSequence",
)
"""The macros whose attributes a single-frame image has at its top level."""


def frame_headers(dataset: Dataset, frames: int) -> list[Dataset]:
    """What the header says of each frame: the object's own attributes, then the shared and the frame's own groups.

    An object without functional groups (Secondary Capture) says the same of all its frames. Raises `ImageError` where
    it describes another number of frames than it declares: nobody can say then which frame is which, unless there is
    but one and nothing is said of it.
    """
    own = items(dataset, PER_FRAME)
    if len(own) != frames and (own or (frames > 1 and PER_FRAME in dataset)):
        raise ImageError(
            f"the header declares {frames} frames, but describes {len(own)} (Per-frame Functional Groups); "
            "send the volume again"
        )
    shared = next(iter(items(dataset, SHARED)), Dataset())
    return [_flat(dataset, shared, groups) for groups in (own or (Dataset(),) * frames)]


def _flat(dataset: Dataset, shared: Dataset, own: Dataset) -> Dataset:
    flat = Dataset()
    flat.update({element.tag: element for element in dataset.values() if element.tag not in _GROUP_TAGS})
    for groups in (shared, own):
        for name in _GROUPS:
            for item in items(groups, name)[:1]:
                flat.update(item)
    return flat
