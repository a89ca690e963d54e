"""Scores and follow-up joined under a protocol: every exam with its outcome, and its score or why it has none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation.checks import FloatArray, IntArray
from evaluation.columns import positions
from evaluation.followup import EXCLUDED, POSITIVE, breast_outcomes, exam_outcomes
from evaluation.protocol import Outcome, OutcomeRules, Protocol
from evaluation.scores import FAILED, REJECTED, SCORED, Scores
from evaluation.tables import FollowUp, Problem, TableError

_NO_FOLLOW_UP, _NO_SCORES = "not in the follow-up", "not in the scores"
_UNSCORED_CANCER, _UNSCORED_BREAST = "the breast with the cancer has no score", "the breast has no score"
_OF_FOLLOWUP = ("age", "density", "site", "manufacturer", "reader1", "reader2", "recalled")


@dataclass(frozen=True, eq=False)
class Cohort:
    """The cases of an evaluation.

    `exams`: one row an exam, those of the follow-up first (in its order), then scored exams without follow-up. Columns
    of `followup.exam_outcomes` (exam_id, woman_id, exam_date, outcome, role, diagnosis_date, months_to_diagnosis,
    next_exam_date, weight, cancer_side, invasive), of the follow-up's exams (age, density, site, manufacturer, reader1,
    reader2, recalled; density, site and manufacturer are the scores' where the follow-up has none), `round` (1 for the
    woman's first exam in the tables, 0 without follow-up), and of the scores: `exam_score`, `category`, `left_score`,
    `right_score`, and `score`, which is what figures use: in a positive exam of known side the score of that breast
    where breasts have scores (the higher of both for B; none, and excluded, if only the other breast has one),
    otherwise the exam's. Without follow-up, outcome is "", role excluded and weight NaN.
    `included`: bool, whether figures count the exam; `excluded_because`: a sentence otherwise ("" where included).
    `breasts`: two rows an exam, of `followup.breast_outcomes` and `score`, `included`, `excluded_because` likewise.
    `flow`: counts for the flow diagram, in its order, each a (level, label, count): level 0 the exams of both sources,
    1 what is taken off, 2 what is analysed by outcome; the numbers add up. `notes`: sentences to know about.
    """

    protocol: Protocol
    followup: FollowUp
    scores: Scores
    exams: pd.DataFrame
    breasts: pd.DataFrame
    flow: tuple[tuple[int, str, int], ...]
    notes: tuple[str, ...]


class CohortError(TableError):
    """Scores and follow-up cannot be joined; `problems` names the rows that contradict each other."""


def join(scores: Scores, followup: FollowUp, protocol: Protocol) -> Cohort:
    """Join the scores of a system with the follow-up of its exams, by exam_id, under a protocol.

    Every exam of either table is in the cohort, and either counts in figures or says why it does not: no follow-up, no
    score, or an outcome that the protocol excludes.

    Raises `CohortError` if the protocol has no outcome rules, if no scored exam is in the follow-up, or if an exam is
    of different women in the two tables.
    """
    rules = protocol.outcome
    if rules is None:
        raise CohortError(
            f"The protocol {protocol.name} judges boxes, not exams: it has no outcome rules to join follow-up with."
        )
    at = positions(followup.exams["exam_id"], scores.exams["exam_id"])
    _check_overlap(at, scores, followup)
    _check_women(at, scores, followup)
    without_followup = np.ones(len(scores.exams), dtype=np.bool_)
    without_followup[at[at >= 0]] = False
    extra = np.flatnonzero(without_followup)
    exams = _exams(at, extra, scores, followup, rules)
    breasts = _breasts(exams, followup, rules)
    notes = (*scores.notes, *_notes(at, exams, scores, followup, rules))
    return Cohort(protocol, followup, scores, exams, breasts, _flow(exams, len(extra), rules), notes)


def _check_overlap(at: IntArray, scores: Scores, followup: FollowUp) -> None:
    if (at >= 0).any():
        return
    read, listed = scores.exams["exam_id"], followup.exams["exam_id"]
    if not len(read) or not len(listed):
        raise CohortError(f"The {'scores' if not len(read) else 'follow-up'} table of exams is empty.")
    raise CohortError(
        f"None of the {len(read):,} exams with scores is among the {len(listed):,} exams of the follow-up (scores: "
        f"{read.iloc[0]!r}, …; follow-up: {listed.iloc[0]!r}, …). Likely causes: one of the two was pseudonymised, "
        "they use different identifiers (Study Instance UID, accession number), or are of different times or sites."
    )


def _check_women(at: IntArray, scores: Scores, followup: FollowUp) -> None:
    """The woman of an exam is the same in both tables, where the scores name her. Messages give no woman's ID."""
    theirs = _taken(scores.exams["woman_id"], at).set_axis(followup.exams.index)
    wrong = np.flatnonzero((theirs != "") & (theirs != followup.exams["woman_id"]))
    if not len(wrong):
        return
    problems = tuple(
        Problem("exams of the follow-up", line, f"exam {exam!r} is another woman's in line {other} of the scores")
        for line, exam, other in zip(
            followup.exams.index[wrong],
            followup.exams["exam_id"].iloc[wrong],
            scores.exams.index[at[wrong]],
            strict=True,
        )
    )
    cause = ""
    if len(wrong) == int((theirs != "").sum()):
        cause = " (all of them: if one table is pseudonymised, leave woman_id out of the scores)"
    raise CohortError(f"Scores and follow-up disagree on the woman of {len(wrong):,} exams{cause}:", problems)


