"""Exams by site, manufacturer and week, as counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from screening.monitoring.records import ExamRecord
from screening.monitoring.reference import BINS, Reference

DENSITIES = ("A", "B", "C", "D")
_NO_TENTHS = (0,) * BINS
_NO_DENSITIES = (0,) * len(DENSITIES)


@dataclass(frozen=True, order=True)
class Machine:
    """Whose exams: a site's and a manufacturer's, or all of a site's (`manufacturer` "")."""

    site: str
    manufacturer: str = ""

    def __str__(self) -> str:
        return f"{self.site or 'unnamed site'}, {self.manufacturer or 'all machines'}"


@dataclass(frozen=True)
class Cell:
    """The exams of one machine in a period of whole weeks: the first day's and the last week's Monday, and counts.

    `bins`: scores by the reference's edges. `categories`: exams by the bundle's ten categories. `incomplete`: exams
    that were not scored, or an image of which was not; `reasons` of them. `recalled`: exams that reach the operating
    point.
    """

    first: date
    last: date
    exams: int = 0
    scored: int = 0
    bins: tuple[int, ...] = _NO_TENTHS
    categories: tuple[int, ...] = _NO_TENTHS
    incomplete: int = 0
    recalled: int = 0
    densities: tuple[int, ...] = _NO_DENSITIES
    reasons: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Cell) -> Cell:
        return Cell(
            min(self.first, other.first),
            max(self.last, other.last),
            self.exams + other.exams,
            self.scored + other.scored,
            _sum(self.bins, other.bins),
            _sum(self.categories, other.categories),
            self.incomplete + other.incomplete,
            self.recalled + other.recalled,
            _sum(self.densities, other.densities),
            self.reasons + other.reasons,
        )

    @property
    def days(self) -> str:
        """The period in words."""
        if self.first == self.last:
            return f"the week of {self.first:%Y-%m-%d}"
        return f"the weeks of {self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}"


def weeks_of(exams: Iterable[ExamRecord], reference: Reference, threshold: float | None) -> dict[str, dict[date, Cell]]:
    """One site's cells: by manufacturer ("" for all), by the week's Monday. Exams without a day must be left out."""
    tallies: dict[tuple[str, date], _Tally] = defaultdict(_Tally)
    for exam in exams:
        assert exam.day is not None
        monday = exam.day - timedelta(days=exam.day.weekday())
        for name in {"", exam.manufacturer}:
            tallies[name, monday].add(exam, reference, threshold)
    cells: dict[str, dict[date, Cell]] = defaultdict(dict)
    for (name, monday), tally in sorted(tallies.items()):
        cells[name][monday] = tally.cell(monday)
    return dict(cells)


def periods(weeks: Sequence[Cell], least: int) -> tuple[tuple[Cell, ...], Cell | None]:
    """Join weeks, in their order, until a period has `least` exams; and what is left at the end, too few as yet."""
    closed: list[Cell] = []
    open_period: Cell | None = None
    for week in weeks:
        open_period = week if open_period is None else open_period + week
        if open_period.exams >= least:
            closed.append(open_period)
            open_period = None
    return tuple(closed), open_period


@dataclass
class _Tally:
    """A cell that is being counted."""

    exams: int = 0
    scored: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    categories: list[int] = field(default_factory=lambda: [0] * BINS)
    incomplete: int = 0
    recalled: int = 0
    densities: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, exam: ExamRecord, reference: Reference, threshold: float | None) -> None:
        self.exams += 1
        self.incomplete += exam.incomplete
        self.densities[exam.density] += 1
        self.reasons.update(set(exam.reasons))
        value = reference.value(exam)
        if value is None or exam.score is None:
            return
        self.scored += 1
        self.bins[reference.bin(value)] += 1
        if exam.category is not None:
            self.categories[exam.category - 1] += 1
        self.recalled += threshold is not None and exam.score >= threshold

    def cell(self, monday: date) -> Cell:
        return Cell(
            first=monday,
            last=monday,
            exams=self.exams,
            scored=self.scored,
            bins=tuple(self.bins),
            categories=tuple(self.categories),
            incomplete=self.incomplete,
            recalled=self.recalled,
            densities=tuple(self.densities[name] for name in DENSITIES),
            reasons=self.reasons,
        )


def _sum(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(first, second, strict=True))
