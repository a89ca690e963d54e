"""One figure as it is printed: its value and interval, or the reason why there is none, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.intervals import Interval

FEW_POSITIVES = 10
"""Below this many positives a figure is printed with a warning."""


@dataclass(frozen=True)
class Figure:
    """A figure on a set of cases.

    `key`: short and stable, the metric's name in MLflow ("auc", "sensitivity@specificity=0.966"). `label`: for people.
    `group`: the heading it stands under ("discrimination", "operating points", "localisation", "calibration",
    "programme", "second reader", "biopsy", "audit"). `interval`: None where the figure cannot be computed, and then
    `reason` is the sentence that says why. `n` cases, `n_positive` of them positive; `denominator` says in words what
    is counted ("12,345 exams of 10,002 women, 98 positive"). `subgroup`: "all", or "density: C". `threshold`: at which
    score, where the figure has one. `benchmark`: published or desirable levels beside it, with their source.
    `per`: what the value is multiplied by in print (1,000 for rates per 1,000).
    """

    key: str
    label: str
    group: str
    interval: Interval | None
    n: int
    n_positive: int
    denominator: str
    reason: str = ""
    subgroup: str = "all"
    threshold: float | None = None
    benchmark: str = ""
    note: str = ""
    per: int = 1

    def __post_init__(self) -> None:
        if (self.interval is None) != bool(self.reason):
            raise ValueError(f"figure {self.key!r} needs either an interval or a reason")

    @property
    def warning(self) -> str:
        """A sentence where too few positives make the figure unsure; empty otherwise."""
        if self.interval is not None and self.n_positive < FEW_POSITIVES:
            return f"only {self.n_positive} positive{'' if self.n_positive == 1 else 's'}"
        return ""
