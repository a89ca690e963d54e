"""What an interrupted export has done already, so that the same command goes on from there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from screening.export.instance import End, Outcome, Why
from screening.store.files import write_errors

_NAME = "journal.jsonl"


class Journal:
    """Outcomes of an unfinished export, a line each, in its folder; it holds no original identifier.

    Outcomes of other settings (another key, version or option: `fingerprint`), or of files that have changed since,
    do not count; nor does a copy that is not there as it was written. Every public method raises `StoreError` where
    the folder cannot be read or written.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._path = folder / _NAME
        self._head = {"fingerprint": fingerprint}
        self._done: dict[str, dict[str, Any]] = {}
        with write_errors(self._path):
            lines = self._lines()
            if not lines or lines[0] != self._head:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True, mode=0o700)
                self._append(self._head)
            self._done = {line["key"]: line for line in lines[1:] if lines[0] == self._head}

    def outcome(self, key: str, file: Path) -> Outcome | None:
        """How the file ended in the interrupted run, if that still holds."""
        line = self._done.get(key)
        if line is None or line["state"] != _state(file):
            return None
        found = Outcome(End(line["end"]), Why(line["why"]) if line["why"] else None, *line["copy"])
        return found if found.end is not End.EXPORTED or self._is_there(found) else None

    def add(self, key: str, file: Path, outcome: Outcome) -> None:
        """Note how a file ended; on disk when this returns."""
        copy = [outcome.file, outcome.bytes, outcome.sha256]
        line = {"key": key, "state": _state(file), "end": outcome.end, "why": outcome.why, "copy": copy}
        with write_errors(self._path):
            self._append(line)

    def close(self, files: set[str]) -> None:
        """The export is complete with `files` (relative): whatever else lies in its folder goes, the journal too."""
        with write_errors(self._path):
            for path in sorted(self._folder.rglob("*"), reverse=True):
                if path.is_dir() and not path.is_symlink():
                    with contextlib.suppress(OSError):  # not empty: it holds files of the export
                        path.rmdir()
                elif path.relative_to(self._folder).as_posix() not in files:
                    path.unlink()

    def _lines(self) -> list[dict[str, Any]]:
        return list(self._whole_lines()) if self._path.is_file() else []

    def _whole_lines(self) -> Iterator[dict[str, Any]]:
        for line in self._path.read_bytes().split(b"\n"):
            try:
                yield json.loads(line)
            except ValueError:
                return  # the line that was being written when the run was cut off

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _is_there(self, outcome: Outcome) -> bool:
        try:
            content = (self._folder / outcome.file).read_bytes()
        except OSError:
            return False
        return hashlib.sha256(content).hexdigest() == outcome.sha256


def _state(file: Path) -> list[int]:
    """What changes when a file does; nothing for a file that is not there."""
    try:
        found = file.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
