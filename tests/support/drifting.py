"""A programme's exams for tests of monitoring: weeks of machines, with a change from some week on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from scipy.special import expit

from screening.monitoring.records import ExamRecord

MODEL = "spots-1+abcdef012345"
SITE = "north"
FIRST = date(2026, 1, 5)
"""A Monday."""
THRESHOLD = float(expit(-5 + 1.5))


@dataclass(frozen=True)
class Way:
    """How a machine's exams are: the mean of their logits in standard deviations, rates, mix of densities A to D."""

    shift: float = 0.0
    spread: float = 1.0
    incomplete: float = 0.05
    densities: tuple[float, float, float, float] = (0.1, 0.4, 0.4, 0.1)


def exams(
    rng: np.random.Generator, number: int, monday: date, way: Way | None = None, manufacturer: str = "HOLOGIC"
) -> Iterator[ExamRecord]:
    """A week's exams of one machine. A fifth of those that are incomplete are not scored at all."""
    way = way or Way()
    logits = -5 + way.shift + way.spread * rng.standard_normal(number)
    other = -5 + way.shift + way.spread * rng.standard_normal(number)
    for place in range(number):
        incomplete = rng.random() < way.incomplete
        unscored = incomplete and rng.random() < 0.2
        score = float(expit(logits[place]))
        yield ExamRecord(
            exam_id=f"1.2.{monday:%Y%m%d}.{manufacturer}.{place}",
            day=monday + timedelta(days=int(rng.integers(5))),
            site=SITE,
            manufacturer=manufacturer,
            model_id=MODEL,
            score=None if unscored else score,
            category=None if unscored else 1 + min(9, int(10 * rng.random())),
            breasts=() if unscored else (score, float(min(score, expit(other[place])))),
            density="" if unscored else str(rng.choice(list("ABCD"), p=way.densities)),
            reasons=("unknown-view",) if incomplete else (),
        )


def programme(
    seed: int, weeks: int, number: int, machines: int = 1, changed: Way | None = None, since: int = 0
) -> list[ExamRecord]:
    """Weeks of so many exams a machine; the first machine is another way from week `since` on."""
    rng = np.random.default_rng(seed)
    found: list[ExamRecord] = []
    for week in range(weeks):
        for machine in range(machines):
            way = changed if changed is not None and machine == 0 and week >= since else Way()
            found += exams(rng, number, FIRST + timedelta(weeks=week), way, f"MAKER {machine}")
    return found


def sample(seed: int, number: int) -> list[ExamRecord]:
    """An accepted sample, before the programme began."""
    taken = exams(np.random.default_rng(seed), number, FIRST - timedelta(weeks=4), manufacturer="MAKER 0")
    return [replace(one, exam_id=f"{one.exam_id}.s") for one in taken]
