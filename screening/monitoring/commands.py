"""The command `screening drift`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from screening.errors import ConfigError

if TYPE_CHECKING:
    from screening.model.bundle import Bundle
    from screening.monitoring.records import Records
    from screening.site import SiteProfile

LOOK = 1


def join(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("drift")(drift_command)


def drift_command(
    results: Annotated[
        list[Path], typer.Argument(help="Folders that `screening score` or `screening nightly` wrote, or exams.csv.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for drift.html, drift.json and drift.csv; made anew.")],
    site: Annotated[
        str | None, typer.Option("--site", help="Site profile: its operating_point and drift_reference are used.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Bundle that scored. Default: the bundled model.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", help="A site's own reference.json, instead of the bundle's; once for each site."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="YYYY-MM-DD", help="Leave out exams before this day.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="YYYY-MM-DD", help="Judge as on this day. Default: today.")
    ] = None,
    false_alarms: Annotated[
        float,
        typer.Option("--false-alarms", min=0.001, max=0.5, help="Probability of a false alarm in 52 weeks, over all."),
    ] = 0.05,
    least: Annotated[int, typer.Option("--least", min=25, help="Exams that a period must have, to be judged.")] = 50,
    save_reference: Annotated[
        Path | None,
        typer.Option(
            "--save-reference", help="Also make these exams the site's reference, in this file (200 scored at least)."
        ),
    ] = None,
) -> None:
    """Compare exams by site, manufacturer and week with what they should be like, and say when to look.

    Exit code 0: nothing to look at. 1: something. 2: wrong use.
    """
    from screening.cli import one_sentence

    with one_sentence():
        from screening.model.bundle import load_bundle
        from screening.monitoring.drift import Settings
        from screening.monitoring.nights import site_drift
        from screening.monitoring.page import PAGE, write_drift
        from screening.monitoring.records import read_records
        from screening.site import load_site

        profile, bundle = load_site(site), load_bundle(model)
        first, today = _day("--since", since), _day("--until", until)
        records = read_records(_folders(results))
        if first is not None:
            records = records.since(first)
        report = site_drift(
            records, profile, bundle, reference or (), Settings(false_alarms=false_alarms, least=least), today
        )
        write_drift(out, report)
        if save_reference is not None:
            _save(save_reference, records, profile, bundle)
    typer.echo(report.headline)
    for finding in report.findings:
        typer.echo(f"{'LOOK ' if finding.now else 'over '} {finding.sentence}")
    for note in report.notes:
        typer.echo(f"Note: {note}")
    typer.echo("Research only: not a medical device, not for clinical use.")
    typer.echo(f"Page: {out / PAGE}")
    raise typer.Exit(LOOK if report.look else 0)


def _folders(results: list[Path]) -> list[Path]:
    """The folders themselves, or those right in them that hold results, as a folder of nights does."""
    found: list[Path] = []
    for path in results:
        if path.is_dir() and not (path / "exams.csv").is_file():
            nights = sorted(one for one in path.iterdir() if (one / "exams.csv").is_file())
            if not nights:
                raise ConfigError(f"{path} holds no exams.csv, nor does a folder in it; give results of a batch")
            found += nights
        else:
            found.append(path)
    return found


def _day(option: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r} is no day; write YYYY-MM-DD") from error


def _save(path: Path, records: Records, profile: SiteProfile, bundle: Bundle) -> None:
    from screening.monitoring.reference import reference_of_sample, write_reference
    from screening.operating_point import site_operating_point

    own = records.of_model(bundle.model_id).exams
    sites = {one.site for one in own}
    if len(sites) > 1:
        raise ConfigError(f"--save-reference is for one site; these exams are of {', '.join(sorted(sites))}")
    days = sorted(one.day for one in own if one.day is not None)
    source = f"{len(own)} exams of {profile.name}" + (f" from {days[0]} to {days[-1]}" if days else "")
    point = site_operating_point(profile.operating_point, bundle.calibration, bundle.model_id)
    write_reference(
        path,
        reference_of_sample(own, "".join(sites), bundle.model_id, source, point.threshold if point else None),
    )
