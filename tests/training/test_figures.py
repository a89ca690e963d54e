"""Figures of held-out women: known answers, honest baselines and intervals, and subgroups large enough to mean it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from screening.errors import ConfigError
from screening.exam import Laterality, View
from screening.result import BreastResult, ExamResult, ImageResult, Region, Status
from tests.support.learning import record, tiny_recipe
from training.accuracy import document
from training.calibrate import logits
from training.datasets.record import Lesion, Record
from training.exams import as_exams
from training.figures import (
    Accuracy,
    Measured,
    Study,
    age_and_machine,
    age_band,
    calibrate,
    held_out_probability,
    measure,
    rich_table,
    study,
    write_figures,
)
from training.plots import reliability_picture

RECIPE = tiny_recipe(
    folds=3,
    data=[
        {"name": "rsna", "root": "."},
        {"name": "mias", "root": "."},
        {"name": "cesm", "root": ".", "places_only": True},
    ],
)


def women(number: int = 120) -> list[Record]:
    """Two views of one breast a woman; every third has cancer; machine and age follow from her number."""
    return [
        record(
            i,
            image=f"{i}{view}",
            view=view,
            malignant=i % 3 == 0,
            age=45.0 + i % 30,
            machine=str(i % 2),
            density="ABCD"[i % 4] if i % 5 else None,
        )
        for i in range(number)
        for view in (View.CC, View.MLO)
    ]


def films(number: int = 30) -> list[Record]:
    """One film a woman; every third shows a malignant and every third a benign lesion, one place is unknown."""
    made = []
    for i in range(number):
        lesion = Lesion(100, 100, 40, 40, "ellipse", malignant=i % 3 == 0)
        lesions = None if i == 3 else (lesion,) if i % 3 < 2 else ()
        made.append(record(i, dataset="mias", medium="film", malignant=i % 3 == 0, lesions=lesions))
    return made


def results(
    records: list[Record],
    score: Callable[[Record], float],
    place: Callable[[Record], tuple[float, float]] | None = None,
) -> list[ExamResult]:
    """A region in each image, with its breast's score; density as labelled."""
    made = []
    exams = as_exams(records)
    for exam in exams.exams:
        images, regions = [], []
        for image in exam.images:
            known = exams.records[image.image_id]
            x, y = place(known) if place else (0.0, 0.0)
            region = Region(
                f"{image.image_id}.r1", image.image_id, image.laterality, image.view, x, y, 20, 20, (), score(known), 1
            )
            regions.append(region)
            images.append(ImageResult(image, Status.SCORED, None, region.score, (region,)))
        density = exams.records[exam.images[0].image_id].density or "B"
        by_score = sorted(regions, key=lambda one: -one.score)
        top = {one.laterality: one for one in reversed(by_score)}
        breasts = [BreastResult(side, one.score, one.region_id, density) for side, one in top.items()]
        highest = by_score[0]
        made.append(
            ExamResult(
                exam.exam_id,
                exam.woman_id,
                None,
                exam.site,
                "",
                "fold",
                Status.SCORED,
                None,
                highest.score,
                5,
                density,
                highest.region_id,
                tuple(breasts),
                tuple(images),
            )
        )
    return made


def noisy(known: Record) -> float:
    """Higher with cancer, but not always; the same for all images of a breast."""
    seed = [int(known.woman), len(known.dataset), known.laterality is Laterality.RIGHT]
    noise = np.random.default_rng(seed).normal()
    return float(1 / (1 + np.exp(1.5 - 1.5 * bool(known.malignant) - noise)))


def a_study(score: Callable[[Record], float] = noisy, **changes: object) -> Study:
    records = women() + films()
    found = results(records, score, lambda known: (110, 110) if int(known.woman) % 2 else (300, 300))
    return replace(study(found, records, RECIPE), **changes)  # type: ignore[arg-type]


def by_key(accuracy: Accuracy) -> dict[str, Measured]:
    return {one.key: one for one in (*accuracy.figures, *accuracy.subgroups)}


@pytest.fixture(scope="module")
def accuracy() -> Accuracy:
    return measure(a_study())


def test_perfect_scores_and_labels_give_perfect_figures() -> None:
    def perfect(known: Record) -> float:
        return 0.6 + 0.001 * int(known.woman) if known.malignant else 0.1 + 0.001 * int(known.woman)

    found = by_key(measure(a_study(perfect)))
    assert found["rsna-breast-auc"].interval.point == 1
    assert found["rsna-density-kappa"].interval.point == 1
    assert found["rsna-breast-auc"].passed


def test_sensitivity_counts_the_lesions_that_a_region_points_at(accuracy: Accuracy) -> None:
    found = by_key(accuracy)
    placed = [film for film in films() if film.lesions]
    malignant = [film for film in placed if film.malignant]
    for kind, shown in (("malignant", malignant), ("any", placed)):
        hit = sum(int(film.woman) % 2 for film in shown)
        figure = found[f"mias-{kind}-at-1-fp"]
        assert figure.interval.point == pytest.approx(hit / len(shown))
        assert f"{len(shown)} " in figure.data
        assert "29 images" in figure.data
    assert any("1 images with a lesion of unknown place" in note for note in accuracy.notes)


