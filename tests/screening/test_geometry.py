"""The mapping between source and prepared pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.imaging.geometry import Geometry

sides = st.integers(1, 6000)
offsets = st.integers(0, 3000)
prepared_sides = st.integers(1, 1200)
geometries = st.builds(
    Geometry, offsets, offsets, sides, sides, prepared_sides, prepared_sides, st.booleans(), st.booleans()
)
shares = st.floats(0, 1)


@given(geometries, shares, shares)
def test_a_point_comes_back_from_source_and_from_prepared(geometry: Geometry, x: float, y: float) -> None:
    prepared = np.array([x * geometry.columns - 0.5, y * geometry.rows - 0.5])
    np.testing.assert_allclose(geometry.to_prepared(geometry.to_source(prepared)), prepared, atol=1e-6)
    source = np.array([geometry.x0 + x * geometry.width - 0.5, geometry.y0 + y * geometry.height - 0.5])
    np.testing.assert_allclose(geometry.to_source(geometry.to_prepared(source)), source, atol=1e-6)


@given(geometries, shares, shares, shares, shares)
def test_region_corners_come_back_far_within_half_a_source_pixel(
    geometry: Geometry, x: float, y: float, width: float, height: float
) -> None:
    left, top = geometry.x0 + x * geometry.width, geometry.y0 + y * geometry.height
    right = left + width * (geometry.x0 + geometry.width - left)
    bottom = top + height * (geometry.y0 + geometry.height - top)
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    back = geometry.to_source(geometry.to_prepared(corners))
    assert back.shape == corners.shape
    assert np.abs(back - corners).max() < 1e-6


@given(geometries)
def test_the_prepared_image_covers_the_crop_from_edge_to_edge(geometry: Geometry) -> None:
    corners = [[-0.5, -0.5], [geometry.columns - 0.5, geometry.rows - 0.5]]
    found = np.sort(geometry.to_source(corners), axis=0)
    first, size = np.array([geometry.x0, geometry.y0]) - 0.5, np.array([geometry.width, geometry.height])
    np.testing.assert_allclose(found, [first, first + size], atol=1e-6)


@given(geometries, st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_lengths_grow_by_the_scale_and_directions_follow_the_turns(geometry: Geometry, x: float, y: float) -> None:
    point = np.array([x * geometry.columns, y * geometry.rows])
    step = geometry.to_source(point + 1) - geometry.to_source(point)
    signs = np.where([geometry.flip_x, geometry.flip_y], -1, 1)
    np.testing.assert_allclose(step, signs * np.array(geometry.scale), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("flip_x", [False, True])
@pytest.mark.parametrize("flip_y", [False, True])
@pytest.mark.parametrize("factor", [1, 3, 8])
def test_a_prepared_pixel_maps_to_the_mean_place_of_the_source_pixels_it_averages(
    flip_x: bool, flip_y: bool, factor: int
) -> None:
    # The peer: images whose values are their own coordinates, cut, turned and averaged as pixels are.
    geometry = Geometry(5, 9, 12 * factor, 7 * factor, 12, 7, flip_x, flip_y)
    y, x = np.mgrid[:80, :120].astype(np.float32)
    places = []
    for coordinate in (x, y):
        crop = coordinate[geometry.y0 : geometry.y0 + geometry.height, geometry.x0 : geometry.x0 + geometry.width]
        crop = crop[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
        places.append(cv2.resize(np.ascontiguousarray(crop), (12, 7), interpolation=cv2.INTER_AREA))
    rows, columns = np.mgrid[:7, :12]
    np.testing.assert_allclose(geometry.to_source(np.stack([columns, rows], -1)), np.stack(places, -1), atol=1e-4)
