"""Women of the simulated programme without images: lesions are as clear as they are, on average, in the images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from evaluation.protocol import Outcome, OutcomeRules
from screening.exam import Laterality
from training.phantom.model import FloatArray, Lesion, LesionKind, LesionTrace, Woman
from training.phantom.population import draw_woman
from training.phantom.programme import Course, Visit, plan
from training.phantom.readers import read
from training.phantom.registry import ExamRecord
from training.phantom.seeds import generator

RULES = OutcomeRules(
    window_months=27,
    minimum_negative_followup_months=24,
    interval_months=24,
    positives=(Outcome.SCREEN_DETECTED, Outcome.INTERVAL, Outcome.NEXT_ROUND),
)
"""Outcomes in a programme of two-year rounds."""


FIRST_DAY = date(2012, 1, 1)

# Conspicuity at 9 mm in a breast of density B, and its power of size: measured on women of seeds 5 and 21, of soft
# lesions of contrast 1 and of calcifications of 0.4.
_CLEARNESS = {
    LesionKind.SPICULATED_MASS: (6.5, 1.3),
    LesionKind.CIRCUMSCRIBED_MASS: (4.6, 1.3),
    LesionKind.ARCHITECTURAL_DISTORTION: (1.9, 1.4),
    LesionKind.MICROCALCIFICATIONS: (5.0, 0.5),
    LesionKind.CYST: (4.8, 1.3),
    LesionKind.FIBROADENOMA: (4.8, 1.3),
    LesionKind.VASCULAR_CALCIFICATION: (3.8, 0.8),
}
_CALCIFIED = (LesionKind.MICROCALCIFICATIONS, LesionKind.VASCULAR_CALCIFICATION)
_DENSITY = {"A": 0.2, "B": 0.0, "C": -0.4, "D": -0.55}


@dataclass(frozen=True)
class Screened:
    """A woman, and the exams that she had."""

    course: Course
    exams: tuple[ExamRecord, ...]


def screened(women: int, *, seed: int = 1, rounds: int = 3, cancer_share: float | None = 0.3) -> Iterator[Screened]:
    """Women in their order, each screened until the rounds are over or a cancer is found."""
    for index in range(women):
        course = plan(draw_woman(seed, index), rounds, cancer_share, FIRST_DAY, in_the_middle)
        exams = []
        for visit in course.visits:
            reading = read(course, visit, traces(course, visit))
            exams.append(ExamRecord(f"2.25.{seed}{index:06d}{visit.round_number}", visit, reading, "Site", "Maker"))
            if reading.detects:
                break
        yield Screened(course, tuple(exams))


def traces(course: Course, visit: Visit) -> list[LesionTrace]:
    """Both views' traces of all lesions that are there."""
    corner = (0.0, 0.0, 0.0)
    return [
        LesionTrace(lesion, diameter, (corner, (10.0, 10.0, 10.0)), conspicuity(course.woman, lesion, diameter, view))
        for lesion, diameter in course.present(visit.on)
        for view in range(2)
    ]


def conspicuity(woman: Woman, lesion: Lesion, diameter_mm: float, view: int) -> float:
    """How clearly a lesion of a woman shows; what hides it stays the same from round to round."""
    at_9_mm, power = _CLEARNESS[lesion.kind]
    hidden = 0.55 * generator(lesion.seed, view, "hidden").standard_normal()
    if lesion.kind in _CALCIFIED:
        shown = math.log(lesion.contrast / 0.4)
    else:
        shown = 0.12 * (lesion.contrast - 1) + _DENSITY[woman.density]
    return float(0.85 * at_9_mm * (diameter_mm / 9) ** power * math.exp(shown + hidden))


def in_the_middle(woman: Woman, laterality: Laterality, rng: np.random.Generator) -> FloatArray:
    """A place for any lesion, without looking at the breast's anatomy."""
    return np.array([woman.depth_mm / 2, 0.0, 0.0])
