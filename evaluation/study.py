"""One evaluation: every figure that a cohort allows, and the curves that go with them."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.calibration import Reliability
from evaluation.cohort import Cohort
from evaluation.figure import Figure
from evaluation.froc import FrocCurve
from evaluation.roc import RocCurve


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found. `figures`: of all exams and of every subgroup, in the order of print. Curves are None
    where they cannot be computed; the figure of the same group gives the reason.
    `comparisons`: paired differences to other systems on the same women; their `subgroup` names the other system.
    """

    cohort: Cohort
    figures: tuple[Figure, ...]
    roc: RocCurve | None
    froc: FrocCurve | None
    reliability: Reliability | None
    comparisons: tuple[Figure, ...] = ()
