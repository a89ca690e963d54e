"""Calibration: scores go back to logits, thresholds meet their targets, categories are tenths."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from evaluation.calibration import calibration_slope_intercept, expected_observed
from screening.errors import ConfigError
from screening.model.calibration import Calibration
from training.calibrate import (
    FALSE_POSITIVES_PER_IMAGE,
    FEWEST_EXAMS,
    RECALL_RATES,
    UNCALIBRATED,
    false_positive_threshold,
    fit_calibration,
    fit_line,
    logits,
    screening_weights,
    weighted_quantile,
)

PREVALENCE = 0.006


def scored(number: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and logits whose calibration line is known: a third have cancer, log odds = 0.8 · logit + 0.3."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.5, 1.5, number)
    return (rng.random(number) < expit(0.8 * logit + 0.3)).astype(int), logit


def fitted(seed: int = 0) -> tuple[Calibration, np.ndarray, np.ndarray, list[np.ndarray]]:
    y, x = scored(seed=seed)
    rng = np.random.default_rng(seed)
    regions = [np.sort(rng.normal(-3, 1.5, rng.integers(1, 9)))[::-1] for _ in range(500)]
    return fit_calibration(y, x, normal_exams(), regions, PREVALENCE, "numbers"), y, x, regions


def normal_exams() -> np.ndarray:
    """The higher of two breasts each: what exams of women without cancer look like."""
    y, x = scored(seed=1)
    without = x[y == 0]
    half = len(without) // 2
    higher: np.ndarray = np.maximum(without[:half], without[half : 2 * half])
    return higher


@given(st.floats(-25, 25))
def test_an_uncalibrated_score_gives_its_logit_back(logit: float) -> None:
    assert logits(UNCALIBRATED.score(logit)) == pytest.approx(logit, abs=1e-4)


def test_the_line_is_recovered_and_its_prior_shifted() -> None:
    y, x = scored(100_000)
    share = y.mean()
    line = fit_line(y, x, PREVALENCE)
    assert line.slope == pytest.approx(0.8, abs=0.03)
    shift = np.log(PREVALENCE / (1 - PREVALENCE)) - np.log(share / (1 - share))
    assert line.intercept == pytest.approx(0.3 + shift, abs=0.04)


def test_probabilities_are_calibrated_in_a_population_of_the_stated_prevalence() -> None:
    y, x = scored(100_000)
    weight = screening_weights(y, PREVALENCE)
    probability = fit_line(y, x, PREVALENCE)(x)
    assert np.average(y, weights=weight) == pytest.approx(PREVALENCE)
    # A shift of the prior is exact where the scores of either class keep their distribution, as they do here.
    assert expected_observed(y, probability, weight) == pytest.approx(1, abs=0.02)
    assert calibration_slope_intercept(y, probability, weight).slope == pytest.approx(1, abs=0.02)


@given(
    regions=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=8), min_size=1, max_size=30),
    target=st.sampled_from([0.1, 0.5, 1.0, 2.0]),
)
@settings(max_examples=200)
def test_a_threshold_gives_at_most_its_false_positives_and_none_lower_would(
    regions: list[list[int]], target: float
) -> None:
    scores = [np.array(one) / 100 for one in regions]
    threshold = false_positive_threshold(scores, target)
    everything = np.concatenate(scores)
    allowed = target * len(regions)
    assert np.count_nonzero(everything >= threshold) <= allowed or threshold == everything.max() == 1
    lower = everything[everything < threshold]
    if len(lower):
        assert np.count_nonzero(everything >= lower.max()) > allowed


def test_the_bundles_thresholds_meet_their_targets_on_the_data_they_were_chosen_on() -> None:
    calibration, _, _, regions = fitted()
    for target in FALSE_POSITIVES_PER_IMAGE:
        threshold = calibration.operating_point(f"{target:g}-fp-per-image").threshold
        marks = sum(calibration.score(logit) >= threshold for one in regions for logit in one)
        assert target - 1 / len(regions) <= marks / len(regions) <= target
    score = np.array([calibration.score(logit) for logit in normal_exams()])
    for rate in RECALL_RATES:
        threshold = calibration.operating_point(f"recall-{rate * 100:.0f}-percent").threshold
        assert rate - 1 / len(score) <= np.mean(score >= threshold) <= rate
    assert all("numbers" in point.chosen_on for point in calibration.operating_points)


def test_categories_are_tenths_of_exams_in_which_cancers_rank_high() -> None:
    calibration, y, x, _ = fitted()
    shares = Counter(calibration.category(calibration.score(logit)) for logit in normal_exams())
    assert [shares[c] / len(normal_exams()) for c in range(1, 11)] == pytest.approx([0.1] * 10, abs=0.002)
    category = np.array([calibration.category(calibration.score(logit)) for logit in x])
    cancers = [y[category == c].mean() for c in range(1, 11)]
    assert all(low < high for low, high in pairwise(cancers[::3]))


@pytest.mark.parametrize("exams", [FEWEST_EXAMS - 1, FEWEST_EXAMS])
def test_with_too_few_exams_the_population_is_that_of_the_breasts_weighted_to_screening(exams: int) -> None:
    y, x = scored()
    calibration = fit_calibration(y, x, normal_exams()[:exams], [x[:3]], PREVALENCE, "numbers")
    point = calibration.operating_point("recall-10-percent")
    weight = screening_weights(y, PREVALENCE)
    score = np.array([calibration.score(logit) for logit in x])
    recalled = float(weight[score >= point.threshold].sum())
    by_breast = exams < FEWEST_EXAMS
    assert math.isclose(recalled, 0.1, abs_tol=2 * weight.max()) is by_breast
    assert point.per == ("breast" if by_breast else "exam")
    assert calibration.categories_from.startswith("deciles of 4000 breasts" if by_breast else "deciles of 20 exams")


@given(
    values=st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 9)), min_size=1, max_size=30),
    q=st.floats(0.01, 0.99),
)
def test_a_weighted_quantile_is_that_of_values_repeated(values: list[tuple[int, int]], q: float) -> None:
    value, count = np.array(values, float).T
    found = weighted_quantile(value, count, q)
    repeated = np.sort(np.repeat(value, count.astype(int)))
    assert np.mean(repeated <= found) >= q - 1e-9
    assert np.mean(repeated < found) <= q + 1e-9


def test_scores_that_fall_with_cancer_are_refused() -> None:
    y, x = scored()
    with pytest.raises(ConfigError, match="learned nothing"):
        fit_calibration(y, -x, -x[:30], [x[:3]], PREVALENCE, "numbers")


def test_calibration_keeps_the_order_of_scores() -> None:
    calibration, _, x, _ = fitted()
    order = np.argsort(x)
    assert np.all(np.diff([calibration.score(logit) for logit in x[order]]) >= 0)
