"""The simulated women as a population."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from screening.exam import View
from training.phantom.model import Woman
from training.phantom.population import draw_woman


@pytest.fixture(scope="module")
def women() -> list[Woman]:
    return [draw_woman(11, index) for index in range(1500)]


def test_density_has_the_shares_of_the_atlas(women: list[Woman]) -> None:
    for density, share in {"A": 0.1, "B": 0.4, "C": 0.4, "D": 0.1}.items():
        found = np.mean([woman.density == density for woman in women])
        assert found == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / len(women)))


def test_density_falls_with_age(women: list[Woman]) -> None:
    def dense(low: float, high: float) -> float:
        return float(np.mean([woman.density in "CD" for woman in women if low <= woman.age < high]))

    assert dense(45, 54) > dense(54, 63) > dense(63, 73)


def test_glandularity_rises_with_density_and_follows_breast_ct(women: list[Woman]) -> None:
    values = np.array([woman.glandularity for woman in women])
    by_density = [[woman.glandularity for woman in women if woman.density == density] for density in "ABCD"]
    for lower, higher in pairwise(by_density):
        assert max(lower) <= min(higher)
    skin = 0.05
    assert np.mean(values + skin) == pytest.approx(0.193, abs=0.03)
    assert np.quantile(values + skin, 0.8) < 0.28
    assert np.quantile(values + skin, 0.95) < 0.45


def test_compressed_thickness_has_the_published_mean_and_spread(women: list[Woman]) -> None:
    thickness = [woman.compressed_mm[View.CC] for woman in women]
    assert np.mean(thickness) == pytest.approx(53, abs=2)
    assert np.std(thickness) == pytest.approx(13, abs=1.5)


def test_large_breasts_are_thick_under_the_paddle_and_fatty(women: list[Woman]) -> None:
    volume = np.log([woman.radius_mm**2 * woman.depth_mm for woman in women])
    assert np.corrcoef(volume, [woman.compressed_mm[View.CC] for woman in women])[0, 1] > 0.5
    assert np.corrcoef(volume, [woman.glandularity for woman in women])[0, 1] < -0.15


def test_no_breast_is_pressed_to_more_than_it_was(women: list[Woman]) -> None:
    assert all(max(woman.compressed_mm.values()) < 2 * woman.radius_mm for woman in women)


def test_a_woman_depends_on_seed_and_index_alone() -> None:
    first = draw_woman(3, 5)
    draw_woman(3, 6)
    assert draw_woman(3, 5) == first
    assert draw_woman(4, 5).age != first.age
    assert draw_woman(3, 6).age != first.age
