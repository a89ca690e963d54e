"""Slabs: some millimetres of a volume's frames projected into one image, which a network for mammograms can read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt


class Projection(StrEnum):
    """How the frames of a slab become one image.

    Of thick slices computed from tomosynthesis, averages show masses, round and spiculated, with the best
    contrast-to-noise ratio, and maximum projections microcalcifications (Diekmann et al. 2009, J Digit Imaging 22:519).
    An average also is what the network learned from: a mammogram is a sum along the ray. So `MEAN` is the default for
    a network that looks at 0.5 mm, where single calcifications are below the resolution anyway; a finer one that was
    trained for it may ask for `MAXIMUM`.
    """

    MEAN = "mean"
    MAXIMUM = "maximum"


@dataclass(frozen=True)
class Slabbing:
    """What slabs a bundle asks for.

    `thickness_mm`: 10 by default, as the thick slices of Diekmann et al. have, about the size of a screen-detected
    cancer. `step_mm`: from one slab to the next; at half the thickness every place lies well inside one of them.
    """

    thickness_mm: float = 10.0
    step_mm: float = 5.0
    projection: Projection = Projection.MEAN


@dataclass(frozen=True)
class Slab:
    """Places `first` to `last` of a volume, inclusive.

    `core_first` to `core_last` lie nearer to this slab's middle than to any other's: the cores of all slabs are the
    volume, each place once. `centre_mm`: the middle of the core, where what shows best in this slab most likely is.
    """

    first: int
    last: int
    core_first: int
    core_last: int
    centre_mm: float


def cut_slabs(positions_mm: tuple[float, ...], spacing_mm: float, slabbing: Slabbing) -> tuple[Slab, ...]:
    """Cut a volume into overlapping slabs, evenly spread from its first to its last place.

    `positions_mm`: of each place, rising from 0; a place is `spacing_mm` thick, and no slab is thinner than that, nor
    its step longer than itself. A volume thinner than a slab is one slab. Where frames are missing, a slab has fewer
    of them, and one that would have none is left out.
    """
    positions = np.array(positions_mm)
    thickness = max(slabbing.thickness_mm, spacing_mm)
    low, high = -spacing_mm / 2, float(positions[-1]) + spacing_mm / 2
    free = max(0.0, high - low - thickness)
    count = 1 + math.ceil(free / min(slabbing.step_mm, thickness) - 1e-6)
    half = min(thickness, high - low) / 2
    middles = np.linspace(low + half, high - half, count) if count > 1 else np.array([(low + high) / 2])
    inside = np.abs(positions[None] - middles[:, None]) <= half + 1e-6
    middles, inside = middles[inside.any(axis=1)], inside[inside.any(axis=1)]
    # Of two equally near slabs the earlier one owns a place.
    owner = np.argmin(np.round(np.abs(positions[None] - middles[:, None]), 6), axis=0)
    slabs = []
    for number in range(len(middles)):
        members, core = np.flatnonzero(inside[number]), np.flatnonzero(owner == number)
        if len(core):
            centre = float(positions[core[0]] + positions[core[-1]]) / 2
            slabs.append(Slab(int(members[0]), int(members[-1]), int(core[0]), int(core[-1]), centre))
    return tuple(slabs)


def project(frames: npt.NDArray[np.uint16], slab: Slab, projection: Projection) -> npt.NDArray[np.float32]:
    """One slab of `frames`, (places, rows, columns), as float32 (rows, columns)."""
    members = frames[slab.first : slab.last + 1]
    if projection is Projection.MAXIMUM:
        return np.asarray(members.max(axis=0), np.float32)
    return np.asarray(members.mean(axis=0, dtype=np.float32))
