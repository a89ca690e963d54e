"""From registry rows to the outcome of each exam, and of each breast, under a protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.checks import BoolArray, IntArray
from evaluation.protocol import Outcome, OutcomeRules
from evaluation.tables import FollowUp

DateArray = npt.NDArray[np.datetime64]

POSITIVE, NEGATIVE, EXCLUDED = "positive", "negative", "excluded"

_NO_DATE = np.datetime64("NaT", "D")
_DAYS_PER_MONTH = 30.4375


def exam_outcomes(followup: FollowUp, rules: OutcomeRules) -> pd.DataFrame:
    """The outcome of every exam under a protocol's rules, one row an exam in the order of `followup.exams`.

    Columns: exam_id, woman_id, exam_date; `outcome` (see `protocol.Outcome`) and its `role` (positive, negative or
    excluded); `diagnosis_date` and `months_to_diagnosis` of the first malignant diagnosis on or after the exam,
    whatever the outcome; `cancer_side` (L, R, B, or empty where unknown: of all cancers found within the work-up time
    of that diagnosis) and `invasive` (1, 0, NaN unknown); `next_exam_date`; `weight` (1 without weights). The score of
    a positive exam is that of `cancer_side`: a high score on the healthy breast detects nothing.
    """
    exams, cancers = _exams(followup), _cancers(followup)
    diagnosis = _first_from(cancers, exams)
    outcome = _outcomes(exams, diagnosis, _has_earlier(cancers, exams), rules)
    side, invasive = _describe(cancers, exams, diagnosis, rules.workup_months)
    return _table(followup, exams, outcome, diagnosis, rules).assign(cancer_side=side, invasive=invasive)


def breast_outcomes(followup: FollowUp, rules: OutcomeRules) -> pd.DataFrame:
    """The outcome of both breasts of every exam, two rows an exam (L, then R), in the order of `followup.exams`.

    As `exam_outcomes`, with `laterality` in place of `cancer_side` and `invasive`. A breast's cancers are those of its
    side; a woman whose first cancer has no known side gets `unknown-side` for both breasts where it would matter. The
    healthy breast of a woman with cancer is negative if it stays so for as long as the protocol asks.
    """
    exams, cancers = _exams(followup), _cancers(followup)
    earlier = _has_earlier(cancers, exams)
    unsided = _first_from(cancers.of_side(""), exams)
    breasts = []
    for laterality in ("L", "R"):
        diagnosis = _first_from(cancers.of_side(laterality), exams)
        outcome = _outcomes(exams, diagnosis, earlier, rules)
        doubtful = ~np.isnat(unsided) & ~(diagnosis <= unsided) & ~earlier
        # A cancer of unknown side decides nothing once the breast has been cancer-free for long enough.
        doubtful &= unsided <= add_months(exams.date, max(rules.window_months, rules.minimum_negative_followup_months))
        outcome[doubtful] = Outcome.UNKNOWN_SIDE
        table = _table(followup, exams, outcome, diagnosis, rules)
        table.insert(1, "laterality", laterality)
        breasts.append(table)
    return pd.concat(breasts).sort_index(kind="stable").reset_index(drop=True)


def flow(outcomes: pd.DataFrame) -> dict[str, int]:
    """Counts for a flow diagram (STARD 2015, item 19): `read`, then each outcome with its role; they add up to it."""
    counts = {"read": len(outcomes)}
    for role in (POSITIVE, NEGATIVE, EXCLUDED):
        found = outcomes.loc[outcomes["role"] == role, "outcome"].value_counts()
        counts |= {f"{role}: {name}": int(found[name]) for name in Outcome if name in found.index}
    return counts


def add_months(date: DateArray, months: int) -> DateArray:
    """Calendar months later: the same day of the month, or the month's last day where there is no such day.

    `date`: datetime64[D], any shape; NaT stays NaT.
    """
    month = date.astype("datetime64[M]")
    day = date - month.astype("datetime64[D]")
    target = month + np.timedelta64(months, "M")
    last = (target + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
    return np.asarray(np.minimum(target.astype("datetime64[D]") + day, last), dtype="datetime64[D]")


@dataclass(frozen=True, eq=False)
class _Exams:
    """Exams as arrays of shape (n,), in the order of the table; women as codes that the cancers share."""

    woman: IntArray
    date: DateArray
    next_date: DateArray
    followed_until: DateArray
    recalled: BoolArray
    not_recalled: BoolArray


@dataclass(frozen=True, eq=False)
class _Cancers:
    """Malignant diagnoses of women with exams, by woman and date: arrays of shape (d,)."""

    woman: IntArray
    date: DateArray
    side: npt.NDArray[np.str_]
    invasive: npt.NDArray[np.float64]

    def of_side(self, laterality: str) -> _Cancers:
        """Those of one side, bilateral ones included; "" for those of unknown side."""
        kept = (self.side == laterality) | ((self.side == "B") & (laterality != ""))
        return _Cancers(self.woman[kept], self.date[kept], self.side[kept], self.invasive[kept])


def _codes(followup: FollowUp, table: pd.DataFrame) -> IntArray:
    """The number of each row's woman, by her first exam; -1 for women without exams."""
    women = pd.Index(followup.exams["woman_id"].unique())
    return np.asarray(women.get_indexer(pd.Index(table["woman_id"])), dtype=np.int64)


