"""What engines with several workers have in common: who gets which exam, and what a death means."""

from __future__ import annotations

import abc
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from screening.batch.engines.engine import EXAM_SECONDS, Crashed, Done
from screening.batch.worker import Report, Task
from screening.errors import ScreeningError

LOG = logging.getLogger(__name__)

DEATHS_AT_START = 5
"""So many workers in a row that died before they were ready: the next would, too."""

Handle = TypeVar("Handle")


@dataclass
class Seat(Generic[Handle]):
    """A worker: `running` is what it scores, `ahead` what it reads meanwhile and scores next.

    `since`: when `running` was sent, by the monotonic clock.
    """

    handle: Handle
    name: str = ""
    ready: bool = False
    running: Task | None = None
    since: float = 0.0
    ahead: Task | None = None


@dataclass(frozen=True)
class Event(Generic[Handle]):
    """News of a worker: it is ready (`name`), has done its task (`report`), or died (`death`)."""

    seat: Seat[Handle]
    name: str = ""
    report: Report | None = None
    death: str = ""


@dataclass
class Pool(abc.ABC, Generic[Handle]):
    """Workers that may die, or give no answer for `exam_seconds`. Subclasses say how to start, ask and stop one."""

    exam_seconds: float = EXAM_SECONDS
    seats: list[Seat[Handle]] = field(default_factory=list)
    _backlog: deque[Task] = field(default_factory=deque)
    _deaths_at_start: int = 0

    @abc.abstractmethod
    def _start(self) -> Handle:
        """Start a worker; it says so when it is ready."""

    @abc.abstractmethod
    def _send(self, handle: Handle, task: Task, ahead: Task | None) -> None:
        """Give a worker its next task. If it is dead, `_news` will say so."""

    @abc.abstractmethod
    def _news(self, seconds: float) -> list[Event[Handle]]:
        """What workers say, as soon as one says something; empty after `seconds`."""

    @abc.abstractmethod
    def _discard(self, handle: Handle) -> None:
        """Let go of a dead worker."""

    def _wanted(self) -> int:
        """How many workers there shall be."""
        return len(self.seats)

    def room(self) -> int:
        """One task to score and one to read for each worker that is ready."""
        places = sum(2 * seat.ready - (seat.running is not None) - (seat.ahead is not None) for seat in self.seats)
        return max(0, places - len(self._backlog))

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._backlog.append(task)

    def wait(self, seconds: float) -> list[Done | Crashed]:
        """Hand out what waits, and return what has ended."""
        self._resize()
        self._hand_out()
        ended: list[Done | Crashed] = []
        for event in self._news(seconds):
            seat = event.seat
            if event.death:
                ended += self._died(seat, event.death)
            elif event.report is not None and seat.running is not None:
                ended.append(Done(seat.running, event.report))
                seat.running = None
            else:
                seat.ready, seat.name, self._deaths_at_start = True, event.name, 0
        for seat in self._hanging():
            ended += self._died(seat, f"no answer for {self.exam_seconds:g} s")
        self._hand_out()
        return ended

    def _hand_out(self) -> None:
        """Give every idle worker an exam; give exams to read ahead only while no worker will be short of one."""
        idle = [seat for seat in self.seats if seat.ready and seat.running is None]
        starting = sum(not seat.ready for seat in self.seats)
        for seat in idle:
            seat.running, seat.ahead = seat.ahead or (self._backlog.popleft() if self._backlog else None), None
        for seat in idle:
            if seat.running is None:
                continue
            if len(self._backlog) > starting and not seat.running.alone and not self._backlog[0].alone:
                seat.ahead = self._backlog.popleft()
            seat.since = time.monotonic()
            self._send(seat.handle, seat.running, seat.ahead)

    def _hanging(self) -> list[Seat[Handle]]:
        latest = time.monotonic() - self.exam_seconds
        return [seat for seat in self.seats if seat.running is not None and seat.since < latest]

    def _died(self, seat: Seat[Handle], sentence: str) -> list[Done | Crashed]:
        """Whichever of its tasks was the cause, both are suspects."""
        LOG.warning("worker %s died (%s); another takes its place", seat.name or "at its start", sentence)
        if not seat.ready:
            self._deaths_at_start += 1
            if self._deaths_at_start >= DEATHS_AT_START:
                raise ScreeningError(
                    f"workers die while they start ({sentence}): give them more memory, or fewer of them"
                )
        self._discard(seat.handle)
        crashed: list[Done | Crashed] = [
            Crashed(task, sentence, seat.name) for task in (seat.running, seat.ahead) if task is not None
        ]
        self.seats.remove(seat)
        if len(self.seats) < self._wanted() + 1:
            self.seats.append(Seat(self._start()))
        return crashed

    def _resize(self) -> None:
        while len(self.seats) < self._wanted():
            self.seats.append(Seat(self._start()))
