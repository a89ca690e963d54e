"""Thresholds that meet a stated target. Choose them on women whom the result is not judged on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluation import checks
from evaluation.checks import FloatArray
from evaluation.errors import InvalidInputError, NotComputableError

_ROUNDING = 1e-9  # a rate that equals its target but for rounding meets it


def threshold_at_specificity(
    y: npt.ArrayLike, score: npt.ArrayLike, specificity: float, weight: npt.ArrayLike | None = None
) -> float:
    """Lowest of the scores that, as a threshold, has at least the given specificity.

    A case is called when its score reaches the threshold. `y`, `score`, `weight`: shape (n,). ∞ when no score is
    strict enough. Raises `NotComputableError` without negatives, `InvalidInputError` for NaN; so do those below.
    """
    scores = checks.numbers(score, "score")
    negative = ~checks.binary(y, "y", length=len(scores))
    weights = checks.weights(weight, len(scores))
    kept = weights > 0
    false_calls = (weights * negative)[kept]
    if not false_calls.any():
        raise NotComputableError("A threshold for a specificity needs cases without cancer.")
    limit = (1 - checks.rate(specificity, "specificity")) * false_calls.sum()
    return _lowest(scores[kept], false_calls, limit)


def threshold_at_sensitivity(
    y: npt.ArrayLike, score: npt.ArrayLike, sensitivity: float, weight: npt.ArrayLike | None = None
) -> float:
    """Highest threshold with at least the given sensitivity, always the score of a positive case.

    `y`, `score`, `weight`: shape (n,). Raises `NotComputableError` without positives.
    """
    scores = checks.numbers(score, "score")
    positive = checks.binary(y, "y", length=len(scores))
    weights = checks.weights(weight, len(scores))[positive]
    total = float(weights.sum())
    if not total > 0:
        raise NotComputableError("A threshold for a sensitivity needs cases with cancer.")
    order = np.argsort(-scores[positive], kind="stable")
    reached = np.cumsum(weights[order]) >= (checks.rate(sensitivity, "sensitivity") - _ROUNDING) * total
    return float(scores[positive][order][np.argmax(reached)])


def threshold_at_recall_rate(score: npt.ArrayLike, recall_rate: float, weight: npt.ArrayLike | None = None) -> float:
    """Lowest of the scores that, as a threshold, calls at most the share `recall_rate` of cases; ∞ when none does.

    `score`, `weight`: shape (n,), of a screening population. Raises `NotComputableError` without cases.
    """
    scores = checks.numbers(score, "score")
    weights = checks.weights(weight, len(scores))
    if not len(scores):
        raise NotComputableError("A threshold for a recall rate needs cases.")
    kept = weights > 0
    return _lowest(scores[kept], weights[kept], checks.rate(recall_rate, "recall_rate") * weights.sum())


def threshold_at_fp(
    region_score: npt.ArrayLike,
    false_positive: npt.ArrayLike,
    fp_rate: float,
    n_units: float,
    weight: npt.ArrayLike | None = None,
) -> float:
    """Lowest of the regions' scores that, as a threshold, keeps at most `fp_rate` false positives per image or exam.

    `region_score`: shape (r,), in [0, 1]; `false_positive`: shape (r,), from `hits.match`; `n_units`: how many images
    (or exams) they come from; `weight`: shape (r,), the weights of their images, then `n_units` is the sum of all
    images' weights. 0 when the rate allows every region: then any threshold does. ∞ when no score is strict enough.
    """
    if not fp_rate >= 0 or not n_units > 0:
        raise InvalidInputError("A rate of false positives must be 0 or more, and its denominator above 0.")
    scores = checks.finite(region_score, "region score")
    if ((scores < 0) | (scores > 1)).any():
        raise InvalidInputError("A region has a score outside [0, 1].")
    false_calls = checks.weights(weight, len(scores)) * checks.binary(
        false_positive, "false_positive", length=len(scores)
    )
    if false_calls.sum() <= fp_rate * n_units * (1 + _ROUNDING):
        return 0.0
    return _lowest(scores, false_calls, fp_rate * n_units)


def _lowest(score: FloatArray, calls: FloatArray, limit: float) -> float:
    """Lowest of the scores (n,) from which on the sum of `calls` (n,) is at most `limit`; ∞ when there is none."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last_of_score = np.append(ranked[1:] != ranked[:-1], True)
    allowed = np.cumsum(calls[order]) <= limit + _ROUNDING * calls.sum()
    candidates = ranked[last_of_score & allowed]
    return float(candidates[-1]) if len(candidates) else np.inf
