"""The breast under the paddle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage

from screening.exam import Laterality, View
from training.phantom.compression import compressed, fine_planes
from training.phantom.model import CompressedBreast, Float32Array, FloatArray, Grid, Woman
from training.phantom.population import draw_woman
from training.phantom.positioning import position
from training.phantom.texture import spectral_exponent
from training.phantom.tissue import Tissue, attenuation

COARSE = Grid(pixel_mm=1.0, layer_mm=1.0)
VIEWS = [View.CC, View.MLO]


@pytest.fixture(scope="module")
def woman() -> Woman:
    return replace(draw_woman(7, 1), radius_mm=55.0, depth_mm=62.0, compressed_mm={View.CC: 46.0, View.MLO: 48.0})


def points_inside(woman: Woman, count: int, margin: float = 1.0) -> FloatArray:
    """Points spread evenly over the uncompressed breast, (n, 3) in the breast frame."""
    cube = np.random.default_rng(0).uniform([0, -1, -1], [1, 1, 1], (count, 3))
    ball = cube[np.linalg.norm(cube, axis=1) < margin]
    return np.asarray(ball * [woman.depth_mm, woman.radius_mm, woman.radius_mm])


def press(woman: Woman, view: View = View.CC, round_number: int = 0, grid: Grid = COARSE) -> CompressedBreast:
    return compressed(woman, Laterality.LEFT, view, round_number, 20.0, grid)


def sample(breast: CompressedBreast, points: FloatArray) -> FloatArray:
    """Glandular share, slightly smoothed, at points of the breast frame."""
    grid = breast.grid
    indices = breast.to_view(points) / [grid.layer_mm, grid.pixel_mm, grid.pixel_mm] - 0.5
    smooth = scipy.ndimage.gaussian_filter(breast.glandular, 1.0)
    return np.asarray(scipy.ndimage.map_coordinates(smooth, indices.T, order=1))


@pytest.mark.parametrize("view", VIEWS)
def test_mapping_into_the_view_and_back_returns_the_point(woman: Woman, view: View) -> None:
    positioned = position(woman, Laterality.LEFT, view, 1, COARSE)
    points = points_inside(woman, 2000, margin=0.97)
    assert np.abs(positioned.to_breast(positioned.to_view(points)) - points).max() < 0.05


def test_flow_keeps_volume_everywhere(woman: Woman) -> None:
    """Points that fill the breast evenly before fill it evenly after: boxes of the view get points by their volume."""
    positioned = position(woman, Laterality.LEFT, View.CC, 0, COARSE)
    points = points_inside(woman, 400_000)
    after = positioned.to_view(points)
    volume_of_point = 2 / 3 * np.pi * woman.radius_mm**2 * woman.depth_mm / len(points)
    middle = positioned.pose.top_mm
    for along in (-30.0, -8.0, 8.0, 30.0):
        for out in (10.0, 30.0, 48.0):
            low = np.array([6.0, middle + along - 6, out - 6])
            high = np.array([positioned.outline.thickness_mm - 6, middle + along + 6, out + 6])
            corners = np.array([[along - 6, out - 6], [along + 6, out + 6], [along - 6, out + 6], [along + 6, out - 6]])
            edge = positioned.edge(middle + corners[:, 0], corners[:, 1])
            if edge.min() < positioned.outline.thickness_mm / 2:
                continue  # the box would reach into the round edge
            found = ((after > low) & (after < high)).all(axis=1).sum() * volume_of_point
            assert found == pytest.approx(np.prod(high - low), rel=0.15)


def test_volume_is_the_uncompressed_breasts(woman: Woman) -> None:
    breast = press(woman)
    positioned = position(woman, Laterality.LEFT, View.CC, 0, COARSE)
    cut_off = positioned.pose.out_shift_mm * 2 * positioned.outline.up_mm * breast.thickness_mm
    before = 2 / 3 * np.pi * woman.radius_mm**2 * woman.depth_mm
    assert (breast.attenuation > 0).sum() == pytest.approx(before - cut_off, rel=0.06)


@pytest.mark.parametrize("view", VIEWS)
def test_middle_has_the_paddles_height_and_the_edge_is_round(woman: Woman, view: View) -> None:
    breast = press(woman, view)
    height = (breast.attenuation > 0).sum(axis=0)
    assert breast.thickness_mm == pytest.approx(woman.compressed_mm[view], rel=0.12)
    row = height[height.shape[0] // 2]
    assert row[5] == breast.thickness_mm
    edge = np.flatnonzero(row)[-1]
    fall = row[edge - 18 : edge - 8]  # inwards of the nipple
    assert (np.diff(fall.astype(int)) <= 0).all()
    assert fall[-1] < 0.9 * breast.thickness_mm


@pytest.mark.parametrize("view", VIEWS)
def test_air_surrounds_the_breast_but_for_the_chest_wall(woman: Woman, view: View) -> None:
    shadow = (press(woman, view).attenuation > 0).any(axis=0)
    assert shadow[:, 0].mean() > 0.7
    assert not shadow[:, -1].any()
    assert not shadow[-1].any()
    assert shadow[0].any() == (view is View.MLO), "the axilla runs out of the image's upper edge in MLO alone"


def test_skin_covers_the_breast(woman: Woman) -> None:
    breast = press(woman)
    top = breast.attenuation[-1]
    middle = top[top.shape[0] // 2, 10:40]
    assert middle == pytest.approx(attenuation(Tissue.SKIN, 20.0), rel=1e-4)
    assert not breast.glandular[-1].any()


def test_pectoral_muscle_enters_at_the_upper_chest_wall_in_mlo(woman: Woman) -> None:
    fat, muscle = attenuation(Tissue.ADIPOSE, 20.0), attenuation(Tissue.MUSCLE, 20.0)
    breast = press(woman, View.MLO)
    middle = breast.attenuation[breast.attenuation.shape[0] // 2]
    assert middle[2:8, 2:8].mean() > 0.75 * muscle + 0.25 * fat
    assert not breast.glandular[breast.attenuation.shape[0] // 2, 2:8, 2:8].any()
    below = np.flatnonzero(middle[:, 0])[-1]
    assert middle[below - 12 : below - 6, 2:8].mean() < 0.5 * (fat + muscle)


def test_nipple_stands_out_of_the_skin(woman: Woman) -> None:
    shadow = (press(woman).attenuation > 0).any(axis=0)
    reach = shadow.sum(axis=1)
    tip = int(np.argmax(reach))
    assert reach[tip] > np.delete(reach, range(tip - 7, tip + 8)).max() + 2


@pytest.mark.parametrize("view", VIEWS)
def test_she_looks_like_herself_in_the_next_round(woman: Woman, view: View) -> None:
    """Tissue is found again where the mapping says; another woman's is not there, and the images are not the same."""
    points = points_inside(woman, 6000, margin=0.8)
    points = points[points[:, 0] > 0.35 * woman.depth_mm]
    first, second = press(woman, view, 0), press(woman, view, 1)
    other = press(replace(woman, index=2), view, 1)
    before = sample(first, points)
    assert np.corrcoef(before, sample(second, points))[0, 1] > 0.85
    assert np.corrcoef(before, sample(other, points))[0, 1] < 0.6
    moved = np.linalg.norm(first.to_view(points) - second.to_view(points), axis=1)
    assert 0.3 < np.median(moved) < 15


