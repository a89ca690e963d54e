"""One night at a time: a lock that the operating system ends with its process, however that dies."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from screening.errors import ScreeningError
from screening.store.files import write_errors

LOCK_NAME = "nightly.lock"


class LockedError(ScreeningError):
    """Another night is running; the message says who runs it, where and since when."""


@contextlib.contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Be the only night that works in `out`, of all processes; on several machines too, where the disk has flock.

    The file stays when the night has ended; what counts is the lock on it, which dies with its holder.

    Raises
    ------
    LockedError
        If another night is running.
    StoreError
        If `out` cannot be written.
    """
    path = out / LOCK_NAME
    with contextlib.ExitStack() as stack:
        with write_errors(path):
            out.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(
                f"another night is running in {out} ({_holder(path)}); this one has not begun: start it again later"
            ) from error
        with write_errors(path):
            file.truncate(0)
            file.write(json.dumps(_self()))
            file.flush()
        yield


def _self() -> dict[str, str | int]:
    return {
        "process": os.getpid(),
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _holder(path: Path) -> str:
    """Who holds the lock, in words; the holder may be about to write its name."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return f"process {held['process']} of {held['user']} on {held['host']} since {held['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process has not said who it is"
