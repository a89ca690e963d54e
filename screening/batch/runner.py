"""Score a batch: every exam that was read ends as scored, rejected or failed, in the store and in the tables."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from screening.batch.dispatch import Dispatcher, End, Retries
from screening.batch.engines import EXAM_SECONDS, EngineOptions, open_engine
from screening.batch.events import BatchObserver, FinishedBatch, FinishedExam, StartedBatch, config_digest
from screening.batch.folder import discard_earlier, locked
from screening.batch.ledger import Ledger, Untold
from screening.batch.outputs import RESULT_FILES, write_outputs
from screening.batch.worker import HOST, Output, Scorer, Setup, Worker, WorkerSetup, failed, full_colour
from screening.errors import ScreeningError, StoreError
from screening.exam import Exam
from screening.model.bundle import Bundle
from screening.model.calibration import OperatingPoint
from screening.reading_aid import mark_threshold
from screening.result import InstanceRejection
from screening.store import STORE_NAME, BatchSummary, Counts, ResultStore

__all__ = ["RESULT_FILES", "Batch", "Outcome", "run_batch"]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """What is to be scored and how.

    Parameters
    ----------
    exams
        Any iterable; it is read once, and need not fit in memory.
    rejections
        Instances that are no images; they are stored and counted.
    config
        Recorded in `batch.json`.
    workers, half
        How many workers (see `EngineOptions`; 0: none, but threads of this process), and whether in bfloat16.
    resume
        Keep results that `out` holds, and score what is missing, new, changed or failed; without, they are replaced.
        A database server's are always kept.
    show_all
        Give every exam its pictures in the report.
    operating_point
        The site's, if it has chosen one.
    engine, address, gpus, memory_gb, exam_seconds
        Where workers run; see `EngineOptions`. Processes of a machine (`local`) begin by importing the program's main
        module, which must do nothing but for `if __name__ == "__main__"`.
    retries
        How often an exam is tried again when its worker died or its files could not be read.
    database
        URL of a database server, which several machines share; None: the file `results.sqlite` in `out`. A database
        belongs to one `out`, which all of its machines must reach.
    """

    site: str
    exams: Iterable[Exam]
    rejections: Sequence[InstanceRejection]
    config: dict[str, Any]
    workers: int | None = None
    half: bool = False
    resume: bool = False
    show_all: bool = False
    operating_point: OperatingPoint | None = None
    engine: str = "local"
    address: str | None = None
    gpus: float = 0.0
    memory_gb: float | None = None
    exam_seconds: float = EXAM_SECONDS
    retries: Retries = field(default_factory=Retries)
    database: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How the batch ended. `interrupted`: the user stopped it before all exams were done."""

    counts: Counts
    interrupted: bool


def run_batch(
    batch: Batch, bundle: Bundle, out: Path, observers: Sequence[BatchObserver] = (), setup: Setup | None = None
) -> Outcome:
    """Score the exams of a batch and write the results under `out`.

    Each exam is stored in one transaction with its state as soon as it is scored, so that whatever stops the batch
    leaves complete exams, and another run with `resume` does the rest. Tables, report and `batch.json` are written at
    the end, also after Ctrl-C.

    Parameters
    ----------
    observers
        Told of each exam after it is stored.
    setup
        How processes become workers; by default they load `bundle` from its folder.

    Raises
    ------
    StoreError
        If `out` or the database cannot be written, or another program scores into `out`.
    ScreeningError
        If workers cannot be started.
    """
    with contextlib.ExitStack() as stack:
        if batch.database is None:
            stack.enter_context(locked(out))
            if not batch.resume:
                discard_earlier(out, (*RESULT_FILES, STORE_NAME, f"{STORE_NAME}-wal", f"{STORE_NAME}-shm"))
        store = stack.enter_context(ResultStore(batch.database or out / STORE_NAME))
        return _Run(batch, bundle, out, store, observers, setup).run()


