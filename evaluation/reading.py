"""The model beside the readers: in place of one, as second reader, as triage and as safety net.

Each way of reading is a rule on what the two readers, their consensus and the model said of an exam, replayed on exams
that were read without the model. What a replay cannot know, above all what a consensus would have said of an exam that
it never saw, is an assumption, and every figure names its own. Cancers that the readers found are known because they
found them, while a recall by the model alone was never worked up: the replay favours the readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from evaluation import checks
from evaluation.checks import BoolArray, IntArray
from evaluation.operating_point import threshold_at_recall_rate
from evaluation.rates import Rate, difference, rate

Columns: TypeAlias = Mapping[str, BoolArray]
"""What was said of each exam, boolean arrays of shape (n,). `reader1`, `reader2`: that reader's recall; `recalled`: the
programme's decision. `called`: the model's score reaches its threshold; `low …`, `top …`: the score is among the
lowest or highest share of exams."""

Meeting: TypeAlias = Literal["discordant", "any-recall"]
"""Which exams go to a consensus: those on which two readings differ, or those that at least one would recall."""

Arbitration: TypeAlias = Literal["programme", "recall", "no-recall"]
"""What a consensus says of an exam that in truth went to none: what the programme decided, or always the same."""

TRIAGE_SHARES = (0.5, 0.7)
"""Lowest shares of exams for triage; scores 1 to 5 and 1 to 7 of 10 in Larsen et al., Eur Radiol 2022 (PMC9705475)."""

NET_SHARE = 0.01
"""Highest share of exams that a safety net recalls: the strictest recall rate of the audit's protocol."""

MARGIN = 0.05
"""Non-inferiority margin of sensitivity and specificity, as a difference: 5 percentage points, after the 5 % of Warren
et al., Nat Cancer 2026 (10.1038/s43018-026-01128-z), where the model replaced the second reader."""

_ARBITRATION: dict[Arbitration, str] = {
    "programme": "what the programme decided",
    "recall": "a recall",
    "no-recall": "no recall",
}


@dataclass(frozen=True, eq=False)
class Strategy:
    """A way of reading: from columns of shape (n,) to the decision, the number of reads by people, and whether a
    consensus meets; `needs`: the columns that it uses; `assumption`: what the replay takes for granted."""

    key: str
    label: str
    needs: frozenset[str]
    recalls: Callable[[Columns], BoolArray]
    reads: Callable[[Columns], IntArray]
    meets: Callable[[Columns], BoolArray]
    assumption: str = ""

    @property
    def uses_model(self) -> bool:
        return any(name == "called" or name.startswith(("low", "top")) for name in self.needs)


def meets(first: BoolArray, second: BoolArray, meeting: Meeting) -> BoolArray:
    """Which exams go to a consensus after two readings, shape (n,) each."""
    return first ^ second if meeting == "discordant" else first | second


def arbitrated(columns: Columns, meeting: Meeting, arbitration: Arbitration) -> BoolArray:
    """Decision with the model as the second reader, shape (n,), from `reader1`, `reader2`, `recalled` and `called`.

    Where reader 1 and the model need no consensus, their common call stands. Where they need one and the exam had one
    in truth (`meeting` of the two readers), that consensus' decision stands. Where it had none, `arbitration` says.
    `programme` keeps what the programme decided: then a cancer that both readers missed stays missed although the
    model called it, and one that both called stays found. `recall` and `no-recall` are the limits on either side.
    """
    reader1, called, recalled = columns["reader1"], columns["called"], columns["recalled"]
    unseen = {"programme": recalled, "recall": np.ones_like(recalled), "no-recall": np.zeros_like(recalled)}
    seen = meets(reader1, columns["reader2"], meeting)
    decided = np.where(seen, recalled, unseen[arbitration])
    return np.where(meets(reader1, called, meeting), decided, reader1 & called)


def lowest(score: npt.ArrayLike, share: float, weight: npt.ArrayLike | None = None) -> BoolArray:
    """The exams with the lowest scores, at most the given share of them; equal scores go together. Shape (n,)."""
    negated = -checks.numbers(score, "score")
    return np.asarray(negated >= threshold_at_recall_rate(negated, share, weight))


def strategies(
    triage: Sequence[float] = TRIAGE_SHARES, net: float = NET_SHARE, meeting: Meeting = "discordant"
) -> tuple[Strategy, ...]:
    """The ways of reading: the programme as it was, readers alone and joined, and the model in each of its roles."""
    found = [
        _programme(meeting),
        Strategy("reader1", "reader 1 alone", frozenset({"reader1"}), _column("reader1"), _reads(1), _never),
        Strategy("reader2", "reader 2 alone", frozenset({"reader2"}), _column("reader2"), _reads(1), _never),
        _joined("either_reader", "either reader", "reader1", "reader2", np.logical_or, 2),
        _joined("both_readers", "both readers", "reader1", "reader2", np.logical_and, 2),
        Strategy("model", "model alone", frozenset({"called"}), _column("called"), _reads(0), _never),
        _joined("reader1_or_model", "reader 1 or model", "reader1", "called", np.logical_or, 1),
        _joined("reader1_and_model", "reader 1 and model", "reader1", "called", np.logical_and, 1),
        *(_second_reader(meeting, arbitration) for arbitration in _ARBITRATION),
    ]
    for share in triage:
        found += [_triage(share, meeting, reads=1), _triage(share, meeting, reads=0)]
    found.append(_net(net, meeting))
    found.extend(_triage(share, meeting, reads=0, net=net) for share in triage[:1])
    return tuple(found)


