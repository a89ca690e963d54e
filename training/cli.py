"""The commands `screening train`, `crossval` and `test`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from screening.cli import one_sentence
from screening.configs import config_dir

if TYPE_CHECKING:
    from training.recipe import Recipe

Config = Annotated[str, typer.Option("--config", help="Recipe: a YAML file, or the name of a bundled one (bundled).")]
DataRoot = Annotated[
    Path, typer.Option("--data-root", help="Folder that the recipe's relative data roots start from.")
]
Threads = Annotated[
    int,
    typer.Option("--threads", min=1, help="Cores for the network. On a machine that also does other work use 1: "
                 "threads that wait for each other at every layer slow down many times as soon as one is held up."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder for checkpoints, curves and results; a killed run goes on from it.")]


def join(app: typer.Typer) -> None:
    """Add this package's commands to the application."""
    app.command("crossval")(crossval_command)


def crossval_command(
    config: Config = "bundled",
    data_root: DataRoot = Path("."),
    out: Out = Path("out/crossval"),
    fold: Annotated[
        int | None, typer.Option("--fold", min=0, help="Train only this fold (from 0); run several side by side.")
    ] = None,
    threads: Threads = 1,
) -> None:
    """Train one network a fold and score the women that it never saw."""
    with one_sentence():
        import torch

        from training.crossval import train_fold
        from training.data import read_records

        torch.set_num_threads(threads)
        recipe = _recipe(config, data_root)
        records = read_records(recipe)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for k in range(recipe.folds) if fold is None else (fold,):
            train_fold(records, k, recipe, out, device, write_curve(out / f"fold-{k}" / "curve.csv"))


def _recipe(config: str, data_root: Path) -> Recipe:
    from training.recipe import load_recipe

    bundled = config_dir("training") / f"{config}.yaml"
    return load_recipe(bundled if bundled.is_file() else Path(config), data_root)


def write_curve(file: Path) -> Callable[[dict[str, float], int], None]:
    """A report that adds each epoch's figures to a CSV file (epoch, figure, value)."""

    def report(figures: dict[str, float], epoch: int) -> None:
        new = not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow(("epoch", "figure", "value"))
            writer.writerows((epoch, name, f"{value:.6g}") for name, value in figures.items())

    return report
