"""Where the breast is: a mask that labels, markers, film borders and noisy or inverted background don't fool."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from screening.errors import ImageError
from screening.imaging.reduce import reduced

_WORKING_PIXELS = 384
"""Longest side, in pixels, of the reduced image that the mask is found on (about 0.7 mm a pixel)."""
_DARK_END, _BRIGHT_END = 10, 245
"""Grey values, of 0 to 255 after stretching, below and above which a pixel may be air: 4 % at either end."""


class Side(StrEnum):
    """Edge of the stored image on which the chest wall lies."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True)
class BreastMask:
    """The breast in a reduced copy of the image.

    `mask`: bool (rows, columns) of the reduced image. `scale`: source pixels per mask pixel, (column, row).
    `chest_wall`: the image edge that the chest wall lies on. `side_confidence`: 0 (no telling) to 1.
    `inverted`: whether the image showed white background and was inverted to find the breast.
    """

    mask: npt.NDArray[np.bool_]
    scale: tuple[float, float]
    chest_wall: Side
    side_confidence: float
    inverted: bool

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box in source pixels: x0, y0, x1, y1 (exclusive)."""
        columns = np.flatnonzero(self.mask.any(axis=0))
        rows = np.flatnonzero(self.mask.any(axis=1))
        sx, sy = self.scale
        return (
            int(np.floor(columns[0] * sx)),
            int(np.floor(rows[0] * sy)),
            int(np.ceil((columns[-1] + 1) * sx)),
            int(np.ceil((rows[-1] + 1) * sy)),
        )


def find_breast(pixels: npt.NDArray[np.integer]) -> BreastMask:
    """Find the breast in a displayed mammogram.

    `pixels`: unsigned integers (rows, columns), normally bright tissue on dark background; an image stored with white
    background is recognised and inverted. The method thresholds just above the air, opens the result to cut off labels
    and film borders, and keeps the largest component.

    Raises `ImageError` when no breast-like object is found.
    """
    if pixels.ndim != 2 or not pixels.size:
        raise ImageError(f"the image has the shape {pixels.shape}, where rows × columns of pixels are needed")
    rows, columns = pixels.shape
    factor = max(rows, columns) / _WORKING_PIXELS
    size = (max(1, round(columns / factor)), max(1, round(rows / factor)))
    small: npt.NDArray[Any] = reduced(pixels, size) if factor > 1 else cv2.resize(pixels, size)
    inverted = looks_inverted(small)
    if inverted:
        small = np.iinfo(pixels.dtype).max - small
    mask = _breast_in(_stretched(small))
    if mask is not None:
        # Once more, on a grey scale that labels and film borders have no say in: so they change nothing.
        near = cv2.dilate(mask.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0
        mask = _breast_in(_stretched(small, near))
    if mask is None:
        raise ImageError("no breast was found in the pixels (blank, saturated or not a mammogram)")
    side, confidence = _chest_wall(mask)
    return BreastMask(mask, (columns / size[0], rows / size[1]), side, confidence, inverted)


def _breast_in(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_] | None:
    return _largest_breast(_without_borders(_foreground(image)))


def looks_inverted(image: npt.NDArray[np.integer]) -> bool:
    """Whether the background is white: more pixels crowd at the bright end of the grey scale than at the dark one.

    Air is the one large part of a mammogram that has a single value, at an end of the scale. It has to be so in the
    whole image and in a ring along its edges: a white film border fills the ring but little of the image, an implant
    or saturated tissue fills the image's middle but little of the ring. The outermost 2 % of the image are left out.
    """
    grey = cv2.resize(_stretched(image), (128, 128), interpolation=cv2.INTER_AREA)
    crowds = (grey > _BRIGHT_END).astype(np.int8) - (grey < _DARK_END).astype(np.int8)
    ring = crowds[3:-3, 3:-3].copy()
    ring[9:-9, 9:-9] = 0
    return bool(crowds.sum() > 0 and ring.sum() > 0)


def _stretched(image: npt.NDArray[Any], where: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.uint8]:
    """Scale robustly to uint8, so that thresholds mean the same at every bit depth; `where`: the pixels that set it."""
    low, high = np.percentile(image if where is None else image[where], [0.5, 99.5])
    if high <= low:
        low, high = float(image.min()), float(image.max())
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    return np.asarray(np.clip((image.astype(np.float32) - low) * (255 / (high - low)), 0, 255), np.uint8)


def _foreground(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Threshold above the background's mode: digital background is one value, film's is a narrow noisy hump."""
    blurred = cv2.GaussianBlur(image, (5, 5), 0)
    # A scanned film's air is brighter than the bars that pad it to a rectangle: then that value is rare between them.
    padding = image == image.min()
    film = np.ix_(padding.mean(axis=1) < 0.85, padding.mean(axis=0) < 0.85)
    framed = padding[film].size > 0.2 * padding.size and padding[film].mean() < 0.03
    seen = blurred[film] if framed else blurred
    histogram = np.bincount(seen.ravel(), minlength=256).astype(np.float64)
    smooth = np.convolve(histogram, np.ones(5) / 5, mode="same")
    mode = int(np.argmax(smooth[:128]))
    if histogram[: max(0, mode - 12)].sum() > 0.05 * histogram.sum():
        mode = 0  # Much is darker: this is tissue, which fills the image and leaves hardly any air.
    near = seen[np.abs(seen.astype(np.int16) - mode) <= 12].astype(np.float32)
    spread = 1.4826 * float(np.median(np.abs(near - np.median(near)))) if near.size else 0.0
    otsu, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    threshold = min(mode + max(3.0, 5.0 * spread), max(float(otsu), mode + 3.0))
    return blurred > threshold


