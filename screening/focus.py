"""In which of a volume's frames a finding shows best: where it stands out most from what surrounds it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def best_place(
    previews: npt.NDArray[np.uint8], contour: npt.NDArray[np.float64], scale: tuple[float, float], near: tuple[int, int]
) -> int:
    """The place from `near[0]` to `near[1]`, inclusive, with the greatest contrast of a contour's inside.

    `previews`: uint8 (places, rows, columns). `contour`: float (n, 2), (column, row) in source pixels; `scale`: preview
    pixels per source pixel, (column, row). Out of its plane a finding is blurred in tomosynthesis, and paler. Contrast
    is the mean inside minus that of a rim about half as wide, averaged over three frames; of equals, the place nearest
    to the middle counts. The slabs bound where to look, as what is bright there may be something else elsewhere.
    """
    first, last = near
    points = contour * np.array(scale)
    rim = max(2, round(float(np.ptp(points, axis=0).mean()) / 4))
    rows, columns = previews.shape[1:]
    low = np.floor(points.min(axis=0)).astype(int) - rim
    high = np.ceil(points.max(axis=0)).astype(int) + rim
    x0, y0, x1, y1 = max(0, low[0]), max(0, low[1]), min(columns, high[0]), min(rows, high[1])
    inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(inside, [np.rint(points - [x0, y0]).astype(np.int32)], 1)
    around = cv2.dilate(inside, np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)) - inside
    middle = (first + last) // 2
    if not inside.any() or not around.any():
        return middle
    # A frame beyond either end, so that the average of three has neighbours wherever there are any.
    low_place, high_place = max(0, first - 1), min(len(previews) - 1, last + 1)
    window = previews[low_place : high_place + 1, y0:y1, x0:x1]
    contrast = np.array([frame[inside > 0].mean() - frame[around > 0].mean() for frame in window])
    padded = np.pad(contrast, 1, mode="edge")
    smooth = (padded[:-2] + padded[1:-1] + padded[2:])[first - low_place : last - low_place + 1].round(6)
    best = np.flatnonzero(smooth == smooth.max()) + first
    return int(best[np.abs(best - middle).argmin()])
