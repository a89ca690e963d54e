"""How tumours grow, and how many women have one: against the literature and against brute force."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.lesion_slabs import lesion
from training.phantom.growth import (
    BIRTH_MM,
    LARGEST_MM,
    SHOWS_MM,
    YEAR_DAYS,
    Observation,
    cancer_probability,
    diameter_mm,
    draw_cancer,
    median_doubling_days,
)

THREE_ROUNDS = Observation(last_exam_day=1461.0, until_day=2922.0)


@given(doubling=st.floats(20, 900), days=st.integers(0, 900))
def test_diameter_doubles_in_three_doublings_of_volume(doubling: float, days: int) -> None:
    tumour = lesion(doubling_days=doubling)
    expected = BIRTH_MM * 2 ** (days / doubling / 3)
    assert diameter_mm(tumour, tumour.born + timedelta(days=days)) == pytest.approx(min(expected, LARGEST_MM))


def test_a_lesion_is_not_there_before_it_is_born() -> None:
    tumour = lesion()
    assert diameter_mm(tumour, tumour.born - timedelta(days=1)) == 0.0
    assert diameter_mm(tumour, tumour.born) == BIRTH_MM


def test_a_lesion_without_doubling_time_keeps_its_size() -> None:
    cyst = lesion(doubling_days=math.inf, birth_mm=11.0)
    assert diameter_mm(cyst, date(2040, 1, 1)) == 11.0


@pytest.mark.parametrize(("age", "low", "high"), [(45, 44, 147), (60, 121, 204), (75, 120, 295)])
def test_median_doubling_times_lie_in_the_published_intervals(age: int, low: float, high: float) -> None:
    # 95 % confidence limits of Peer et al., Cancer 1993;71:3547, for women below 50, from 50 to 70, and above.
    assert low < median_doubling_days(age) < high


def test_growth_from_10_to_20_mm_takes_about_as_long_as_published() -> None:
    # 1.7 years on average (Weedon-Fekjaer et al., Breast Cancer Res 2008;10:R41): three doublings of the volume.
    rng = np.random.default_rng(0)
    years = [3 * draw_cancer(60, THREE_ROUNDS, rng).doubling_days / YEAR_DAYS for _ in range(1500)]
    assert 1.2 < float(np.mean(years)) < 2.8


def test_drawn_cancers_concern_the_programme() -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        cancer = draw_cancer(55, THREE_ROUNDS, rng)
        assert cancer.surfaces_day > 0
        shows = cancer.born_day + 3 * math.log2(SHOWS_MM / BIRTH_MM) * cancer.doubling_days
        assert shows < THREE_ROUNDS.last_exam_day or cancer.surfaces_day < THREE_ROUNDS.until_day


def test_cancers_that_pass_between_two_rounds_are_the_fast_ones() -> None:
    rng = np.random.default_rng(2)
    cancers = [draw_cancer(58, THREE_ROUNDS, rng) for _ in range(1500)]
    between = [one.doubling_days for one in cancers if one.born_day > 0 and one.surfaces_day < 1461]
    there = [one.doubling_days for one in cancers if one.born_day < 0]
    assert np.median(between) < 0.6 * np.median(there)


@pytest.mark.parametrize("age", [46, 58, 70])
def test_how_many_women_have_a_cancer_agrees_with_a_population_simulated_year_by_year(age: int) -> None:
    rng = np.random.default_rng(age)
    women = 400_000
    concerned = 0.0
    for year in range(-15, 9):
        at = age + year + 0.5
        born = rng.poisson(0.0041 * (at / 60) ** 2, women)
        number = int(born.sum())
        day = (year + rng.random(number)) * 365.25
        doubling = np.array([median_doubling_days(one) for one in age + day / 365.25])
        doubling *= np.exp(0.9 * rng.standard_normal(number))
        size = np.where(rng.random(number) < 0.15, 55.0, 21.0) * np.exp(0.4 * rng.standard_normal(number))
        surfaces = day + doubling * 3 * np.log2(np.maximum(size, 3.0) / 2.0)
        seen = (day + 3 * doubling < THREE_ROUNDS.last_exam_day) | (surfaces < THREE_ROUNDS.until_day)
        concerned += float((seen & (surfaces > 0) & (day < THREE_ROUNDS.until_day)).sum())
    assert cancer_probability(age, THREE_ROUNDS) == pytest.approx(1 - math.exp(-concerned / women), rel=0.04)