def test_the_same_lesion_site_shows_the_same_tissue_in_both_views(woman: Woman) -> None:
    points = points_inside(woman, 6000, margin=0.8)
    points = points[points[:, 0] > 0.45 * woman.depth_mm]
    assert np.corrcoef(sample(press(woman), points), sample(press(woman, View.MLO), points))[0, 1] > 0.85


def test_fine_texture_moves_with_the_breast(woman: Woman) -> None:
    """Between rounds, the finest detail matches once the repositioning is undone, and not before."""
    grid, shape = Grid(pixel_mm=0.4), (300, 200)
    first, second = (position(woman, Laterality.LEFT, View.CC, number, grid) for number in (0, 1))
    image, other = (
        fine_planes(woman, Laterality.LEFT, View.CC, positioned, shape, grid)[0] for positioned in (first, second)
    )
    along, out = np.meshgrid(np.arange(30, 90, 0.4), np.arange(12, 60, 0.4), indexing="ij")
    plane_out, plane_up = first.plane(along, out)
    cosine, sine = np.cos(second.pose.tilt), np.sin(second.pose.tilt)
    moved_out = cosine * plane_out - sine * plane_up - second.pose.out_shift_mm
    moved_along = second.pose.top_mm - (sine * plane_out + cosine * plane_up)

    def values(image: Float32Array, along: FloatArray, out: FloatArray) -> FloatArray:
        return np.asarray(scipy.ndimage.map_coordinates(image, [along / 0.4 - 0.5, out / 0.4 - 0.5], order=1)).ravel()

    here = values(image, along, out)
    assert np.corrcoef(here, values(other, moved_along, moved_out))[0, 1] > 0.85
    assert np.corrcoef(here, values(other, along, out))[0, 1] < 0.3


@pytest.mark.parametrize("index", [1, 2, 4])
def test_projected_tissue_has_the_spectrum_of_mammograms(index: int) -> None:
    """Burgess (2001): exponents of mammograms lie around 3."""
    grid = Grid(pixel_mm=0.4, layer_mm=1.0)
    breast = press(draw_woman(7, index), View.CC, 0, grid)
    height = (breast.attenuation > 0).sum(axis=0)
    inside = height >= breast.attenuation.shape[0] - 2
    exponent = spectral_exponent(breast.attenuation.sum(axis=0), inside, grid.pixel_mm)
    assert 2.7 <= exponent <= 3.3


def test_dense_breasts_absorb_more(woman: Woman) -> None:
    fatty, dense = (press(replace(woman, glandularity=share)) for share in (0.06, 0.4))
    assert dense.glandular.sum() > 4 * fatty.glandular.sum()
    assert dense.attenuation.sum() > 1.1 * fatty.attenuation.sum()


def test_same_seed_gives_the_same_bytes_in_any_order(woman: Woman) -> None:
    grid = Grid(pixel_mm=2.0, layer_mm=2.0)
    first = press(woman, View.MLO, 2, grid)
    press(replace(woman, index=3), View.CC, 0, grid)
    press(woman, View.CC, 1, grid)
    again = press(woman, View.MLO, 2, grid)
    assert first.attenuation.tobytes() == again.attenuation.tobytes()
    assert first.glandular.tobytes() == again.glandular.tobytes()


def test_values_are_those_of_tissues(woman: Woman) -> None:
    breast = press(woman, View.MLO)
    assert breast.attenuation.dtype == breast.glandular.dtype == np.float32
    assert breast.attenuation.shape == breast.glandular.shape
    densest = max(attenuation(tissue, 20.0) for tissue in (Tissue.SKIN, Tissue.MUSCLE))
    assert breast.attenuation.min() == 0
    assert breast.attenuation.max() <= densest * 1.0001
    assert ((breast.glandular >= 0) & (breast.glandular <= 1)).all()
    assert not breast.glandular[breast.attenuation == 0].any()


def test_other_views_are_refused(woman: Woman) -> None:
    with pytest.raises(ValueError, match="CC and MLO"):
        compressed(woman, Laterality.LEFT, View.ML, 0, 20.0, COARSE)
