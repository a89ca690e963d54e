"""Planes from shadows: depth is resolved as far as the sweep reaches, and nothing moves."""

import numpy as np
import pytest

from tests.support.handmade_breasts import handmade_breast
from training.phantom.model import Float32Array, Grid
from training.phantom.projection import project
from training.phantom.reconstruction import plane_heights, reconstruct, sweep

GRID = Grid(pixel_mm=0.4)
ROWS, COLUMNS = 160, 60


def planes_of(layers: Float32Array, degrees: float, projections: int, pixel_mm: float = GRID.pixel_mm) -> Float32Array:
    angles = sweep(degrees, projections)
    margin = int(np.ceil(len(layers) * np.tan(np.radians(degrees / 2)) / pixel_mm))
    shadows = project(layers, Grid(pixel_mm=pixel_mm), list(angles), margin)
    heights = plane_heights(len(layers) * GRID.layer_mm, 1.0)
    return reconstruct(shadows, angles, pixel_mm, heights, len(layers) * GRID.layer_mm, margin)


def calcification(layer: int, row: int, column: int, thickness: int = 50) -> Float32Array:
    layers = np.full((thickness, ROWS, COLUMNS), 0.045, np.float32)
    layers[layer, row : row + 2, column : column + 2] = 1.0
    return layers


def spread_frames(planes: Float32Array, row: int, column: int) -> float:
    """Width at half the height of the artefact spread function, in frames."""
    contrast = planes[:, row, column] - np.median(planes, axis=(1, 2))
    return float(np.count_nonzero(contrast > 0.5 * contrast.max()))


def test_a_calcification_is_smeared_over_fewer_frames_by_a_wider_sweep() -> None:
    layers = calcification(25, 80, 30)
    widths = [spread_frames(planes_of(layers, degrees, 21), 80, 30) for degrees in (10.0, 15.0, 25.0, 50.0)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] >= 2 * widths[-1]
    assert widths[-1] >= 1


@pytest.mark.parametrize("degrees", [15.0, 50.0])
def test_out_of_its_plane_a_calcification_is_smeared_along_the_sweep_only(degrees: float) -> None:
    planes = planes_of(calcification(10, 80, 30), degrees, 25)
    away = planes[40] - np.median(planes[40])
    assert np.abs(away[:, 40:]).max() < 0.02 * np.abs(planes[10] - np.median(planes[10])).max()
    length_mm = np.count_nonzero(np.abs(away[:, 30]) > 0.2 * away[:, 30].max()) * GRID.pixel_mm
    assert length_mm == pytest.approx(30 * 2 * np.tan(np.radians(degrees / 2)), rel=0.35)


@pytest.mark.parametrize(("degrees", "projections"), [(15.0, 15), (25.0, 9), (50.0, 25)])
@pytest.mark.parametrize(("layer", "row", "column"), [(4, 30, 12), (25, 80, 30), (44, 131, 50)])
def test_a_calcification_is_sharpest_in_its_frame_and_in_its_place(
    degrees: float, projections: int, layer: int, row: int, column: int
) -> None:
    planes = planes_of(calcification(layer, row, column), degrees, projections)
    above = planes - np.median(planes, axis=(1, 2), keepdims=True)
    frame = int(np.argmax(above.max(axis=(1, 2))))
    assert abs(frame - layer) <= 1
    spot = np.maximum(above[frame] - 0.3 * above[frame].max(), 0.0)
    rows, columns = np.indices(spot.shape) + 0.5
    assert float((rows * spot).sum() / spot.sum()) == pytest.approx(row + 1, abs=0.5)
    assert float((columns * spot).sum() / spot.sum()) == pytest.approx(column + 1, abs=0.5)


@pytest.mark.parametrize(("degrees", "projections"), [(15.0, 15), (50.0, 25)])
def test_an_even_breast_gets_its_attenuation_back_in_every_plane(degrees: float, projections: int) -> None:
    planes = planes_of(np.full((40, ROWS, COLUMNS), 0.05, np.float32), degrees, projections)
    assert np.abs(planes / 0.05 - 1.0).max() < 5e-3


def test_a_mass_stands_out_more_in_its_frame_than_in_the_projection() -> None:
    def contrast(image: Float32Array) -> float:
        row, column = 150, 50
        return float(image[row - 3 : row + 4, column - 3 : column + 4].mean() / np.median(image[100:200, 20:80]) - 1)

    breast = handmade_breast(ball_mm=(20.5, 60.2, 20.2), ball_radius_mm=3.0, ball=0.085, blobs=0)
    planes = planes_of(breast.attenuation, 50.0, 25)
    assert contrast(planes[20]) > 2 * contrast(breast.attenuation.sum(axis=0)) > 0
    assert contrast(planes[20]) > 2 * contrast(planes[5])
    assert contrast(planes[20]) > 2 * contrast(planes[35])


def test_frames_lie_in_the_middle_of_their_slices() -> None:
    assert plane_heights(4.0, 1.0).tolist() == [0.5, 1.5, 2.5, 3.5]
    assert plane_heights(0.4, 1.0).tolist() == [0.5]


def test_the_tube_stands_upright_in_the_middle_of_the_sweep() -> None:
    angles = sweep(15.0, 15)
    assert angles[7] == 0
    assert angles[-1] - angles[0] == pytest.approx(15.0)