def _exams(at: IntArray, extra: IntArray, scores: Scores, followup: FollowUp, rules: OutcomeRules) -> pd.DataFrame:
    """`Cohort.exams`: the exams of the follow-up, then the rows `extra` of the scores, which it does not have."""
    told = followup.exams[list(_OF_FOLLOWUP)].reset_index(drop=True)
    exams = pd.concat([exam_outcomes(followup, rules), told], axis=1).assign(round=_rounds(followup))
    unknown = scores.exams.iloc[extra][["exam_id", "woman_id", "exam_date"]]
    unknown = unknown.assign(outcome="", role=EXCLUDED, cancer_side="", round=0, density="", site="", manufacturer="")
    exams = pd.concat([exams, unknown], ignore_index=True) if len(extra) else exams
    row = np.concatenate([at, extra])
    for name in ("density", "site", "manufacturer"):
        exams[name] = exams[name].where(exams[name] != "", _taken(scores.exams[name], row))
    exams["exam_score"] = _taken(scores.exams["score"], row)
    for name in ("category", "left_score", "right_score"):
        exams[name] = _taken(scores.exams[name], row)
    exams["score"] = _score(exams)
    exams["excluded_because"] = _reasons(exams, row, len(at), scores, rules)
    exams["included"] = exams["excluded_because"] == ""
    return exams


def _rounds(followup: FollowUp) -> IntArray:
    """Which of her screening days each exam is of, from 1; two exams of one day share a number."""
    day = followup.exams["exam_date"].to_numpy().astype("datetime64[D]").astype(np.int64)
    woman = pd.factorize(followup.exams["woman_id"])[0]
    order = np.lexsort((day, woman))
    new_woman = np.diff(woman[order], prepend=-1) != 0
    days = np.cumsum(new_woman | (np.diff(day[order], prepend=0) != 0))
    before = np.maximum.accumulate(np.where(new_woman, days, 0))
    rounds = np.empty(len(day), dtype=np.int64)
    rounds[order] = days - before + 1
    return rounds


def _score(exams: pd.DataFrame) -> FloatArray:
    """The score that figures use; NaN for a cancer in a breast without score where the other breast has one."""
    left, right, exam = (exams[name].to_numpy() for name in ("left_score", "right_score", "exam_score"))
    side = exams["cancer_side"].where(exams["role"] == POSITIVE, "")
    of_cancer = np.select([side == "L", side == "R", side == "B"], [left, right, np.fmax(left, right)], exam)
    return np.where(np.isnan(left) & np.isnan(right), exam, of_cancer)


def _reasons(exams: pd.DataFrame, row: IntArray, listed: int, scores: Scores, rules: OutcomeRules) -> pd.Series:
    """Why each exam is not included, "" where it is; the first that applies in the order of the flow diagram."""
    because = _excluded_outcome(exams["outcome"], rules)
    because = because.mask((because == "") & exams["score"].isna(), _UNSCORED_CANCER)
    status = _taken(scores.exams["status"], row)
    reason = _taken(scores.exams["reason"], row).replace("", "no reason given")
    because = because.mask(status != SCORED, status + ": " + reason)
    because = because.mask(row < 0, _NO_SCORES)
    return because.mask(exams.index >= listed, _NO_FOLLOW_UP)


def _excluded_outcome(outcome: pd.Series, rules: OutcomeRules) -> pd.Series:
    """Why an outcome takes an exam or a breast out of the figures; "" where it does not."""
    return outcome.map(_outcome_sentences(rules)).fillna("").astype("str")


def _outcome_sentences(rules: OutcomeRules) -> dict[str, str]:
    months = rules.minimum_negative_followup_months
    return {
        Outcome.NOT_READ_NEGATIVE: "recalled, where the protocol takes negatively read exams",
        Outcome.AFTER_DIAGNOSIS: "the woman had a cancer before",
        Outcome.INSUFFICIENT_FOLLOW_UP: f"followed for less than {months} months, without a cancer",
        Outcome.OTHER_CANCER: f"a cancer within {months} months that is no positive of the protocol",
        Outcome.UNKNOWN_SIDE: "it is unknown in which breast the woman's cancer is",
    }


