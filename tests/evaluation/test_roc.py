"""ROC figures equal scikit-learn's and their plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.roc import (
    auc,
    delong_interval,
    delong_test,
    partial_auc,
    roc_curve,
    sensitivity_at_recall_rate,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)


def cases(seed: int, n: int = 60, levels: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes of both classes, scores with many ties, and weights with some zeros."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    y[:4] = (0, 1, 0, 1)
    score = np.round(rng.normal(y * 0.8) * levels / 6) / levels
    weight = rng.integers(0, 4, n) * rng.random(n)
    weight[:4] = 1
    return y, score, weight


@pytest.mark.parametrize("seed", range(20))
def test_auc_equals_scikit_learn_with_ties_and_weights(seed: int) -> None:
    y, score, weight = cases(seed)
    assert auc(y, score) == pytest.approx(metrics.roc_auc_score(y, score), abs=1e-12)
    assert auc(y, score, weight) == pytest.approx(metrics.roc_auc_score(y, score, sample_weight=weight), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_roc_curve_equals_scikit_learn(seed: int) -> None:
    y, score, weight = cases(seed)
    fpr, tpr, threshold = metrics.roc_curve(y, score, drop_intermediate=False, sample_weight=weight)
    curve = roc_curve(y, score, weight)
    np.testing.assert_allclose(curve.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.tpr, tpr, atol=1e-12)
    np.testing.assert_array_equal(curve.threshold, threshold)


@pytest.mark.parametrize("max_fpr", [0.01, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_standardised_partial_auc_equals_scikit_learn(seed: int, max_fpr: float) -> None:
    y, score, weight = cases(seed)
    expected = metrics.roc_auc_score(y, score, max_fpr=max_fpr, sample_weight=weight)
    assert partial_auc(y, score, max_fpr, weight, standardise=True) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_partial_auc_is_the_area_under_the_cut_curve(seed: int) -> None:
    y, score, _ = cases(seed)
    curve = roc_curve(y, score)
    grid = np.linspace(0, 0.3, 200_001)
    # np.interp takes the last of equal x, which is the top of a vertical step.
    area = np.trapezoid(np.interp(grid, curve.fpr, curve.tpr), grid)
    assert partial_auc(y, score, 0.3) == pytest.approx(area, abs=1e-5)
    assert partial_auc(y, score, 1.0) == pytest.approx(auc(y, score), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), rate=st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 0.9, 1.0]))
def test_operating_points_are_the_best_that_any_threshold_reaches(seed: int, rate: float) -> None:
    y, score, weight = cases(seed, n=30, levels=8)
    sensitivity, specificity, recall = [0.0], [1.0], [0.0]
    for threshold in np.unique(score):
        called = score >= threshold
        sensitivity.append(weight[called & (y == 1)].sum() / weight[y == 1].sum())
        specificity.append(1 - weight[called & (y == 0)].sum() / weight[y == 0].sum())
        recall.append(weight[called].sum() / weight.sum())
    se, sp, rr = np.array(sensitivity), np.array(specificity), np.array(recall)
    assert sensitivity_at_specificity(y, score, rate, weight) == pytest.approx(se[sp >= rate - 1e-9].max(), abs=1e-12)
    assert specificity_at_sensitivity(y, score, rate, weight) == pytest.approx(sp[se >= rate - 1e-9].max(), abs=1e-12)
    assert sensitivity_at_recall_rate(y, score, rate, weight) == pytest.approx(se[rr <= rate + 1e-9].max(), abs=1e-12)


def test_rounding_does_not_forbid_a_rate_that_is_met_exactly() -> None:
    y = np.array([0] * 10 + [1])
    score = np.array([0.9] + [0.1] * 9 + [0.5])
    assert sensitivity_at_specificity(y, score, 0.9) == 1.0  # 1 - 0.9 is below 0.1 in floating point


def test_a_score_of_minus_infinity_is_the_lowest() -> None:
    assert auc([1, 1, 0, 0], [0.5, -np.inf, -np.inf, -np.inf]) == 0.75


def delong_by_definition(y: np.ndarray, scores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and covariance from all pairs of cases (DeLong et al. 1988, equations 4 to 6)."""
    v10, v01 = [], []
    for score in scores:
        psi = np.heaviside(score[y == 1][:, None] - score[y == 0][None, :], 0.5)
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    s10, s01 = np.cov(np.stack(v10)), np.cov(np.stack(v01))
    return np.mean(v10, axis=1), s10 / (y == 1).sum() + s01 / (y == 0).sum()


@pytest.mark.parametrize("seed", range(10))
def test_delong_equals_its_definition_over_all_pairs(seed: int) -> None:
    y, first, _ = cases(seed)
    second = first + np.round(np.random.default_rng(seed + 1).normal(size=len(y)), 1)
    areas, covariance = delong_by_definition(y, [first, second])
    interval = delong_interval(y, first)
    assert interval.point == pytest.approx(areas[0], abs=1e-12)
    assert interval.low == pytest.approx(max(0, areas[0] - 1.959963984540054 * np.sqrt(covariance[0, 0])), abs=1e-10)
    result = delong_test(y, first, second)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert result.z == pytest.approx((areas[0] - areas[1]) / error, abs=1e-9)
    assert result.p_value == pytest.approx(2 * stats.norm.sf(abs(result.z)), abs=1e-12)
    assert result.difference.high - result.difference.low == pytest.approx(2 * 1.959963984540054 * error, abs=1e-9)


def test_delong_test_of_scores_that_rank_alike_finds_no_difference() -> None:
    y, score, _ = cases(3)
    result = delong_test(y, score, 3 * score + 1)
    assert (result.difference.point, result.p_value) == (0.0, 1.0)


def test_delong_test_refuses_a_difference_without_variance() -> None:
    y = np.array([0, 0, 1, 1])
    with pytest.raises(NotComputableError, match="no variance"):
        delong_test(y, [0, 0, 1, 1], [1, 1, 0, 0])


def test_delong_needs_two_cases_of_each_class() -> None:
    with pytest.raises(NotComputableError, match="two cases of each class"):
        delong_interval([0, 0, 1], [0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("y", "score", "weight", "sentence"),
    [
        ([0, 1], [0.1], None, "score has 1 values where 2 are needed"),
        ([0, 2], [0.1, 0.2], None, "y must be 0 or 1"),
        ([0, 1], [0.1, np.nan], None, "1 NaN among 2"),
        ([0, 1], ["a", "b"], None, "score must be numbers"),
        ([0, 1], [[0.1, 0.2]], None, "one-dimensional"),
        ([0, 1], [0.1, 0.2], [1, -1], "negative"),
        ([0, 1], [0.1, 0.2], [0, 0], "zero everywhere"),
        ([0, 1], [0.1, 0.2], [1, np.inf], "infinite"),
    ],
)
def test_arrays_without_meaning_are_refused_with_a_sentence(
    y: list[int], score: list[float], weight: list[float] | None, sentence: str
) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        auc(y, score, weight)


@pytest.mark.parametrize("rate", [-0.1, 1.1, np.nan])
def test_rates_outside_the_unit_interval_are_refused(rate: float) -> None:
    for figure in (sensitivity_at_specificity, specificity_at_sensitivity, sensitivity_at_recall_rate, partial_auc):
        with pytest.raises(InvalidInputError, match="between 0 and 1"):
            figure([0, 1], [0.1, 0.2], rate)
    with pytest.raises(InvalidInputError, match="above 0"):
        partial_auc([0, 1], [0.1, 0.2], 0)
