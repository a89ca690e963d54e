"""Connections to the project's databases (results, outbox, inbox), and what is wrong with one in one sentence."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from screening.errors import StoreAwayError, StoreError
from screening.store.files import write_errors

WRITING = {"sqlite_begin": "IMMEDIATE"}
"""Execution options of a transaction that writes: SQLite then waits at its start, where waiting harms nothing."""


@dataclass(frozen=True)
class Wording:
    """How sentences call a database, and what they advise.

    Parameters
    ----------
    what
        Such as "results store".
    again
        What to do when the cause is removed.
    elsewhere
        What to do instead, where this place cannot be used.
    damaged
        What to do once a damaged file is out of the way.
    """

    what: str
    again: str
    elsewhere: str
    damaged: str


RESULTS = Wording(
    "results store", "run again (finished exams are kept)", "give another --out folder", "score again, or restore it"
)


def database_url(url_or_path: str | Path) -> URL:
    """Return the database URL; a path's folder is made."""
    if isinstance(url_or_path, str) and "://" in url_or_path:
        try:
            return make_url(url_or_path)
        except (ArgumentError, ValueError) as error:
            raise StoreError("The results store's URL cannot be read: write it as dialect://host/database.") from error
    path = Path(url_or_path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return URL.create("sqlite", database=str(path))


def database_engine(url: URL, busy_seconds: float) -> Engine:
    """Connections to a database; those to SQLite are set up for a batch that others look at."""
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": busy_seconds})

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin as below, so that tables are made within them, too
        # A write-ahead log lets others read while a batch writes; FULL makes a finished exam outlive a power cut.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def sqlite_engine(path: Path, busy_seconds: float) -> Engine:
    """Connections to a file of which every transaction may write: what it reads is still true when it writes."""
    return database_engine(database_url(path), busy_seconds).execution_options(**WRITING)


@contextlib.contextmanager
def sentences(name: str, words: Wording = RESULTS) -> Iterator[None]:
    """Turn what the database `name` raises into a `StoreError`; a broken constraint is a bug and stays what it is."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(cause, "sqlite_errorname", "")
        if isinstance(error, DBAPIError) and not isinstance(cause, sqlite3.Error):
            raise _of_a_server(error, name, words) from error
        kind = StoreAwayError if code.startswith("SQLITE_BUSY") else StoreError
        raise kind(_of_sqlite(code, cause, name, words)) from error


def _of_a_server(error: DBAPIError, name: str, words: Wording) -> StoreError:
    """A server that is gone may come back: `StoreAwayError`; what it refuses, it refuses again."""
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
        return StoreAwayError(f"The database {name} cannot be reached: start it, or correct its URL, and run again.")
    return StoreError(f"The {words.what} {name} cannot be read or written: {error.orig}.")


def _of_sqlite(code: str, cause: BaseException | None, name: str, words: Wording) -> str:
    """Say what is wrong and what to do; SQLite's own result codes tell the cases apart (sqlite.org/rescode.html)."""
    this = f"The {words.what} {name}"
    full = f"The disk that holds the {words.what} {name} is full: free some space and {words.again}."
    closed = f"{this} cannot be opened or written: change its permissions or its folder's, or {words.elsewhere}."
    damaged = f"{name} is damaged or no {words.what}: move that file away and {words.damaged}."
    told = {
        "SQLITE_FULL": full,
        "SQLITE_IOERR_WRITE": full,
        "SQLITE_IOERR_SHMSIZE": full,
        "SQLITE_READONLY": closed,
        "SQLITE_CANTOPEN": closed,
        "SQLITE_BUSY": f"{this} is locked by another program: wait until that has ended, then {words.again}.",
        "SQLITE_NOTADB": damaged,
        "SQLITE_CORRUPT": damaged,
    }
    for start, sentence in told.items():
        if code.startswith(start):
            return sentence
    return f"{this} cannot be read or written: {cause}."
