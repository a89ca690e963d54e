"""Two systems on the same exams of the same women: paired differences of their figures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evaluation.cohort import Cohort
from evaluation.draft import Draft, Share, attempt, settle
from evaluation.errors import InvalidInputError, MetricError
from evaluation.figure import Figure
from evaluation.followup import POSITIVE
from evaluation.inputs import Inputs
from evaluation.intervals import Interval
from evaluation.operating_points import Decisions
from evaluation.point_figures import counted_on, paired_draft
from evaluation.roc import delong_test
from evaluation.statistic import SumStatistic, difference

GROUP = "comparison"


@dataclass(frozen=True, eq=False)
class Pair:
    """Two systems on the exams that both scored, in the same order; `note`: what was left out, and what is compared."""

    first: Inputs
    second: Inputs
    note: str


def compare(cohort: Cohort, other: Cohort) -> tuple[Figure, ...]:
    """Differences (cohort - other) of AUC, and of sensitivity and specificity at each operating point of the protocol.

    Both are taken on the exams that both scored, where thresholds are chosen anew. AUC: DeLong where no woman has two
    exams and none has a weight, else the paired bootstrap by women. Sensitivities: McNemar's test in the note where
    exams are independent. `subgroup` names the other system. Raises `InvalidInputError` if the cohorts disagree on
    which exams have cancer, as those of different follow-up or protocol do.
    """
    pair = common(cohort, other)
    drafts = [_auc(pair), *(draft for at in range(len(pair.first.decisions)) for draft in _at_point(pair, at))]
    told = [_told(draft, pair.note, other.scores.name) for draft in drafts]
    return settle(told, pair.first.cases, pair.first.protocol.uncertainty)


def common(cohort: Cohort, other: Cohort) -> Pair:
    """Both cohorts, with only the exams that both include, each judged alike: see `_alike`."""
    of_first, of_second = (set(one.exams.loc[one.exams["included"], "exam_id"]) for one in (cohort, other))
    both = of_first & of_second
    ours, theirs, whole = _alike(_only(cohort, both), _only(other, both))
    first, second = Inputs(ours), Inputs(theirs)
    if not first.cases.table["exam_id"].equals(second.cases.table["exam_id"]) or not np.array_equal(
        first.cases.positive, second.cases.positive
    ):
        raise InvalidInputError("Two systems are compared on one follow-up under one protocol; these cohorts differ.")
    counts = [(len(of_first - both), cohort.scores.name), (len(of_second - both), other.scores.name)]
    told = [f"{n:,} exams that only {name} scored" for n, name in counts if n]
    notes = [f"left out: {', '.join(told)}"] if told else []
    if whole:
        notes.append(f"{whole:,} exams with cancer by their whole score, as one system scores no breasts apart")
    return Pair(first, second, "; ".join(notes))


def _only(cohort: Cohort, exam_ids: set[str]) -> Cohort:
    """The cohort with these exams included, in the order of their identifiers, and no others."""
    exams = cohort.exams[cohort.exams["exam_id"].isin(exam_ids)].sort_values("exam_id")
    breasts = cohort.breasts[cohort.breasts["exam_id"].isin(exam_ids)]
    return replace(cohort, exams=exams.reset_index(drop=True), breasts=breasts.reset_index(drop=True))


def _alike(first: Cohort, second: Cohort) -> tuple[Cohort, Cohort, int]:
    """Both cohorts, with the exam's score for a cancer in which either system has no score of the breast.

    A system that says less must not look better: asked for no side, it may find a cancer by the healthy breast. Returns
    also how many exams with cancer that changes.
    """
    apart = [one.exams[["left_score", "right_score"]].notna().any(axis=1) for one in (first, second)]
    same = (apart[0] == apart[1]).to_numpy()
    ours, theirs = (
        replace(one, exams=one.exams.assign(score=one.exams["score"].where(same, one.exams["exam_score"])))
        for one in (first, second)
    )
    return ours, theirs, int((~same & (first.exams["role"] == POSITIVE)).sum())


def _auc(pair: Pair) -> Draft:
    first, second = pair.first, pair.second
    among, note = first.cases, ""
    everywhere = np.ones(len(among), dtype=np.bool_)
    source: SumStatistic | Interval | str
    if len(among) and among.independent(everywhere):
        try:
            test = delong_test(among.positive, among.score, second.cases.score, first.protocol.uncertainty.level)
            source, note = test.difference, f"DeLong: z = {test.z:.3g}, p = {test.p_value:.3g}"
        except MetricError as error:
            source = str(error)
    else:
        source = attempt(lambda: first.per_woman(difference(first.roc.auc(), second.roc.auc())))
    return Draft("auc-difference", "AUC, difference", GROUP, first.counted, source, note=note)


def _at_point(pair: Pair, at: int) -> list[Draft]:
    first, second, among = pair.first.decisions[at], pair.second.decisions[at], pair.first.cases
    judged = first.judged & second.judged
    positive = among.positive
    shares = {
        "sensitivity": Share(first.found, judged & positive, "exams with cancer", second.found),
        "specificity": Share(~first.recalled, judged & ~positive, "exams without cancer", ~second.recalled),
    }
    reason = " ".join(dict.fromkeys(one.reason for one in (first, second) if one.reason))
    return [_difference(pair, first, key, share, reason) for key, share in shares.items()]


def _difference(pair: Pair, point: Decisions, key: str, share: Share, reason: str) -> Draft:
    among = pair.first.cases
    name = point.point.name
    key, label = f"{key}-difference@{name}", f"{key.capitalize()} at {name}, difference"
    if reason:
        return Draft(key, label, GROUP, pair.first.counted, reason)
    return replace(paired_draft(key, label, counted_on(point, among), share, among, pair.first.protocol), group=GROUP)


def _told(draft: Draft, left_out: str, subgroup: str) -> Draft:
    return replace(draft, subgroup=subgroup, note="; ".join(part for part in (draft.note, left_out) if part))
