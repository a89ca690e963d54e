"""ROC figures: curve, areas, operating points read off the curve, and DeLong's intervals and test.

A case is called positive when its score reaches the threshold. Scores need only an order: any strictly increasing
transform leaves every figure unchanged, and infinite scores are allowed (-∞: never called). Operating points are
those that a threshold can reach on the given cases, without interpolation between them, and never better than asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from evaluation import checks
from evaluation.checks import BoolArray, FloatArray
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.intervals import Interval, normal_quantile
from evaluation.statistic import SumStatistic, sparse_terms, threshold_segments

_ROUNDING = 1e-9  # a rate that equals its target but for rounding meets it
_Figure: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]  # weights of positives and negatives per segment
_ONE_CLASS = "A ROC figure needs cases of both classes, with and without cancer."


class RocStatistics:
    """The ROC figures of one set of cases, sorted once, each as a `SumStatistic` over the cases.

    `y`: shape (n,), 1 with cancer and 0 without; `score`: shape (n,), higher is more suspicious. `kind`: shape (n,),
    whole numbers from 0 on, what kind of cancer a positive is (of negatives it means nothing), for figures on one kind
    against all negatives. All statistics share their sums in `bootstrap.cluster_bootstrap_many`. Raises
    `InvalidInputError` for NaN, other values of `y`, or lengths that differ.
    """

    def __init__(self, y: npt.ArrayLike, score: npt.ArrayLike, kind: npt.ArrayLike | None = None) -> None:
        positive, scores = _cases(y, score)
        kinds = np.zeros(len(scores), dtype=np.int64)
        if kind is not None:
            kinds = checks.whole(kind, "kind", below=len(scores) + 1, length=len(scores))
        self._n_kinds = int(kinds[positive].max(initial=0)) + 1
        segment, self._n = threshold_segments(scores, positive)
        rows = np.where(positive, kinds, self._n_kinds) * self._n + segment
        self._terms = sparse_terms(rows, np.arange(len(rows)), ((self._n_kinds + 1) * self._n, len(rows)))

    def auc(self, kind: int | None = None) -> SumStatistic:
        """Area under the curve; equal scores of two classes count one half (Bamber, J Math Psychol 1975;12:387).

        Of all positives, or of those of one `kind` against all negatives.
        """
        if kind is not None and not 0 <= kind < self._n_kinds:
            raise InvalidInputError(f"No positive is of the kind {kind}.")

        def figure(positive: FloatArray, negative: FloatArray) -> FloatArray:
            below = negative.sum(axis=0) - np.cumsum(negative, axis=0)
            won = (positive * (below + negative / 2)).sum(axis=0)
            return np.asarray(won / (positive.sum(axis=0) * negative.sum(axis=0)))

        return self._statistic(figure, kind)

    def partial_auc(self, max_fpr: float, *, standardise: bool = False) -> SumStatistic:
        """Area under the curve from FPR 0 to `max_fpr`, between 0 and `max_fpr`.

        `standardise` maps it to 0.5 for chance and 1 for perfection (McClish, Med Decis Making 1989;9:190), as
        scikit-learn's `roc_auc_score(max_fpr=…)` does.
        """
        limit = checks.rate(max_fpr, "max_fpr")
        if limit == 0:
            raise InvalidInputError("max_fpr must be above 0.")

        def figure(positive: FloatArray, negative: FloatArray) -> FloatArray:
            n_negative = negative.sum(axis=0)
            start = np.cumsum(negative, axis=0) - negative
            width = np.clip(limit * n_negative - start, 0, negative)
            share = np.divide(width, negative, out=np.zeros_like(width), where=negative > 0)
            height = np.cumsum(positive, axis=0) - positive + positive * share / 2
            area = (width * height).sum(axis=0) / (positive.sum(axis=0) * n_negative)
            if standardise:
                chance = limit**2 / 2
                area = 0.5 * (1 + (area - chance) / (limit - chance))
            return np.asarray(area)

        return self._statistic(figure)

    def sensitivity_at_specificity(self, specificity: float) -> SumStatistic:
        """Highest sensitivity of the thresholds whose specificity is at least `specificity`."""
        limit = 1 - checks.rate(specificity, "specificity")

        def figure(positive: FloatArray, negative: FloatArray) -> FloatArray:
            allowed = np.cumsum(negative, axis=0) <= (limit + _ROUNDING) * negative.sum(axis=0)
            return _highest_allowed(positive, allowed)

        return self._statistic(figure)

    def specificity_at_sensitivity(self, sensitivity: float) -> SumStatistic:
        """Highest specificity of the thresholds whose sensitivity is at least `sensitivity`."""
        target = checks.rate(sensitivity, "sensitivity")

        def figure(positive: FloatArray, negative: FloatArray) -> FloatArray:
            reached = np.cumsum(positive, axis=0) >= (target - _ROUNDING) * positive.sum(axis=0)
            called = np.where(reached, np.cumsum(negative, axis=0), np.inf).min(axis=0)
            called = called * (target > 0)  # a sensitivity of 0 needs no call at all
            return np.asarray(1 - called / negative.sum(axis=0))

        return self._statistic(figure)

    def sensitivity_at_recall_rate(self, recall_rate: float) -> SumStatistic:
        """Highest sensitivity of the thresholds that call at most the share `recall_rate` of all cases."""
        limit = checks.rate(recall_rate, "recall_rate")

        def figure(positive: FloatArray, negative: FloatArray) -> FloatArray:
            cases = positive + negative
            allowed = np.cumsum(cases, axis=0) <= (limit + _ROUNDING) * cases.sum(axis=0)
            return _highest_allowed(positive, allowed)

        return self._statistic(figure)

    def _statistic(self, figure: _Figure, kind: int | None = None) -> SumStatistic:
        def defined(sums: FloatArray) -> FloatArray:
            classes = sums.reshape(self._n_kinds + 1, self._n, sums.shape[1])
            positive = classes[:-1].sum(axis=0) if kind is None else classes[kind]
            negative = classes[-1]
            values = np.full(sums.shape[1], np.nan)
            usable = (positive.sum(axis=0) > 0) & (negative.sum(axis=0) > 0)
            if usable.any():
                values[usable] = figure(positive[:, usable], negative[:, usable])
            return values

        return SumStatistic(self._terms, defined, _ONE_CLASS)


def auc(y: npt.ArrayLike, score: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve, equal scores counting one half (Bamber, J Math Psychol 1975;12:387).

    `y`, `score`, `weight`: shape (n,). Raises `NotComputableError` for one class, `InvalidInputError` for NaN, a
    negative weight, or lengths that differ; so do all functions below that take these arrays.
    """
    return RocStatistics(y, score).auc()(weight)


