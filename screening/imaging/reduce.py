"""Large images made small, fast."""

from __future__ import annotations

from typing import Any

import cv2
import numpy.typing as npt


def reduced(pixels: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Reduce an image (rows, columns) to `size` (columns, rows) by averaging areas.

    Where it can be halved exactly it is, as long as it stays as large as asked for: OpenCV averages whole pixels
    many times faster than parts of them (3328 × 2560 to 384 rows: 2 ms for 8 ms).
    """
    while all(side % 2 == 0 and side >= 2 * wanted for side, wanted in zip(pixels.shape[::-1], size, strict=True)):
        pixels = cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
