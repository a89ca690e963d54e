"""Planes of a breast from its shadows: filtered back-projection along the sweep.

Parallel planes of shift-and-add (Dobbins & Godfrey 2003, Phys Med Biol 48:R65) with the filters of Lauritsch & Haerer
1998 (Proc SPIE 3338:1127) as Mertelmeier et al. 2006 (Proc SPIE 6142:61420F) set them for the breast. What lies outside
of a plane is smeared along the sweep and not removed: the sweep is too short for that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft

from training.phantom.model import Float32Array, FloatArray
from training.phantom.projection import column_blocks, combine, displacements, farthest_rows, row_spectrum


def sweep(degrees: float, projections: int) -> FloatArray:
    """Angles of the tube, evenly over `degrees` in all, the middle one upright if their number is odd."""
    return np.linspace(-degrees / 2, degrees / 2, projections)


def plane_heights(thickness_mm: float, frame_mm: float) -> FloatArray:
    """Heights of the reconstructed planes above the breast support, in mm: the middles of slices `frame_mm` thick."""
    return (np.arange(max(1, round(thickness_mm / frame_mm)), dtype=np.float64) + 0.5) * frame_mm


def reconstruct(
    shadows: Float32Array,
    angles: Sequence[float] | FloatArray,
    pixel_mm: float,
    heights: FloatArray,
    thickness_mm: float,
    margin_rows: int = 0,
) -> Float32Array:
    """Attenuation in planes at `heights` (mm, evenly spaced) from measured line integrals.

    `shadows`: float32 (angles, rows + 2 margin_rows, columns), as `projection.project` gives them, `angles` in degrees.
    The result is float32 (planes, rows, columns), in 1/mm: the fine parts of what lies in the plane, the coarse ones of
    the whole height (no angle tells them apart), as a mean over `thickness_mm`.
    """
    tangents = np.tan(np.radians(np.asarray(angles, np.float64)))
    reach = farthest_rows(heights, tangents, pixel_mm)
    rows, columns = shadows.shape[1] - 2 * margin_rows, shadows.shape[2]
    length = scipy.fft.next_fast_len(shadows.shape[1] + 2 * reach, real=True)
    frequency = np.asarray(np.fft.rfftfreq(length, pixel_mm), np.float64)
    step = float(heights[1] - heights[0]) if len(heights) > 1 else thickness_mm
    filters = _filter(frequency, tangents, pixel_mm, thickness_mm, step)
    weights = filters[:, :, None] * displacements(frequency, tangents, heights).conj()
    back = np.ascontiguousarray(weights.transpose(0, 2, 1)).astype(np.complex64)
    shown = slice(reach + margin_rows, reach + margin_rows + rows)
    planes = np.empty((len(heights), rows, columns), np.float32)
    for block in column_blocks(columns):
        sums = combine(back, row_spectrum(_hann_across(shadows, block), reach, length))
        planes[:, :, block] = scipy.fft.irfft(sums, length, axis=1, workers=1)[:, shown]
    return planes


def _filter(
    frequency: FloatArray, tangents: FloatArray, pixel_mm: float, thickness_mm: float, step_mm: float
) -> FloatArray:
    """Multipliers (frequencies, angles) of the shadows before they are smeared back, for frequencies in 1/mm.

    A ramp undoes what the smearing gives coarse structures too much of. It starts where the sweep begins to tell two
    structures apart at all, half the height apart; below that all shadows agree and are averaged. Two Hann windows end
    it: the spectral filter along the sweep, which holds back the noise, and the slice thickness filter across the
    planes, so that what one plane shows is no finer in height than the planes' distance (Mertelmeier et al.).
    """
    spread = float(tangents.max() - tangents.min())
    ramp = np.hypot(1.0, frequency * thickness_mm * spread)
    spectral = _hann(frequency, 1.0 / (2.0 * pixel_mm))
    across = _hann(np.abs(frequency[:, None] * tangents), 1.0 / (2.0 * step_mm))
    path = 1.0 / np.hypot(1.0, tangents)
    filtered: FloatArray = (ramp * spectral)[:, None] * across * path / (len(tangents) * thickness_mm)
    return filtered


def _hann(frequency: FloatArray, end: float) -> FloatArray:
    window: FloatArray = np.where(frequency < end, 0.5 + 0.5 * np.cos(np.pi * np.minimum(frequency / end, 1.0)), 0.0)
    return window


def _hann_across(shadows: Float32Array, block: slice) -> Float32Array:
    """A block of columns under the spectral filter's window in the other direction, so that both are equally sharp.

    A Hann window that ends at half the sampling frequency is a kernel of three columns.
    """
    last = shadows.shape[2] - 1
    sides = shadows[:, :, np.clip(np.arange(block.start - 1, block.stop + 1), 0, last)]
    return np.asarray(0.5 * sides[:, :, 1:-1] + 0.25 * (sides[:, :, :-2] + sides[:, :, 2:]), np.float32)
