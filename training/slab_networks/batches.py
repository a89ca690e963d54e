"""Windows of slabs with the truth about their lesions, drawn at random and as a function of a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from screening.model.slab_network import with_neighbours
from training.augment import augmented
from training.batches import core, dense_truth
from training.slab_networks.volumes import SlabVolume

STRIDE = 8
WINDOW, MARGIN = 224, 40
"""Sides of what the network learns from, in prepared pixels, and what augmentation may turn into it from around."""

NEAR_MM, FAR_MM = 3.0, 10.0
"""A slab shows a lesion whose middle is this near, or half the lesion's own half depth. One that is `FAR_MM` beyond the
lesion's end shows its shadow only; in between is its blur, of which nothing is learned."""

SHADOW = 0.3
"""Weight of a lesion's shadow, which is to score as no lesion, against a lesion: tomosynthesis blurs large and smooth
ones over the whole height, and that must not teach the network to overlook them."""

_ON_LESION, _CENTRED, _BESIDE = 0.75, 0.6, 0.25
"""Shares of the windows with a lesion in volumes that have one; of these, in the lesion's own slab and in the next."""


@dataclass(frozen=True)
class SlabBatch:
    """`slabs`: (N, inputs, rows, columns). `dense`, `lesion_weight`: as of `training.batches.Batch`, but that a
    lesion's shadow has a weight, too; normal tissue is where the target is 0 and the weight as well. Both
    (N, rows/8, columns/8).
    """

    slabs: Tensor
    dense: Tensor
    lesion_weight: Tensor


_Arrays = tuple[npt.NDArray[np.float32], ...]


class SlabSamples(Dataset[_Arrays]):
    """Windows of volumes; the key is a seed, from which volume, slab, place and augmentation follow."""

    def __init__(self, volumes: Sequence[SlabVolume], neighbours: int, benign_target: float) -> None:
        self.volumes, self.neighbours, self.benign_target = volumes, neighbours, benign_target

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, seed: int) -> _Arrays:
        rng = np.random.default_rng(seed)
        volume = self.volumes[int(rng.integers(len(self.volumes)))]
        number, around = self._chosen(volume, rng)
        window = _window(volume.lesions.shape, around)
        side = WINDOW + 2 * MARGIN
        pixels, labels = np.zeros((side, side, 2 * self.neighbours + 1), np.float32), np.zeros((side, side), np.uint8)
        inner = tuple(slice(source.start - at, source.stop - at) for source, at in window)
        source = tuple(cut for cut, _ in window)
        part = volume.images[:, source[0], source[1]]
        seen = with_neighbours(part, [number], self.neighbours)[0].astype(np.float32)
        pixels[inner] = np.moveaxis(seen, 0, -1) / np.float32(65535)
        labels[inner] = volume.lesions[source]
        pixels, labels = augmented(pixels, labels, volume.record.view, int(rng.integers(2**31)))
        middle = slice(MARGIN, MARGIN + WINDOW)
        slabs = np.ascontiguousarray(np.moveaxis(pixels[middle, middle], -1, 0))
        return slabs, *slab_truth(volume, number, np.ascontiguousarray(labels[middle, middle]), self.benign_target)

    def _chosen(self, volume: SlabVolume, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """The number of a slab, and the (row, column) around which to look at it."""
        shown = np.flatnonzero(np.isin(np.arange(len(volume.heights_mm)) + 1, volume.lesions))
        if not len(shown) or rng.random() > _ON_LESION:
            rows, columns = np.nonzero(volume.images[len(volume.images) // 2])
            place = rng.integers(len(rows))
            return int(rng.integers(len(volume.images))), (int(rows[place]), int(columns[place]))
        lesion = int(rng.choice(shown))
        nearest = int(np.abs(volume.centres_mm - volume.heights_mm[lesion]).argmin())
        shift = rng.choice([0, 1, 2, 3], p=[_CENTRED, _BESIDE, 0.1, 1 - _CENTRED - _BESIDE - 0.1])
        number = int(np.clip(nearest + shift * rng.choice([-1, 1]), 0, len(volume.images) - 1))
        rows, columns = np.nonzero(volume.lesions == lesion + 1)
        jitter = rng.integers(-WINDOW // 3, WINDOW // 3, 2)
        return number, (int(rows.mean()) + int(jitter[0]), int(columns.mean()) + int(jitter[1]))


def _window(shape: tuple[int, ...], around: tuple[int, int]) -> tuple[tuple[slice, int], ...]:
    """Along each axis, the part of the image in a window around a place, and where the window begins.

    The window lies within the image as far as it is large enough.
    """
    side, found = WINDOW + 2 * MARGIN, []
    for length, middle in zip(shape, around, strict=True):
        start = int(np.clip(middle - side // 2, -MARGIN, max(-MARGIN, length + MARGIN - side)))
        found.append((slice(max(0, start), min(length, start + side)), start))
    return tuple(found)


def slab_truth(
    volume: SlabVolume, number: int, labels: npt.NDArray[np.uint8], benign_target: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Dense target and its weight, for slab `number` with lesion labels (rows, columns)."""
    shape = (labels.shape[0] // STRIDE, labels.shape[1] // STRIDE)
    shadow = np.zeros(shape, np.float32)
    away = np.abs(volume.heights_mm - volume.centres_mm[number])
    lesions = []
    for index, lesion in enumerate(volume.record.lesions or ()):
        distance, half = away[index], volume.halves_mm[index]
        near = distance <= max(NEAR_MM, half / 2)
        lesions.append(lesion if near else replace(lesion, malignant=None))
        area = (labels == index + 1).astype(np.uint8)
        if distance > half + FAR_MM and area.any():
            cells = core(area, shape)
            shadow[cells] = SHADOW / np.count_nonzero(cells)
    dense, weight = dense_truth(replace(volume.record, lesions=tuple(lesions)), labels, benign_target)
    shadow[weight > 0] = 0
    dense[shadow > 0] = 0
    return dense, weight + shadow


def load_slabs(samples: SlabSamples, batches: list[list[int]], workers: int) -> Iterator[SlabBatch]:
    """Load batches of seeds in their order, ahead of the network where there are workers."""
    if workers:
        cv2.setNumThreads(1)  # OpenCV's threads do not survive the fork, and a worker would wait for them for ever
    loader = DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        generator=torch.Generator(),
        collate_fn=lambda rows: SlabBatch(*(torch.from_numpy(np.stack(one)) for one in zip(*rows, strict=True))),
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)
