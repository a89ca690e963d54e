"""Bring a database to the tables of this version: make them, migrate older ones with Alembic, or refuse."""

from __future__ import annotations

import logging
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from screening.errors import StoreError
from screening.store.schema import REVISION, Base

LOG = logging.getLogger(__name__)

_REVISIONS = ("0001", "0002")
_TABLE, _COLUMN = "alembic_version", "version_num"
_OLD_TABLE, _OLD_REVISION = "schema_version", {1: "0001"}
"""Before Alembic a table of our own held the version."""


def prepare(connection: Connection, name: str) -> None:
    """Make or migrate the tables in the transaction of `connection`. `name`: of the database, for people.

    Raises
    ------
    StoreError
        If the database is another program's, or was written by a newer version of this one.
    """
    if connection.dialect.name == "postgresql":
        # Of several programs that start at once, one makes the tables.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    tables = set(sa.inspect(connection).get_table_names())
    if not tables:
        Base.metadata.create_all(connection)
        connection.execute(sa.text(f"CREATE TABLE {_TABLE} ({_COLUMN} VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(sa.text(f"INSERT INTO {_TABLE} VALUES ('{REVISION}')"))
        return
    revision = _revision(connection, tables, name)
    if revision == REVISION:
        return
    if revision not in _REVISIONS:
        raise StoreError(
            f"The results store {name} was written by another version of this program (schema {revision}, "
            f"this one uses {REVISION}): give another --out folder, or use the version that wrote it."
        )
    LOG.info("migrating %s from schema %s to %s", name, revision, REVISION)
    if _OLD_TABLE in tables:
        connection.execute(sa.text(f"DROP TABLE {_OLD_TABLE}"))
    _migrate(connection, revision)


_LOCK = 4_202_608_881
"""Of this program among PostgreSQL's advisory locks."""


def _revision(connection: Connection, tables: set[str], name: str) -> str:
    if _TABLE in tables and "exams" in tables:
        return str(connection.scalar(sa.text(f"SELECT {_COLUMN} FROM {_TABLE}")))
    if _OLD_TABLE in tables:
        version = connection.scalar(sa.text(f"SELECT version FROM {_OLD_TABLE}"))
        return _OLD_REVISION.get(int(version or 0), str(version))
    raise StoreError(f"{name} holds another program's tables: give another --out folder or database.")


def _migrate(connection: Connection, revision: str) -> None:
    # Alembic takes a moment to import, and only old stores need it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.stamp(config, revision)
    command.upgrade(config, REVISION)
