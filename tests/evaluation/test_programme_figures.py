"""The programme's figures: counted by hand, told by the simulator, and the same whatever the protocol looks at."""

from __future__ import annotations

import math

import pytest

from evaluation.cohort import Cohort, join
from evaluation.figure import Figure
from evaluation.indicators import INDICATORS, MODEL_INDICATORS
from evaluation.programme import programme_figures
from evaluation.protocol import Outcome, OutcomeRules
from tests.support.handmade import RULES, cohort_of, protocol
from tests.support.programme import simulate

HEALTHY = {"recalled": 0, "score": 0.1}
REGISTRY_ENDS = "2024-01-01"
# Woman, date of exam, recalled, score.
EXAMS = [
    ("detected", "2020-01-10", 1, 0.9),
    ("benign", "2020-01-10", 1, 0.1),
    ("cleared", "2020-01-10", 1, 0.6),
    ("early", "2020-01-10", 0, 0.8),
    ("late", "2020-01-10", 0, 0.2),
    ("cleared-then-early", "2020-01-10", 1, 0.7),
    ("healthy", "2020-01-10", 0, 0.1),
    ("lost", "2020-01-10", 0, 0.1),
    ("recent", "2023-06-01", 0, 0.9),
    ("last", "2023-12-01", 1, 0.9),
    ("undecided", "2020-01-10", "", 0.9),
    ("patient", "2020-01-10", 1, 0.9),
]
CANCERS = [
    ("detected", "2020-02-01", "L"),
    ("early", "2020-10-01", "L"),
    ("late", "2021-06-01", "L"),
    ("cleared-then-early", "2020-09-01", "L"),
    ("last", "2023-12-20", "L"),
    ("patient", "2019-01-01", "L"),
]
BIOPSIES = [
    ("detected", "2020-01-25", "L", 1),
    ("benign", "2020-01-30", "R", 0),
    ("early", "2020-10-01", "L", 1),
    ("cleared-then-early", "2020-09-01", "L", 1),
]
BY_HAND = {
    # Not of the woman whose decision is unknown, nor of the one who had had her cancer.
    "recall_rate": 5 / 10,
    # The last exam's work-up time ends after the registry does: neither its cancer nor its recall counts.
    "cancer_detection_rate": 1 / 9,
    "ppv1": 1 / 4,
    "ppv3": 1 / 2,
    # Nor do the recent exam and the woman who was lost, where more follow-up is needed.
    "interval_cancer_rate": 3 / 7,
    "interval_cancer_rate_first_year": 2 / 7,
    "false_negative_rate": 1 / 7,
    "programme_sensitivity": 1 / 4,
    "model_recall_rate": 6 / 10,
    "model_cancer_detection_rate": 3 / 7,
    "model_screen_detected_rate": 1 / 7,
    "model_ppv1": 3 / 4,
    "model_missed_rate": 1 / 7,
}


def cohort(rules: OutcomeRules = RULES, copies: int = 1, **options: object) -> Cohort:
    def each(name: str) -> list[str]:
        return [f"{name}.{copy}" for copy in range(copies)]

    exams = [
        {"exam_id": f"exam of {woman}", "woman_id": woman, "exam_date": date, "recalled": recalled, "score": score}
        for name, date, recalled, score in EXAMS
        for woman in each(name)
    ]
    return cohort_of(
        exams,
        [(woman, *rest) for name, *rest in CANCERS for woman in each(name)],
        options.pop("biopsies", [(woman, *rest) for name, *rest in BIOPSIES for woman in each(name)]),
        under=protocol(rules=rules),
        until=dict.fromkeys(each("lost"), "2020-12-01"),
        registry_ends=REGISTRY_ENDS,
        **options,
    )


def by_key(figures: tuple[Figure, ...]) -> dict[str, Figure]:
    return {figure.key: figure for figure in figures}


def points(figures: tuple[Figure, ...]) -> dict[str, float]:
    return {figure.key: figure.interval.point for figure in figures if figure.interval is not None}


def test_every_figure_is_what_was_counted_by_hand() -> None:
    assert points(programme_figures(cohort(), 0.5)) == pytest.approx(BY_HAND)


def test_figures_say_in_words_what_they_count() -> None:
    found = by_key(programme_figures(cohort(), 0.5))
    assert found["recall_rate"].denominator == "5 recalled of 10 exams that were read"
    assert (
        found["ppv1"].denominator
        == "1 with a screen-detected cancer of 4 exams that were recalled, work-up time complete"
    )
    assert found["cancer_detection_rate"].per == 1_000
    assert found["model_recall_rate"].threshold == 0.5
    assert found["recall_rate"].threshold is None


@pytest.mark.parametrize(
    "change",
    [
        {"window_months": 12},
        {"exams": "negatively-read", "positives": (Outcome.INTERVAL, Outcome.NEXT_ROUND), "window_months": 27},
        {"minimum_negative_followup_months": 39},
        {"positives": (Outcome.SCREEN_DETECTED,)},
    ],
    ids=["window", "missed cancers", "long follow-up", "screen-detected alone"],
)
def test_what_a_protocol_takes_as_positive_does_not_change_the_programme(change: dict[str, object]) -> None:
    rules = RULES.model_copy(update=change)
    assert points(programme_figures(cohort(rules), 0.5)) == pytest.approx(BY_HAND)


def test_copies_of_every_woman_change_no_rate() -> None:
    assert points(programme_figures(cohort(copies=3), 0.5)) == pytest.approx(BY_HAND)


