"""Figures as functions of weighted sums, which is what makes resampling them cheap.

An AUC, a sensitivity at a false-positive rate, a kappa and a ratio of means all depend on their cases only through a
few sums: how much weight of each class lies at each score that matters. A bootstrap replicate is the same sums with
other weights, so cases are sorted once, and a replicate costs one sparse matrix-vector product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evaluation import checks
from evaluation.checks import BoolArray, FloatArray, IntArray
from evaluation.errors import InvalidInputError, NotComputableError


@dataclass(frozen=True, eq=False)
class SumStatistic:
    """A figure computed from k weighted sums over n observations.

    `terms`: sparse (k, n), what one unit of weight on each observation adds to each sum. `figure` maps sums of shape
    (k, b) to values of shape (b,), NaN where the figure is undefined; `reason` says in a sentence when that is.
    Statistics that share the same `terms` object share their sums in a bootstrap.
    """

    terms: sparse.csr_array
    figure: Callable[[FloatArray], FloatArray]
    reason: str

    @property
    def n_observations(self) -> int:
        return int(self.terms.shape[1])

    def __call__(self, weight: npt.ArrayLike | None = None) -> float:
        """The figure's value, with observation weights of shape (n,).

        Raises `NotComputableError` where the figure is undefined, `InvalidInputError` for weights that are not weights.
        """
        sums = self.terms @ checks.weights(weight, self.n_observations)
        value = float(self.figure(sums[:, np.newaxis])[0])
        if np.isnan(value):
            raise NotComputableError(self.reason)
        return value


def difference(first: SumStatistic, second: SumStatistic) -> SumStatistic:
    """`first` - `second` on the same observations, so that a bootstrap of it is paired."""
    if first.n_observations != second.n_observations:
        raise InvalidInputError("A paired difference needs both figures over the same cases.")
    split = int(first.terms.shape[0])
    return SumStatistic(
        terms=sparse.csr_array(sparse.vstack([first.terms, second.terms])),
        figure=lambda sums: first.figure(sums[:split]) - second.figure(sums[split:]),
        reason=f"{first.reason} {second.reason}" if first.reason != second.reason else first.reason,
    )


def sparse_terms(
    rows: IntArray, observations: IntArray, shape: tuple[int, int], values: npt.ArrayLike = 1.0
) -> sparse.csr_array:
    """Sparse (k, n) matrix with `values` added at (rows, observations)."""
    data = np.broadcast_to(np.asarray(values, dtype=np.float64), rows.shape)
    return sparse.csr_array(sparse.coo_array((data, (rows, observations)), shape=shape))


def threshold_segments(score: FloatArray, positive: BoolArray) -> tuple[IntArray, int]:
    """The segment of each item, numbered from the highest score down, and the number of segments.

    Equal scores share a segment, and so do neighbouring scores that only negatives have: between them a threshold
    adds false positives and nothing else, so no optimum and no corner of a curve lies there. With p positives there
    are at most 2p + 1 segments, however many items there are. `score` and `positive` have shape (n,).
    """
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    new_score = np.ones(len(score), dtype=np.bool_)
    new_score[1:] = ranked[1:] != ranked[:-1]
    group = np.cumsum(new_score) - 1
    n_groups = int(group[-1]) + 1 if len(group) else 0
    has_positive = np.zeros(n_groups, dtype=np.bool_)
    has_positive[group[positive[order]]] = True
    new_segment = np.ones(n_groups, dtype=np.bool_)
    new_segment[1:] = has_positive[1:] | has_positive[:-1]
    segment_of_group = np.cumsum(new_segment) - 1
    segment = np.empty(len(score), dtype=np.int64)
    segment[order] = segment_of_group[group]
    return segment, int(segment_of_group[-1]) + 1 if n_groups else 0
