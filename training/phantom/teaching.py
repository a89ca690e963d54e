"""More lesions than anybody has: women to teach a detector with, of whom each breast shows several examples.

What a network can learn of a simulated breast is in its lesions, and a breast costs the same with one or with five. No
programme is made of such women: their lesions are no course of a disease.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np

from screening.exam import Laterality
from training.phantom.anatomy import random_site
from training.phantom.benign import Place, benign_lesion
from training.phantom.model import FloatArray, Lesion, LesionKind, Woman
from training.phantom.programme import Course, cancer_look
from training.phantom.seeds import generator

APART_MM = 25.0
"""Between any two lesions of a breast: nearer ones would be each other's surroundings."""

_SIZE_MM, _SIZE_SPREAD, _SIZES_MM = 9.0, 0.55, (3.5, 40.0)
"""Median, log spread and limits of the cancers' diameters: about those at which a programme finds them."""
_BENIGN = (
    (LesionKind.CYST, 0.3),
    (LesionKind.FIBROADENOMA, 0.25),
    (LesionKind.MICROCALCIFICATIONS, 0.2),
    (LesionKind.VASCULAR_CALCIFICATION, 0.15),
    (LesionKind.ARCHITECTURAL_DISTORTION, 0.1),
)
_TRIES = 8


def with_more_lesions(course: Course, mean: float, place: Place = random_site) -> Course:
    """The course with `mean` further lesions a breast (Poisson), there from the first exam on, half of them malignant.

    One that finds no place `APART_MM` from the others is left out.
    """
    woman = course.woman
    rng = generator(woman.seed, woman.index, "teaching")
    lesions = list(course.lesions)
    for laterality in Laterality:
        for _ in range(rng.poisson(mean)):
            site = _free_site(woman, laterality, lesions, place, rng)
            if site is not None:
                lesions.append(_lesion(course, laterality, site, len(lesions), rng))
    return replace(course, lesions=tuple(lesions))


def _free_site(
    woman: Woman, laterality: Laterality, lesions: list[Lesion], place: Place, rng: np.random.Generator
) -> FloatArray | None:
    taken = np.array([one.position_mm for one in lesions if one.laterality is laterality]).reshape(-1, 3)
    for _ in range(_TRIES):
        site = place(woman, laterality, rng)
        if (np.linalg.norm(taken - site, axis=1) >= APART_MM).all():
            return site
    return None


def _lesion(course: Course, laterality: Laterality, site: FloatArray, number: int, rng: np.random.Generator) -> Lesion:
    name = f"{course.woman.woman_id}-T{number}"
    born = course.visits[0].on - timedelta(days=1)
    if rng.random() < 0.5:
        kind = _BENIGN[int(rng.choice(len(_BENIGN), p=[share for _, share in _BENIGN]))][0]
        return benign_lesion(name, laterality, kind, site, born, rng)
    size = float(np.clip(_SIZE_MM * np.exp(_SIZE_SPREAD * rng.standard_normal()), *_SIZES_MM))
    invasive = bool(rng.random() < 0.85)
    kind, contrast = cancer_look(invasive, rng)
    return Lesion(
        lesion_id=name,
        laterality=laterality,
        kind=kind,
        malignant=True,
        invasive=invasive,
        position_mm=(float(site[0]), float(site[1]), float(site[2])),
        born=born,
        birth_mm=size,
        doubling_days=math.inf,
        contrast=contrast,
        seed=int(rng.integers(2**31)),
    )
