"""The mLROC equals its definition, counted case by case, and is never better than the ROC curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.bootstrap import cluster_bootstrap
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.hits import CentreDistance, Lesions, Regions, centre_in_lesion
from evaluation.mlroc import MlrocStatistics, localised_cases, mlroc_area
from evaluation.roc import auc, partial_auc, roc_curve

seeds = given(seed=st.integers(0, 100_000))


def cases(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes of both classes, scores with ties, whether a mark is in place, and positive weights."""
    rng = np.random.default_rng(seed)
    y = np.append([0, 1], rng.integers(0, 2, n - 2))
    return y, rng.integers(0, 15, n) / 10, rng.integers(0, 2, n), rng.random(n) + 0.1


def points_by_counting(y: np.ndarray, score: np.ndarray, localised: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(share of healthy cases called, share of cancers called and localised) at every threshold."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(score), reverse=True):
        called = score >= threshold
        points.append(
            (
                weight[called & (y == 0)].sum() / weight[y == 0].sum(),
                weight[called & (y == 1) & (localised == 1)].sum() / weight[y == 1].sum(),
            )
        )
    return np.array(points)


@settings(max_examples=60, deadline=None)
@seeds
def test_curve_is_the_share_called_and_localised_at_every_threshold(seed: int) -> None:
    y, score, localised, weight = cases(seed)
    curve = MlrocStatistics(y, score, localised).curve(weight)
    expected = points_by_counting(y, score, localised, weight)
    np.testing.assert_allclose(np.column_stack([curve.fpr, curve.tpr]), _without_idle(expected, curve.fpr), atol=1e-12)
    at_threshold = [weight[(score >= t) & (y == 0)].sum() / weight[y == 0].sum() for t in curve.threshold]
    np.testing.assert_allclose(curve.fpr, at_threshold, atol=1e-12)


def _without_idle(points: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """Without the thresholds at which only cancers that are not localised are called: they add no point."""
    moved = np.append(True, np.abs(np.diff(points, axis=0)).sum(axis=1) > 1e-12)
    assert moved.sum() == len(fpr)
    return np.asarray(points[moved])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([0.05, 0.1, 0.37, 1.0]))
def test_area_is_the_area_under_the_points_up_to_the_limit(seed: int, max_fpr: float) -> None:
    y, score, localised, weight = cases(seed)
    points = points_by_counting(y, score, localised, weight)
    inside = points[:, 0] < max_fpr
    x = np.append(points[inside, 0], max_fpr)
    height = np.append(points[inside, 1], np.interp(max_fpr, points[:, 0], points[:, 1]))
    first_at_limit = points[np.argmax(points[:, 0] >= max_fpr)]
    if first_at_limit[0] == max_fpr:
        height[-1] = first_at_limit[1]
    assert mlroc_area(y, score, localised, max_fpr, weight) == pytest.approx(np.trapezoid(height, x), abs=1e-12)


@settings(max_examples=40, deadline=None)
@seeds
def test_whole_area_is_the_chance_that_a_localised_cancer_outscores_a_healthy_case(seed: int) -> None:
    y, score, localised, _ = cases(seed)
    won = [
        (a > b) + (a == b) / 2 if found else 0.0
        for a, found in zip(score[y == 1], localised[y == 1], strict=True)
        for b in score[y == 0]
    ]
    assert mlroc_area(y, score, localised, 1.0) == pytest.approx(np.mean(won), abs=1e-12)


@settings(max_examples=30, deadline=None)
@seeds
def test_with_every_cancer_localised_it_is_the_roc_curve_and_with_none_it_is_nothing(seed: int) -> None:
    y, score, localised, weight = cases(seed)
    assert mlroc_area(y, score, np.ones(len(y)), 0.1, weight) == pytest.approx(
        partial_auc(y, score, 0.1, weight), abs=1e-12
    )
    assert mlroc_area(y, score, np.ones(len(y)), 1.0) == pytest.approx(auc(y, score), abs=1e-12)
    whole, roc = MlrocStatistics(y, score, np.ones(len(y))).curve(weight), roc_curve(y, score, weight)
    np.testing.assert_array_equal(whole.threshold, roc.threshold)
    np.testing.assert_allclose(whole.tpr, roc.tpr, atol=1e-12)
    assert mlroc_area(y, score, np.zeros(len(y)), 1.0) == 0.0
    assert MlrocStatistics(y, score, np.zeros(len(y))).curve().tpr.max() == 0.0
    assert mlroc_area(y, score, localised, 0.1) <= partial_auc(y, score, 0.1) + 1e-12


def test_a_case_that_is_never_called_and_one_that_is_not_localised_do_not_tie() -> None:
    y, score, localised = [0, 1, 1], [-np.inf, 0.5, 0.9], [0, 1, 0]
    assert mlroc_area(y, score, localised, 1.0) == 0.5


def test_bootstrap_over_women_resamples_cases_together() -> None:
    y, score, localised, _ = cases(3)
    woman = np.arange(len(y)) // 2
    statistic = MlrocStatistics(y, score, localised).area(0.3)
    fast = cluster_bootstrap(statistic, woman, seed=1, replicates=200)
    slow = cluster_bootstrap(lambda w: mlroc_area(y, score, localised, 0.3, w), woman, seed=1, replicates=200)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-12)
    assert fast.low < fast.point < fast.high


