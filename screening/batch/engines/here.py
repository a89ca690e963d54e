"""The engine without processes: one worker in this one."""

from __future__ import annotations

import time
from collections import deque

from screening.batch.engines.engine import Crashed, Done
from screening.batch.worker import Scorer, Task


class HereEngine:
    """Scores one exam after the other and reads the next one's images meanwhile."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._tasks: deque[Task] = deque()

    def room(self) -> int:
        """One task to score, and one to read."""
        return 2 - len(self._tasks)

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._tasks.append(task)

    def wait(self, seconds: float) -> list[Done | Crashed]:
        """Score the next exam, however long it takes; sleep where there is none."""
        if not self._tasks:
            time.sleep(seconds)
            return []
        task = self._tasks.popleft()
        return [Done(task, self._scorer.run(task, self._tasks[0] if self._tasks else None))]

    def close(self) -> None:
        """Drop what was read ahead."""
        self._scorer.close()