def _without_borders(foreground: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Clear film borders: full-length bright strips along an edge, thinner than a twelfth of the image."""
    cleaned = foreground.copy()
    for axis in (0, 1):
        filled = foreground.mean(axis=axis)
        limit = len(filled) // 12
        for order in (np.arange(len(filled)), np.arange(len(filled))[::-1]):
            run = int(np.argmin(filled[order] > 0.97)) if (filled[order] <= 0.97).any() else len(filled)
            # A border stands apart; a strip of tissue along the chest wall goes on into the breast.
            if 0 < run <= limit and filled[order[run : run + 3]].mean() < 0.5:
                index = order[:run]
                if axis == 0:
                    cleaned[:, index] = False
                else:
                    cleaned[index, :] = False
    return cleaned


def _largest_breast(foreground: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """Open, keep the component most like a breast (large, not a strip), fill its holes, smooth its outline."""
    rows, columns = foreground.shape
    radius = max(2, min(rows, columns) // 40)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    # Pad by replication, so that opening does not round the breast off where it meets the image's edge.
    padded = cv2.copyMakeBorder(foreground.astype(np.uint8), *(radius,) * 4, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[radius:-radius, radius:-radius]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(opened), connectivity=4)
    best, best_area = 0, 0.015 * rows * columns
    for label in range(1, count):
        _, _, width, height, area = stats[label]
        if min(width / columns, height / rows) < 0.08:
            continue
        if area > best_area:
            best, best_area = label, area
    if not best:
        return None
    component = (labels == best).astype(np.uint8)
    # Fatty tissue as dark as the background bites into the outline: close it, again without rounding at the edges.
    padded = cv2.copyMakeBorder(component, *(2 * radius,) * 4, cv2.BORDER_REPLICATE)
    closed: npt.NDArray[Any] = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[
        2 * radius : -2 * radius, 2 * radius : -2 * radius
    ]
    return _filled(closed)


def _filled(component: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Fill holes, and bites at the chest wall: what the component and that side of its box enclose together."""
    columns = np.flatnonzero(component.any(axis=0))
    box = slice(columns[0], columns[-1] + 1)
    side, _ = _chest_wall(component.astype(np.bool_))
    wall = (1, 0) if side is Side.LEFT else (0, 1)
    walled = cv2.copyMakeBorder(component[:, box], 0, 0, *wall, cv2.BORDER_CONSTANT, value=1)
    contours, _ = cv2.findContours(walled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(walled, contours, -1, 1, cv2.FILLED)
    filled = np.zeros(component.shape, np.bool_)
    filled[:, box] = walled[:, wall[0] : walled.shape[1] - wall[1]]
    return filled


def _chest_wall(mask: npt.NDArray[np.bool_]) -> tuple[Side, float]:
    """The chest wall lies where the mask is tall against the image's edge: compare the outer fifths of its box."""
    columns = np.flatnonzero(mask.any(axis=0))
    box = mask[:, columns[0] : columns[-1] + 1].astype(np.float64)
    width = max(1, box.shape[1] // 5)
    left, right = box[:, :width].mean(), box[:, -width:].mean()
    # Distance to the image's edge counts as well: the breast touches the edge on the chest wall's side.
    left_gap, right_gap = columns[0] / mask.shape[1], 1 - (columns[-1] + 1) / mask.shape[1]
    balance = (left - right) / (left + right) + (right_gap - left_gap)
    return (Side.LEFT if balance >= 0 else Side.RIGHT), float(min(1.0, abs(balance)))
