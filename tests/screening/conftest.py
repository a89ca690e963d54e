"""A small bundle, and the command line as a function, for the tests of scoring."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Run:
    """One call of the command: exit code, what it printed, and the folder that it wrote."""

    code: int
    stdout: str
    stderr: str
    out: Path

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of one CSV file, "exams", "images" or "regions"."""
        with (self.out / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    @property
    def record(self) -> dict[str, Any]:
        """batch.json."""
        content: dict[str, Any] = json.loads((self.out / "batch.json").read_text())
        return content


Score = Callable[..., Run]
"""score(source, out, *options) runs `screening score` in this process."""


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.bundles import tiny_bundle

    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def bundle(bundle_folder: Path) -> Any:
    from screening.model.bundle import load_bundle

    return load_bundle(bundle_folder)


@pytest.fixture(scope="session")
def score_cli(bundle_folder: Path) -> Score:
    from typer.testing import CliRunner

    from screening.cli import app

    def run(source: Path, out: Path, *options: str, model: Path | str = bundle_folder) -> Run:
        arguments = ["score", str(source), "--out", str(out), "--model", str(model), "--fp32", *options]
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a stack trace that a user would see
        return Run(result.exit_code, result.stdout, result.stderr, out)

    return run
