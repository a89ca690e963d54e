"""Hand-made slabs with bright lesions at known heights, and a recipe for a network that learns from them in seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from screening.exam import View
from tests.support.learning import volume
from training.datasets.record import Lesion
from training.slab_networks.recipe import SlabRecipe
from training.slab_networks.volumes import SlabVolume

BREAST, BRIGHT = 0.3, 0.9
STEP_MM = 4.0
"""From the middle of one slab to the next."""


@dataclass(frozen=True)
class Spot:
    """A round lesion: its place in prepared pixels, height and half depth in mm."""

    row: int
    column: int
    height_mm: float
    malignant: bool = True
    half_mm: float = 4.0
    radius: int = 14


def slab_volume(
    *spots: Spot, rows: int = 320, columns: int = 200, slabs: int = 12, view: View = View.MLO, seed: int = 0
) -> SlabVolume:
    """Half an ellipse of noise around `BREAST` in every slab; a spot is `BRIGHT` in the slab nearest to its height."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    inside = (x / columns) ** 2 + ((y - rows / 2) / (rows / 2)) ** 2 < 1
    images = np.where(inside, rng.uniform(BREAST - 0.05, BREAST + 0.05, (slabs, rows, columns)), 0)
    centres = 3.0 + STEP_MM * np.arange(slabs, dtype=np.float64)
    labels = np.zeros((rows, columns), np.uint8)
    for number, spot in enumerate(spots, start=1):
        area = ((x - spot.column) ** 2 + (y - spot.row) ** 2 <= spot.radius**2) & inside
        labels[area] = number
        images[np.abs(centres - spot.height_mm).argmin(), area] = BRIGHT
    lesions = (
        Lesion(one.column - one.radius, one.row - one.radius, 2 * one.radius, 2 * one.radius, malignant=one.malignant)
        for one in spots
    )
    record = volume(*lesions, malignant=any(one.malignant for one in spots))
    return SlabVolume(
        replace(record, view=view),
        np.round(images * 65535).astype(np.uint16),
        centres,
        labels,
        np.array([one.height_mm for one in spots]),
        np.array([one.half_mm for one in spots]),
    )


def slab_recipe(**changes: Any) -> SlabRecipe:
    """One small network, a few steps on two windows each."""
    content: dict[str, Any] = {
        "data": [{"name": "simulated", "root": "learned"}],
        "calibration": {"name": "simulated", "root": "calibration"},
        "members": 1,
        "neighbours": 1,
        "channels": 8,
        "steps": 6,
        "batch_size": 2,
        "average_decay": 0.8,
        "cache": Path("cache"),
    }
    return SlabRecipe.model_validate(content | changes)
