"""What every figure on cases has in common, one list of figures through one list of laws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.agreement import quadratic_weighted_kappa
from evaluation.calibration import calibration_slope_intercept, expected_observed, reliability_bins
from evaluation.errors import MetricError, NotComputableError
from evaluation.operating_point import threshold_at_sensitivity, threshold_at_specificity
from evaluation.roc import (
    auc,
    partial_auc,
    roc_curve,
    sensitivity_at_recall_rate,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from screening.errors import ScreeningError

Figure = Callable[..., float]

BY_RANK: dict[str, Figure] = {
    "auc": auc,
    "partial_auc": lambda y, s, w=None: partial_auc(y, s, 0.3, w),
    "sensitivity_at_specificity": lambda y, s, w=None: sensitivity_at_specificity(y, s, 0.8, w),
    "specificity_at_sensitivity": lambda y, s, w=None: specificity_at_sensitivity(y, s, 0.8, w),
    "sensitivity_at_recall_rate": lambda y, s, w=None: sensitivity_at_recall_rate(y, s, 0.3, w),
    "roc_curve": lambda y, s, w=None: float(np.trapezoid((c := roc_curve(y, s, w)).tpr, c.fpr)),
}
BY_VALUE: dict[str, Figure] = {
    "calibration_slope": lambda y, s, w=None: calibration_slope_intercept(y, s, w).slope,
    "calibration_in_the_large": lambda y, s, w=None: calibration_slope_intercept(y, s, w).in_the_large,
    "expected_observed": expected_observed,
    "threshold_at_specificity": lambda y, s, w=None: threshold_at_specificity(y, s, 0.8, w),
    "threshold_at_sensitivity": lambda y, s, w=None: threshold_at_sensitivity(y, s, 0.8, w),
    "reliability": lambda y, s, w=None: float(reliability_bins(y, s, 4, "uniform", w).observed[0]),
    "kappa": lambda y, s, w=None: quadratic_weighted_kappa(y, np.floor(4 * np.asarray(s)), 4, w),
}
FIGURES = BY_RANK | BY_VALUE
figures = pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
seeds = given(seed=st.integers(0, 10_000))


def cases(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """25 cases with ties; scores are multiples of 1/32 in (0, 1)."""
    rng = np.random.default_rng(seed)
    y = np.append([0, 1, 0, 1], rng.integers(0, 2, 21))
    score = np.append([2, 9, 31, 1], rng.integers(1, 32, 21)) / 32
    return y, score


@figures
@settings(max_examples=20, deadline=None)
@seeds
def test_order_of_cases_does_not_matter(figure: Figure, seed: int) -> None:
    y, score = cases(seed)
    order = np.random.default_rng(seed).permutation(len(y))
    assert figure(y[order], score[order]) == pytest.approx(figure(y, score), rel=1e-9, abs=1e-12)


@figures
@settings(max_examples=20, deadline=None)
@seeds
def test_weights_of_one_equal_no_weights(figure: Figure, seed: int) -> None:
    y, score = cases(seed)
    assert figure(y, score, np.ones(len(y))) == figure(y, score)


@figures
@settings(max_examples=20, deadline=None)
@seeds
def test_whole_weights_equal_copies_of_the_cases(figure: Figure, seed: int) -> None:
    y, score = cases(seed)
    weight = np.append([1, 1, 1, 1], np.random.default_rng(seed).integers(0, 4, len(y) - 4))
    copies = figure(np.repeat(y, weight), np.repeat(score, weight))
    assert figure(y, score, weight) == pytest.approx(copies, rel=1e-7, abs=1e-9)


@figures
@settings(max_examples=20, deadline=None)
@seeds
def test_replicating_every_case_and_scaling_all_weights_change_nothing(figure: Figure, seed: int) -> None:
    y, score = cases(seed)
    assert figure(np.tile(y, 3), np.tile(score, 3)) == pytest.approx(figure(y, score), rel=1e-7, abs=1e-9)
    weight = np.random.default_rng(seed).random(len(y)) + 0.1
    assert figure(y, score, 7.3 * weight) == pytest.approx(figure(y, score, weight), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("figure", BY_RANK.values(), ids=BY_RANK)
@settings(max_examples=20, deadline=None)
@seeds
def test_only_the_order_of_scores_matters(figure: Figure, seed: int) -> None:
    y, score = cases(seed)
    for transformed in (np.log(score), score**3 - 5, np.exp(100 * score)):
        assert figure(y, transformed) == figure(y, score)


@pytest.mark.parametrize("figure", BY_RANK.values(), ids=BY_RANK)
def test_one_class_is_refused_not_nan(figure: Figure) -> None:
    for y in ([0, 0, 0], [1, 1, 1]):
        with pytest.raises(NotComputableError, match="both classes"):
            figure(y, [0.1, 0.2, 0.3])
    with pytest.raises(NotComputableError):
        figure([0, 1, 1], [0.1, 0.2, 0.3], [0, 1, 1])


def test_equal_scores_carry_no_information() -> None:
    y, score = [0, 1, 0, 1], [0.5] * 4
    assert auc(y, score) == 0.5
    assert partial_auc(y, score, 0.2, standardise=True) == pytest.approx(0.5)
    assert sensitivity_at_specificity(y, score, 0.9) == 0.0
    assert sensitivity_at_recall_rate(y, score, 0.9) == 0.0
    assert specificity_at_sensitivity(y, score, 0.1) == 0.0


@figures
def test_nan_no_cases_and_unequal_lengths_are_refused_with_the_projects_error(figure: Figure) -> None:
    for y, score in (([0, 1], [0.2, np.nan]), ([0, np.nan], [0.2, 0.3]), ([], []), ([0, 1], [0.2])):
        with pytest.raises(MetricError) as error:
            figure(y, score)
        assert isinstance(error.value, ValueError)
        assert isinstance(error.value, ScreeningError)
        assert str(error.value).endswith(".")
