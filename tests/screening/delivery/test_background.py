"""Sending in the background: at once, and without a storm where a PACS is down or refuses us."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from screening.delivery.answers import Answer, Outcome, RefusedError, UnreachableError
from screening.delivery.background import BackgroundSending
from screening.delivery.outbox import BackOff, Outbox, Parcel, State
from tests.support.listening import wait_until
from tests.support.pacs import queue


class Pacs:
    """Takes everything, or raises `error` the first `times`."""

    def __init__(self, error: Exception | None = None, times: int = 0) -> None:
        self.error, self.times, self.requests = error, times, 0

    def send(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        self.requests += 1
        if self.error is not None and self.requests <= self.times:
            raise self.error
        yield from (Answer(one.sop_instance_uid, Outcome.ARRIVED) for one in parcels)

    def commit(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        yield from (Answer(one.sop_instance_uid, Outcome.NOT_OFFERED) for one in parcels)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite", BackOff(first_s=0.2, longest_s=60.0)) as opened:
        yield opened


def test_what_is_queued_goes_at_once_to_the_one_destination_though_the_other_refuses_and_is_asked_once(
    outbox: Outbox, tmp_path: Path
) -> None:
    good, bad = Pacs(), Pacs(RefusedError("bad refuses our credentials"), times=1000)
    with BackgroundSending(outbox, {"bad": bad, "good": good}) as sending:
        for name in ("good", "bad"):
            queue(outbox, name, tmp_path, exams=2, count=1)
        for _ in range(10):
            sending.wake()
            time.sleep(0.05)
        wait_until(lambda: outbox.counts("good")[State.SENT] == 2, 20)
    assert outbox.counts("good")[State.SENT] == 2
    assert outbox.counts("bad")[State.QUEUED] == 2
    assert bad.requests == 1


def test_pacs_that_comes_up_gets_what_waits(outbox: Outbox, tmp_path: Path) -> None:
    pacs = Pacs(UnreachableError("pacs is down"), times=2)
    queue(outbox, "pacs", tmp_path, exams=2, count=1)
    with BackgroundSending(outbox, {"pacs": pacs}) as sending:
        for _ in range(200):
            if outbox.counts("pacs")[State.SENT] == 2:
                break
            sending.wake()
            time.sleep(0.05)
    assert outbox.counts("pacs")[State.SENT] == 2
    assert pacs.requests == 4
