"""Women to teach with: many lesions apart from each other, half of them cancers, and no registry that knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from screening.errors import ConfigError
from screening.exam import ImageKind, Laterality
from tests.support.simulated_women import FIRST_DAY
from tests.training.conftest import TAUGHT, run
from training.datasets import read_dataset
from training.phantom.exams import Programme
from training.phantom.growth import diameter_mm
from training.phantom.model import FloatArray, Lesion, LesionKind, Woman
from training.phantom.population import draw_woman
from training.phantom.programme import Course, plan
from training.phantom.simulate import simulate
from training.phantom.teaching import _SIZES_MM, APART_MM, with_more_lesions

MEAN = 2.5


def anywhere(woman: Woman, laterality: Laterality, rng: np.random.Generator) -> FloatArray:
    """A place in a box as large as the breast, without looking at its anatomy."""
    del laterality
    radius = woman.radius_mm
    return rng.uniform((8.0, -radius, -radius), (woman.depth_mm, radius, radius))


def course(index: int) -> Course:
    return plan(draw_woman(4, index), 1, 0.3, FIRST_DAY, anywhere)


def added(index: int, mean: float = MEAN) -> tuple[Lesion, ...]:
    """What a woman has beyond her own course."""
    before = course(index)
    after = with_more_lesions(before, mean, anywhere)
    assert after.lesions[: len(before.lesions)] == before.lesions
    return after.lesions[len(before.lesions) :]


def breasts(women: int) -> Iterator[list[Lesion]]:
    for index in range(women):
        lesions = with_more_lesions(course(index), MEAN, anywhere).lesions
        yield from ([one for one in lesions if one.laterality is side] for side in Laterality)


def test_any_two_lesions_of_a_breast_are_apart_but_those_that_she_had_before() -> None:
    pairs = [
        np.linalg.norm(np.subtract(one.position_mm, other.position_mm))
        for lesions in breasts(150)
        for one, other in combinations(lesions, 2)
        if "-T" in other.lesion_id
    ]
    assert len(pairs) > 500
    assert min(pairs) >= APART_MM


def test_a_lesion_without_a_free_place_is_left_out() -> None:
    def always_there(woman: Woman, laterality: Laterality, rng: np.random.Generator) -> FloatArray:
        del woman, laterality, rng
        return np.array([30.0, 0.0, 0.0])

    lesions = with_more_lesions(course(1), 5.0, always_there).lesions
    assert all(sum(one.laterality is side for one in lesions if "-T" in one.lesion_id) <= 1 for side in Laterality)


def test_half_of_the_further_lesions_are_malignant_and_there_are_as_many_as_asked_for() -> None:
    lesions = [one for index in range(400) for one in added(index)]
    standard_error = 0.5 / np.sqrt(len(lesions))
    assert np.mean([one.malignant for one in lesions]) == pytest.approx(0.5, abs=3 * standard_error)
    assert 0.9 * MEAN < len(lesions) / 800 <= 1.06 * MEAN, "a few find no place"
    assert {one.kind for one in lesions if one.malignant} == set(list(LesionKind)[:4])
    assert len({one.kind for one in lesions if not one.malignant}) == 5


def test_further_lesions_are_there_at_the_exam_at_their_size_and_have_names_of_their_own() -> None:
    for index in range(60):
        whole = with_more_lesions(course(index), MEAN, anywhere)
        names = [one.lesion_id for one in whole.lesions]
        assert len(set(names)) == len(names)
        for one in added(index):
            assert diameter_mm(one, whole.visits[0].on) == pytest.approx(one.birth_mm)
            assert not one.malignant or _SIZES_MM[0] <= one.birth_mm <= _SIZES_MM[1]


def test_a_woman_has_the_same_lesions_each_time_whatever_came_before() -> None:
    once = [added(index) for index in range(10)]
    assert [added(index) for index in reversed(range(10))] == once[::-1]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_with_another_number_of_workers_and_women(
    taught: Path, tmp_path: Path
) -> None:
    simulate(Programme(3, 1, 1, "dbt", 0.8, 0.5, 1.5), tmp_path / "again", 1)
    tables = ("images.csv", "lesions.csv", "simulation.json")
    again, first = ({k: v for k, v in contents(one).items() if k not in tables} for one in (tmp_path / "again", taught))
    assert len(again) == 9
    assert again == {name: first[name] for name in again}


def test_a_training_set_has_one_exam_a_woman_its_truth_and_no_followup(taught: Path) -> None:
    assert not (taught / "followup").exists()
    records = read_dataset("simulated", taught)
    assert len({record.exam for record in records}) == len({record.woman for record in records}) == 3
    volumes = [record for record in records if record.kind is ImageKind.DBT]
    assert len(volumes) == 3 * 4
    lesions = [one for record in volumes for one in record.lesions or ()]
    assert {one.malignant for one in lesions} == {True, False}
    assert all(one.frame is not None for one in lesions)


def test_a_training_set_is_not_gone_on_with_as_a_programme(taught: Path) -> None:
    before = contents(taught)
    with pytest.raises(ConfigError, match=r"more_lesions is 1\.5, not 0"):
        simulate(Programme(3, 3, 1, "dbt", 0.8, 0.5), taught, 1)
    assert contents(taught) == before


def test_more_lesions_and_several_rounds_are_wrong_use(tmp_path: Path) -> None:
    result = run(*TAUGHT, "--women", 1, "--out", tmp_path / "out", "--rounds", 2)
    assert result.exit_code == 2
    assert "--more-lesions" in result.output
    assert not (tmp_path / "out").exists()
