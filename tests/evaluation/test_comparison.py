"""Two systems are compared on the exams that both scored, paired, and by the test that suits the exams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.bootstrap import cluster_bootstrap
from evaluation.cohort import Cohort
from evaluation.comparison import compare
from evaluation.errors import InvalidInputError
from evaluation.figure import Figure
from evaluation.intervals import Interval, mcnemar
from evaluation.protocol import OperatingPoint
from evaluation.roc import delong_test
from tests.support.small_cohorts import cohort, protocol

N = 200
RULES = protocol(OperatingPoint(name="here", target="specificity", value=0.9))


def systems(**columns: Any) -> tuple[Cohort, Cohort]:
    """Two systems' scores of the same exams, related to each other."""
    rng = np.random.default_rng(0)
    y = (rng.random(N) < 0.4).astype(int)
    shared = rng.normal(1.2 * y, 1.0)
    first, second = (shared + rng.normal(0.0, noise, N) for noise in (0.3, 1.0))
    return cohort(y, first, RULES, name="A", **columns), cohort(y, second, RULES, name="B", **columns)


def without(whole: Cohort, rows: slice) -> Cohort:
    included = np.ones(N, dtype=bool)
    included[rows] = False
    return replace(whole, exams=whole.exams.assign(included=included, score=whole.exams["score"].where(included)))


def figures(first: Cohort, second: Cohort) -> dict[str, Figure]:
    found = compare(first, second)
    assert {figure.subgroup for figure in found} == {second.scores.name}
    return {figure.key: figure for figure in found}


def interval(figure: Figure) -> Interval:
    assert figure.interval is not None, figure.reason
    return figure.interval


def arrays(first: Cohort, second: Cohort) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = (first.exams["role"] == "positive").to_numpy()
    return y, first.exams["score"].to_numpy(), second.exams["score"].to_numpy()


def test_one_exam_a_woman_gets_delongs_test() -> None:
    first, second = systems()
    expected = delong_test(*arrays(first, second))
    figure = figures(first, second)["auc-difference"]
    assert interval(figure) == expected.difference
    assert f"p = {expected.p_value:.3g}" in figure.note


def test_several_exams_of_a_woman_get_the_paired_bootstrap() -> None:
    first, second = systems(woman_id=[f"W{at // 2}" for at in range(N)])
    y, a, b = arrays(first, second)
    expected = cluster_bootstrap(
        lambda w: roc_auc_score(y, a, sample_weight=w) - roc_auc_score(y, b, sample_weight=w),
        first.exams["woman_id"].to_numpy(), seed=0, replicates=50,
    )  # fmt: skip
    found = interval(figures(first, second)["auc-difference"])
    assert (found.point, found.low, found.high) == pytest.approx((expected.point, expected.low, expected.high))


def test_weights_get_the_paired_bootstrap() -> None:
    first, second = systems(weight=np.where(np.arange(N) % 2, 1.0, 5.0))
    y, a, b = arrays(first, second)
    weight = first.exams["weight"]
    found = interval(figures(first, second)["auc-difference"])
    assert "bootstrap" in found.method
    expected = roc_auc_score(y, a, sample_weight=weight) - roc_auc_score(y, b, sample_weight=weight)
    assert found.point == pytest.approx(expected)


def test_sensitivities_are_at_thresholds_of_each_system_and_get_mcnemars_test() -> None:
    first, second = systems()
    y, a, b = arrays(first, second)
    called = []
    for score in (a, b):
        cuts = [cut for cut in np.unique(score) if (score[y == 0] < cut).mean() >= 0.9]
        called.append(score[y == 1] >= min(cuts))
    test = mcnemar(int((called[0] & ~called[1]).sum()), int((called[1] & ~called[0]).sum()), "mid-p")
    figure = figures(first, second)["sensitivity-difference@here"]
    assert interval(figure).point == pytest.approx(called[0].mean() - called[1].mean())
    assert interval(figure).method == "Newcombe paired"
    assert f"p = {test.p_value:.3g}, {test.only_first} against {test.only_second} discordant" in figure.note


def test_exams_that_one_system_left_out_are_left_out_and_counted() -> None:
    first, second = systems()
    partial = figures(without(first, slice(0, 10)), without(second, slice(5, 35)))
    kept = np.arange(N) >= 35
    expected = delong_test(*(one[kept] for one in arrays(first, second)))
    assert interval(partial["auc-difference"]) == expected.difference
    assert partial["auc-difference"].n == kept.sum()
    for figure in partial.values():
        assert "left out: 25 exams that only A scored, 5 exams that only B scored" in figure.note


@pytest.mark.parametrize("exams_a_woman", [1, 2])
def test_exchanged_systems_turn_every_difference_round(exams_a_woman: int) -> None:
    first, second = systems(woman_id=[f"W{at // exams_a_woman}" for at in range(N)])
    back = figures(second, first)
    for key, figure in figures(first, second).items():
        assert interval(figure).point == pytest.approx(-interval(back[key]).point)
        assert interval(figure).low == pytest.approx(-interval(back[key]).high)


def test_order_of_exams_does_not_matter() -> None:
    first, second = systems()
    order = np.random.default_rng(1).permutation(N)
    shuffled = replace(second, exams=second.exams.iloc[order].reset_index(drop=True))
    assert figures(first, shuffled) == figures(first, second)


def test_point_that_one_system_cannot_meet_has_its_reason() -> None:
    rules = protocol(OperatingPoint(name="ten", target="category", value=10))
    first, second = (replace(one, protocol=rules) for one in systems(category=10.0))
    second = replace(second, exams=second.exams.assign(category=np.nan))
    assert figures(first, second)["sensitivity-difference@ten"].reason == "The scores have no category."


def test_cohorts_of_different_follow_up_are_refused() -> None:
    first, second = systems()
    role = second.exams["role"].where(np.arange(N) > 3, "positive")
    with pytest.raises(InvalidInputError, match="one follow-up under one protocol"):
        compare(first, replace(second, exams=second.exams.assign(role=role)))


def test_systems_without_a_common_exam_give_reasons() -> None:
    first, second = systems()
    found = figures(without(first, slice(0, 100)), without(second, slice(100, N)))
    assert all(figure.interval is None for figure in found.values())


def test_a_system_without_breasts_is_no_better_than_the_same_system_with_them() -> None:
    """Both are held to the exam's score: asked for no side, one would find cancers by the healthy breast."""
    first, second = systems()
    whole = first.exams["score"].to_numpy() + 1.0
    apart = first.exams.assign(left_score=whole - 1.0, right_score=whole, exam_score=whole)
    less = first.exams.assign(left_score=np.nan, right_score=np.nan, exam_score=whole, score=whole)
    found = figures(replace(first, exams=apart), replace(second, exams=less))
    assert interval(found["auc-difference"]).point == 0.0
    assert interval(found["sensitivity-difference@here"]).point == 0.0
    n_positive = int((first.exams["role"] == "positive").sum())
    assert f"{n_positive} exams with cancer by their whole score" in found["auc-difference"].note