def _days(dates: pd.Series) -> DateArray:
    return np.asarray(dates.to_numpy(), dtype="datetime64[D]")


def _key(woman: IntArray, date: DateArray) -> IntArray:
    """Numbers that sort by woman, then date."""
    return np.asarray(woman * 1_000_000 + date.astype(np.int64) + 500_000, dtype=np.int64)


def _exams(followup: FollowUp) -> _Exams:
    exams = followup.exams
    woman = _codes(followup, exams)
    date = _days(exams["exam_date"])
    keys = np.sort(_key(woman, date))
    following = np.searchsorted(keys, _key(woman, date), side="right")
    next_date = np.full(len(exams), _NO_DATE)
    has_next = following < len(keys)
    has_next[has_next] = keys[following[has_next]] // 1_000_000 == woman[has_next]
    next_date[has_next] = (keys[following[has_next]] % 1_000_000 - 500_000).astype("datetime64[D]")
    until = followup.followup.set_index("woman_id")["followed_until"]
    recalled = exams["recalled"].to_numpy()
    return _Exams(woman, date, next_date, _days(until.reindex(exams["woman_id"])), recalled == 1, recalled == 0)


def _cancers(followup: FollowUp) -> _Cancers:
    table = followup.diagnoses
    woman = _codes(followup, table)
    used = (table["malignant"].to_numpy() == 1) & (woman >= 0)
    table, woman = table[used], woman[used]
    order = np.argsort(_key(woman, _days(table["diagnosis_date"])), kind="stable")
    return _Cancers(
        woman[order],
        _days(table["diagnosis_date"])[order],
        table["laterality"].to_numpy(dtype=np.str_)[order],
        table["invasive"].to_numpy()[order],
    )


def _first_from(cancers: _Cancers, exams: _Exams) -> DateArray:
    """Date of the woman's first cancer on or after each exam; NaT if there is none."""
    at = np.searchsorted(_key(cancers.woman, cancers.date), _key(exams.woman, exams.date), side="left")
    found = np.full(len(exams.date), _NO_DATE)
    inside = np.flatnonzero(at < len(cancers.woman))
    same = inside[cancers.woman[at[inside]] == exams.woman[inside]]
    found[same] = cancers.date[at[same]]
    return found


def _has_earlier(cancers: _Cancers, exams: _Exams) -> BoolArray:
    """Whether the woman had a cancer before the day of each exam."""
    before = np.searchsorted(_key(cancers.woman, cancers.date), _key(exams.woman, exams.date), side="left")
    return np.asarray(before > np.searchsorted(cancers.woman, exams.woman, side="left"))


