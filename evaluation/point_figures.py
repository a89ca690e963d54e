"""The figures of operating points: sensitivity, specificity, recall rate, and the matched reader's beside."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.cases import Cases, Counted
from evaluation.checks import BoolArray
from evaluation.draft import Draft, Share, attempt
from evaluation.errors import NotComputableError
from evaluation.intervals import mcnemar
from evaluation.localisation import Marks
from evaluation.operating_points import Decisions
from evaluation.protocol import Protocol
from evaluation.statistic import SumStatistic

GROUP = "operating points"
_OTHER_HALF = "the half of the women on whom the threshold was not chosen"


def drafts(decisions: Sequence[Decisions], among: Cases, marks: Marks | str, protocol: Protocol) -> list[Draft]:
    """Sensitivity, specificity and recall rate of every point, and the reader's beside where it was matched to one."""
    found: list[Draft] = []
    readers: set[str] = set()
    for one in decisions:
        found += _of_point(one, among)
        if one.point.target in ("fp-per-image", "fp-per-exam"):
            found.append(_localised(one, among, marks))
        if one.point.reader is not None and not one.reason:
            if one.point.reader not in readers:
                found += _of_reader(one, among)
                readers.add(one.point.reader)
            found += _against_reader(one, among, protocol)
    return found


def _of_point(one: Decisions, among: Cases) -> list[Draft]:
    called = {
        "sensitivity": ("Sensitivity", one.found, one.judged & among.positive, "exams with cancer"),
        "specificity": ("Specificity", ~one.recalled, one.judged & ~among.positive, "exams without cancer"),
        "recall-rate": ("Recall rate", one.recalled, one.judged, "exams"),
    }
    return [
        Draft(
            key=f"{key}@{one.point.name}",
            label=f"{label} at {one.point.name}",
            group=GROUP,
            counted=counted_on(one, among),
            source=one.reason or Share(share, exams, of),
            threshold=one.threshold,
            note=one.note,
        )
        for key, (label, share, exams, of) in called.items()
    ]


def counted_on(one: Decisions, among: Cases, inside: BoolArray | bool = True) -> Counted:
    """What the point's figures count (of the exams `inside`); the words say so where that is half of the women."""
    counted = among.counted(one.judged & inside)
    if one.point.chosen_on == "validation-split":
        return Counted(counted.n, counted.n_positive, f"{counted.words} ({_OTHER_HALF})")
    return counted


def _localised(one: Decisions, among: Cases, marks: Marks | str) -> Draft:
    """Sensitivity that asks for a mark at the right place, on the images of the judged exams."""
    counted = counted_on(one, among)
    source: SumStatistic | str = one.reason or "There are no marks."
    if isinstance(marks, Marks) and not one.reason:
        counted, source = marks.counted(among, one.judged), attempt(lambda: _localised_statistic(one, among, marks))
    return Draft(
        key=f"localised-sensitivity@{one.point.name}",
        label=f"Sensitivity with a mark at the right place at {one.point.name}",
        group=GROUP,
        counted=counted,
        source=source,
        threshold=one.threshold,
        note=one.note,
    )


def _localised_statistic(one: Decisions, among: Cases, marks: Marks) -> SumStatistic:
    if one.threshold is None:
        raise NotComputableError("Every site has its own threshold on marks.")
    return marks.over_women(among, one.judged)(marks.froc.sensitivity_at(one.threshold))


def _of_reader(one: Decisions, among: Cases) -> list[Draft]:
    reader = str(one.point.reader)
    recalled = among.numbers(reader) == 1
    counted = counted_on(one, among)
    ill, well = one.judged & among.positive, one.judged & ~among.positive
    return [
        Draft(
            f"sensitivity:{reader}",
            f"Sensitivity of {reader}",
            GROUP,
            counted,
            Share(recalled, ill, "exams with cancer"),
        ),
        Draft(
            f"specificity:{reader}",
            f"Specificity of {reader}",
            GROUP,
            counted,
            Share(~recalled, well, "exams without cancer"),
        ),
    ]


def _against_reader(one: Decisions, among: Cases, protocol: Protocol) -> list[Draft]:
    """Paired differences to the reader, with McNemar's test where exams are independent."""
    reader = str(one.point.reader)
    recalled = among.numbers(reader) == 1
    shares = {
        "sensitivity": Share(one.found, one.judged & among.positive, "exams with cancer", recalled),
        "specificity": Share(~one.recalled, one.judged & ~among.positive, "exams without cancer", ~recalled),
    }
    return [
        paired_draft(
            f"{key}-difference@{one.point.name}:{reader}",
            f"{key.capitalize()} at {one.point.name} minus {reader}'s",
            counted_on(one, among),
            share,
            among,
            protocol,
        )
        for key, share in shares.items()
    ]


def paired_draft(
    key: str,
    label: str,
    counted: Counted,
    share: Share,
    among: Cases,
    protocol: Protocol,
) -> Draft:
    """A paired difference of two proportions; the note holds McNemar's test, or why there is none."""
    if share.minus is None:
        raise ValueError("a paired difference needs what to subtract")
    if among.independent(share.among):
        first, second = share.called[share.among], share.minus[share.among]
        test = mcnemar(int((first & ~second).sum()), int((~first & second).sum()), protocol.uncertainty.mcnemar)
        note = f"{test.method}: p = {test.p_value:.3g}, {test.only_first} against {test.only_second} discordant"
    else:
        note = "no McNemar test, as women have several exams or exams have weights; the interval is paired"
    return Draft(key, label, GROUP, counted, share, note=note)