def test_weights_of_one_change_nothing_and_others_count_exams_as_often() -> None:
    names = [f"exam of {name}.0" for name, *_ in EXAMS]
    plain = programme_figures(cohort(), 0.5)
    ones = programme_figures(cohort(weights=dict.fromkeys(names, 1.0)), 0.5)
    assert [figure.interval for figure in ones] == [figure.interval for figure in plain]
    double = programme_figures(cohort(weights=dict.fromkeys(names, 1.0) | {"exam of healthy.0": 4.0}), 0.5)
    assert points(double)["recall_rate"] == pytest.approx(5 / 13)
    assert "weighted" in by_key(double)["recall_rate"].denominator


def test_the_simulators_programme_has_the_cancers_that_it_was_given() -> None:
    programme = simulate(1_500, 2, 3, with_regions=False)
    figures = by_key(programme_figures(join(programme.checked_scores(), programme.checked_followup(), protocol()), 0.5))
    truth = programme.truth["outcome"]
    exams = programme.followup["exams"][(truth != Outcome.AFTER_DIAGNOSIS).to_numpy()]
    assert figures["cancer_detection_rate"].denominator.startswith(f"{(truth == Outcome.SCREEN_DETECTED).sum():,} ")
    assert figures["interval_cancer_rate"].denominator.startswith(f"{(truth == Outcome.INTERVAL).sum():,} ")
    assert (
        figures["recall_rate"].denominator
        == f"{exams['recalled'].sum():,} recalled of {len(exams):,} exams that were read"
    )


def test_a_registry_that_ends_early_does_not_make_cancers_more_frequent() -> None:
    """Women with a cancer are known at once, healthy ones only at the end: counting the former alone would be wrong."""
    exams = [
        {
            "exam_id": f"e{i}",
            "woman_id": f"w{i}",
            "exam_date": f"{2018 + 4 * (i % 2)}-01-10",
            "recalled": 0,
            "score": 0.1,
        }
        for i in range(40)
    ]
    cancers = [(f"w{i}", f"{2018 + 4 * (i % 2)}-09-01", "L") for i in range(8)]
    figures = points(programme_figures(cohort_of(exams, cancers, registry_ends="2022-12-01"), 0.5))
    assert figures["interval_cancer_rate"] == pytest.approx(4 / 20)


def test_ppv2_has_no_table_to_come_from_and_says_so() -> None:
    figure = by_key(programme_figures(cohort()))["ppv2"]
    assert "biopsies that were recommended" in figure.reason
    assert "25.6 %" in figure.benchmark


def test_without_biopsies_only_ppv3_is_missing() -> None:
    found = programme_figures(cohort(biopsies=None), 0.5)
    assert by_key(found)["ppv3"].reason == "PPV3 needs the follow-up table biopsies."
    assert points(found) == pytest.approx({key: value for key, value in BY_HAND.items() if key != "ppv3"})


def test_without_an_operating_point_only_the_model_is_missing() -> None:
    found = programme_figures(cohort())
    assert set(points(found)) == set(BY_HAND) - set(MODEL_INDICATORS)
    assert all("operating point" in by_key(found)[key].reason for key in MODEL_INDICATORS)


def test_without_decisions_every_figure_says_what_is_missing() -> None:
    exams = [{"exam_id": "e", "woman_id": "w", "exam_date": "2020-01-10", "score": 0.5}]
    found = programme_figures(cohort_of(exams), 0.5)
    assert {figure.key for figure in found} == set(INDICATORS) | set(MODEL_INDICATORS)
    assert all("need the column recalled" in figure.reason for figure in found)


def test_a_programme_without_cancers_has_rates_of_zero_and_no_sensitivity() -> None:
    exams = [
        {"exam_id": f"e{i}", "woman_id": f"w{i}", "exam_date": "2020-01-10", "recalled": 0, "score": 0.1}
        for i in range(5)
    ]
    found = by_key(programme_figures(cohort_of(exams), 0.5))
    interval = found["cancer_detection_rate"].interval
    assert interval is not None
    assert interval.point == 0 < interval.high
    assert "has a screen-detected or interval cancer" in found["programme_sensitivity"].reason
    assert "was recalled" in found["ppv1"].reason
    assert found["model_ppv1"].reason == "The model calls no exam that was followed for a round."


def test_a_call_on_the_healthy_breast_finds_no_cancer() -> None:
    exam = {"exam_id": "e", "woman_id": "w", "exam_date": "2020-01-10", "recalled": 1}
    sides = {"score": 0.9, "left_score": 0.9, "right_score": 0.1}
    other = {"exam_id": "f", "woman_id": "v", "exam_date": "2020-01-10", "recalled": 0, "score": 0.2}
    for side, rate in (("L", 0.5), ("R", 0.0), ("B", 0.5), ("", 0.5)):
        found = points(programme_figures(cohort_of([exam | sides, other], [("w", "2020-02-01", side)]), 0.5))
        assert found["model_recall_rate"] == 0.5
        assert found["model_cancer_detection_rate"] == rate, side


def test_published_levels_name_their_source() -> None:
    for indicator in [*INDICATORS.values(), *MODEL_INDICATORS.values()]:
        assert not indicator.benchmark or any(year in indicator.benchmark for year in ("2006", "2015", "2017"))
    assert math.isclose(sum("Radiology 2017;283:49" in one.benchmark for one in INDICATORS.values()), 7)
