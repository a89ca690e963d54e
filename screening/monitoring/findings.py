"""When to look: each alarm in one sentence, and what to look at first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from screening.monitoring.cells import DENSITIES, Cell, Machine
from screening.monitoring.drift import Measure, Point, Stream
from screening.monitoring.psi import chance_psi, psi

FIRST_LOOK = {
    Measure.SCORES: "the images themselves: inverted, cropped, other processing or window; then new software or parts "
    "at the machine; then other women (age, first round)",
    Measure.INCOMPLETE: "the reasons, in the machine's table; docs/score.md says what to do about each",
    Measure.RECALL: "the scores of the same weeks; if they have not moved, the operating point in the site profile",
    Measure.DENSITY: "compression and processing at the machine; then whether other women were invited",
}


@dataclass(frozen=True)
class Finding:
    """One machine's alarm on one measure. `now`: its last period gives alarm; else it is over.

    `since`: the first day from which the change is seen; `until`: the Monday of the last week with alarm.
    """

    machine: Machine
    measure: Measure
    since: date
    until: date
    now: bool
    sentence: str

    @property
    def first_look(self) -> str:
        return FIRST_LOOK[self.measure]


def findings(stream: Stream) -> Iterator[Finding]:
    """The alarms of a machine, each measure's last one."""
    for measure in Measure:
        alarming = [place for place, point in enumerate(stream.points) if measure in point.alarms]
        if not alarming:
            continue
        last = alarming[-1]
        first = last
        while first and measure in stream.points[first - 1].alarms:
            first -= 1
        if measure in stream.points[first].lasting:
            first = min(first, max(0, first + 1 - stream.points[first].charts[measure].steps))
        now = last == len(stream.points) - 1
        run = stream.points[first : last + 1]
        together = run[0].cell
        for point in run[1:]:
            together = together + point.cell
        verb = "Look at" if now else "No longer so, but look back at"
        yield Finding(
            machine=stream.machine,
            measure=measure,
            since=together.first,
            until=together.last,
            now=now,
            sentence=f"{verb} {stream.machine}: in {together.days} {_said(stream, measure, together, run[-1])}.",
        )


def _said(stream: Stream, measure: Measure, cell: Cell, last: Point) -> str:
    """What is the matter, in words and numbers of the whole alarm."""
    direction = last.lasting.get(measure, last.directions.get(measure, 0))
    stratum = stream.stratum
    if measure is Measure.SCORES:
        size, chance = psi(cell.bins, stratum.bins), chance_psi(cell.scored, sum(stratum.bins), len(cell.bins))
        how = {1: "scores are higher than", -1: "scores are lower than", 0: "scores are spread otherwise than"}
        moved = direction if Measure.SCORES in last.lasting or _tilted(cell, stratum.bins) else 0
        return f"{how[moved]} the reference's (PSI {size:.2f}, by chance up to {chance:.2f}; {cell.scored} exams)"
    if measure is Measure.DENSITY:
        total, known = sum(cell.densities), sum(stratum.densities.values())
        shares = ", ".join(
            f"{name} {cell.densities[place] / total:.0%} (reference {stratum.densities.get(name, 0) / known:.0%})"  # type: ignore[call-overload]
            for place, name in enumerate(DENSITIES)
        )
        return f"the mix of densities is another: {shares}; {total} exams"
    if measure is Measure.INCOMPLETE:
        assert stratum.incomplete is not None
        reference, count, total = stratum.incomplete, cell.incomplete, cell.exams
        what = "were not scored, or not with all their images"
    else:
        assert stratum.recalled is not None
        reference, count, total = stratum.recalled, cell.recalled, cell.scored
        what = "reach the operating point"
    often = ""
    if measure is Measure.INCOMPLETE and cell.reasons:
        often = f", most often for {cell.reasons.most_common(1)[0][0]}"
    usual = reference.count / reference.total
    return f"{count} of {total} exams ({count / total:.1%}) {what}{often}; reference {usual:.1%}"


def _tilted(cell: Cell, reference: tuple[float, ...]) -> bool:
    """Whether at least three quarters of the difference lies on one side: more high scores and fewer low ones."""
    shares = [a / max(1, sum(cell.bins)) - b / sum(reference) for a, b in zip(cell.bins, reference, strict=True)]
    half = len(shares) // 2
    moved = abs(sum(shares[:half]))
    return moved > 0.375 * sum(map(abs, shares))
