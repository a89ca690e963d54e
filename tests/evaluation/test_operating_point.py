"""Thresholds meet their target on the data they are chosen on, and no looser one does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.froc import sensitivity_at_fp
from evaluation.hits import Lesions, Regions, centre_in_lesion, match
from evaluation.operating_point import (
    threshold_at_fp,
    threshold_at_recall_rate,
    threshold_at_sensitivity,
    threshold_at_specificity,
)
from evaluation.roc import sensitivity_at_recall_rate, sensitivity_at_specificity, specificity_at_sensitivity

RATES = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]


def cases(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.append([0, 1], rng.integers(0, 2, 20))
    return y, rng.integers(0, 12, 22) / 11, rng.random(22) + 0.1


def share(called: np.ndarray, weight: np.ndarray) -> float:
    return float(weight[called].sum() / weight.sum())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(RATES))
def test_thresholds_meet_their_target_and_the_next_looser_one_does_not(seed: int, rate: float) -> None:
    y, score, weight = cases(seed)
    negative, positive = y == 0, y == 1
    for threshold, group, limit in (
        (threshold_at_specificity(y, score, rate, weight), negative, 1 - rate),
        (threshold_at_recall_rate(score, rate, weight), negative | positive, rate),
    ):
        assert share(score[group] >= threshold, weight[group]) <= limit + 1e-9
        looser = score[score < threshold]
        assert not len(looser) or share(score[group] >= looser.max(), weight[group]) > limit
    threshold = threshold_at_sensitivity(y, score, rate, weight)
    assert share(score[positive] >= threshold, weight[positive]) >= rate - 1e-9
    stricter = score[positive][score[positive] > threshold]
    assert not len(stricter) or share(score[positive] >= stricter.min(), weight[positive]) < rate


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(RATES))
def test_thresholds_reach_the_figures_of_the_roc_curve(seed: int, rate: float) -> None:
    y, score, weight = cases(seed)
    negative, positive = y == 0, y == 1
    at_specificity = share(score[positive] >= threshold_at_specificity(y, score, rate, weight), weight[positive])
    assert at_specificity == pytest.approx(sensitivity_at_specificity(y, score, rate, weight))
    at_recall = share(score[positive] >= threshold_at_recall_rate(score, rate, weight), weight[positive])
    assert at_recall == pytest.approx(sensitivity_at_recall_rate(y, score, rate, weight))
    if rate > 0:
        at_sensitivity = share(score[negative] < threshold_at_sensitivity(y, score, rate, weight), weight[negative])
        assert at_sensitivity == pytest.approx(specificity_at_sensitivity(y, score, rate, weight))


def test_threshold_at_fp_counts_false_positives_per_unit() -> None:
    scores = [0.9, 0.8, 0.8, 0.6, 0.5, 0.2]
    false = [1, 1, 1, 0, 1, 1]
    assert threshold_at_fp(scores, false, 1.0, 1) == 0.9
    assert threshold_at_fp(scores, false, 1.0, 2) == 0.9  # 0.8 stands twice: both or none
    assert threshold_at_fp(scores, false, 1.0, 3) == 0.6  # the hit comes free
    assert threshold_at_fp(scores, false, 0.1, 40) == 0.5
    assert threshold_at_fp(scores, false, 0.0, 3) == np.inf
    assert threshold_at_fp(scores, false, 5.0, 1) == 0.0
    assert threshold_at_fp([], [], 1.0, 3) == 0.0
    assert threshold_at_fp(scores, false, 1.0, 3, [2, 1, 1, 1, 1, 1]) == 0.9


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 1.0, 2.0]))
def test_threshold_at_fp_reaches_the_sensitivity_of_the_froc_curve(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    lesions = Lesions(np.arange(6), np.tile([10, 10, 9, 9], (6, 1)))
    regions = Regions(rng.integers(0, 8, 30), rng.integers(1, 20, 30) / 20, rng.integers(5, 16, (30, 4)))
    found = match(regions, lesions, centre_in_lesion)
    threshold = threshold_at_fp(regions.score, found.false_positive, rate, 8)
    assert (found.lesion_score >= threshold).mean() == sensitivity_at_fp(regions, lesions, 8, rate)


def test_what_has_no_threshold_is_refused_with_a_sentence() -> None:
    with pytest.raises(NotComputableError, match="without cancer"):
        threshold_at_specificity([1, 1], [0.1, 0.2], 0.9)
    with pytest.raises(NotComputableError, match="needs cases with cancer"):
        threshold_at_sensitivity([0, 0], [0.1, 0.2], 0.9)
    with pytest.raises(NotComputableError, match="needs cases"):
        threshold_at_recall_rate([], 0.9)
    with pytest.raises(InvalidInputError, match="NaN"):
        threshold_at_recall_rate([0.1, np.nan], 0.9)
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        threshold_at_recall_rate([0.1, 0.2], 9)
    for rate, units in ((-1, 3), (1, 0), (np.nan, 3)):
        with pytest.raises(InvalidInputError, match="denominator above 0"):
            threshold_at_fp([0.5], [1], rate, units)
    with pytest.raises(InvalidInputError, match=r"outside \[0, 1\]"):
        threshold_at_fp([1.5], [1], 1, 3)
