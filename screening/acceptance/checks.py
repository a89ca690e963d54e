"""What is judged: each check states its criterion, what was found, and pass, attention or fail.

The limits are rules of thumb that a physicist can overrule with a reason: they say where to look, not what is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from screening.acceptance.score_statistics import exams_needed, percent
from screening.exam import View
from screening.headers import CONTRADICTION
from screening.imaging.quality import WRONG_SIDE
from screening.result import ExamResult, Status

NIGHT_HOURS = 8


class Verdict(StrEnum):
    """How a check ended. ATTENTION: somebody must look at it and say why it may stay so."""

    PASS = "pass"
    ATTENTION = "attention"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One check: what is asked, what was found, and the verdict."""

    name: str
    criterion: str
    finding: str
    verdict: Verdict


def graded(share: float, fine: float, bearable: float) -> Verdict:
    """By a share that should be small: at most `fine`, or at least `bearable`."""
    return Verdict.PASS if share <= fine else Verdict.ATTENTION if share <= bearable else Verdict.FAIL


def sample_size(results: Sequence[ExamResult], wanted: float) -> Check:
    """Whether there are enough exams to choose an operating point."""
    scored, needed = sum(result.status is Status.SCORED for result in results), exams_needed(wanted)
    women = len({result.woman_id for result in results})
    return Check(
        "Size of the sample",
        f"at least {needed} scored exams, consecutive and unselected, for a recall rate of {percent(wanted)}",
        f"{scored} of {len(results)} exams scored, of {women} women",
        Verdict.PASS if scored >= needed else Verdict.ATTENTION,
    )


def headers_usable(unexpected: int, mammograms: int) -> Check:
    """How many mammograms are lost to their headers or to the profile."""
    share = unexpected / max(1, mammograms)
    return Check(
        "Mammograms that are not scored",
        "at most 1 % of the mammograms (attention up to 5 %); files that are none, and views not meant for "
        "screening, do not count",
        f"{unexpected} of {mammograms} ({share:.1%}); the reasons and what to change stand below",
        graded(share, 0.01, 0.05) if mammograms else Verdict.FAIL,
    )


def exams_scored(results: Sequence[ExamResult]) -> Check:
    """Share of exams that get a score."""
    lost = sum(result.status is not Status.SCORED for result in results)
    share = lost / max(1, len(results))
    return Check(
        "Exams that get a score",
        "at least 98 % (attention down to 95 %)",
        f"{len(results) - lost} of {len(results)} ({1 - share:.1%})" if results else "no exam was found",
        graded(share, 0.02, 0.05) if results else Verdict.FAIL,
    )


def views_complete(results: Sequence[ExamResult]) -> Check:
    """Share of scored exams with both standard views of both breasts."""
    scored = [result for result in results if result.status is Status.SCORED]
    incomplete = 0
    for result in scored:
        views = {(one.image.laterality, one.image.view) for one in result.images if one.status is Status.SCORED}
        incomplete += sum((view in (View.CC, View.MLO)) for _, view in views) < 4
    share = incomplete / max(1, len(scored))
    return Check(
        "Exams with CC and MLO of both breasts",
        "at least 90 % of the scored exams (attention down to 50 %)",
        f"{len(scored) - incomplete} of {len(scored)} ({1 - share:.1%})" if scored else "no exam was scored",
        graded(share, 0.10, 0.50) if scored else Verdict.FAIL,
    )


def contradictions(results: Sequence[ExamResult]) -> Check:
    """Headers that contradict themselves on view or side."""
    images = [one for result in results for one in result.images]
    found = sum(any(text.startswith(CONTRADICTION) for text in one.image.warnings) for one in images)
    share = found / max(1, len(images))
    return Check(
        "Headers that contradict themselves on view or side",
        "none (attention up to 1 % of the images)",
        f"{found} of {len(images)} images",
        graded(share, 0.0, 0.01),
    )


def sides(results: Sequence[ExamResult]) -> Check:
    """Images whose pixels show the chest wall on the other side than the header says."""
    images = [one for result in results for one in result.images if one.status is Status.SCORED]
    found = sum(any(text.startswith(WRONG_SIDE) for text in one.warnings) for one in images)
    share = found / max(1, len(images))
    return Check(
        "Side in the pixels against the header",
        "at most 1 % of the images with the chest wall on the other side (attention up to 5 %): more is equipment "
        "that stores mirrored images",
        f"{found} of {len(images)} images",
        graded(share, 0.01, 0.05),
    )


def quality(results: Sequence[ExamResult]) -> Check:
    """Images with a fault that a radiographer would see."""
    images = [one for result in results for one in result.images if one.status is Status.SCORED]
    found = sum(bool(set(one.warnings) - set(one.image.warnings)) for one in images)
    share = found / max(1, len(images))
    return Check(
        "Image quality (cut off, blur, saturation, muscle, nipple, side)",
        "at most 20 % of the images with any such fault (attention up to 50 %)",
        f"{found} of {len(images)} images ({share:.1%})",
        graded(share, 0.2, 0.5),
    )


def repeatability(repeated: int, unequal: int) -> Check:
    """Whether the same exam gives the same result."""
    return Check(
        "Repeatability",
        "exams scored twice, in another order, give the same regions and scores, to the last bit",
        f"{repeated - unequal} of {repeated} exams" if repeated else "no exam was scored twice",
        Verdict.FAIL if unequal else Verdict.PASS if repeated else Verdict.ATTENTION,
    )


def speed(seconds: Sequence[float], night_exams: int) -> Check:
    """Whether a night suffices on this machine."""
    allowed = NIGHT_HOURS * 3600 / night_exams
    criterion = f"{night_exams} exams in a night of {NIGHT_HOURS} hours on this machine: {allowed:.3g} s an exam"
    if not seconds:
        return Check("Time per exam", criterion, "no exam was scored", Verdict.FAIL)
    mean = float(np.mean(seconds))
    return Check(
        "Time per exam",
        criterion,
        f"mean {mean:.2f} s, 95th percentile {np.quantile(seconds, 0.95):.2f} s over {len(seconds)} exams "
        "(decoding, preparation and network; pictures and writing come on top)",
        graded(mean / allowed, 0.5, 1.0),
    )
