"""Subgroups are the figures of their own exams, and kinds of cancer are held against all negatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation import subgroups
from evaluation.bootstrap import cluster_bootstrap
from evaluation.cases import cases
from evaluation.cohort import Cohort
from evaluation.draft import settle
from evaluation.errors import InvalidInputError
from evaluation.figure import Figure
from evaluation.inputs import Inputs
from evaluation.intervals import Interval
from evaluation.protocol import OperatingPoint
from evaluation.roc import RocStatistics
from evaluation.subgroups import age_band
from tests.support.small_cohorts import cohort, protocol

N = 300
RULES = protocol(
    OperatingPoint(name="category", target="category", value=10),
    OperatingPoint(name="first", target="specificity", value=0.9),
    OperatingPoint(name="second", target="specificity", value=0.8),
)


def programme() -> Cohort:
    rng = np.random.default_rng(0)
    y = (rng.random(N) < 0.4).astype(int)
    return cohort(
        y,
        rng.normal(y, 1.0),
        RULES,
        woman_id=[f"W{at // 2}" for at in range(N)],
        density=rng.choice(["A", "B", "C", ""], N),
        age=rng.choice([45.0, 50.0, 59.0, 65.0, 80.0, np.nan], N),
        site="one",
        round=rng.integers(1, 4, N),
        invasive=np.where(y == 1, rng.choice([0.0, 1.0, np.nan], N), np.nan),
        outcome=np.where(y == 1, rng.choice(["screen-detected", "interval"], N), "negative"),
        weight=rng.choice([1.0, 3.0], N),
    )


def figures(whole: Cohort) -> dict[tuple[str, str], Figure]:
    drafts = subgroups.drafts(Inputs(whole))
    found = settle(drafts, cases(whole), whole.protocol.uncertainty)
    assert len({(one.key, one.subgroup) for one in found}) == len(found)
    return {(one.key, one.subgroup): one for one in found}


def interval(figure: Figure) -> Interval:
    assert figure.interval is not None, figure.reason
    return figure.interval


def test_auc_of_a_subgroup_is_that_of_its_exams_with_the_same_women_drawn() -> None:
    whole = programme()
    table = whole.exams
    figure = figures(whole)["auc", "density: B"]
    inside = (table["density"] == "B").to_numpy()
    y, score, weight = (table["role"] == "positive").to_numpy(), table["score"].to_numpy(), table["weight"].to_numpy()
    expected = roc_auc_score(y[inside], score[inside], sample_weight=weight[inside])
    assert interval(figure).point == pytest.approx(expected)
    assert (figure.n, figure.n_positive) == (inside.sum(), y[inside].sum())
    slow = cluster_bootstrap(
        lambda weights: roc_auc_score(y[inside], score[inside], sample_weight=weights[inside]),
        table["woman_id"].to_numpy(), seed=0, replicates=50, weight=weight,
    )  # fmt: skip
    assert (interval(figure).low, interval(figure).high) == pytest.approx((slow.low, slow.high))


def test_kind_of_cancer_is_held_against_all_negatives() -> None:
    whole = programme()
    table = whole.exams
    for kind, column, value in (
        ("mode of detection: interval", "outcome", "interval"),
        ("invasiveness: in situ", "invasive", 0.0),
    ):
        kept = (table["role"] == "negative") | (table[column] == value)
        expected = roc_auc_score(
            table["role"][kept] == "positive", table["score"][kept], sample_weight=table["weight"][kept]
        )
        assert interval(figures(whole)["auc", kind]).point == pytest.approx(expected)


def test_every_positive_is_in_one_subgroup_of_each_axis() -> None:
    whole = programme()
    found = figures(whole)
    total = int((whole.exams["role"] == "positive").sum())
    for axis in (*subgroups.OF_EXAMS, *subgroups.OF_CANCERS):
        parts = [one for (key, name), one in found.items() if key == "auc" and name.startswith(f"{axis}: ")]
        if parts:
            assert sum(one.n_positive for one in parts) == total, axis
    assert ("auc", "density: unknown") in found


def test_axis_that_nobody_knows_has_a_reason() -> None:
    figure = figures(programme())["auc", "manufacturer"]
    assert figure.interval is None
    assert figure.reason == "The manufacturer is not known of any exam."


def test_density_of_the_scores_is_used_where_the_follow_up_has_none() -> None:
    whole = programme()
    exams = whole.exams.assign(density="")
    scores = replace(whole.scores, exams=exams.assign(density="D"))
    assert ("auc", "density: D") in figures(replace(whole, exams=exams, scores=scores))


def test_sensitivity_is_at_the_threshold_of_the_whole_cohort() -> None:
    whole = programme()
    table = whole.exams
    figure = figures(whole)["sensitivity@first", "density: A"]
    chosen = (table["density"] == "A") & (table["role"] == "positive")
    called = table["score"][chosen] >= figure.threshold
    assert interval(figure).point == pytest.approx(np.average(called, weights=table["weight"][chosen]))


def test_mode_of_detection_is_shown_at_every_point_and_other_axes_at_the_first() -> None:
    found = figures(programme())
    assert ("sensitivity@second", "mode of detection: interval") in found
    assert ("sensitivity@second", "density: A") not in found
    assert not [key for key, _ in found if "category" in key]


def test_subgroup_of_few_cancers_prints_with_a_warning() -> None:
    whole = programme()
    few = np.where(np.cumsum(whole.exams["role"] == "positive") <= 6, "A", "B")
    figure = figures(replace(whole, exams=whole.exams.assign(density=few)))["auc", "density: A"]
    assert interval(figure)
    assert figure.warning == "only 6 positives"


def test_age_bands_begin_at_their_first_year() -> None:
    whole = cohort([0] * 7, np.zeros(7), age=[49.9, 50.0, 59.9, 60.0, 69.0, 70.0, np.nan])
    expected = ["below 50", "50-59", "50-59", "60-69", "60-69", "70 and over", ""]
    assert age_band(cases(whole)).tolist() == expected


def test_roc_of_kinds_equals_the_roc_of_each_kind_and_of_all() -> None:
    rng = np.random.default_rng(1)
    y, score, kind = rng.integers(0, 2, 80), rng.integers(0, 9, 80), rng.integers(0, 3, 80)
    roc = RocStatistics(y, score, kind)
    assert roc.auc()() == pytest.approx(roc_auc_score(y, score))
    assert roc.sensitivity_at_specificity(0.7)() == RocStatistics(y, score).sensitivity_at_specificity(0.7)()
    for one in range(3):
        kept = (y == 0) | (kind == one)
        assert roc.auc(one)() == pytest.approx(roc_auc_score(y[kept], score[kept]))
    with pytest.raises(InvalidInputError, match="No positive is of the kind 3"):
        roc.auc(3)
