"""Tests of a period's exams against those of a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

_MOST_Z = 8.0
"""A normal score is cut off here, where a probability has no more digits."""


def homogeneity_p(counts: Sequence[float], reference: Sequence[float]) -> float:
    """p value that counts (k,) and a reference's counts (k,) come from one distribution.

    The power divergence of Cressie and Read (J R Stat Soc B 1984;46:440) with their λ = 2/3, against chi-square: down
    to 25 exams in ten bins it keeps its level at the small p values that many tests need, where Pearson's (λ = 1) is
    twice over. Bins that are empty in both are left out; with one bin left, or nothing on a side, p is 1.
    """
    table = np.array([counts, reference], np.float64)
    table = table[:, table.sum(axis=0) > 0]
    rows = table.sum(axis=1, keepdims=True)
    if table.shape[1] < 2 or not rows.all():
        return 1.0
    expected = rows * table.sum(axis=0) / table.sum()
    statistic = 1.8 * np.sum(table * ((table / expected) ** (2 / 3) - 1))
    return float(special.chdtrc(table.shape[1] - 1, max(0.0, statistic)))


def location_z(counts: Sequence[float], baseline: Sequence[float], scale: Sequence[float]) -> float:
    """How far the mean of `scale` (k,) over counts (k,) lies above that over a baseline's counts (k,), in its error.

    Standard normal without a change. With `ridits` of the reference for a scale it is Bross's analysis (Biometrics
    1958;14:18), Wilcoxon's test on grouped scores but for the variance, which is the baseline's.
    """
    n, m, values = np.asarray(counts), np.asarray(baseline), np.asarray(scale)
    mean = m @ values / m.sum()
    variance = m @ (values - mean) ** 2 / m.sum()
    if not variance > 0:
        return 0.0  # all of the baseline in one bin: no direction can be told
    return float((n @ values / n.sum() - mean) / math.sqrt(variance * (1 / n.sum() + 1 / m.sum())))


def ridits(reference: Sequence[float]) -> list[float]:
    """For each bin the share of the reference below it, and half of that in it: a scale from 0 to 1, its mean 1/2."""
    shares = np.asarray(reference, np.float64) / np.sum(reference)
    return [float(value) for value in np.cumsum(shares) - shares / 2]


def exact_interval(count: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share by Clopper and Pearson (Biometrika 1934;26:404); `total` must be above 0."""
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(special.betaincinv(count, total - count + 1, tail))
    high = 1.0 if count == total else float(special.betaincinv(count + 1, total - count, 1 - tail))
    return low, high


@dataclass(frozen=True)
class ShareTest:
    """Of `count` in `total` against a reference: exact two-sided p (twice the smaller tail), and a normal score."""

    p: float
    z: float


def share_test(count: int, total: int, reference_count: int, reference_total: int) -> ShareTest:
    """Compare two shares by the hypergeometric distribution of `count`, given the sum (Fisher 1935).

    The normal score is that of the mid-p value (Lancaster, J Am Stat Assoc 1961;56:223), which has mean 0 and a
    standard deviation of at most 1 without a change, also where the share is small.
    """
    law, first = _hypergeometric(total, count + reference_count, total + reference_total)
    at, below, above = law[count - first], law[: count - first].sum(), law[count - first + 1 :].sum()
    low, high = below + at / 2, above + at / 2
    z = float(special.ndtri(low) if low < high else -special.ndtri(high))
    return ShareTest(min(1.0, 2 * float(min(below, above) + at)), max(-_MOST_Z, min(_MOST_Z, z)))


def _hypergeometric(drawn: int, marked: int, all_there: int) -> tuple[npt.NDArray[np.float64], int]:
    """Probabilities of every possible number of marked among `drawn`, and the first of these numbers.

    By way of logarithms over the whole support at once: SciPy's, which is exact one by one, takes a hundred times
    longer, and a year of a programme needs ten thousand of them.
    """
    first = max(0, drawn + marked - all_there)
    number = np.arange(first, min(drawn, marked) + 1, dtype=np.float64)
    log = -(
        special.gammaln(number + 1)
        + special.gammaln(marked - number + 1)
        + special.gammaln(drawn - number + 1)
        + special.gammaln(all_there - marked - drawn + number + 1)
    )
    weights = np.exp(log - log.max())
    return weights / weights.sum(), first
