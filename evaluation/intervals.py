"""Intervals and tests for plain proportions, and the type that every figure's interval has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from evaluation.errors import InvalidInputError, NotComputableError


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval at `level`.

    `method` names how it was made. For a bootstrap, `n_clusters` women were resampled `replicates` times, and in
    `not_computable` of these the figure had no value; the limits come from the others.
    """

    point: float
    low: float
    high: float
    method: str
    level: float = 0.95
    replicates: int = 0
    n_clusters: int = 0
    not_computable: int = 0

    def __str__(self) -> str:
        return f"{self.point:.3f} ({100 * self.level:g} % CI {self.low:.3f} to {self.high:.3f}, {self.method})"


def normal_quantile(level: float) -> float:
    """Two-sided standard normal quantile of a confidence level in (0, 1): 1.96 for 0.95."""
    if not 0.0 < level < 1.0:
        raise InvalidInputError(f"The confidence level must lie between 0 and 1, not {level}.")
    return float(special.ndtri(0.5 + level / 2))


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Score interval of a proportion without continuity correction (Wilson, J Am Stat Assoc 1927;22:209).

    Raises `NotComputableError` for no trials, `InvalidInputError` for counts that are not counts.
    """
    _check_counts(successes, trials)
    z = normal_quantile(level)
    point = successes / trials
    centre = (successes + z * z / 2) / (trials + z * z)
    half = z / (trials + z * z) * np.sqrt(trials * point * (1 - point) + z * z / 4)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(point, float(low), float(high), "Wilson", level)


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Exact interval of a proportion (Clopper and Pearson, Biometrika 1934;26:404).

    Raises `NotComputableError` for no trials, `InvalidInputError` for counts that are not counts.
    """
    _check_counts(successes, trials)
    normal_quantile(level)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(special.betaincinv(successes + 1, trials - successes, 1 - tail))
    return Interval(successes / trials, low, high, "Clopper-Pearson", level)


@dataclass(frozen=True)
class McNemar:
    """Test of paired proportions: the discordant counts, the two-sided p value, and the method."""

    only_first: int
    only_second: int
    p_value: float
    method: str


def mcnemar(
    only_first: int, only_second: int, method: Literal["exact", "mid-p", "chi2", "chi2-corrected"] = "exact"
) -> McNemar:
    """Compare two paired proportions by their discordant pairs (McNemar, Psychometrika 1947;12:153).

    `only_first` counts the cases that only the first test called, `only_second` those that only the second did.
    `exact` is the binomial test, `mid-p` halves the probability of what was observed (Fagerland et al., BMC Med Res
    Methodol 2013;13:91, who recommend it), `chi2` is asymptotic, `chi2-corrected` with Edwards' continuity
    correction. Without discordant pairs p is 1. Raises `InvalidInputError` for counts that are not counts.
    """
    for count in (only_first, only_second):
        if count < 0 or count != int(count):
            raise InvalidInputError(f"A count of discordant pairs must be a whole number of 0 or more, not {count}.")
    discordant = only_first + only_second
    fewer = min(only_first, only_second)
    if discordant == 0:
        p_value = 1.0
    elif method == "exact":
        p_value = min(1.0, 2 * float(stats.binom.cdf(fewer, discordant, 0.5)))
    elif method == "mid-p":
        at_observed = float(stats.binom.pmf(fewer, discordant, 0.5))
        p_value = min(1.0, 2 * float(stats.binom.cdf(fewer, discordant, 0.5)) - at_observed)
    elif method in ("chi2", "chi2-corrected"):
        gap = abs(only_first - only_second) - (1 if method == "chi2-corrected" else 0)
        p_value = float(stats.chi2.sf(max(gap, 0) ** 2 / discordant, 1))
    else:
        raise InvalidInputError(f"McNemar's test has no method {method!r}.")
    return McNemar(only_first, only_second, p_value, f"McNemar {method}")


def paired_proportion_difference(
    both: int, only_first: int, only_second: int, neither: int, level: float = 0.95
) -> Interval:
    """Difference (first - second) of two proportions of the same cases, by Newcombe's square-and-add method.

    Method 10 of Newcombe, Stat Med 1998;17:2635: Wilson intervals of the two proportions, joined by their
    continuity-corrected correlation. Its bound against a stated margin is a test of non-inferiority.
    Raises `NotComputableError` without cases, `InvalidInputError` for counts that are not counts.
    """
    for count in (both, only_first, only_second, neither):
        _check_counts(count, max(count, 1))
    total = both + only_first + only_second + neither
    first = wilson(both + only_first, total, level)
    second = wilson(both + only_second, total, level)
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    cross = both * neither - only_first * only_second
    if margins == 0:
        correlation = 0.0
    else:
        # Newcombe corrects only positive association, and not below zero.
        corrected = max(cross - total / 2, 0.0) if cross > 0 else float(cross)
        correlation = corrected / float(np.sqrt(float(margins)))
    point = first.point - second.point
    below, above = first.point - first.low, second.high - second.point
    low = point - np.sqrt(max(below**2 - 2 * correlation * below * above + above**2, 0.0))
    below, above = second.point - second.low, first.high - first.point
    high = point + np.sqrt(max(below**2 - 2 * correlation * below * above + above**2, 0.0))
    return Interval(point, float(low), float(high), "Newcombe paired", level)


def _check_counts(successes: int, trials: int) -> None:
    if trials == 0:
        raise NotComputableError("A proportion of no cases has no value.")
    if successes != int(successes) or trials != int(trials) or not 0 <= successes <= trials:
        raise InvalidInputError(f"{successes} of {trials} is not a proportion of counts.")
