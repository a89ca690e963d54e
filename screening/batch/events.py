"""What a batch tells those who watch it: the audit log, the metrics, the progress bar."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from screening.exam import Exam
from screening.result import ExamResult
from screening.store.batch import Counts


@dataclass(frozen=True)
class StartedBatch:
    """A batch begins. All times of events are aware and in UTC.

    Parameters
    ----------
    config
        What the batch is run with, as in `batch.json`; it may hold secrets, which `batch.json` leaves out.
    config_sha256
        Digest of `config` as canonical JSON; with `bundle_sha256` it says what an exam was scored with.
    operating_points
        The bundle's operating points: name to threshold of the exam score.
    total
        Exams of the batch that are to be scored, without those that are finished already.
    """

    site: str
    model_id: str
    bundle_sha256: str
    config: Mapping[str, Any]
    config_sha256: str
    operating_points: Mapping[str, float]
    host: str
    engine: str
    started: datetime
    total: int


@dataclass(frozen=True)
class FinishedExam:
    """An exam ended as scored, rejected or failed, and its result is in the store.

    Parameters
    ----------
    exam
        What went in.
    result
        What came out, without pixels (no heatmap, no preview).
    attempts
        How many times it was tried, this one included; at least 1.
    host, worker
        Where it was scored; `worker` is unique within the host ("" where no worker was left to score it).
    started, finished
        Of the last attempt, in UTC, by the clock of the machine that runs the batch.
    seconds
        By stage: `images` (read, decode and network, as far as they kept the exam waiting), `score`, `figures`, and
        their `total`; empty for an exam that killed its worker.
    digests
        SOP Instance UID to SHA-256 (hex) of the file that was read; without files that could not be read.
    model_id, bundle_sha256, config_sha256
        What it was scored with; see `StartedBatch`.
    operating_point
        Name of the operating point that the site has chosen, if any.
    done, total
        How many exams of this run are finished, this one included, and how many there are; `done` is 0 for an exam of
        an earlier run that died before it could tell.
    """

    exam: Exam
    result: ExamResult
    attempts: int
    host: str
    worker: str
    started: datetime
    finished: datetime
    seconds: Mapping[str, float]
    digests: Mapping[str, str]
    model_id: str
    bundle_sha256: str
    config_sha256: str
    operating_point: str | None
    done: int
    total: int


@dataclass(frozen=True)
class QueueState:
    """How many exams of the ledger are in each state (for this model), and how long the oldest has been waiting."""

    queued: int
    claimed: int
    scored: int
    rejected: int
    failed: int
    oldest_queued_seconds: float


@dataclass(frozen=True)
class FinishedBatch:
    """A batch ends: `counts` as in `batch.json`; `interrupted` if it was stopped before all exams were done."""

    counts: Counts
    interrupted: bool
    finished: datetime
    seconds: float


class BatchObserver:
    """Watches a batch; called in the runner's process and thread, in the order of events.

    Subclasses override what they need; the rest does nothing. An exam is told *at least once*: after a crash between
    its transaction and the call, the next run tells it again. What an observer raises stops the batch.
    """

    def batch_started(self, event: StartedBatch) -> None:
        """Called once, before the first exam."""

    def exam_finished(self, event: FinishedExam) -> None:
        """Called for each exam after its result is stored."""

    def queue_seen(self, event: QueueState) -> None:
        """Called at the start, every few seconds, and at the end."""

    def batch_finished(self, event: FinishedBatch) -> None:
        """Called once, after tables and report are written; not when an error stops the batch."""


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a configuration as canonical JSON; see `StartedBatch.config_sha256`."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


class OnProgress(BatchObserver):
    """Calls `on_step` with how many exams are done and how many there are."""

    def __init__(self, on_step: Callable[[int, int], None]) -> None:
        self._on_step = on_step

    def exam_finished(self, event: FinishedExam) -> None:
        """One more."""
        self._on_step(event.done, event.total)
