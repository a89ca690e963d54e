"""A PostgreSQL of the session, and a fresh database of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.support.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> str:
    """URL of an empty database; mark the test with `needs_postgres`."""
    return postgres.create(f"d{secrets.token_hex(6)}")
