"""Compressed breasts drawn by hand for tests of the simulated machines: fat, glandular blobs, a small dense ball."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from screening.exam import Laterality, View
from training.phantom.model import CompressedBreast, Grid

FAT, GLAND, CALCIUM = 0.045, 0.08, 1.2
"""Linear attenuation at about 20 keV, in 1/mm."""


def handmade_breast(
    shape: tuple[int, int, int] = (40, 300, 140),
    *,
    grid: Grid | None = None,
    ball_mm: tuple[float, float, float] | None = None,
    ball_radius_mm: float = 0.5,
    ball: float = CALCIUM,
    blobs: int = 40,
    seed: int = 0,
) -> CompressedBreast:
    """A half-disc of fat with a round margin, glandular blobs and, where asked for, a ball at (height, along, out)."""
    grid = grid or Grid(pixel_mm=0.4)
    height, along, out = (
        (np.arange(n) + 0.5) * size
        for n, size in zip(shape, (grid.layer_mm, grid.pixel_mm, grid.pixel_mm), strict=True)
    )
    thick, wide, deep = shape[0] * grid.layer_mm, shape[1] * grid.pixel_mm, shape[2] * grid.pixel_mm
    across = np.hypot((along[:, None] - wide / 2) / (0.46 * wide), out / (0.9 * deep))
    inside = across**6 + (np.abs(height[:, None, None] - thick / 2) / (thick / 2)) ** 2 <= 1.0
    rng = np.random.default_rng(seed)
    glandular = np.zeros(shape, np.float32)
    for _ in range(blobs):
        centre = rng.uniform(0.25, 0.75, 3) * (thick, wide, deep)
        glandular[_ball((height, along, out), centre, rng.uniform(2, 7))] = 1.0
    glandular *= inside
    attenuation = (inside * (FAT + (GLAND - FAT) * glandular)).astype(np.float32)
    if ball_mm is not None:
        attenuation[_ball((height, along, out), np.array(ball_mm), ball_radius_mm)] = ball
    return CompressedBreast(Laterality.LEFT, View.CC, 20.0, grid, attenuation, glandular, lambda points: points)


def _ball(
    axes: tuple[npt.NDArray[np.float64], ...], centre: npt.NDArray[np.float64], radius: float
) -> npt.NDArray[np.bool_]:
    height, along, out = (axis - middle for axis, middle in zip(axes, centre, strict=True))
    inside: npt.NDArray[np.bool_] = height[:, None, None] ** 2 + along[:, None] ** 2 + out**2 <= radius**2
    return inside
