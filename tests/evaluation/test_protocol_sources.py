"""What becomes of a woman under each named protocol is what its source describes.

Sources were read as far as they could be: the abstracts of Salim, Elhakim, Larsen and Lång, figures of McKinney with
their captions, the abstract and the rules of the DBTex challenge. What could not be read stands in the protocols'
`choices`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.followup import add_months, exam_outcomes
from evaluation.protocol import bundled_protocols, load_protocol
from evaluation.tables import check_followup

START = np.datetime64("2016-02-10", "D")


def after(months: float) -> str:
    """The day so many months after the exam in question; half a month is 14 days."""
    day = add_months(np.array([START]), int(months))[0]
    return str(day + np.timedelta64(14 if months % 1 else 0, "D"))


def outcome(
    protocol: str,
    *,
    cancer: float | None = None,
    recalled: bool = False,
    later_exam: float | None = None,
    later_recalled: bool = False,
    followed: float = 60,
) -> tuple[str, str]:
    """Outcome and role of an exam by the months from it to a cancer, a later exam, and the end of the follow-up."""
    exams = [("first", START, recalled)]
    if later_exam is not None:
        exams.append(("later", np.datetime64(after(later_exam), "D"), later_recalled))
    tables = {
        "exams": pd.DataFrame(
            [
                {"exam_id": name, "woman_id": "w", "exam_date": str(day), "recalled": int(call)}
                for name, day, call in exams
            ]
        ),
        "diagnoses": pd.DataFrame(
            [] if cancer is None else [("w", after(cancer), "L", 1)],
            columns=["woman_id", "diagnosis_date", "laterality", "malignant"],
        ),
        "followup": pd.DataFrame({"woman_id": ["w"], "followed_until": [after(followed)]}),
    }
    rules = load_protocol(protocol).outcome
    assert rules is not None
    first = exam_outcomes(check_followup(tables), rules).iloc[0]
    return str(first["outcome"]), str(first["role"])


def test_salim_diagnosis_at_screening_or_within_12_months_against_2_years_without_cancer() -> None:
    assert outcome("salim-2020", cancer=1, recalled=True) == ("screen-detected", "positive")
    assert outcome("salim-2020", cancer=12) == ("interval", "positive")
    assert outcome("salim-2020", cancer=12.5) == ("other-cancer", "excluded")
    assert outcome("salim-2020", cancer=24.5) == ("negative", "negative")
    assert outcome("salim-2020", followed=24) == ("negative", "negative")
    assert outcome("salim-2020", followed=23.5) == ("insufficient-follow-up", "excluded")


@pytest.mark.parametrize("protocol", ["elhakim-2023", "larsen-2022"])
def test_elhakim_and_larsen_cancer_or_cancer_free_follow_up_within_24_months(protocol: str) -> None:
    assert outcome(protocol, cancer=2, recalled=True) == ("screen-detected", "positive")
    assert outcome(protocol, cancer=20) == ("interval", "positive")
    assert outcome(protocol, cancer=24.5) == ("negative", "negative")
    assert outcome(protocol, followed=23.5) == ("insufficient-follow-up", "excluded")


def test_larsen_cancer_after_a_recall_is_an_interval_cancer_from_the_sixth_month_on() -> None:
    assert outcome("larsen-2022", cancer=5.5, recalled=True) == ("screen-detected", "positive")
    assert outcome("larsen-2022", cancer=6.5, recalled=True) == ("interval", "positive")


@pytest.mark.parametrize(
    ("protocol", "window", "minimum"), [("mckinney-2020-us", 27, 21), ("mckinney-2020-uk", 39, 36)]
)
def test_mckinney_every_cancer_in_a_round_and_three_months_counts_next_round_included(
    protocol: str, window: int, minimum: int
) -> None:
    at_next: dict[str, Any] = {"later_exam": window - 3, "later_recalled": True}
    assert outcome(protocol, cancer=1, recalled=True)[1] == "positive"
    assert outcome(protocol, cancer=window - 6)[1] == "positive"
    assert outcome(protocol, cancer=window - 2, **at_next) == ("next-round", "positive")
    assert outcome(protocol, cancer=window, later_exam=12) == ("later-cancer", "positive")
    assert outcome(protocol, cancer=window + 0.5, **at_next) == ("negative", "negative")
    assert outcome(protocol, followed=minimum) == ("negative", "negative")
    assert outcome(protocol, followed=minimum - 0.5) == ("insufficient-follow-up", "excluded")
    assert outcome(protocol, followed=6, later_exam=minimum) == ("negative", "negative")


def test_lotter_negative_exams_12_to_24_months_before_the_index_exam() -> None:
    for months, role in [(11.5, "excluded"), (12, "positive"), (24, "positive"), (24.5, "excluded")]:
        found = outcome("lotter-2021-pre-index", cancer=months + 1, later_exam=months, later_recalled=True)
        assert found[1] == role
    assert outcome("lotter-2021-pre-index", cancer=18)[1] == "excluded"  # an interval cancer has no index exam
    assert outcome("lotter-2021-pre-index", cancer=1, recalled=True)[1] == "excluded"
    assert outcome("lotter-2021-pre-index", recalled=True)[0] == "not-read-negative"
    assert outcome("lotter-2021-pre-index", followed=27)[1] == "negative"


def test_missed_cancers_are_those_after_a_negative_reading() -> None:
    assert outcome("missed-cancers", cancer=18) == ("interval", "positive")
    assert outcome("missed-cancers", cancer=25, later_exam=24, later_recalled=True) == ("next-round", "positive")
    assert outcome("missed-cancers", cancer=1, recalled=True)[1] == "excluded"
    assert outcome("missed-cancers", recalled=True)[1] == "excluded"


def test_thresholds_are_those_of_the_sources() -> None:
    salim = load_protocol("salim-2020").operating_points
    assert [(point.target, point.value) for point in salim] == [("specificity", 0.966)]
    larsen = load_protocol("larsen-2022").operating_points
    assert [(point.target, point.value) for point in larsen] == [
        ("category", 10), ("recall-rate", 0.088), ("recall-rate", 0.058)
    ]  # fmt: skip
    lang = {(point.target, point.value) for point in load_protocol("missed-cancers").operating_points}
    assert {("category", 10), ("recall-rate", 0.04), ("recall-rate", 0.01)} <= lang
    for name in ("mckinney-2020-us", "mckinney-2020-uk"):
        points = load_protocol(name).operating_points
        assert {point.chosen_on for point in points} == {"validation-split"}
        assert {point.per_site for point in points} == {name == "mckinney-2020-uk"}
        assert {point.reader for point in points} == {"reader1"}
    elhakim = load_protocol("elhakim-2023")
    assert {(point.target, point.reader) for point in elhakim.operating_points} == {
        ("reader-sensitivity", "reader1"), ("reader-specificity", "reader1")
    }  # fmt: skip
    assert elhakim.uncertainty.paired_test == "mcnemar-exact"


def test_boxes_are_scored_by_the_challenges_own_rules() -> None:
    protocol = load_protocol("dbtex")
    assert protocol.outcome is None
    assert protocol.localisation.scorer == "dbtex"


@pytest.mark.parametrize("name", bundled_protocols())
def test_a_protocol_names_a_source_that_can_be_found_and_gives_reasons_for_its_choices(name: str) -> None:
    protocol = load_protocol(name)
    assert re.search(r"20\d\d;\d+:e?\d+", protocol.source)  # year, volume and page
    assert all(len(reason.split()) >= 4 for reason in protocol.choices.values())
    if protocol.outcome is not None:
        assert {"outcome.window_months", "outcome.minimum_negative_followup_months", "outcome.workup_months",
                "outcome.interval_months", "outcome.later_exams_extend_followup"} & set(protocol.choices)  # fmt: skip
