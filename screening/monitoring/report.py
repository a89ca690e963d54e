"""From exams to a drift report: every machine compared, what gives alarm, and what could not be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from screening.errors import ConfigError
from screening.monitoring.cells import Cell, Machine, periods, weeks_of
from screening.monitoring.drift import Measure, Settings, Stream, charted, watch, with_sudden
from screening.monitoring.findings import Finding, findings
from screening.monitoring.psi import chance_psi, psi
from screening.monitoring.records import ExamRecord, Records
from screening.monitoring.reference import Reference, digest


@dataclass(frozen=True)
class DriftReport:
    """All machines of one model's exams. `notes`: what was left out or not compared, in sentences.

    `limit`: of the CUSUM charts. `today`: exams of the week that it is in are not judged yet.
    """

    model_id: str
    streams: tuple[Stream, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    settings: Settings
    limit: float
    threshold: float | None
    today: date
    exams: int

    @property
    def look(self) -> bool:
        """Whether there is something to look at now."""
        return any(finding.now for finding in self.findings)

    @property
    def machines(self) -> tuple[Stream, ...]:
        """The streams of one manufacturer each."""
        return tuple(stream for stream in self.streams if stream.machine.manufacturer)

    @property
    def headline(self) -> str:
        """When to look, in one sentence."""
        now = [finding for finding in self.findings if finding.now]
        if now:
            where = "; ".join(sorted({str(finding.machine) for finding in now}))
            changes = "1 change stands" if len(now) == 1 else f"{len(now)} changes stand"
            return f"{changes} out: look at {where}."
        judged = [point.cell for stream in self.machines for point in stream.points]
        if not judged:
            return (
                f"Nothing can be said yet: no machine has {self.settings.least} exams in weeks that have ended "
                f"({self.exams} exams were read)."
            )
        last = max(cell.last for cell in judged) + timedelta(days=6)
        number = sum(cell.exams for cell in judged)
        machines = "1 machine" if len(self.machines) == 1 else f"{len(self.machines)} machines"
        return f"Nothing to look at: {number} exams of {machines} until {last:%Y-%m-%d} are as expected."

    def record(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            "look": self.look,
            "headline": self.headline,
            "model_id": self.model_id,
            "today": self.today.isoformat(),
            "exams": self.exams,
            "settings": {
                "false_alarms": self.settings.false_alarms,
                "weeks": self.settings.weeks,
                "least_exams": self.settings.least,
                "chart_limit": round(self.limit, 3),
                "weekly_level": self.settings.weekly_level,
            },
            "operating_point": self.threshold,
            "findings": [
                {
                    "site": one.machine.site,
                    "manufacturer": one.machine.manufacturer,
                    "measure": one.measure.value,
                    "since": one.since.isoformat(),
                    "until": one.until.isoformat(),
                    "now": one.now,
                    "sentence": one.sentence,
                    "first_look": one.first_look,
                }
                for one in self.findings
            ],
            "notes": list(self.notes),
            "machines": [_stream_record(stream) for stream in self.streams],
        }


def drift(
    records: Records,
    references: Sequence[Reference],
    threshold: float | None = None,
    settings: Settings | None = None,
    today: date | None = None,
) -> DriftReport:
    """Compare exams, of one model, with what they should be like.

    Parameters
    ----------
    references
        Of the same model: a site's own, and the bundle's (`site` "") for sites without.
    threshold
        The operating point: exams with this score and more are recalled.
    today
        The week that it is in has not ended, so its exams are not judged yet. Default: the machine's today.

    Raises
    ------
    ConfigError
        If a site has no reference, or one of another model.
    """
    settings, today = settings or Settings(), today or date.today()
    kept, notes = _judged(records, today)
    by_site: dict[str, list[ExamRecord]] = defaultdict(list)
    for exam in kept:
        by_site[exam.site].append(exam)
    model_id = next((one.model_id for one in records.exams if one.model_id), references[0].model_id)
    jobs: list[tuple[Machine, Reference, list[Cell]]] = []
    for site, exams in sorted(by_site.items()):
        reference = _reference_for(site, model_id, references)
        for name, weeks in sorted(weeks_of(exams, reference, threshold).items()):
            jobs.append((Machine(site, name), reference, [cell for _, cell in sorted(weeks.items())]))
    limit = settings.chart_limit(sum(charted(machine, reference, threshold) for machine, reference, _ in jobs))
    streams = [
        watch(machine, reference, threshold, *periods(weeks, settings.least), lambda: limit)
        for machine, reference, weeks in jobs
    ]
    judged = with_sudden(streams, settings.weekly_level)
    found = sorted(
        (finding for stream in judged for finding in findings(stream)),
        key=lambda one: (not one.now, one.machine, one.measure),
    )
    return DriftReport(
        model_id=model_id,
        streams=judged,
        findings=tuple(found),
        notes=tuple(notes),
        settings=settings,
        limit=limit,
        threshold=threshold,
        today=today,
        exams=len(records.exams),
    )


def _judged(records: Records, today: date) -> tuple[list[ExamRecord], list[str]]:
    """The exams of weeks that have ended, and notes on the others."""
    monday = today - timedelta(days=today.weekday())
    dated = [one for one in records.exams if one.day is not None]
    kept = [one for one in dated if one.day is not None and one.day < monday]
    notes = list(records.notes)
    if undated := len(records.exams) - len(dated):
        notes.append(f"{undated} exams have no date and no batch.json beside them; they are in no week.")
    later = sum(one.day is not None and one.day > today for one in dated)
    if later:
        notes.append(f"{later} exams have a date after {today}; check the clocks of the machines.")
    if running := len(dated) - len(kept) - later:
        notes.append(f"{running} exams of the running week are judged when it has ended.")
    return kept, notes


def _reference_for(site: str, model_id: str, references: Sequence[Reference]) -> Reference:
    of_model = [one for one in references if one.model_id == model_id]
    by_site = {one.site: one for one in of_model}
    found = by_site.get(site) or by_site.get("")
    if found is None:
        others = sorted({one.model_id for one in references} - {model_id})
        why = f"; there are references of {', '.join(others)}" if others else ""
        raise ConfigError(
            f"site {site or 'without name'} has no reference for the model {model_id}{why}: make one with "
            "`screening accept` or `screening drift --save-reference`, or name the bundle with --model"
        )
    return found


def _stream_record(stream: Stream) -> dict[str, Any]:
    return {
        "site": stream.machine.site,
        "manufacturer": stream.machine.manufacturer,
        "reference": {"source": stream.reference.source, "sha256": digest(stream.reference)},
        "untested": {measure.value: why for measure, why in stream.untested.items()},
        "waiting_exams": stream.open_period.exams if stream.open_period else 0,
        "periods": [
            {
                "first_week": point.cell.first.isoformat(),
                "last_week": point.cell.last.isoformat(),
                "exams": point.cell.exams,
                "scored": point.cell.scored,
                **_psi_record(point.cell, stream),
                "bins": list(point.cell.bins),
                "categories": list(point.cell.categories),
                "incomplete": point.cell.incomplete,
                "reasons": dict(sorted(point.cell.reasons.items())),
                "recalled": None if Measure.RECALL in stream.untested else point.cell.recalled,
                "densities": list(point.cell.densities),
                "p": {measure.value: float(f"{p:.3g}") for measure, p in point.p.items()},
                "charts": {
                    measure.value: [round(chart.up, 3), round(chart.down, 3)] for measure, chart in point.charts.items()
                },
                "sudden": sorted(point.sudden),
                "lasting": {measure.value: direction for measure, direction in point.lasting.items()},
            }
            for point in stream.points
        ],
    }


def _psi_record(cell: Cell, stream: Stream) -> dict[str, float | None]:
    if not cell.scored:
        return {"psi": None, "psi_by_chance": None}
    return {
        "psi": round(psi(cell.bins, stream.stratum.bins), 4),
        "psi_by_chance": round(chance_psi(cell.scored, sum(stream.stratum.bins), len(cell.bins)), 4),
    }
