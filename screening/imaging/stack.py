"""How the frames of a volume lie above one another: their order and the distances between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from screening.dicomfile import number, numbers

PLANE_KEYWORDS = frozenset(
    {"ImagePositionPatient", "ImageOrientationPatient", "SpacingBetweenSlices", "SliceThickness"}
)
USUAL_SPACING_MM = 1.0
"""Distance of reconstructed planes that most equipment writes (Diekmann et al. 2009, J Digit Imaging 22:519)."""
SPACING_RANGE_MM = (0.1, 10.0)
"""Reconstructions have 0.5 to 1 mm, slabs some millimetres."""
OUT_OF_ORDER = "the frames are not stored in the order of their plane positions, in which they count here"
"""The warning of a volume whose places are not its stored frames."""
THICKEST_MM = 400.0
"""No compressed breast is nearly as thick; positions that span more are no positions."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """Places from one end of the volume to the other.

    `order`: the stored frame (0-based) at each place. It is 0, 1, 2, … where frames are stored in the order of their
    positions, up or down. `positions_mm`: of each place, rising from 0. `spacing_mm`: the usual distance of neighbours.
    """

    order: tuple[int, ...]
    positions_mm: tuple[float, ...]
    spacing_mm: float
    warnings: tuple[str, ...] = ()


def stack(headers: Sequence[Dataset]) -> Stack:
    """Order frames by their plane positions (PS3.3 C.7.6.16.2.3), whatever order they are stored in.

    `headers`: what is said of each frame, as a single-frame image says it. Without positions that tell frames apart,
    the stored order counts, at Spacing Between Slices or Slice Thickness, else at `USUAL_SPACING_MM`. Everything that
    is odd becomes a warning: a volume is worth reading even then. Raises `ImageError` for malformed attributes.
    """
    if len(headers) == 1:
        return Stack((0,), (0.0,), USUAL_SPACING_MM, ("the volume has one frame only",))
    found = [plane_position_mm(header) for header in headers]
    places = np.array([np.nan if place is None else place for place in found])
    if np.isnan(places).any():
        some = not np.isnan(places).all()
        return _evenly(headers, "some frames state no plane position" if some else "")
    if np.ptp(places) == 0:
        return _evenly(headers, "all frames state the same plane position (no distance between frames)")
    ordered = np.sort(places)
    steps = np.diff(ordered)
    spacing = float(np.median(steps[steps > 0]))
    if np.ptp(places) > THICKEST_MM or not SPACING_RANGE_MM[0] <= spacing <= SPACING_RANGE_MM[1]:
        return _evenly(headers, f"the plane positions are implausible ({spacing:g} mm from frame to frame)")
    return _by_position(places, spacing)


def plane_position_mm(header: Dataset) -> float | None:
    """A plane's position along its normal (PS3.3 C.7.6.2.1.1), None where the header does not say it."""
    position, orientation = numbers(header, "ImagePositionPatient"), numbers(header, "ImageOrientationPatient")
    if len(position) != 3 or len(orientation) != 6:
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    length = float(np.linalg.norm(normal))
    return float(np.dot(normal, position)) / length if length > 0.5 else None


def missing_frames(rising: npt.ArrayLike, what: str) -> list[str]:
    """A warning with number and place of the frames that are missing, by gaps of more than one and a half usual steps.

    `rising`: a number of each place; `what`: what these numbers are. Frames missing at either end leave no gap.
    """
    gaps = np.diff(np.asarray(rising, dtype=np.float64))
    if not gaps.any():
        return []
    usual = np.median(gaps[gaps > 0])
    wide = gaps > 1.5 * usual
    missing = int(np.sum(np.rint(gaps[wide] / usual) - 1))
    if not missing:
        return []
    after = ", ".join(str(place + 1) for place in np.flatnonzero(wide)[:5])
    return [
        f"{missing} frame{'s seem' if missing > 1 else ' seems'} to be missing (a gap in the {what} after frame "
        f"{after}); what lay there was not seen"
    ]


def _by_position(places: _Floats, spacing: float) -> Stack:
    warnings = []
    order = np.argsort(places, kind="stable")
    steps = np.diff(places)
    if (steps >= 0).all() or (steps <= 0).all():
        order = np.arange(len(places))
    else:
        warnings.append(OUT_OF_ORDER)
    positions = np.abs(places[order] - places[order[0]])
    warnings += missing_frames(positions, "plane positions")
    repeated = int(np.sum(np.diff(positions) < 0.05 * spacing))
    if repeated:
        warnings.append(f"{repeated} frames state the plane position of another")
    return Stack(tuple(map(int, order)), tuple(map(float, positions)), spacing, tuple(warnings))


def _evenly(headers: Sequence[Dataset], why: str) -> Stack:
    stated = (number(headers[0], "SpacingBetweenSlices"), number(headers[0], "SliceThickness"))
    low, high = SPACING_RANGE_MM
    usable = [abs(mm) for mm in stated if mm is not None and low <= abs(mm) <= high]
    spacing = usable[0] if usable else USUAL_SPACING_MM
    reasons = [why] if why else []
    if not usable:
        reasons.append("the header states no usable distance between frames")
    sentence = f"{'; '.join(reasons)}: frames count in the stored order, {spacing:g} mm apart"
    return Stack(
        tuple(range(len(headers))),
        tuple(spacing * place for place in range(len(headers))),
        spacing,
        (sentence,) if reasons else (),
    )
