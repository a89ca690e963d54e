"""One run of the night: earlier nights that were broken off, tonight's, delivery of all that waits, the summary."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from screening.audit_log import AuditLog, ChainedLog
from screening.audit_log.deliveries import log_deliveries
from screening.batch.events import BatchObserver, FinishedBatch, FinishedExam, OnProgress
from screening.delivery.outbox import Outbox
from screening.errors import ScreeningError
from screening.nightly.delivering import Delivered, Destined, queue_night, send_all, site_outbox, standing
from screening.nightly.drift import drift_section
from screening.nightly.earlier import Known
from screening.nightly.logs import Steps
from screening.nightly.night import Night, Stage, broken_off, night_of, nights
from screening.nightly.select import Selection, select
from screening.nightly.source import by_day, source_of
from screening.nightly.summary import Morning, Worked, read_last_nights
from screening.nightly.todo import todos
from screening.operating_point import site_operating_point
from screening.site import SiteProfile
from screening.sources.folder import FolderScan

if TYPE_CHECKING:  # the bundle's module loads torch
    from screening.model.bundle import Bundle

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a night is run. `again`: the command that would run one again, for people. `batch`: how (see `Batch`)."""

    out: Path
    day: date
    again: str
    patience_s: float = 600.0
    retry_failed: bool = False
    batch: Mapping[str, Any] = field(default_factory=dict)


def run_nights(
    plan: Plan,
    profile: SiteProfile,
    bundle: Bundle,
    log: ChainedLog,
    steps: Steps,
    observers: Sequence[BatchObserver] = (),
) -> Morning:
    """Do all that is to be done tonight, log it in the audit log, and tell it. Hold `only_one` meanwhile.

    A night whose source cannot be reached is told as such, and the rest is done. Ctrl-C ends scoring; what was
    finished is written, and the next start goes on. Raises StoreError if the folder `plan.out` or the outbox cannot be
    written, ConfigError if the profile has no source or the night's folder is another site's.
    """
    return _Run(plan, profile, bundle, log, steps, observers).morning()


