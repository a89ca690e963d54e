"""Outcomes of exams: each definition by an example, and all of them against a plain loop over simulated women."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from dateutil.relativedelta import relativedelta
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.followup import add_months, breast_outcomes, exam_outcomes, flow
from evaluation.protocol import CANCERS, Outcome, OutcomeRules, bundled_protocols, load_protocol
from evaluation.tables import FollowUp, check_followup

Row = dict[str, Any]

RULES = OutcomeRules(
    window_months=24,
    minimum_negative_followup_months=24,
    interval_months=24,
    positives=(Outcome.SCREEN_DETECTED, Outcome.INTERVAL),
)
BUNDLED = [rules for name in bundled_protocols() if (rules := load_protocol(name).outcome) is not None]


def registry(
    exams: Sequence[tuple[str, str, int | None]],
    cancers: Sequence[tuple[str, str, str]] = (),
    until: dict[str, str] | None = None,
) -> FollowUp:
    """Exams as (woman, date, recalled), cancers as (woman, date, side), end of follow-up by woman."""
    women = {woman for woman, _, _ in exams}
    return check_followup(
        {
            "exams": pd.DataFrame(
                [(f"E{number}", *exam) for number, exam in enumerate(exams)],
                columns=["exam_id", "woman_id", "exam_date", "recalled"],
            ),
            "diagnoses": pd.DataFrame(
                [(*cancer, 1) for cancer in cancers], columns=["woman_id", "diagnosis_date", "laterality", "malignant"]
            ),
            "followup": pd.DataFrame(
                list((dict.fromkeys(sorted(women), "2030-01-01") if until is None else until).items()),
                columns=["woman_id", "followed_until"],
            ),
        }
    )


def outcomes(followup: FollowUp, rules: OutcomeRules = RULES) -> list[str]:
    return list(exam_outcomes(followup, rules)["outcome"])


def test_screen_detected_needs_a_recall_and_a_diagnosis_within_the_workup() -> None:
    for day, recalled, expected in (
        ("2015-03-01", 1, "screen-detected"),
        ("2015-06-01", 1, "screen-detected"),
        ("2015-06-02", 1, "interval"),
        ("2015-03-20", 0, "interval"),
        ("2015-03-20", None, "screen-detected"),
    ):
        assert outcomes(registry([("W", "2015-03-01", recalled)], [("W", day, "L")])) == [expected]
    strict = RULES.model_copy(update={"unknown_recall": "not-recalled"})
    assert outcomes(registry([("W", "2015-03-01", None)], [("W", "2015-03-20", "L")]), strict) == ["interval"]


def test_interval_cancers_come_before_the_next_exam_or_within_a_round_of_the_last() -> None:
    two = [("W", "2015-03-01", 0), ("W", "2017-02-01", 0)]
    assert outcomes(registry(two, [("W", "2017-01-31", "L")])) == ["interval", "after-diagnosis"]
    assert outcomes(registry(two, [("W", "2018-02-01", "L")])) == ["negative", "interval"]
    last = [("W", "2015-03-01", 0)]
    assert outcomes(registry(last, [("W", "2017-03-01", "L")])) == ["interval"]
    assert outcomes(registry(last, [("W", "2017-03-02", "L")])) == ["negative"]


def test_a_cancer_found_at_the_next_exam_is_next_round_if_it_lies_in_the_window() -> None:
    rules = RULES.model_copy(update={"window_months": 27, "positives": CANCERS})
    exams = [("W", "2015-03-01", 0), ("W", "2017-03-01", 1)]
    assert outcomes(registry(exams, [("W", "2017-03-20", "L")]), rules) == ["next-round", "screen-detected"]
    assert outcomes(registry(exams, [("W", "2017-06-02", "L")]), rules) == ["negative", "interval"]
    # Under a protocol that does not ask for them, the exam before was negative: two years without cancer.
    assert outcomes(registry(exams, [("W", "2017-03-20", "L")])) == ["negative", "screen-detected"]


def test_an_interval_cancer_of_the_next_round_counts_only_where_all_cancers_in_the_window_do() -> None:
    rules = RULES.model_copy(update={"window_months": 39, "positives": CANCERS})
    exams = [("W", "2015-03-01", 0), ("W", "2017-03-01", 0)]
    assert outcomes(registry(exams, [("W", "2018-03-01", "L")]), rules) == ["later-cancer", "interval"]
    assert outcomes(registry(exams, [("W", "2018-03-01", "L")])) == ["negative", "interval"]


def test_a_cancer_too_late_for_a_positive_and_too_early_for_a_negative_is_excluded() -> None:
    rules = RULES.model_copy(update={"window_months": 12})
    table = exam_outcomes(registry([("W", "2015-03-01", 0)], [("W", "2016-09-01", "L")]), rules)
    assert [table.at[0, "outcome"], table.at[0, "role"]] == ["other-cancer", "excluded"]


def test_short_follow_up_is_never_taken_for_negative() -> None:
    exams = [("W", "2015-03-01", 0)]
    assert outcomes(registry(exams, until={"W": "2017-03-01"})) == ["negative"]
    assert outcomes(registry(exams, until={"W": "2017-02-28"})) == ["insufficient-follow-up"]
    assert outcomes(registry(exams, until={})) == ["insufficient-follow-up"]
    later = [*exams, ("W", "2017-03-02", 0)]
    assert outcomes(registry(later, until={})) == ["insufficient-follow-up"] * 2
    extended = RULES.model_copy(update={"later_exams_extend_followup": True})
    assert outcomes(registry(later, until={}), extended) == ["negative", "insufficient-follow-up"]


def test_exams_after_a_cancer_and_recalled_exams_are_excluded_where_asked() -> None:
    exams = [("W", "2015-03-01", 1), ("W", "2017-03-01", 0), ("V", "2015-03-01", 1), ("V", "2017-03-01", 0)]
    followup = registry(exams, [("W", "2015-03-20", "L")])
    assert outcomes(followup) == ["screen-detected", "after-diagnosis", "negative", "negative"]
    read_negative = RULES.model_copy(update={"exams": "negatively-read"})
    expected = ["not-read-negative", "after-diagnosis", "not-read-negative", "negative"]
    assert outcomes(followup, read_negative) == expected


def test_pre_index_exams_lie_one_to_two_years_before_the_exam_that_found_the_cancer() -> None:
    rules = load_protocol("lotter-2021-pre-index").outcome
    assert rules is not None
    for first, expected in (("2015-03-01", "next-round"), ("2016-06-01", "other-cancer"), ("2014-12-01", "negative")):
        followup = registry([("W", first, 0), ("W", "2017-03-01", 1)], [("W", "2017-03-05", "R")])
        assert outcomes(followup, rules) == [expected, "not-read-negative"]


def test_side_and_invasiveness_are_of_all_cancers_of_one_workup() -> None:
    exams = [("W", "2015-03-01", 1)]
    for cancers, side in (
        ([("W", "2015-03-10", "L")], "L"),
        ([("W", "2015-03-10", "L"), ("W", "2015-04-01", "R")], "B"),
        ([("W", "2015-03-10", "L"), ("W", "2016-04-01", "R")], "L"),
        ([("W", "2015-03-10", "")], ""),
        ([("W", "2015-03-10", ""), ("W", "2015-03-10", "R")], "R"),
    ):
        assert exam_outcomes(registry(exams, cancers), RULES).at[0, "cancer_side"] == side


def test_breasts_are_judged_apart_and_a_cancer_of_unknown_side_makes_both_doubtful() -> None:
    exams = [("W", "2015-03-01", 1)]
    one = breast_outcomes(registry(exams, [("W", "2015-03-10", "L")]), RULES)
    assert one[["exam_id", "laterality", "outcome"]].to_numpy().tolist() == [
        ["E0", "L", "screen-detected"],
        ["E0", "R", "negative"],
    ]
    unknown = breast_outcomes(registry(exams, [("W", "2015-03-10", "")]), RULES)
    assert unknown["outcome"].tolist() == ["unknown-side"] * 2
    assert unknown["role"].tolist() == ["excluded"] * 2
    after = breast_outcomes(registry(exams, [("W", "2015-03-10", "L"), ("W", "2015-03-12", "")]), RULES)
    assert after["outcome"].tolist() == ["screen-detected", "unknown-side"]
    late = registry(exams, [("W", "2018-03-10", "")])
    assert breast_outcomes(late, RULES)["outcome"].tolist() == ["negative"] * 2
    long = RULES.model_copy(update={"window_months": 39, "positives": CANCERS})
    assert breast_outcomes(late, long)["outcome"].tolist() == ["unknown-side"] * 2


def test_weights_and_the_order_of_exams_are_kept() -> None:
    followup = registry([("W", "2017-03-01", 0), ("V", "2015-03-01", 0), ("W", "2015-03-01", 0)])
    weighted = check_followup(
        {
            "exams": followup.exams,
            "diagnoses": followup.diagnoses,
            "followup": followup.followup,
            "weights": pd.DataFrame({"exam_id": ["E2", "E0", "E1"], "weight": [3, 1, 2]}),
        }
    )
    table = exam_outcomes(weighted, RULES)
    assert table["exam_id"].tolist() == ["E0", "E1", "E2"]
    assert table["weight"].tolist() == [1, 2, 3]
    assert table["next_exam_date"].tolist() == [pd.NaT, pd.NaT, pd.Timestamp(2017, 3, 1)]


@settings(max_examples=100, deadline=None)
@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(1, 60))
def test_months_are_calendar_months(day: date, months: int) -> None:
    found = add_months(np.array([day, "NaT"], dtype="datetime64[D]"), months)
    assert found[0] == np.datetime64(day + relativedelta(months=months))
    assert np.isnat(found[1])


def programme(seed: int, women: int = 25) -> FollowUp:
    """Women with one to four exams near round length, cancers at odd times and sides, recalls known or not."""
    rng = np.random.default_rng(seed)
    exams: list[tuple[str, str, int | None]] = []
    cancers: list[tuple[str, str, str]] = []
    until: dict[str, str] = {}
    start = date(2012, 1, 31)
    for number in range(women):
        woman = f"W{number}"
        day = start + timedelta(int(rng.integers(0, 400)))
        days = []
        for _ in range(int(rng.integers(1, 5))):
            recalled = [0, 1, None][int(rng.choice(3, p=[0.6, 0.3, 0.1]))]
            exams.append((woman, day.isoformat(), recalled))
            days.append(day)
            day += timedelta(int(rng.choice([0, 60, 365, 700, 731, 760, 1095])))
        for _ in range(int(rng.choice([0, 1, 2], p=[0.4, 0.5, 0.1]))):
            base = days[int(rng.integers(0, len(days)))]
            gap = int(rng.choice([0, 5, 31, 61, 90, 92, 300, 365, 600, 730, 731, 800, 1000, -100]))
            cancers.append((woman, (base + timedelta(gap)).isoformat(), ["L", "R", "B", ""][int(rng.integers(0, 4))]))
        if rng.random() < 0.9:
            until[woman] = (days[0] + timedelta(int(rng.integers(100, 3000)))).isoformat()
    order = rng.permutation(len(exams))
    return registry([exams[i] for i in order], cancers, until)


def outcome_by_loop(
    exam: Row, exams: list[Row], mine: list[date], every: list[date], until: date | None, rules: OutcomeRules
) -> str:
    """The outcome of one exam from the woman's cancers that concern it (`mine`) and all of hers (`every`)."""
    day = exam["exam_date"].date()
    hers = [other for other in exams if other["woman_id"] == exam["woman_id"]]

    def months(start: date, count: int) -> date:
        later: date = start + relativedelta(months=count)
        return later

    def may_be_recalled(one: Row) -> bool:
        return bool(one["recalled"] == 1 or (np.isnan(one["recalled"]) and rules.unknown_recall == "by-date"))

    if any(found < day for found in every):
        return Outcome.AFTER_DIAGNOSIS
    found = min((one for one in mine if one >= day), default=None)
    detected = found is not None and may_be_recalled(exam) and found <= months(day, rules.workup_months)
    recalled = exam["recalled"]
    if rules.exams == "negatively-read" and (recalled == 1 or (np.isnan(recalled) and detected)):
        return Outcome.NOT_READ_NEGATIVE
    later = sorted(other["exam_date"].date() for other in hers if other["exam_date"].date() > day)
    if found is not None:
        kind = Outcome.LATER_CANCER
        in_window = found <= months(day, rules.window_months)
        if detected:
            kind = Outcome.SCREEN_DETECTED
        elif (later and found < later[0]) or (not later and found <= months(day, rules.interval_months)):
            kind = Outcome.INTERVAL
        elif later and in_window:
            at_next = [other for other in hers if other["exam_date"].date() == later[0]]
            if found <= months(later[0], rules.workup_months) and any(may_be_recalled(other) for other in at_next):
                kind = Outcome.NEXT_ROUND
        counts = kind in rules.positives and in_window
        if kind == Outcome.NEXT_ROUND and rules.next_exam_months is not None:
            least, most = rules.next_exam_months
            counts = counts and months(day, least) <= later[0] <= months(day, most)
        if counts:
            return kind
    enough = months(day, rules.minimum_negative_followup_months)
    if found is not None and found <= enough:
        return Outcome.OTHER_CANCER
    followed = [one for one in (until, found) if one is not None]
    if rules.later_exams_extend_followup:
        followed += later
    return Outcome.NEGATIVE if any(one >= enough for one in followed) else Outcome.INSUFFICIENT_FOLLOW_UP


