"""The folder of a batch's results: one program at a time scores into it, and a new batch begins with it empty."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from screening.errors import StoreError
from screening.store import STORE_NAME
from screening.store.files import write_errors

LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other programs from scoring into `out`, which is made if missing. The kernel frees it when we die.

    Raises
    ------
    StoreError
        If another program scores into it, or it cannot be made.
    """
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreError(
                    f"another program is scoring into {out}: wait until it has ended, or give another --out folder"
                ) from error
            LOG.warning("%s cannot be locked (%s): see that no other program scores into it", out, error.strerror)
        yield
    finally:
        os.close(folder)


def discard_earlier(out: Path, names: Iterable[str]) -> None:
    """Remove the results of an earlier batch. Raises `StoreError` where they cannot be removed."""
    if (out / STORE_NAME).is_file():
        LOG.info("replacing the results of an earlier batch in %s", out)
    with write_errors(out):
        # The tables go at once: whatever becomes of this batch, they are not its result.
        discard(out, names)
    shutil.rmtree(out / "heatmaps", ignore_errors=True)


def discard(out: Path, names: Iterable[str]) -> None:
    """Remove files of `out` that are there."""
    for name in names:
        (out / name).unlink(missing_ok=True)
