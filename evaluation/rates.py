"""Rates: ratios of what is counted among cases, many of them resampled together, each with the interval that suits it.

Whatever is counted depends on a few yes-or-no columns of a case, so cases that agree in these are one cell, and every
rate is a ratio of sums over cells. A bootstrap then sums the cells once for all rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from evaluation import checks
from evaluation.bootstrap import cluster_bootstrap_each
from evaluation.checks import BoolArray, FloatArray, IntArray
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.intervals import Interval, clopper_pearson, paired_proportion_difference, wilson
from evaluation.protocol import Uncertainty
from evaluation.statistic import SumStatistic, sparse_terms


@dataclass(frozen=True, eq=False)
class Rate:
    """What is counted, and among what: a number per cell, shape (k,), each.

    The rate is the weighted sum of `counted`, less that of `less`, over that of `among`. `less` makes it a paired
    difference of two rates among the same cases. `reason` says in a sentence when there is nothing to count among.
    """

    counted: FloatArray
    among: FloatArray
    reason: str
    less: FloatArray | None = None

    @property
    def is_proportion(self) -> bool:
        """Whether cases are counted once or not at all, and only those that are among."""
        return all(
            bool(np.isin(one, (0, 1)).all() and (one <= self.among).all())
            for one in (self.counted, self.among, self.less)
            if one is not None
        )


def rate(counted: npt.ArrayLike, among: npt.ArrayLike, reason: str) -> Rate:
    """The rate of `counted` among `among`, shape (k,) each; what is counted outside of `among` does not count."""
    below = np.asarray(among, dtype=np.float64)
    return Rate(np.asarray(counted, dtype=np.float64) * (below > 0), below, reason)


def difference(first: Rate, second: Rate) -> Rate:
    """`first` - `second`, paired. Raises `InvalidInputError` unless both are rates among the same cases."""
    if not np.array_equal(first.among, second.among):
        raise InvalidInputError("A paired difference needs two rates among the same cases.")
    return Rate(first.counted, first.among, first.reason, less=second.counted)


@dataclass(frozen=True, eq=False)
class Cells:
    """Cases sorted into cells of equal columns.

    `columns`: the value of each column in each cell, shape (k,) each; `cell`: shape (n,), the cell of each case;
    `count`: shape (k,), how many cases it holds.
    """

    columns: Mapping[str, BoolArray]
    cell: IntArray
    count: IntArray
    terms: sparse.csr_array = field(repr=False)

    @classmethod
    def of(cls, columns: Mapping[str, npt.ArrayLike]) -> Cells:
        """Sort n cases by their `columns`, each of shape (n,), 0 or 1; raises `InvalidInputError` for anything else."""
        arrays = {name: checks.binary(values, name) for name, values in columns.items()}
        n = len(next(iter(arrays.values())))
        cell = np.zeros(n, dtype=np.int64)
        for name, values in arrays.items():
            if len(values) != n:
                raise InvalidInputError(f"{name} has {len(values)} values where {n} are needed.")
            cell = pd.factorize(2 * cell + values)[0].astype(np.int64)
        k = int(cell.max(initial=-1)) + 1
        example = np.zeros(k, dtype=np.int64)
        example[cell] = np.arange(n)
        terms = sparse_terms(cell, np.arange(n), (k, n))
        return cls(
            {name: values[example] for name, values in arrays.items()}, cell, np.bincount(cell, minlength=k), terms
        )

    def statistic(self, one: Rate) -> SumStatistic:
        """The rate as a statistic over the n cases; those of the same cells share their sums."""
        counted = one.counted if one.less is None else one.counted - one.less

        def figure(sums: FloatArray) -> FloatArray:
            among: FloatArray = one.among @ sums
            values = np.full(len(among), np.nan)
            np.divide(counted @ sums, among, out=values, where=among > 0)
            return values

        return SumStatistic(self.terms, figure, one.reason)

    def number(self, where: npt.ArrayLike) -> int:
        """How many cases, unweighted, lie in cells where `where` (k,) is true."""
        return int(self.count[np.asarray(where, dtype=np.bool_)].sum())


def rate_intervals(
    cells: Cells,
    rates: Mapping[str, Rate],
    woman: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    uncertainty: Uncertainty,
) -> dict[str, Interval | str]:
    """The interval of each rate, or the sentence why it has none.

    `woman`: shape (n,); `weight`: shape (n,), inverse sampling probabilities, or None. A proportion of cases of which
    no two share a woman and all weigh 1 gets the protocol's interval for plain proportions, a paired difference of two
    such Newcombe's; everything else is resampled by woman. A proportion of 0 or 1, and a difference without discordant
    cases, would be the same in every replicate, and its interval a lie of width 0: these get the plain interval for the
    effective number of women, (Σw)² / Σw² with w the weight of a woman's cases (Kish, Survey Sampling, 1965, 11.7).
    """
    codes = pd.factorize(np.asarray(woman), sort=True)[0].astype(np.int64)
    if len(codes) != len(cells.cell) or (codes < 0).any():
        raise InvalidInputError("Every case needs its woman: one identifier a case, none missing.")
    weights = checks.weights(weight, len(codes))
    sums = np.asarray(cells.terms @ weights, dtype=np.float64)
    sizes: dict[bytes, float | None] = {}
    found: dict[str, Interval | str] = {}
    resampled: dict[str, SumStatistic] = {}
    for name, one in rates.items():
        if not one.among @ sums > 0:
            found[name] = one.reason
            continue
        key = one.among.tobytes()
        if key not in sizes:
            sizes[key] = _plain_size(one.among[cells.cell] * weights, codes)
        if one.is_proportion and (sizes[key] is not None or _never_varies(one, sums)):
            size = sizes[key] or _effective_size(one.among[cells.cell] * weights, codes)
            found[name] = _plain_interval(one, sums, size, uncertainty)
        else:
            resampled[name] = cells.statistic(one)
    if resampled:
        found |= _resample(resampled, codes, weights, uncertainty)
    return {name: found[name] for name in rates}


def _resample(
    statistics: Mapping[str, SumStatistic], woman: IntArray, weight: FloatArray, uncertainty: Uncertainty
) -> dict[str, Interval | str]:
    try:
        found = cluster_bootstrap_each(
            statistics,
            woman,
            seed=uncertainty.seed,
            replicates=uncertainty.replicates,
            level=uncertainty.level,
            method=uncertainty.method,
            weight=weight,
        )
    except NotComputableError as error:
        return dict.fromkeys(statistics, str(error))
    return {name: one if isinstance(one, Interval) else str(one) for name, one in found.items()}


def _plain_size(weight: FloatArray, woman: IntArray) -> float | None:
    """The number of cases that weigh anything, if all of these weigh 1 and are of different women; None otherwise."""
    some = weight > 0
    one_each = bool((weight[some] == 1).all()) and int(np.bincount(woman[some]).max(initial=0)) <= 1
    return float(some.sum()) if one_each else None


def _effective_size(weight: FloatArray, woman: IntArray) -> float:
    by_woman = np.bincount(woman, weight)
    return float(by_woman.sum() ** 2 / (by_woman**2).sum())


def _never_varies(one: Rate, sums: FloatArray) -> bool:
    if one.less is not None:
        return not (one.counted != one.less) @ sums > 0
    return not one.counted @ sums > 0 or not (one.among - one.counted) @ sums > 0


def _plain_interval(one: Rate, sums: FloatArray, size: float, uncertainty: Uncertainty) -> Interval:
    """Interval for counts that are `size` cases in all."""
    scale = size / float(one.among @ sums)

    def number(counted: FloatArray) -> int:
        return round(float(counted @ sums) * scale)

    n = max(1, round(size))
    if one.less is None:
        proportion = wilson if uncertainty.proportion == "wilson" else clopper_pearson
        return proportion(min(number(one.counted), n), n, uncertainty.level)
    both = number(one.counted * one.less)
    only_first, only_second = number(one.counted * (1 - one.less)), number(one.less * (1 - one.counted))
    neither = max(0, n - both - only_first - only_second)
    return paired_proportion_difference(both, only_first, only_second, neither, uncertainty.level)
