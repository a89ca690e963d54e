"""The commands `screening verify-log` and `screening prune-log`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BROKEN = 1


def join(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("verify-log")(verify_command)
    app.command("prune-log")(prune_command)


def verify_command(
    log: Annotated[Path, typer.Argument(help="Folder of the log, or one of its files.")],
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            metavar="HASH",
            help="A hash that was noted when it was the last, as in batch.json: the log must hold it.",
        ),
    ] = None,
) -> None:
    """Check that no line of an audit log was changed, removed, put in or moved.

    A keyed log needs its key in SCREENING_AUDIT_KEY. Without --expect, a log that was cut off at its end passes.

    Exit code 0: whole. 1: broken, and where. 2: wrong use.
    """
    from screening.audit_log.observer import audit_key
    from screening.audit_log.verify import verify
    from screening.cli import one_sentence

    with one_sentence():
        found = verify(log, audit_key(), expect)
    for problem in found.problems:
        typer.echo(f"{problem}.")
    for note in found.notes:
        typer.echo(f"Note: {note}")
    typer.echo(f"{'whole' if found.whole else 'BROKEN'}: {found.records} records, from number {found.first}.")
    typer.echo(f"End: {found.head}.")
    if expect is None:
        typer.echo("Whether it was cut off at its end, only --expect can tell, with a hash noted elsewhere.")
    raise typer.Exit(0 if found.whole else BROKEN)


def prune_command(
    log: Annotated[Path, typer.Argument(help="Folder of the log.")],
    keep_months: Annotated[int, typer.Option("--keep-months", help="Months that are kept, 6 at least.")] = 6,
) -> None:
    """Remove an audit log's oldest files after their time; the log stays whole, and says what was removed."""
    from screening.audit_log.observer import audit_key
    from screening.audit_log.prune import prune
    from screening.cli import one_sentence

    with one_sentence():
        pruned = prune(log, audit_key(), keep_months)
    typer.echo(f"Removed {len(pruned.files)} files with {pruned.records} records.")
    typer.echo(f"End: {pruned.head}.")
