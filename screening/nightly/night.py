"""The folders of nights: one a day, each with a record of how far it has come."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path

from screening.errors import ConfigError
from screening.store import write_atomically
from screening.store.files import write_errors

LOG = logging.getLogger(__name__)

RECORD_NAME = "night.json"
DAYS_BACK = 14
"""A night that was broken off at most so many days ago is finished by the next start; an older one on request."""
STARTS = 3
"""A night that has failures only is tried again until it was started so often."""


class Stage(StrEnum):
    """How far a night has come. BEGUN: it was broken off. FAILURES: all is done, but some exams or images failed."""

    BEGUN = "begun"
    FAILURES = "failures"
    DONE = "done"


@dataclass(frozen=True)
class Night:
    """One night: its day, its site, how far it has come, and how often it was started. Times in ISO 8601, UTC.

    `problem` says why the last start did not finish it.
    """

    day: date
    site: str
    stage: Stage = Stage.BEGUN
    starts: int = 0
    begun: str = ""
    problem: str = ""

    def folder(self, out: Path) -> Path:
        """Where its results are."""
        return out / self.day.isoformat()

    def begin(self, out: Path) -> Night:
        """Write that it is being worked on. Raises StoreError if `out` cannot be written."""
        return self._write(
            replace(self, stage=Stage.BEGUN, starts=self.starts + 1, begun=self.begun or _now(), problem=""), out
        )

    def reached(self, out: Path, stage: Stage) -> Night:
        """Write that it has come as far as `stage`."""
        return self._write(replace(self, stage=stage), out)

    def broken(self, out: Path, problem: str) -> Night:
        """Write why it could not be finished."""
        return self._write(replace(self, problem=problem), out)

    def _write(self, night: Night, out: Path) -> Night:
        content = asdict(night) | {"day": night.day.isoformat()}
        write_atomically(self.folder(out) / RECORD_NAME, [json.dumps(content, indent=2).encode(), b"\n"])
        return night


def night_of(out: Path, day: date, site: str) -> Night:
    """The night of a day, new if there is none. Raises ConfigError if its folder is another site's or is damaged."""
    folder = out / day.isoformat()
    if not (folder / RECORD_NAME).is_file():
        return Night(day, site)
    night = _read(folder)
    if night.site != site:
        raise ConfigError(f"{folder} holds a night of site {night.site}; give site {site} another --out folder")
    return night


def nights(out: Path) -> Iterator[Night]:
    """All nights of `out`, by day. One with a damaged record is told in the log: it must not stop tonight's."""
    with write_errors(out):
        folders = sorted(out.iterdir()) if out.is_dir() else []
    for folder in folders:
        if (folder / RECORD_NAME).is_file():
            try:
                yield _read(folder)
            except ConfigError as error:
                LOG.warning("%s", error)


def broken_off(out: Path, site: str, day: date) -> tuple[Night, ...]:
    """The site's nights that the next start takes up again, but for that of `day`, at most DAYS_BACK days around it.

    Around, not before: a clock that was set back must not hide them.
    """
    return tuple(
        night
        for night in nights(out)
        if night.site == site
        and (night.stage is Stage.BEGUN or (night.stage is Stage.FAILURES and night.starts < STARTS))
        and night.day != day
        and abs((night.day - day).days) <= DAYS_BACK
    )


def _read(folder: Path) -> Night:
    try:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        night = Night(
            day=date.fromisoformat(record["day"]),
            site=str(record["site"]),
            stage=Stage(record["stage"]),
            starts=int(record["starts"]),
            begun=str(record["begun"]),
            problem=str(record["problem"]),
        )
        if night.day.isoformat() != folder.name:
            raise ValueError("of another day")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder / RECORD_NAME} is no record of that night: remove the file; results beside it are kept"
        ) from error
    return night


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
