"""The files of an exam: what identifies their content, and whether it has changed.

Reading a file for its digest costs as much as sending it over the network, so a file whose size and modification time
are as they were counts as unchanged, as with make, rsync and git.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from screening.exam import Exam, Image


@dataclass(frozen=True)
class FileState:
    """Size in bytes and modification time in ns of an image's file; both -1 where it cannot be asked.

    Of an image in several files: their sizes together, and the last modification.
    """

    size: int = -1
    modified: int = -1


@dataclass(frozen=True)
class ReadFile:
    """An image's file as it was read: its state and the SHA-256 (hex) of its content; of several, in their order."""

    state: FileState
    sha256: str

    def record(self) -> list[int | str]:
        """As the ledger keeps it."""
        return [self.state.size, self.state.modified, self.sha256]


class ChangedError(Exception):
    """A file was changed while it was read: somebody is still writing it."""


def file_state(image: Image) -> FileState:
    """The state of an image's file, or files, now."""
    try:
        found = [os.stat(path) for path in _paths(image)]
    except OSError:
        return FileState()
    return FileState(sum(one.st_size for one in found), max(one.st_mtime_ns for one in found))


def read_file(image: Image) -> ReadFile:
    """Read an image's file for its digest. Raises `ChangedError`, and `OSError` if it cannot be read."""
    before, digest = file_state(image), hashlib.sha256()
    for path in _paths(image):
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    if file_state(image) != before:
        raise ChangedError
    return ReadFile(before, digest.hexdigest())


_CHUNK = 1 << 20


def _paths(image: Image) -> tuple[Path, ...]:
    return image.slices or (image.path,)


def file_states(exam: Exam) -> dict[str, FileState]:
    """The states of an exam's files by SOP Instance UID."""
    return {image.image_id: file_state(image) for image in exam.images}


def fingerprint(states: Mapping[str, FileState]) -> str:
    """One short text for the states of an exam's files: equal if, and in practice only if, they are."""
    listed = sorted((image_id, state.size, state.modified) for image_id, state in states.items())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def same_content(exam: Exam, states: Mapping[str, FileState], known: Mapping[str, list[int | str]]) -> bool:
    """Whether an exam's files hold what they held when they were read (`known`: `ReadFile.record` by UID).

    Only files whose state differs are read.
    """
    if states.keys() != known.keys():
        return False
    for image in exam.images:
        size, modified, sha256 = known[image.image_id]
        if states[image.image_id] == FileState(int(size), int(modified)):
            continue
        try:
            if read_file(image).sha256 != sha256:
                return False
        except (OSError, ChangedError):
            return False
    return True
