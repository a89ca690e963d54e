"""Drift by site, manufacturer and week, with one probability of a false alarm for all of them together.

Two kinds of alarm look at each machine's periods:

- *sudden*: a period differs from the reference by an exact or chi-square test. The tests of all machines and measures
  whose period ends in the same week are judged together by Benjamini and Hochberg (J R Stat Soc B 1995;57:289), which
  without any change gives a false alarm in a week with no more than the level of that week.
- *lasting*: a two-sided CUSUM of each machine's periods leaves its limit. Each period is compared with the reference
  and all periods before it (self-starting: Hawkins, J Qual Technol 1987;19:167), so that the error of a reference of
  some hundred exams does not add up week by week; a chart that gives alarm learns no more.

Half of the false alarms that are granted for `weeks` weeks goes to each kind, of this an equal part to each week, or to
each chart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum

from scipy import stats

from screening.monitoring.cells import DENSITIES, Cell, Machine
from screening.monitoring.cusum import Cusum, limit_for
from screening.monitoring.reference import Reference, Share, Stratum
from screening.monitoring.two_sample import homogeneity_p, location_z, ridits, share_test


class Measure(StrEnum):
    """What is watched."""

    SCORES = "scores"
    INCOMPLETE = "incomplete"
    RECALL = "recall"
    DENSITY = "density"


CHARTED = (Measure.SCORES, Measure.INCOMPLETE, Measure.RECALL)
"""What has a direction, and so a chart."""


@dataclass(frozen=True)
class Settings:
    """How much is asked before an alarm.

    Parameters
    ----------
    false_alarms
        Probability of one or more false alarms within `weeks` weeks, over all machines and measures together.
    least
        Exams that a period must have; weeks with fewer are joined.
    """

    false_alarms: float = 0.05
    weeks: int = 52
    least: int = 50

    @property
    def weekly_level(self) -> float:
        """What the tests of one week may spend."""
        return self.false_alarms / 2 / self.weeks

    def chart_limit(self, charts: int) -> float:
        """The limit of each of so many two-sided charts."""
        return limit_for(self.false_alarms / 2 / max(1, charts) / 2, self.weeks)


@dataclass(frozen=True)
class Point:
    """One period of one machine: its p values, charts after it, and what gave alarm in it.

    `directions`: 1 where a measure is above the reference, -1 below. `lasting`: measures whose chart is beyond its
    limit, with its direction.
    """

    cell: Cell
    p: Mapping[Measure, float]
    directions: Mapping[Measure, int]
    charts: Mapping[Measure, Cusum]
    lasting: Mapping[Measure, int]
    sudden: frozenset[Measure] = frozenset()

    @property
    def alarms(self) -> frozenset[Measure]:
        return self.sudden | frozenset(self.lasting)


@dataclass(frozen=True)
class Stream:
    """One machine: its reference, its periods in order, and exams that are too few for a period as yet.

    `untested`: measures that are not compared, each with the reason.
    """

    machine: Machine
    stratum: Stratum
    reference: Reference
    points: tuple[Point, ...]
    open_period: Cell | None
    untested: Mapping[Measure, str] = field(default_factory=dict)


def watch(
    machine: Machine,
    reference: Reference,
    threshold: float | None,
    closed: Sequence[Cell],
    open_period: Cell | None,
    limit: Callable[[], float],
) -> Stream:
    """Compare one machine's periods with its reference. `limit` of the charts is asked for when it is needed.

    All machines together (`manufacturer` "") are watched for incomplete exams alone: what was rejected as a whole has
    no manufacturer, and the rest is watched machine by machine.
    """
    stratum = reference.stratum(machine.manufacturer)
    untested = _untested(machine, reference, stratum, threshold)
    baselines = _baselines(stratum, untested)
    charts = {measure: Cusum() for measure in baselines}
    scale = ridits(stratum.bins)
    points = []
    for cell in closed:
        p, directions = _tests(cell, stratum, scale, untested)
        lasting = {}
        for measure, baseline in baselines.items():
            z = _z(measure, cell, baseline, scale)
            if z is None:
                continue
            charts[measure] = charts[measure].step(z, limit())
            if direction := charts[measure].beyond(limit()):
                lasting[measure] = direction
            else:
                baseline.learn(measure, cell)
        points.append(Point(cell, p, directions, dict(charts), lasting))
    return Stream(machine, stratum, reference, tuple(points), open_period, untested)


def with_sudden(streams: Sequence[Stream], level: float) -> tuple[Stream, ...]:
    """Judge the tests of each week together. `level`: of one week."""
    weeks: dict[date, list[tuple[int, int, Measure, float]]] = defaultdict(list)
    for number, stream in enumerate(streams):
        for place, point in enumerate(stream.points):
            weeks[point.cell.last] += [(number, place, measure, p) for measure, p in point.p.items()]
    found: dict[tuple[int, int], set[Measure]] = defaultdict(set)
    for tests in weeks.values():
        adjusted = stats.false_discovery_control([p for *_, p in tests], method="bh")
        for (number, place, measure, _), p in zip(tests, adjusted, strict=True):
            if p <= level:
                found[number, place].add(measure)
    return tuple(
        replace(
            stream,
            points=tuple(
                replace(point, sudden=frozenset(found.get((number, place), ())))
                for place, point in enumerate(stream.points)
            ),
        )
        for number, stream in enumerate(streams)
    )


def charted(machine: Machine, reference: Reference, threshold: float | None) -> int:
    """How many charts a machine has."""
    untested = _untested(machine, reference, reference.stratum(machine.manufacturer), threshold)
    return sum(measure not in untested for measure in CHARTED)


@dataclass
class _Baseline:
    """What a chart compares with: the reference and all that it has learned since."""

    counts: list[float]

    def learn(self, measure: Measure, cell: Cell) -> None:
        self.counts = [a + b for a, b in zip(self.counts, _counts(measure, cell), strict=True)]


def _counts(measure: Measure, cell: Cell) -> Sequence[float]:
    """The counts that a chart compares: bins, or the share's count and the rest."""
    if measure is Measure.SCORES:
        return cell.bins
    share = _share(measure, cell)
    return share[0], share[1] - share[0]


