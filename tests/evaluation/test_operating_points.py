"""Operating points meet their targets, on the women they were chosen on, and are judged where they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.cases import cases
from evaluation.cohort import Cohort
from evaluation.draft import settle
from evaluation.errors import NotComputableError
from evaluation.figure import Figure
from evaluation.intervals import mcnemar, wilson
from evaluation.operating_points import Decisions, first_threshold, marks_of, operating_points
from evaluation.point_figures import drafts
from evaluation.protocol import Localisation, OperatingPoint
from tests.support.small_cohorts import boxes, cohort, images, protocol


def point(target: str, value: float | None = None, **options: Any) -> OperatingPoint:
    return OperatingPoint.model_validate({"name": "here", "target": target, "value": value} | options)


def only(whole: Cohort) -> Decisions:
    (decisions,) = operating_points(whole)
    return decisions


def figures(whole: Cohort) -> dict[str, Figure]:
    among = cases(whole)
    found = drafts(operating_points(whole), among, marks_of(whole), whole.protocol)
    return {figure.key: figure for figure in settle(found, among, whole.protocol.uncertainty)}


def programme(seed: int = 0, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.3
    return y.astype(int), np.round(rng.normal(y * 1.5, 1.0), 2)


@pytest.mark.parametrize(
    ("target", "value"), [("specificity", 0.9), ("sensitivity", 0.8), ("recall-rate", 0.25)]
)  # fmt: skip
def test_target_is_met_and_no_looser_or_stricter_score_would_do(target: str, value: float) -> None:
    y, score = programme()
    one = only(cohort(y, score, protocol(point(target, value))))
    assert one.threshold in score

    def rate(threshold: float) -> float:
        called = score >= threshold
        return {"specificity": (~called)[y == 0], "sensitivity": called[y == 1], "recall-rate": ~called}[target].mean()

    reached = value if target != "recall-rate" else 1 - value
    assert rate(one.threshold) >= reached
    next_score = score[score < one.threshold].max() if target != "sensitivity" else score[score > one.threshold].min()
    assert rate(next_score) < reached


def test_cancer_is_found_by_its_own_breast_but_the_exam_recalled_by_either() -> None:
    y, score = programme(1)
    exam_score = score.copy()
    ill = np.flatnonzero(y == 1)[:5]
    score[ill], exam_score[ill] = -9.0, 9.0
    one = only(cohort(y, score, protocol(point("specificity", 0.9)), exam_score=exam_score))
    assert one.recalled[ill].all()
    assert not one.found[ill].any()


def test_recall_rate_counts_exams_by_their_higher_breast() -> None:
    y, score = programme(1)
    exam_score = np.where(np.arange(len(y)) < 100, score + 3, score)
    one = only(cohort(y, score, protocol(point("recall-rate", 0.2)), exam_score=exam_score))
    assert one.recalled.mean() == pytest.approx(0.2, abs=0.005)
    assert (exam_score >= (one.threshold or 0)).mean() == one.recalled.mean()


def split(seed: int = 0, **columns: Any) -> tuple[Cohort, np.ndarray]:
    """Two exams a woman; the threshold chosen on half of the women."""
    y, score = programme(seed)
    women = [f"W{at // 2}" for at in range(len(y))]
    whole = cohort(
        y, score, protocol(point("specificity", 0.9, chosen_on="validation-split")), woman_id=women, **columns
    )
    return whole, only(whole).judged


def test_validation_split_parts_women_and_not_exams() -> None:
    whole, judged = split()
    women = whole.exams["woman_id"].to_numpy()
    assert not set(women[judged]) & set(women[~judged])
    assert 0.35 < judged.mean() < 0.65


def test_threshold_of_a_split_ignores_the_women_it_is_judged_on() -> None:
    whole, judged = split()
    moved = whole.exams.assign(score=np.where(judged, 99.0, whole.exams["score"]))
    other = only(replace(whole, exams=moved))
    assert other.threshold == only(whole).threshold
    assert other.found[judged].all()


def test_split_depends_on_the_woman_and_the_seed_alone() -> None:
    whole, judged = split()
    order = np.random.default_rng(0).permutation(len(judged))
    shuffled = replace(whole, exams=whole.exams.iloc[order].reset_index(drop=True))
    assert (only(shuffled).judged == judged[order]).all()
    uncertainty = whole.protocol.uncertainty.model_copy(update={"seed": 1})
    reseeded = replace(whole, protocol=whole.protocol.model_copy(update={"uncertainty": uncertainty}))
    assert (only(reseeded).judged != judged).any()


def test_denominator_of_a_split_says_that_it_is_half_of_the_women() -> None:
    whole, judged = split()
    figure = figures(whole)["sensitivity@here"]
    assert figure.n == judged.sum()
    assert "the half of the women on whom the threshold was not chosen" in figure.denominator
    assert "of other women" in figure.note


def test_each_site_gets_its_own_threshold_and_one_without_negatives_is_left_out() -> None:
    y, score = programme(2)
    site = np.array(["North", "South"])[np.arange(len(y)) % 2].astype(object)
    score = score + 10 * (site == "South")
    y[:4], site[:4] = 1, "Island"
    one = only(cohort(y, score, protocol(point("specificity", 0.9, per_site=True)), site=site))
    assert one.threshold is None
    for name in ("North", "South"):
        here = (site == name) & (y == 0)
        assert (~one.recalled)[here].mean() == pytest.approx(0.9, abs=0.02)
    assert not one.judged[:4].any()
    assert "left out: Island (" in one.note


def test_reader_matched_threshold_is_judged_on_the_exams_that_the_reader_read() -> None:
    y, score = programme(3)
    rng = np.random.default_rng(0)
    reader = (rng.random(len(y)) < np.where(y == 1, 0.7, 0.08)).astype(float)
    reader[:50] = np.nan
    whole = cohort(y, score, protocol(point("reader-specificity", reader="reader1")), reader1=reader)
    one = only(whole)
    read = ~np.isnan(reader)
    assert (one.judged == read).all()
    of_reader = (reader == 0)[read & (y == 0)].mean()
    assert (score < one.threshold)[read & (y == 0)].mean() == pytest.approx(of_reader, abs=0.01)
    found = figures(whole)
    specificity = found["specificity:reader1"].interval
    assert specificity is not None
    assert specificity.point == pytest.approx(of_reader)
    first, second = one.found[read & (y == 1)], (reader == 1)[read & (y == 1)]
    test = mcnemar(int((first & ~second).sum()), int((second & ~first).sum()), "mid-p")
    difference = found["sensitivity-difference@here:reader1"]
    assert difference.interval is not None
    assert difference.interval.point == pytest.approx(first.mean() - second.mean())
    assert f"p = {test.p_value:.3g}" in difference.note


def test_two_exams_of_a_woman_get_no_mcnemar_test_and_a_bootstrap() -> None:
    y, score = programme(3)
    whole = cohort(
        y, score, protocol(point("reader-specificity", reader="reader1")),
        reader1=(score > 1).astype(float), woman_id=[f"W{at // 2}" for at in range(len(y))],
    )  # fmt: skip
    difference = figures(whole)["sensitivity-difference@here:reader1"]
    assert difference.interval is not None
    assert "bootstrap" in difference.interval.method
    assert "no McNemar test" in difference.note


def test_sampling_weights_move_the_threshold() -> None:
    y, score = programme(4)
    plain = cohort(y, score, protocol(point("recall-rate", 0.1)))
    weighted = cohort(y, score, protocol(point("recall-rate", 0.1)), weight=np.where(y == 1, 1.0, 20.0))
    copies = np.repeat(np.arange(len(y)), np.where(y == 1, 1, 20))
    repeated = cohort(y[copies], score[copies], protocol(point("recall-rate", 0.1)))
    assert only(weighted).threshold == only(repeated).threshold
    assert only(weighted).threshold != only(plain).threshold


def test_category_is_a_threshold_of_its_own() -> None:
    category = np.arange(20) % 10 + 1.0
    whole = cohort([0, 1] * 10, np.zeros(20), protocol(point("category", 10)), category=category)
    assert (only(whole).found == (category == 10)).all()
    assert figures(whole)["recall-rate@here"].threshold == 10


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (point("category", 10), "The scores have no category."),
        (point("reader-specificity", reader="reader2"), "The follow-up has no decisions of reader2."),
        (point("fp-per-image", 1), "The scores have no table regions."),
    ],
)
def test_point_that_cannot_be_applied_says_why_in_every_figure(given: OperatingPoint, sentence: str) -> None:
    whole = cohort([0, 1] * 10, np.arange(20), protocol(given))
    found = figures(whole)
    assert found
    assert all(figure.interval is None and figure.reason == sentence for figure in found.values())


def test_one_class_leaves_the_other_classes_figures() -> None:
    found = figures(cohort(np.zeros(20), np.arange(20), protocol(point("specificity", 0.9))))
    assert found["sensitivity@here"].reason == "There are no exams with cancer."
    assert found["specificity@here"].interval == wilson(18, 20)


ILL = 8


def marked(**columns: Any) -> Cohort:
    """Twenty exams of two images, eight with cancer: three random marks an image, a lesion under the first of each."""
    rng = np.random.default_rng(5)
    exam = np.repeat(np.arange(20), 2)
    image = np.repeat(np.arange(40), 3)
    at = np.where(np.arange(120) % 3 == 0, 500, 100 * (np.arange(120) % 3))
    regions = boxes(image, exam[image], at, score=rng.random(120).round(2), **columns)
    lesions = boxes(2 * np.arange(ILL), np.arange(ILL), np.full(ILL, 500), malignant=1)
    rules = protocol(localisation=Localisation(level="case-any-view", fp_denominator="normal"))
    return cohort(
        (np.arange(20) < ILL).astype(int), rng.random(20), rules,
        tables={"images": images(exam), "regions": regions, "lesions": lesions},
        cancer_side=["L", "R"] * (ILL // 2) + [""] * (20 - ILL),
    )  # fmt: skip


def with_point(whole: Cohort, given: OperatingPoint) -> Cohort:
    return replace(whole, protocol=whole.protocol.model_copy(update={"operating_points": (given,)}))


@pytest.mark.parametrize(("target", "units"), [("fp-per-image", 24), ("fp-per-exam", 12)])
def test_rate_of_false_positives_is_met_on_the_normal_images(target: str, units: int) -> None:
    whole = marked()
    one = only(with_point(whole, point(target, 0.75)))
    regions = whole.scores.regions
    assert regions is not None
    score = regions.loc[regions["exam_id"] >= f"E{ILL:05d}", "score"].to_numpy()
    assert one.threshold is not None
    assert (score >= one.threshold).sum() <= 0.75 * units < (score >= score[score < one.threshold].max()).sum()
    highest = regions.groupby("exam_id")["score"].max().to_numpy()
    assert (one.recalled == (highest >= one.threshold)).all()


def test_mark_on_the_healthy_breast_recalls_but_does_not_find() -> None:
    whole = with_point(marked(laterality="R"), point("fp-per-image", 3))
    one = only(whole)
    assert one.recalled[:ILL].all()
    assert one.found[:ILL].tolist() == [False, True] * (ILL // 2)


def test_sensitivity_at_the_right_place_stands_beside() -> None:
    whole = with_point(marked(), point("fp-per-image", 1))
    threshold = only(whole).threshold
    regions = whole.scores.regions
    assert regions is not None
    assert threshold is not None
    on_lesion = regions[(regions["x"] == 500) & regions["image_id"].isin([f"I{2 * at}" for at in range(ILL)])]
    localised = figures(whole)["localised-sensitivity@here"]
    assert localised.interval is not None
    assert localised.interval.point == pytest.approx((on_lesion["score"] >= threshold).mean())
    assert localised.n_positive == ILL


def test_first_threshold_is_of_exam_scores() -> None:
    y, score = programme()
    rules = protocol(point("category", 10), point("specificity", 0.9, name="second"))
    whole = cohort(y, score, rules)
    assert first_threshold(whole) == operating_points(whole)[1].threshold
    with pytest.raises(NotComputableError, match="no operating point on the scores"):
        first_threshold(cohort(y, score, protocol(point("category", 10))))
    with pytest.raises(NotComputableError, match="no decisions of reader1"):
        first_threshold(cohort(y, score, protocol(point("reader-sensitivity", reader="reader1"))))
