"""The drift page, its table, and the section of the morning summary."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from screening.monitoring.cells import Cell
from screening.monitoring.charts import ceiling, chart, shares, span_of, tenths
from screening.monitoring.drift import Measure, Stream
from screening.monitoring.psi import chance_psi, psi
from screening.monitoring.report import DriftReport
from screening.monitoring.two_sample import exact_interval
from screening.store import write_atomically

PAGE, DATA, TABLE = "drift.html", "drift.json", "drift.csv"
COLUMNS = (
    *("site", "manufacturer", "first_week", "last_week", "exams", "scored", "psi", "psi_by_chance"),
    *("incomplete", "recalled", "density_a", "density_b", "density_c", "density_d"),
    *("p_scores", "p_incomplete", "p_recall", "p_density", "alarms"),
)


@dataclass(frozen=True)
class MorningSection:
    """What the morning summary shows of drift: a line for each machine, and `look`, what somebody has to look at."""

    heading: str
    verdict: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    look: tuple[str, ...]


def write_drift(out: Path, report: DriftReport) -> None:
    """Write `drift.html`, `drift.json` and `drift.csv` into `out`. Raises StoreError if it cannot be written."""
    data = json.dumps(report.record(), indent=1, ensure_ascii=True)
    write_atomically(out / DATA, [data.encode(), b"\n"])
    write_atomically(out / TABLE, (line.encode("utf-8", "backslashreplace") for line in _table(report)))
    write_atomically(out / PAGE, [_page(report).encode("utf-8", "backslashreplace")])


def morning_section(report: DriftReport) -> MorningSection:
    """The report in short. Values are not escaped: whoever puts them into HTML does."""
    lines = [_line(stream) for stream in report.streams if stream.points or stream.open_period]
    return MorningSection(
        heading="Drift",
        verdict=report.headline,
        columns=("Machine", "Last judged", "Exams", "PSI (by chance)", "Incomplete", "Recalled", "Now"),
        rows=tuple(
            (line.name, line.period, line.exams, line.psi, line.incomplete, line.recalled, line.state) for line in lines
        ),
        notes=(*report.notes, _granted(report)),
        look=tuple(finding.sentence for finding in report.findings if finding.now),
    )


@dataclass(frozen=True)
class _Line:
    """A machine's last period in words."""

    name: str
    period: str
    exams: str
    psi: str
    incomplete: str
    recalled: str
    state: str
    alarm: bool


def _line(stream: Stream) -> _Line:
    if not stream.points:
        waiting = stream.open_period.exams if stream.open_period else 0
        return _Line(str(stream.machine), "not yet", f"{waiting} so far", "", "", "", "too few exams", False)
    point = stream.points[-1]
    cell = point.cell
    alarms = ", ".join(measure.value for measure in Measure if measure in point.alarms)
    return _Line(
        name=str(stream.machine),
        period=cell.days.removeprefix("the "),
        exams=str(cell.exams),
        psi="" if Measure.SCORES in stream.untested or not cell.scored else _psi_words(stream, cell),
        incomplete=_share_words(cell.incomplete, cell.exams),
        recalled="" if Measure.RECALL in stream.untested else _share_words(cell.recalled, cell.scored),
        state=f"look: {alarms}" if alarms else "as expected",
        alarm=bool(alarms),
    )


def _psi_words(stream: Stream, cell: Cell) -> str:
    size = psi(cell.bins, stream.stratum.bins)
    return f"{size:.2f} ({chance_psi(cell.scored, sum(stream.stratum.bins), len(cell.bins)):.2f})"


def _share_words(count: int, total: int) -> str:
    if not total:
        return "none scored"
    low, high = exact_interval(count, total)
    return f"{count / total:.1%} ({low:.1%} to {high:.1%})"


def _granted(report: DriftReport) -> str:
    settings = report.settings
    return (
        f"Without any change, the probability of one or more false alarms in {settings.weeks} weeks is at most "
        f"{settings.false_alarms:.0%}, over all machines and measures together; a period has at least "
        f"{settings.least} exams."
    )


