"""Do a site's scores spread as the bundle's reference says, and which threshold recalls how many women there?

Units are breasts or exams, whichever the bundle's categories were made of: an exam takes the higher score of two
breasts, so that more than a tenth of exams reaches the highest tenth of breasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from screening.monitoring.psi import psi
from screening.monitoring.reference import BINS, Reference, Unit

FEWEST_UNITS = 50
"""Five expected in each category: below that the chi-square distribution does not hold (Cochran 1954)."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """How a site's units (breasts or exams) spread over the bundle's categories.

    `counts`: of categories 1 to 10, where a tenth each is expected. `psi`: population stability index, 0 for equal.
    `p_value`: of the chi-square test, None where `reason` says why there is none. `top_share`, `top_low`, `top_high`:
    share of the most suspicious tenth with its 95 % interval (Clopper and Pearson 1934).
    """

    unit: Unit
    counts: tuple[int, ...]
    psi: float
    p_value: float | None
    reason: str
    top_share: float
    top_low: float
    top_high: float

    @property
    def units(self) -> int:
        """How many breasts or exams were counted."""
        return sum(self.counts)


@dataclass(frozen=True)
class ChosenPoint:
    """A threshold for a wanted recall rate, and how sure it is.

    Of `exams`, `recalled` reach `threshold`. With 95 % confidence this threshold recalls between `rate_low` and
    `rate_high` of such exams; the threshold that recalls exactly the wanted share lies between `threshold_low` and
    `threshold_high`.
    """

    wanted: float
    threshold: float
    exams: int
    recalled: int
    rate_low: float
    rate_high: float
    threshold_low: float
    threshold_high: float


@dataclass(frozen=True)
class NoPoint:
    """Why no threshold was chosen; `needed`: how many exams it takes."""

    wanted: float
    exams: int
    needed: int
    reason: str


def spread(groups: Sequence[Sequence[float]], reference: Reference) -> Spread:
    """Count a site's scores by category, and test whether each holds a tenth.

    `groups`: for each exam the scores of its units (its breasts, or the exam itself), which are alike and do not count
    as independent: the chi-square statistic is divided by their mean design effect (Rao and Scott 1981, first order),
    and by 1 + n / m for a reference of m units, which is a sample itself. `reference`: the bundle's.
    """
    table = np.zeros((len(groups), BINS))
    for row, scores in enumerate(groups):
        for score in scores:
            table[row, reference.bin(score)] += 1
    counts, unit = table.sum(axis=0), reference.unit
    units = int(counts.sum())
    if not units:
        return Spread(unit, (0,) * BINS, 0.0, None, "no exam was scored", 0.0, 0.0, 1.0)
    expected = reference.stratum("").bins
    top = stats.binomtest(int(counts[-1]), units).proportion_ci(CONFIDENCE)
    p_value, reason = None, ""
    if units < FEWEST_UNITS:
        reason = f"{units} {unit}s are too few for a test; {FEWEST_UNITS} are needed"
    else:
        p_value = _p_value(table, sum(expected))
    return Spread(
        unit=unit,
        counts=tuple(int(n) for n in counts),
        psi=psi(counts.tolist(), expected),
        p_value=p_value,
        reason=reason,
        top_share=float(counts[-1] / units),
        top_low=float(top.low),
        top_high=float(top.high),
    )


def _p_value(table: npt.NDArray[np.float64], reference: float) -> float:
    """`table`: (exams, categories), how many units of each exam lie in each category."""
    counts, sizes = table.sum(axis=0), table.sum(axis=1)
    units, expected = counts.sum(), counts.sum() / BINS
    statistic = float(((counts - expected) ** 2 / expected).sum())
    # Variance of each category's share with exams as the sampled clusters, over that of independent units.
    residual = table - sizes[:, None] * counts / units
    variance = (residual**2).sum(axis=0) / units**2
    effect = max(1.0, float((units * variance * BINS).sum() / (BINS - 1)))
    return float(stats.chi2.sf(statistic / effect / (1 + units / reference), BINS - 1))


def choose_point(scores: Sequence[float], wanted: float) -> ChosenPoint | NoPoint:
    """The threshold that recalls at most the share `wanted` of these exams, and as many as that allows.

    It lies midway between the lowest score that reaches it and the highest that does not. Refused where the sample is
    so small that, with 95 % confidence, the threshold may recall less than half or more than twice of what is wanted.
    """
    exams, needed = len(scores), exams_needed(wanted)
    if exams < needed:
        reason = (
            f"{exams} exams are too few for a recall rate of {percent(wanted)}: the threshold might recall less than "
            f"half or more than twice as many women; {needed} scored exams are needed"
        )
        return NoPoint(wanted, exams, needed, reason)
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    allowed = int(np.floor(wanted * exams + 1e-9))
    recalled = int((ordered > ordered[allowed]).sum())  # of equal scores all are recalled, or none
    if not recalled:
        reason = (
            f"the {allowed + 1} highest scores are equal, so that no threshold recalls {percent(wanted)} of the exams"
        )
        return NoPoint(wanted, exams, needed, reason)
    low, high = _rate_interval(recalled, exams)
    fewest, most = (int(stats.binom.ppf(q, exams, wanted)) for q in (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    return ChosenPoint(
        wanted=wanted,
        threshold=float((ordered[recalled - 1] + ordered[recalled]) / 2),
        exams=exams,
        recalled=recalled,
        rate_low=low,
        rate_high=high,
        threshold_low=float(ordered[min(most, exams - 1)]),
        threshold_high=float(ordered[max(fewest - 1, 0)]),
    )


def percent(share: float) -> str:
    """A share for people: 0.03 is "3 %"."""
    return f"{100 * share:.3g} %"


def _rate_interval(recalled: int, exams: int) -> tuple[float, float]:
    """Of the recall rate in the population of a threshold between the order statistics `recalled` and the next.

    The share above the k-th highest of n scores has the distribution Beta(k, n + 1 - k), whatever the scores'
    (David and Nagaraja 2003, 7.1): the interval of Clopper and Pearson covers both neighbours.
    """
    found = stats.binomtest(recalled, exams).proportion_ci(CONFIDENCE)
    return float(found.low), float(found.high)


@lru_cache(maxsize=8)
def exams_needed(wanted: float) -> int:
    """From how many exams on the 95 % interval of the recall rate lies within half and twice the `wanted` one.

    Raises ValueError where `wanted` is not between 0 and 0.5.
    """
    if not 0 < wanted <= 0.5:
        raise ValueError("a recall rate lies above 0 and is at most 0.5")
    exams = np.arange(1, int(40 / wanted) + 2)
    recalled = np.floor(wanted * exams + 1e-9)
    tail = 0.5 - CONFIDENCE / 2
    low = np.where(recalled > 0, stats.beta.ppf(tail, np.maximum(recalled, 1), exams - recalled + 1), 0.0)
    high = stats.beta.isf(tail, recalled + 1, exams - recalled)
    wide = (low < wanted / 2) | (high > 2 * wanted)
    return int(exams[wide][-1]) + 1
