"""A small bundle, the command line as a function, and a real PACS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.command import Run, Score
from tests.support.orthanc import Orthanc, free_port, running_orthanc

if TYPE_CHECKING:
    from screening.model.bundle import Bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.bundles import tiny_bundle

    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def bundle(bundle_folder: Path) -> Bundle:
    from screening.model.bundle import load_bundle

    return load_bundle(bundle_folder)


@pytest.fixture(scope="session")
def score_cli(bundle_folder: Path) -> Score:
    from typer.testing import CliRunner

    from screening.cli import app

    def run(source: Path | str, out: Path, *options: str, model: Path | str = bundle_folder, columns: int = 300) -> Run:
        # Without processes, whose start takes longer than these exams; tests/screening/batch has the others.
        usual = ["--fp32", "--workers", "0"]
        arguments = ["score", str(source), "--out", str(out), "--model", str(model), *usual, *options]
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": str(columns)})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a stack trace that a user would see
        return Run(result.exit_code, result.stdout, result.stderr, out)

    return run


@pytest.fixture(scope="session")
def commitment_port() -> int:
    """Where Orthanc calls SCREENING: to report storage commitment, and to move studies there."""
    return free_port()


@pytest.fixture(scope="session")
def shared_orthanc(tmp_path_factory: pytest.TempPathFactory, commitment_port: int) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), {"SCREENING": ("127.0.0.1", commitment_port)}) as server:
        yield server


@pytest.fixture
def orthanc(shared_orthanc: Orthanc) -> Orthanc:
    """A running Orthanc with nothing in it; mark the test with `needs_orthanc`."""
    shared_orthanc.clear()
    return shared_orthanc