def as_rows(table: pd.DataFrame) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([RULES, *BUNDLED]))
def test_outcomes_equal_a_loop_over_exams(seed: int, rules: OutcomeRules) -> None:
    followup = programme(seed)
    exams = as_rows(followup.exams)
    until = {row["woman_id"]: row["followed_until"].date() for row in as_rows(followup.followup)}
    cancers = [
        (row["woman_id"], row["diagnosis_date"].date(), row["laterality"]) for row in as_rows(followup.diagnoses)
    ]
    found = exam_outcomes(followup, rules)["outcome"].tolist()
    breasts = breast_outcomes(followup, rules)["outcome"].tolist()
    for place, exam in enumerate(exams):
        woman = exam["woman_id"]
        every = [day for owner, day, _ in cancers if owner == woman]
        assert found[place] == outcome_by_loop(exam, exams, every, every, until.get(woman), rules)
        for side, outcome in zip("LR", breasts[2 * place : 2 * place + 2], strict=True):
            mine = [day for owner, day, at in cancers if owner == woman and at in (side, "B")]
            if outcome != Outcome.UNKNOWN_SIDE:
                assert outcome == outcome_by_loop(exam, exams, mine, every, until.get(woman), rules)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(BUNDLED))
def test_every_exam_is_in_the_flow_once_and_roles_follow_from_outcomes(seed: int, rules: OutcomeRules) -> None:
    followup = programme(seed)
    table = exam_outcomes(followup, rules)
    counts = flow(table)
    assert counts.pop("read") == sum(counts.values()) == len(followup.exams)
    for outcome, role in zip(table["outcome"], table["role"], strict=True):
        expected = "positive" if outcome in rules.positives else "negative" if outcome == "negative" else "excluded"
        assert role == expected
    breasts = breast_outcomes(followup, rules)
    assert len(breasts) == 2 * len(table)
    assert breasts["exam_id"].tolist() == np.repeat(table["exam_id"], 2).tolist()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(BUNDLED))
def test_order_of_rows_and_other_women_do_not_change_an_outcome(seed: int, rules: OutcomeRules) -> None:
    followup = programme(seed)
    rng = np.random.default_rng(seed)
    plain = exam_outcomes(followup, rules).set_index("exam_id")
    kept = followup.exams[followup.exams["woman_id"] != "W3"].sample(frac=1, random_state=rng)
    other = check_followup(
        {
            "exams": kept,
            "diagnoses": followup.diagnoses.sample(frac=1, random_state=rng),
            "followup": followup.followup.sample(frac=1, random_state=rng),
        }
    )
    pd.testing.assert_frame_equal(exam_outcomes(other, rules).set_index("exam_id"), plain.loc[kept["exam_id"]])


def test_a_programme_without_exams_or_cancers_has_no_outcomes_but_no_error_either() -> None:
    assert flow(exam_outcomes(registry([]), RULES)) == {"read": 0}
    assert flow(breast_outcomes(registry([("W", "2015-03-01", 0)]), RULES)) == {"read": 2, "negative: negative": 2}
