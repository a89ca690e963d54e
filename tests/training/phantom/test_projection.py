"""Shadows under a moving tube, against sums of layers that are displaced one by one."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from tests.support.handmade_breasts import handmade_breast
from training.phantom.model import Float32Array, Grid
from training.phantom.projection import project

GRID = Grid(pixel_mm=0.4, layer_mm=1.0)


def smooth_layers(seed: int = 0) -> Float32Array:
    rng = np.random.default_rng(seed)
    layers = np.zeros((20, 120, 30), np.float32)
    layers[:, 40:80, 5:25] = rng.random((20, 40, 20))
    return gaussian_filter(layers, (0, 2.5, 0))


def test_an_upright_beam_sums_the_layers() -> None:
    layers = np.random.default_rng(0).random((12, 90, 70)).astype(np.float32)
    assert np.abs(project(layers, GRID, [0.0])[0] - layers.sum(axis=0) * GRID.layer_mm).max() < 1e-4


@pytest.mark.parametrize("angle", [-25.0, -7.5, 3.0, 20.0])
def test_a_slant_beam_agrees_with_layers_displaced_one_by_one(angle: float) -> None:
    layers = smooth_layers()
    tangent = np.tan(np.radians(angle))
    rows = [-(k + 0.5) * GRID.layer_mm * tangent / GRID.pixel_mm for k in range(len(layers))]
    expected = sum(shift(layer, (moved, 0), order=3) for layer, moved in zip(layers, rows, strict=True))
    expected = expected * GRID.layer_mm / np.cos(np.radians(angle))
    assert np.abs(project(layers, GRID, [angle])[0] - expected).max() < 0.02 * expected.max()


def test_slant_rays_are_longer_by_the_cosine_and_lose_nothing() -> None:
    layers = smooth_layers()
    margin = 30
    for angle, shadow in zip((0.0, 10.0, 25.0), project(layers, GRID, [0.0, 10.0, 25.0], margin), strict=True):
        total = float(shadow.sum()) * np.cos(np.radians(angle))
        assert total == pytest.approx(float(layers.sum()) * GRID.layer_mm, rel=2e-3)


@pytest.mark.parametrize("height_mm", [2.5, 30.5])
def test_what_lies_high_is_displaced_by_its_height_times_the_tangent(height_mm: float) -> None:
    breast = handmade_breast(ball_mm=(height_mm, 60.2, 20.2), ball_radius_mm=1.0)
    without = handmade_breast()
    angles = [-20.0, 0.0, 12.0]
    smooth, background = (gaussian_filter(drawn.attenuation, (0, 2, 0)) for drawn in (breast, without))
    balls = project(smooth, breast.grid, angles) - project(background, breast.grid, angles)
    along = (np.arange(balls.shape[1]) + 0.5) * breast.grid.pixel_mm
    for angle, ball in zip(angles, balls, strict=True):
        centre = float((ball.sum(axis=1) * along).sum() / ball.sum())
        assert centre == pytest.approx(60.2 - height_mm * np.tan(np.radians(angle)), abs=0.1 * breast.grid.pixel_mm)


def test_tissue_at_the_images_edge_goes_on_beyond_it() -> None:
    layers = np.full((30, 50, 8), 0.05, np.float32)
    shadow = project(layers, GRID, [25.0], margin_rows=10)[0]
    assert np.abs(shadow * np.cos(np.radians(25.0)) - 1.5).max() < 2e-3
