"""Which frames of a volume to look at, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from screening.model.calibration import Calibration, OperatingPoint

IN_FOCUS = 2
"""Frames up and down from its peak in which a finding is shown as well: 2 mm at the usual distance of 1 mm, within the
half millimetres to millimetres over which tomosynthesis of 15 to 50 degrees blurs in depth."""


class Framed(Protocol):
    """A region as far as it matters here: its frames (0-based, inclusive) and its score."""

    @property
    def frame_first(self) -> int: ...
    @property
    def frame_last(self) -> int: ...
    @property
    def frame_peak(self) -> int: ...
    @property
    def score(self) -> float: ...


_Region = TypeVar("_Region", bound=Framed)


def key_frames(regions: Sequence[_Region], threshold: float) -> list[tuple[int, list[_Region]]]:
    """Frames that show every region with a score of `threshold` or more, each with the regions it shows.

    The most suspicious region comes first, on the frame of its peak; a region that an earlier frame shows already
    (within `IN_FOCUS` frames of its own peak, and of its extent) needs none of its own. Equal scores keep their order.
    """
    chosen: list[tuple[int, list[_Region]]] = []
    for region in sorted(regions, key=lambda region: -region.score):
        if region.score < threshold:
            break
        shown = [covered for frame, covered in chosen if _shows(frame, region)]
        if shown:
            shown[0].append(region)
        else:
            chosen.append((region.frame_peak, [region]))
    return chosen


def mark_threshold(calibration: Calibration, site: OperatingPoint | None = None) -> float:
    """The score from which on a region is worth a look: the most sensitive of all operating points, and of the site's.

    So a volume whose breast or exam is recalled at one of them has a frame to look at. Without any, all regions are
    shown.
    """
    points = (*calibration.operating_points, *([site] if site else []))
    return min((point.threshold for point in points), default=0.0)


def _shows(frame: int, region: Framed) -> bool:
    return region.frame_first <= frame <= region.frame_last and abs(frame - region.frame_peak) <= IN_FOCUS
