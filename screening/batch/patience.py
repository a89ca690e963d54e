"""Waiting for a database that is locked or away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from screening.errors import StoreAwayError

LOG = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """Tries again what a database could not do for the moment, with pauses that double, for `seconds` in all."""

    seconds: float = 300.0
    first_pause: float = 0.2
    longest_pause: float = 10.0

    def __call__(self, work: Callable[[], Result], before_again: Callable[[], object] | None = None) -> Result:
        """Return what `work` returns. `before_again` is done before each further try, and waited for likewise.

        Raises
        ------
        StoreAwayError
            If the database did not come back.
        """
        begun, pause, again = time.monotonic(), self.first_pause, False
        while True:
            try:
                if again and before_again is not None:
                    before_again()
                return work()
            except StoreAwayError as error:
                if time.monotonic() - begun + pause > self.seconds:
                    raise
                if not again:
                    LOG.warning("%s Waiting for it.", error)
                again = True
                time.sleep(pause)
                pause = min(2 * pause, self.longest_pause)
