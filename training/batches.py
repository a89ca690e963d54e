"""Samples with mixed truth, their order in an epoch, and batches of like-sized breasts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from screening.model.network import DENSITIES, MammogramNet
from training.augment import augmented
from training.cache import PreparedRecord
from training.datasets.record import Record
from training.pasting import Pasting

UNKNOWN = -1.0
"""In targets: nothing is known here, so nothing is learned."""

CORE = 0.4
"""Share of a lesion's depth (distance to its outline) beyond which a place counts as its core."""


@dataclass(frozen=True)
class Batch:
    """`images`: (N, 1, rows, columns). `dense`: (N, rows/8, columns/8), probability or UNKNOWN; `lesion_weight`: of the
    same shape, summing to 1 over each lesion. `malignant`: (N,), 0, 1 or UNKNOWN. `density`: (N,) int64, 0–3 or −1.
    """

    images: Tensor
    dense: Tensor
    lesion_weight: Tensor
    malignant: Tensor
    density: Tensor


def dense_truth(
    record: Record, labels: npt.NDArray[np.uint8], benign_target: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The dense target and its weight, both at the network's stride, for lesion labels (rows, columns).

    Target: 1 in the core of a malignant lesion, `benign_target` in that of a benign one; UNKNOWN in their rims, in a
    lesion of which nobody knows and where an outline is known to be off the lesion; 0 elsewhere. UNKNOWN everywhere if
    there is cancer but nobody said where. Weight: 1 spread over the core of each lesion that has one, so that a small
    lesion counts as much as a large one.
    """
    stride = MammogramNet.STRIDE
    shape = (labels.shape[0] // stride, labels.shape[1] // stride)
    weight = np.zeros(shape, np.float32)
    if record.lesions is None and record.malignant is not False:
        return np.full(shape, UNKNOWN, np.float32), weight
    target = np.zeros(shape, np.float32)
    for index, lesion in enumerate(record.lesions or ()):
        area = (labels == index + 1).astype(np.uint8)
        if not area.any():
            continue
        share = cv2.resize(area * 255, shape[::-1], interpolation=cv2.INTER_AREA)
        target[(share > 25) & (target <= 0)] = UNKNOWN
        if lesion.kind == "misplaced" or lesion.malignant is None:
            continue
        cells = core(area, shape)
        target[cells] = np.maximum(target[cells], 1.0 if lesion.malignant else benign_target)
        weight[cells] += 1 / np.count_nonzero(cells)
    return target, weight


def core(area: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The cells deep inside a lesion: at least one."""
    distance = cv2.distanceTransform(np.pad(area, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    deep = (distance >= CORE * distance.max()).astype(np.float32)
    share = cv2.resize(deep, shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(share >= min(0.5, float(share.max())))


class Samples(Dataset[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], PreparedRecord]]):
    """Prepared records as augmented samples. A key is (index, seed); seed None leaves the image as it is.

    `pasted`: share of the normal images that get a lesion of another record.
    """

    def __init__(self, records: Sequence[PreparedRecord], pasted: float = 0.0) -> None:
        self.records = records
        self.pasting = Pasting(records, pasted)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(
        self, key: tuple[int, int | None]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], PreparedRecord]:
        index, seed = key
        prepared = self.records[index]
        pixels = prepared.pixels.astype(np.float32) / np.float32(65535)
        if seed is None:
            return pixels, prepared.lesions, prepared
        pixels, lesions, prepared = self.pasting(pixels, prepared, seed)
        return *augmented(pixels, lesions, prepared.record.view, seed), prepared


class EpochOrder:
    """Which samples make up an epoch, in batches; a pure function of (seed, epoch), so that a resumed run agrees.

    Every image with cancer or a marked lesion, every image of a set with locations (as often as `repeats` says, by
    data set), and a fresh draw of the others.
    Batches hold breasts of like size, so that little padding is computed; which batch comes when is random.
    """

    def __init__(
        self,
        records: Sequence[PreparedRecord],
        batch_size: int,
        negatives_per_positive: float,
        seed: int,
        repeats: Mapping[str, int] | None = None,
    ) -> None:
        self.sizes = np.array([r.pixels.size for r in records])
        drawn = np.array([r.record.malignant is False and r.record.lesions is None for r in records])
        positives = np.array([r.record.malignant is True and r.record.lesions is None for r in records])
        times = [1 if r.record.lesions is None else (repeats or {}).get(r.record.dataset, 1) for r in records]
        self.always, self.normals = np.repeat(np.arange(len(records)), times * ~drawn), np.flatnonzero(drawn)
        count = min(len(self.normals), round(negatives_per_positive * max(1, int(positives.sum()))))
        # Batches are filled by drawing a few normals less; nothing else may be missing from an epoch.
        spare = (len(self.always) + count) % batch_size
        self.count = count - spare if spare <= count and len(self.always) + count > batch_size else count
        self.batch_size, self.seed = batch_size, seed

    @property
    def steps(self) -> int:
        """Batches an epoch; only where normals are too few to even it out, the last taken is not full."""
        return max(1, math.ceil((len(self.always) + self.count) / self.batch_size))

    def batches(self, epoch: int) -> list[list[tuple[int, int | None]]]:
        """The epoch's batches of sample keys."""
        rng = np.random.default_rng([self.seed, epoch])
        chosen = np.concatenate([self.always, rng.choice(self.normals, self.count, replace=False)])
        chosen = rng.permutation(chosen)
        # Sorted by size within stretches of eight batches: alike in size, yet mixed in content from epoch to epoch.
        stretch = 8 * self.batch_size
        ordered = np.concatenate(
            [
                part[np.argsort(self.sizes[part], kind="stable")]
                for part in np.split(chosen, range(stretch, len(chosen), stretch))
            ]
        )
        seeds = rng.integers(0, 2**31, len(ordered))
        keys: list[tuple[int, int | None]] = [(int(i), int(s)) for i, s in zip(ordered, seeds, strict=True)]
        batches = [keys[i : i + self.batch_size] for i in range(0, len(keys), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]


class Collate:
    """Stack samples into a `Batch`, padded at right and bottom to the largest, in multiples of 32.

    `benign_target`: dense target of benign lesions; `benign_targets`: of those of some data sets instead.
    `places_only`, `without_density`: data sets from whose images no truth of the breast, or no density, is learned.
    """

    def __init__(
        self,
        benign_target: float,
        places_only: frozenset[str],
        without_density: frozenset[str] = frozenset(),
        benign_targets: Mapping[str, float] | None = None,
    ) -> None:
        self.benign_target = benign_target
        self.benign_targets = benign_targets or {}
        self.places_only = places_only
        self.without_density = without_density

    def __call__(self, samples: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], PreparedRecord]]) -> Batch:
        multiple = MammogramNet.MULTIPLE
        rows = -(-max(s[0].shape[0] for s in samples) // multiple) * multiple
        columns = -(-max(s[0].shape[1] for s in samples) // multiple) * multiple
        images = np.zeros((len(samples), 1, rows, columns), np.float32)
        truths = []
        for i, (pixels, lesions, prepared) in enumerate(samples):
            images[i, 0, : pixels.shape[0], : pixels.shape[1]] = pixels
            labels = np.zeros((rows, columns), np.uint8)
            labels[: lesions.shape[0], : lesions.shape[1]] = lesions
            target = self.benign_targets.get(prepared.record.dataset, self.benign_target)
            truths.append(dense_truth(prepared.record, labels, target))
        records = [s[2].record for s in samples]
        return Batch(
            torch.from_numpy(images),
            torch.from_numpy(np.stack([target for target, _ in truths])),
            torch.from_numpy(np.stack([weight for _, weight in truths])),
            torch.tensor([self._image_truth(r) for r in records]),
            torch.tensor([self._density_truth(r) for r in records]),
        )

    def _density_truth(self, record: Record) -> int:
        known = record.density in DENSITIES and record.dataset not in self.without_density
        return DENSITIES.index(record.density) if known and record.density else -1

    def _image_truth(self, record: Record) -> float:
        if record.malignant is None or record.dataset in self.places_only:
            return UNKNOWN
        return float(record.malignant)


def load_batches(
    samples: Samples, batches: list[list[tuple[int, int | None]]], collate: Collate, workers: int
) -> Iterator[Batch]:
    """Load batches of sample keys in their order, ahead of the network where there are workers."""
    if workers:
        cv2.setNumThreads(1)  # OpenCV's threads do not survive the fork, and a worker would wait for them for ever
    return iter(
        DataLoader(
            samples,
            batch_sampler=batches,
            num_workers=workers,
            # Its own generator: a loader draws from it at its start, and a resumed run starts one more.
            generator=torch.Generator(),
            collate_fn=collate,
            prefetch_factor=4 if workers else None,
        )
    )
