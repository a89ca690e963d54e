"""Earlier exams of the same women, to be shown beside the present ones.

They are in a results folder of their own, `priors` under that of the batch, scored by the same model. The score of the
present exam does not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from screening.result import ExamResult, Status
from screening.store import STORE_NAME, ResultStore

PRIORS_NAME = "priors"
"""The folder of the earlier exams' results under that of the batch."""


@dataclass(frozen=True)
class PriorLine:
    """What the report says of an earlier exam; changes are those from then to now."""

    date: str
    score: float
    category: int
    score_change: float
    category_change: int


class PriorExams:
    """The earlier exams under the folder `out` of a batch, none where there is no such folder; a context manager."""

    def __init__(self, out: Path) -> None:
        self.out = out / PRIORS_NAME
        found = (self.out / STORE_NAME).is_file()
        self._store = ResultStore(self.out / STORE_NAME) if found else None

    def __enter__(self) -> PriorExams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            self._store.close()

    def before(self, result: ExamResult) -> tuple[ExamResult, ...]:
        """Scored exams of this woman that are earlier than `result`, the latest first."""
        if self._store is None or result.exam_date is None or not result.woman_id:
            return ()
        return tuple(
            one
            for one in self._store.of_woman(result.woman_id, result.model_id)
            if one.status is Status.SCORED and one.exam_date is not None and one.exam_date < result.exam_date
        )

    def lines(self, result: ExamResult) -> tuple[PriorLine, ...]:
        """One line for each of `before`."""
        return tuple(_line(one, result) for one in self.before(result))


def _line(prior: ExamResult, now: ExamResult) -> PriorLine:
    score, category = prior.score or 0.0, prior.category or 0
    return PriorLine(
        date=prior.exam_date.isoformat() if prior.exam_date else "",
        score=score,
        category=category,
        score_change=(now.score or 0.0) - score,
        category_change=(now.category or 0) - category,
    )