def _outcomes(
    exams: _Exams, diagnosis: DateArray, after_diagnosis: BoolArray, rules: OutcomeRules
) -> npt.NDArray[np.object_]:
    """The outcome of each exam, (n,), from the first diagnosis (n,) that concerns it."""
    # Comparisons with NaT are false throughout, which is what "no such date" must mean here.
    cancer = ~np.isnat(diagnosis)
    by_date = ~exams.not_recalled if rules.unknown_recall == "by-date" else exams.recalled
    screen_detected = by_date & (diagnosis <= add_months(exams.date, rules.workup_months))
    in_window = diagnosis <= add_months(exams.date, rules.window_months)
    interval = np.where(
        np.isnat(exams.next_date),
        diagnosis <= add_months(exams.date, rules.interval_months),
        diagnosis < exams.next_date,
    )
    next_round = _detected_at_next_exam(exams, diagnosis, by_date, rules.workup_months)
    kinds = np.select(
        [~cancer, screen_detected, interval, next_round],
        [Outcome.NEGATIVE, Outcome.SCREEN_DETECTED, Outcome.INTERVAL, Outcome.NEXT_ROUND],
        Outcome.LATER_CANCER,
    ).astype(object)
    positive = in_window & np.isin(kinds, list(rules.positives))
    if rules.next_exam_months is not None:
        least, most = (add_months(exams.date, months) for months in rules.next_exam_months)
        positive &= (kinds != Outcome.NEXT_ROUND) | ((exams.next_date >= least) & (exams.next_date <= most))
    enough = add_months(exams.date, rules.minimum_negative_followup_months)
    cancer_free = ~(diagnosis <= enough)
    followed = (exams.followed_until >= enough) | (cancer & cancer_free)
    if rules.later_exams_extend_followup:
        followed |= _last_exam(exams) >= enough
    outcome = np.full(len(kinds), Outcome.INSUFFICIENT_FOLLOW_UP, dtype=object)
    outcome[cancer & ~cancer_free] = Outcome.OTHER_CANCER
    outcome[cancer_free & followed] = Outcome.NEGATIVE
    outcome[positive] = kinds[positive]
    if rules.exams == "negatively-read":
        # Where the decision is unknown, an exam that detected a cancer cannot have been read negative.
        outcome[exams.recalled | (~exams.not_recalled & screen_detected)] = Outcome.NOT_READ_NEGATIVE
    outcome[after_diagnosis] = Outcome.AFTER_DIAGNOSIS
    return outcome


def _detected_at_next_exam(exams: _Exams, diagnosis: DateArray, by_date: BoolArray, workup_months: int) -> BoolArray:
    """Whether a diagnosis from the next exam on is screen-detected at it (at one of them, if two share the day)."""
    key = _key(exams.woman, exams.date)
    recalling = np.unique(key[by_date])
    has_next = ~np.isnat(exams.next_date)
    recalled_next = np.zeros(len(key), dtype=np.bool_)
    recalled_next[has_next] = np.isin(_key(exams.woman[has_next], exams.next_date[has_next]), recalling)
    return np.asarray(recalled_next & (diagnosis <= add_months(exams.next_date, workup_months)))


def _last_exam(exams: _Exams) -> DateArray:
    """Date of the last exam of each exam's woman."""
    last = np.full(int(exams.woman.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    np.maximum.at(last, exams.woman, exams.date.astype(np.int64))
    return last[exams.woman].astype("datetime64[D]")


def _describe(
    cancers: _Cancers, exams: _Exams, diagnosis: DateArray, workup_months: int
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Side and invasiveness of what was found at `diagnosis` and within the work-up time after it."""
    keys = _key(cancers.woman, cancers.date)
    cancer = np.flatnonzero(~np.isnat(diagnosis))
    side, invasive = [""] * len(diagnosis), np.full(len(diagnosis), np.nan)
    first = np.searchsorted(keys, _key(exams.woman[cancer], diagnosis[cancer]), side="left")
    end = np.searchsorted(keys, _key(exams.woman[cancer], add_months(diagnosis[cancer], workup_months)), side="right")
    for exam, start, stop in zip(cancer, first, end, strict=True):
        sides = set(cancers.side[start:stop]) - {""}
        side[exam] = "B" if len(sides) > 1 else next(iter(sides), "")
        known = cancers.invasive[start:stop][~np.isnan(cancers.invasive[start:stop])]
        invasive[exam] = known.max() if len(known) else np.nan
    return side, invasive


def _table(
    followup: FollowUp,
    exams: _Exams,
    outcome: npt.NDArray[np.object_],
    diagnosis: DateArray,
    rules: OutcomeRules,
) -> pd.DataFrame:
    ids = followup.exams
    role = np.select(
        [np.isin(outcome, list(rules.positives)), outcome == Outcome.NEGATIVE], [POSITIVE, NEGATIVE], EXCLUDED
    )
    weight = np.ones(len(ids))
    if followup.weights is not None:
        weight = followup.weights.set_index("exam_id")["weight"].reindex(ids["exam_id"]).to_numpy()
    return pd.DataFrame(
        {
            "exam_id": ids["exam_id"].to_numpy(),
            "woman_id": ids["woman_id"].to_numpy(),
            "exam_date": exams.date.astype("datetime64[s]"),
            "outcome": [str(one) for one in outcome],
            "role": role,
            "diagnosis_date": diagnosis.astype("datetime64[s]"),
            "months_to_diagnosis": (diagnosis - exams.date) / np.timedelta64(1, "D") / _DAYS_PER_MONTH,
            "next_exam_date": exams.next_date.astype("datetime64[s]"),
            "weight": weight,
        }
    )
