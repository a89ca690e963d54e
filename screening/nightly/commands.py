"""The command `screening nightly`."""

from __future__ import annotations

import logging
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from screening.errors import ScreeningError
from screening.options import Half, MetricsFile, MetricsHost, MetricsPort

if TYPE_CHECKING:
    from screening.nightly.metrics import NightMetrics
    from screening.nightly.run import Plan
    from screening.nightly.summary import Morning
    from screening.site import SiteProfile

LOG = logging.getLogger(__name__)

SOME_FAILED, NOT_DONE, INTERRUPTED = 1, 2, 130


def join(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("nightly")(nightly_command)


def nightly_command(
    site: Annotated[str, typer.Option("--site", help="Site profile with a `source`: a YAML file, or a bundled one.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of all nights; each has a folder in it, named by its day.")
    ] = Path("nights"),
    day: Annotated[
        str | None,
        typer.Option("--date", metavar="DAY", help="The night's day: YYYY-MM-DD, today or yesterday. Default: today."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Model bundle: a folder, or models:/NAME/VERSION in MLflow. Default: the bundled model."
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="Where exams are scored: local (processes of this machine) or ray.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option("--address", help="Of a Ray cluster: auto or HOST:PORT. Default: Ray on this machine.")
    ] = None,
    gpus: Annotated[
        float, typer.Option("--gpus", min=0, help="Ray: share of a GPU that each worker takes, such as 0.25.")
    ] = 0.0,
    memory_gb: Annotated[
        float | None,
        typer.Option("--worker-memory", min=0.1, help="GiB that a worker may allocate; an exam that needs more fails."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            help="Worker processes, one model each. Default: one a core, or all that Ray has room for. 0: none, but "
            "threads of this process.",
        ),
    ] = None,
    half: Half = None,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds to go on trying where a PACS cannot be sent to.")
    ] = 600.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also send again what a PACS turned down before.")
    ] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON, one object a line, and show no bar.")] = False,
    metrics_file: MetricsFile = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Score the night's exams of the site's source, deliver the results, and write the morning summary.

    Start it as often as you like: only one runs at a time, a night that was broken off is gone on with, and what a
    PACS did not take on earlier nights is sent. Results are in OUT/DAY, the summary there and in OUT/summary.html.

    Exit code 0: every exam is scored or rejected with its reason, and everything is delivered. 1: some exams failed,
    or objects still wait or were turned down; the rest is done. 2: tonight's source could not be read, another night
    is running, or wrong use. 130: stopped.
    """
    from screening.cli import one_sentence  # there this command joins

    arguments = {"site": site, "out": out, "model": model}
    options = {
        "engine": engine,
        "address": address,
        "gpus": gpus,
        "memory_gb": memory_gb,
        "workers": workers,
        "half": half,
    }
    with one_sentence(), _stopped_by_sigterm():
        from screening.nightly.logs import set_up
        from screening.nightly.metrics import NightMetrics
        from screening.nightly.run import Plan
        from screening.nightly.source import source_of, the_day
        from screening.site import load_site

        set_up(log_json, logging.getLogger().isEnabledFor(logging.DEBUG))
        profile = load_site(site)
        plan = Plan(
            out=out,
            day=the_day(day, source_of(profile)),
            again=_again(arguments),
            patience_s=patience,
            retry_failed=retry_failed,
        )
        metrics = NightMetrics(profile.name, metrics_file, metrics_port, metrics_host)
        code = _run(plan, profile, model, options, metrics, log_json)
    raise typer.Exit(code)


def _run(
    plan: Plan,
    profile: SiteProfile,
    model: str | None,
    options: dict[str, Any],
    metrics: NightMetrics,
    json_lines: bool,
) -> int:
    """Run the night and tell it; the exit code."""
    from dataclasses import replace

    from screening.audit_log import audit_folder, open_log
    from screening.nightly.advice import Urgency
    from screening.nightly.lock import LockedError, only_one
    from screening.nightly.logs import Steps
    from screening.nightly.run import run_nights

    try:
        with only_one(plan.out):
            from screening.model.bundle import load_bundle
            from screening.model.precision import bfloat16_pays

            bundle = load_bundle(model)
            metrics.model(bundle)
            half = bfloat16_pays(bundle.device) if options["half"] is None else options["half"]
            plan = replace(plan, batch={**options, "half": half})
            log = open_log(audit_folder(plan.out, profile.audit_log))
            morning = run_nights(plan, profile, bundle, log, Steps(json_lines), (metrics,))
            _write(morning, plan.out)
    except LockedError:
        raise  # the night that is running has the figures
    except ScreeningError:
        metrics.ended(NOT_DONE, Urgency.ACT)
        raise
    code = _code(morning)
    metrics.delivery(morning.delivered.destinations)
    metrics.ended(code, morning.urgency)
    _tell(morning, plan.out, code)
    return code


def _write(morning: Morning, out: Path) -> None:
    """The summary into the night's folder and, for a place that stays the same, into `out`."""
    from screening.nightly.page import write_html
    from screening.nightly.summary import write_json

    for folder in (morning.worked[0].night.folder(out), out):
        write_json(morning.record(), folder)
        write_html(morning.record(), folder)


def _code(morning: Morning) -> int:
    tonight = morning.worked[0]
    if any(one.interrupted for one in morning.worked):
        return INTERRUPTED
    if tonight.problem:
        return NOT_DONE
    failed = any(one.problem or one.counts.exams.failed or one.counts.instances.failed for one in morning.worked)
    return SOME_FAILED if failed or not morning.delivered.done else 0


def _tell(morning: Morning, out: Path, code: int) -> None:
    record = morning.record()
    LOG.info(
        "%s",
        record["headline"],
        extra={"verdict": record["verdict"], "exit_code": code, "exams": record["nights"][0]["exams"]},
    )
    typer.echo(record["headline"])
    for one in morning.todos:
        typer.echo(f"- {one.urgency.name}: {one.what} {one.do}")
    typer.echo("Research only: not a medical device, not for clinical use.")
    typer.echo(f"Summary: {out / 'summary.html'}")


def _again(arguments: dict[str, Any]) -> str:
    """The command that runs a night again."""
    given = [(f"--{name}", str(value)) for name, value in arguments.items() if value is not None]
    return shlex.join(["screening", "nightly", *(word for pair in given for word in pair)])


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM (systemd, Kubernetes) stop the night as Ctrl-C does: what was finished is written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
