"""What a detector counts of the shadow that falls on it: primary quanta, scatter, noise, and its own blur."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.phantom.model import BoolArray, Float32Array

_SCATTER_STEP_MM = 4.0
"""Pixel of the map on which scatter is spread: nothing in it is finer."""
_SCATTER_RANGE_MM = 12.0
"""Distance over which the spread of scatter falls to 1/e."""
_THICKEST_CM = 10.0
"""Thickness up to which Boone & Cooper's fit (made for 2 to 8 cm) is carried on; it has a pole at 14 cm."""
_ELECTRONIC_NOISE = 5.0
"""Standard deviation of a read-out in quanta a pixel; it counts where a dose is split over many projections."""
_FULL_THICKNESS = 0.9
"""Share of the greatest thickness from which a place is not the breast's margin."""


@dataclass(frozen=True)
class Exposure:
    """`open_field`: quanta a pixel where nothing is in the way. `scatter_to_primary`: behind 50 mm of breast, after the
    anti-scatter grid if there is one. `blur_mm`: standard deviation of the detector's point spread."""

    open_field: float
    scatter_to_primary: float
    pixel_mm: float
    blur_mm: float


def scatter_to_primary(thickness_mm: Float32Array, diameter_mm: float) -> Float32Array:
    """Scatter to primary ratio without a grid behind so much breast, of a semicircle of `diameter_mm` on the image.

    Boone & Cooper 2000 (Scatter/primary in mammography: comprehensive results, Med Phys 27:2408), their fit to Monte
    Carlo results for 2 to 8 cm and 3 to 30 cm; energy and composition hardly matter. Nothing scatters where nothing is.
    """
    thickness = np.clip(thickness_mm / 10.0, 1e-3, _THICKEST_CM)
    diameter = np.clip(diameter_mm / 10.0, 3.0, 30.0)
    ratio = 1.0 / (-2.35452817 + 22.3960981 * diameter**-1.5 + 8.85064260 * thickness**-0.5)
    return np.where(thickness_mm > 0, ratio, 0.0).astype(np.float32)


def scatter(primary: Float32Array, thickness_mm: Float32Array, exposure: Exposure) -> Float32Array:
    """Scattered quanta a pixel: what each place scatters, spread by a broad kernel (Boone & Cooper's convolution).

    Only what has gone through tissue scatters, so the open field around a breast adds nothing. Beyond the image all
    goes on as at its edge: breast at the chest wall, air elsewhere.
    """
    area = float(np.count_nonzero(thickness_mm)) * exposure.pixel_mm**2
    diameter = float(np.sqrt(8.0 * area / np.pi))
    usual = float(scatter_to_primary(np.array([50.0], np.float32), diameter)[0])
    source = primary * scatter_to_primary(thickness_mm, diameter) * np.float32(exposure.scatter_to_primary / usual)
    rows, columns = source.shape
    small = (
        max(1, round(columns * exposure.pixel_mm / _SCATTER_STEP_MM)),
        max(1, round(rows * exposure.pixel_mm / _SCATTER_STEP_MM)),
    )
    coarse = cv2.resize(source, small, interpolation=cv2.INTER_AREA)
    spread = cv2.filter2D(coarse, cv2.CV_32F, _scatter_kernel(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(spread, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def automatic_exposure(depth: Float32Array, thickness_mm: Float32Array, quanta: float) -> float:
    """Open-field quanta a pixel that leave `quanta` a pixel (median) behind the breast, its margin apart."""
    full = thickness_mm >= _FULL_THICKNESS * thickness_mm.max()
    return quanta / float(np.exp(-np.median(depth[full])))


def counted(
    depth: Float32Array, thickness_mm: Float32Array, exposure: Exposure, rng: np.random.Generator
) -> Float32Array:
    """Counts, float32 (rows, columns), in quanta, behind line integrals `depth` (Beer-Lambert); they may be negative.

    Quanta arrive by chance (Poisson) and are spread by the detector afterwards, so its blur smooths the noise as well;
    the noise of the electronics is added to each pixel.
    """
    primary = np.exp(-depth) * np.float32(exposure.open_field)
    expected = primary + scatter(primary, thickness_mm, exposure)
    quanta = rng.poisson(expected).astype(np.float32)
    blurred = cv2.GaussianBlur(quanta, (0, 0), exposure.blur_mm / exposure.pixel_mm, borderType=cv2.BORDER_REPLICATE)
    noise = rng.standard_normal(depth.shape, dtype=np.float32)
    return np.asarray(blurred + np.float32(_ELECTRONIC_NOISE) * noise, np.float32)


def absorption(counts: Float32Array, open_field: float) -> Float32Array:
    """Logarithm of the open field over the counts: the line integral as it was measured, less what scatter hides."""
    return np.asarray(np.log(open_field / np.maximum(counts, 1.0)), np.float32)


def thickness(attenuation: Float32Array, layer_mm: float) -> Float32Array:
    """Tissue above each place of the detector, in mm: float32 (rows, columns)."""
    tissue: BoolArray = attenuation > 0
    return np.asarray(tissue.sum(axis=0, dtype=np.float32) * np.float32(layer_mm), np.float32)


def _scatter_kernel() -> Float32Array:
    reach = int(np.ceil(4 * _SCATTER_RANGE_MM / _SCATTER_STEP_MM))
    steps = np.arange(-reach, reach + 1) * _SCATTER_STEP_MM
    kernel = np.exp(-np.hypot(steps[:, None], steps) / _SCATTER_RANGE_MM)
    return np.asarray(kernel / kernel.sum(), np.float32)
