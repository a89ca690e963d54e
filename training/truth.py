"""Results of scored data sets beside their truth, as arrays that `evaluation` takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.hits import Lesions, Regions
from screening.model.network import DENSITIES
from screening.result import ExamResult, Status
from training.datasets.record import Lesion, Record

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Breasts:
    """One row a breast with known truth. `woman`: cluster names. `record`: one of its images' records."""

    woman: npt.NDArray[np.str_]
    malignant: IntArray
    score: FloatArray
    record: tuple[Record, ...]


def breasts(results: Iterable[ExamResult], records: dict[str, Record], dataset: str) -> Breasts:
    """Breast scores of one data set."""
    rows = []
    for result in results:
        for breast in result.breasts:
            record = next(records[i.image.image_id] for i in result.images if i.image.laterality is breast.laterality)
            if record.dataset == dataset and record.malignant is not None:
                rows.append((record.woman, int(record.malignant), breast.score, record))
    return Breasts(
        np.array([r[0] for r in rows]),
        np.array([r[1] for r in rows], np.int64),
        np.array([r[2] for r in rows], np.float64),
        tuple(r[3] for r in rows),
    )


@dataclass(frozen=True)
class Localised:
    """Regions and lesions of the images of one data set whose lesions are all marked; `woman` is by image."""

    regions: Regions
    lesions: Lesions
    woman: npt.NDArray[np.str_]

    @property
    def n_images(self) -> int:
        """Images, with lesions and without."""
        return len(self.woman)


def localised(
    results: Iterable[ExamResult], records: dict[str, Record], dataset: str, malignant_only: bool
) -> Localised:
    """Regions against lesions. With `malignant_only`, benign lesions are no targets: a mark on one is a false positive.
    One on a lesion of which nobody knows whether it is malignant counts nowhere.

    Images that were not scored stay in, without regions: a lesion that was not read is a lesion missed.
    """
    women: list[str] = []
    marks: list[tuple[int, float, float, float, float, float]] = []
    truths: list[tuple[int, Lesion]] = []
    for result in results:
        for image in result.images:
            record = records[image.image.image_id]
            if record.dataset != dataset or record.lesions is None:
                continue
            index = len(women)
            women.append(record.woman)
            marks += [(index, r.score, r.x, r.y, r.width, r.height) for r in image.regions]
            truths += [(index, lesion) for lesion in record.lesions]
    table = np.array(marks, np.float64).reshape(-1, 6)
    lesions = Lesions(
        np.array([i for i, _ in truths], np.int64),
        np.array([(t.x, t.y, t.width, t.height) for _, t in truths], np.float64).reshape(-1, 4),
        np.array([t.shape == "ellipse" for _, t in truths], np.bool_),
        np.array([not malignant_only or t.malignant is True for _, t in truths], np.bool_),
        np.array([t.malignant is None for _, t in truths], np.bool_),
    )
    return Localised(Regions(table[:, 0].astype(np.int64), table[:, 1], table[:, 2:]), lesions, np.array(women))


@dataclass(frozen=True)
class Densities:
    """Density category (0–3 for A–D) by truth and by the model (of the whole breast), one row a scored image."""

    woman: npt.NDArray[np.str_]
    truth: IntArray
    model: IntArray


def densities(results: Iterable[ExamResult], records: dict[str, Record], dataset: str) -> Densities:
    """Density of the images of one data set that carry a label."""
    rows = []
    for result in results:
        for breast in result.breasts:
            for image in result.images:
                record = records[image.image.image_id]
                if image.image.laterality is not breast.laterality or image.status is not Status.SCORED:
                    continue
                if record.dataset == dataset and record.density in DENSITIES and breast.density is not None:
                    rows.append((record.woman, DENSITIES.index(record.density), DENSITIES.index(breast.density)))
    return Densities(
        np.array([r[0] for r in rows]),
        np.array([r[1] for r in rows], np.int64),
        np.array([r[2] for r in rows], np.int64),
    )
