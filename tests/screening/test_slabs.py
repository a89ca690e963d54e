"""Slabs, the order of frames, linking over slabs and key frames: pure functions of small arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from screening.imaging.geometry import Geometry
from screening.imaging.slabs import Projection, Slab, Slabbing, cut_slabs, project
from screening.imaging.stack import stack
from screening.linking import find_volume_candidates, peak_places
from screening.reading_aid import IN_FOCUS, key_frames
from screening.regions import MOST_REGIONS, OUTSIDE

GEOMETRY = Geometry(0, 0, 320, 480, 160, 240)
CELL, SPACING_MM = 8, 0.8


def even(places: int, spacing_mm: float = 1.0) -> tuple[float, ...]:
    return tuple(spacing_mm * place for place in range(places))


# Slabs


@given(
    places=st.integers(1, 120),
    spacing=st.sampled_from([0.5, 1.0, 1.5, 3.0]),
    thickness=st.sampled_from([1.0, 6.0, 10.0, 20.0]),
    step=st.sampled_from([1.0, 3.0, 5.0]),
)
def test_cores_are_the_volume_each_place_once_and_lie_in_their_slabs(
    places: int, spacing: float, thickness: float, step: float
) -> None:
    slabs = cut_slabs(even(places, spacing), spacing, Slabbing(thickness, step))
    covered = [place for slab in slabs for place in range(slab.core_first, slab.core_last + 1)]
    assert covered == list(range(places))
    for slab in slabs:
        assert slab.first <= slab.core_first <= slab.core_last <= slab.last


def test_default_slabs_are_10_mm_thick_and_5_mm_apart() -> None:
    slabs = cut_slabs(even(60), 1.0, Slabbing())
    assert [slab.last - slab.first + 1 for slab in slabs] == [10] * 11
    assert [slab.first for slab in slabs] == list(range(0, 51, 5))


def test_thin_volume_is_one_slab() -> None:
    (slab,) = cut_slabs(even(4), 1.0, Slabbing())
    assert (slab.first, slab.last, slab.core_first, slab.core_last) == (0, 3, 0, 3)


def test_slab_over_a_gap_has_fewer_frames_and_an_empty_one_is_left_out() -> None:
    positions = tuple(float(place) for place in (*range(20), *range(50, 70)))
    slabs = cut_slabs(positions, 1.0, Slabbing())
    assert all(slab.first <= slab.last for slab in slabs)
    assert [p for slab in slabs for p in range(slab.core_first, slab.core_last + 1)] == list(range(40))


def test_projections_are_mean_and_maximum_of_the_slabs_frames() -> None:
    frames = np.arange(5 * 6, dtype=np.uint16).reshape(5, 2, 3)
    slab = Slab(1, 3, 1, 3, 2.0)
    np.testing.assert_array_equal(project(frames, slab, Projection.MEAN), frames[2])
    np.testing.assert_array_equal(project(frames, slab, Projection.MAXIMUM), frames[3])


# Order and distance of frames


def headers(positions: list[float | None], **attributes: float) -> list[Dataset]:
    found = []
    for position in positions:
        header = Dataset()
        if position is not None:
            header.ImagePositionPatient, header.ImageOrientationPatient = [1, 2, position], [1, 0, 0, 0, 1, 0]
        for keyword, value in attributes.items():
            setattr(header, keyword, value)
        found.append(header)
    return found


@given(st.permutations(list(range(12))))
def test_frames_are_ordered_by_plane_position_whatever_order_they_are_stored_in(order: list[int]) -> None:
    found = stack(headers([float(place) for place in order]))
    assert found.positions_mm == even(12)
    along = [order[frame] for frame in found.order]
    assert along in (list(range(12)), list(range(11, -1, -1)))
    monotonic = order in (list(range(12)), list(range(11, -1, -1)))
    assert (found.order == tuple(range(12))) is monotonic
    assert any("not stored in the order" in text for text in found.warnings) is not monotonic


def test_oblique_planes_are_measured_along_their_normal() -> None:
    tilt = np.deg2rad(45)
    normal = np.array([0, -np.sin(tilt), np.cos(tilt)])
    made = []
    for place in range(5):
        header = Dataset()
        header.ImagePositionPatient = list(2.0 * place * normal + [5, 6, 7])
        header.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))]
        made.append(header)
    assert stack(made).positions_mm == pytest.approx(even(5, 2.0))


@pytest.mark.parametrize(
    ("positions", "attributes", "spacing", "sentence"),
    [
        ([5.0] * 4, {"SpacingBetweenSlices": 0.0, "SliceThickness": 2.0}, 2.0, "the same plane position"),
        ([5.0] * 4, {"SpacingBetweenSlices": 0.0, "SliceThickness": 0.0}, 1.0, "no usable distance"),
        ([None] * 4, {"SpacingBetweenSlices": 0.5}, 0.5, ""),
        ([None] * 4, {}, 1.0, "no usable distance"),
        ([0.0, 1.0, None, 3.0], {"SliceThickness": 1.0}, 1.0, "some frames state no plane position"),
        ([0.0, 1e6, 2e6, 3e6], {}, 1.0, "implausible"),
    ],
)
def test_zero_unknown_or_absurd_spacing_falls_back_on_the_stored_order(
    positions: list[float | None], attributes: dict[str, float], spacing: float, sentence: str
) -> None:
    found = stack(headers(positions, **attributes))
    assert (found.order, found.positions_mm) == ((0, 1, 2, 3), even(4, spacing))
    assert any(sentence in text for text in found.warnings) if sentence else not found.warnings


def test_missing_frames_are_counted_and_their_place_is_named() -> None:
    found = stack(headers([0.0, 1.0, 2.0, 5.0, 6.0]))
    assert found.positions_mm == (0.0, 1.0, 2.0, 5.0, 6.0)
    assert "2 frames seem to be missing (a gap in the plane positions after frame 3)" in found.warnings[0]


def test_one_frame_only_is_a_volume_with_a_warning() -> None:
    assert stack(headers([3.0])).warnings == ("the volume has one frame only",)


# Linking


def maps(slabs: int, *peaks: tuple[float, float, int, int], width: float = 1.0) -> npt.NDArray[np.float32]:
    """Logits (slabs, 30, 20) at -6 with peaks of 6 (slab, height, row, column), which fall off in all directions."""
    s, row, column = np.mgrid[:slabs, :30, :20].astype(np.float32)
    logits = np.full(s.shape, -6.0, np.float32)
    for slab, height, y, x in peaks:
        distance = ((s - slab) / width) ** 2 + ((row - y) / 1.2) ** 2 + ((column - x) / 1.2) ** 2
        logits = np.maximum(logits, -6 + (height + 6) * np.exp(-distance / 2).astype(np.float32))
    return logits


def linked(logits: npt.NDArray[np.float32]) -> list[tuple[float, float, tuple[int, int, int]]]:
    """Column and row in source pixels and frames of each candidate higher than -4."""
    positions = even(5 * len(logits) + 5)
    slabs = cut_slabs(positions, 1.0, Slabbing())
    found = find_volume_candidates(logits, slabs, positions, CELL, SPACING_MM, GEOMETRY)
    assert 1 <= len(found) <= MOST_REGIONS
    assert [one.logit for one in found] == sorted((one.logit for one in found), reverse=True)
    kept = [one for one in found if one.logit > -4]
    return [(one.box[0] + one.box[2] / 2, one.box[1] + one.box[3] / 2, one.frames) for one in kept]


@pytest.mark.parametrize("slab", [1.0, 3.0, 3.3, 4.5, 6.0])
def test_one_finding_over_several_slabs_is_one_region_at_its_depth(slab: float) -> None:
    ((x, y, (first, last, peak)),) = linked(maps(9, (slab, 3.0, 12, 8)))
    assert (x, y) == pytest.approx((8.5 * 16, 12.5 * 16), abs=16)
    assert peak == pytest.approx(5 * slab + 4.5, abs=1.5)
    assert first <= peak <= last
    assert last - first < 20


def test_two_findings_above_one_another_are_two_regions() -> None:
    found = linked(maps(11, (1.0, 3.0, 12, 8), (8.0, 2.0, 12, 8)))
    assert [peak for *_, (_, _, peak) in found] == pytest.approx([9.5, 44.5], abs=1.5)


def test_findings_beside_one_another_in_one_slab_are_two_regions() -> None:
    found = linked(maps(7, (3.0, 3.0, 8, 8), (3.0, 2.0, 20, 8)))
    assert [round(y) for _, y, _ in found] == pytest.approx([8.5 * 16, 20.5 * 16], abs=16)


def test_outside_of_the_breast_has_no_region_and_no_frame() -> None:
    logits = maps(5, (2.0, 3.0, 12, 8))
    logits[:, :, 15:] = OUTSIDE
    positions = even(30)
    slabs = cut_slabs(positions, 1.0, Slabbing())
    places = peak_places(logits, slabs, positions)
    assert (places[:, 15:] == -1).all()
    assert (places[:, :15] >= 0).all()
    assert places[12, 8] == pytest.approx(14.5, abs=1)


# Key frames


@dataclass(frozen=True)
class Framed:
    frame_first: int
    frame_last: int
    frame_peak: int
    score: float


regions = st.lists(
    st.builds(
        lambda first, up, more, score: Framed(first, first + up + more, first + up, score),
        st.integers(0, 50),
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from([0.1, 0.3, 0.5, 0.9]),
    ),
    max_size=8,
)


@given(regions, st.sampled_from([0.0, 0.3, 0.6]))
def test_key_frames_cover_every_region_above_the_operating_point_once_and_no_other(
    found: list[Framed], threshold: float
) -> None:
    chosen = key_frames(found, threshold)
    shown = [region for _, covered in chosen for region in covered]
    assert sorted(map(id, shown)) == sorted(id(region) for region in found if region.score >= threshold)
    for frame, covered in chosen:
        assert covered[0].frame_peak == frame
        for region in covered:
            assert region.frame_first <= frame <= region.frame_last
            assert abs(frame - region.frame_peak) <= IN_FOCUS
    leading = [covered[0].score for _, covered in chosen]
    assert leading == sorted(leading, reverse=True)
