"""The morning summary: what the night did, as one record that both `summary.json` and `summary.html` are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from screening.errors import StoreError
from screening.monitoring.page import MorningSection
from screening.nightly.advice import Urgency, advice
from screening.nightly.delivering import Delivered
from screening.nightly.earlier import Known
from screening.nightly.night import Night, Stage
from screening.nightly.todo import Todo
from screening.report.figures import NOTICE
from screening.store import Counts, Ends, write_atomically

JSON_NAME, HTML_NAME = "summary.json", "summary.html"
FORMAT = 1
"""Of `summary.json`; grows when a key changes its meaning."""
LAST_NIGHTS = 7


@dataclass(frozen=True)
class Worked:
    """What this run did for one night. `seconds` by step: source, score, objects. `problem`: why it is not finished."""

    night: Night
    counts: Counts = field(default_factory=lambda: Counts(Ends(), Ends()))
    known: Known = field(default_factory=Known)
    seconds: Mapping[str, float] = field(default_factory=dict)
    seconds_per_exam: float | None = None
    interrupted: bool = False

    @property
    def problem(self) -> str:
        """Why the night could not be finished, "" if it was."""
        if self.interrupted:
            return "stopped before all exams were done"
        return self.night.problem

    @property
    def done(self) -> bool:
        """Whether the night is finished."""
        return self.night.stage is not Stage.BEGUN


@dataclass(frozen=True)
class Morning:
    """All that the summary tells. `worked`: tonight first, then earlier nights that this run took up again.

    `again`: the command that runs a night again, without its day.
    """

    site: str
    mode: str
    decided_by: str
    model: Mapping[str, str]
    worked: tuple[Worked, ...]
    delivered: Delivered
    last_nights: tuple[Mapping[str, Any], ...]
    todos: tuple[Todo, ...]
    started: datetime
    finished: datetime
    seconds: Mapping[str, float]
    drift: MorningSection | None = None
    again: str = ""

    @property
    def urgency(self) -> Urgency:
        """That of what is most urgent."""
        return max((one.urgency for one in self.todos), default=Urgency.NOTHING)

    def record(self) -> dict[str, Any]:
        """The summary as JSON-ready values. It names no woman; exams are told by number, or by their own UID."""
        tonight = self.worked[0]
        return {
            "format": FORMAT,
            "notice": NOTICE,
            "site": self.site,
            "day": tonight.night.day.isoformat(),
            "verdict": self.urgency.name.lower(),
            "headline": _headline(self.todos, self.urgency),
            "todo": [{"urgency": t.urgency.name.lower(), "what": t.what, "do": t.do} for t in self.todos],
            "again": self.again,
            "mode": self.mode,
            "decided_by": self.decided_by,
            "model": dict(self.model),
            "started": _utc(self.started),
            "finished": _utc(self.finished),
            "seconds": {step: round(seconds, 1) for step, seconds in self.seconds.items()},
            "nights": [_night_record(one) for one in self.worked],
            "delivery": _delivery_record(self.delivered, self.finished),
            "drift": _section_record(self.drift),
            "last_nights": list(self.last_nights),
        }


def read_last_nights(out: Path, site: str, day: date) -> tuple[dict[str, Any], ...]:
    """One line for each of the site's LAST_NIGHTS nights before `day` that has a summary, the latest first."""
    found: list[dict[str, Any]] = []
    for folder in sorted(_day_folders(out), reverse=True):
        if folder.name >= day.isoformat() or len(found) == LAST_NIGHTS:
            continue
        try:
            record = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))
            if record["format"] == FORMAT and record["site"] == site:
                found.append(_line(record))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            continue  # that night has no summary, or not one of ours: it is only not compared with
    return tuple(found)


def write_json(record: Mapping[str, Any], out: Path) -> None:
    """Write `summary.json` into `out`. Raises StoreError if it cannot be written."""
    write_atomically(out / JSON_NAME, [json.dumps(record, indent=2, ensure_ascii=True).encode(), b"\n"])


def _day_folders(out: Path) -> list[Path]:
    try:
        return [folder for folder in out.iterdir() if _is_day(folder.name)]
    except OSError as error:
        raise StoreError(f"{out} cannot be read ({error.strerror}): give another --out folder.") from error


