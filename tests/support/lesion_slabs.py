"""Slabs of fat with lumps of glandular tissue, and lesions to put into them."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date

import numpy as np

from screening.exam import Laterality, View
from training.phantom.model import CompressedBreast, FloatArray, Grid, Lesion, LesionKind
from training.phantom.tissue import Tissue, attenuation

KEV = 20.0
MIDDLE_MM = (25.0, 0.0, 0.0)
"""A place in the breast frame that lies in the middle of the slab, in both views."""

HEIGHT_MM, ALONG_MM, OUT_MM = 30.0, 70.0, 50.0
GRID = Grid(0.4, 1.0)


def slab(view: View = View.CC, *, glandular: float = 0.0, lumps: float = 0.0, grid: Grid = GRID) -> CompressedBreast:
    """A slab with a mean share of `glandular` tissue, which varies by `lumps` (standard deviation) at all scales.

    The breast is squeezed to half its height and widened by the square root of two; MLO sees it turned by 45°.
    """
    shape = (int(HEIGHT_MM / grid.layer_mm), int(ALONG_MM / grid.pixel_mm), int(OUT_MM / grid.pixel_mm))
    share = np.clip(glandular + lumps * _power_law(shape, grid), 0, 1).astype(np.float32)
    fat, gland = attenuation(Tissue.ADIPOSE, KEV), attenuation(Tissue.GLANDULAR, KEV)
    angle = math.pi / 4 if view is View.MLO else 0.0
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])

    def to_view(points: FloatArray) -> FloatArray:
        across = points[:, 1:] @ turn.T
        along = ALONG_MM / 2 + math.sqrt(2) * across[:, 0]
        return np.stack([HEIGHT_MM / 2 + 0.5 * across[:, 1], along, math.sqrt(2) * (points[:, 0] - 25) + 25], axis=1)

    tissue = (fat + share * (gland - fat)).astype(np.float32)
    return CompressedBreast(Laterality.LEFT, view, KEV, grid, tissue, share, to_view)


def lesion(kind: LesionKind = LesionKind.SPICULATED_MASS, **changes: object) -> Lesion:
    """A malignant lesion in the middle of the slab, with changes."""
    usual = Lesion("L", Laterality.LEFT, kind, True, True, MIDDLE_MM, date(2015, 1, 1), 2.0, 150.0, 1.0, 7)
    return replace(usual, **changes)  # type: ignore[arg-type]


def _power_law(shape: tuple[int, int, int], grid: Grid) -> FloatArray:
    """Noise with a power spectrum that falls with the third power of frequency, of standard deviation 1."""
    steps = (grid.layer_mm, grid.pixel_mm, grid.pixel_mm)
    squares = np.meshgrid(*(np.fft.fftfreq(n, step) ** 2 for n, step in zip(shape, steps, strict=True)), indexing="ij")
    frequency = np.maximum(np.sqrt(squares[0] + squares[1] + squares[2]), 1 / ALONG_MM)
    white = np.random.default_rng(3).standard_normal(shape)
    noise = np.real(np.fft.ifftn(np.fft.fftn(white) / frequency**1.5))
    return np.asarray(noise / noise.std())
