"""A small chart of a woman's scores over her rounds, as SVG: both breasts, the thresholds, and the day of diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from evaluation.checks import FloatArray

WIDTH, HEIGHT = 620, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 170, 26, 38
_LABEL = 13  # height of a label
_Across: TypeAlias = Callable[[float], float]
_LOG_FROM = 20  # ratio of the highest to the lowest score from which the axis is logarithmic


@dataclass(frozen=True)
class Line:
    """One breast's scores, or the exam's: `points` for an SVG polyline, `dots` (x, y, title)."""

    name: str
    points: str
    dots: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class Chart:
    """The chart in SVG units. `ticks`, `thresholds`: (y, text), a threshold with the y of its text between them.

    `rounds`: (x, text, kind), kind "missed", "found" or "". `diagnosis`: x, or None where it is not in the chart.
    `logarithmic`: whether the axis of scores is.
    """

    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    thresholds: tuple[tuple[float, float, str], ...]
    rounds: tuple[tuple[float, str, str], ...]
    diagnosis: float | None
    logarithmic: bool
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class _Scale:
    """The axis of scores: from `low` to `high`, both in decades where it is logarithmic."""

    low: float
    high: float
    logarithmic: bool

    def y(self, value: float) -> float:
        """Where a score stands; below the axis it stands at its end."""
        at = np.log10(value) if self.logarithmic and value > 0 else value if not self.logarithmic else self.low
        share = (max(at, self.low) - self.low) / (self.high - self.low)
        return float(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP))

    @property
    def ticks(self) -> list[float]:
        if self.logarithmic:
            return [10.0**power for power in range(int(np.ceil(self.low)), int(np.floor(self.high)) + 1)]
        return [self.low, (self.low + self.high) / 2, self.high]


def _scale(values: FloatArray) -> _Scale:
    """A scale that holds all values."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high >= _LOG_FROM * low:
        return _Scale(float(np.floor(np.log10(low))), float(np.log10(high)) + 0.1, True)
    low = min(low, 0.0)
    return _Scale(low, high if high > low else low + 1.0, False)


def chart(
    rounds: pd.DataFrame, missed: str, found: str, diagnosis: pd.Timestamp, thresholds: Mapping[str, float]
) -> Chart | None:
    """The chart of a woman's exams; None where none of them has a score.

    `rounds`: rows of `Cohort.exams` of one woman. `missed`, `found`: exam ids, `found` may be "". `thresholds`: on the
    scale of exam scores, by name; those off the scale (0, ∞) are left out.
    """
    exams = rounds[rounds["exam_score"].notna()].sort_values("exam_date", kind="stable")
    if not len(exams):
        return None
    limits = {name: value for name, value in thresholds.items() if 0 < value < np.inf}
    by_breast = bool((exams["left_score"].notna() | exams["right_score"].notna()).any())
    columns = (("right", "right_score"), ("left", "left_score")) if by_breast else (("exam", "exam_score"),)
    values = np.concatenate([exams[[column for _, column in columns]].to_numpy(np.float64).ravel(), [*limits.values()]])
    place = _scale(values[np.isfinite(values)])
    dates = exams["exam_date"].to_numpy().astype("datetime64[D]").astype(np.float64)
    day = float(np.datetime64(diagnosis, "D").astype(np.float64)) if pd.notna(diagnosis) else np.nan
    ends = np.nanmin([*dates, day]), np.nanmax([*dates, day])
    span = max(ends[1] - ends[0], 1.0)

    def across(when: float) -> float:
        return float(LEFT + 14 + (when - ends[0]) / span * (WIDTH - RIGHT - LEFT - 28))

    return Chart(
        lines=tuple(_line(name, exams, column, dates, across, place) for name, column in columns),
        ticks=tuple((place.y(value), f"{value:.2g}") for value in place.ticks),
        thresholds=_labelled({name: place.y(value) for name, value in limits.items()}),
        rounds=tuple(
            (across(when), str(date)[:7], "missed" if exam == missed else "found" if exam == found else "")
            for when, date, exam in zip(
                dates, exams["exam_date"].to_numpy().astype("datetime64[D]"), exams["exam_id"], strict=True
            )
        ),
        diagnosis=across(day) if np.isfinite(day) else None,
        logarithmic=place.logarithmic,
    )


def _line(name: str, exams: pd.DataFrame, column: str, dates: FloatArray, across: _Across, place: _Scale) -> Line:
    scores = exams[column].to_numpy(dtype=np.float64)
    dots = tuple(
        (across(when), place.y(score), f"{name} {score:.4g}")
        for when, score in zip(dates, scores, strict=True)
        if np.isfinite(score)
    )
    return Line(name, " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in dots), dots)


def _labelled(heights: Mapping[str, float]) -> tuple[tuple[float, float, str], ...]:
    """Each threshold's y, and the y of its label: from the top down, no label on another."""
    placed: list[tuple[float, float, str]] = []
    for name, y in sorted(heights.items(), key=lambda item: item[1]):
        free = placed[-1][1] + _LABEL if placed else -np.inf
        placed.append((y, max(y, free), name))
    # Where they ran out at the bottom, the last ones move up.
    most = float(HEIGHT - BOTTOM)
    for at in reversed(range(len(placed))):
        y, label, name = placed[at]
        placed[at] = (y, min(label, most), name)
        most = placed[at][1] - _LABEL
    return tuple(placed)
