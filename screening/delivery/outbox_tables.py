"""The outbox's tables and its SQLite file; times are seconds since 1970, in UTC."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from screening.store.schema import Words

VERSION = 1
"""Of the tables; the file's `user_version`."""


class Base(DeclarativeBase):
    type_annotation_map = {str: Words}  # noqa: RUF012 - SQLAlchemy reads it from the class


class ParcelRow(Base):
    __tablename__ = "parcels"
    __table_args__ = (sa.UniqueConstraint("destination", "sop_instance_uid"),)
    key: Mapped[int] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(index=True)
    exam_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    sop_class_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    path: Mapped[str]
    lasting: Mapped[bool]
    made: Mapped[float]
    state: Mapped[str] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    next_try: Mapped[float] = mapped_column(default=0.0)
    error: Mapped[str] = mapped_column(default="")
    queued: Mapped[float]
    tried: Mapped[float | None]
    arrived: Mapped[float | None]
    committed: Mapped[float | None]
    commitment_offered: Mapped[bool] = mapped_column(default=True)


class SwitchRow(Base):
    __tablename__ = "switches"
    key: Mapped[int] = mapped_column(primary_key=True)
    moment: Mapped[float]
    site: Mapped[str]
    before: Mapped[str]
    after: Mapped[str]
    decided_by: Mapped[str]
    user: Mapped[str]
    profile: Mapped[str]


def sqlite_engine(path: Path, busy_seconds: float) -> Engine:
    """Connections to the outbox's file, whose transactions are durable and exclude each other."""
    engine = sa.create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": busy_seconds})

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says so, as below
        # With FULL, what is committed outlives a power cut too.
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # What is read must still be true when it is written: others wait from the first statement on.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def sentence(error: DBAPIError, path: Path) -> str:
    """Say what is wrong with the file and what to do, by SQLite's own result codes (sqlite.org/rescode.html)."""
    code = getattr(error.orig, "sqlite_errorname", "")
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE")):
        return f"The disk that holds the outbox {path} is full: free some space and send again; what is in it is kept."
    if code.startswith("SQLITE_BUSY"):
        return f"The outbox {path} is locked by another program: wait until that has ended, then send again."
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"The outbox {path} cannot be written: change its permissions or those of its folder."
    if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return f"The outbox {path} is damaged or no outbox: move it away and send again; a PACS keeps each object once."
    return f"The outbox {path} cannot be read or written: {error.orig}."
