"""Regions: what of a map of logits becomes a mark, and where the mark lies in the source image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from screening.imaging.geometry import Geometry
from screening.regions import MOST_REGIONS, OUTSIDE, REACH_MM, SEPARATION_MM, Candidate, find_candidates

CELL, SPACING = 8, 0.5
CELL_MM = CELL * SPACING
ROWS, COLUMNS = 20, 14

MAPS = arrays.arrays(np.float32, (ROWS, COLUMNS), elements=st.floats(-8, 4, width=32))
FLIPS = st.tuples(st.booleans(), st.booleans())


def geometry(flip_x: bool = False, flip_y: bool = False) -> Geometry:
    """A crop whose last cells reach beyond it, enlarged 2.5 and 3 times in the source."""
    columns, rows = COLUMNS * CELL - 3, ROWS * CELL - 5
    return Geometry(100, 40, round(columns * 2.5), rows * 3, columns, rows, flip_x, flip_y)


def blank(value: float = -6.0) -> npt.NDArray[np.float32]:
    return np.full((ROWS, COLUMNS), value, np.float32)


def find(logits: npt.NDArray[np.float32], flip_x: bool = False, flip_y: bool = False) -> list[Candidate]:
    return find_candidates(logits, CELL, SPACING, geometry(flip_x, flip_y))


def centre_in_source(row: int, column: int, flip_x: bool = False, flip_y: bool = False) -> tuple[float, float]:
    """The middle of a cell, or the last pixel of the crop where that lies beyond it."""
    crop = geometry(flip_x, flip_y)
    x, y = min((column + 0.5) * CELL, crop.columns - 0.5), min((row + 0.5) * CELL, crop.rows - 0.5)
    x, y = crop.to_source([x - 0.5, y - 0.5]) + 0.5
    return float(x), float(y)


def contains(candidate: Candidate, point: tuple[float, float]) -> bool:
    return cv2.pointPolygonTest(candidate.contour.astype(np.float32), point, False) >= 0


@given(MAPS, FLIPS)
def test_candidates_fall_in_height_from_the_maximum_of_the_map(
    logits: npt.NDArray[np.float32], flips: tuple[bool, bool]
) -> None:
    heights = [candidate.logit for candidate in find(logits, *flips)]
    assert 1 <= len(heights) <= MOST_REGIONS
    assert heights[0] == logits.max()
    assert heights == sorted(heights, reverse=True)


@given(MAPS, FLIPS)
def test_first_region_holds_the_peak_of_the_map(logits: npt.NDArray[np.float32], flips: tuple[bool, bool]) -> None:
    row, column = np.unravel_index(int(np.argmax(logits)), logits.shape)
    peak = centre_in_source(int(row), int(column), *flips)
    top = find(logits, *flips)[0]
    assert contains(top, peak)
    x, y, width, height = top.box
    assert x <= peak[0] <= x + width
    assert y <= peak[1] <= y + height


@given(MAPS, FLIPS)
def test_regions_have_an_area_and_stay_within_the_crop(
    logits: npt.NDArray[np.float32], flips: tuple[bool, bool]
) -> None:
    crop = geometry(*flips)
    for candidate in find(logits, *flips):
        x, y, width, height = candidate.box
        assert width > 0
        assert height > 0
        assert crop.x0 <= x
        assert x + width <= crop.x0 + crop.width + 1e-6
        assert crop.y0 <= y
        assert y + height <= crop.y0 + crop.height + 1e-6
        assert len(candidate.contour) >= 4


@given(MAPS)
def test_mirrored_image_has_mirrored_regions(logits: npt.NDArray[np.float32]) -> None:
    """A mirrored source gives the same prepared pixels and so the same map; only the way back is mirrored."""
    crop = geometry()
    for straight, mirrored in zip(find(logits), find(logits, flip_x=True), strict=True):
        assert mirrored.logit == straight.logit
        expected = straight.contour.copy()
        expected[:, 0] = 2 * crop.x0 + crop.width - expected[:, 0]
        np.testing.assert_allclose(mirrored.contour, expected, atol=1e-6)


@given(MAPS, st.floats(-3, 3, width=32))
def test_raising_the_whole_map_raises_the_scores_and_moves_nothing(
    logits: npt.NDArray[np.float32], shift: float
) -> None:
    logits, shift = (
        (np.round(logits * 4) / 4).astype(np.float32),
        round(shift * 4) / 4,
    )  # exact sums: no tie is made or broken
    before, after = find(logits), find(logits + np.float32(shift))
    assert [c.logit + shift for c in before] == [c.logit for c in after]
    assert [c.box for c in before] == [c.box for c in after]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (7, 5), (19, 13)])
@pytest.mark.parametrize("flip_x", [False, True])
def test_lone_cell_is_outlined_along_its_own_edges(row: int, column: int, flip_x: bool) -> None:
    logits = blank()
    logits[row, column] = 3
    x, y, width, height = find(logits, flip_x)[0].box
    crop = geometry(flip_x)
    edges = np.array([[column * CELL, row * CELL], [(column + 1) * CELL, (row + 1) * CELL]]) - 0.5
    edges = np.minimum(edges, np.array([crop.columns, crop.rows]) - 0.5)  # the last cells reach beyond the crop
    corners = crop.to_source(edges) + 0.5
    low, high = corners.min(axis=0), corners.max(axis=0)
    np.testing.assert_allclose((x, y, x + width, y + height), (*low, *high), atol=1e-6)


def test_rectangle_of_equal_cells_is_outlined_along_its_edges() -> None:
    logits = blank()
    logits[4:7, 2:6] = 1
    logits[5, 4] = 1.5
    crop = geometry()
    corners = crop.to_source(np.array([[2 * CELL, 4 * CELL], [6 * CELL, 7 * CELL]]) - 0.5) + 0.5
    x, y, width, height = find(logits)[0].box
    np.testing.assert_allclose((x, y, x + width, y + height), corners.ravel(), atol=1e-6)


def test_peaks_of_one_finding_are_merged_into_the_higher() -> None:
    logits = blank()
    logits[5, 5], logits[5, 7] = 2, 3  # 8 mm apart
    assert [candidate.logit for candidate in find(logits)][:2] == [3, -6]


def test_peaks_of_two_findings_stay_apart() -> None:
    logits = blank()
    apart = int(SEPARATION_MM / CELL_MM)
    logits[5, 5], logits[5 + apart, 5] = 2, 3
    first, second, *_ = find(logits)
    assert (first.logit, second.logit) == (3, 2)
    assert not contains(first, centre_in_source(5, 5))
    assert not contains(second, centre_in_source(5 + apart, 5))


def test_flank_of_a_higher_peak_is_no_finding_of_its_own() -> None:
    """A broad hill has one mark: what slopes up towards the top is no peak, however far from the top it lies."""
    y, x = np.mgrid[:ROWS, :COLUMNS]
    logits = (3 - 0.2 * np.hypot(y - 10, x - 7)).astype(np.float32)
    assert len(find(logits)) == 1


def test_region_stays_within_reach_of_its_peak() -> None:
    _, _, width, height = find(blank(1.0))[0].box  # a plateau: everything is as high as the peak
    assert width <= (REACH_MM + CELL_MM) / SPACING * 2.5
    assert height <= (REACH_MM + CELL_MM) / SPACING * 3


def test_air_around_the_breast_is_never_marked() -> None:
    logits = blank(float(OUTSIDE))
    logits[8:12, :4] = -1
    logits[9, 1] = 2
    for candidate in find(logits):
        assert candidate.logit > OUTSIDE / 2
        x, y, width, _ = candidate.box
        assert x + width <= centre_in_source(0, 3)[0] + CELL * 2.5 / 2 + 1e-6
        assert y >= centre_in_source(8, 0)[1] - CELL * 3 / 2 - 1e-6


def test_equal_peaks_are_taken_from_the_top_and_from_the_chest_wall() -> None:
    logits = blank()
    logits[3, 9] = logits[3, 2] = logits[12, 2] = 1
    places = [candidate.box[:2] for candidate in find(logits)[:3]]
    assert places == sorted(places, key=lambda place: (place[1], place[0]))
