"""The command `screening listen`."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from screening.options import Half, MetricsFile, MetricsHost, MetricsPort

if TYPE_CHECKING:
    from screening.nightly.metrics import NightMetrics
    from screening.site import SiteProfile
    from screening.sources.fetch import Client

LOG = logging.getLogger(__name__)


def join(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("listen")(listen_command)


def listen_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for what comes and for the results; it goes on with both.")
    ],
    site: Annotated[
        str | None, typer.Option("--site", help="Site profile, with `arrivals` and `delivery`. Default: default.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Instead of the site profile's.")] = None,
    ae_title: Annotated[
        str | None, typer.Option("--ae-title", help="Our own AE title, instead of the site profile's.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Model bundle: a folder, or models:/NAME/VERSION in MLflow. Default: the bundled."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Threads that decode and score images side by side.")
    ] = os.cpu_count() or 1,
    half: Half = None,
    metrics_file: MetricsFile = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Take what a PACS sends (C-STORE), score each exam when it is complete, and deliver its results.

    Runs until SIGTERM or Ctrl-C, which end it with exit code 0; started again, it goes on with what came and was not
    scored or sent. Exit code 2: wrong use.
    """
    from screening.cli import one_sentence  # there this command joins

    with one_sentence():
        from screening.nightly.metrics import NightMetrics
        from screening.site import SiteProfile, load_site

        # Their own words about broken connections would only repeat ours, and may quote what is received.
        for library in ("pynetdicom", "urllib3"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        profile = load_site(site)
        given = {"port": port, "ae_title": ae_title}
        rules = profile.arrivals.model_dump() | {key: value for key, value in given.items() if value is not None}
        profile = SiteProfile.model_validate(profile.model_dump() | {"arrivals": rules})
        metrics = NightMetrics(profile.name, metrics_file, metrics_port, metrics_host)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        _listen(profile, out, model, workers, half, metrics, stop)


def _listen(
    profile: SiteProfile,
    out: Path,
    model: str | None,
    workers: int,
    half: bool | None,
    metrics: NightMetrics,
    stop: threading.Event,
) -> None:
    from screening.audit_log import AuditLog, audit_folder, open_log
    from screening.audit_log.deliveries import log_deliveries
    from screening.batch.folder import locked
    from screening.delivery.background import BackgroundSending
    from screening.delivery.deliver import log_mode
    from screening.delivery.destinations import outbox_path, sender_for
    from screening.delivery.outbox import Outbox
    from screening.sources.completeness import Completeness
    from screening.sources.inbox import Inbox
    from screening.sources.listener import listening

    rules = profile.delivery
    senders = {one.name: sender_for(one) for one in rules.destinations}  # before any work: are the credentials there?
    log = open_log(audit_folder(out, profile.audit_log))
    pacs = _pacs(profile)
    completeness = Completeness(profile.arrivals, None if pacs is None else pacs.count)
    with (
        locked(out),
        Inbox(out, profile) as inbox,
        Outbox(outbox_path(rules, out)) as outbox,
        listening(profile, inbox),
    ):
        if log_mode(outbox, profile.name, rules, profile.model_dump_json()):
            LOG.info("site %s: delivery is in %s mode from now on", profile.name, rules.mode)
        LOG.info("%s listens on port %d", profile.arrivals.ae_title, profile.arrivals.port)
        # torch takes seconds to import, and senders should not wait for it.
        from screening.batch.arrivals import ArrivalScorer, Setting
        from screening.model.bundle import load_bundle
        from screening.model.precision import bfloat16_pays
        from screening.operating_point import site_operating_point

        bundle = load_bundle(model)
        metrics.model(bundle)
        setting = Setting(
            profile=profile,
            bundle=bundle,
            out=out,
            workers=workers,
            half=bfloat16_pays(bundle.device) if half is None else half,
            operating_point=site_operating_point(profile.operating_point, bundle.calibration, bundle.model_id),
            destinations=rules.destinations,
            pacs=pacs,
            observers=(AuditLog(log, out), metrics),
        )
        log_deliveries(log, outbox)  # those of a run that was killed
        with BackgroundSending(outbox, senders) as sending:
            LOG.info(
                "%s scores what comes. Research only: not a medical device, not for clinical use.", bundle.model_id
            )
            ArrivalScorer(setting, inbox, outbox, completeness, sending.wake).run(stop)
        log_deliveries(log, outbox)
    LOG.info("audit log %s: %s", log.folder, log.head())
    LOG.info("ended; what came and was not scored or sent goes on with the next start")


def _pacs(profile: SiteProfile) -> Client | None:
    """What is asked how many images an exam has, and for earlier exams."""
    from screening.sources.pacs import move_target, pacs_client

    known = {one.name: one for one in (*profile.delivery.live, *profile.delivery.shadow)}
    if profile.arrivals.pacs is None:
        return None
    move_to = profile.priors.move_to
    return pacs_client(known[profile.arrivals.pacs], profile, None if move_to is None else move_target(move_to))
