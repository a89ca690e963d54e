"""The command `screening accept`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from screening.errors import ScreeningError
from screening.options import Half

if TYPE_CHECKING:
    from screening.acceptance.assess import Acceptance


SOME_FAILED = 1


def join(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("accept")(accept_command)


def accept_command(
    exams: Annotated[
        Path, typer.Option("--exams", help="Folder with the site's sample: consecutive exams, as the PACS sends them.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the report; an earlier one in it is replaced.")],
    site: Annotated[
        str | None, typer.Option("--site", help="Site profile: a YAML file or the name of a bundled one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model bundle, as for screening score. Default: the bundled model.")
    ] = None,
    recall_rate: Annotated[
        float,
        typer.Option("--recall-rate", min=0.001, max=0.5, help="Share of exams that the site wants to have recalled."),
    ] = 0.03,
    night_exams: Annotated[
        int, typer.Option("--night-exams", min=1, help="Exams of the site's busiest night, for the time per exam.")
    ] = 1000,
    repeat: Annotated[int, typer.Option("--repeat", min=0, help="Exams that are scored twice.")] = 10,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Images that are worked on at once.")] = (
        os.cpu_count() or 1
    ),
    half: Half = None,
) -> None:
    """Before going live: is this site's own sample read, scored and spread as it should be?

    Writes acceptance.html (to be signed), acceptance.json, proposed-site.yaml (header rules and operating point) and
    site-reference.json (for drift monitoring). Exit code 0: every check passes or wants attention. 1: a check fails.
    2: wrong use.
    """
    from screening.cli import one_sentence, progress_bar  # which imports this module

    with one_sentence():
        from screening.acceptance.assess import assess
        from screening.acceptance.checks import Verdict
        from screening.acceptance.image_reference import load_reference
        from screening.acceptance.outputs import write_outputs
        from screening.acceptance.page import write_page
        from screening.acceptance.sample import read_sample
        from screening.model.bundle import bundle_folder, load_bundle
        from screening.model.precision import bfloat16_pays
        from screening.site import load_site
        from screening.sources.folder import read_folder

        profile = load_site(site)
        folder = bundle_folder(model)
        bundle, training = load_bundle(folder), load_reference(folder)
        with progress_bar("Reading headers") as bar:
            scan = read_folder(exams, profile, bar)
        if not scan.instances:
            raise ScreeningError(f"{exams} holds no files; give the folder with the site's exams")
        with progress_bar("Scoring exams") as bar:
            sample = read_sample(
                exams,
                scan,
                profile,
                bundle,
                workers=workers,
                half=bfloat16_pays(bundle.device) if half is None else half,
                repeat=repeat,
                on_progress=bar,
            )
        found = assess(exams, sample, profile, bundle, training, wanted=recall_rate, night_exams=night_exams)
        write_outputs(found, out)
        write_page(found, out)
        _print(found, out)
    raise typer.Exit(SOME_FAILED if found.verdict is Verdict.FAIL else 0)


def _print(found: Acceptance, out: Path) -> None:
    from screening.acceptance.page import PAGE

    table = Table(title=f"Acceptance of {found.site}: {found.verdict}")
    for column in ("check", "verdict", "found"):
        table.add_column(column, overflow="fold")
    for check in found.checks:
        table.add_row(check.name, check.verdict, check.finding)
    console = Console()
    console.print(table, markup=False)
    console.print("Research only: not a medical device, not for clinical use.")
    console.print(f"Report: {out / PAGE}", soft_wrap=True, markup=False)
