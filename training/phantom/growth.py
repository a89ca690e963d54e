"""How simulated tumours grow, when they would surface by symptoms, and how many women have one.

Time runs in days from a woman's first exam. A cancer begins (at `BIRTH_MM`) at a rate that rises with age, grows
exponentially, and surfaces once it is as large as a woman notices; a screening programme finds it before, or does not.

- Growth: median volume doubling times of 80 days below 50 years, 157 from 50 to 70 and 188 above (Peer et al., Cancer
  71:3547, 1993). Their spread is our choice, between that of the tumours that these authors could measure and the
  widest published one: from 10 to 20 mm within 1.2 months to 6.3 years in nine of ten (Weedon-Fekjaer et al., Breast
  Cancer Res 10:R41, 2008).
- Surfacing: 568 cancers of up to 50 mm that women found themselves had a median of 21 mm (Tumor size and detection in
  breast cancer: self-examination and clinical breast examination are at their limit; diagnosed from 1990 to 2006), the
  interval cancers of Norway's programme a mean of 21.2 mm (Hofvind et al., Eur J Epidemiol 22:447, 2007). The spread of
  that size is our choice, and so is that an in-situ cancer surfaces at 55 mm.
- In situ: 15 % of cancers; 13 to 14 % of those detected by Denmark's programme (Lynge et al., BMC Cancer 17:897, 2017).
- How many begin is our choice, tuned so that a programme with two years between rounds detects about six cancers in
  1,000 exams and sees about two interval cancers after them, as the Dutch one (Sankatsing et al., BMC Cancer 18:256,
  2018). That the rate rises with the square of age is our choice, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from training.phantom.model import FloatArray, Lesion

BIRTH_MM = 2.0
"""Diameter at which a simulated cancer begins: well below what mammography shows."""

SHOWS_MM = 4.0
"""Diameter below which a cancer is not looked for: readers find next to none of them."""

LARGEST_MM = 60.0
"""Growth stops here: later, exponential growth is no longer a description of tumours."""

YEAR_DAYS = 365.25

_MEDIAN_AGES, _MEDIAN_DAYS = (45.0, 60.0, 75.0), (80.0, 157.0, 188.0)
_LOG_SPREAD = 0.9
# What women notice. An in-situ cancer is seldom noticed.
_SURFACING_MM, _SURFACING_SPREAD = 21.0, 0.4
_IN_SITU_SURFACING_MM = 55.0
_IN_SITU_SHARE = 0.15
# Cancers that begin, a year and woman of 60, and how that rises with age.
_RATE_AT_60, _RATE_POWER = 0.0041, 2.0
_LOOK_BACK_DAYS = 15 * YEAR_DAYS


@dataclass(frozen=True)
class Cancer:
    """A cancer's course without screening: days from the first exam at which it begins and at which it surfaces."""

    born_day: float
    surfaces_day: float
    doubling_days: float
    invasive: bool


@dataclass(frozen=True)
class Observation:
    """How long a programme can see a woman: days from her first exam to the last one, and to the end of follow-up."""

    last_exam_day: float
    until_day: float


def diameter_mm(lesion: Lesion, on: date) -> float:
    """The lesion's diameter on a day, in mm; 0 before it is born. One that does not grow keeps `birth_mm`.

    Volume doubles every `doubling_days`, so the diameter doubles in three times as long.
    """
    days = (on - lesion.born).days
    if days < 0:
        return 0.0
    if math.isinf(lesion.doubling_days):
        return lesion.birth_mm
    doublings = min(days / (3 * lesion.doubling_days), 60.0)
    return max(lesion.birth_mm, min(LARGEST_MM, lesion.birth_mm * math.pow(2.0, doublings)))


def median_doubling_days(age: float) -> float:
    """Median volume doubling time of a cancer by the woman's age (Peer 1993), in between on a logarithmic scale."""
    return float(np.exp(np.interp(age, _MEDIAN_AGES, np.log(_MEDIAN_DAYS))))


