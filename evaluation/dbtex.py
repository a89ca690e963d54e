"""The scorer of the DBTex challenge on breast tomosynthesis, by its published rules, with intervals over women.

Rules: Konz et al., JAMA Netw Open 2023;6:e230524 (PMC9951043), and the scorer that the organisers publish with the
BCS-DBT data (duke-dbt-data). They differ from those of `froc` in three ways: a prediction belongs to the nearest box in
reach, in three dimensions, whether or not that box has a hit already; its slice counts; and the curve has points only
at the scores of predictions that hit, repeats included, with straight lines between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evaluation import checks
from evaluation.bootstrap import cluster_bootstrap_many
from evaluation.checks import BoolArray, FloatArray, IntArray
from evaluation.errors import InvalidInputError, MetricError
from evaluation.figure import Figure
from evaluation.hits import CentreDistance, Lesions, Regions, pairs
from evaluation.protocol import Uncertainty
from evaluation.statistic import SumStatistic, sparse_terms

FP_RATES = (1.0, 2.0, 3.0, 4.0)
"""False positives per volume with a box at which the primary figure takes sensitivities."""

FP_RATE_ALL = 2.0
"""False positives per volume, over all volumes, of the second figure."""

FLOOR_PX = 100.0
SLICE_SHARE = 0.25  # how far from a box's slice a prediction's middle may lie, in its volume's number of slices

Volumes: TypeAlias = Literal["with-box", "all"]
"""Which volumes' false positives count, and what divides them."""

_NO_BOX = "The DBTex figures need a volume with a true box."


@dataclass(frozen=True, eq=False, init=False)
class DbtexSet:
    """Volumes with their predictions and true boxes; `predictions.image` and `boxes.image` are rows of the volumes.

    `woman`: shape (v,), label of each volume's woman. `slices`: float64 (v,), how many each volume has; NaN where
    unknown, which a volume with a box must not be. `middle`: float64 (r,), the slice of each prediction's middle, which
    the challenge takes as Z + Depth / 2. `slice`: float64 (b,), the 0-based slice of each true box. Every box counts,
    whatever its `target`. `complete`: whether the volumes without boxes are all listed. Raises `InvalidInputError` for
    lengths that differ, rows that are no volume, and slices that are no numbers.
    """

    woman: npt.NDArray[np.str_]
    slices: FloatArray
    predictions: Regions
    middle: FloatArray
    boxes: Lesions
    slice: FloatArray
    complete: bool

    def __init__(
        self,
        woman: npt.ArrayLike,
        slices: npt.ArrayLike,
        predictions: Regions,
        middle: npt.ArrayLike,
        boxes: Lesions,
        slice: npt.ArrayLike,
        *,
        complete: bool = True,
    ) -> None:
        women = np.asarray(woman, dtype=np.str_)
        counts = np.asarray(slices, dtype=np.float64)
        if women.ndim != 1 or counts.shape != women.shape:
            raise InvalidInputError("Every volume needs a woman and a number of slices (NaN where it is unknown).")
        for name, volume in (("prediction", predictions.image), ("box", boxes.image)):
            if len(volume) and volume.max() >= len(women):
                raise InvalidInputError(f"A {name} lies in volume {volume.max()}, but there are only {len(women)}.")
        if not (counts[boxes.image] > 0).all():
            raise InvalidInputError("A volume with a box has no number of slices.")
        object.__setattr__(self, "woman", women)
        object.__setattr__(self, "slices", counts)
        object.__setattr__(self, "predictions", predictions)
        object.__setattr__(self, "middle", checks.finite(middle, "middle slice", length=len(predictions)))
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "slice", checks.finite(slice, "slice", length=len(boxes)))
        object.__setattr__(self, "complete", complete)

    @property
    def with_box(self) -> BoolArray:
        """Which volumes have a true box: bool (v,)."""
        return np.bincount(self.boxes.image, minlength=len(self.woman)) > 0