def marks(seed: int) -> tuple[Regions, Lesions, np.ndarray]:
    """Six cases of three images; regions of distinct scores on and beside lesions, some of them no targets."""
    rng = np.random.default_rng(seed)
    image, lesion_image = rng.integers(0, 18, 70), rng.integers(0, 18, 10)
    lesion_box = np.column_stack([rng.integers(0, 60, (10, 2)), rng.integers(5, 25, (10, 2))])
    box = np.column_stack([rng.integers(0, 80, (70, 2)), np.full((70, 2), 4)])
    score = rng.permutation(70) / 70
    return (
        Regions(image, score, box),
        Lesions(lesion_image, lesion_box, target=rng.random(10) < 0.7),
        np.arange(18) // 3,
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 8))
def test_a_case_is_localised_by_any_of_its_highest_marks_in_any_view(seed: int, limit: int) -> None:
    regions, lesions, case = marks(seed)
    for rule in (centre_in_lesion, CentreDistance(8)):
        found = localised_cases(regions, lesions, case, 6, rule, marks=limit)
        for c in range(6):
            own = [r for r in range(70) if case[regions.image[r]] == c]
            kept = sorted(own, key=lambda r: -regions.score[r])[:limit]
            expected = any(
                regions.image[r] == lesions.image[m]
                and lesions.target[m]
                and rule(regions.box[[r]], lesions.box[[m]], lesions.ellipse[[m]])[0]
                for r in kept
                for m in range(10)
            )
            assert found[c] == expected


def test_equal_scores_at_the_limit_are_left_out_whatever_the_order_of_rows() -> None:
    on, off = [10, 10, 2, 2], [50, 50, 2, 2]
    lesions = Lesions([0], [[5, 5, 15, 15]])
    for boxes in ([on, off, off], [off, off, on]):
        tied = Regions([0, 0, 0], [0.5, 0.5, 0.5], boxes)
        assert not localised_cases(tied, lesions, [0], 1, centre_in_lesion, marks=2)[0]
        assert localised_cases(tied, lesions, [0], 1, centre_in_lesion, marks=3)[0]


def test_without_marks_or_lesions_nothing_is_localised() -> None:
    regions, lesions, case = marks(0)
    assert not localised_cases(Regions([], [], []), lesions, case, 6, centre_in_lesion).any()
    assert not localised_cases(regions, Lesions([], []), case, 6, centre_in_lesion).any()


def test_what_has_no_meaning_is_refused_with_a_sentence() -> None:
    regions, lesions, case = marks(0)
    with pytest.raises(InvalidInputError, match="localised must be 0 or 1"):
        MlrocStatistics([0, 1], [0.1, 0.2], [0, 0.5])
    with pytest.raises(InvalidInputError, match="localised has 1 values"):
        MlrocStatistics([0, 1], [0.1, 0.2], [0])
    with pytest.raises(InvalidInputError, match="at least one mark"):
        localised_cases(regions, lesions, case, 6, centre_in_lesion, marks=0)
    with pytest.raises(InvalidInputError, match="only 3 images have a case"):
        localised_cases(regions, lesions, case[:3], 6, centre_in_lesion)
    with pytest.raises(NotComputableError, match="both classes"):
        MlrocStatistics([1, 1], [0.1, 0.2], [1, 0]).curve()
