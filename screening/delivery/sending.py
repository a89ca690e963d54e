"""Sending what is in an outbox: exam by exam, with retries, and without a storm of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from screening.delivery.answers import Answer, Outcome, RefusedError, UnreachableError
from screening.delivery.outbox import Outbox, Parcel, State

_FAILURES_IN_A_ROW = 3
"""So many exams that a PACS could not take, one after the other, are taken for a fault of the PACS."""

_AT_ONCE = 500
"""Objects in one request for commitment."""


class Sender(Protocol):
    """Sends objects to one destination."""

    def send(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """Send the objects of one exam and yield an answer for each as soon as it is known.

        Raises `UnreachableError` or `RefusedError`; answers that were yielded before remain true.
        """

    def commit(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """Ask whether the PACS takes responsibility for what arrived there, and yield what it says of each.

        Of an object on which it is still silent nothing is yielded. Raises as `send`.
        """


@dataclass(frozen=True)
class Sent:
    """One run for a destination: what arrived in it; what has failed or waits in all, from earlier runs too.

    `problem` says in a sentence why the run ended early; `refused`: the PACS will not take anything as things are.
    """

    arrived: int
    failed: int
    waiting: int
    problem: str = ""
    refused: bool = field(default=False, compare=False)


def send_queued(
    outbox: Outbox,
    destination: str,
    sender: Sender,
    patience_s: float = 0.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Sent:
    """Send what is due for `destination`, and for `patience_s` seconds what becomes due; each object once.

    An unreachable PACS is asked again after the outbox's back-off, one that refuses us is not: the run ends with its
    sentence. Either way everything stays queued. Another process that sends from this outbox is waited for.

    Parameters
    ----------
    on_progress
        Called after each exam: objects that arrived, and objects that wait.

    Raises
    ------
    StoreError
        If the outbox cannot be read or written.
    """
    run = _Run(outbox, destination, sender, time.monotonic() + patience_s)
    with outbox.sending():
        while run.exam():
            if on_progress is not None:
                on_progress(run.arrived, outbox.counts(destination)[State.QUEUED])
        if not run.problem:
            run.commitment()
    counts = outbox.counts(destination)
    return Sent(run.arrived, counts[State.FAILED], counts[State.QUEUED], run.problem, run.refused)


class _Run:
    """One run; knows how often in a row the PACS could not take anything."""

    def __init__(self, outbox: Outbox, destination: str, sender: Sender, deadline: float) -> None:
        self.arrived = 0
        self.problem = ""
        self.refused = False
        self._outbox = outbox
        self._destination = destination
        self._sender = sender
        self._deadline = deadline
        self._silent = 0
        self._failures = 0

    def exam(self) -> bool:
        """Send the exam whose turn it is, or wait for it; False when the run is over."""
        parcels = self._outbox.next_exam(self._destination)
        if not parcels:
            due = self._outbox.next_try(self._destination)
            return due is not None and self._wait(due.timestamp() - time.time())
        self._outbox.begin(parcels)
        try:
            taken = self._send(parcels)
        except UnreachableError as error:
            self._silent += 1
            return self._pause(str(error), self._silent)
        except RefusedError as error:
            self.problem, self.refused = str(error), True
            return False
        self._silent = 0
        self._failures = 0 if taken else self._failures + 1
        if self._failures < _FAILURES_IN_A_ROW:
            return True
        return self._pause("the PACS could not take several exams one after the other", self._failures)

    def commitment(self) -> None:
        """Ask for commitment of what arrived, in this run or before."""
        parcels = self._outbox.uncommitted(self._destination)
        try:
            for start in range(0, len(parcels), _AT_ONCE):
                for answer in self._sender.commit(parcels[start : start + _AT_ONCE]):
                    self._outbox.record(self._destination, answer)
        except (UnreachableError, RefusedError) as error:
            self.problem = f"storage commitment could not be asked for: {error}"

    def _send(self, parcels: Sequence[Parcel]) -> bool:
        """Whether the PACS took any of an exam's objects. Each answer is noted at once, lest a crash forget it."""
        taken, moment = False, None
        for answer in self._sender.send(parcels):
            # One moment for all, so that what has to be tried again goes together again.
            moment = moment or datetime.now(UTC)
            self._outbox.record(self._destination, answer, moment)
            taken = taken or answer.outcome is Outcome.ARRIVED
            self.arrived += answer.outcome is Outcome.ARRIVED
        return taken

    def _pause(self, problem: str, times: int) -> bool:
        """Wait before the PACS is asked again; if that takes too long, the run is over and the problem told."""
        if self._wait(self._outbox.back_off.seconds(times)):
            return True
        self.problem = problem
        return False

    def _wait(self, seconds: float) -> bool:
        if time.monotonic() + seconds > self._deadline:
            return False
        time.sleep(max(0.0, seconds))
        return True