class _Run:
    def __init__(
        self,
        plan: Plan,
        profile: SiteProfile,
        bundle: Bundle,
        log: ChainedLog,
        steps: Steps,
        observers: Sequence[BatchObserver],
    ) -> None:
        self._plan, self._profile, self._bundle = plan, profile, bundle
        self._log, self._steps, self._observers = log, steps, observers
        self._source = source_of(profile)
        self._point = site_operating_point(profile.operating_point, bundle.calibration, bundle.model_id)

    def morning(self) -> Morning:
        """Run the nights, deliver, and put together what is to be told."""
        started, clock = datetime.now(UTC), time.perf_counter()
        tonight = night_of(self._plan.out, self._plan.day, self._profile.name)
        worked: list[Worked] = []
        for night in (*self._taken_up(), tonight):
            if night.day != tonight.day:
                LOG.info("the night of %s was not finished; going on with it", night.day)
            worked.append(self._work(night))
            if worked[-1].interrupted:
                break
        if worked[-1].night.day != tonight.day:
            worked.append(Worked(tonight, interrupted=True))
        worked.reverse()  # tonight first
        before_delivery = time.perf_counter()
        with site_outbox(self._profile, self._plan.out) as outbox:
            worked, delivered = self._deliver(worked, outbox)
        now = time.perf_counter()
        return self._told(worked, delivered, started, {"delivery": now - before_delivery, "total": now - clock})

    def _taken_up(self) -> tuple[Night, ...]:
        """Earlier nights that are not finished. What failed is tried again where the source still has it by day."""
        found = broken_off(self._plan.out, self._profile.name, self._plan.day)
        return found if by_day(self._source) else tuple(one for one in found if one.stage is Stage.BEGUN)

    def _work(self, night: Night) -> Worked:
        """Select and score one night."""
        night = night.begin(self._plan.out)
        clock = time.perf_counter()
        try:
            selection = self._select(night)
            selected = time.perf_counter()
            worked = self._score(night, selection)
        except ScreeningError as error:
            LOG.error("the night of %s: %s", night.day, error)
            return Worked(night.broken(self._plan.out, str(error)))
        LOG.info(
            "the night of %s: %d exams scored, %d rejected, %d failed, %d done before",
            *(night.day, worked.counts.exams.scored, worked.counts.exams.rejected, worked.counts.exams.failed),
            worked.known.exams,
            extra={"night": night.day.isoformat()},
        )
        seconds = {"source": selected - clock, "score": time.perf_counter() - selected}
        return replace(worked, seconds=seconds)

    def _select(self, night: Night) -> Selection:
        """What the night has to score.

        An earlier night of a source that is not told apart by days has what its ledger says: what came since is in the
        source too, and is tonight's.
        """
        if night.day != self._plan.day and not by_day(self._source):
            return Selection(FolderScan((), (), 0), Known(), self._source.at, {})
        others = [one.folder(self._plan.out) for one in nights(self._plan.out) if one.day != night.day]
        return select(night, self._profile, self._plan.out, reversed(others), self._steps)

    def _score(self, night: Night, selection: Selection) -> Worked:
        # torch takes seconds to import; a night that cannot begin should not wait for it.
        from screening.batch.priors import score_priors
        from screening.batch.runner import Batch, run_batch

        folder = night.folder(self._plan.out)
        options = self._plan.batch
        config = {
            "source": selection.where,
            "site": self._profile.model_dump(mode="json"),
            "model": self._bundle.model_id,
            "night": night.day.isoformat(),
            **({"fetched": selection.fetched} if selection.fetched else {}),
            **options,
        }
        with self._steps.step("Earlier exams") as step:
            exams = score_priors(
                selection.scan.exams,
                selection.where,
                self._profile,
                self._bundle,
                folder,
                options.get("workers"),
                bool(options.get("half")),
                resume=True,
                on_progress=step,
            )
        batch = Batch(
            site=self._profile.name,
            exams=exams,
            rejections=selection.scan.rejections,
            config=config,
            resume=True,
            operating_point=self._point,
            **options,
        )
        timed = _Timed()
        with self._steps.step("Scoring exams") as step:
            watchers = (AuditLog(self._log, folder), *self._observers, OnProgress(step), timed)
            outcome = run_batch(batch, self._bundle, folder, watchers)
        return Worked(
            night=night,
            counts=outcome.counts,
            known=selection.known,
            seconds_per_exam=timed.seconds_per_exam,
            interrupted=outcome.interrupted,
        )

    def _deliver(self, worked: Sequence[Worked], outbox: Outbox) -> tuple[list[Worked], Delivered]:
        """Queue the objects of what was scored, and send all that waits."""
        if any(one.interrupted for one in worked):
            return list(worked), Delivered(standing(outbox, self._profile))
        problems: list[tuple[str, str]] = []
        finished = []
        for one in worked:
            clock = time.perf_counter()
            if not one.problem:
                problems += self._queue(one, outbox)
                failures = one.counts.exams.failed + one.counts.instances.failed
                night = one.night.reached(self._plan.out, Stage.FAILURES if failures else Stage.DONE)
                one = replace(one, night=night, seconds={**one.seconds, "objects": time.perf_counter() - clock})
            finished.append(one)
        delivered = Delivered(self._send(outbox), tuple(problems))
        log_deliveries(self._log, outbox)
        return finished, delivered

    def _queue(self, one: Worked, outbox: Outbox) -> tuple[tuple[str, str], ...]:
        exams = one.counts.exams
        total = exams.scored + exams.rejected + exams.failed
        if not total:
            return ()
        with self._steps.step("Making DICOM objects") as step:
            folder = one.night.folder(self._plan.out)
            problems = queue_night(folder, self._bundle, self._profile, outbox, lambda done: step(done, total))
        for exam, sentence in problems:
            LOG.warning("exam %.80r: %s", exam, sentence)  # an exam id may come from a header
        return problems

    def _send(self, outbox: Outbox) -> tuple[Destined, ...]:
        with self._steps.step("Sending") as step:
            return send_all(
                outbox,
                self._profile,
                self._plan.patience_s,
                self._plan.retry_failed,
                lambda _, done, waiting: step(done, done + waiting),
            )

    def _told(
        self, worked: Sequence[Worked], delivered: Delivered, started: datetime, seconds: dict[str, float]
    ) -> Morning:
        last = read_last_nights(self._plan.out, self._profile.name, self._plan.day)
        drift = drift_section(self._plan.out, self._profile, self._bundle, self._plan.day)
        finished = datetime.now(UTC)
        rules = self._profile.delivery
        card = self._bundle.card
        return Morning(
            site=self._profile.name,
            mode=rules.mode.value,
            decided_by=rules.decided_by or "",
            model={
                "id": self._bundle.model_id,
                "name": card.name,
                "version": card.version,
                "sha256": self._bundle.sha256,
            },
            worked=tuple(worked),
            delivered=delivered,
            last_nights=last,
            todos=todos(worked, delivered, last, drift.look if drift else (), finished),
            started=started,
            finished=finished,
            seconds=seconds,
            drift=drift,
            again=self._plan.again,
        )


class _Timed(BatchObserver):
    """How long an exam took, all workers together."""

    def __init__(self) -> None:
        self.seconds_per_exam: float | None = None
        self._exams = 0

    def exam_finished(self, event: FinishedExam) -> None:
        """One of this run; what an earlier run had finished is told with 0 done."""
        self._exams += event.done > 0

    def batch_finished(self, event: FinishedBatch) -> None:
        """The mean over this run."""
        if self._exams:
            self.seconds_per_exam = event.seconds / self._exams
