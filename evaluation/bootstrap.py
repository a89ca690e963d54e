"""Cluster bootstrap over women: resampling a woman resamples all her images, breasts and exams.

A replicate is a vector of counts, how often each woman was drawn, and these counts are weights on her observations
(Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 2.4 and 3.8). No data are copied.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, islice
from threading import Lock
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse, special

from evaluation import checks
from evaluation.checks import FloatArray, IntArray
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.intervals import Interval, normal_quantile
from evaluation.statistic import SumStatistic, sparse_terms

Statistic: TypeAlias = SumStatistic | Callable[[FloatArray], float]
"""A figure as a function of observation weights of shape (n,); a `SumStatistic` is resampled much faster."""

Method: TypeAlias = Literal["percentile", "BCa"]

_BLOCK = 6_400_000  # numbers held at once by a thread before figures are computed from them: 51 MB
_REPLICATES_AT_ONCE = 256  # by a thread; of large sets fewer, as a block allows
_THREADS = min(4, os.cpu_count() or 1)
_JACKKNIFE_GROUPS = 1_000


def cluster_bootstrap(
    statistic: Statistic,
    clusters: npt.ArrayLike,
    *,
    seed: int,
    replicates: int = 2_000,
    level: float = 0.95,
    method: Method = "percentile",
    weight: npt.ArrayLike | None = None,
    max_not_computable: float = 0.1,
) -> Interval:
    """Interval of a figure by resampling clusters (women) with replacement.

    `clusters`: shape (n,), the woman of each observation (numbers or strings). `statistic` takes observation weights
    of shape (n,): the woman's count in the replicate times `weight` (default 1; inverse sampling probabilities for
    an enriched set). The same `seed` draws the same women whatever the statistic and the order of rows, so that
    results are reproducible and comparable. `method`: `percentile`, or `BCa` (Efron, J Am Stat Assoc 1987;82:171; the
    acceleration comes from a jackknife over at most 1,000 groups of women).

    Replicates in which the figure has no value (say, no cancer was drawn) are left out and counted in the result.
    Raises `NotComputableError` if the figure itself has no value, if more than the share `max_not_computable` of the
    replicates have none, if there are fewer than two clusters, or if BCa's corrections are undefined on these data;
    `InvalidInputError` for arrays or parameters without meaning.
    """
    return cluster_bootstrap_many(
        {"figure": statistic},
        clusters,
        seed=seed,
        replicates=replicates,
        level=level,
        method=method,
        weight=weight,
        max_not_computable=max_not_computable,
    )["figure"]


def cluster_bootstrap_many(
    statistics: Mapping[str, Statistic],
    clusters: npt.ArrayLike,
    *,
    seed: int,
    replicates: int = 2_000,
    level: float = 0.95,
    method: Method = "percentile",
    weight: npt.ArrayLike | None = None,
    max_not_computable: float = 0.1,
) -> dict[str, Interval]:
    """Intervals of several figures from the same replicates; parameters and errors as in `cluster_bootstrap`."""
    found = cluster_bootstrap_each(
        statistics,
        clusters,
        seed=seed,
        replicates=replicates,
        level=level,
        method=method,
        weight=weight,
        max_not_computable=max_not_computable,
    )
    intervals = {}
    for name, interval in found.items():
        if isinstance(interval, NotComputableError):
            raise interval
        intervals[name] = interval
    return intervals


def cluster_bootstrap_each(
    statistics: Mapping[str, Statistic],
    clusters: npt.ArrayLike,
    *,
    seed: int,
    replicates: int = 2_000,
    level: float = 0.95,
    method: Method = "percentile",
    weight: npt.ArrayLike | None = None,
    max_not_computable: float = 0.1,
) -> dict[str, Interval | NotComputableError]:
    """As `cluster_bootstrap_many`, but a figure without interval has its error as its value and stops no other."""
    if replicates < 1:
        raise InvalidInputError("A bootstrap needs at least one replicate.")
    if method not in ("percentile", "BCa"):
        raise InvalidInputError(f"The bootstrap has no method {method!r}; use 'percentile' or 'BCa'.")
    normal_quantile(level)
    cluster_of, n_clusters = cluster_codes(clusters)
    if n_clusters < 2:
        raise NotComputableError("Resampling needs at least two women.")
    base = checks.weights(weight, len(cluster_of))
    points = {name: _point(name, statistic, base) for name, statistic in statistics.items()}
    computable = {name: one for name, one in statistics.items() if not isinstance(points[name], NotComputableError)}
    resampler = _Resampler(computable, cluster_of, n_clusters, base)
    drawn = resampler.values(_draws(n_clusters, replicates, seed))
    left_out = resampler.values(_leave_group_out(n_clusters, seed)) if method == "BCa" else {}

    def interval(name: str, point: float) -> Interval | NotComputableError:
        values = drawn[name][~np.isnan(drawn[name])]
        failed = replicates - len(values)
        if failed > max_not_computable * replicates:
            return NotComputableError(
                f"The {name} has no value in {failed} of {replicates} bootstrap replicates; there are too few cases."
            )
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        if method == "BCa":
            try:
                tails = _corrected_tails(tails, point, values, left_out[name])
            except NotComputableError as error:
                return error
        low, high = np.quantile(values, tails)
        made_by = f"{method} bootstrap"
        return Interval(point, float(low), float(high), made_by, level, replicates, n_clusters, failed)

    return {
        name: point if isinstance(point, NotComputableError) else interval(name, point)
        for name, point in points.items()
    }


class OverClusters:
    """Turns figures of observations into figures of clusters, so that those of exams, breasts and images can be joined.

    `cluster_of`: shape (n,), in [0, n_clusters), the woman of each observation; a woman may have none. `weight`: shape
    (n,), by default 1, what an observation counts for each time its woman is drawn; not all 0. Statistics that share
    their terms still do.
    """

    def __init__(self, cluster_of: IntArray, n_clusters: int, weight: npt.ArrayLike | None = None) -> None:
        n = len(cluster_of)
        self._per_cluster = sparse_terms(np.arange(n), cluster_of, (n, n_clusters), checks.weights(weight, n))
        self._terms: dict[int, tuple[sparse.csr_array, sparse.csr_array]] = {}

    def __call__(self, statistic: SumStatistic) -> SumStatistic:
        """The same figure as a function of weights (n_clusters,).

        Raises `InvalidInputError` for a statistic over another number of observations.
        """
        n, given = int(self._per_cluster.shape[0]), statistic.terms
        if statistic.n_observations != n:
            raise InvalidInputError(f"clusters has {n} values where {statistic.n_observations} are needed.")
        if id(given) not in self._terms:
            self._terms[id(given)] = given, sparse.csr_array(given @ self._per_cluster)
        return replace(statistic, terms=self._terms[id(given)][1])


def _point(name: str, statistic: Statistic, base: FloatArray) -> float | NotComputableError:
    try:
        point = float(statistic(base))
    except NotComputableError as error:
        return error
    return NotComputableError(f"The {name} has no value on these data.") if np.isnan(point) else point


def cluster_codes(clusters: npt.ArrayLike) -> tuple[IntArray, int]:
    """Clusters numbered 0 … k-1 in the order of their sorted labels: codes of shape (n,), and k.

    Raises `InvalidInputError` for a missing label or an array that is not one-dimensional.
    """
    labels = np.asarray(clusters)
    if labels.ndim != 1:
        raise InvalidInputError("clusters must be one-dimensional: one woman for each observation.")
    if pd.isna(labels).any():
        raise InvalidInputError("clusters has a missing value: an observation without a woman cannot be resampled.")
    unique, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), len(unique)


def _draws(n_clusters: int, replicates: int, seed: int) -> Iterator[IntArray]:
    """How often each cluster is drawn, for each replicate: arrays of shape (n_clusters,)."""
    generator = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(generator.integers(0, n_clusters, n_clusters), minlength=n_clusters)


def _leave_group_out(n_clusters: int, seed: int) -> Iterator[IntArray]:
    """Counts of 1, and 0 for one group of clusters at a time; groups are random and of nearly equal size."""
    order = np.random.default_rng(seed).permutation(n_clusters)
    for group in np.array_split(order, min(n_clusters, _JACKKNIFE_GROUPS)):
        counts = np.ones(n_clusters, dtype=np.int64)
        counts[group] = 0
        yield counts


class _Resampler:
    """Evaluates statistics for weights given as counts of clusters; NaN where a figure has no value."""

    def __init__(
        self, statistics: Mapping[str, Statistic], cluster_of: IntArray, n_clusters: int, base: FloatArray
    ) -> None:
        per_cluster = OverClusters(cluster_of, n_clusters, base)
        self._sums = {name: per_cluster(one) for name, one in statistics.items() if isinstance(one, SumStatistic)}
        self._others = {name: one for name, one in statistics.items() if not isinstance(one, SumStatistic)}
        self._cluster_of = cluster_of
        self._base = base
        # By columns: the counts are then read in order, and what is written to, the sums, stays in the cache.
        self._terms = {id(one.terms): sparse.csc_array(one.terms) for one in self._sums.values()}
        rows = sum(int(terms.shape[0]) for terms in self._terms.values())
        self._per_block = max(1, min(_REPLICATES_AT_ONCE, _BLOCK // max(n_clusters, rows)))

    def values(self, draws: Iterator[IntArray]) -> dict[str, FloatArray]:
        """One value per draw and statistic: arrays of shape (draws,)."""
        if not self._sums and not self._others:
            return {}
        blocks: dict[int, dict[str, FloatArray]] = {}
        numbers = count()
        drawing = Lock()

        def work() -> None:
            while True:
                with drawing:  # one thread draws at a time, so that the draws come in the order of the seed
                    number, drawn = next(numbers), list(islice(draws, self._per_block))
                if not drawn:
                    return
                blocks[number] = self._block(drawn)

        # A caller's function need not be safe in two threads; sums are products and array operations, which are.
        threads = 1 if self._others else _THREADS
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(work) for _ in range(threads)]:
                done.result()
        ordered = [blocks[number] for number in sorted(blocks)]
        return {name: np.concatenate([block[name] for block in ordered]) for name in (*self._sums, *self._others)}

    def _block(self, drawn: list[IntArray]) -> dict[str, FloatArray]:
        found = {name: np.array([self._value(one, counts) for counts in drawn]) for name, one in self._others.items()}
        if self._sums:
            counts = np.ascontiguousarray(np.stack(drawn).T, dtype=np.float64)
            for key, terms in self._terms.items():
                sums = terms @ counts
                found |= {name: one.figure(sums) for name, one in self._sums.items() if id(one.terms) == key}
        return found

    def _value(self, statistic: Callable[[FloatArray], float], counts: IntArray) -> float:
        weight = self._base * counts[self._cluster_of]
        if not weight.any():
            return np.nan
        try:
            return float(statistic(weight))
        except NotComputableError:
            return np.nan


def _corrected_tails(tails: FloatArray, point: float, values: FloatArray, left_out: FloatArray) -> FloatArray:
    """BCa's quantile levels (Efron 1987, equation 4.1): corrected for bias and acceleration."""
    near = np.isclose(values, point, rtol=0, atol=1e-12)
    below = float(((values < point) & ~near).mean() + near.mean() / 2)
    if below in (0.0, 1.0) or np.isnan(left_out).any():
        raise NotComputableError(
            "BCa's corrections are undefined on these data (the figure lies outside its replicates, or rests on one "
            "group of women); use the percentile method."
        )
    bias = special.ndtri(below)
    influence = left_out.mean() - left_out
    spread = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    shifted = bias + special.ndtri(tails)
    return np.asarray(special.ndtr(bias + shifted / (1 - acceleration * shifted)), dtype=np.float64)
