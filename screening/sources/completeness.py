"""When an exam that comes instance by instance is complete: by a quiet period, and by what is known to be missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from screening.delivery.answers import RefusedError, UnreachableError
from screening.site import ArrivalRules
from screening.sources.inbox import Waiting

LOG = logging.getLogger(__name__)

_PAUSE_S = 60.0
"""So long a PACS that could not tell is not asked again: exams must not wait for it one after the other."""

Count = Callable[[str], int | None]
"""How many mammograms the PACS has of a study; None where it does not say. Raises as a `Client` does."""


@dataclass(frozen=True)
class Ready:
    """An exam to be scored now; `warning` says what is missing, if anything."""

    exam: Waiting
    warning: str = ""


class Completeness:
    """Decides by the site's rules; `count` asks the PACS, None where no PACS is to be asked."""

    def __init__(self, rules: ArrivalRules, count: Count | None, clock: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._count = count
        self._clock = clock
        self._silent_until = 0.0
        self._answers: dict[str, tuple[float, str]] = {}

    def ready(self, exam: Waiting) -> Ready | None:
        """The exam, if it is to be scored now; None while it is to be waited for."""
        now = self._clock()
        silent = now - exam.last
        if silent < self._rules.quiet_s:
            return None
        asked, missing = self._answers.get(exam.name, (0.0, ""))
        if asked < exam.last or now - asked >= self._rules.quiet_s:
            missing = self._missing(exam, now)
            self._answers[exam.name] = (now, missing)
        if missing and silent < self._rules.patience_s:
            return None
        self._answers.pop(exam.name, None)
        return Ready(exam, f"scored incomplete, nothing came for {silent:.0f} s: {missing}" if missing else "")

    def _missing(self, exam: Waiting, now: float) -> str:
        """What is known to be missing; the PACS's count decides where there is one."""
        counts = [self._counted(study, now) for study, _ in exam.studies]
        known = [one for one in counts if one is not None]
        if known and len(known) == len(counts):
            here, there = sum(number for _, number in exam.studies), sum(known)
            return f"the PACS has {there} mammograms, {here} came" if there > here else ""
        views = [view for view in self._rules.views if view not in exam.views]
        return f"no {', '.join(views)}" if views else ""

    def _counted(self, study: str, now: float) -> int | None:
        if self._count is None or now < self._silent_until:
            return None
        try:
            return self._count(study)
        except (UnreachableError, RefusedError) as error:
            self._silent_until = now + _PAUSE_S
            LOG.warning("how many images there are is not known for now: %s", error)
            return None
