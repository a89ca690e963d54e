"""Between ledger and engine: claim, hand out, try again what may pass, isolate what kills, write each end once."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from screening.batch.engines import Crashed, Done, Engine
from screening.batch.ledger import BEAT_S, Ledger
from screening.batch.worker import Report, Task
from screening.exam import Exam
from screening.result import ExamResult, Reason, Rejection

LOG = logging.getLogger(__name__)

_AT_ONCE = 8
"""Exams that are claimed in one transaction, beyond what workers ask for."""


@dataclass(frozen=True)
class Retries:
    """How often, and how soon, an exam is tried again: after `first_s`, then twice as long each time."""

    most: int = 4
    first_s: float = 2.0
    longest_s: float = 60.0

    def pause(self, attempt: int) -> float:
        """Seconds to wait after so many attempts, at least 1."""
        return float(min(self.longest_s, self.first_s * 2.0 ** (attempt - 1)))


@dataclass(frozen=True)
class End:
    """How an exam ended; times in seconds since 1970."""

    task: Task
    report: Report
    started: float
    finished: float


@dataclass
class Dispatcher:
    """Scores all that is queued. `failed`: the result of an exam that could not be scored. `on_end`: after storing."""

    ledger: Ledger
    engine: Engine
    retries: Retries
    failed: Callable[[Exam, Rejection], ExamResult]
    on_end: Callable[[End], None]
    on_beat: Callable[[], None]
    _claimed: deque[Task] = field(default_factory=deque)
    _later: list[tuple[float, int, Task]] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)
    _running: set[int] = field(default_factory=set)
    _drained: bool = False
    _beaten: float = 0.0

    def run(self) -> None:
        """Work until every exam of the ledger has ended, here or at another runner.

        Raises
        ------
        StoreError, ScreeningError
            As `Engine.wait` and the ledger do.
        """
        while True:
            self._beat()
            self._supply()
            at_work = self._claimed or self._later or self._running
            if self._drained and not at_work and not self.ledger.others_work():
                return
            for ended in self.engine.wait(self._patience()):
                self._ended(ended)

    def _supply(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._claimed.appendleft(heapq.heappop(self._later)[2])
        room = self.engine.room()
        if room > len(self._claimed) and not self._drained:
            held = {*self._running, *(task.key for task in self._claimed), *(task.key for *_, task in self._later)}
            number = max(room - len(self._claimed), _AT_ONCE)
            claimed = self.ledger.claim(number, held)
            self._claimed.extend(claimed)
            self._drained = len(claimed) < number
        for _ in range(min(room, len(self._claimed))):
            task = self._claimed.popleft()
            self._running.add(task.key)
            self.engine.submit(task)

    def _patience(self) -> float:
        """Seconds until there is something to do, whatever workers say."""
        if self._later:
            return min(1.0, max(0.0, self._later[0][0] - time.monotonic()))
        return 1.0

    def _beat(self) -> None:
        now = time.monotonic()
        if self._beaten and now - self._beaten < BEAT_S:
            return
        self._beaten = now
        self.ledger.beat()
        self._drained = False  # exams of a runner that died are queued again
        self.on_beat()

    def _ended(self, ended: Done | Crashed) -> None:
        task = ended.task
        self._running.discard(task.key)
        last = task.attempt > self.retries.most
        if isinstance(ended, Crashed):
            if not last:
                self._again(task, f"its worker died ({ended.sentence})", crashed=True)
                return
            sentence = (
                f"its worker died each of the {task.crashes + 1} times that it was scored (last: {ended.sentence}); "
                "the exam is kept apart from the others: look at its files, and report it"
            )
            report = Report(self.failed(task.exam, Rejection(Reason.WORKER_DIED, sentence)), worker=ended.worker)
        elif ended.report.passing and not last:
            self._again(task, ended.report.passing, crashed=False)
            return
        else:
            report = ended.report
        finished = time.time()
        end = End(task, report, finished - report.seconds.get("total", 0.0), finished)
        if self.ledger.finish(task, report, end.started, end.finished):
            self.on_end(end)
        else:
            LOG.warning("exam %.80r was taken over by another runner; its answer here is dropped", task.exam.exam_id)

    def _again(self, task: Task, reason: str, crashed: bool) -> None:
        pause = self.retries.pause(task.attempt)
        LOG.warning("exam %.80r: attempt %d: %s; again in %.0f s", task.exam.exam_id, task.attempt, reason, pause)
        later = self.ledger.retry(task, crashed)
        heapq.heappush(self._later, (time.monotonic() + pause, next(self._number), later))