def test_every_interval_holds_its_figure_and_counts_women(accuracy: Accuracy) -> None:
    for one in (*accuracy.figures, *accuracy.subgroups):
        assert one.interval.low <= one.interval.point <= one.interval.high
        assert one.interval.replicates == 2000
    assert by_key(accuracy)["rsna-breast-auc"].interval.n_clusters == 120


def test_the_same_results_give_the_same_intervals(accuracy: Accuracy) -> None:
    again = measure(a_study())
    assert [one.interval for one in again.figures] == [one.interval for one in accuracy.figures]


def test_the_baseline_knows_what_age_and_machine_tell_and_no_more() -> None:
    records = women()
    told = [replace(r, machine="cancer" if r.malignant else "none") for r in records]
    for given, low, high in ((told, 1.0, 1.0), (records, 0.3, 0.7)):
        made = study(results(given, noisy), given, RECIPE)
        baseline = {one.key: one for one in measure(made).figures}["rsna-baseline-auc"].interval.point
        assert low <= baseline <= high


def test_a_womans_own_truth_moves_neither_her_baseline_nor_her_probability() -> None:
    """What is fitted for the women of a fold does not see their truth."""
    made = a_study()
    own = made.breasts("rsna")
    inside = np.array([made.fold_of[r.group] == 0 for r in own.record])
    turned = [
        replace(r, malignant=not r.malignant) if r.dataset == "rsna" and made.fold_of[r.group] == 0 else r
        for r in made.records
    ]
    other = Study(made.results, tuple(turned), made.recipe, made.fold_of, made.judged_in)
    for fitted in (age_and_machine, held_out_probability):
        before, after = fitted(made, own), fitted(other, other.breasts("rsna"))
        assert np.array_equal(before[inside], after[inside])
        assert not np.allclose(before[~inside], after[~inside])


def test_calibration_figures_are_near_1_where_all_folds_are_alike(accuracy: Accuracy) -> None:
    found = by_key(accuracy)
    assert 0.5 < found["rsna-calibration-slope"].interval.point < 2
    assert 0.6 < found["rsna-expected-observed"].interval.point < 1.6


def test_the_calibration_rests_on_the_set_with_the_most_cancers_and_says_so() -> None:
    calibration = calibrate(a_study())
    assert calibration.fitted_on.startswith("120 breasts, 40 with cancer: rsna")
    assert calibration.operating_point("1-fp-per-image").chosen_on.startswith("160 images")


def two_breasts(ill: int = 30, well: int = 60) -> Study:
    """Women with both breasts: the first `ill` with cancer on the left, the others without."""
    records = [
        record(i, image=f"{i}{side}", laterality=side, malignant=i < ill and side is Laterality.LEFT)
        for i in range(ill + well)
        for side in Laterality
    ]
    # A normal exam of a woman with cancer, a single breast, and a breast without truth are in no population of exams.
    records += [record(0, exam="next", image=f"next{side}", laterality=side) for side in Laterality]
    records += [record(900), record(901), replace(record(901), image="r", laterality=Laterality.RIGHT, malignant=None)]
    recipe = tiny_recipe(folds=3, data=[{"name": "rsna", "root": "."}])
    return study(results(records, noisy), records, recipe)


def test_categories_and_recall_points_are_those_of_exams_of_normal_women() -> None:
    made = two_breasts()
    calibration = calibrate(made)
    assert calibration.categories_from.startswith("deciles of 60 exams of women without cancer (both breasts): rsna")
    ill = {"0", *(str(i) for i in range(30)), "900", "901"}
    scores = [one.score for one in made.results if one.woman_id.removeprefix("rsna-") not in ill]
    normal = [calibration.score(float(logits(score))) for score in scores if score is not None]
    assert len(normal) == 60
    counts = Counter(calibration.category(score) for score in normal)
    assert [counts[c] for c in range(1, 11)] == pytest.approx([6] * 10, abs=1)
    for name, recalled in (("recall-3-percent", 1), ("recall-10-percent", 6)):
        point = calibration.operating_point(name)
        assert sum(score >= point.threshold for score in normal) == recalled
        assert point.per == "exam"
        assert point.chosen_on.startswith("60 exams of women without cancer (both breasts): rsna")
    assert calibration.fitted_on.startswith("184 breasts, 30 with cancer: rsna")


def test_with_few_exams_of_both_breasts_the_breasts_stand_for_the_population() -> None:
    for well, unit in ((19, "breast"), (20, "exam")):
        calibration = calibrate(two_breasts(well=well))
        assert calibration.operating_point("recall-3-percent").per == unit
        assert re.match(rf"deciles of \d+ {unit}s ", calibration.categories_from)