class DbtexStatistics:
    """The challenge's figures of a set, matched and sorted once, each as a `SumStatistic` over the volumes.

    `box`: int64 (r,), the box that each prediction hits, or -1. `floor_px` is the least reach in the plane.
    """

    def __init__(self, data: DbtexSet, *, floor_px: float = FLOOR_PX) -> None:
        self.box = nearest_box(data, floor_px=floor_px)
        self._terms = {
            "with-box": _sums(data, self.box, data.with_box),
            "all": _sums(data, self.box, np.ones(len(data.woman), dtype=np.bool_)),
        }

    def mean_sensitivity(self, fp_rates: Sequence[float] = FP_RATES, *, volumes: Volumes = "with-box") -> SumStatistic:
        """Mean of the sensitivities for boxes at rates of false positives per volume, read off the straight lines.

        With the defaults the challenge's primary figure; with the rate 2 over all volumes its second one. A replicate
        of the bootstrap is scored as its volumes alone would be: a curve has no point where no volume drawn has a hit.
        """
        if volumes not in self._terms:
            raise InvalidInputError(f"False positives count in volumes with-box or all, not {volumes!r}.")
        if not fp_rates or not all(0 <= rate < np.inf for rate in fp_rates):
            raise InvalidInputError("Rates of false positives must be finite numbers of 0 or more, at least one.")
        terms = self._terms[volumes]

        def figure(sums: FloatArray) -> FloatArray:
            return np.array([_mean_on_curve(replicate, fp_rates) for replicate in sums.T])

        return SumStatistic(terms, figure, _NO_BOX)


def nearest_box(data: DbtexSet, *, floor_px: float = FLOOR_PX) -> IntArray:
    """The box that each prediction hits: int64 (r,), -1 for a false positive.

    A box is in reach if in the plane the centres lie at most half its diagonal apart, or `floor_px` if that is more,
    and the slices at most a quarter of the volume's. Of several in reach the nearest counts, pixels and slices measured
    alike; of equally near ones the first in the table, as in the published scorer.
    """
    plane, boxes = data.predictions, data.boxes
    prediction, box = pairs(plane, boxes)
    in_plane = CentreDistance(floor_px)(plane.box[prediction], boxes.box[box], boxes.ellipse[box])
    depth = np.abs(data.middle[prediction] - data.slice[box])
    reached = in_plane & (depth <= SLICE_SHARE * data.slices[boxes.image[box]])
    prediction, box, depth = prediction[reached], box[reached], depth[reached]
    across = _centre(plane.box[prediction]) - _centre(boxes.box[box])
    distance = np.sqrt((across**2).sum(axis=1) + depth**2)
    order = np.lexsort((box, distance, prediction))
    hits, first = np.unique(prediction[order], return_index=True)
    nearest = np.full(len(plane), -1, dtype=np.int64)
    nearest[hits] = box[order[first]]
    return nearest


def dbtex_figures(
    data: DbtexSet,
    uncertainty: Uncertainty,
    *,
    fp_rates: Sequence[float] = FP_RATES,
    floor_px: float = FLOOR_PX,
) -> tuple[Figure, ...]:
    """The challenge's figures with bootstrap intervals over women: the primary one, its parts, and the second one."""
    statistics = DbtexStatistics(data, floor_px=floor_px)
    rates = " ".join(f"{rate:g}" for rate in fp_rates)
    wanted: list[tuple[str, str, SumStatistic, Volumes]] = [
        (
            f"dbtex_mean_sensitivity@fp={rates.replace(' ', '_')}",
            f"Mean sensitivity for boxes at {rates.replace(' ', ', ')} false positives per volume with a box",
            statistics.mean_sensitivity(fp_rates),
            "with-box",
        )
    ]
    for rate in fp_rates:
        label = f"Sensitivity for boxes at {rate:g} false positives per volume with a box"
        wanted.append((f"dbtex_sensitivity@fp={rate:g}", label, statistics.mean_sensitivity([rate]), "with-box"))
    label = f"Sensitivity for boxes at {FP_RATE_ALL:g} false positives per volume, all volumes"
    second = statistics.mean_sensitivity([FP_RATE_ALL], volumes="all")
    wanted.append((f"dbtex_sensitivity@fp_all={FP_RATE_ALL:g}", label, second, "all"))
    return tuple(_figure(data, uncertainty, *figure) for figure in wanted)


