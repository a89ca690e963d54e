"""Tells observers of exams that are scored one by one as they arrive, in the words of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from screening.batch.events import (
    BatchObserver,
    FinishedBatch,
    FinishedExam,
    QueueState,
    StartedBatch,
    config_digest,
)
from screening.batch.worker import HOST, Report, Task
from screening.model.bundle import Bundle
from screening.model.calibration import OperatingPoint
from screening.store import Counts


@dataclass
class Telling:
    """What the observers of a listener are told. How many exams will come nobody knows: `total` is what came so far.

    Parameters
    ----------
    config
        What exams are scored with; `StartedBatch.config`.
    """

    observers: Sequence[BatchObserver]
    site: str
    bundle: Bundle
    config: Mapping[str, Any]
    operating_point: OperatingPoint | None
    _started: datetime = field(default_factory=lambda: datetime.now(UTC), init=False)
    _done: int = field(default=0, init=False)

    def started(self, waiting: int) -> None:
        """Scoring begins, with so many exams that wait already."""
        event = StartedBatch(
            site=self.site,
            model_id=self.bundle.model_id,
            bundle_sha256=self.bundle.sha256,
            config=self.config,
            config_sha256=config_digest(self.config),
            operating_points={one.name: one.threshold for one in self.bundle.calibration.operating_points},
            host=HOST,
            engine="listen",
            started=self._started,
            total=waiting,
        )
        for observer in self.observers:
            observer.batch_started(event)

    def exam(self, task: Task, report: Report, started: datetime) -> None:
        """An exam was scored just now, and its result is stored."""
        self._done += 1
        event = FinishedExam(
            exam=task.exam,
            result=report.result,
            attempts=task.attempt,
            host=report.host,
            worker=report.worker,
            started=started,
            finished=datetime.now(UTC),
            seconds=report.seconds,
            digests={image_id: file.sha256 for image_id, file in report.files.items()},
            model_id=self.bundle.model_id,
            bundle_sha256=self.bundle.sha256,
            config_sha256=config_digest(self.config),
            operating_point=None if self.operating_point is None else self.operating_point.name,
            done=self._done,
            total=self._done,
        )
        for observer in self.observers:
            observer.exam_finished(event)

    def queue(self, state: QueueState) -> None:
        """How many exams wait and have ended."""
        for observer in self.observers:
            observer.queue_seen(state)

    def finished(self, counts: Counts) -> None:
        """Scoring ends; tables and report are written."""
        now = datetime.now(UTC)
        seconds = (now - self._started).total_seconds()
        event = FinishedBatch(counts, interrupted=counts.exams.unfinished > 0, finished=now, seconds=seconds)
        for observer in self.observers:
            observer.batch_finished(event)
