"""The command `screening export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from screening.export.pseudonyms import Pseudonyms
    from screening.export.run import Job, Summary

_SOME_FAILED = 1
_STDERR = Console(stderr=True)


def join(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("export")(export_command)


def export_command(
    results: Annotated[Path, typer.Argument(help="Folder that `screening score` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the export; it is there only when complete.")],
    pseudonymise: Annotated[
        bool, typer.Option("--pseudonymise", help="Required: results leave only under pseudonyms.")
    ] = False,
    followup: Annotated[
        Path | None,
        typer.Option("--followup", help="Folder of the registry's tables, to come along under the same pseudonyms."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="File that holds the secret key. Default: variable SCREENING_EXPORT_KEY."),
    ] = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="With the DICOM files, or tables only.")] = True,
    objects: Annotated[
        bool, typer.Option("--objects", help="With the DICOM objects that `screening send` made of the results.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Files done side by side.")] = 1,
) -> None:
    """Export results, images and registry tables under pseudonyms, for research elsewhere (DICOM PS3.15 Annex E).

    Exit code 0: all is exported, or held back with its reason. 1: some files failed, the rest is done. 2: wrong use.
    """
    from screening.cli import one_sentence  # there this command joins

    with one_sentence():
        from screening.errors import ConfigError
        from screening.export.key import load_key
        from screening.export.pseudonyms import Pseudonyms
        from screening.export.run import Job

        if not pseudonymise:
            raise ConfigError("results are exported under pseudonyms only: say --pseudonymise")
        pseudonyms = Pseudonyms(load_key(key_file))
        failed = _export(Job(results, out, followup, images, objects and images, workers), pseudonyms)
    raise typer.Exit(_SOME_FAILED if failed else 0)


def _export(job: Job, pseudonyms: Pseudonyms) -> int:
    """Export and say what came of it; how many files failed."""
    from screening.export.instance import End
    from screening.export.run import export

    columns = (TextColumn("Exporting files"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_STDERR) as bar:
        task = bar.add_task("", total=None)
        summary = export(job, pseudonyms, lambda done, total: bar.update(task, completed=done, total=total))
    _tell(summary, job.out)
    return summary.ends[End.FAILED]


def _tell(summary: Summary, out: Path) -> None:
    from screening.export.instance import End
    from screening.export.run import NOTICE

    ends = ", ".join(f"{number} {end}" for end, number in summary.ends.items())
    typer.echo(f"{summary.total} instances: {ends}")
    for (end, why), number in summary.reasons.items():
        typer.echo(f"  {end}: {number} {why}")
    for file, table in summary.tables.items():
        emptied = "".join(f", {number} cells of {column} emptied" for column, number in table.emptied.items())
        left_out = f", {table.columns_left_out} columns left out" if table.columns_left_out else ""
        typer.echo(f"{file}: {table.rows} rows{left_out}{emptied}")
    if summary.ends[End.HELD_BACK] or summary.ends[End.FAILED]:
        typer.echo(f"What was not exported, with the original identifiers: {summary.held_back}")
    typer.echo(f"Export: {out}")
    typer.echo(NOTICE)