def _breasts(exams: pd.DataFrame, followup: FollowUp, rules: OutcomeRules) -> pd.DataFrame:
    """`Cohort.breasts`: two rows, left and right, for each row of `exams`, in its order."""
    breasts = breast_outcomes(followup, rules)
    unknown = exams.iloc[len(breasts) // 2 :][["exam_id", "woman_id", "exam_date", "outcome", "role"]]
    if len(unknown):
        unknown = unknown.loc[unknown.index.repeat(2)].assign(laterality=["L", "R"] * len(unknown))
        breasts = pd.concat([breasts, unknown], ignore_index=True)
    breasts["score"] = exams[["left_score", "right_score"]].to_numpy().ravel()
    because = _excluded_outcome(breasts["outcome"], rules)
    because = because.mask((because == "") & breasts["score"].isna(), _UNSCORED_BREAST)
    # What takes off the whole exam, and has nothing to do with its outcome, takes off both breasts.
    own = [*_outcome_sentences(rules).values(), _UNSCORED_CANCER]
    of_exam = exams["excluded_because"].mask(exams["excluded_because"].isin(own), "")
    of_exam = pd.Series(of_exam.array.repeat(2))
    breasts["excluded_because"] = because.mask(of_exam != "", of_exam)
    breasts["included"] = breasts["excluded_because"] == ""
    return breasts


def _flow(exams: pd.DataFrame, extra: int, rules: OutcomeRules) -> tuple[tuple[int, str, int], ...]:
    """See `Cohort.flow`. The counts of level 0 add up to those of the levels 1 and 2."""
    start = [(0, "exams of the follow-up", len(exams) - extra), (0, "exams with scores but without follow-up", extra)]
    counts: Counter[str] = Counter()
    for reason, count in exams.loc[~exams["included"], "excluded_because"].value_counts().items():
        counts[_flow_label(str(reason))] += int(count)
    order = [_NO_FOLLOW_UP, _NO_SCORES]
    known = [*order, *_outcome_sentences(rules).values(), _UNSCORED_CANCER]
    order += sorted(set(counts) - set(known), reverse=True)  # rejected, then failed
    order += known[2:]
    taken_off = [(1, reason, counts[reason]) for reason in order if reason in counts]
    kept = exams.loc[exams["included"], "outcome"].value_counts()
    analysed = [(2, str(outcome), int(kept.get(outcome, 0))) for outcome in (*rules.positives, Outcome.NEGATIVE)]
    return (*(line for line in start if line[2]), *taken_off, *analysed)


def _flow_label(reason: str) -> str:
    """Status and code of a reason such as "failed: unreadable: the file ends early"; other reasons as they are."""
    parts = reason.split(": ")
    return ": ".join(parts[:2]) if parts[0] in (REJECTED, FAILED) else reason


def _notes(
    at: IntArray, exams: pd.DataFrame, scores: Scores, followup: FollowUp, rules: OutcomeRules
) -> tuple[str, ...]:
    """What a reader of the figures should know of the tables they come from."""
    notes = []
    told = pd.Series([note.sentence for note in followup.notes], dtype="str").value_counts()
    notes += [f"in {count:,} rows of the follow-up {sentence}" for sentence, count in told.items()]
    dates = _taken(scores.exams["exam_date"], at)
    differ = int((dates.notna() & (dates != exams["exam_date"].iloc[: len(at)])).sum())
    if differ:
        notes.append(f"exams with another date in the scores than in the follow-up, whose date is used: {differ:,}")
    if (followup.exams["recalled"].isna()).all():
        notes.append(
            f"the follow-up does not say who was recalled; cancers within {rules.workup_months} months of an exam "
            + ("count as screen-detected" if rules.unknown_recall == "by-date" else "do not count as screen-detected")
        )
    if exams["left_score"].isna().all() and exams["right_score"].isna().all():
        notes.append("the scores give no breast apart; an exam's score counts for a cancer on either side")
    insufficient = exams["outcome"] == Outcome.INSUFFICIENT_FOLLOW_UP
    exam_dates = followup.exams["exam_date"]
    if insufficient.any() and not (exams["outcome"] == Outcome.NEGATIVE).any():
        notes.append(
            f"no exam is followed for the {rules.minimum_negative_followup_months} months that a negative one needs: "
            f"exams from {_day(exam_dates.min())} to {_day(exam_dates.max())}, follow-up until "
            f"{_day(followup.followup['followed_until'].max())} at the latest"
        )
    return tuple(notes)


def _day(date: pd.Timestamp) -> str:
    return "an unknown day" if pd.isna(date) else date.date().isoformat()


def _taken(values: pd.Series, at: IntArray) -> pd.Series:
    """The values at those rows, numbered from 0; "" or NaN for row -1."""
    taken = pd.Series(values.array.take(at, allow_fill=True))
    return taken.fillna("") if values.dtype == "str" else taken
