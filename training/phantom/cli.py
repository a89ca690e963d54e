"""The command `screening simulate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from screening.cli import one_sentence, progress_bar
from screening.errors import ConfigError


def join(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("simulate")(simulate_command)


def simulate_command(
    out: Annotated[Path, typer.Option("--out", help="Folder for images and tables; a killed run goes on from it.")],
    women: Annotated[int, typer.Option("--women", min=1, help="Women to simulate.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same women, byte for byte.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of screening, two years apart.")] = 1,
    modality: Annotated[
        Literal["mammography", "dbt", "both"],
        typer.Option(
            "--modality",
            help="mammography: four 2D views an exam. dbt: four volumes, each with its synthetic 2D image. both: all "
            "of these, of the same compression.",
        ),
    ] = "mammography",
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Women simulated at once, each in a process of up to 1.5 GB.")
    ] = os.cpu_count() or 1,
    pixel_mm: Annotated[
        float,
        typer.Option(
            "--pixel-mm",
            min=0.1,
            max=0.8,
            help="Voxel of the compressed breast in the image's plane.",
        ),
    ] = 0.2,
    cancer_share: Annotated[
        float | None,
        typer.Option(
            "--cancer-share",
            help="Share of women who get a cancer, between 0 and 1; followup/weights.csv undoes it. Default: as in a "
            "screened population, one to five in a hundred by age and rounds.",
        ),
    ] = None,
    more_lesions: Annotated[
        float,
        typer.Option(
            "--more-lesions",
            min=0,
            max=5,
            help="For a training set: so many further lesions a breast on average, half of them malignant. Each woman "
            "has one exam then, and there are no registry tables.",
        ),
    ] = 0.0,
) -> None:
    """Simulate women through rounds of screening: DICOM images, truth and registry tables under --out.

    Exit code 0: all women are there. 2: wrong use. 130: interrupted; the same command goes on.
    """
    with one_sentence():
        if cancer_share is not None and not 0 < cancer_share < 1:
            raise ConfigError(f"--cancer-share: {cancer_share:g} does not lie between 0 and 1")
        if more_lesions and rounds > 1:
            raise ConfigError("--more-lesions: such women have one exam; leave --rounds out")

        from training.phantom.exams import Programme
        from training.phantom.simulate import FOLLOWUP, simulate

        programme = Programme(seed, women, rounds, modality, pixel_mm, cancer_share, more_lesions)
        with progress_bar("Simulating women") as bar:
            simulate(programme, out, workers, bar)
        registry = "no registry knows of them" if more_lesions else f"what a registry would know in {out / FOLLOWUP}"
        typer.echo(f"{women} simulated women in {out}; {registry}")