def test_a_subgroup_needs_ten_cancers_and_ten_others_and_smaller_ones_are_named(accuracy: Accuracy) -> None:
    counts = Counter((r.density or "unknown", r.malignant) for r in women() if r.view is View.CC)
    large = {d for d in ("A", "B", "C", "D", "unknown") if min(counts[d, True], counts[d, False]) >= 10}
    measured = {one.key.removeprefix("rsna-breast-auc-") for one in accuracy.subgroups}
    assert {name for name in measured if name.startswith("density")} == {f"density {d}" for d in large}
    assert {"machine 0", "machine 1"} < measured
    for one in accuracy.subgroups:
        size, cancers = (int(word.split()[0]) for word in one.data.removeprefix("rsna: ").split(", "))
        assert cancers >= 10
        assert size - cancers >= 10
    (note,) = (one for one in accuracy.notes if "too small" in one)
    small = {"A", "B", "C", "D", "unknown"} - large
    assert small
    for density in small:
        ill, well = counts[density, True], counts[density, False]
        assert f"density {density} ({ill + well} breasts, {ill} with cancer)" in note
    assert "machine 0" not in note


def test_each_view_has_the_auc_of_its_images_over_women() -> None:
    """Scores that tell nothing in one view and everything in the other."""

    def by_view(known: Record) -> float:
        told = known.malignant if known.view is View.CC else int(known.woman) % 2
        return 0.5 + 0.2 * bool(told)

    found = by_key(measure(a_study(by_view)))
    cc, mlo = found["rsna-image-auc-CC images"], found["rsna-image-auc-MLO images"]
    assert (cc.interval.point, mlo.interval.point) == (1, 0.5)
    assert cc.data == "rsna: 120 images, 40 with cancer"
    assert cc.interval.n_clusters == 120
    assert cc.title == "image-level AUC, CC images"


def test_a_fold_alone_is_calibrated_on_parts_of_its_own_women() -> None:
    made = a_study()
    records = list(made.records)
    inside = [r for r in made.results if made.fold_of[(r.site, r.woman_id.removeprefix(f"{r.site}-"))] == 1]
    alone = study(inside, records, RECIPE, fold=1)
    found = by_key(measure(alone))
    assert "40 breasts of 40 women" in found["rsna-breast-auc"].data
    assert len(set(alone.judged_in.values())) == 5
    assert set(alone.judged_in) == {g for g, k in made.fold_of.items() if k == 1}


def test_results_of_unknown_images_are_refused() -> None:
    made = a_study()
    with pytest.raises(ConfigError, match="images that the recipe's data do not"):
        study(made.results, films(), RECIPE)


def test_a_figure_is_held_to_its_floor_and_the_difference_to_its_interval(accuracy: Accuracy) -> None:
    one = by_key(accuracy)["rsna-breast-auc"]
    for point, passed in ((0.69, False), (0.70, True)):
        assert replace(one, interval=replace(one.interval, point=point)).passed is passed
    gap = by_key(accuracy)["rsna-auc-above-baseline"]
    assert replace(gap, interval=replace(gap.interval, point=0.1, low=-0.01)).passed is False
    slope = by_key(accuracy)["rsna-calibration-slope"]
    assert replace(slope, interval=replace(slope.interval, point=1.3)).passed is False
    assert by_key(accuracy)["rsna-baseline-auc"].passed is None


@pytest.mark.parametrize(
    ("age", "band"), [(None, "unknown"), (49.9, "49 and below"), (50, "50–59"), (69, "60–69"), (70, "70 and above")]
)
def test_ages_fall_into_the_bands_of_screening(age: float | None, band: str) -> None:
    assert age_band(age) == band


def test_tenths_without_a_cancer_can_be_drawn() -> None:
    made = a_study(lambda known: 0.5 + 0.3 * bool(known.malignant) + 0.001 * int(known.woman))
    (axes,) = reliability_picture(made).axes
    assert {0, 1} <= set(np.asarray(axes.lines[0].get_ydata()).tolist())


def test_table_document_and_json_hold_every_figure(accuracy: Accuracy, tmp_path: Path) -> None:
    for existing in women() + films():
        (tmp_path / existing.path.name).write_bytes(b"pixels")
    made = a_study()
    made = replace(made, records=tuple(replace(r, path=tmp_path / r.path.name) for r in made.records))
    console = Console(width=250, record=True, quiet=False)
    with console.capture() as shown:
        console.print(rich_table(accuracy))
    text = document(made, accuracy, "tiny")
    write_figures(accuracy, tmp_path / "figures.json")
    read = json.loads((tmp_path / "figures.json").read_text())
    assert len(read["figures"]) == len(accuracy.figures)
    for one in accuracy.figures:
        for place in (shown.get(), text):
            assert f"{one.interval.point:.3f}" in place
    assert "**missed**" in text
    assert "not a medical device" in text
