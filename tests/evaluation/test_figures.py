"""Every figure is the metric of its cases under one bootstrap of the women, or says why it has no value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.bootstrap import cluster_bootstrap
from evaluation.calibration import calibration_slope_intercept, recalibration_statistics
from evaluation.cases import cases
from evaluation.cohort import Cohort, join
from evaluation.draft import settle
from evaluation.figure import Figure
from evaluation.figures import FIGURES, OTHER_FIGURES, evaluate
from evaluation.inputs import Inputs
from evaluation.intervals import Interval, clopper_pearson, wilson
from evaluation.protocol import OperatingPoint, load_protocol
from tests.support.programme import Programme, simulate
from tests.support.small_cohorts import cohort, protocol

N = 300


def figures(whole: Cohort) -> dict[str, Figure]:
    inputs = Inputs(whole)
    drafts = [draft for source in FIGURES.values() for draft in source(inputs)]
    return {figure.key: figure for figure in settle(drafts, inputs.cases, whole.protocol.uncertainty)}


def interval(figure: Figure) -> Interval:
    assert figure.interval is not None, figure.reason
    return figure.interval


def programme(rules: Any = None, **columns: Any) -> Cohort:
    """Two exams a woman, weighted; scores are probabilities with ties."""
    rng = np.random.default_rng(0)
    y = (rng.random(N) < 0.3).astype(int)
    score = np.round(1 / (1 + np.exp(1 - rng.normal(1.5 * y, 1.0))), 2)
    women = [f"W{at // 2}" for at in range(N)]
    return cohort(y, score, rules, **{"woman_id": women, "weight": rng.choice([1.0, 4.0], N)} | columns)


def test_auc_and_its_interval_are_those_of_the_exams_resampled_by_women() -> None:
    whole = programme(protocol(uncertainty={"seed": 7, "level": 0.9}))
    table = whole.exams
    y, score, weight = table["role"] == "positive", table["score"], table["weight"].to_numpy()
    found = interval(figures(whole)["auc"])
    assert found.point == pytest.approx(roc_auc_score(y, score, sample_weight=weight))
    slow = cluster_bootstrap(
        lambda weights: roc_auc_score(y, score, sample_weight=weights),
        table["woman_id"].to_numpy(), seed=7, replicates=50, level=0.9, weight=weight,
    )  # fmt: skip
    assert (found.low, found.high) == pytest.approx((slow.low, slow.high))
    assert (found.level, found.method, found.n_clusters) == (0.9, "percentile bootstrap", N // 2)


def test_excluded_exams_change_no_figure() -> None:
    whole = programme()
    extra = whole.exams.iloc[:40].assign(included=False, score=np.nan, exam_score=np.nan)
    extra["exam_id"] = "X" + extra["exam_id"]
    more = replace(whole, exams=pd.concat([whole.exams, extra], ignore_index=True))
    assert figures(more) == figures(whole)


def test_copies_of_every_woman_change_no_point() -> None:
    whole = programme()
    copy = whole.exams.assign(exam_id="X" + whole.exams["exam_id"], woman_id="X" + whole.exams["woman_id"])
    twice = figures(replace(whole, exams=pd.concat([whole.exams, copy], ignore_index=True)))
    for key, figure in figures(whole).items():
        if figure.interval is not None:
            assert interval(twice[key]).point == pytest.approx(figure.interval.point), key


def test_sensitivity_at_a_recall_rate_calls_exams_by_their_higher_breast() -> None:
    whole = programme(weight=1.0)
    table = whole.exams
    rng = np.random.default_rng(1)
    positive, score = (table["role"] == "positive").to_numpy(), table["score"].to_numpy()
    healthy_breast = rng.random(N).round(2) * (positive & (rng.random(N) < 0.2))
    exam_score = np.maximum(score, healthy_breast)
    assert (exam_score > score).any()
    found = figures(replace(whole, exams=table.assign(exam_score=exam_score)))["sensitivity@recall-rate=0.1"]
    allowed = [cut for cut in np.unique(exam_score) if (exam_score >= cut).mean() <= 0.1]
    # The laxest cut may lie between two scores of exams, where no further exam is called.
    next_lower = exam_score[exam_score < min(allowed)].max()
    assert interval(found).point == pytest.approx((score[positive] > next_lower).mean())


def test_auc_of_breasts_takes_both_breasts_of_a_woman_together() -> None:
    rng = np.random.default_rng(2)
    y, score = rng.integers(0, 2, 200), rng.random(200)
    women = np.repeat([f"W{at:05d}" for at in range(100)], 2)
    breasts = pd.DataFrame(
        {
            "exam_id": np.repeat([f"E{at:05d}" for at in range(100)], 2),
            "woman_id": women,
            "role": np.where(y == 1, "positive", "negative"),
            "score": score,
            "weight": 1.0,
            "included": True,
        }
    )
    found = figures(cohort(y[::2], score[::2], breasts=breasts))["auc:breast"]
    expected = cluster_bootstrap(lambda w: roc_auc_score(y, score, sample_weight=w), women, seed=0, replicates=50)
    assert (interval(found).low, interval(found).point) == pytest.approx((expected.low, expected.point))
    assert found.denominator == f"200 breasts of 100 women, {y.sum()} with cancer"


def test_bca_is_used_where_the_protocol_says_so() -> None:
    assert interval(figures(programme(protocol(uncertainty={"method": "BCa"})))["auc"]).method == "BCa bootstrap"


@pytest.mark.parametrize(("name", "plain"), [("wilson", wilson), ("clopper-pearson", clopper_pearson)])
def test_one_exam_a_woman_without_weights_gets_the_protocols_plain_interval(name: str, plain: Any) -> None:
    rules = protocol(OperatingPoint(name="here", target="specificity", value=0.9), uncertainty={"proportion": name})
    whole = programme(rules, woman_id=[f"W{at}" for at in range(N)], weight=1.0)
    figure = figures(whole)["sensitivity@here"]
    positive = whole.exams["role"] == "positive"
    called = (whole.exams["score"][positive] >= figure.threshold).sum()
    assert interval(figure) == plain(int(called), int(positive.sum()), 0.95)


def test_all_scores_equal_is_an_auc_of_one_half_and_has_no_slope() -> None:
    whole = programme()
    found = figures(replace(whole, exams=whole.exams.assign(score=0.5, exam_score=0.5)))
    assert interval(found["auc"]).point == 0.5
    assert found["calibration-slope"].reason == "A slope needs scores that differ."


@pytest.mark.parametrize("role", ["positive", "negative"])
def test_one_class_only_gives_reasons(role: str) -> None:
    found = figures(programme(role=role))
    for key in ("auc", "partial-auc@fpr=0.1", "sensitivity@specificity=0.9", "specificity@sensitivity=0.9"):
        assert found[key].interval is None, key
        assert "both classes" in found[key].reason
    assert "both classes" in found["calibration-slope"].reason


def test_no_included_exam_gives_reasons() -> None:
    found = figures(programme(protocol(OperatingPoint(name="here", target="specificity", value=0.9)), included=False))
    assert all(figure.interval is None and figure.reason for figure in found.values())


def test_scores_that_are_no_probabilities_have_no_calibration_but_an_auc() -> None:
    whole = programme()
    logit = 10 * whole.exams["score"] - 5
    found = figures(replace(whole, exams=whole.exams.assign(score=logit, exam_score=logit)))
    assert interval(found["auc"]).point == interval(figures(whole)["auc"]).point
    assert "outside [0, 1]" in found["calibration-slope"].reason
    assert "outside [0, 1]" in found["expected-observed"].reason


@pytest.mark.parametrize("name", ["slope", "intercept", "in_the_large"])
def test_expanded_recalibration_is_near_a_fit_in_every_replicate(name: str) -> None:
    rng = np.random.default_rng(3)
    logit = rng.normal(-3.0, 1.5, 2000)
    y = rng.random(2000) < 1 / (1 + np.exp(0.5 - 1.2 * logit))
    p = 1 / (1 + np.exp(-logit))
    weight = rng.choice([1.0, 2.0], 2000)
    statistic = recalibration_statistics(y, p, weight)[name]
    assert statistic() == pytest.approx(getattr(calibration_slope_intercept(y, p, weight), name))
    counts = rng.poisson(1.0, (30, 2000)).astype(float)
    fitted = np.array([getattr(calibration_slope_intercept(y, p, weight * one), name) for one in counts])
    assert np.array([statistic(one) for one in counts]) == pytest.approx(fitted, abs=0.15 * fitted.std())


@pytest.fixture(scope="module")
def simulated() -> Programme:
    return simulate(1_500, 2, 11)


def under(simulated: Programme, name: str) -> Cohort:
    rules = load_protocol(name)
    rules = rules.model_copy(update={"uncertainty": rules.uncertainty.model_copy(update={"replicates": 40})})
    return join(simulated.checked_scores(), simulated.checked_followup(), rules)


@pytest.mark.parametrize(
    "name", ["elhakim-2023", "larsen-2022", "lotter-2021-pre-index", "mckinney-2020-uk", "missed-cancers"]
)
def test_every_protocol_gives_figures_that_have_a_value_or_a_reason(simulated: Programme, name: str) -> None:
    whole = under(simulated, name)
    found = evaluate(whole)
    names = [(figure.key, figure.subgroup) for figure in found.figures]
    assert len(set(names)) == len(names)
    assert {figure.group for figure in found.figures} >= {"discrimination", "operating points", "localisation"}
    for figure in found.figures:
        assert (figure.interval is None) == bool(figure.reason)
        assert figure.interval is None or np.isfinite([*figure.interval.__dict__.values()][:3]).all()
    assert found.roc is not None
    assert found.froc is not None
    assert found.reliability is not None


def test_evaluation_has_figures_of_every_source_overall_before_subgroups(simulated: Programme) -> None:
    found = evaluate(under(simulated, "salim-2020"))
    in_subgroups = [figure.subgroup != "all" for figure in found.figures]
    assert in_subgroups == sorted(in_subgroups)
    groups = {figure.group for figure in found.figures}
    assert len(groups) > len(OTHER_FIGURES)
    assert (
        cases(found.cohort).counted(np.ones(len(cases(found.cohort)), dtype=bool)).words == found.figures[0].denominator
    )
