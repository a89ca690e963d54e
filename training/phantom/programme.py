"""The simulated screening programme of one woman: when she is invited, what grows in her, and what she stands for.

All women are at their first round, so the first round finds the cancers of several years (a prevalent round), and the
later ones those of two years. What readers make of the exams is in `readers`, what a registry knows in `registry`.

Nine in ten women come again (93 % in the United Kingdom: Rutter et al., Breast 6:120, 1997; 69 % in Flanders: Van
Landeghem et al., Arch Public Health 64:81, 2006). Cancers lie on the left slightly more often (51 %, as in the United
States: Sughrue & Brody, PLoS ONE 9:e103313, 2014). How invasive cancers look is our choice, spiculated masses being the
most common sign: with the in-situ ones, 68 % are masses, 24 % calcifications and 9 % distortions, where those of one
programme showed as masses (48 %), calcifications (31 %), asymmetries (17 %, which are not simulated) and distortions
(3 %; Kayhan et al., Diagn Interv Radiol 22:508, 2016). Loss to follow-up, shifted appointments and contrasts are our
choice without a source.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from screening.exam import Laterality
from training.phantom.anatomy import random_site
from training.phantom.benign import Place, benign_lesions
from training.phantom.growth import BIRTH_MM, YEAR_DAYS, Observation, cancer_probability, diameter_mm, draw_cancer
from training.phantom.model import Lesion, LesionKind, Woman
from training.phantom.seeds import generator

ROUND_DAYS = 730.5
ENROLMENT_DAYS = 730
_ATTENDANCE = 0.9
_LOST = 0.03  # of the women leave the registry early
_JITTER_DAYS = 10.0
_SHORTEST_GAP_DAYS = 180.0

# Invasive cancers by how they look.
_INVASIVE_KINDS = (
    (LesionKind.SPICULATED_MASS, 0.55),
    (LesionKind.CIRCUMSCRIBED_MASS, 0.25),
    (LesionKind.ARCHITECTURAL_DISTORTION, 0.1),
    (LesionKind.MICROCALCIFICATIONS, 0.1),
)


@dataclass(frozen=True)
class Visit:
    """One exam that may take place: the number of its round, from 0, its day, and the woman's age on it in years."""

    round_number: int
    on: date
    age: float


@dataclass(frozen=True)
class Course:
    """What will become of a woman if screening finds nothing.

    `visits`: the exams she comes to, in order. `lesions`: all that she has at any time, the cancer among them.
    `surfaces`: the day on which she would notice her cancer, None without one that concerns the programme.
    `followed_until`: the end of her follow-up. `weight`: how many women of the population she stands for.
    """

    woman: Woman
    visits: tuple[Visit, ...]
    lesions: tuple[Lesion, ...]
    surfaces: date | None
    followed_until: date
    weight: float

    @property
    def cancer(self) -> Lesion | None:
        """Her cancer, if she has one."""
        return next((lesion for lesion in self.lesions if lesion.malignant), None)

    def present(self, on: date) -> tuple[tuple[Lesion, float], ...]:
        """The lesions that are there on a day, each with its diameter in mm."""
        sized = ((lesion, diameter_mm(lesion, on)) for lesion in self.lesions)
        return tuple((lesion, diameter) for lesion, diameter in sized if diameter > 0)


def plan(
    woman: Woman, rounds: int, cancer_share: float | None, first_round: date, place: Place = random_site
) -> Course:
    """The course of a woman through `rounds` rounds, from her seed and index alone.

    `cancer_share`: share of women who get a cancer that concerns the programme, in (0, 1); the weights undo it (inverse
    sampling probabilities). None: as in the population, every weight 1. `first_round`: the first day of the programme,
    in whose first two years women come for the first time. `place` says where lesions arise. Visits end at the day on
    which the cancer would surface.
    Raises ValueError without rounds, or for a share out of range.
    """
    if rounds < 1:
        raise ValueError(f"A programme has at least one round, not {rounds}.")
    if cancer_share is not None and not 0 < cancer_share < 1:
        raise ValueError(f"The share of women with cancer lies between 0 and 1, not at {cancer_share}.")
    rng = generator(woman.seed, woman.index, "course")
    start = first_round + timedelta(days=int(rng.integers(0, ENROLMENT_DAYS)))
    observation = Observation(ROUND_DAYS * (rounds - 1), ROUND_DAYS * (rounds + 1))
    natural = cancer_probability(int(woman.age), observation)
    share = natural if cancer_share is None else cancer_share
    ill = bool(rng.random() < share)
    days = _visit_days(rounds, rng)
    lost = rng.random() < _LOST
    until_day = rng.uniform(0, observation.until_day) if lost else observation.until_day
    lesions = list(benign_lesions(woman, start, place))
    surfaces_day = np.inf
    if ill:
        cancer, surfaces_day = _cancer(woman, observation, start, place)
        lesions.append(cancer)
    days = [day for day in days if day < min(surfaces_day, until_day + 1)]
    return Course(
        woman=woman,
        visits=tuple(_visit(woman, number, day, start) for number, day in enumerate(days) if day >= 0),
        lesions=tuple(lesions),
        surfaces=start + timedelta(days=int(surfaces_day)) if ill else None,
        followed_until=start + timedelta(days=int(until_day)),
        weight=natural / share if ill else (1 - natural) / (1 - share),
    )


def _visit_days(rounds: int, rng: np.random.Generator) -> list[float]:
    """Days of the rounds from the first exam; -1 for a round that she does not come to."""
    jitter, comes = rng.normal(0, _JITTER_DAYS, rounds), rng.random(rounds) < _ATTENDANCE
    return [
        0.0 if number == 0 else (number * ROUND_DAYS + float(jitter[number]) if comes[number] else -1.0)
        for number in range(rounds)
    ]


def _visit(woman: Woman, number: int, day: float, start: date) -> Visit:
    return Visit(number, start + timedelta(days=int(day)), woman.age + day / YEAR_DAYS)


def _cancer(woman: Woman, observation: Observation, start: date, place: Place) -> tuple[Lesion, float]:
    """Her cancer, and the day after her first exam on which it would surface."""
    rng = generator(woman.seed, woman.index, "cancer")
    course = draw_cancer(int(woman.age), observation, rng)
    laterality = Laterality.LEFT if rng.random() < 0.51 else Laterality.RIGHT
    kind, contrast = cancer_look(course.invasive, rng)
    site = place(woman, laterality, rng)
    lesion = Lesion(
        lesion_id=f"{woman.woman_id}-C",
        laterality=laterality,
        kind=kind,
        malignant=True,
        invasive=course.invasive,
        position_mm=(float(site[0]), float(site[1]), float(site[2])),
        born=start + timedelta(days=int(np.floor(course.born_day))),
        birth_mm=BIRTH_MM,
        doubling_days=course.doubling_days,
        contrast=contrast,
        seed=int(rng.integers(2**31)),
    )
    return lesion, course.surfaces_day


def cancer_look(invasive: bool, rng: np.random.Generator) -> tuple[LesionKind, float]:
    """How a cancer shows, and its contrast (see `Lesion`)."""
    kind = LesionKind.MICROCALCIFICATIONS
    if invasive:
        kind = _INVASIVE_KINDS[int(rng.choice(len(_INVASIVE_KINDS), p=[share for _, share in _INVASIVE_KINDS]))][0]
    calcified = kind is LesionKind.MICROCALCIFICATIONS
    return kind, rng.uniform(0.2, 0.6) if calcified else float(np.exp(rng.normal(0.0, 0.5)))