def _share(measure: Measure, cell: Cell) -> tuple[int, int]:
    return (cell.incomplete, cell.exams) if measure is Measure.INCOMPLETE else (cell.recalled, cell.scored)


def _baselines(stratum: Stratum, untested: Mapping[Measure, str]) -> dict[Measure, _Baseline]:
    found = {}
    for measure in CHARTED:
        if measure not in untested:
            share = _reference_share(measure, stratum)
            counts = stratum.bins if share is None else (share.count, share.total - share.count)
            found[measure] = _Baseline([float(count) for count in counts])
    return found


def _reference_share(measure: Measure, stratum: Stratum) -> Share | None:
    return {Measure.INCOMPLETE: stratum.incomplete, Measure.RECALL: stratum.recalled}.get(measure)


def _z(measure: Measure, cell: Cell, baseline: _Baseline, scale: Sequence[float]) -> float | None:
    """How far a period is from the baseline, None where it holds nothing of the kind."""
    if measure is Measure.SCORES:
        return location_z(cell.bins, baseline.counts, scale) if cell.scored else None
    count, total = _share(measure, cell)
    if not total:
        return None
    yes, no = baseline.counts
    return share_test(count, total, int(yes), int(yes + no)).z


def _tests(
    cell: Cell, stratum: Stratum, scale: Sequence[float], untested: Mapping[Measure, str]
) -> tuple[dict[Measure, float], dict[Measure, int]]:
    """p values and directions of one period against the reference."""
    p: dict[Measure, float] = {}
    directions: dict[Measure, int] = {}
    if Measure.SCORES not in untested and cell.scored:
        p[Measure.SCORES] = homogeneity_p(cell.bins, stratum.bins)
        directions[Measure.SCORES] = _sign(location_z(cell.bins, stratum.bins, scale))
    for measure in (Measure.INCOMPLETE, Measure.RECALL):
        share, (count, total) = _reference_share(measure, stratum), _share(measure, cell)
        if measure not in untested and share is not None and total:
            p[measure] = share_test(count, total, share.count, share.total).p
            directions[measure] = _sign(count * share.total - share.count * total)
    if Measure.DENSITY not in untested and any(cell.densities):
        known = [stratum.densities.get(name, 0) for name in DENSITIES]  # type: ignore[call-overload]  # names are literals there
        p[Measure.DENSITY] = homogeneity_p(cell.densities, known)
    return p, directions


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _untested(machine: Machine, reference: Reference, stratum: Stratum, threshold: float | None) -> dict[Measure, str]:
    found = {}
    if not machine.manufacturer:
        by_machine = "is watched machine by machine"
        found = dict.fromkeys((Measure.SCORES, Measure.RECALL, Measure.DENSITY), by_machine)
    if stratum.incomplete is None:
        found[Measure.INCOMPLETE] = "the reference does not know it"
    if not stratum.densities:
        found.setdefault(Measure.DENSITY, "the reference does not know it")
    if threshold is None:
        found.setdefault(Measure.RECALL, "the site profile names no operating point")
    elif stratum.recalled is None:
        found.setdefault(Measure.RECALL, "the reference does not know it")
    elif reference.threshold != threshold:
        found.setdefault(Measure.RECALL, "the reference was made at another operating point")
    return found