def partial_auc(
    y: npt.ArrayLike,
    score: npt.ArrayLike,
    max_fpr: float,
    weight: npt.ArrayLike | None = None,
    *,
    standardise: bool = False,
) -> float:
    """Area under the ROC curve up to `max_fpr`; see `RocStatistics.partial_auc` for `standardise`."""
    return RocStatistics(y, score).partial_auc(max_fpr, standardise=standardise)(weight)


def sensitivity_at_specificity(
    y: npt.ArrayLike, score: npt.ArrayLike, specificity: float, weight: npt.ArrayLike | None = None
) -> float:
    """Highest sensitivity that a threshold reaches with at least the given specificity."""
    return RocStatistics(y, score).sensitivity_at_specificity(specificity)(weight)


def specificity_at_sensitivity(
    y: npt.ArrayLike, score: npt.ArrayLike, sensitivity: float, weight: npt.ArrayLike | None = None
) -> float:
    """Highest specificity that a threshold reaches with at least the given sensitivity."""
    return RocStatistics(y, score).specificity_at_sensitivity(sensitivity)(weight)


def sensitivity_at_recall_rate(
    y: npt.ArrayLike, score: npt.ArrayLike, recall_rate: float, weight: npt.ArrayLike | None = None
) -> float:
    """Highest sensitivity that a threshold reaches while calling at most the given share of all cases."""
    return RocStatistics(y, score).sensitivity_at_recall_rate(recall_rate)(weight)


@dataclass(frozen=True, eq=False)
class RocCurve:
    """ROC curve, one point per distinct score, from the strictest threshold (∞, at the origin) down.

    `threshold`, `fpr`, `tpr`: float64, shape (m,). A case is called when its score is at least the threshold.
    """

    threshold: FloatArray
    fpr: FloatArray
    tpr: FloatArray


