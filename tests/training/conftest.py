"""A cross-validation of phantoms, trained once for the tests that look at what it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer import Typer
from typer.testing import CliRunner, Result

import training.cli
from tests.support.learning import tiny_recipe, write_mias

TAUGHT = (
    *("simulate", "--seed", 3, "--modality", "dbt", "--pixel-mm", 0.8),
    *("--cancer-share", 0.5, "--more-lesions", 1.5),
)
"""The command that simulates women to teach with, but for their number and the folder."""


@dataclass(frozen=True)
class Validated:
    """Folders: of the data, of a recipe `recipe.yaml`, and of the finished cross-validation."""

    data: Path
    recipe: Path
    folder: Path


def run(*arguments: object) -> Result:
    """Run a command of the package training."""
    app = Typer()
    training.cli.join(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def crossval(tmp_path_factory: pytest.TempPathFactory) -> Validated:
    """Two folds of twelve women, trained for 75 steps each."""
    root = tmp_path_factory.mktemp("crossval")
    write_mias(root / "data" / "mias")
    content = tiny_recipe(pixel_spacing_mm=0.4, optimisation={"epochs": 25}).model_dump(mode="json") | {
        "data": [{"name": "mias", "root": "mias"}],
        "cache": str(root / "cache"),
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(content))
    made = Validated(root / "data", root / "recipe.yaml", root / "cv")
    done = run("crossval", "--config", made.recipe, "--data-root", made.data, "--out", made.folder, "--no-track")
    assert done.exit_code == 0, done.output
    return made


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of three women with more lesions, simulated by two workers."""
    out = tmp_path_factory.mktemp("taught") / "out"
    done = run(*TAUGHT, "--women", 3, "--out", out, "--workers", 2)
    assert done.exit_code == 0, done.output
    assert "no registry knows" in done.output
    return out
