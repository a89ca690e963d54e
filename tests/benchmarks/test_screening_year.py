"""The queue's simulator against queueing theory, and a programme's arrivals against what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.screening_year import (
    DAY,
    HOUR,
    Downtime,
    Floats,
    Programme,
    answer,
    arrivals,
    erlang_c,
    failed_night,
    finished,
    nightly,
)


def poisson(rng: np.random.Generator, number: int, rate: float) -> Floats:
    return np.cumsum(rng.exponential(1 / rate, number))


@pytest.mark.parametrize(("workers", "busy"), [(1, 0.6), (2, 0.7), (5, 0.8)])
def test_mean_wait_of_m_m_c_is_erlang_s(workers: int, busy: float) -> None:
    rng = np.random.default_rng(workers)
    number, mean = 300_000, 4.0
    at, service = poisson(rng, number, busy * workers / mean), rng.exponential(mean, number)
    waited = finished(at, service, workers) - service - at
    theory = erlang_c(workers, busy * workers) * mean / (workers * (1 - busy))
    assert waited.mean() == pytest.approx(theory, rel=0.06)
    assert (waited > 1e-9).mean() == pytest.approx(erlang_c(workers, busy * workers), rel=0.03)


def test_erlang_s_formula_has_its_known_values() -> None:
    """One worker waits with probability rho; two with 2 rho² / (1 + rho)."""
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.4) == pytest.approx(2 * 0.7**2 / 1.7)


@pytest.mark.parametrize("busy", [0.5, 0.8])
def test_mean_wait_of_m_d_1_is_that_of_pollaczek_and_khinchine(busy: float) -> None:
    at = poisson(np.random.default_rng(3), 300_000, busy / 4.0)
    waited = finished(at, np.full(len(at), 4.0), 1) - 4.0 - at
    assert waited.mean() == pytest.approx(busy * 4.0 / (2 * (1 - busy)), rel=0.05)


@pytest.mark.parametrize(("workers", "busy"), [(2, 0.8), (5, 0.9)])
def test_mean_wait_of_m_d_c_is_that_of_cosmetatos(workers: int, busy: float) -> None:
    """His approximation (1975) errs by less than 2 % at these loads."""
    at = poisson(np.random.default_rng(4), 400_000, busy * workers / 4.0)
    waited = finished(at, np.full(len(at), 4.0), workers) - 4.0 - at
    exponential = erlang_c(workers, busy * workers) * 4.0 / (workers * (1 - busy))
    bend = (1 - busy) * (workers - 1) * (np.sqrt(4 + 5 * workers) - 2) / (16 * busy * workers)
    assert waited.mean() == pytest.approx(exponential / 2 * (1 + bend), rel=0.08)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 20)), min_size=1, max_size=40), st.integers(1, 4))
@example([(0.0, 1.0), (1 / 3, 10 / 3), (0.0, 4.0), (0.0, 8.607847261511912)], 1)
@settings(max_examples=100, deadline=None)
def test_waiting_exams_never_see_an_idle_worker(exams: list[tuple[float, float]], workers: int) -> None:
    at = np.sort([one for one, _ in exams])
    service = np.array([work for _, work in exams])
    done = finished(at, service, workers)
    start = done - service
    for index, begun in enumerate(start):
        working = ((start < begun - 1e-9) & (done > begun + 1e-9)).sum()
        assert working < workers
        if begun > at[index] + 1e-9:  # it waited: until the very moment before, all were at work
            moment = (at[index] + begun) / 2  # it may be the one at which an exam ends and the next begins
            assert ((start <= moment + 1e-9) & (done >= moment - 1e-9)).sum() >= workers


INTERVALS = Downtime(((10.0, 20.0), (30.0, 35.0), (50.0, 90.0)))


def test_time_worked_and_clock_are_inverse_outside_of_downtime() -> None:
    at = np.array([0.0, 5.0, 10.0, 25.0, 30.0, 40.0, 50.0, 95.0])
    assert INTERVALS.clock(INTERVALS.worked(at)).tolist() == at.tolist()
    assert INTERVALS.worked(np.array([15.0, 20.0, 60.0, 90.0])).tolist() == [10.0, 10.0, 35.0, 35.0]


def test_nothing_is_done_while_nothing_works_and_no_work_is_lost() -> None:
    rng = np.random.default_rng(5)
    at, service = np.sort(rng.uniform(0, 60, 30)), rng.uniform(0.5, 3, 30)
    done = finished(at, service, 1, INTERVALS)
    for start, end in INTERVALS.intervals:
        assert not ((done > start) & (done < end)).any()
    plain = finished(INTERVALS.worked(at), service, 1)
    assert np.allclose(INTERVALS.worked(done), plain)


def test_year_has_its_exams_on_working_days_only() -> None:
    programme = Programme(exams=100_000)
    found = arrivals(programme, seed=1)
    assert len(found.at) == pytest.approx(100_000, rel=0.02)
    assert (np.diff(found.at) >= 0).all()
    weekday = (found.day + 4) % 7  # 2027 begins on a Friday
    assert weekday.max() <= 4
    evening = (found.at - found.day * DAY) > 17 * HOUR
    assert evening.mean() == pytest.approx(programme.mobile / programme.units, abs=0.02)


def test_more_workers_are_never_slower_and_a_failed_night_is_late_but_caught_up() -> None:
    found = arrivals(Programme(exams=100_000), seed=2)
    few, many = answer(found, 40.0, 1), answer(found, 40.0, 2)
    assert many.minutes <= few.minutes
    assert many.by_morning >= few.by_morning
    day = int(np.bincount(found.day).argmax())
    broken = answer(found, 40.0, 2, failed_night(day))
    assert broken.by_morning < many.by_morning == 1.0
    assert broken.late_nights == 1


def test_workers_of_the_night_alone_let_exams_of_the_day_wait_until_then() -> None:
    found = arrivals(Programme(exams=20_000, mobile=0), seed=3)
    one = answer(found, 4.0, 2, nightly())
    assert one.minutes[0] > 4 * 60  # taken by day, scored from 21:00 on
    assert one.by_morning == 1.0
