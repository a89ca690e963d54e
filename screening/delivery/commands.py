"""The commands `screening send` and `screening outbox`."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.status import Status
from rich.table import Table

from screening.cli import SOME_FAILED, Model, Site, one_sentence
from screening.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from screening.delivery.outbox import Outbox, Parcel
    from screening.site import Destination, SiteProfile

LOG = logging.getLogger(__name__)

_MOST_ROWS = 50
_STDERR = Console(stderr=True)

Results = Annotated[Path, typer.Argument(help="Folder that `screening score` wrote.")]


def join(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("send")(send_command)
    app.command("outbox")(outbox_command)


def send_command(
    results: Results,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL|NAME",
            help="http(s)://HOST/PATH (DICOMweb), dicom(-tls)://AE_TITLE@HOST:PORT (DIMSE), or the name of one of the "
            "site profile's destinations. Default: those of the site's mode, live or shadow.",
        ),
    ] = None,
    site: Site = None,
    model: Model = None,
    operating_point: Annotated[
        str | None,
        typer.Option("--operating-point", help="Which regions are marked. Default: the site's, or the first."),
    ] = None,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds to go on trying where the PACS cannot be reached.")
    ] = 60.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also try again what the PACS did not take before.")
    ] = False,
) -> None:
    """Make DICOM objects and FHIR reports of the results and send them, each once; what waits stays in the outbox.

    User, password and token come from the environment variables that the site profile names; for an address without
    profile from SCREENING_PACS_USER, SCREENING_PACS_PASSWORD and SCREENING_PACS_TOKEN.

    Exit code 0: all has arrived. 1: some objects could not be made or were not taken, or still wait; the same command
    sends them. 2: wrong use.
    """
    with one_sentence():
        from screening.site import load_site

        # Their own words about broken connections would only repeat ours, and may quote what is sent.
        for library in ("pynetdicom", "urllib3"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        profile = load_site(site)
        done = _send(results, profile, to, model, operating_point, patience, retry_failed)
    raise typer.Exit(0 if done else SOME_FAILED)


def outbox_command(
    results: Results,
    site: Site = None,
    everything: Annotated[bool, typer.Option("--all", help="List also what has arrived or is superseded.")] = False,
) -> None:
    """Show what is in the outbox: how many objects are in which state, what waits or failed and why, and switches."""
    with one_sentence():
        from screening.delivery.destinations import outbox_path
        from screening.delivery.outbox import Outbox
        from screening.site import load_site

        path = outbox_path(load_site(site).delivery, results)
        if not path.is_file():
            raise ConfigError(f"there is no outbox {path}; `screening send` makes it")
        with Outbox(path) as outbox:
            _show(outbox, everything)


def _send(
    results: Path,
    profile: SiteProfile,
    to: str | None,
    model: str | None,
    operating_point: str | None,
    patience: float,
    retry_failed: bool,
) -> bool:
    """Queue and send; whether all has arrived."""
    from screening.audit_log import audit_folder, open_log
    from screening.audit_log.deliveries import log_deliveries
    from screening.delivery.deliver import log_mode
    from screening.delivery.destinations import chosen, outbox_path, sender_for
    from screening.delivery.outbox import Outbox, State
    from screening.delivery.sending import send_queued

    destinations = chosen(profile.delivery, to)
    # Before any work is done: are the credentials there?
    senders = [sender_for(destination) for destination in destinations]
    with Outbox(outbox_path(profile.delivery, results)) as outbox:
        if log_mode(outbox, profile.name, profile.delivery, profile.model_dump_json()):
            LOG.info("site %s: delivery is in %s mode from now on", profile.name, profile.delivery.mode)
        exams, done = _queue(results, profile, model, operating_point, outbox, destinations)
        for destination, sender in zip(destinations, senders, strict=True):
            outbox.make_due(destination.name, failed=retry_failed)
            with _STDERR.status("") as status:
                progress = partial(_progress, status, destination.name)
                sent = send_queued(outbox, destination.name, sender, patience, progress)
            if sent.problem:
                LOG.warning("%s", sent.problem)
            typer.echo(f"{destination.name}: {sent.arrived} sent, {sent.waiting} waiting, {sent.failed} failed")
            # A site's outbox may hold what failed on other nights; here it is about these results.
            still = (State.QUEUED, State.FAILED)
            done = done and not any(
                one.state in still and one.exam_id in exams for one in outbox.parcels(destination.name)
            )
        log_deliveries(open_log(audit_folder(results, profile.audit_log)), outbox)
    if not destinations:
        typer.echo(
            f"{profile.delivery.mode} mode without destination: the objects are in {results / 'dicom'}, "
            f"the FHIR reports in {results / 'fhir'}"
        )
    typer.echo("Research only: not a medical device, not for clinical use.")
    return done


def _progress(status: Status, name: str, arrived: int, waiting: int) -> None:
    status.update(f"{escape(name)}: {arrived} sent, {waiting} waiting")


def _queue(
    results: Path,
    profile: SiteProfile,
    model: str | None,
    operating_point: str | None,
    outbox: Outbox,
    destinations: Sequence[Destination],
) -> tuple[set[str], bool]:
    """Make what is delivered of all exams and queue it; which exams these are, and whether there was no problem.

    `operating_point`: the name of one of the bundle's; without, the profile says which one the site has.
    """
    from screening.delivery.deliver import deliver_results
    from screening.model.bundle import load_bundle
    from screening.operating_point import site_operating_point

    exams, problems = set(), 0
    bundle = load_bundle(model)
    point = operating_point or site_operating_point(profile.operating_point, bundle.calibration, bundle.model_id)
    done = deliver_results(results, bundle, outbox, destinations, point, profile.delivery.patient_system)
    for exam in track(done, "Making objects", console=_STDERR):
        exams.add(exam.exam_id)
        problems += len(exam.problems)
        for problem in exam.problems:
            LOG.warning("exam %.80r: %s", exam.exam_id, problem)  # an exam id may come from a header
    typer.echo(f"{len(exams)} exams, {problems} problems with their objects")
    return exams, problems == 0


def _show(outbox: Outbox, everything: bool) -> None:
    from screening.delivery.outbox import State

    parcels = outbox.parcels()
    console = Console()
    for name in dict.fromkeys(parcel.destination for parcel in parcels):
        counts = ", ".join(f"{count} {state}" for state, count in outbox.counts(name).items() if count)
        console.print(f"{name}: {counts}", markup=False, highlight=False, soft_wrap=True)
    open_ones = [one for one in parcels if everything or one.state in (State.QUEUED, State.FAILED)]
    if open_ones:
        console.print(_table(open_ones[:_MOST_ROWS]))
    if len(open_ones) > _MOST_ROWS:
        console.print(f"… and {len(open_ones) - _MOST_ROWS} more")
    for switch in outbox.switches():
        console.print(
            f"{switch.when:%Y-%m-%d %H:%M} UTC: {switch.site} {switch.before or 'new'} -> {switch.after}, decided by "
            f"{switch.decided_by or 'nobody'}, first run by {switch.user}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _table(parcels: Sequence[Parcel]) -> Table:
    table = Table()
    for column in ("to", "exam", "object", "state", "attempts", "why"):
        table.add_column(column, overflow="fold")
    for one in parcels:
        table.add_row(
            escape(one.destination), escape(one.exam_id), one.kind, one.state, str(one.attempts), escape(one.error)
        )
    return table
