"""Options that the training commands share, and the curves that they write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[str, typer.Option("--config", help="Recipe: a YAML file, or the name of a bundled one (bundled).")]
DataRoot = Annotated[Path, typer.Option("--data-root", help="Folder that the recipe's relative data roots start from.")]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        min=1,
        help="Cores for the network. On a machine that also does other work use 1: threads that wait for each other at "
        "every layer slow down many times as soon as one is held up.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that augment images ahead of the network. They pay with a GPU, which would wait for images; on "
        "a CPU leave 0, since they take the network's cores.",
    ),
]
Out = Annotated[
    Path, typer.Option("--out", help="Folder for checkpoints, curves and results; a killed run goes on from it.")
]


def write_curve(file: Path) -> Callable[[dict[str, float], int], None]:
    """A report that writes each epoch's figures to a CSV file (epoch, figure, value).

    A killed run goes on from an earlier epoch than it had reported last: rows from there on are replaced.
    """

    def report(figures: dict[str, float], epoch: int) -> None:
        from screening.store import write_atomically

        lines = file.read_text(encoding="utf-8").splitlines()[1:] if file.exists() else []
        kept = [line for line in lines if int(line.partition(",")[0]) < epoch]
        added = [f"{epoch},{name},{value:.6g}" for name, value in figures.items()]
        write_atomically(file, ["\n".join(("epoch,figure,value", *kept, *added, "")).encode()])

    return report
