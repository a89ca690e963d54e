"""What is measured on a prepared image, in training as at a site: how large the breast is, how bright, how fine.

Intensities are scaled by each breast's own percentiles, so that what remains to differ between machines is the shape
of the grey scale (its look-up table) and the fine structure (its sharpening and its noise).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Measures:
    """Measures of one prepared image.

    `breast_area_cm2`: of the breast in the image. `brightness`, `contrast`: mean and standard deviation of the breast's
    pixels on the prepared scale, 0 to 1. `detail`: root mean square of the difference between neighbouring pixels'
    mean and the pixel (a Laplacian) within the breast, over `contrast`; without unit.
    """

    breast_area_cm2: float
    brightness: float
    contrast: float
    detail: float


NAMES = tuple(field.name for field in fields(Measures))


def measure(pixels: npt.NDArray[np.float32], spacing_mm: float) -> Measures:
    """Measure a prepared image: float32 (rows, columns) in [0, 1], 0 outside the breast; pixels of `spacing_mm`.

    Raises ValueError for an image without breast, which preparation does not give.
    """
    inside = pixels > 0
    if not inside.any():
        raise ValueError("the prepared image has no breast")
    values = pixels[inside].astype(np.float64)
    # The skin line is a step of the mask and not of the breast: it has no say in the detail.
    core = cv2.erode(np.pad(inside, 1).astype(np.uint8), np.ones((5, 5), np.uint8))[1:-1, 1:-1] > 0
    difference = cv2.Laplacian(pixels, cv2.CV_32F)[core if core.any() else inside].astype(np.float64) / 4
    contrast = float(values.std())
    return Measures(
        breast_area_cm2=float(inside.sum()) * spacing_mm**2 / 100,
        brightness=float(values.mean()),
        contrast=contrast,
        detail=float(np.sqrt(np.mean(difference**2))) / max(contrast, 1e-6),
    )
