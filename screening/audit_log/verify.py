"""Is a log whole? What was changed, removed, inserted or put into another order, and in which line.

What cannot be seen without help: records cut off at the end, and a chain that was made anew from some record on by
somebody who knows how (and has the key, where there is one). For both, give a hash that was noted elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from screening.audit_log.chained_log import REPAIRED, Head, log_files
from screening.audit_log.record import START, NotARecordError, Record, record_of
from screening.errors import ConfigError

PRUNED = "pruned"
"""Event of the record that lists the files that were removed after their time."""
_LONGEST = 1 << 24


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where; `line` counts from 1."""

    file: str
    line: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.sentence}"


@dataclass(frozen=True)
class Verification:
    """What was found in a log.

    `first`: the number of its first record, 0 unless older files were pruned. `notes`: what is no fault: lines that
    were torn and repaired, files that were pruned.
    """

    records: int
    first: int
    head: Head
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return not self.problems


def verify(log: Path, key: bytes | None = None, expect: str | None = None) -> Verification:
    """Check a log's folder, or one of its files (then nothing is known of what was before).

    Parameters
    ----------
    expect
        The hash of a record that the log must hold, as noted when it was the last.

    Raises
    ------
    ConfigError
        If there is no log, it cannot be read, or it is keyed and no key is given.
    """
    files = log_files(log) if log.is_dir() else [log]
    if not files or not all(path.is_file() for path in files):
        raise ConfigError(f"{log} holds no audit log; give its folder, or one of its files audit-*.jsonl")
    check = _Check(key, alone=not log.is_dir())
    for path in files:
        try:
            check.file(path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return check.result(expect)


@dataclass
class _Check:
    """A walk over the lines of all files."""

    key: bytes | None
    alone: bool
    records: int = 0
    first: Record | None = None
    last: Record | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hashes: set[str] = field(default_factory=set)
    pruned: list[Record] = field(default_factory=list)
    start: tuple[str, int] = ("", 0)

    def file(self, path: Path) -> None:
        torn: list[bytes] = []
        torn_at = 0
        number = 0
        for number, line in enumerate(_lines(path), start=1):
            try:
                record = record_of(line, self.key)
            except NotARecordError as error:
                torn_at = torn_at or number
                torn.append(line)
                reason = str(error)
                continue
            if torn:
                self._torn(path.name, torn_at, torn, record, reason)
                torn, torn_at = [], 0
            self._record(path.name, number, record)
        if torn:
            sentence = f"is no record ({reason}): changed, or torn and not yet repaired by the next record"
            self.problems.append(Problem(path.name, torn_at, sentence))

    def _torn(self, file: str, line: int, torn: list[bytes], record: Record, reason: str) -> None:
        """Lines that are no record: told by the record after them, or a fault."""
        left = b"\n".join(torn).rstrip(b"\n")
        told = record.event == REPAIRED and record.content.get("torn_sha256") == hashlib.sha256(left).hexdigest()
        if told:
            self.notes.append(f"{file}, line {line}: was torn in writing, as record {record.sequence} says.")
        else:
            self.problems.append(Problem(file, line, f"is no record ({reason}): changed or put in"))

    def _record(self, file: str, line: int, record: Record) -> None:
        if record.keyed and self.key is None:
            raise ConfigError(f"{file} is sealed with a key; set the environment variable that holds it")
        problem = self._wrong(record)
        if problem:
            self.problems.append(Problem(file, line, problem))
        if self.first is None:
            self.first, self.start = record, (file, line)
        if record.event == PRUNED and record.sound:
            self.pruned.append(record)
        self.records += 1
        self.hashes.add(record.hash)
        # A record that came late does not move the place that the next is compared with; of two of a number it is the
        # second that the next may continue.
        if self.last is None or record.sequence >= self.last.sequence:
            self.last = record

    def _wrong(self, record: Record) -> str:
        """What is wrong with a record that comes after `last`, "" if nothing."""
        if not record.sound:
            return f"record {record.sequence} was changed after it was written"
        if self.key is not None and not record.keyed:
            return f"record {record.sequence} is not sealed with the key: it was written by somebody without it"
        if self.last is None:
            return ""
        expected = self.last.sequence + 1
        if record.sequence > expected:
            gone = (
                f"record {expected}"
                if record.sequence == expected + 1
                else f"records {expected} to {record.sequence - 1}"
            )
            return f"{gone} should stand before record {record.sequence}: removed, or put elsewhere"
        if record.sequence < expected:
            return f"record {record.sequence} stands here out of order or twice, or one of the two was put in"
        if record.previous != self.last.hash:
            return f"record {record.sequence} does not continue the record before it, which was replaced"
        return ""

    def result(self, expect: str | None) -> Verification:
        if self.first is None or self.last is None:
            raise ConfigError("the audit log holds no record")
        self._check_start(self.first)
        if expect is not None and expect not in self.hashes | {_hash for _, _, _hash in self._removed()}:
            sentence = f"no record has the hash {expect}: the log was cut off at its end, or made anew"
            self.problems.append(Problem(self.start[0], 1, sentence))
        return Verification(
            records=self.records,
            first=self.first.sequence,
            head=Head(self.last.sequence + 1, self.last.hash),
            problems=tuple(self.problems),
            notes=tuple(self.notes),
        )

    def _check_start(self, first: Record) -> None:
        """The first record must be the first ever, or the one that a `pruned` record says the rest begins with."""
        if first.sequence == 0 and first.previous == START:
            return
        if self.alone:
            self.notes.append(f"begins with record {first.sequence}; what was before is in other files, not checked.")
            return
        starts = {(0, START)} | {(after, last_hash) for _, after, last_hash in self._removed()}
        if (first.sequence, first.previous) in starts:
            self.notes.append(f"records before {first.sequence} were pruned, as a later record says.")
            return
        sentence = f"the log begins with record {first.sequence}; those before were removed, and no record says so"
        self.problems.append(Problem(*self.start, sentence))

    def _removed(self) -> Iterator[tuple[str, int, str]]:
        """Files that were pruned: name, number of the record that follows, hash of their last record."""
        for record in self.pruned:
            for one in record.content.get("files", []):
                yield str(one["name"]), int(one["next_sequence"]), str(one["last_hash"])


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without their breaks; one that is longer than any record's comes in pieces."""
    with path.open("rb") as file:
        while line := file.readline(_LONGEST):
            yield line.removesuffix(b"\n")
