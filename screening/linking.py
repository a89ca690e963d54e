"""From the logits of a volume's slabs to a short list of regions that extend over frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from screening.imaging.geometry import Geometry
from screening.imaging.slabs import Slab
from screening.regions import DROP, MOST_REGIONS, OUTSIDE, SEPARATION_MM, Candidate, in_source, is_peak, outline

LINK_MM = 6.0
"""A finding's peak moves at most this far from one slab to the next: the slabs of one volume lie exactly over one
another, and what is oblique moves by about a slab's step."""

_Logits = npt.NDArray[np.float32]


def find_volume_candidates(
    logits: _Logits,
    slabs: Sequence[Slab],
    positions_mm: Sequence[float],
    cell: int,
    spacing_mm: float,
    geometry: Geometry,
) -> list[Candidate]:
    """Peaks of a volume, highest first, at most `MOST_REGIONS` and at least one.

    `logits`: float32 (slabs, rows, columns), each as of `find_candidates`. From the highest place on, a finding is
    followed up and down through the slabs as long as it goes on falling; it extends over the slabs in which its logit
    is within `DROP` of the peak, as its outline does in the plane of the highest one. What falls further is its
    out-of-focus shadow and no finding of its own, while what rises again is another one at another depth.

    The peak's frame is where the parabola through the highest slab and its neighbours is highest.
    """
    cell_mm = cell * spacing_mm
    grid = np.indices(logits.shape[1:])
    remaining = logits.copy()
    candidates: list[Candidate] = []
    while len(candidates) < MOST_REGIONS:
        slab, row, column = (int(i) for i in np.unravel_index(int(np.argmax(remaining)), logits.shape))
        if candidates and remaining[slab, row, column] <= OUTSIDE / 2:
            break
        if not is_peak(logits[slab], row, column) and candidates:
            remaining[slab, row, column] = OUTSIDE  # the flank of a peak that was suppressed
            continue
        heights = {slab: float(logits[slab, row, column])}
        for direction in (-1, 1):
            _follow(logits, remaining, (slab, row, column), direction, cell_mm, heights)
        distance_mm = _distance_mm(grid, row, column, cell_mm)
        remaining[slab][distance_mm < SEPARATION_MM] = OUTSIDE
        contour = in_source(outline(logits[slab], row, column, distance_mm), cell, geometry)
        candidates.append(Candidate(heights[slab], contour, _frames(heights, slab, slabs, positions_mm)))
    return candidates


def peak_places(logits: _Logits, slabs: Sequence[Slab], positions_mm: Sequence[float]) -> npt.NDArray[np.int16]:
    """The most suspicious place of each cell: int16 (rows, columns), -1 beyond the breast.

    `logits` as of `find_volume_candidates`.
    """
    best = np.argmax(logits, axis=0)
    centres = np.array([slab.centre_mm for slab in slabs])
    if len(slabs) < 3:
        position = centres[best]
    else:
        centre = np.clip(best, 1, len(slabs) - 2)
        low, mid, high = (np.take_along_axis(logits, (centre + i)[None], 0)[0].astype(np.float64) for i in (-1, 0, 1))
        shift = np.where(centre == best, _vertex(low, mid, high), 0.0)
        steps = np.gradient(centres)
        position = centres[best] + shift * steps[best]
    nearest = np.abs(np.asarray(positions_mm)[:, None, None] - position[None]).argmin(axis=0)
    places = np.asarray(nearest, np.int16)
    places[logits.max(axis=0) <= OUTSIDE / 2] = -1
    return places


def _follow(
    logits: _Logits,
    remaining: _Logits,
    start: tuple[int, int, int],
    direction: int,
    cell_mm: float,
    heights: dict[int, float],
) -> None:
    """Follow a finding from slab to slab, note its `heights`, and take it out of `remaining`."""
    slab, row, column = start
    grid = np.indices(logits.shape[1:])
    lowest = heights[slab]
    slab += direction
    while 0 <= slab < len(logits):
        near = _distance_mm(grid, row, column, cell_mm) <= LINK_MM
        place = int(np.argmax(np.where(near, logits[slab], -np.inf)))
        row, column = (int(i) for i in np.unravel_index(place, near.shape))
        height = float(logits[slab, row, column])
        if height > lowest + DROP / 2:  # less is noise
            return
        heights[slab], lowest = height, min(lowest, height)
        remaining[slab][_distance_mm(grid, row, column, cell_mm) < SEPARATION_MM] = OUTSIDE
        slab += direction


def _frames(
    heights: dict[int, float], slab: int, slabs: Sequence[Slab], positions_mm: Sequence[float]
) -> tuple[int, int, int]:
    """First and last place of a finding, and that of its peak."""
    linked = [number for number, height in heights.items() if height >= heights[slab] - DROP]
    first, last = slabs[min(linked)].core_first, slabs[max(linked)].core_last
    position = slabs[slab].centre_mm
    if slab - 1 in heights and slab + 1 in heights:
        shift = float(_vertex(heights[slab - 1], heights[slab], heights[slab + 1]))
        other = slabs[slab + (1 if shift > 0 else -1)].centre_mm
        position += abs(shift) * (other - position)
    peak = int(np.abs(np.asarray(positions_mm) - position).argmin())
    return min(first, peak), max(last, peak), peak


def _vertex(
    low: float | npt.NDArray[np.float64], mid: float | npt.NDArray[np.float64], high: float | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Where the parabola through three heights one step apart is highest, from -0.5 to 0.5 steps from the middle."""
    curve = np.asarray(2 * np.asarray(mid) - low - high, np.float64)
    shift = np.where(curve > 1e-6, 0.5 * (np.asarray(high) - low) / np.maximum(curve, 1e-6), 0.0)
    return np.asarray(np.clip(shift, -0.5, 0.5))


def _distance_mm(grid: npt.NDArray[np.int64], row: int, column: int, cell_mm: float) -> npt.NDArray[np.float64]:
    return np.asarray(np.hypot(grid[0] - row, grid[1] - column) * cell_mm)
