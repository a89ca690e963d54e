"""The cluster bootstrap equals resampling by hand, covers the truth, and says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from evaluation.bootstrap import (
    Method,
    OverClusters,
    Statistic,
    cluster_bootstrap,
    cluster_bootstrap_each,
    cluster_bootstrap_many,
)
from evaluation.calibration import expected_observed_statistic
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.roc import RocStatistics, auc, delong_interval
from evaluation.statistic import difference


def programme(seed: int, women: int = 80, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exams of women, one to three each: outcome, score and woman, both classes present."""
    rng = np.random.default_rng(seed)
    woman = np.repeat(np.arange(women), rng.integers(1, 4, women))
    cancer = rng.random(women) < 0.4
    cancer[:2] = (True, False)
    tendency = rng.normal(size=women)  # what a woman's exams have in common
    y = cancer[woman]
    score = y * signal + tendency[woman] + rng.normal(size=len(woman))
    return y.astype(int), score, woman


def draws(seed: int, women: int, replicates: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, women, women) for _ in range(replicates)]


def test_fast_path_equals_copying_the_rows_of_the_women_drawn() -> None:
    y, score, woman = programme(1)
    by_hand = []
    for drawn in draws(5, 80, 60):
        rows = np.concatenate([np.flatnonzero(woman == one) for one in drawn])
        by_hand.append(roc_auc_score(y[rows], score[rows]))
    interval = cluster_bootstrap(RocStatistics(y, score).auc(), woman, seed=5, replicates=60)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])), abs=1e-12)
    assert interval.point == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert (interval.replicates, interval.n_clusters, interval.not_computable) == (60, 80, 0)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_fast_path_equals_the_same_statistic_as_a_function_of_weights(method: Method) -> None:
    y, score, woman = programme(2)
    base = np.random.default_rng(0).random(len(y)) + 0.1
    fast = cluster_bootstrap(RocStatistics(y, score).auc(), woman, seed=3, replicates=200, weight=base, method=method)
    slow = cluster_bootstrap(
        lambda weight: roc_auc_score(y, score, sample_weight=weight),
        woman, seed=3, replicates=200, weight=base, method=method,
    )  # fmt: skip
    assert (fast.point, fast.low, fast.high) == pytest.approx((slow.point, slow.low, slow.high), abs=1e-10)


def test_figures_bootstrapped_together_equal_each_alone() -> None:
    y, score, woman = programme(3)
    roc = RocStatistics(y, score)
    figures: dict[str, Statistic] = {
        "auc": roc.auc(),
        "at": roc.sensitivity_at_specificity(0.8),
        "function": lambda weight: mean(score, weight),
    }
    together = cluster_bootstrap_many(figures, woman, seed=9, replicates=150)
    for name, figure in figures.items():
        assert together[name] == cluster_bootstrap(figure, woman, seed=9, replicates=150)


def test_order_of_rows_and_names_of_women_do_not_change_the_interval() -> None:
    y, score, woman = programme(4)
    order = np.random.default_rng(0).permutation(len(y))
    plain = cluster_bootstrap(RocStatistics(y, score).auc(), woman, seed=1, replicates=100)
    names = np.array([f"woman-{one:03d}" for one in woman])
    other = cluster_bootstrap(RocStatistics(y[order], score[order]).auc(), names[order], seed=1, replicates=100)
    assert plain == other


def test_a_paired_difference_of_a_score_with_itself_is_exactly_zero() -> None:
    y, score, woman = programme(5)
    gap = difference(RocStatistics(y, score).auc(), RocStatistics(y, score**3).auc())
    interval = cluster_bootstrap(gap, woman, seed=1, replicates=100)
    assert (interval.low, interval.point, interval.high) == (0.0, 0.0, 0.0)


def test_a_paired_difference_equals_the_difference_per_replicate() -> None:
    y, score, woman = programme(6)
    noisy = score + np.random.default_rng(1).normal(size=len(y))
    gap = difference(RocStatistics(y, score).auc(), RocStatistics(y, noisy).auc())
    fast = cluster_bootstrap(gap, woman, seed=2, replicates=100)
    slow = cluster_bootstrap(lambda w: auc(y, score, w) - auc(y, noisy, w), woman, seed=2, replicates=100)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-12)


