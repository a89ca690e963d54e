"""Sending in the background: what is queued goes out at once, and a PACS that is down or refuses us is left alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from screening.delivery.outbox import Outbox
from screening.delivery.sending import Sender, send_queued
from screening.errors import ScreeningError

LOG = logging.getLogger(__name__)

_LOOK_AGAIN_S = 5.0
"""What waits in the outbox may become due without anybody saying so."""


@dataclass
class _Pause:
    """How often in a row a destination could not take anything, and until when it is not asked."""

    times: int = 0
    until: float = 0.0


class BackgroundSending(threading.Thread):
    """Sends what is in the outbox to these destinations until it is stopped; a context manager.

    After a failure a destination is asked again after the outbox's back-off, one that refuses us after the longest:
    trying again and again would only lock an account.
    """

    def __init__(self, outbox: Outbox, senders: Mapping[str, Sender]) -> None:
        super().__init__(name="sending", daemon=True)
        self._outbox = outbox
        self._senders = senders
        self._pauses = {name: _Pause() for name in senders}
        self._wake = threading.Event()
        self._ended = False

    def __enter__(self) -> BackgroundSending:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._wake.set()
        self.join()

    def wake(self) -> None:
        """Something was queued."""
        self._wake.set()

    def run(self) -> None:
        """See the class."""
        while not self._ended:
            self._wake.clear()
            for name, sender in self._senders.items():
                if not self._ended and time.monotonic() >= self._pauses[name].until:
                    self._send(name, sender)
            self._wake.wait(_LOOK_AGAIN_S)

    def _send(self, name: str, sender: Sender) -> None:
        pause = self._pauses[name]
        try:
            sent = send_queued(self._outbox, name, sender, on_progress=self._stop_between_exams)
            problem, refused = sent.problem, sent.refused
            if sent.arrived:
                pause.times = 0  # it does take objects, whatever else is the matter
                LOG.info("%s: %d objects sent, %d waiting, %d failed", name, sent.arrived, sent.waiting, sent.failed)
        except _StoppedError:
            return
        except ScreeningError as error:  # the outbox's disk is full, a certificate is gone: somebody may mend it
            problem, refused = str(error), False
        if not problem:
            pause.times = 0
            return
        pause.times += 1
        back_off = self._outbox.back_off
        seconds = back_off.longest_s if refused else back_off.seconds(pause.times)
        pause.until = time.monotonic() + seconds
        LOG.warning("%s; asked again in %.0f s, objects wait in the outbox", problem, seconds)

    def _stop_between_exams(self, arrived: int, waiting: int) -> None:
        if self._ended:
            raise _StoppedError


class _StoppedError(Exception):
    """Ends a run between two exams; what is left stays queued."""
