"""Branching ducts that radiate from the nipple into the breast, as paths of points with a radius.

A breast has 10 to 20 ductal systems that drain at the nipple (Love & Barsky, Cancer 101:1947, 2004); as in Bakic et
al. (Med Phys 30:1914, 2003) each is a tree that splits on its way to the chest wall and thins at every split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.phantom.model import FloatArray

STEP_MM = 0.7
_BRANCHES_PER_MM = 0.045
_THINNING = 0.8
_WANDER = 0.10
_ENDS_PER_STEP = 0.006
_MOST_TIPS = 160
_LONGEST = 2.0
"""In depths of the breast: tips that have turned around could go on splitting for ever in a large breast."""


@dataclass(frozen=True)
class Paths:
    """Points (n, 3) in the breast frame, mm, along all ducts, and the duct's radius at each, mm."""

    points: FloatArray
    radii: FloatArray


def grow_ducts(depth_mm: float, radius_mm: float, rng: np.random.Generator) -> Paths:
    """Duct trees of a breast of this size, from the nipple backwards until they near the skin or the chest wall."""
    trees = int(rng.integers(10, 19))
    tips = np.tile([depth_mm - 2.0, 0.0, 0.0], (trees, 1)) + rng.normal(0, 1.5, (trees, 3)) * [0, 1, 1]
    spread = rng.normal(0, 0.62, (trees, 2))
    headings = _unit(np.column_stack([-np.ones(trees), spread]))
    radii = rng.uniform(0.8, 1.3, trees)
    points: list[FloatArray] = []
    widths: list[FloatArray] = []
    while len(tips) and len(points) * STEP_MM < _LONGEST * depth_mm:
        points.append(tips)
        widths.append(radii)
        headings = _unit(headings + _WANDER * rng.standard_normal(headings.shape))
        tips = tips + STEP_MM * headings
        splits = (rng.random(len(tips)) < _BRANCHES_PER_MM * STEP_MM) & (len(tips) < _MOST_TIPS)
        radii = np.where(splits, radii * _THINNING, radii)
        aside = _unit(headings[splits] + 0.55 * rng.standard_normal((int(splits.sum()), 3)))
        tips = np.concatenate([tips, tips[splits]])
        headings = np.concatenate([headings, aside])
        radii = np.concatenate([radii, radii[splits]])
        normalised = np.sqrt((tips[:, 0] / depth_mm) ** 2 + (tips[:, 1:] ** 2).sum(axis=1) / radius_mm**2)
        started = tips[:, 0] > depth_mm - 15.0
        covered = (normalised < 0.82) | (started & (normalised < 1.0))
        alive = covered & (tips[:, 0] > 8.0) & (rng.random(len(tips)) > _ENDS_PER_STEP)
        tips, headings, radii = tips[alive], headings[alive], radii[alive]
    return Paths(np.concatenate(points), np.concatenate(widths))


def _unit(vectors: FloatArray) -> FloatArray:
    unit: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
