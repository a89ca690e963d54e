"""Simulated readers: what they see, what they recall, and what is found afterwards."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from screening.exam import Laterality
from tests.support.lesion_slabs import lesion
from training.phantom.conspicuity import visibility
from training.phantom.model import Lesion, LesionKind, LesionTrace
from training.phantom.population import draw_woman
from training.phantom.programme import Course, Visit
from training.phantom.readers import Reading, read

VISIT = Visit(0, date(2015, 1, 1), 60.0)


def _course(index: int, lesions: tuple[Lesion, ...] = ()) -> Course:
    woman = draw_woman(11, index)
    surfaces = date(2017, 1, 1) if any(one.malignant for one in lesions) else None
    return Course(woman, (VISIT,), lesions, surfaces, date(2020, 1, 1), 1.0)


def _trace(of: Lesion, conspicuity: float) -> LesionTrace:
    return LesionTrace(of, 10.0, ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), conspicuity)


def _readings(conspicuity: float, of: Lesion, women: int = 300) -> list[Reading]:
    return [read(_course(index, (of,)), VISIT, [_trace(of, conspicuity)]) for index in range(women)]


def test_the_same_woman_is_read_alike_each_time() -> None:
    cancer = lesion()
    assert read(_course(1, (cancer,)), VISIT, [_trace(cancer, 4.0)]) == read(
        _course(1, (cancer,)), VISIT, [_trace(cancer, 4.0)]
    )


def test_clearer_cancers_are_found_more_often() -> None:
    found = [np.mean([one.detects for one in _readings(value, lesion())]) for value in (0.5, 2.0, 4.0, 6.0, 20.0)]
    assert found == sorted(found)
    assert found[0] < 0.05
    assert found[-1] > 0.98


def test_the_better_view_decides() -> None:
    cancer = lesion()
    both = [read(_course(index, (cancer,)), VISIT, [_trace(cancer, 1.0), _trace(cancer, 9.0)]) for index in range(50)]
    better = _readings(9.0, cancer, 50)
    assert both == better


def test_two_votes_recall_none_do_not_and_one_may() -> None:
    readings = [reading for value in (2.0, 3.0, 4.0) for reading in _readings(value, lesion())]
    assert not any(one.recalled for one in readings if not (one.reader1 or one.reader2))
    single = [one.recalled for one in readings if one.reader1 != one.reader2]
    assert 0 < sum(single) < len(single)
    # Both may have voted for different findings, each of which is then arbitrated by itself.
    double = [one.recalled for one in readings if one.reader1 and one.reader2]
    assert np.mean(double) > 0.95


def test_readers_of_healthy_women_are_as_specific_as_real_ones() -> None:
    readings = [read(_course(index), VISIT, []) for index in range(3000)]
    votes = np.mean([[one.reader1, one.reader2] for one in readings])
    assert 0.02 < votes < 0.06
    assert 0.01 < np.mean([one.recalled for one in readings]) < 0.04
    assert not any(one.detects for one in readings)


def test_typical_benign_lesions_are_recalled_less_than_cancers_that_are_as_clear() -> None:
    rates = {
        kind: np.mean([one.recalled for one in _readings(6.0, lesion(kind, malignant=False))])
        for kind in (LesionKind.CYST, LesionKind.FIBROADENOMA, LesionKind.VASCULAR_CALCIFICATION)
    }
    cancers = np.mean([one.recalled for one in _readings(6.0, lesion())])
    assert all(rate < 0.4 * cancers for rate in rates.values())
    assert rates[LesionKind.VASCULAR_CALCIFICATION] < 0.05


def test_biopsies_come_only_from_recalls_and_never_from_the_cancer() -> None:
    benign, cancer = lesion(LesionKind.ARCHITECTURAL_DISTORTION, malignant=False, lesion_id="B"), lesion()
    readings = []
    for index in range(400):
        course = _course(index, (benign, cancer))
        readings.append(read(course, VISIT, [_trace(benign, 4.0), _trace(cancer, 4.0)]))
    assert all(one.recalled for one in readings if one.biopsied)
    taken = {lesion_id for one in readings for _, lesion_id in one.biopsied}
    assert "B" in taken
    assert cancer.lesion_id not in taken


def test_a_cancer_in_the_other_breast_is_not_found_by_a_recall() -> None:
    cyst = lesion(LesionKind.ARCHITECTURAL_DISTORTION, malignant=False, lesion_id="B", laterality=Laterality.RIGHT)
    cancer = lesion()
    for index in range(300):
        reading = read(_course(index, (cyst, cancer)), VISIT, [_trace(cyst, 50.0), _trace(cancer, 0.1)])
        assert reading.recalled
        assert not reading.detects


def test_what_was_there_before_and_has_not_changed_is_recalled_less() -> None:
    cyst = lesion(LesionKind.CYST, malignant=False, doubling_days=float("inf"), born=date(2000, 1, 1))
    again = Visit(1, VISIT.on + timedelta(days=730), 62.0)
    rates = []
    for visits, now in (((VISIT,), VISIT), ((VISIT, again), again)):
        courses = [Course(draw_woman(11, i), visits, (cyst,), None, date(2020, 1, 1), 1.0) for i in range(600)]
        rates.append(np.mean([read(course, now, [_trace(cyst, 14.0)]).recalled for course in courses]))
    assert rates[1] < 0.8 * rates[0]


@pytest.mark.parametrize(("value", "said"), [(6.0, "false_negative"), (3.0, "minimal_sign"), (0.5, "occult")])
def test_visibility_says_how_clear_a_cancer_was(value: float, said: str) -> None:
    assert visibility(value) == said
    assert read(_course(0, (lesion(),)), VISIT, [_trace(lesion(), value)]).visible == {"L": said}