def _figure(
    data: DbtexSet, uncertainty: Uncertainty, key: str, label: str, statistic: SumStatistic, volumes: Volumes
) -> Figure:
    counted = data.with_box if volumes == "with-box" else np.ones(len(data.woman), dtype=np.bool_)
    interval, reason = None, ""
    if volumes == "all" and not data.complete:
        reason = "The volumes without a box are not all known; give the list of all volumes."
    else:
        try:
            interval = cluster_bootstrap_many(
                {key: statistic},
                data.woman,
                seed=uncertainty.seed,
                replicates=uncertainty.replicates,
                level=uncertainty.level,
                method=uncertainty.method,
            )[key]
        except MetricError as error:
            reason = str(error)
    n, women = int(counted.sum()), len(np.unique(data.woman[counted]))
    return Figure(
        key=key,
        label=label,
        group="localisation",
        interval=interval,
        n=n,
        n_positive=int(data.with_box.sum()),
        denominator=f"{len(data.boxes):,} boxes; false positives over {n:,} volumes of {women:,} women",
        reason=reason,
    )


def _sums(data: DbtexSet, box: IntArray, inside: BoolArray) -> sparse.csr_array:
    """Sums over volumes, by the k distinct scores of predictions that hit, from the highest down.

    The 3k + 3 rows: boxes first found at each score; all predictions that hit at it; false positives from it up to the
    next higher one, and in one more row those below all of them; boxes; volumes that false positives are divided by.
    """
    volume, score = data.predictions.image, data.predictions.score
    hit = box >= 0
    thresholds, best = np.unique(score[hit]), np.full(len(data.boxes), -np.inf)
    np.maximum.at(best, box[hit], score[hit])
    found = np.flatnonzero(best > -np.inf)
    counted = ~hit & inside[volume]
    k = len(thresholds)

    def segment(scores: FloatArray) -> IntArray:
        return k - np.searchsorted(thresholds, scores, side="right")

    rows = [
        segment(best[found]),
        k + segment(score[hit]),
        2 * k + segment(score[counted]),
        np.full(len(data.boxes), 3 * k + 1),
        np.full(int(inside.sum()), 3 * k + 2),
    ]
    columns = [data.boxes.image[found], volume[hit], volume[counted], data.boxes.image, np.flatnonzero(inside)]
    return sparse_terms(np.concatenate(rows), np.concatenate(columns), (3 * k + 3, len(data.woman)))


def _mean_on_curve(sums: FloatArray, fp_rates: Sequence[float]) -> float:
    """Mean sensitivity at the rates on the curve of one replicate, from its sums (3k + 3,); NaN if undefined.

    The curve starts at the origin, has a point at each score at which a prediction hits, and ends with all predictions.
    """
    k = len(sums) // 3 - 1
    boxes, volumes = sums[-2:]
    if boxes <= 0 or volumes <= 0:
        return np.nan
    point = np.append(np.flatnonzero(sums[k : 2 * k] > 0), k)
    found, false = np.cumsum(np.append(sums[:k], 0.0)), np.cumsum(sums[2 * k : 3 * k + 1])
    sensitivity, fp_rate = np.append(0.0, found[point]) / boxes, np.append(0.0, false[point]) / volumes
    # Of points above one another `interp` takes the last, the top of the step; it stays level beyond the end.
    return float(np.mean(np.interp(fp_rates, fp_rate, sensitivity)))


def _centre(box: FloatArray) -> FloatArray:
    return np.asarray(box[:, :2] + box[:, 2:] / 2)
