"""The course of simulated women, and that their programme runs as programmes do."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from evaluation.followup import exam_outcomes
from evaluation.protocol import Outcome
from evaluation.tables import check_followup
from tests.support.simulated_women import FIRST_DAY, RULES, Screened, in_the_middle, screened
from training.phantom.growth import Observation, cancer_probability
from training.phantom.model import LesionKind
from training.phantom.population import draw_woman
from training.phantom.programme import ENROLMENT_DAYS, Course, plan
from training.phantom.registry import conclude, tables


@lru_cache
def _programme() -> tuple[Screened, ...]:
    return tuple(screened(1500, cancer_share=0.5))


def _plan(index: int, cancer_share: float | None = 0.3, rounds: int = 3) -> Course:
    return plan(draw_woman(4, index), rounds, cancer_share, FIRST_DAY, in_the_middle)


def test_a_woman_has_the_same_course_each_time_whatever_came_before() -> None:
    once = [_plan(index) for index in range(20)]
    assert [_plan(index) for index in reversed(range(20))] == once[::-1]


def test_her_place_in_the_population_decides_on_her_lesions_and_not_the_number_of_rounds() -> None:
    for index in range(40):
        few, more = _plan(index, None, 2), _plan(index, None, 3)
        assert [one for one in few.lesions if not one.malignant] == [one for one in more.lesions if not one.malignant]
        assert few.visits[0] == more.visits[0]


def test_visits_are_about_two_years_apart_and_end_with_symptoms_or_follow_up() -> None:
    for index in range(300):
        course = _plan(index)
        assert FIRST_DAY <= course.visits[0].on < FIRST_DAY + timedelta(days=ENROLMENT_DAYS)
        for visit in course.visits:
            since = (visit.on - course.visits[0].on).days
            assert since == pytest.approx(730.5 * visit.round_number, abs=60)
            assert visit.age == pytest.approx(course.woman.age + since / 365.25, abs=0.02)
            assert visit.on <= course.followed_until
            assert course.surfaces is None or visit.on <= course.surfaces


def test_some_women_skip_a_round_but_none_the_first() -> None:
    numbers = [tuple(visit.round_number for visit in _plan(index).visits) for index in range(200)]
    assert (0, 2) in numbers
    assert all(one[0] == 0 for one in numbers)


def test_weights_undo_the_enrichment() -> None:
    courses = [_plan(index, 0.4) for index in range(2500)]
    weight = np.array([course.weight for course in courses])
    ill = np.array([course.cancer is not None for course in courses])
    assert ill.mean() == pytest.approx(0.4, abs=0.03)
    assert weight.mean() == pytest.approx(1.0, abs=0.05)
    observation = Observation(2 * 730.5, 4 * 730.5)
    natural = np.mean([cancer_probability(int(course.woman.age), observation) for course in courses])
    assert (weight * ill).mean() == pytest.approx(natural, rel=0.1)
    assert {_plan(index, None).weight for index in range(20)} == {1.0}


def test_lesions_grow_from_exam_to_exam_and_benign_ones_do_not() -> None:
    grown = 0
    for index in range(200):
        course = _plan(index, 0.9)
        seen = [dict(course.present(visit.on)) for visit in course.visits]
        for earlier, later in pairwise(seen):
            for lesion, diameter in earlier.items():
                assert later[lesion] >= diameter
                assert lesion.malignant or later[lesion] == diameter
                grown += later[lesion] > diameter
    assert grown > 50


def test_in_situ_cancers_are_calcifications() -> None:
    cancers = [cancer for index in range(300) if (cancer := _plan(index, 0.9).cancer) is not None]
    in_situ = [one for one in cancers if not one.invasive]
    assert in_situ
    assert all(one.kind is LesionKind.MICROCALCIFICATIONS for one in in_situ)
    assert {one.kind for one in cancers if one.invasive} >= {
        LesionKind.SPICULATED_MASS,
        LesionKind.CIRCUMSCRIBED_MASS,
        LesionKind.ARCHITECTURAL_DISTORTION,
    }


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2])
def test_a_share_of_cancers_must_lie_between_none_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        _plan(0, share)


def test_a_programme_has_rounds() -> None:
    with pytest.raises(ValueError, match="at least one round"):
        _plan(0, rounds=0)


def test_the_programme_finds_and_misses_as_many_cancers_as_real_ones() -> None:
    # About 6 screen-detected and 2 interval cancers per 1,000 exams of a population that is not enriched.
    followup = tables(conclude(one.course, one.exams) for one in _programme())
    followup.pop("lesions")
    outcomes = exam_outcomes(check_followup(followup), RULES)
    share = outcomes.groupby("outcome")["weight"].sum() / outcomes["weight"].sum() * 1000
    assert 4.5 < share[Outcome.SCREEN_DETECTED] < 7.5
    assert 1.4 < share[Outcome.INTERVAL] < 3.0
    assert share[Outcome.NEXT_ROUND] > 1.5
    recalled = followup["exams"]["recalled"]
    healthy = (outcomes["outcome"] == Outcome.NEGATIVE).to_numpy()
    assert 0.015 < np.average(recalled[healthy], weights=outcomes["weight"][healthy]) < 0.05


def test_readers_find_hardly_any_cancer_of_5_mm_and_most_above_10_mm() -> None:
    # 26 % at 5 mm and 91 % at 10 mm (Weedon-Fekjaer et al., Breast Cancer Res 2008;10:R41); wide, as it is a model.
    found: dict[str, list[bool]] = {"small": [], "large": []}
    for one in _programme():
        for exam in one.exams:
            for lesion, diameter in one.course.present(exam.visit.on):
                if lesion.malignant and 4 < diameter < 6:
                    found["small"].append(exam.reading.detects)
                if lesion.malignant and 12 < diameter < 25:
                    found["large"].append(exam.reading.detects)
    assert 0.15 < np.mean(found["small"]) < 0.45
    assert np.mean(found["large"]) > 0.75


def test_screening_ends_with_the_cancer_that_it_finds() -> None:
    for one in _programme():
        detecting = [exam.reading.detects for exam in one.exams]
        assert not any(detecting[:-1])
        if not any(detecting):
            assert len(one.exams) == len(one.course.visits)


def test_missed_cancers_are_of_all_visibilities() -> None:
    said = [
        exam.reading.visible[one.course.cancer.lesion_id]
        for one in _programme()
        for exam in one.exams
        if one.course.cancer is not None
        and one.course.cancer.lesion_id in exam.reading.visible
        and not exam.reading.detects
    ]
    assert set(said) == {"false_negative", "minimal_sign", "occult"}