def test_with_one_exam_a_woman_the_interval_is_close_to_delongs() -> None:
    rng = np.random.default_rng(7)
    y = np.arange(600) % 3 == 0
    score = rng.normal(size=600) + y
    bootstrap = cluster_bootstrap(RocStatistics(y, score).auc(), np.arange(600), seed=7)
    delong = delong_interval(y, score)
    assert (bootstrap.low, bootstrap.high) == pytest.approx((delong.low, delong.high), abs=0.004)


def test_repeating_each_womans_exams_changes_nothing_but_splitting_women_narrows_the_interval() -> None:
    y, score, woman = programme(8)
    once = cluster_bootstrap(RocStatistics(y, score).auc(), woman, seed=1, replicates=300)
    twice = RocStatistics(np.tile(y, 2), np.tile(score, 2)).auc()
    assert cluster_bootstrap(twice, np.tile(woman, 2), seed=1, replicates=300).high == pytest.approx(once.high)
    split = cluster_bootstrap(twice, np.arange(2 * len(y)), seed=1, replicates=300)
    assert split.high - split.low < 0.8 * (once.high - once.low)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_intervals_cover_the_truth_over_clustered_samples(method: Method) -> None:
    truth = auc(*programme(0, women=40_000)[:2])
    covered = 0
    for seed in range(1, 201):
        y, score, woman = programme(seed)
        interval = cluster_bootstrap(RocStatistics(y, score).auc(), woman, seed=seed, replicates=200, method=method)
        covered += interval.low <= truth <= interval.high
    # 0.95 within three standard errors of 200 repetitions; taking exams for independent gives 0.86.
    assert 0.90 <= covered / 200 <= 0.99


def mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float(weight @ values / weight.sum())


def variance(values: np.ndarray, weight: np.ndarray) -> float:
    """Biased downwards, so that BCa has a bias to correct."""
    return float(weight @ (values - mean(values, weight)) ** 2 / weight.sum())


@pytest.mark.parametrize(("figure", "peer"), [(mean, np.mean), (variance, np.var)])
def test_bca_equals_scipys_on_skewed_and_biased_figures(
    figure: Callable[[np.ndarray, np.ndarray], float], peer: Callable[..., float]
) -> None:
    values = np.random.default_rng(0).lognormal(sigma=1.2, size=40)
    ours = cluster_bootstrap(lambda w: figure(values, w), np.arange(40), seed=1, replicates=20_000, method="BCa")
    theirs = stats.bootstrap((values,), peer, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, rel=0.02)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, rel=0.02)
    plain = cluster_bootstrap(lambda w: figure(values, w), np.arange(40), seed=1, replicates=2_000)
    assert ours.high > 1.05 * plain.high  # the correction is larger than the tolerance above


def test_grouped_jackknife_gives_nearly_the_same_bca_as_leaving_out_one_woman(monkeypatch: pytest.MonkeyPatch) -> None:
    y, score, woman = programme(11, women=600)
    figure = RocStatistics(y, score).auc()
    one_by_one = cluster_bootstrap(figure, woman, seed=1, replicates=2000, method="BCa")
    monkeypatch.setattr("evaluation.bootstrap._JACKKNIFE_GROUPS", 200)
    grouped = cluster_bootstrap(figure, woman, seed=1, replicates=2000, method="BCa")
    assert (grouped.low, grouped.high) == pytest.approx((one_by_one.low, one_by_one.high), abs=0.001)


def test_replicates_without_a_cancer_are_counted_and_left_out() -> None:
    y = np.array([1, 1, 1] + [0] * 97)
    score = np.linspace(1, 0, 100)
    expected = sum(not (drawn < 3).any() for drawn in draws(0, 100, 2000))
    interval = cluster_bootstrap(RocStatistics(y, score).auc(), np.arange(100), seed=0)
    assert interval.not_computable == expected > 0
    assert np.isfinite([interval.low, interval.high]).all()
    slow = cluster_bootstrap(lambda weight: auc(y, score, weight), np.arange(100), seed=0, replicates=300)
    fast = cluster_bootstrap(RocStatistics(y, score).auc(), np.arange(100), seed=0, replicates=300)
    assert slow.not_computable == fast.not_computable > 0


def test_replicates_that_draw_only_women_of_weight_zero_are_counted() -> None:
    y, score, woman = [0, 1, 0, 1], [0.1, 0.9, 0.6, 0.3], [0, 0, 1, 1]
    weight = [1, 1, 0, 0]
    options: dict[str, Any] = {"seed": 0, "replicates": 100, "weight": weight, "max_not_computable": 0.5}
    slow = cluster_bootstrap(lambda w: auc(y, score, w), woman, **options)
    fast = cluster_bootstrap(RocStatistics(y, score).auc(), woman, **options)
    assert slow == fast
    assert slow.not_computable > 0


