"""Score what arrives: complete exams in order of arrival, each stored and queued for delivery as soon as it is scored.

An exam is stored, told to the observers (the audit log), queued for delivery, and only then noted as scored. After a
crash in between it is scored, told and queued once more: with the same images and model the result and the identifiers
of its objects are the same, and the outbox keeps each object once. So what observers were not told is not delivered.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from screening.batch.events import BatchObserver, QueueState
from screening.batch.outputs import write_outputs
from screening.batch.telling import Telling
from screening.batch.worker import Output, Task, Worker, full_colour
from screening.delivery.context import prepare
from screening.delivery.deliver import deliver_exam
from screening.delivery.headers import DeliveryError
from screening.delivery.outbox import BackOff, Outbox
from screening.errors import StoreError
from screening.exam import Exam
from screening.model.bundle import Bundle
from screening.model.calibration import OperatingPoint
from screening.reading_aid import mark_threshold
from screening.report import PRIORS_NAME
from screening.result import ExamResult, InstanceRejection
from screening.site import Destination, SiteProfile
from screening.sources.completeness import Completeness, Ready
from screening.sources.fetch import Client
from screening.sources.folder import read_folder
from screening.sources.inbox import Inbox
from screening.sources.priors import fetch_priors
from screening.store import STORE_NAME, BatchSummary, Counts, ResultStore

LOG = logging.getLogger(__name__)

_AT_ONCE = 8
"""Exams that are read ahead together; the next ones are chosen when these are done."""
_TABLES_EVERY_S = 60.0
_STATE_EVERY_S = 10.0
_PRIORS = BackOff(first_s=60.0, longest_s=900.0, most=5)


@dataclass(frozen=True)
class Setting:
    """What arrivals are scored with, and where results go. `pacs`: what is asked for priors, None for none.

    `observers` are told of each exam after it is stored and before it is queued for delivery; of earlier exams nothing.
    """

    profile: SiteProfile
    bundle: Bundle
    out: Path
    workers: int
    half: bool
    operating_point: OperatingPoint | None = None
    destinations: tuple[Destination, ...] = ()
    pacs: Client | None = None
    observers: Sequence[BatchObserver] = ()

    @property
    def config(self) -> dict[str, Any]:
        """As in `batch.json`."""
        return {"source": "listen", "site": self.profile.model_dump(mode="json"), "bfloat16": self.half}


@dataclass
class _Attempts:
    """How often the earlier exams of a woman were sought in vain, and when to seek again."""

    times: int = 0
    due: float = 0.0


@dataclass
class ArrivalScorer:
    """Scores complete exams of the inbox. `queued` is called when objects of an exam are in the outbox."""

    setting: Setting
    inbox: Inbox
    outbox: Outbox
    completeness: Completeness
    queued: Callable[[], None]
    _started: datetime = field(default_factory=lambda: datetime.now(UTC), init=False)
    _written: float = field(default=0.0, init=False)
    _stale: bool = field(default=True, init=False)
    _priors: dict[Path, _Attempts] = field(default_factory=dict, init=False)
    _seen: float = field(default=-_STATE_EVERY_S, init=False)

    def __post_init__(self) -> None:
        one = self.setting
        self._telling = Telling(one.observers, one.profile.name, one.bundle, one.config, one.operating_point)

    def run(self, stop: threading.Event, poll_s: float = 0.5, pause_s: float = 30.0) -> None:
        """Score until `stop` is set, then write the tables and the report; observers are told of begin and end.

        A full disk ends nothing: senders are told so, and scoring is tried again every `pause_s` seconds.
        """
        self._telling.started(len(self.inbox.waiting()))
        while not stop.is_set():
            try:
                busy = self.step(stop)
            except StoreError as error:
                LOG.error("%s Scoring goes on when that is mended.", error)
                stop.wait(pause_s)
                continue
            if not busy:
                stop.wait(poll_s)
        self._telling.finished(self._write_tables())

    def step(self, stop: threading.Event) -> bool:
        """Score the complete exams whose turn it is; if there are none, do what can wait. Whether there were any."""
        if time.monotonic() - self._seen >= _STATE_EVERY_S:
            self._tell_state()
        ready = [one for exam in self.inbox.waiting() if (one := self.completeness.ready(exam)) is not None]
        if ready:
            self._score(ready[:_AT_ONCE], stop)
            return True
        if self._seek_priors():
            return True
        if self._stale and time.monotonic() - self._written > _TABLES_EVERY_S:
            self._write_tables()
        return False

    def _score(self, ready: Sequence[Ready], stop: threading.Event) -> None:
        setting = self.setting
        scans = [(one, read_folder(one.exam.folder, setting.profile)) for one in ready]
        tasks = deque(Task(0, _with_warnings(exam, one)) for one, scan in scans for exam in scan.exams)
        rejections = {exam.exam_id: scan.rejections for _, scan in scans for exam in scan.exams}
        with ResultStore(setting.out / STORE_NAME) as store, _worker(setting, setting.out, rejections) as worker:
            for one, scan in scans:
                if stop.is_set():
                    return
                store.add_rejections(scan.rejections)
                for _ in scan.exams:
                    task = tasks.popleft()
                    started = datetime.now(UTC)
                    report = worker.run(task, tasks[0] if tasks else None)
                    store.add(report.result)
                    self._telling.exam(task, report, started)
                    self._deliver(report.result, scan.rejections)
                self._stale = True
                self.inbox.scored(one.exam)

    def _deliver(self, result: ExamResult, rejections: Sequence[InstanceRejection]) -> None:
        """Queue the objects of one result; those of an earlier one of this exam are superseded."""
        now = datetime.now(UTC)
        try:
            delivery = prepare(result, self.setting.bundle, now, self.setting.operating_point, rejections)
        except DeliveryError as error:
            LOG.warning(
                "exam %.80r is %s, and nothing of it can be delivered: %s", result.exam_id, result.status, error
            )
            return
        patients = self.setting.profile.delivery.patient_system
        done = deliver_exam(delivery, self.setting.out, self.outbox, self.setting.destinations, patients)
        LOG.info(
            "exam %.80r is %s: %d objects, %d queued", result.exam_id, result.status, len(done.objects), done.queued
        )
        for problem in done.problems:
            LOG.warning("exam %.80r: %s", result.exam_id, problem)
        self.queued()

    def _seek_priors(self) -> bool:
        """Fetch and score the earlier exams of one woman whose present exam is scored: they hold up no result."""
        pacs, profile = self.setting.pacs, self.setting.profile
        if pacs is None or not profile.priors.count:
            return False
        now = time.monotonic()
        waiting = (one for one in self.inbox.without_priors() if self._priors.setdefault(one, _Attempts()).due <= now)
        folder = next(waiting, None)
        if folder is None:
            return False
        exams = read_folder(folder, profile).exams
        once = BackOff(most=1)
        problem = ""
        for exam, found in zip(
            exams, fetch_priors(exams, pacs, profile, self.setting.out / PRIORS_NAME, once), strict=True
        ):
            self._score_priors(found.exams, found.rejections)
            problem = problem or found.problem
            if found.problem:
                self._warn(exam, found.problem)
        attempts = self._priors[folder]
        attempts.times += 1
        if problem and attempts.times < _PRIORS.most:
            attempts.due = now + _PRIORS.seconds(attempts.times)
        else:
            self.inbox.priors_sought(folder)
            del self._priors[folder]
        self._stale = True
        return True

    def _score_priors(self, exams: Sequence[Exam], rejections: Sequence[InstanceRejection]) -> None:
        if not exams and not rejections:
            return
        out = self.setting.out / PRIORS_NAME
        with ResultStore(out / STORE_NAME) as store:
            store.add_rejections(rejections)
            known = store.finished(self.setting.bundle.model_id)
            new = [exam for exam in exams if exam.exam_id not in known]
            with _worker(self.setting, out, {}) as worker:
                for exam in new:
                    store.add(worker.run(Task(0, exam)).result)

    def _tell_state(self) -> None:
        waiting = self.inbox.waiting()
        with ResultStore(self.setting.out / STORE_NAME) as store:
            ends = store.counts(self.setting.bundle.model_id).exams
        oldest = max(0.0, time.time() - waiting[0].since) if waiting else 0.0
        self._telling.queue(QueueState(len(waiting), 0, ends.scored, ends.rejected, ends.failed, oldest))
        self._seen = time.monotonic()

    def _write_tables(self) -> Counts:
        """Write the tables, the worklist and the report of all that was scored, as a batch does at its end."""
        setting = self.setting
        with ResultStore(setting.out / STORE_NAME) as store:
            summary = BatchSummary(
                site=setting.profile.name,
                model_id=setting.bundle.sha256,
                model_name=setting.bundle.card.name,
                model_version=setting.bundle.card.version,
                started=self._started,
                finished=datetime.now(UTC),
                counts=store.counts(setting.bundle.model_id, unfinished_exams=len(self.inbox.waiting())),
                reference=full_colour(setting.bundle),
                config=setting.config,
                key_frame_threshold=mark_threshold(setting.bundle.calibration, setting.operating_point),
            )
            write_outputs(setting.out, store, summary, setting.bundle, False, setting.operating_point)
        self._written, self._stale = time.monotonic(), False
        return summary.counts

    def _warn(self, exam: Exam, problem: str) -> None:
        """Say in the report that earlier exams are missing."""
        with ResultStore(self.setting.out / STORE_NAME) as store:
            for result in store.of_woman(exam.woman_id, self.setting.bundle.model_id):
                warning = f"earlier exams are missing: {problem}"
                if result.exam_id == exam.exam_id and warning not in result.warnings:
                    store.add(replace(result, warnings=(*result.warnings, warning)))


def _with_warnings(exam: Exam, ready: Ready) -> Exam:
    again = ("scored again: images came late or were changed",) if ready.exam.again else ()
    return replace(exam, warnings=(*exam.warnings, *again, *((ready.warning,) if ready.warning else ())))


@contextlib.contextmanager
def _worker(setting: Setting, out: Path, rejections: Mapping[str, tuple[InstanceRejection, ...]]) -> Iterator[Worker]:
    """What scores exams in this process, and draws them under `out`."""
    output = Output(out, setting.operating_point, rejections)
    with contextlib.closing(Worker(setting.bundle, setting.half, setting.workers, output)) as worker:
        yield worker
