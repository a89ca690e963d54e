"""Scores and follow-up joined: every exam is accounted for, and the score is that of the breast with the cancer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.cohort import Cohort, CohortError, join
from evaluation.followup import breast_outcomes, exam_outcomes
from evaluation.protocol import Protocol, load_protocol
from evaluation.scores import Scores, check_scores
from evaluation.tables import FollowUp, check_followup
from tests.support.programme import RULES, simulate

PROTOCOL = Protocol(name="test", source="here", description="for tests", outcome=RULES)

Row = dict[str, Any]


def followup(
    exams: list[Row], cancers: list[tuple[str, str, str]] = (), until: str = "2025-12-31", **tables: pd.DataFrame
) -> FollowUp:
    """Follow-up of exams (exam_id and woman_id; 2015-03-01 and not recalled by default) and cancers as (woman, day,
    side), of which exams on their day were recalled."""
    table = pd.DataFrame([{"exam_date": "2015-03-01", "recalled": 0} | exam for exam in exams])
    women = table["woman_id"].unique()
    columns = ["woman_id", "diagnosis_date", "laterality", "malignant"]
    diagnoses = pd.DataFrame([(*cancer, 1) for cancer in cancers], columns=columns)
    ends = pd.DataFrame({"woman_id": women, "followed_until": until})
    return check_followup({"exams": table, "diagnoses": diagnoses, "followup": ends, **tables})


def scores(*exams: Row) -> Scores:
    return check_scores({"exams": pd.DataFrame(list(exams))})


def only(cohort: Cohort) -> pd.Series:
    (row,) = cohort.exams.to_dict("records")
    return pd.Series(row)


def check_flow(cohort: Cohort) -> None:
    total = {level: sum(count for at, _, count in cohort.flow if at == level) for level in (0, 1, 2)}
    exams = cohort.exams
    assert total[0] == len(exams) == total[1] + total[2]
    assert total[2] == exams["included"].sum()
    labels = [label for _, label, _ in cohort.flow]
    assert len(set(labels)) == len(labels)
    for label, count in ((label, count) for level, label, count in cohort.flow if level == 2):
        assert count == (exams["included"] & (exams["outcome"] == label)).sum()
    assert [level for level, _, _ in cohort.flow] == sorted(level for level, _, _ in cohort.flow)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(["salim-2020", "missed-cancers", "mckinney-2020-us", "elhakim-2023"]),
    breasts=st.booleans(),
    data=st.data(),
)
def test_every_exam_is_counted_once_and_judged_as_one_by_one(
    seed: int, name: str, breasts: bool, data: st.DataObject
) -> None:
    programme = simulate(300, 3, seed, with_regions=False, cancers_a_year=0.03)
    table = programme.scores["exams"].sample(frac=1, random_state=seed, ignore_index=True)
    table = table.drop(columns=[] if breasts else ["left_score", "right_score"])
    if breasts:
        for side in ("left_score", "right_score"):
            lost = np.random.default_rng(seed).random(len(table)) < data.draw(st.sampled_from([0.0, 0.1]), label=side)
            table.loc[lost, side] = np.nan
    registry, protocol = programme.checked_followup(), load_protocol(name)
    cohort = join(check_scores({"exams": table}), registry, protocol)
    check_flow(cohort)
    assert protocol.outcome is not None
    enough = protocol.outcome.minimum_negative_followup_months
    outcomes = exam_outcomes(registry, protocol.outcome).set_index("exam_id")
    given_scores = {row["exam_id"]: row for row in table.to_dict("records")}
    assert cohort.exams["exam_id"].tolist()[: len(outcomes)] == outcomes.index.tolist()
    assert set(cohort.exams["exam_id"]) == set(outcomes.index) | set(given_scores)
    for exam in cohort.exams.to_dict("records"):
        assert exam["included"] == (exam["excluded_because"] == "")
        expected = _judged(given_scores.get(exam["exam_id"]), outcomes, exam["exam_id"], enough)
        assert (exam["score"] if exam["included"] else exam["excluded_because"].split(":")[0]) == expected


def _judged(row: Row | None, outcomes: pd.DataFrame, exam_id: str, enough: int) -> float | str:
    """The score of an exam that counts, or the first words of why it does not."""
    if exam_id not in outcomes.index:
        return "not in the follow-up"
    if row is None:
        return "not in the scores"
    if row["status"] != "scored":
        return str(row["status"])
    outcome = outcomes.loc[exam_id]
    if outcome["role"] == "excluded":
        return {
            "after-diagnosis": "the woman had a cancer before",
            "insufficient-follow-up": f"followed for less than {enough} months, without a cancer",
            "other-cancer": f"a cancer within {enough} months that is no positive of the protocol",
            "not-read-negative": "recalled, where the protocol takes negatively read exams",
        }[outcome["outcome"]]
    of = {side: row.get(f"{name}_score", np.nan) for side, name in (("L", "left"), ("R", "right"))}
    with_score = {side: score for side, score in of.items() if not np.isnan(score)}
    if outcome["role"] == "negative" or outcome["cancer_side"] == "" or not with_score:
        return float(row["score"])
    sides = "LR" if outcome["cancer_side"] == "B" else outcome["cancer_side"]
    ill = [with_score[side] for side in sides if side in with_score]
    return float(max(ill)) if ill else "the breast with the cancer has no score"


@pytest.mark.parametrize(("side", "expected"), [("L", 0.2), ("R", 0.7), ("B", 0.7), ("", 0.8)])
def test_a_cancer_takes_the_score_of_its_breast(side: str, expected: float) -> None:
    exam = {"exam_id": "E1", "score": 0.8, "left_score": 0.2, "right_score": 0.7}
    registry = followup([{"exam_id": "E1", "woman_id": "W1"}], [("W1", "2015-09-01", side)])
    row = only(join(scores(exam), registry, PROTOCOL))
    assert (row["outcome"], row["score"], row["exam_score"]) == ("interval", expected, 0.8)


def test_a_healthy_woman_keeps_the_exams_score() -> None:
    exam = {"exam_id": "E1", "score": 0.8, "left_score": 0.2, "right_score": 0.7}
    registry = followup([{"exam_id": "E1", "woman_id": "W1"}], [("W1", "2019-09-01", "L")])
    row = only(join(scores(exam), registry, PROTOCOL))
    assert (row["outcome"], row["score"], row["cancer_side"]) == ("negative", 0.8, "L")


def test_a_high_score_of_the_healthy_breast_does_not_stand_in_for_a_breast_without_score() -> None:
    exam = {"exam_id": "E1", "score": 0.8, "left_score": None, "right_score": 0.8}
    cohort = join(scores(exam), followup([{"exam_id": "E1", "woman_id": "W1"}], [("W1", "2015-09-01", "L")]), PROTOCOL)
    assert only(cohort)["excluded_because"] == "the breast with the cancer has no score"
    assert cohort.breasts["excluded_because"].tolist() == ["the breast has no score", ""]
    check_flow(cohort)


def test_breasts_follow_their_exams_in_pairs_and_carry_their_own_outcome_and_score() -> None:
    programme = simulate(400, 3, 3, with_regions=False, cancers_a_year=0.03)
    cohort = join(programme.checked_scores(), programme.checked_followup(), PROTOCOL)
    breasts, exams = cohort.breasts, cohort.exams
    assert breasts["exam_id"].tolist() == np.repeat(exams["exam_id"].to_numpy(), 2).tolist()
    assert breasts["laterality"].tolist() == ["L", "R"] * len(exams)
    outcomes = breast_outcomes(cohort.followup, RULES)
    assert breasts["outcome"].tolist()[: len(outcomes)] == outcomes["outcome"].tolist()
    for side, column in (("L", "left_score"), ("R", "right_score")):
        np.testing.assert_array_equal(breasts.loc[breasts["laterality"] == side, "score"], exams[column])
    assert (breasts["included"] == (breasts["excluded_because"] == "")).all()
    assert breasts.loc[breasts["included"], "role"].isin(["positive", "negative"]).all()
    assert breasts.loc[breasts["included"], "score"].notna().all()
    off = exams["excluded_because"].str.match("not in|rejected|failed")
    assert not breasts["included"][np.repeat(off.to_numpy(), 2)].any()
    healthy = (exams["included"] & (exams["role"] == "negative") & (exams["outcome"] == "negative")).to_numpy()
    assert breasts["included"][np.repeat(healthy, 2)].all()


def test_follow_ups_columns_are_there_and_gaps_are_filled_from_the_scores() -> None:
    registry = followup(
        [
            {"exam_id": "E1", "woman_id": "W1", "age": 61, "density": "B", "reader1": 1},
            {"exam_id": "E2", "woman_id": "W1", "exam_date": "2017-03-01", "recalled": 1},
        ]
    )
    ours = scores(
        {"exam_id": "E2", "score": 0.5, "density": "C", "category": 9},
        {"exam_id": "E1", "score": 0.4, "density": "D", "category": 8},
        {"exam_id": "E3", "score": 0.3, "density": "A", "category": 7},
    )
    exams = join(ours, registry, PROTOCOL).exams
    assert exams["density"].tolist() == ["B", "C", "A"]
    np.testing.assert_array_equal(exams["age"], [61, np.nan, np.nan])
    np.testing.assert_array_equal(exams["reader1"], [1, np.nan, np.nan])
    np.testing.assert_array_equal(exams["recalled"], [0, 1, np.nan])
    assert exams["category"].tolist() == [8, 9, 7]
    assert exams["round"].tolist() == [1, 2, 0]
    assert exams["excluded_because"].tolist() == ["", "", "not in the follow-up"]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 6)), min_size=1, max_size=25))
def test_rounds_count_a_womans_days_from_her_first(days: list[tuple[str, int]]) -> None:
    exams = [
        {"exam_id": f"E{row}", "woman_id": woman, "exam_date": f"201{day}-03-01"}
        for row, (woman, day) in enumerate(days)
    ]
    found = join(scores({"exam_id": "E0", "score": 0.5}), followup(exams), PROTOCOL).exams["round"]
    assert found.tolist() == [
        1 + len({other for who, other in days if who == woman and other < day}) for woman, day in days
    ]


def test_the_flow_names_reasons_in_the_order_in_which_exams_are_taken_off() -> None:
    ids = [f"E{row}" for row in range(8)]
    registry = followup([{"exam_id": exam, "woman_id": f"W{exam}"} for exam in ids], [("WE7", "2015-09-01", "L")])
    ours = scores(
        {"exam_id": "X", "score": 0.5},
        *({"exam_id": exam, "score": 0.5, "status": "scored"} for exam in ("E5", "E6", "E7")),
        {"exam_id": "E1", "status": "failed", "reason": "unreadable: cut short at byte 7"},
        {"exam_id": "E2", "status": "failed", "reason": "unreadable: cut short at byte 8"},
        {"exam_id": "E3", "status": "rejected", "reason": "no-eligible-image: none: at all"},
        {"exam_id": "E4", "status": "rejected"},
    )
    cohort = join(ours, registry, PROTOCOL)
    assert cohort.flow == (
        (0, "exams of the follow-up", 8),
        (0, "exams with scores but without follow-up", 1),
        (1, "not in the follow-up", 1),
        (1, "not in the scores", 1),
        (1, "rejected: no-eligible-image", 1),
        (1, "rejected: no reason given", 1),
        (1, "failed: unreadable", 2),
        (2, "screen-detected", 0),
        (2, "interval", 1),
        (2, "next-round", 0),
        (2, "later-cancer", 0),
        (2, "negative", 2),
    )
    assert cohort.exams["excluded_because"][1] == "failed: unreadable: cut short at byte 7"


def test_weights_of_the_follow_up_are_kept() -> None:
    weights = pd.DataFrame({"exam_id": ["E2", "E1"], "weight": [3.0, 0.5]})
    registry = followup([{"exam_id": f"E{row}", "woman_id": f"W{row}"} for row in (1, 2)], weights=weights)
    assert join(scores({"exam_id": "E1", "score": 0.5}), registry, PROTOCOL).exams["weight"].tolist() == [0.5, 3.0]


def test_another_woman_is_an_error_that_names_rows_but_no_woman() -> None:
    registry = followup([{"exam_id": f"E{row}", "woman_id": f"SECRET{row}"} for row in range(3)])
    rows = [{"exam_id": f"E{row}", "woman_id": f"SECRET{row}", "score": 0.5} for row in range(3)]
    join(scores(*rows), registry, PROTOCOL)
    rows[1]["woman_id"] = "SECRET2"
    with pytest.raises(CohortError, match="disagree on the woman of 1 exams") as raised:
        join(scores(*rows[::-1]), registry, PROTOCOL)
    assert "exams of the follow-up, line 3: exam 'E1' is another woman's in line 3 of the scores" in str(raised.value)
    assert "SECRET" not in str(raised.value)
    unnamed = [{name: value for name, value in row.items() if name != "woman_id"} for row in rows]
    assert join(scores(*unnamed), registry, PROTOCOL).exams["included"].all()


def test_pseudonyms_in_one_table_are_recognised_as_such() -> None:
    registry = followup([{"exam_id": f"E{row}", "woman_id": f"W{row}"} for row in range(3)])
    rows = [{"exam_id": f"E{row}", "woman_id": f"P{row}", "score": 0.5} for row in range(3)]
    with pytest.raises(CohortError, match=r"all of them: if one table is pseudonymised, leave woman_id out"):
        join(scores(*rows), registry, PROTOCOL)


def test_no_common_exam_is_an_error_with_likely_causes() -> None:
    registry = followup([{"exam_id": "E1", "woman_id": "W1"}])
    with pytest.raises(CohortError, match=r"None of the 1 exams with scores is among the 1 exams .*pseudonymised"):
        join(scores({"exam_id": "1.2.3", "score": 0.5}), registry, PROTOCOL)


def test_empty_tables_are_an_error() -> None:
    registry = followup([{"exam_id": "E1", "woman_id": "W1"}])
    ours = scores({"exam_id": "E1", "score": 0.5})
    with pytest.raises(CohortError, match=r"The scores table of exams is empty"):
        join(replace(ours, exams=ours.exams.iloc[:0]), registry, PROTOCOL)
    with pytest.raises(CohortError, match=r"The follow-up table of exams is empty"):
        join(ours, replace(registry, exams=registry.exams.iloc[:0]), PROTOCOL)


def test_a_protocol_of_boxes_has_no_outcomes_to_join() -> None:
    registry = followup([{"exam_id": "E1", "woman_id": "W1"}])
    with pytest.raises(CohortError, match="The protocol dbtex judges boxes, not exams"):
        join(scores({"exam_id": "E1", "score": 0.5}), registry, load_protocol("dbtex"))


def test_a_registry_that_ends_before_the_window_is_noted_with_its_dates() -> None:
    exams = [{"exam_id": "E1", "woman_id": "W1"}, {"exam_id": "E2", "woman_id": "W2", "exam_date": "2015-05-02"}]
    cohort = join(scores({"exam_id": "E1", "score": 0.5}), followup(exams, until="2016-12-31"), PROTOCOL)
    assert cohort.notes[0] == "the scores give no breast apart; an exam's score counts for a cancer on either side"
    assert cohort.notes[1] == (
        "no exam is followed for the 24 months that a negative one needs: exams from 2015-03-01 to 2015-05-02, "
        "follow-up until 2016-12-31 at the latest"
    )
    assert not cohort.exams["included"].any()
    check_flow(cohort)


def test_dates_that_differ_are_noted_and_the_follow_ups_is_used() -> None:
    registry = followup([{"exam_id": "E1", "woman_id": "W1"}, {"exam_id": "E2", "woman_id": "W2"}])
    ours = scores(
        {"exam_id": "E1", "exam_date": "2015-03-02", "score": 0.5}, {"exam_id": "E2", "exam_date": "", "score": 0.5}
    )
    cohort = join(ours, registry, PROTOCOL)
    assert "exams with another date in the scores than in the follow-up, whose date is used: 1" in cohort.notes
    assert cohort.exams["exam_date"].eq(pd.Timestamp(2015, 3, 1)).all()


def test_notes_of_the_tables_are_passed_on_by_kind_with_their_number() -> None:
    exams = [{"exam_id": "E1", "woman_id": "W1", "recalled": None}]
    cancers = [("W7", "2015-09-01", "L"), ("W8", "2015-09-01", "L")]
    cohort = join(scores({"exam_id": "E1", "score": 1.5}), followup(exams, cancers), PROTOCOL)
    assert cohort.notes == (
        "exams with scores outside 0 to 1, of which calibration means nothing: 1",
        "in 2 rows of the follow-up the woman has no exam; the row is not used",
        "the follow-up does not say who was recalled; cancers within 3 months of an exam count as screen-detected",
        "the scores give no breast apart; an exam's score counts for a cancer on either side",
    )
