"""Which images, lesions and exams the figures on marks count, and that they are the figures of the arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from evaluation.bootstrap import cluster_bootstrap
from evaluation.cases import cases
from evaluation.cohort import Cohort
from evaluation.draft import settle
from evaluation.errors import NotComputableError
from evaluation.figure import Figure
from evaluation.froc import FrocStatistics
from evaluation.hits import Lesions, Regions
from evaluation.localisation import drafts, localisation
from evaluation.mlroc import localised_cases, mlroc_area
from evaluation.operating_points import marks_of
from evaluation.protocol import Localisation
from tests.support.small_cohorts import boxes, cohort, images, protocol

N, ILL = 60, 20


def simulated(rules: Localisation | None = None) -> Cohort:
    """60 exams of two images of 30 women, 20 with a lesion in both; a mark on most lesions and one elsewhere."""
    rng = np.random.default_rng(0)
    exam = np.repeat(np.arange(N), 2)
    found = np.flatnonzero((exam < ILL) & (rng.random(2 * N) < 0.8))
    image = np.concatenate([np.arange(2 * N), found])
    score = np.concatenate([rng.random(2 * N), 0.3 + 0.7 * rng.random(len(found))])
    at = np.concatenate([np.full(2 * N, 100.0), np.full(len(found), 500.0)])
    y = (np.arange(N) < ILL).astype(int)
    return cohort(
        y,
        rng.random(N) + y / 2,
        protocol(localisation=rules or Localisation()),
        woman_id=[f"W{at // 2}" for at in range(N)],
        tables={
            "images": images(exam),
            "regions": boxes(image, exam[image], at, score=score),
            "lesions": boxes(np.arange(2 * ILL), exam[: 2 * ILL], np.full(2 * ILL, 498.0), malignant=1),
        },
    )


def figures(whole: Cohort) -> dict[str, Figure]:
    among = cases(whole)
    return {one.key: one for one in settle(drafts(marks_of(whole), among), among, whole.protocol.uncertainty)}


def arrays(whole: Cohort) -> tuple[Regions, Lesions, np.ndarray]:
    """The tables as arrays, by hand: identifiers are numbers here."""
    tables = []
    for table in (whole.scores.regions, whole.followup.lesions):
        assert table is not None
        tables.append((table, table["image_id"].str[1:].astype(int), table[["x", "y", "width", "height"]].to_numpy()))
    (regions, image, box), (_, lesion_image, lesion_box) = tables
    return Regions(image, regions["score"], box), Lesions(lesion_image, lesion_box), np.repeat(np.arange(N), 2)


def test_figures_are_those_of_the_arrays_resampled_by_women() -> None:
    whole = simulated()
    regions, lesions, exam = arrays(whole)
    froc = FrocStatistics(regions, lesions, 2 * N, case=exam)
    found = figures(whole)
    woman = np.array(whole.exams["woman_id"])[exam]
    by_hand = {
        "froc-sensitivity@fp=0.5": froc.sensitivity_at_fp(0.5),
        "froc-mean-sensitivity": froc.mean_sensitivity_at_fp((0.5, 1.0, 2.0)),
        "wafroc": froc.afroc_auc(),
        "afroc": froc.afroc_auc(weighted=False),
    }
    for key, statistic in by_hand.items():
        expected = cluster_bootstrap(statistic, woman, seed=0, replicates=50)
        interval = found[key].interval
        assert interval is not None
        assert (interval.point, interval.low, interval.high) == pytest.approx(
            (expected.point, expected.low, expected.high), abs=1e-12
        )
        assert interval.n_clusters == N // 2


def test_mlroc_is_that_of_exam_scores_and_any_hit() -> None:
    whole = simulated()
    regions, lesions, exam = arrays(whole)
    localised = localised_cases(regions, lesions, exam, N, rule=whole.protocol.localisation.rule())
    expected = mlroc_area(np.arange(N) < ILL, whole.exams["exam_score"], localised, 0.1)
    interval = figures(whole)["mlroc@fpr=0.1"].interval
    assert interval is not None
    assert interval.point == pytest.approx(expected)


def test_exam_with_cancer_but_no_known_lesion_has_no_part_and_is_counted() -> None:
    whole = simulated()
    lesions = whole.followup.lesions
    assert lesions is not None
    fewer = replace(whole, followup=replace(whole.followup, lesions=lesions[lesions["exam_id"] != "E00003"]))
    marks = localisation(fewer)
    assert 3 not in marks.exam
    assert marks.n_images == 2 * N - 2
    assert "1 exams with cancer, whose lesions are not known" in marks.left_out
    assert "1 exams with cancer" in figures(fewer)["wafroc"].note


def test_negative_exam_in_which_a_cancer_is_marked_has_no_part() -> None:
    whole = simulated()
    role = whole.exams["role"].where(whole.exams["exam_id"] != "E00003", "negative")
    marks = localisation(replace(whole, exams=whole.exams.assign(role=role)))
    assert 3 not in marks.exam
    assert "1 exams without cancer under the protocol in which a cancer is marked" in marks.left_out


def test_benign_lesion_makes_no_exam_diseased_and_a_mark_on_it_is_a_false_positive() -> None:
    whole = simulated()
    lesions = whole.followup.lesions
    assert lesions is not None
    benign = boxes([2 * N - 1], [N - 1], [98.0], malignant=0)
    both = pd.concat([lesions, benign], ignore_index=True)
    more = replace(whole, followup=replace(whole.followup, lesions=both))
    for key, figure in figures(more).items():
        assert figure.interval == figures(whole)[key].interval


def test_rejected_images_are_not_counted_and_their_lesions_are_told() -> None:
    whole = simulated()
    table = whole.scores.images
    assert table is not None
    rejected = table.assign(status=["rejected", *["scored"] * (2 * N - 1)])
    marks = localisation(replace(whole, scores=replace(whole.scores, images=rejected)))
    assert marks.n_images == 2 * N - 1
    assert len(marks.lesions) == 2 * ILL - 1
    assert "1 lesions on images that were not scored" in marks.left_out


def test_excluded_exams_have_no_part() -> None:
    whole = simulated()
    included = np.arange(N) % 3 > 0
    marks = localisation(replace(whole, exams=whole.exams.assign(included=included)))
    assert marks.n_images == 2 * included.sum()
    assert len(marks.lesions) == 2 * included[:ILL].sum()


@pytest.mark.parametrize("lacking", ["images", "regions"])
def test_scores_without_a_table_give_one_figure_with_the_reason(lacking: str) -> None:
    whole = simulated()
    scores = replace(whole.scores, **{lacking: None})  # type: ignore[arg-type]
    (figure,) = figures(replace(whole, scores=scores)).values()
    assert f"no table {lacking}" in figure.reason


def test_follow_up_without_lesions_gives_reasons() -> None:
    whole = simulated()
    found = figures(replace(whole, followup=replace(whole.followup, lesions=None)))
    assert all(figure.interval is None and figure.reason for figure in found.values())


def test_denominator_says_what_is_counted() -> None:
    rules = Localisation(level="case-all-views", fp_denominator="normal", fp_per="case", hit_rule="iou-0.1")
    figure = figures(simulated(rules))["froc-sensitivity@fp=1"]
    assert figure.denominator == (
        "120 images of 30 women; 20 exams with a lesion, a hit in every view with a lesion; false positives per exam "
        "over images without lesion; hit rule iou-0.1"
    )
    assert (figure.n, figure.n_positive) == (120, 20)


def test_threshold_at_a_rate_is_where_the_curve_reaches_it() -> None:
    marks = localisation(simulated())
    rng = np.random.default_rng(1)
    for weight in (None, rng.random(marks.n_images)):
        threshold = marks.froc.threshold_at_fp(0.3, weight)
        assert marks.froc.sensitivity_at(threshold)(weight) == pytest.approx(
            marks.froc.sensitivity_at_fp(0.3)(weight), abs=1e-12
        )


def test_threshold_without_false_positives_admits_all_and_without_images_is_refused() -> None:
    none = Regions([], [], np.zeros((0, 4)))
    lesions = Lesions([0], [[0, 0, 5, 5]])
    assert FrocStatistics(none, lesions, 2).threshold_at_fp(1.0) == 0.0
    with pytest.raises(NotComputableError, match="need an image"):
        FrocStatistics(none, lesions, 1, denominator="normal").threshold_at_fp(1.0)
