"""Writing files so that nothing half-written is ever taken for a result."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from screening.errors import StoreError


def write_atomically(path: Path, chunks: Iterable[bytes], durable: bool = True, mode: int | None = None) -> None:
    """Write `chunks` to `path` so that others see the old file or the whole new one, never a part.

    The bytes go to a temporary file in the same folder (made if missing), which then takes the name. `durable` waits
    until the disk has it; without, a power cut may lose the file, but a killed program still leaves no half. `mode`:
    the file's permissions, whatever the process's umask.

    Raises
    ------
    StoreError
        If the folder is not writable, the disk is full or writing fails otherwise.
    """
    with atomic_file(path, durable, mode) as file:
        file.writelines(chunks)


@contextlib.contextmanager
def atomic_file(path: Path, durable: bool = True, mode: int | None = None) -> Iterator[BinaryIO]:
    """A file to write to, which takes the name `path` at the end of the `with` block, and only if that did not fail.

    Arguments and errors as of `write_atomically`.
    """
    # Programs on several machines may write the same file.
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                yield file
                file.flush()
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                if durable:
                    os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        # Nothing is left over if it failed; the first error is the one to report.
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's error on writing `path` into a `StoreError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(_write_sentence(error, path)) from error


def _write_sentence(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path} cannot be written, the disk is full: free some space and run again (finished exams are kept)."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} cannot be written, permission denied: give another --out folder or change its permissions."
    return f"{path} cannot be written ({error.strerror or error}): give another --out folder."
