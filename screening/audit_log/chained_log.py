"""An append-only log of chained records in a folder of files, safe to kill, shared by processes.

Files are called `audit-000001-2026-11.jsonl`: a number that counts up, and the month in which each was begun. A new one
is begun in a new month or when the last is large; the first record of it continues the chain. A record is on the disk
when `append` returns. Whoever was killed in the middle leaves a line without end; nothing is ever cut off again, not
even that: the next record says how many bytes are none, and their digest.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from screening.audit_log.record import START, NotARecordError, Record, line_of, record_of
from screening.errors import ConfigError
from screening.store.files import write_errors

REPAIRED = "torn-line-repaired"
"""Event of the record that follows bytes that are no record."""

_FILE = re.compile(r"audit-(\d{6,})-(\d{4}-\d{2})\.jsonl")
_LOCK = ".lock"
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Head:
    """Where a log ends: how many records were ever written, and the hash of the last.

    Kept elsewhere, it is the anchor by which a log that was cut off at its end is told from a whole one.
    """

    records: int = 0
    hash: str = START

    def __str__(self) -> str:
        return f"{self.records} records, last hash {self.hash}"


@dataclass(frozen=True)
class _End:
    """How the newest file ends: its path and size, the last record there is, and bytes after it that are none."""

    path: Path | None
    size: int
    head: Head
    keyed: bool | None = None
    torn: bytes = b""
    unended: bool = False


class ChainedLog:
    """A log in `folder`, which is made if missing.

    Parameters
    ----------
    key
        For HMAC; without, anybody who may write the files can also make the whole chain anew.
    most_bytes
        A file of this size is followed by another.
    now
        The clock, aware.
    """

    def __init__(
        self,
        folder: Path,
        key: bytes | None = None,
        most_bytes: int = 64 << 20,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.folder = folder
        self.key = key
        self._most_bytes = most_bytes
        self._now = now
        self._end: _End | None = None

    def append(self, event: str, content: Mapping[str, Any]) -> Head:
        """Write one record and wait until the disk has it.

        Raises
        ------
        StoreError
            If it cannot be written: the disk is full, or the folder not writable.
        ConfigError
            If the log was begun without this key, or with another.
        """
        with self._locked():
            end = self._current()
            if end.torn:
                repair = {"torn_bytes": len(end.torn), "torn_sha256": hashlib.sha256(end.torn).hexdigest()}
                end = self._write(end, REPAIRED, repair)
            return self._write(end, event, content).head

    def head(self) -> Head:
        """Where the log ends now. Raises StoreError if the folder cannot be used, ConfigError for another key."""
        with self._locked():
            return self._current().head

    def last(self, event: str, **members: str) -> Record | None:
        """The latest record of an event with these members, None if there is none."""
        name = b'"event":"' + event.encode() + b'"'
        with self._locked():
            for path in reversed(log_files(self.folder)):
                for line in reversed(path.read_bytes().split(b"\n")):
                    record = _record_or_none(line, self.key) if name in line else None
                    if record is not None and record.content.items() >= {"event": event, **members}.items():
                        return record
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only one, of all threads and processes, who reads the end and writes after it."""
        path = self.folder / _LOCK
        with write_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = path.open("ab")
        with lock:
            with write_errors(path):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _current(self) -> _End:
        """The end of the log, read from the disk if another process has written since."""
        files = log_files(self.folder)
        newest = files[-1] if files else None
        size = newest.stat().st_size if newest else 0
        if self._end is None or (self._end.path, self._end.size) != (newest, size):
            self._end = _read_end(files, self.key)
            if self._end.keyed not in (None, self.key is not None):
                how = "with a key" if self._end.keyed else "without a key"
                raise ConfigError(
                    f"the audit log in {self.folder} was begun {how}; go on so, or give it another folder"
                )
        return self._end

    def _write(self, end: _End, event: str, content: Mapping[str, Any]) -> _End:
        now = self._now().astimezone(UTC)
        path = self._file_for(end, now)
        line, digest = line_of(
            {
                **content,
                "event": event,
                "previous": end.head.hash,
                "sequence": end.head.records,
                "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            },
            self.key,
        )
        started = path == end.path and (end.unended or bool(end.torn))
        self._end = None  # whatever fails from here on, the disk is asked again
        size = _append(path, (b"\n" if started else b"") + line + b"\n")
        self._end = _End(path, size, Head(end.head.records + 1, digest), self.key is not None)
        return self._end

    def _file_for(self, end: _End, now: datetime) -> Path:
        """The newest file, or the next: in a later month (a clock that was set back begins none), or if it is large.

        Torn bytes and the record that tells of them stand in one file.
        """
        month = f"{now:%Y-%m}"
        number = 1
        if end.path is not None:
            number, begun = _parts(end.path)
            if end.torn or end.unended or (month <= begun and end.size < self._most_bytes):
                return end.path
            number, month = number + 1, max(month, begun)
        return self.folder / f"audit-{number:06d}-{month}.jsonl"


def log_files(folder: Path) -> list[Path]:
    """The files of a log, oldest first."""
    return sorted((path for path in folder.glob("audit-*.jsonl") if _FILE.fullmatch(path.name)), key=_parts)


def _parts(path: Path) -> tuple[int, str]:
    """Number and month of a file."""
    found = _FILE.fullmatch(path.name)
    assert found is not None
    return int(found[1]), found[2]


def _append(path: Path, data: bytes) -> int:
    """Append, wait for the disk, and return the file's new size. What was written before an error stays."""
    with write_errors(path):
        new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        if new:
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    return size


def _read_end(files: list[Path], key: bytes | None) -> _End:
    """How the log ends. A file without any record leaves the end to the one before it."""
    newest = files[-1] if files else None
    size, torn = (newest.stat().st_size if newest else 0), b""
    for path in reversed(files):
        record, rest, unended = _last_record(path, key)
        if path == newest:
            torn = rest
        if record is not None:
            head = Head(record.sequence + 1, record.hash)
            return _End(newest, size, head, record.keyed, torn, unended and path == newest)
    return _End(newest, size, Head(), None, torn)


def _last_record(path: Path, key: bytes | None) -> tuple[Record | None, bytes, bool]:
    """The last record of a file, the bytes after it that are none, and whether only its line break is missing.

    Raises ConfigError where the last record does not have the digest that it claims.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        wanted = _BLOCK
        while True:
            begin = max(0, length - wanted)
            file.seek(begin)
            lines = file.read().split(b"\n")
            # The first piece may be the end of a line that begins before this block.
            for place in range(len(lines) - 1, -1 if begin == 0 else 0, -1):
                record = _record_or_none(lines[place], key)
                if record is not None:
                    _insist(record, path)
                    return record, b"\n".join(lines[place + 1 :]).rstrip(b"\n"), place == len(lines) - 1
            if begin == 0:
                return None, b"\n".join(lines).rstrip(b"\n"), False
            wanted *= 8


def _record_or_none(line: bytes, key: bytes | None) -> Record | None:
    try:
        return record_of(line, key)
    except NotARecordError:
        return None


def _insist(record: Record, path: Path) -> None:
    """Nothing is appended to a record that is not what it claims: neither its changer nor another key may go on."""
    if not record.sound:
        why = "was sealed with another key, or changed" if record.keyed else "was changed"
        raise ConfigError(
            f"{path}: the last record (number {record.sequence}) {why}; see `screening verify-log`, and move the log "
            "away or give the right key"
        )
