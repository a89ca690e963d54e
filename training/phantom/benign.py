"""The benign lesions of a woman: what is common in breasts, looks like something, and is no cancer.

How often each kind shows is our choice, within orders of magnitude of what is published:

- Cysts, in 24 % of women of 40 and 6 % of 70: most come before the menopause, few after 60 (Sterns, Surg Gynecol Obstet
  174:36, 1992).
- Fibroadenomas, in 15 % and 8 %: 7 to 13 % of women at breast clinics, 9 % of autopsies (Greenberg et al., J Gen Intern
  Med 13:640, 1998).
- Calcified vessels, in 1 % and 26 %: 2 % of women below 50 (Loberant et al., J Clin Imaging Sci 2013, of 1,786 women),
  26 % from 60 to 79 (Iribarren et al., Circ Cardiovasc Imaging 15:e013526, 2022). In between ours are too many.
- Radial scars, the benign architectural distortion, in 0.8 %: more, and larger ones, than the 0.06 % with a mean of
  6 mm that a screening programme diagnosed (Eur J Radiol 15:18, 1992).

Benign calcifications in clusters, all sizes, their spread and all contrasts are our choice without a source.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from screening.exam import Laterality
from training.phantom.growth import YEAR_DAYS
from training.phantom.model import FloatArray, Lesion, LesionKind, Woman
from training.phantom.seeds import generator

Place = Callable[[Woman, Laterality, np.random.Generator], FloatArray]
"""Draws where in a breast a lesion arises: (3,), breast frame, mm."""


@dataclass(frozen=True)
class _Habit:
    """How often a kind shows in a breast at 40 and at 70 years, its median size in mm, log spread and contrasts."""

    at_40: float
    at_70: float
    size_mm: float
    spread: float
    contrasts: tuple[float, float]


# Lesions a breast: the shares of women in the text above are those of two breasts.
_HABITS = {
    LesionKind.CYST: _Habit(0.14, 0.03, 9.0, 0.35, (-0.2, 0.3)),
    LesionKind.FIBROADENOMA: _Habit(0.08, 0.04, 11.0, 0.35, (-0.2, 0.5)),
    LesionKind.MICROCALCIFICATIONS: _Habit(0.04, 0.07, 7.0, 0.4, (0.12, 0.4)),
    LesionKind.VASCULAR_CALCIFICATION: _Habit(0.005, 0.15, 28.0, 0.3, (0.15, 0.45)),
    LesionKind.ARCHITECTURAL_DISTORTION: _Habit(0.004, 0.004, 12.0, 0.3, (0.4, 1.0)),
}


def benign_lesions(woman: Woman, start: date, place: Place) -> tuple[Lesion, ...]:
    """Benign lesions of both breasts over the years after `start`, most of them there from the first exam on.

    They keep their size. A cyst may come up between rounds. Kinds are drawn independently of each other and of cancer.
    """
    rng = generator(woman.seed, woman.index, "benign")
    lesions: list[Lesion] = []
    for laterality in Laterality:
        for kind, habit in _HABITS.items():
            often = float(np.interp(woman.age, (40, 70), (habit.at_40, habit.at_70)))
            for _ in range(rng.poisson(often)):
                site = place(woman, laterality, rng)
                born = start - timedelta(days=3650)
                if kind is LesionKind.CYST and rng.random() < 0.3:
                    born = start + timedelta(days=int(rng.uniform(0, 6 * YEAR_DAYS)))
                name = f"{woman.woman_id}-B{len(lesions)}"
                lesions.append(benign_lesion(name, laterality, kind, site, born, rng))
    return tuple(lesions)


def benign_lesion(
    lesion_id: str, laterality: Laterality, kind: LesionKind, site: FloatArray, born: date, rng: np.random.Generator
) -> Lesion:
    """A benign lesion of a kind at a place, (3,) in the breast frame, mm; size and contrast are drawn."""
    habit = _HABITS[kind]
    return Lesion(
        lesion_id=lesion_id,
        laterality=laterality,
        kind=kind,
        malignant=False,
        invasive=False,
        position_mm=(float(site[0]), float(site[1]), float(site[2])),
        born=born,
        birth_mm=float(habit.size_mm * np.exp(habit.spread * rng.standard_normal())),
        doubling_days=math.inf,
        contrast=float(rng.uniform(*habit.contrasts)),
        seed=int(rng.integers(2**31)),
    )
