"""What the figures of one cohort are computed from, each part made once, when the first figure asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluation import operating_points
from evaluation.bootstrap import OverClusters
from evaluation.cases import Cases, Counted, cases
from evaluation.cohort import Cohort
from evaluation.localisation import Marks
from evaluation.operating_points import Decisions
from evaluation.protocol import Protocol
from evaluation.roc import RocStatistics


@dataclass(frozen=True, eq=False)
class Inputs:
    """A cohort, its cases as arrays, its marks (or why there are none) and its operating points."""

    cohort: Cohort

    @property
    def protocol(self) -> Protocol:
        return self.cohort.protocol

    @cached_property
    def cases(self) -> Cases:
        return cases(self.cohort)

    @cached_property
    def per_woman(self) -> OverClusters:
        """From statistics over the cases to statistics over the women, sampling weights included."""
        return OverClusters(self.cases.woman, len(self.cases.women), self.cases.weight)

    @cached_property
    def roc(self) -> RocStatistics:
        return RocStatistics(self.cases.positive, self.cases.score)

    @cached_property
    def marks(self) -> Marks | str:
        return operating_points.marks_of(self.cohort)

    @cached_property
    def decisions(self) -> tuple[Decisions, ...]:
        return operating_points.decide(self.cohort, self.cases, self.marks)

    @cached_property
    def counted(self) -> Counted:
        """All cases, in numbers and words."""
        return self.cases.counted(np.ones(len(self.cases), dtype=np.bool_))
