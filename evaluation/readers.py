"""Figures of the model beside the readers on a cohort: every way of reading, and how it compares with the programme."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.cases import Cases, cases
from evaluation.checks import BoolArray, FloatArray
from evaluation.cohort import Cohort
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.figure import Figure
from evaluation.intervals import Interval, McNemar, mcnemar
from evaluation.operating_point import threshold_at_recall_rate
from evaluation.operating_points import first_threshold
from evaluation.protocol import Outcome, Uncertainty
from evaluation.rates import Cells, Rate, rate_intervals
from evaluation.reading import (
    MARGIN,
    NET_SHARE,
    PAIRED,
    TRIAGE_SHARES,
    Meeting,
    Strategy,
    low_name,
    lowest,
    paired_differences,
    strategies,
    strategy_rates,
    top_name,
)

GROUP = "second reader"
READERS = ("reader1", "reader2", "recalled")
COMPARED = {"model": ("reader1", "reader2")}
"""What a way of reading is compared with besides the programme."""


@dataclass(frozen=True)
class Words:
    """How a rate is printed: its name, what is counted among what, and what it is multiplied by."""

    label: str
    counted: str
    among: str
    per: int = 1


RATES: dict[str, Words] = {
    "sensitivity": Words("sensitivity", "detected", "exams with cancer"),
    "specificity": Words("specificity", "not recalled", "exams without cancer"),
    "recall_rate": Words("recall rate", "recalled", "exams with known outcome"),
    "detection_rate": Words("cancer detection rate", "detected", "exams with known outcome", per=1_000),
    "ppv": Words("PPV of a recall", "with cancer", "recalled exams"),
    "interval_cancers_caught": Words("interval cancers caught", "detected", "exams before an interval cancer"),
    "reads_saved": Words("reads saved", "reads fewer", "reads of the programme"),
    "consensus_rate": Words("consensus rate", "sent to a consensus", "exams with known outcome"),
}


def is_non_inferior(difference: Interval, margin: float = MARGIN) -> bool:
    """Whether the lower bound of a difference (new - old) of a rate where more is better lies above -`margin`.

    With a 95 % interval this is a one-sided test at 2.5 %. Raises `InvalidInputError` for a margin that is not above 0.
    """
    if not margin > 0:
        raise InvalidInputError(f"A non-inferiority margin must lie above 0, not {margin}.")
    return difference.low > -margin


def reader_figures(
    cohort: Cohort,
    threshold: float | None = None,
    *,
    triage: Sequence[float] = TRIAGE_SHARES,
    net: float = NET_SHARE,
    margin: float = MARGIN,
) -> tuple[Figure, ...]:
    """Figures of every way of reading, on the included exams whose decisions are all known.

    Keys: "<way>/<rate>", and "<way>-minus-<other>/<rate>" for paired differences to the programme (of the model alone
    to each reader, too), with McNemar's test and, for sensitivity and specificity, non-inferiority by `margin` in their
    note. `threshold`: of the exam score; by default that of the protocol's first operating point. `triage`, `net`:
    shares of exams, see `reading`. A way of reading that the tables do not allow is one figure with its reason.
    """
    counted = cases(cohort)
    known = {name: counted.numbers(name) for name in READERS}
    given = {name: values for name, values in known.items() if not np.isnan(values).all()}
    if not given:
        return (_without("readers", "readers", f"No exam has a decision in {', '.join(READERS)}."),)
    rows = ~np.any([np.isnan(values) for values in given.values()], axis=0)
    if not rows.any():
        return (_without("readers", "readers", f"No exam has known decisions in all of {', '.join(given)}."),)
    cut, no_cut = _threshold(cohort, threshold)
    decisions = {name: values[rows] == 1 for name, values in given.items()}
    study = _Study(counted, rows, decisions, cut, triage, net, cohort.protocol.uncertainty, margin)
    figures: list[Figure] = []
    for strategy in study.strategies:
        lacking = strategy.needs - study.available
        if lacking:
            missing = f"It needs {', '.join(sorted(lacking & set(READERS)))} in the follow-up's exams."
            figures.append(_without(strategy.key, strategy.label, no_cut if "called" in lacking else missing))
    return (*study.figures(), *figures)


def _threshold(cohort: Cohort, threshold: float | None) -> tuple[float | None, str]:
    if threshold is not None:
        return threshold, ""
    try:
        return first_threshold(cohort), ""
    except NotComputableError as error:
        return None, str(error)


def _without(key: str, label: str, reason: str) -> Figure:
    return Figure(key, label, GROUP, None, 0, 0, "", reason)


class _Study:
    """The ways of reading replayed on the exams whose decisions are known."""

    def __init__(
        self,
        counted: Cases,
        rows: BoolArray,
        decisions: Mapping[str, BoolArray],
        cut: float | None,
        triage: Sequence[float],
        net: float,
        uncertainty: Uncertainty,
        margin: float,
    ) -> None:
        self._n_included = len(counted)
        self._woman = counted.woman[rows]
        self._weight = counted.weight[rows] if counted.weighted else None
        self._cut, self._uncertainty, self._margin = cut, uncertainty, margin
        self._meeting = _meeting_of(decisions)
        self.strategies = strategies(triage, net, self._meeting)
        positive = counted.positive[rows]
        interval = (counted.table["outcome"].to_numpy() == Outcome.INTERVAL)[rows] & positive
        said = {**decisions, "positive": positive, "interval": interval}
        by_model = self._model(counted.exam_score[rows], counted.score[rows], triage, net)
        self.available = frozenset(said) | frozenset(by_model)
        both = {name: exam for name, (exam, _) in by_model.items()}
        sides = {f"{name}, right side": side for name, (_, side) in by_model.items()}
        self._cells = Cells.of({**said, **both, **sides})
        cell = self._cells.columns
        self._exams = {name: cell[name] for name in self.available}
        self._right = {name: cell[f"{name}, right side"] if name in by_model else cell[name] for name in self.available}
        self._n_positive = int(positive.sum())

    def _model(
        self, score: FloatArray, side_score: FloatArray, triage: Sequence[float], net: float
    ) -> dict[str, tuple[BoolArray, BoolArray]]:
        """The model's columns, of the exam and of the breast with the cancer."""
        found = {low_name(share): (low := lowest(score, share, self._weight), low) for share in triage}
        top = threshold_at_recall_rate(score, net, self._weight)
        found[top_name(net)] = (score >= top, side_score >= top)
        if self._cut is not None:
            found["called"] = (score >= self._cut, side_score >= self._cut)
        return found

    def figures(self) -> Iterator[Figure]:
        possible = [strategy for strategy in self.strategies if strategy.needs <= self.available]
        rates = {one.key: strategy_rates(one, self._exams, self._right) for one in possible}
        pairs = [
            (one, other)
            for one in possible
            for other in possible
            if one is not other and other.key in ("programme", *COMPARED.get(one.key, ()))
        ]
        differences = {
            (one.key, other.key): paired_differences(rates[one.key], rates[other.key]) for one, other in pairs
        }
        every = {f"{key}/{name}": rate for key, mine in rates.items() for name, rate in mine.items()}
        every |= {f"{a}-minus-{b}/{name}": rate for (a, b), both in differences.items() for name, rate in both.items()}
        intervals = rate_intervals(self._cells, every, self._woman, self._weight, self._uncertainty)
        for one in possible:
            for name, words in RATES.items():
                key = f"{one.key}/{name}"
                yield self._figure(key, one, words, every[key], intervals[key])
            for first, other in pairs:
                if first is one:
                    for name in PAIRED:
                        key = f"{one.key}-minus-{other.key}/{name}"
                        yield self._difference(key, one, other, name, every[key], intervals[key])

    def _figure(self, key: str, one: Strategy, words: Words, rate: Rate, found: Interval | str) -> Figure:
        counted, among = (round(float(part @ self._cells.count)) for part in (rate.counted, rate.among))
        left = self._n_included - len(self._woman)
        unknown = f"{left:,} exams without all of the readers' decisions are left out" if left else ""
        denominator = f"{counted:,} {words.counted} of {among:,} {words.among}"
        notes = (one.assumption, unknown)
        return self._built(key, f"{one.label}: {words.label}", found, denominator, one, words.per, notes)

    def _difference(
        self, key: str, one: Strategy, other: Strategy, name: str, rate: Rate, found: Interval | str
    ) -> Figure:
        words = RATES[name]
        first, second = rate.counted > 0, np.zeros_like(rate.among) < np.asarray(rate.less)
        number = self._cells.number
        test = mcnemar(number(first & ~second), number(second & ~first), self._uncertainty.mcnemar)
        notes = [one.assumption, self._tested(test)]
        if isinstance(found, Interval) and name in ("sensitivity", "specificity"):
            notes.append(_non_inferiority(found, self._margin))
        counts = f"{words.counted}: only by {one.label} {test.only_first:,}, only by {other.label} {test.only_second:,}"
        denominator = f"{counts}, both {number(first & second):,}, of {number(rate.among > 0):,} {words.among}"
        label = f"{one.label} minus {other.label}: {words.label}"
        return self._built(key, label, found, denominator, one, words.per, notes)

    def _tested(self, test: McNemar) -> str:
        if self._weight is not None:
            return "no McNemar test, as the exams are weighted"
        return f"p = {test.p_value:.3g} ({test.method}, exams taken as independent)"

    def _built(
        self,
        key: str,
        label: str,
        found: Interval | str,
        denominator: str,
        one: Strategy,
        per: int,
        notes: Sequence[str],
    ) -> Figure:
        weighted = "" if self._weight is None else ", weighted by inverse sampling probability"
        return Figure(
            key=key,
            label=label,
            group=GROUP,
            interval=None if isinstance(found, str) else found,
            n=len(self._woman),
            n_positive=self._n_positive,
            denominator=denominator + weighted,
            reason=found if isinstance(found, str) else "",
            threshold=self._cut if "called" in one.needs else None,
            note="; ".join(filter(None, notes)),
            per=per,
        )


def _meeting_of(decisions: Mapping[str, BoolArray]) -> Meeting:
    """When the programme's consensus met: also on what both readers would recall, if it ever decided against both."""
    if len(decisions) < len(READERS):
        return "discordant"
    overruled = decisions["reader1"] & decisions["reader2"] & ~decisions["recalled"]
    return "any-recall" if overruled.any() else "discordant"


def _non_inferiority(difference: Interval, margin: float) -> str:
    verdict = "non-inferior" if is_non_inferior(difference, margin) else "non-inferiority not shown"
    bound = f"lower bound {100 * difference.low:+.1f}"
    return f"{verdict} by a margin of {100 * margin:g} percentage points ({bound})"
