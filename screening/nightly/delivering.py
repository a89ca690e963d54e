"""A night's delivery: its objects into the outbox, and all that waits there, of earlier nights too, to the PACS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from screening.delivery.deliver import deliver_results, log_mode
from screening.delivery.destinations import outbox_path, sender_for
from screening.delivery.outbox import Outbox, Parcel, State
from screening.delivery.sending import send_queued
from screening.errors import ConfigError
from screening.operating_point import site_operating_point
from screening.site import SiteProfile

if TYPE_CHECKING:  # the bundle's module loads torch
    from screening.model.bundle import Bundle

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Destined:
    """How it stands with one destination: objects by state, and since when the oldest waits, if any does.

    `arrived`: in this run. `problem`: why the run for it ended early, one sentence. `failures`: why objects have
    failed, each reason with its number. `present`: whether it is a destination of the site's present mode.
    """

    name: str
    counts: Mapping[State, int]
    oldest: datetime | None
    arrived: int = 0
    problem: str = ""
    failures: Mapping[str, int] | None = None
    present: bool = True

    @property
    def done(self) -> bool:
        """Whether nothing waits and nothing has failed."""
        return not self.counts[State.QUEUED] and not self.counts[State.FAILED] and not self.problem


@dataclass(frozen=True)
class Delivered:
    """What became of delivery: each destination, and what was the matter with making an exam's objects."""

    destinations: tuple[Destined, ...]
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def done(self) -> bool:
        """Whether everything has arrived."""
        return not self.problems and all(one.done for one in self.destinations if one.present)


def site_outbox(profile: SiteProfile, out: Path) -> Outbox:
    """The outbox that all nights share: the site's, or one in `out`."""
    return Outbox(outbox_path(profile.delivery, out))


def queue_night(
    results: Path, bundle: Bundle, profile: SiteProfile, outbox: Outbox, on_progress: Callable[[int], None]
) -> tuple[tuple[str, str], ...]:
    """Make and queue the objects of a night; what was the matter, as (exam, sentence). Repeated, it adds nothing new.

    Raises StoreError if a file or the outbox cannot be written.
    """
    problems = []
    point = site_operating_point(profile.operating_point, bundle.calibration, bundle.model_id)
    made = deliver_results(
        results, bundle, outbox, profile.delivery.destinations, point, profile.delivery.patient_system
    )
    for number, exam in enumerate(made, start=1):
        problems += [(exam.exam_id, sentence) for sentence in exam.problems]
        on_progress(number)
    return tuple(problems)


def send_all(
    outbox: Outbox,
    profile: SiteProfile,
    patience_s: float,
    retry_failed: bool,
    on_progress: Callable[[str, int, int], None],
) -> tuple[Destined, ...]:
    """Send what is in the outbox to the destinations of the site's mode; and how it stands with each afterwards.

    One that cannot be sent to (no credentials, a refusal) is told in its `problem`; the others go on. Raises
    StoreError if the outbox cannot be read or written.
    """
    if log_mode(outbox, profile.name, profile.delivery, profile.model_dump_json()):
        LOG.info("site %s: delivery is in %s mode from now on", profile.name, profile.delivery.mode)
    arrived: dict[str, int] = {}
    problems: dict[str, str] = {}
    for destination in profile.delivery.destinations:
        name = destination.name
        try:
            sender = sender_for(destination)
        except ConfigError as error:
            problems[name] = str(error)
            continue
        outbox.make_due(name, failed=retry_failed)
        sent = send_queued(outbox, name, sender, patience_s, partial(on_progress, name))
        arrived[name], problems[name] = sent.arrived, sent.problem
        LOG.info("%s: %d objects sent, %d waiting, %d failed", name, sent.arrived, sent.waiting, sent.failed)
    return standing(outbox, profile, arrived, problems)


def standing(
    outbox: Outbox, profile: SiteProfile, arrived: Mapping[str, int] | None = None, problems: Mapping[str, str] = {}
) -> tuple[Destined, ...]:
    """How it stands with each destination of the present mode, and with others for which something still waits."""
    present = [one.name for one in profile.delivery.destinations]
    waiting: dict[str, list[Parcel]] = {}
    for parcel in outbox.unfinished():
        waiting.setdefault(parcel.destination, []).append(parcel)
    return tuple(
        Destined(
            name=name,
            counts=outbox.counts(name),
            oldest=min((one.queued for one in waiting.get(name, ()) if one.state is State.QUEUED), default=None),
            arrived=(arrived or {}).get(name, 0),
            problem=problems.get(name, ""),
            failures=_failures(waiting.get(name, ())),
            present=name in present,
        )
        for name in dict.fromkeys([*present, *waiting])
    )


def _failures(parcels: list[Parcel] | tuple[()]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for one in parcels:
        if one.state is State.FAILED:
            reasons[one.error] = reasons.get(one.error, 0) + 1
    return reasons