@dataclass(frozen=True)
class _Panel:
    """One machine on the page: its line, its charts with their headings, and its periods as rows."""

    line: _Line
    source: str
    charts: tuple[tuple[str, Markup], ...]
    untested: tuple[tuple[str, str], ...]
    periods: tuple[dict[str, Any], ...]


def _panels(report: DriftReport) -> Iterator[_Panel]:
    span = span_of(report.streams)
    for stream in report.streams:
        charts: list[tuple[str, str]] = []
        if span is not None and stream.points:
            charts = list(_charts(stream, span, report.limit))
        by_machine = not stream.machine.manufacturer
        yield _Panel(
            line=_line(stream),
            source=stream.reference.source,
            # Our own drawing, in which every text is escaped.
            charts=tuple((title, Markup(svg)) for title, svg in charts),
            untested=() if by_machine else tuple((m.value, why) for m, why in stream.untested.items()),
            periods=tuple(_period(stream, place) for place in reversed(range(len(stream.points)))),
        )


def _charts(stream: Stream, span: tuple[Any, int], limit: float) -> Iterator[tuple[str, str]]:
    cells = [point.cell for point in stream.points]
    if Measure.SCORES not in stream.untested:
        yield "Scores by tenth of the reference", tenths(stream, span)
        yield "Scores: sums of what is more or less", chart(stream, Measure.SCORES, span, limit)
    top = ceiling([exact_interval(cell.incomplete, cell.exams)[1] for cell in cells])
    yield (
        "Not, or not wholly, scored",
        shares(stream, Measure.INCOMPLETE, span, lambda cell: (cell.incomplete, cell.exams), top),
    )
    if Measure.RECALL not in stream.untested:
        top = ceiling([exact_interval(cell.recalled, cell.scored)[1] for cell in cells if cell.scored])
        yield (
            "At or above the operating point",
            shares(stream, Measure.RECALL, span, lambda cell: (cell.recalled, cell.scored), top),
        )


def _period(stream: Stream, place: int) -> dict[str, Any]:
    point = stream.points[place]
    cell = point.cell
    return {
        "days": cell.days.removeprefix("the "),
        "exams": cell.exams,
        "psi": _psi_words(stream, cell) if cell.scored else "none scored",
        "incomplete": _share_words(cell.incomplete, cell.exams),
        "reasons": ", ".join(f"{code} {number}" for code, number in cell.reasons.most_common(3)),
        "recalled": "" if Measure.RECALL in stream.untested else _share_words(cell.recalled, cell.scored),
        "densities": " / ".join(map(str, cell.densities)) if any(cell.densities) else "",
        "alarms": ", ".join(
            f"{measure.value} ({'sudden' if measure in point.sudden else 'lasting'})"
            for measure in sorted(point.alarms)
        ),
    }


def _page(report: DriftReport) -> str:
    return (
        _environment()
        .get_template("drift.html")
        .render(
            report=report,
            now=[finding for finding in report.findings if finding.now],
            over=[finding for finding in report.findings if not finding.now],
            panels=sorted(_panels(report), key=lambda panel: not panel.line.alarm),
            granted=_granted(report),
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        # The batch report's style sheet is this page's too.
        loader=ChoiceLoader([PackageLoader("screening.monitoring"), PackageLoader("screening.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _table(report: DriftReport) -> Iterator[str]:
    yield _csv(COLUMNS)
    for machine in report.record()["machines"]:
        for period in machine["periods"]:
            p = period["p"]
            yield _csv(
                (
                    *(machine["site"], machine["manufacturer"]),
                    *(period[name] for name in COLUMNS[2:10]),
                    *period["densities"],
                    *(p.get(measure.value) for measure in Measure),
                    " ".join(sorted({*period["sudden"], *period["lasting"]})),
                )
            )


def _csv(cells: Any) -> str:
    texts = ["" if cell is None else str(cell) for cell in cells]
    return (
        ",".join('"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text for text in texts)
        + "\n"
    )