def test_too_many_replicates_without_a_value_are_an_error() -> None:
    y = np.array([1] + [0] * 49)
    with pytest.raises(NotComputableError, match=r"has no value in \d+ of 2000 bootstrap replicates"):
        cluster_bootstrap(RocStatistics(y, np.arange(50)).auc(), np.arange(50), seed=0)


def test_a_figure_without_a_value_is_an_error_not_nan() -> None:
    figure = expected_observed_statistic(np.zeros(5), np.full(5, 0.1))
    with pytest.raises(NotComputableError, match="observed cancer"):
        cluster_bootstrap(figure, np.arange(5), seed=0)
    with pytest.raises(NotComputableError, match="has no value on these data"):
        cluster_bootstrap(lambda weight: float("nan"), np.arange(5), seed=0)


def test_bca_of_one_cancer_is_refused_with_advice() -> None:
    y = np.array([1] + [0] * 49)
    with pytest.raises(NotComputableError, match="use the percentile method"):
        cluster_bootstrap(
            RocStatistics(y, np.arange(50)).auc(), np.arange(50), seed=0, method="BCa", max_not_computable=0.5
        )


def test_perfect_separation_has_a_degenerate_interval() -> None:
    y = np.repeat([0, 1], 50)
    for method in ("percentile", "BCa"):
        interval = cluster_bootstrap(RocStatistics(y, y).auc(), np.arange(100), seed=0, replicates=100, method=method)
        assert (interval.low, interval.high) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("clusters", "options", "sentence"),
    [
        ([0, 1, 2], {}, "3 values where 4 are needed"),
        ([0, 1, np.nan, 2], {}, "missing value"),
        (np.array(["a", None, "b", "c"], dtype=object), {}, "missing value"),
        ([[0, 1, 2, 3]], {}, "one-dimensional"),
        ([0, 1, 2, 3], {"replicates": 0}, "at least one replicate"),
        ([0, 1, 2, 3], {"method": "normal"}, "no method 'normal'"),
        ([0, 1, 2, 3], {"level": 95}, "confidence level"),
        ([0, 1, 2, 3], {"weight": [1, 1, 1]}, "weight has 3 values"),
    ],
)
def test_arguments_without_meaning_are_refused_with_a_sentence(
    clusters: Any, options: dict[str, Any], sentence: str
) -> None:
    figure = RocStatistics([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]).auc()
    with pytest.raises(InvalidInputError, match=sentence):
        cluster_bootstrap(figure, clusters, seed=0, **options)


def test_one_woman_cannot_be_resampled() -> None:
    with pytest.raises(NotComputableError, match="two women"):
        cluster_bootstrap(RocStatistics([0, 1], [0.1, 0.2]).auc(), [7, 7], seed=0)


def test_a_figure_without_interval_stops_no_other() -> None:
    y, score, woman = programme(5)
    figures: dict[str, Statistic] = {
        "auc": RocStatistics(y, score).auc(),
        "empty": RocStatistics(np.zeros(len(y)), score).auc(),
    }
    found = cluster_bootstrap_each(figures, woman, seed=2, replicates=60)
    assert found["auc"] == cluster_bootstrap(figures["auc"], woman, seed=2, replicates=60)
    assert isinstance(found["empty"], NotComputableError)


def test_figures_moved_to_women_have_the_same_interval() -> None:
    y, score, woman = programme(6)
    weight = np.random.default_rng(0).random(len(y)) + 0.1
    auc_of_exams = RocStatistics(y, score).auc()
    moved = OverClusters(woman, 80, weight)(auc_of_exams)
    expected = cluster_bootstrap(auc_of_exams, woman, seed=1, replicates=60, weight=weight)
    found = cluster_bootstrap(moved, np.arange(80), seed=1, replicates=60)
    assert (found.point, found.low, found.high) == pytest.approx((expected.point, expected.low, expected.high))


def test_number_of_threads_does_not_change_the_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    y, score, woman = programme(7)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr("evaluation.bootstrap._THREADS", threads)
        found.append(cluster_bootstrap(RocStatistics(y, score).auc(), woman, seed=0, replicates=200))
    assert found[0] == found[1]