def strategy_rates(strategy: Strategy, exams: Columns, right_side: Columns) -> dict[str, Rate]:
    """The rates of one way of reading; the reads that it saves are those of the programme, one by each of its readers.

    `exams`: the columns, and `positive` and `interval` (cancer under the protocol, and one of its interval cancers),
    shape (n,). `right_side`: the columns as a detection needs them, the model's taken from the breast with the cancer:
    a call on the other breast recalls the woman and detects nothing.
    """
    positive, interval = exams["positive"], exams["interval"]
    recalls, detects = strategy.recalls(exams), strategy.recalls(right_side) & positive
    everyone = np.ones_like(positive)
    reads, usual = strategy.reads(exams), _usual_reads(exams)
    saved = Rate((usual - reads).astype(np.float64), usual.astype(np.float64), "There are no reads to save.")
    return {
        "sensitivity": rate(detects, positive, "There is no exam with cancer."),
        "specificity": rate(~recalls, ~positive, "There is no exam without cancer."),
        "recall_rate": rate(recalls, everyone, "There is no exam."),
        "detection_rate": rate(detects, everyone, "There is no exam."),
        "ppv": rate(detects, recalls, "No exam is recalled."),
        "interval_cancers_caught": rate(detects, interval, "There is no exam before an interval cancer."),
        "reads_saved": saved,
        "consensus_rate": rate(strategy.meets(exams), everyone, "There is no exam."),
    }


PAIRED = ("sensitivity", "specificity", "recall_rate", "detection_rate")
"""The rates that are compared between two ways of reading, exam by exam."""


def paired_differences(first: Mapping[str, Rate], second: Mapping[str, Rate]) -> dict[str, Rate]:
    """`first` - `second` for each rate of `PAIRED`, on the same exams."""
    return {name: difference(first[name], second[name]) for name in PAIRED}


def _column(name: str) -> Callable[[Columns], BoolArray]:
    return lambda columns: columns[name]


def _reads(number: int) -> Callable[[Columns], IntArray]:
    return lambda columns: np.full(len(columns["positive"]), number, dtype=np.int64)


def _never(columns: Columns) -> BoolArray:
    return np.zeros(len(columns["positive"]), dtype=np.bool_)


def _usual_reads(columns: Columns) -> IntArray:
    return np.full(len(columns["positive"]), 2 if "reader2" in columns else 1, dtype=np.int64)


def _usual_meeting(meeting: Meeting) -> Callable[[Columns], BoolArray]:
    def usual(columns: Columns) -> BoolArray:
        if "reader1" in columns and "reader2" in columns:
            return meets(columns["reader1"], columns["reader2"], meeting)
        return _never(columns)

    return usual


def _programme(meeting: Meeting) -> Strategy:
    return Strategy(
        "programme",
        "the programme as it was read",
        frozenset({"recalled"}),
        _column("recalled"),
        _usual_reads,
        _usual_meeting(meeting),
    )


def _joined(
    key: str, label: str, first: str, second: str, join: Callable[[BoolArray, BoolArray], BoolArray], reads: int
) -> Strategy:
    return Strategy(
        key,
        label,
        frozenset({first, second}),
        lambda columns: join(columns[first], columns[second]),
        _reads(reads),
        _never,
        "there is no consensus",
    )


def _second_reader(meeting: Meeting, arbitration: Arbitration) -> Strategy:
    which = "they differ" if meeting == "discordant" else "one of them recalls"
    return Strategy(
        f"second_reader_{arbitration}",
        f"model as second reader, unseen consensus: {_ARBITRATION[arbitration]}",
        frozenset({"reader1", "reader2", "recalled", "called"}),
        lambda columns: arbitrated(columns, meeting, arbitration),
        _reads(1),
        lambda columns: meets(columns["reader1"], columns["called"], meeting),
        f"reader 1 and the model go to a consensus where {which}; its outcome is the programme's decision where the "
        f"exam went to a consensus in truth, and {_ARBITRATION[arbitration]} where it did not",
    )


def _triage(share: float, meeting: Meeting, *, reads: Literal[0, 1], net: float | None = None) -> Strategy:
    low, top = low_name(share), top_name(net or 0)
    usual_meeting = _usual_meeting(meeting)

    def recalls(columns: Columns) -> BoolArray:
        alone = columns["reader1"] if reads else np.zeros_like(columns[low])
        decided = np.where(columns[low], alone, columns["recalled"])
        return decided | columns[top] if net else decided

    how = "read once, by reader 1" if reads else "not read"
    label = f"triage: the lowest {100 * share:g} % {'read once' if reads else 'not read'}"
    return Strategy(
        f"triage_{100 * share:g}_{'single' if reads else 'no'}_read" + ("_net" if net else ""),
        label + (f", the highest {100 * net:g} % recalled" if net else ""),
        frozenset({"recalled", low} | ({"reader1"} if reads else set()) | ({top} if net else set())),
        recalls,
        lambda columns: np.where(columns[low], reads, _usual_reads(columns)),
        lambda columns: usual_meeting(columns) & ~columns[low],
        f"at most {100 * share:g} % of the exams, those with the lowest scores, are {how}; the rest is read as it was"
        + (f", and the highest {100 * net:g} % are recalled whatever the readers say" if net else ""),
    )


def _net(share: float, meeting: Meeting) -> Strategy:
    top = top_name(share)
    return Strategy(
        f"safety_net_{100 * share:g}",
        f"safety net: the highest {100 * share:g} % recalled although read negative",
        frozenset({"recalled", top}),
        lambda columns: columns["recalled"] | columns[top],
        _usual_reads,
        _usual_meeting(meeting),
        "every exam is read as it was; the highest scores are recalled without a further consensus",
    )


def low_name(share: float) -> str:
    """The column of the exams with the lowest scores."""
    return f"low {share:g}"


def top_name(share: float) -> str:
    """The column of the exams whose score is among the highest, of the right breast in the columns of a detection."""
    return f"top {share:g}"
