"""A throw-away PostgreSQL for tests: on a socket in a folder of its own, unreachable by network."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.peers import REQUIRED


def _folder_of_programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


_PROGRAMS = _folder_of_programs()

needs_postgres = pytest.mark.skipif(_PROGRAMS is None and not REQUIRED, reason="PostgreSQL is not installed (initdb)")
"""Skip a test where PostgreSQL is not installed."""


@dataclass(frozen=True)
class Postgres:
    """A cluster in `folder`, which can be stopped and started again."""

    folder: Path
    user: str

    def url(self, database: str = "postgres") -> str:
        """Of a database, for SQLAlchemy."""
        return f"postgresql+psycopg://{self.user}@/{database}?host={quote(str(self.folder))}"

    def create(self, database: str) -> str:
        """Make a new database and return its URL."""
        self._run("createdb", "-h", str(self.folder), "-U", self.user, database)
        return self.url(database)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-l", f"{self.folder}/log", "-o", options, "start")

    def stop(self) -> None:
        """Stop the server at once, as a crash would; nothing that was committed is lost."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-m", "immediate", "stop")

    def initialise(self) -> None:
        """Make the cluster."""
        self._run("initdb", "-D", f"{self.folder}/data", "-A", "trust", "-U", self.user, "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        assert _PROGRAMS is not None, "PostgreSQL is not installed"
        # It refuses to run as root.
        user = self.user if os.geteuid() == 0 else None
        subprocess.run(
            [str(_PROGRAMS / program), *arguments],
            user=user,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Make a cluster in a folder of its own, start it, and remove it in the end."""
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    # Directly in the temporary folder: the path of a socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="screening-pg-"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        server = Postgres(folder, user)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
