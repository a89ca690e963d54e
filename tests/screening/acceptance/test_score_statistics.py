"""False alarms, coverage and refusals of what acceptance says about scores."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from screening.acceptance.score_statistics import ChosenPoint, NoPoint, choose_point, exams_needed, spread
from screening.monitoring.reference import Reference, Stratum, Unit


def reference(size: float = 1e9) -> Reference:
    """Tenths of scores that are spread evenly over 0 to 1."""
    return Reference(
        site="",
        model_id="m",
        source="uniform",
        made=datetime(2026, 1, 1, tzinfo=UTC),
        unit=Unit.BREAST,
        edges=tuple(step / 10 for step in range(1, 10)),
        strata=(Stratum(manufacturer="", bins=(size / 10,) * 10),),
    )


def pairs(rng: np.random.Generator, exams: int, alike: float) -> list[list[float]]:
    """Scores of both breasts of each exam, each spread evenly, with this correlation of their normal scores."""
    latent = rng.multivariate_normal((0, 0), ((1, alike), (alike, 1)), exams)
    return stats.norm.cdf(latent).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("alike", [0.0, 0.95])
def test_false_alarms_are_as_rare_as_stated_though_two_breasts_are_alike(alike: float) -> None:
    rng = np.random.default_rng(1)
    found = [spread(pairs(rng, 150, alike), reference()).p_value for _ in range(400)]
    alarms = sum(p is not None and p < 0.05 for p in found)
    assert alarms <= stats.binom.ppf(0.999, 400, 0.05)
    assert alarms >= 4  # and the test is not blind


def test_breasts_counted_as_independent_would_give_false_alarms() -> None:
    """The peer that shows what the design effect is for: the plain chi-square test of scipy."""
    rng = np.random.default_rng(2)
    plain = 0
    for _ in range(200):
        counts = spread(pairs(rng, 150, 0.99), reference()).counts
        plain += stats.chisquare(counts).pvalue < 0.05
    assert plain > 40


def test_independent_units_give_scipys_chi_square_test() -> None:
    scores = np.random.default_rng(3).beta(1.3, 1, 500)
    found = spread([[score] for score in scores], reference())
    assert found.p_value == pytest.approx(stats.chisquare(found.counts).pvalue, rel=0.2)


def test_small_reference_makes_the_test_careful() -> None:
    scores = [[score] for score in np.random.default_rng(4).beta(1.3, 1, 500)]
    sure, careful = spread(scores, reference()).p_value, spread(scores, reference(300)).p_value
    assert sure is not None
    assert careful is not None
    assert careful > 3 * sure


def test_shift_is_found() -> None:
    found = spread(np.random.default_rng(5).beta(2, 1, (150, 2)).tolist(), reference())
    assert found.p_value is not None
    assert found.p_value < 1e-4
    assert found.psi > 0.25
    assert found.top_low > 0.1


def test_few_units_are_not_tested_but_the_reason_is_given() -> None:
    found = spread([[0.5]] * 49, reference())
    assert found.p_value is None
    assert "50 are needed" in found.reason
    assert spread([], reference()).reason == "no exam was scored"


@pytest.mark.parametrize("wanted", [0.03, 0.1, 0.3])
def test_interval_of_the_recall_rate_covers_the_true_one(wanted: float) -> None:
    """Scores are spread evenly, so that a threshold's true recall rate is what lies above it."""
    rng = np.random.default_rng(6)
    exams = exams_needed(wanted)
    covered = 0
    for _ in range(300):
        point = choose_point(rng.random(exams).tolist(), wanted)
        assert isinstance(point, ChosenPoint)
        covered += point.rate_low <= 1 - point.threshold <= point.rate_high
    assert covered >= stats.binom.ppf(0.001, 300, 0.95)


@pytest.mark.parametrize("wanted", [0.03, 0.1])
def test_interval_of_the_threshold_covers_the_one_that_recalls_exactly_the_wanted_share(wanted: float) -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        point = choose_point(rng.random(exams_needed(wanted)).tolist(), wanted)
        assert isinstance(point, ChosenPoint)
        covered += point.threshold_low <= 1 - wanted <= point.threshold_high
    assert covered >= stats.binom.ppf(0.001, 300, 0.95)


@given(
    scores=st.lists(st.floats(0, 1, width=16), min_size=20, max_size=200),
    wanted=st.sampled_from([0.1, 0.25, 0.5]),
)
@settings(max_examples=200, deadline=None)
def test_threshold_recalls_at_most_the_wanted_share_and_as_many_as_stated(scores: list[float], wanted: float) -> None:
    point = choose_point(scores, wanted)
    if isinstance(point, NoPoint):
        assert point.reason
        return
    recalled = sum(score >= point.threshold for score in scores)
    assert recalled == point.recalled <= wanted * len(scores) + 1e-9
    assert point.threshold_low <= point.threshold_high


def test_equal_scores_give_no_threshold_but_a_reason() -> None:
    point = choose_point([0.5] * 500, 0.03)
    assert isinstance(point, NoPoint)
    assert "are equal" in point.reason


@pytest.mark.parametrize("wanted", [0.01, 0.03, 0.1, 0.5])
def test_exams_needed_is_the_least_from_which_on_every_interval_is_narrow(wanted: float) -> None:
    def narrow(exams: int) -> bool:
        recalled = int(np.floor(wanted * exams + 1e-9))
        found = stats.binomtest(recalled, exams).proportion_ci(0.95)
        return bool(found.low >= wanted / 2 and found.high <= 2 * wanted)

    needed = exams_needed(wanted)
    assert not narrow(needed - 1)
    assert all(narrow(exams) for exams in range(needed, needed + 40))


@pytest.mark.parametrize("wanted", [0.0, -0.1, 0.6, 1.0])
def test_impossible_recall_rate_is_refused(wanted: float) -> None:
    with pytest.raises(ValueError, match="recall rate"):
        exams_needed(wanted)
