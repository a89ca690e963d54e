"""Coarse anatomy of the uncompressed breast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from screening.exam import Laterality
from training.phantom.anatomy import SPACING_MM, Anatomy, anatomy, glandular_share, random_site
from training.phantom.ducts import grow_ducts
from training.phantom.model import BoolArray, FloatArray, Woman
from training.phantom.population import draw_woman


@pytest.fixture(scope="module")
def woman() -> Woman:
    return replace(draw_woman(7, 0), radius_mm=50.0, depth_mm=55.0, glandularity=0.2, density="C")


def coordinates(fields: Anatomy) -> FloatArray:
    """Positions of all voxels in the breast frame, (3, ...)."""
    indices = np.indices(fields.level.shape).astype(np.float64)
    return indices * SPACING_MM + fields.origin_mm[:, None, None, None]


def inside(fields: Anatomy, woman: Woman, margin_mm: float = 1.5) -> BoolArray:
    anterior, lateral, superior = coordinates(fields)
    radius = woman.radius_mm - margin_mm
    across = (lateral**2 + superior**2) / radius**2
    return np.asarray(((anterior / (woman.depth_mm - margin_mm)) ** 2 + across < 1) & (anterior > 0))


@pytest.mark.parametrize("glandularity", [0.06, 0.2, 0.5])
def test_share_of_fibroglandular_tissue_is_the_womans(woman: Woman, glandularity: float) -> None:
    woman = replace(woman, glandularity=glandularity)
    fields = anatomy(woman, Laterality.LEFT)
    share = glandular_share(fields.level, fields.septa)
    assert share.min() >= 0
    assert share.max() <= 1
    assert share[inside(fields, woman)].mean() == pytest.approx(glandularity, rel=0.05)


def test_fat_lies_under_the_skin_and_parenchyma_behind_the_nipple(woman: Woman) -> None:
    fields = anatomy(woman, Laterality.LEFT)
    share = glandular_share(fields.level, fields.septa)
    anterior, lateral, superior = coordinates(fields)
    shell = inside(fields, woman) & ~inside(fields, woman, 6.0) & (anterior < 0.7 * woman.depth_mm)
    near_axis = np.hypot(lateral, superior) < 10
    core = inside(fields, woman, 8.0) & (anterior > 0.3 * woman.depth_mm) & near_axis
    assert share[core].mean() > 4 * share[shell].mean()


def test_a_breast_is_the_same_each_time_and_differs_from_the_other_side(woman: Woman) -> None:
    left = anatomy(woman, Laterality.LEFT).level.copy()
    right = anatomy(woman, Laterality.RIGHT).level.copy()
    anatomy(replace(woman, index=1), Laterality.LEFT)
    anatomy(replace(woman, index=2), Laterality.LEFT)
    assert np.array_equal(anatomy(woman, Laterality.LEFT).level, left)
    assert not np.array_equal(left, right)


def test_lesions_arise_in_or_beside_parenchyma_away_from_the_skin(woman: Woman) -> None:
    fields = anatomy(woman, Laterality.RIGHT)
    share = glandular_share(fields.level, fields.septa)
    rng = np.random.default_rng(0)
    nearby, typical = [], share[inside(fields, woman)].mean()
    for _ in range(40):
        site = random_site(woman, Laterality.RIGHT, rng)
        normalised = (site[0] / woman.depth_mm) ** 2 + (site[1] ** 2 + site[2] ** 2) / woman.radius_mm**2
        assert normalised < 1 - 6 / woman.radius_mm
        assert site[0] > 7
        cell = np.rint((site - fields.origin_mm) / SPACING_MM).astype(int)
        nearby.append(share[tuple(slice(i - 4, i + 5) for i in cell)].mean())
    assert np.mean(nearby) > 1.8 * typical


def test_sites_follow_the_generator(woman: Woman) -> None:
    first = random_site(woman, Laterality.LEFT, np.random.default_rng(9))
    assert np.array_equal(first, random_site(woman, Laterality.LEFT, np.random.default_rng(9)))
    assert not np.array_equal(first, random_site(woman, Laterality.LEFT, np.random.default_rng(10)))


def test_ducts_of_a_large_breast_come_to_an_end() -> None:
    """Their tips split faster than they end; some of this size went on for ever."""
    for seed in range(6):
        assert len(grow_ducts(85.0, 85.0, np.random.default_rng(seed)).points) < 160 * 2 * 85.0 / 0.7


def test_ducts_leave_the_nipple_and_stay_inside_of_the_breast() -> None:
    paths = grow_ducts(80.0, 65.0, np.random.default_rng(3))
    normalised = (paths.points[:, 0] / 80) ** 2 + (paths.points[:, 1:] ** 2).sum(axis=1) / 65**2
    assert normalised.max() < 1.0
    distance = np.linalg.norm(paths.points - [80.0, 0, 0], axis=1)
    assert distance.min() < 4
    assert distance.max() > 40
    assert paths.radii[distance > 40].mean() < paths.radii[distance < 5].mean()


def test_parenchyma_points_to_the_nipple(woman: Woman) -> None:
    """Close to the nipple, the level changes less along the anterior axis than across it."""
    fields = anatomy(woman, Laterality.LEFT)
    anterior, lateral, superior = coordinates(fields)
    front = (anterior > 0.6 * woman.depth_mm) & inside(fields, woman, 5.0) & (np.hypot(lateral, superior) < 12)
    steps = [np.abs(np.gradient(fields.level, axis=axis))[front].mean() for axis in range(3)]
    assert steps[0] < 0.7 * min(steps[1:])
