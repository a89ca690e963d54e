"""Removing files after their time, so that what is left still verifies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from screening.audit_log.chained_log import ChainedLog, Head, log_files
from screening.audit_log.record import record_of
from screening.audit_log.verify import PRUNED, verify
from screening.errors import ConfigError
from screening.store.files import write_errors

LEAST_MONTHS = 6
"""Logs of a high-risk system are kept for six months at least (Regulation (EU) 2024/1689, articles 19 and 26(6))."""


@dataclass(frozen=True)
class Pruned:
    """What was removed, and where the log ends now."""

    files: tuple[str, ...]
    records: int
    head: Head


def prune(
    folder: Path, key: bytes | None = None, keep_months: int = LEAST_MONTHS, now: datetime | None = None
) -> Pruned:
    """Remove the oldest files of which every record is more than `keep_months` old; never the newest file.

    The record `pruned`, with each file's number of records and last hash, is written first: from it the remaining log
    verifies, also if the machine dies between two files.

    Raises
    ------
    ConfigError
        If less than six months are asked for, or the log is not whole: what may be evidence is not removed.
    StoreError
        If the record cannot be written or a file not removed.
    """
    if keep_months < LEAST_MONTHS:
        raise ConfigError(f"an audit log is kept for {LEAST_MONTHS} months at least, not {keep_months}")
    found = verify(folder, key)
    if not found.whole:
        raise ConfigError(f"the audit log in {folder} is not whole; see `screening verify-log`; nothing is removed")
    log = ChainedLog(folder, key)
    before = _months_before(now or datetime.now(UTC), keep_months)
    old: list[Path] = []
    for path in log_files(folder)[:-1]:
        if _last_time(path, key) >= before:
            break
        old.append(path)
    if not old:
        return Pruned((), 0, log.head())
    files = [_listed(path, key) for path in old]
    first = record_of(_records(old[0])[0], key).sequence
    head = log.append(PRUNED, {"files": files, "keep_months": keep_months})
    with write_errors(folder):
        for path in old:
            path.unlink()
    return Pruned(tuple(path.name for path in old), int(str(files[-1]["next_sequence"])) - first, head)


def _listed(path: Path, key: bytes | None) -> dict[str, object]:
    last = record_of(_records(path)[-1], key)
    return {"name": path.name, "next_sequence": last.sequence + 1, "last_hash": last.hash}


def _last_time(path: Path, key: bytes | None) -> datetime:
    return max(datetime.fromisoformat(record_of(line, key).time) for line in _records(path))


def _records(path: Path) -> list[bytes]:
    """The lines of a whole file that are records; bytes that were torn are told by the record after them."""
    return [line for line in path.read_bytes().split(b"\n") if line.endswith(b'"}') and b',"hash":"' in line[-80:]]


def _months_before(moment: datetime, months: int) -> datetime:
    """The same day so many months earlier; in a shorter month its first day, which is later by less than four days."""
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, 28))