@lru_cache(maxsize=1024)
def cancer_probability(age: int, observation: Observation) -> float:
    """How likely a woman of `age` at her first exam has a cancer that concerns the programme (see `draw_cancer`)."""
    onset, rate = _onsets(age)
    within = onset < observation.until_day
    onset, rate = onset[within], rate[within]
    spread = np.exp(_LOG_SPREAD * _normal_quantiles(48))
    sizes = np.exp(_SURFACING_SPREAD * _normal_quantiles(12))
    doubling = _medians(age, onset)[:, None, None] * spread[:, None]
    expected = 0.0
    for share, size in ((1 - _IN_SITU_SHARE, _SURFACING_MM), (_IN_SITU_SHARE, _IN_SITU_SURFACING_MM)):
        surfaces = onset[:, None, None] + _sojourn_days(size * sizes, doubling)
        concerned = _concerns(onset[:, None, None], surfaces, doubling, observation).mean(axis=(1, 2))
        expected += share * float((concerned * rate).sum())
    return 1.0 - math.exp(-expected)


def draw_cancer(age: int, observation: Observation, rng: np.random.Generator) -> Cancer:
    """A cancer of a woman who has one that concerns the programme.

    It surfaces after her first exam, and either reaches `SHOWS_MM` before the last exam or surfaces before the end of
    follow-up; any other leaves no trace in the images or in the registry. Fast tumours pass between two exams and slow
    ones wait for them, as in any programme (length bias). A cancer that began more than 15 years before the first exam
    is left out.
    """
    onsets, rate = _onsets(age)
    share = rate / rate.sum()
    while True:
        onset = float(rng.choice(onsets, p=share)) + rng.uniform(-0.5, 0.5) * _STEP_DAYS
        invasive = bool(rng.random() >= _IN_SITU_SHARE)
        doubling = float(_medians(age, np.array([onset]))[0] * np.exp(_LOG_SPREAD * rng.standard_normal()))
        size = _SURFACING_MM if invasive else _IN_SITU_SURFACING_MM
        size *= math.exp(_SURFACING_SPREAD * rng.standard_normal())
        surfaces = onset + float(_sojourn_days(np.array(size), np.array(doubling)))
        if _concerns(np.array(onset), np.array(surfaces), np.array(doubling), observation):
            return Cancer(onset, surfaces, doubling, invasive)


_STEP_DAYS = 30.0


def _onsets(age: int) -> tuple[FloatArray, FloatArray]:
    """Middles of months around the first exam, in days, and how many cancers begin in each, a woman."""
    onset = np.arange(-_LOOK_BACK_DAYS, 15 * YEAR_DAYS, _STEP_DAYS) + _STEP_DAYS / 2
    at_age = np.clip(age + onset / YEAR_DAYS, 0, None)
    return onset, _RATE_AT_60 * (at_age / 60) ** _RATE_POWER * _STEP_DAYS / YEAR_DAYS


def _medians(age: int, onset: FloatArray) -> FloatArray:
    return np.exp(np.interp(age + onset / YEAR_DAYS, _MEDIAN_AGES, np.log(_MEDIAN_DAYS)))


def _sojourn_days(surfacing_mm: FloatArray, doubling_days: FloatArray) -> FloatArray:
    """Days from birth to symptoms."""
    doublings = 3 * np.log2(np.maximum(surfacing_mm, 1.5 * BIRTH_MM) / BIRTH_MM)
    return np.asarray(doublings * doubling_days, dtype=np.float64)


def _concerns(onset: FloatArray, surfaces: FloatArray, doubling: FloatArray, observation: Observation) -> FloatArray:
    shows = onset + _sojourn_days(np.array(SHOWS_MM), doubling)
    seen = (shows < observation.last_exam_day) | (surfaces < observation.until_day)
    return np.asarray((surfaces > 0) & seen, dtype=np.float64)


def _normal_quantiles(count: int) -> FloatArray:
    """Middles of `count` equally likely parts of the standard normal distribution."""
    return np.asarray(ndtri((np.arange(count) + 0.5) / count), dtype=np.float64)
