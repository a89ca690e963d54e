"""Shadows of a compressed breast under a moving x-ray tube.

The beam is of one effective energy and parallel for each angle of the tube, where a real one diverges from a focal spot
some 650 mm away: magnification (at most 10 %) and the slant at the image's far edge are left out. What is kept is what
depth resolution comes from: a layer at height h is seen displaced by h tan(angle) along the chest wall, and rays are
longer by 1 / cos(angle). That distance is our choice, typical of machines, and stands in the headers; it is the only
figure of a machine here: angles and spacings are those of `styles`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.fft
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from training.phantom.model import Float32Array, FloatArray, Grid

Complex64Array = npt.NDArray[np.complex64]

_COLUMNS_AT_ONCE = 64
"""Columns transformed together: they bound the memory, and a block stays in the processor's cache."""
_SPARE_ROWS = 8
"""Rows beyond the farthest displacement, where what wraps around dies out."""


def project(layers: Float32Array, grid: Grid, angles: Sequence[float], margin_rows: int = 0) -> Float32Array:
    """Line integrals of the attenuation through a stack of layers, by parallel beams.

    `layers`: float32 (layers, rows, columns) in 1/mm. `angles`: of the tube from the vertical, in degrees, positive
    towards the last row, so that the shadow of what lies high moves towards row 0. The result is float32 (angles, rows
    + 2 margin_rows, columns), without unit, on the plane of the breast support; row `margin_rows` lies under row 0.
    Beyond the first and the last row the breast is taken to go on as it is there (air in CC, the axilla in MLO).

    Displacement by any fraction of a pixel is exact for each spatial frequency along the rows, so all angles of a
    frequency are one small matrix product over the layers; a layer's own thickness blurs as far as the beam is slant.
    """
    tangents = np.tan(np.radians(np.asarray(angles, np.float64)))
    heights = (np.arange(len(layers), dtype=np.float64) + 0.5) * grid.layer_mm
    reach = margin_rows + farthest_rows(heights, tangents, grid.pixel_mm)
    rows, columns = layers.shape[1:]
    length = scipy.fft.next_fast_len(rows + 2 * reach, real=True)
    frequency = np.asarray(np.fft.rfftfreq(length, grid.pixel_mm), np.float64)
    path = grid.layer_mm * np.hypot(1.0, tangents) * np.sinc(frequency[:, None] * grid.layer_mm * tangents)
    weights = (path[:, :, None] * displacements(frequency, tangents, heights)).astype(np.complex64)
    shown = slice(reach - margin_rows, reach + rows + margin_rows)
    shadows = np.empty((len(tangents), rows + 2 * margin_rows, columns), np.float32)
    for block in column_blocks(columns):
        sums = combine(weights, row_spectrum(layers[:, :, block], reach, length))
        shadows[:, :, block] = scipy.fft.irfft(sums, length, axis=1, workers=1)[:, shown]
    return np.maximum(shadows, 0.0, out=shadows)


def farthest_rows(heights: FloatArray, tangents: FloatArray, pixel_mm: float) -> int:
    """Rows by which the highest layer is displaced at the steepest angle, and a few more."""
    return int(np.ceil(heights.max() * np.abs(tangents).max() / pixel_mm)) + _SPARE_ROWS


def displacements(frequency: FloatArray, tangents: FloatArray, heights: FloatArray) -> npt.NDArray[np.complex128]:
    """Fourier multipliers, complex (frequencies, angles, heights), that move a layer to where its shadow falls.

    The conjugate moves the shadow back, which is what a reconstruction does.
    """
    multipliers: npt.NDArray[np.complex128] = np.exp(
        2j * np.pi * frequency[:, None, None] * tangents[:, None] * heights
    )
    return multipliers


def column_blocks(columns: int) -> list[slice]:
    """All columns, a cache-sized block at a time."""
    return [slice(start, min(start + _COLUMNS_AT_ONCE, columns)) for start in range(0, columns, _COLUMNS_AT_ONCE)]


def row_spectrum(images: Float32Array, reach: int, length: int) -> Complex64Array:
    """Spectrum along the rows of (n, rows, columns), which go on for `reach` rows before and the rest of `length` after
    as their first and last row; complex64 (n, frequencies, columns)."""
    after = length - images.shape[1] - reach
    padded = np.pad(images, ((0, 0), (reach, after), (0, 0)), mode="edge")
    spectrum: Complex64Array = scipy.fft.rfft(padded, axis=1, workers=1)
    return spectrum


def combine(weights: Complex64Array, spectrum: Complex64Array) -> Complex64Array:
    """Weighted sums of images for each frequency: weights (frequencies, m, n), spectrum (n, frequencies, columns).

    The result is (m, frequencies, columns). One thread, so that the order of the sums, and with it the last bit, does
    not depend on the machine's cores.
    """
    with threadpool_limits(1, user_api="blas"):
        sums: Complex64Array = np.matmul(weights, spectrum.transpose(1, 0, 2)).transpose(1, 0, 2)
    return sums
