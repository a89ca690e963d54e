"""Lesions pasted into normal breasts: the same lesion before other tissue, and truth about places where a set has none.

What lies one behind the other in a breast adds up in a mammogram that is linear in attenuation, so a lesion is pasted
by adding how much brighter it is than its surroundings (copy and paste as augmentation: Ghiasi et al. 2021; for lesions
in mammograms Ghosh et al. 2023). A prepared image is only nearly linear; a soft rim hides what is left of the seam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from training.cache import PreparedRecord
from training.datasets.record import Lesion

FAINTEST = 0.03
"""Mean contrast below which a lesion would not be seen before other tissue."""

SMALLEST, LARGEST = 4, 80
"""Sides of the lesions that are pasted, in prepared pixels: smaller ones are noise, larger ones half a breast."""


@dataclass(frozen=True)
class Patch:
    """A lesion cut out.

    `contrast`: float32 (rows, columns), how much brighter than its surroundings, at least 0, and 0 at the border: a
    lesion takes no tissue away. `area`: uint8, 1 in the lesion.
    """

    contrast: npt.NDArray[np.float32]
    area: npt.NDArray[np.uint8]
    lesion: Lesion


class Pasting:
    """Puts a lesion of one of `records` into a share of the normal images."""

    def __init__(self, records: Sequence[PreparedRecord], share: float) -> None:
        self.share = share
        self.patches = [patch for record in records for patch in _patches(record)] if share else []

    def __call__(
        self, pixels: npt.NDArray[np.float32], prepared: PreparedRecord, seed: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], PreparedRecord]:
        """The image, float32 (rows, columns) in [0, 1], its lesion labels and its record, perhaps with a lesion in it.

        Such a breast has no truth as a whole: its lesion is real, but the breast is not.
        """
        rng = np.random.default_rng([seed, 1])
        normal = prepared.record.malignant is False and not prepared.record.lesions
        if not self.patches or not normal or rng.random() >= self.share:
            return pixels, prepared.lesions, prepared
        patch = _turned(self.patches[rng.integers(len(self.patches))], rng)
        place = _place(pixels, patch.area.shape, rng)
        if place is None:
            return pixels, prepared.lesions, prepared
        window = tuple(slice(start, start + side) for start, side in zip(place, patch.area.shape, strict=True))
        image, labels = pixels.copy(), np.zeros_like(prepared.lesions)
        inside = image[window] > 0
        # In bright tissue the whole lesion is fainter, rather than cut off at white.
        room = (1 - float(image[window][patch.area > 0].mean())) / float(patch.contrast.max())
        image[window] = np.where(inside, np.minimum(image[window] + min(1.0, room) * patch.contrast, 1), 0)
        labels[window] = patch.area * inside
        record = replace(prepared.record, malignant=None, lesions=(patch.lesion,))
        return image, labels, replace(prepared, record=record, lesions=labels)


def _patches(prepared: PreparedRecord) -> list[Patch]:
    found = []
    for index, lesion in enumerate(prepared.record.lesions or ()):
        area = (prepared.lesions == index + 1).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(area)
        teaches_nothing = lesion.malignant is None or lesion.kind == "misplaced"
        if teaches_nothing or not SMALLEST <= max(width, height) <= LARGEST:
            continue
        rim = max(4, round(0.35 * max(width, height)))
        padded = [np.pad(a, rim) for a in (prepared.pixels.astype(np.float32) / np.float32(65535), area)]
        image, own = (a[y : y + height + 2 * rim, x : x + width + 2 * rim] for a in padded)
        found += _cut(image, own, rim, lesion)
    return found


def _cut(image: npt.NDArray[np.float32], own: npt.NDArray[np.uint8], rim: int, lesion: Lesion) -> list[Patch]:
    """The patch, unless the lesion lies at the border of the breast, where its surroundings are air."""
    if np.mean(image <= 0) > 0.02:
        return []
    distance = cv2.distanceTransform(1 - own, cv2.DIST_L2, 5)
    weight = 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / rim, 0, 1))
    surroundings = float(np.median(image[(distance > rim / 2) & (distance <= rim)]))
    contrast = (np.maximum(image - surroundings, 0) * weight).astype(np.float32)
    return [Patch(contrast, own, lesion)] if contrast[own > 0].mean() >= FAINTEST else []


def _turned(patch: Patch, rng: np.random.Generator) -> Patch:
    """The patch turned, mirrored, up to a quarter larger or smaller and up to a third fainter or stronger."""
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    contrast, area = np.rot90(patch.contrast, turns), np.rot90(patch.area, turns)
    if mirrored:
        contrast, area = contrast[:, ::-1], area[:, ::-1]
    scale = float(rng.uniform(0.8, 1.25))
    rows, columns = (max(3, round(side * scale)) for side in area.shape)
    sized = cv2.resize(np.ascontiguousarray(contrast), (columns, rows), interpolation=cv2.INTER_AREA)
    labels = cv2.resize(np.ascontiguousarray(area), (columns, rows), interpolation=cv2.INTER_NEAREST)
    strength = rng.uniform(0.67, 1.33)
    return Patch((sized * strength).astype(np.float32), labels.astype(np.uint8), patch.lesion)


def _place(pixels: npt.NDArray[np.float32], shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int] | None:
    """Upper left corner (row, column) of a window that lies in the breast, or None if there is none."""
    if any(side > full for side, full in zip(shape, pixels.shape, strict=True)):
        return None
    breast = np.pad((pixels > 0).astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows, columns = shape
    filled = breast[rows:, columns:] - breast[:-rows, columns:] - breast[rows:, :-columns] + breast[:-rows, :-columns]
    places = np.argwhere(filled >= 0.98 * rows * columns)
    if not len(places):
        return None
    row, column = places[rng.integers(len(places))]
    return int(row), int(column)