def roc_curve(y: npt.ArrayLike, score: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> RocCurve:
    """The whole ROC curve, as scikit-learn's `roc_curve(drop_intermediate=False)` gives it.

    Cases of weight 0 make no point.
    """
    positive, scores = _cases(y, score)
    weights = checks.weights(weight, len(scores))
    counted = weights > 0
    positive, scores, weights = positive[counted], scores[counted], weights[counted]
    if not positive.any() or positive.all():
        raise NotComputableError(_ONE_CLASS)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(scores[order][1:] != scores[order][:-1], True))
    true_calls = np.cumsum(weights[order] * positive[order])[last]
    false_calls = np.cumsum(weights[order] * ~positive[order])[last]
    return RocCurve(
        np.append(np.inf, scores[order][last]),
        np.append(0.0, false_calls / false_calls[-1]),
        np.append(0.0, true_calls / true_calls[-1]),
    )


@dataclass(frozen=True)
class AucComparison:
    """Two AUCs on the same cases: difference (first - second) with its interval, z and two-sided p value."""

    first: float
    second: float
    difference: Interval
    z: float
    p_value: float


def delong_interval(y: npt.ArrayLike, score: npt.ArrayLike, level: float = 0.95) -> Interval:
    """AUC with DeLong's interval (DeLong et al., Biometrics 1988;44:837), cut at 0 and 1.

    For independent cases; breasts or exams of the same women need the cluster bootstrap. `y`, `score`: shape (n,).
    Raises `NotComputableError` unless both classes have two cases or more, `InvalidInputError` as `auc` does.
    """
    positive, scores = _cases(y, score)
    areas, covariance = _delong(positive, scores[np.newaxis])
    half = normal_quantile(level) * float(np.sqrt(covariance[0, 0]))
    point = float(areas[0])
    return Interval(point, max(0.0, point - half), min(1.0, point + half), "DeLong", level)


def delong_test(y: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, level: float = 0.95) -> AucComparison:
    """Paired comparison of two scores' AUCs on the same independent cases (DeLong et al., Biometrics 1988;44:837).

    `y`, `first`, `second`: shape (n,). Scores that rank the cases alike differ by 0 with p = 1. Raises as
    `delong_interval` does.
    """
    positive, scores = _cases(y, first)
    other = checks.numbers(second, "second score", length=len(scores))
    areas, covariance = _delong(positive, np.stack([scores, other]))
    gap = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = np.sqrt(max(variance, 0.0))
    if error <= _ROUNDING:
        if abs(gap) > _ROUNDING:
            raise NotComputableError("The difference of these AUCs has no variance, so it cannot be tested.")
        z, p_value = 0.0, 1.0
    else:
        z = float(gap / error)
        p_value = float(2 * special.ndtr(-abs(z)))
    half = normal_quantile(level) * float(error)
    return AucComparison(
        float(areas[0]), float(areas[1]), Interval(gap, gap - half, gap + half, "DeLong", level), z, p_value
    )


def _delong(positive: BoolArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """AUCs (k,) and their covariance (k, k) for scores (k, n).

    The structural components come from midranks in O(n log n) (Sun and Xu, IEEE Signal Process Lett 2014;21:1389).
    """
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive < 2 or n_negative < 2:
        raise NotComputableError("DeLong's variance needs at least two cases of each class.")
    of_positives, of_negatives = [], []
    for score in scores:
        among_all = _midranks(score)
        of_positives.append((among_all[positive] - _midranks(score[positive])) / n_negative)
        of_negatives.append(1 - (among_all[~positive] - _midranks(score[~positive])) / n_positive)
    components = np.stack(of_positives), np.stack(of_negatives)
    covariance = np.atleast_2d(np.cov(components[0])) / n_positive + np.atleast_2d(np.cov(components[1])) / n_negative
    return components[0].mean(axis=1), covariance


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, equal values sharing their mean rank."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[codes], dtype=np.float64)


def _cases(y: npt.ArrayLike, score: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    positive = checks.binary(y, "y")
    return positive, checks.numbers(score, "score", length=len(positive))


def _highest_allowed(positive: FloatArray, allowed: BoolArray) -> FloatArray:
    """Sensitivity at the laxest allowed threshold; 0 (nothing called) where none is."""
    sensitivity = np.cumsum(positive, axis=0) / positive.sum(axis=0)
    return np.asarray(np.where(allowed, sensitivity, 0.0).max(axis=0))
