"""From a fused logit to a probability at screening prevalence, a category, and operating points."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Score = Annotated[float, Field(ge=0, le=1)]


class OperatingPoint(BaseModel):
    """A threshold on the score that met a target on stated data. `per`: what the target counts, image or exam."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    per: str
    target: str
    threshold: Score
    chosen_on: str


class SlabScale(BaseModel):
    """What brings the answers of a slab network onto the scale of the network for 2D images.

    logit = slope · answer + intercept: the same logit then means the same probability of cancer, so that views of both
    kinds can be read together. `fitted_on`: which data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    slope: float = Field(gt=0)
    intercept: float
    fitted_on: str


class Calibration(BaseModel):
    """Platt scaling with the prior shifted to screening prevalence (Platt 1999; Saerens et al. 2002).

    score = 1 / (1 + exp(−(slope · logit + intercept))); `intercept` includes the shift to `prevalence`.
    `category_thresholds`: nine scores, rising; category = 1 + how many of them the score reaches. `slabs`: where a
    network of their own reads the slabs of volumes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    slope: float = Field(gt=0)
    intercept: float
    prevalence: float = Field(gt=0, lt=1)
    fitted_on: str
    category_thresholds: tuple[Score, Score, Score, Score, Score, Score, Score, Score, Score]
    categories_from: str
    operating_points: tuple[OperatingPoint, ...]
    slabs: SlabScale | None = None

    @model_validator(mode="after")
    def _thresholds_rise(self) -> Calibration:
        if list(self.category_thresholds) != sorted(self.category_thresholds):
            raise ValueError("category_thresholds must rise")
        if not self.category_thresholds[-1] > 0:
            raise ValueError("category_thresholds must end above 0")
        return self

    def score(self, logit: float) -> float:
        """Calibrated probability of cancer, in [0, 1]."""
        z = self.slope * logit + self.intercept
        # Both branches are the logistic function; each is exact where the other would overflow.
        return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))

    def category(self, score: float) -> int:
        """1 (least) to 10 (most suspicious tenth of a screened population)."""
        return 1 + bisect_right(self.category_thresholds, score)

    def operating_point(self, name: str) -> OperatingPoint:
        """The operating point called `name`; raises `KeyError` with the names there are."""
        for point in self.operating_points:
            if point.name == name:
                return point
        raise KeyError(f"{name!r}; the bundle has {', '.join(p.name for p in self.operating_points)}")
