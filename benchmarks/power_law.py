"""How fast the power spectrum of breast tissue falls with frequency: the exponent beta in P(f) = B / f^beta.

Burgess (Med Phys 1999;26:1375; with Jacobson and Judy 2001;28:419) found about 3 in mammograms by the steps taken here:
square regions inside of the breast, a window, the two-dimensional Fourier transform, the mean over rings of equal
frequency, a straight line in log-log.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

REGION_MM = 25.6
BAND = (0.15, 0.7)
"""Cycles per mm between which the line is fitted: from four periods in a region, where the window's own spectrum does
not reach, up to where noise and, in reduced images, the reduction's blur begin."""
PUBLISHED = (2.7, 3.3)
"""The range about the published value that simulated images are held to."""

RIM_MM = 5.0
"""Left out along the skin, where the breast thins out."""


def exponent(image: FloatArray, inside: BoolArray, pixel_mm: float) -> float | None:
    """The exponent beta of one image's tissue; None where no region of `REGION_MM` lies inside of the breast.

    `image`: (rows, columns), in any linear scale of brightness. `inside`: bool (rows, columns), the breast. `pixel_mm`:
    square pixels that are means over their area, whose own blur is divided out.
    """
    side = round(REGION_MM / pixel_mm)
    regions = [image[row : row + side, column : column + side] for row, column in _regions(inside, side, pixel_mm)]
    if not regions:
        return None
    return _slope(np.mean([_spectrum(region) for region in regions], axis=0), pixel_mm)


def _regions(inside: BoolArray, side: int, pixel_mm: float) -> list[tuple[int, int]]:
    """Upper left corners of squares, half overlapping, that lie inside of the breast without its rim."""
    # The image's own border is no skin line, so the breast is taken to go on beyond it.
    padded = np.pad(inside, 1, constant_values=True).astype(np.uint8)
    core = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1] * pixel_mm > RIM_MM
    total = np.pad(core.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    step = max(1, side // 2)
    rows, columns = (range(0, size - side + 1, step) for size in core.shape)
    found = [(row, column) for row in rows for column in columns]
    return [
        (row, column)
        for row, column in found
        if total[row + side, column + side] - total[row, column + side] - total[row + side, column] + total[row, column]
        == side * side
    ]


def _spectrum(region: FloatArray) -> FloatArray:
    """Windowed periodogram (side, side), of the region without its mean plane: a slope would leak into all bins."""
    side = len(region)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    flat = region - region.mean()
    flat = flat - x * (flat * x).sum() / (x * x).sum() - y * (flat * y).sum() / (y * y).sum()
    window = np.hanning(side + 2)[1:-1]
    return np.asarray(np.abs(np.fft.fft2(flat * np.outer(window, window))) ** 2)


def _slope(power: FloatArray, pixel_mm: float) -> float | None:
    """Minus the slope of the rings' mean power within the band; None for an image without any structure."""
    side = len(power)
    frequency = np.fft.fftfreq(side, pixel_mm)
    aperture = np.outer(np.sinc(frequency * pixel_mm), np.sinc(frequency * pixel_mm)) ** 2
    radius = np.hypot(*np.meshgrid(frequency, frequency))
    ring = np.round(radius * side * pixel_mm).astype(np.int64)
    count = np.bincount(ring.ravel())
    mean = np.bincount(ring.ravel(), (power / aperture).ravel()) / np.maximum(count, 1)
    centre = np.bincount(ring.ravel(), radius.ravel()) / np.maximum(count, 1)
    used = (centre >= BAND[0]) & (centre <= BAND[1]) & (count > 0)
    if not (mean[used] > 0).all():
        return None
    return float(-np.polyfit(np.log(centre[used]), np.log(mean[used]), 1)[0])