class _Run:
    """One run of `run_batch`, with its store open."""

    def __init__(
        self,
        batch: Batch,
        bundle: Bundle,
        out: Path,
        store: ResultStore,
        observers: Sequence[BatchObserver],
        setup: Setup | None,
    ) -> None:
        self._batch, self._bundle, self._out, self._store = batch, bundle, out, store
        self._observers, self._setup = observers, setup
        self._started, self._clock = datetime.now(UTC), time.perf_counter()
        self._config_sha256 = config_digest(batch.config)
        self._ledger = Ledger(store, bundle.model_id, bundle.sha256, self._config_sha256)
        self._done = self._total = 0

    def run(self) -> Outcome:
        interrupted = False
        try:
            self._score()
        except KeyboardInterrupt:
            interrupted = True
            LOG.warning("stopped by the user; what was finished is written")
        finally:
            with contextlib.suppress(StoreError):  # whoever comes next finds out that this runner is gone
                self._ledger.leave()
        return self._conclude(interrupted)

    def _score(self) -> None:
        self._store.add_rejections(self._batch.rejections)
        self._ledger.queue(self._batch.exams)
        state = self._ledger.state()
        self._total = state.queued + state.claimed
        self._tell_started()
        for one in self._ledger.untold():
            self._tell_untold(one)
        if not self._total:
            return
        batch = self._batch
        options = EngineOptions(
            batch.engine,
            batch.workers,
            batch.address,
            gpus=batch.gpus,
            memory_gb=batch.memory_gb,
            exam_seconds=batch.exam_seconds,
        )
        engine = open_engine(options, self._worker_setup, self._worker_here, self._total)
        try:
            Dispatcher(
                self._ledger,
                engine,
                self._batch.retries,
                lambda exam, rejection: failed(exam, self._bundle, rejection),
                self._tell_ended,
                self._tell_state,
            ).run()
        finally:
            engine.close()

    def _worker_here(self, threads: int) -> Scorer:
        if self._setup is not None:
            return self._setup.open(threads)
        return Worker(self._bundle, self._batch.half, threads, self._output())

    def _worker_setup(self) -> Setup:
        if self._setup is not None:
            return self._setup
        if self._bundle.folder is None:
            raise ScreeningError("a bundle that is only in memory is scored with in this process alone: 0 workers")
        device = str(self._bundle.device)
        if self._batch.engine == "ray":  # its workers are elsewhere
            device = "cuda" if self._batch.gpus else "cpu"
        return WorkerSetup(self._bundle.folder, self._bundle.sha256, device, self._batch.half, self._output())

    def _output(self) -> Output:
        by_exam: dict[str, tuple[InstanceRejection, ...]] = {}
        for one in self._batch.rejections:
            if one.exam_id:
                by_exam[one.exam_id] = (*by_exam.get(one.exam_id, ()), one)
        return Output(self._out.resolve(), self._batch.operating_point, by_exam)

    # Telling observers

    def _tell_started(self) -> None:
        event = StartedBatch(
            site=self._batch.site,
            model_id=self._bundle.model_id,
            bundle_sha256=self._bundle.sha256,
            config=self._batch.config,
            config_sha256=self._config_sha256,
            operating_points={one.name: one.threshold for one in self._bundle.calibration.operating_points},
            host=HOST,
            engine=self._batch.engine,
            started=self._started,
            total=self._total,
        )
        for observer in self._observers:
            observer.batch_started(event)

    def _tell_ended(self, end: End) -> None:
        self._done += 1
        self._tell_exam(
            end.task.key,
            FinishedExam(
                exam=end.task.exam,
                result=end.report.result,
                attempts=end.task.attempt,
                host=end.report.host or HOST,
                worker=end.report.worker,
                started=_utc(end.started),
                finished=_utc(end.finished),
                seconds=end.report.seconds,
                digests={image_id: file.sha256 for image_id, file in end.report.files.items()},
                model_id=self._bundle.model_id,
                bundle_sha256=self._bundle.sha256,
                config_sha256=self._config_sha256,
                operating_point=self._point,
                done=self._done,
                total=max(self._total, self._done),
            ),
        )

    def _tell_untold(self, one: Untold) -> None:
        """An earlier run stored this exam and died before it could say so."""
        result = self._store.result(one.exam.exam_id, self._bundle.model_id)
        if result is None:
            return
        self._tell_exam(
            one.key,
            FinishedExam(
                exam=one.exam,
                result=result,
                attempts=one.attempts,
                host=one.host,
                worker=one.worker,
                started=_utc(one.started),
                finished=_utc(one.finished),
                seconds=one.seconds,
                digests=one.digests,
                model_id=self._bundle.model_id,
                bundle_sha256=self._bundle.sha256,
                config_sha256=one.config_sha256,
                operating_point=self._point,
                done=0,
                total=self._total,
            ),
        )

    def _tell_exam(self, key: int, event: FinishedExam) -> None:
        for observer in self._observers:
            observer.exam_finished(event)
        self._ledger.told(key)

    def _tell_state(self) -> None:
        if self._observers:
            state = self._ledger.state()
            for observer in self._observers:
                observer.queue_seen(state)

    @property
    def _point(self) -> str | None:
        point = self._batch.operating_point
        return None if point is None else point.name

    # The end

    def _conclude(self, interrupted: bool) -> Outcome:
        """Write what is made of the store."""
        left = self._ledger.unfinished() if interrupted else (0, 0)
        counts = self._store.counts(self._bundle.model_id, *left)
        finished, seconds = datetime.now(UTC), time.perf_counter() - self._clock
        summary = BatchSummary(
            site=self._batch.site,
            model_id=self._bundle.sha256,
            model_name=self._bundle.card.name,
            model_version=self._bundle.card.version,
            started=self._started,
            finished=finished,
            counts=counts,
            reference=full_colour(self._bundle),
            config=self._batch.config,
            timings={"total": seconds, "per_exam": seconds / max(1, self._done)},
            key_frame_threshold=mark_threshold(self._bundle.calibration, self._batch.operating_point),
        )
        self._store.add_batch(summary)
        write_outputs(self._out, self._store, summary, self._bundle, self._batch.show_all, self._batch.operating_point)
        self._tell_state()
        event = FinishedBatch(counts, interrupted, finished, seconds)
        for observer in self._observers:
            observer.batch_finished(event)
        return Outcome(counts, interrupted)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
