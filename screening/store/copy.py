"""Results out of a database server into the file that other commands read."""

from __future__ import annotations

import os
from pathlib import Path

from screening.store.database import ResultStore
from screening.store.files import write_errors

_AT_ONCE = 500


def copy_results(store: ResultStore, path: Path, model_id: str) -> None:
    """Write one model's results, and all rejections, of `store` into the SQLite file `path`, whole or not at all.

    Raises
    ------
    StoreError
        If the store cannot be read or `path` cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        with ResultStore(part) as copy:
            copy.add_rejections(store.rejections())
            with copy.writing() as session:
                for number, result in enumerate(store.results(model_id), start=1):
                    copy.put(session, result)
                    if number % _AT_ONCE == 0:
                        session.flush()
                        session.expunge_all()
        with write_errors(path):
            os.replace(part, path)
    finally:
        for suffix in ("", "-wal", "-shm"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)
