"""Calibration figures equal maximum likelihood fits of other tools, and mean what they say."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from evaluation.calibration import (
    calibration_slope_intercept,
    expected_observed,
    fit_platt,
    prior_shift,
    reliability_bins,
)
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.intervals import wilson


def outcomes(seed: int, n: int = 400, slope: float = 1.0, intercept: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes whose true log odds are `slope · logit + intercept`, and the logits."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=n) * 1.5 - 0.5
    return (rng.random(n) < special.expit(slope * logit + intercept)).astype(int), logit


@pytest.mark.parametrize("seed", range(5))
def test_slope_and_intercept_equal_an_unpenalised_logistic_regression(seed: int) -> None:
    y, logit = outcomes(seed, slope=0.7, intercept=0.4)
    weight = np.random.default_rng(seed).random(len(y)) + 0.1
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], y, sample_weight=weight)
    line = calibration_slope_intercept(y, special.expit(logit), weight)
    assert (line.slope, line.intercept) == pytest.approx((model.coef_[0, 0], model.intercept_[0]), abs=1e-4)
    shifted = special.expit(logit + line.in_the_large)
    assert weight @ shifted == pytest.approx(weight @ y)  # the score equation of the intercept alone


@pytest.mark.parametrize("seed", range(3))
def test_slope_and_intercept_equal_statsmodels(seed: int) -> None:
    api = pytest.importorskip("statsmodels.api")
    y, logit = outcomes(seed)
    line = calibration_slope_intercept(y, special.expit(logit))
    binomial = api.families.Binomial()
    fit = api.GLM(y, api.add_constant(logit), family=binomial).fit(tol=1e-12)
    assert (line.intercept, line.slope) == pytest.approx(tuple(fit.params), abs=1e-7)
    offset = api.GLM(y, np.ones(len(y)), family=binomial, offset=logit).fit(tol=1e-12)
    assert line.in_the_large == pytest.approx(offset.params[0], abs=1e-7)


def test_true_probabilities_are_calibrated_and_overconfident_ones_have_a_slope_below_one() -> None:
    y, logit = outcomes(1, n=200_000)
    line = calibration_slope_intercept(y, special.expit(logit))
    assert (line.slope, line.intercept, line.in_the_large) == pytest.approx((1, 0, 0), abs=0.02)
    assert expected_observed(y, special.expit(logit)) == pytest.approx(1, abs=0.01)
    assert calibration_slope_intercept(y, special.expit(2 * logit)).slope == pytest.approx(0.5, abs=0.01)
    assert calibration_slope_intercept(y, special.expit(logit - 1)).in_the_large == pytest.approx(1, abs=0.02)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 5), st.floats(-3, 3))
def test_undoing_the_calibration_line_leaves_slope_one_and_intercept_zero(seed: int, a: float, b: float) -> None:
    y, logit = outcomes(seed)
    line = calibration_slope_intercept(y, special.expit(a * logit + b))
    repaired = special.expit(line.slope * (a * logit + b) + line.intercept)
    again = calibration_slope_intercept(y, repaired)
    assert (again.slope, again.intercept, again.in_the_large) == pytest.approx((1, 0, 0), abs=1e-6)
    assert expected_observed(y, repaired) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_platt_maximises_its_likelihood_whatever_the_size_of_the_scores(scale: float) -> None:
    y, logit = outcomes(3)
    target = np.where(y == 1, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))

    def loss(parameters: np.ndarray) -> float:
        predictor = parameters[0] * logit + parameters[1]
        return float((np.logaddexp(0, predictor) - target * predictor).sum())

    best = optimize.minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-7})
    platt = fit_platt(y, logit * scale)
    assert (platt.slope * scale, platt.intercept) == pytest.approx(tuple(best.x), abs=1e-4)
    np.testing.assert_allclose(platt(logit * scale), special.expit(best.x[0] * logit + best.x[1]), atol=1e-5)


def test_smoothing_keeps_platt_finite_where_the_scores_separate_the_classes() -> None:
    y, logit = np.repeat([0, 1], 20), np.arange(40.0)
    platt = fit_platt(y, logit)
    assert np.isfinite([platt.slope, platt.intercept]).all()
    assert platt(logit)[[0, -1]] == pytest.approx([1 / 22, 21 / 22], abs=0.05)
    with pytest.raises(NotComputableError, match="separate the classes perfectly"):
        fit_platt(y, logit, smooth=False)


def test_quasi_complete_separation_is_recognised() -> None:
    with pytest.raises(NotComputableError, match="separate the classes perfectly"):
        fit_platt([0, 0, 1, 1], [0.0, 1.0, 1.0, 2.0], smooth=False)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999), st.lists(st.floats(-20, 20), min_size=1, max_size=5))
def test_prior_shift_is_undone_by_the_shift_back_and_keeps_the_likelihood_ratio(
    one: float, other: float, logits: list[float]
) -> None:
    shifted = prior_shift(logits, one, other)
    np.testing.assert_allclose(prior_shift(shifted, other, one), logits, atol=1e-9)
    np.testing.assert_allclose(shifted - special.logit(other), np.array(logits) - special.logit(one), atol=1e-9)


def test_after_a_prior_shift_an_enriched_sets_model_is_calibrated_at_screening_prevalence() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(400_000) < 0.006
    score = rng.normal(size=len(y)) + 1.5 * y
    enriched = np.concatenate([np.flatnonzero(y), np.flatnonzero(~y)[: 2 * y.sum()]])
    platt = fit_platt(y[enriched], score[enriched])
    p = special.expit(prior_shift(platt.slope * score + platt.intercept, 1 / 3, 0.006))
    assert expected_observed(y, p) == pytest.approx(1, abs=0.06)
    assert calibration_slope_intercept(y, p).slope == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
def test_reliability_bins_equal_scikit_learn_and_wilson(strategy: Literal["quantile", "uniform"]) -> None:
    y, logit = outcomes(4)
    p = special.expit(logit)
    bins = reliability_bins(y, p, 8, strategy)
    observed, predicted = calibration_curve(y, p, n_bins=8, strategy=strategy)
    np.testing.assert_allclose(bins.observed, observed)
    np.testing.assert_allclose(bins.predicted, predicted)
    assert bins.n.sum() == len(y)
    interval = wilson(round(bins.observed[0] * bins.n[0]), int(bins.n[0]))
    assert (bins.low[0], bins.high[0]) == pytest.approx((interval.low, interval.high))


def test_reliability_bins_survive_ties_and_one_value() -> None:
    bins = reliability_bins([0, 1, 0, 1], [0.3, 0.3, 0.3, 0.3])
    assert (bins.predicted.tolist(), bins.observed.tolist(), bins.n.tolist()) == ([0.3], [0.5], [4.0])


def test_what_cannot_be_computed_is_refused_with_a_sentence() -> None:
    with pytest.raises(InvalidInputError, match="no logit"):
        calibration_slope_intercept([0, 1], [0.0, 0.5])
    with pytest.raises(NotComputableError, match="both classes"):
        calibration_slope_intercept([1, 1], [0.2, 0.5])
    with pytest.raises(NotComputableError, match="scores that differ"):
        calibration_slope_intercept([0, 1], [0.5, 0.5])
    with pytest.raises(NotComputableError, match="observed cancer"):
        expected_observed([0, 0], [0.2, 0.5])
    with pytest.raises(InvalidInputError, match=r"outside \[0, 1\]"):
        expected_observed([0, 1], [0.2, 1.5])
    with pytest.raises(InvalidInputError, match="NaN"):
        reliability_bins([0, 1], [0.2, np.nan])
    with pytest.raises(InvalidInputError, match="one bin"):
        reliability_bins([0, 1], [0.2, 0.3], 0)
    with pytest.raises(InvalidInputError, match="not by 'equal'"):
        reliability_bins([0, 1], [0.2, 0.3], 2, "equal")  # type: ignore[arg-type]
    with pytest.raises(NotComputableError, match="no cases"):
        reliability_bins([], [])
    with pytest.raises(NotComputableError, match="both classes"):
        fit_platt([0, 0], [0.2, 0.5])
    with pytest.raises(InvalidInputError, match="infinite"):
        fit_platt([0, 1], [0.2, np.inf])
    with pytest.raises(InvalidInputError, match="strictly between 0 and 1"):
        prior_shift([0.0], 0.3, 0.0)