def _is_day(name: str) -> bool:
    try:
        return date.fromisoformat(name).isoformat() == name
    except ValueError:
        return False


def _headline(todos: Sequence[Todo], urgency: Urgency) -> str:
    if urgency is Urgency.NOTHING:
        return "Nothing needs doing."
    number = sum(one.urgency is urgency for one in todos)
    things = f"{number} thing{'s' if number != 1 else ''}"
    more = len(todos) - number
    tail = f", {more} more to look at" if more else ""
    return f"{things} to do now{tail}." if urgency is Urgency.ACT else f"{things} to look at today."


def _night_record(worked: Worked) -> dict[str, Any]:
    counts = worked.counts
    return {
        "day": worked.night.day.isoformat(),
        "finished": worked.done,
        "starts": worked.night.starts,
        "problem": worked.problem,
        "exams": _ends(counts.exams, worked.known.exams),
        "instances": _ends(counts.instances, worked.known.instances),
        "reasons": [
            {
                "status": status,
                "code": code,
                "exams": exams,
                "instances": instances,
                "urgency": advice(code).urgency.name.lower(),
                "do": advice(code).do,
            }
            for (status, code), (exams, instances) in sorted(
                counts.reasons.items(), key=lambda item: (-advice(item[0][1]).urgency, item[0])
            )
        ],
        "seconds": {step: round(seconds, 1) for step, seconds in worked.seconds.items()},
        "seconds_per_exam": None if worked.seconds_per_exam is None else round(worked.seconds_per_exam, 3),
    }


def _ends(ends: Ends, known: int) -> dict[str, int]:
    return {
        "found": ends.total + known,
        "scored": ends.scored,
        "rejected": ends.rejected,
        "failed": ends.failed,
        "unfinished": ends.unfinished,
        "done_before": known,
    }


def _delivery_record(delivered: Delivered, now: datetime) -> dict[str, Any]:
    return {
        "done": delivered.done,
        "objects_not_made": [{"exam": exam, "why": sentence} for exam, sentence in delivered.problems],
        "destinations": [
            {
                "name": one.name,
                "in_use": one.present,
                "arrived_now": one.arrived,
                **{state.value: number for state, number in one.counts.items()},
                "oldest_waiting": None if one.oldest is None else _utc(one.oldest),
                "oldest_waiting_hours": None
                if one.oldest is None
                else round(max(0.0, (now - one.oldest).total_seconds() / 3600), 1),
                "problem": one.problem,
                "failures": dict(one.failures or {}),
            }
            for one in delivered.destinations
        ],
    }


def _section_record(section: MorningSection | None) -> dict[str, Any] | None:
    if section is None:
        return None
    return {
        "heading": section.heading,
        "verdict": section.verdict,
        "columns": list(section.columns),
        "rows": [list(row) for row in section.rows],
        "notes": list(section.notes),
        "look": list(section.look),
    }


def _line(record: Mapping[str, Any]) -> dict[str, Any]:
    """What later mornings compare with, of one earlier summary."""
    night = record["nights"][0]
    waiting = sum(one["queued"] for one in record["delivery"]["destinations"] if one["in_use"])
    return {
        "day": str(record["day"]),
        "verdict": str(record["verdict"]),
        "seconds_per_exam": night["seconds_per_exam"],
        "hours": round(float(record["seconds"]["total"]) / 3600, 2),
        "waiting": int(waiting),
        "not_scored_share": not_scored_share(night),
        **{key: int(night["exams"][key]) for key in ("found", "scored", "rejected", "failed", "unfinished")},
        "new": int(night["exams"]["found"]) - int(night["exams"]["done_before"]),
    }


def not_scored_share(night: Mapping[str, Any]) -> float | None:
    """Share of a night's new exams that were rejected or failed; None if there were none."""
    exams = night["exams"]
    ended = exams["scored"] + exams["rejected"] + exams["failed"]
    return None if not ended else round((exams["rejected"] + exams["failed"]) / ended, 4)


def tonight_line(record: Mapping[str, Any]) -> dict[str, Any]:
    """The present night as a line of the comparison."""
    return _line(record)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
