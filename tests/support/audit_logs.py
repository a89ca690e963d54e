"""Audit logs for tests: a clock that is told, and lines to tamper with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from screening.audit_log import ChainedLog
from screening.audit_log.chained_log import log_files

KEY = b"a key of sixteen characters"


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, moment: datetime = datetime(2026, 1, 15, 3, tzinfo=UTC)) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **parts: float) -> None:
        self.moment += timedelta(**parts)


def filled(folder: Path, records: int = 8, key: bytes | None = None) -> ChainedLog:
    """A log of so many records, in one file."""
    log = ChainedLog(folder, key, now=Clock())
    for number in range(records):
        log.append("exam", {"exam_id": f"1.2.{number}", "score": 0.001 * number})
    return log


def lines(folder: Path) -> list[bytes]:
    """The lines of a log's only file."""
    (path,) = log_files(folder)
    return path.read_bytes().splitlines()


def write_lines(folder: Path, content: list[bytes]) -> None:
    """Write the only file anew."""
    (path,) = log_files(folder)
    path.write_bytes(b"".join(line + b"\n" for line in content))
