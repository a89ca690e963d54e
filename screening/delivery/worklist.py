"""The worklist of a batch as a table: which exam to read first, and which could not be scored and why."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from screening.delivery.context import DISCLAIMER
from screening.model.calibration import OperatingPoint
from screening.result import ExamResult, InstanceRejection, Reason, Status
from screening.store.files import write_atomically

WORKLIST_NAME = "worklist.csv"
COLUMNS = (
    "position",
    "exam_id",
    "exam_date",
    "priority",
    "category",
    "score",
    "recall",
    "laterality",
    "view",
    "status",
    "reason",
    "notice",
)

HIGH_FROM, MEDIUM_FROM = 10, 8
"""Lowest category of each priority: the most suspicious tenth of a screening population, and the two tenths below."""


class Priority(StrEnum):
    """How urgent it is to read an exam: the terms of Scheduled Procedure Step Priority (PS3.3 C.30.2)."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


def priority(result: ExamResult) -> Priority:
    """By category; MEDIUM where there is none: LOW would claim that an exam which nobody looked at is unsuspicious."""
    if result.status is not Status.SCORED or result.category is None:
        return Priority.MEDIUM
    if result.category >= HIGH_FROM:
        return Priority.HIGH
    return Priority.MEDIUM if result.category >= MEDIUM_FROM else Priority.LOW


def write_worklist(
    results: Iterable[ExamResult],
    rejections: Iterable[InstanceRejection],
    out: Path,
    operating_point: OperatingPoint | None = None,
) -> Path:
    """Write `worklist.csv` into `out`, whole or not at all, with every exam of the batch; return its path.

    Rows stand in the order of reading: by priority, then category and score, highest first; of equals the older exam
    first. Exams without a score come after the scored ones of priority MEDIUM. The bytes depend on the arguments'
    content alone, not on their order. CSV after RFC 4180, UTF-8; scores have six significant digits; unknown values
    are empty. `recall`: whether the score reaches the operating point. `laterality` and `view` are those of the region
    that made the score. `reason` says why an exam has no score or, with one, how many of its instances are not in it,
    by reason code. There is no patient identifier, and each row says in `notice` what it is.

    Parameters
    ----------
    results
        Of one model.
    rejections
        Instances that never became an image. A study of which nothing else is known is an exam of the list, too.
    operating_point
        The site's; None leaves `recall` empty.

    Raises
    ------
    StoreError
        If `out` cannot be written.
    """
    lost: dict[str, list[InstanceRejection]] = {}
    for one in rejections:
        if one.exam_id and one.rejection.code is not Reason.DUPLICATE:
            lost.setdefault(one.exam_id, []).append(one)
    rows = [_row(result, lost.pop(result.exam_id, []), operating_point) for result in results]
    rows += [_unknown_row(exam_id, ones) for exam_id, ones in lost.items()]
    # The csv module quotes a lone carriage return only where lines end with one, as RFC 4180 wants them to.
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for position, row in enumerate(sorted(rows, key=_order), start=1):
        writer.writerow([position, *map(_cell, row.cells())])
    path = out / WORKLIST_NAME
    write_atomically(path, [table.getvalue().encode("utf-8", "backslashreplace")])
    return path


@dataclass(frozen=True)
class _Row:
    exam_id: str
    exam_date: date | None
    priority: Priority
    category: int | None
    score: float | None
    recall: str
    laterality: str
    view: str
    status: Status
    reason: str

    def cells(self) -> list[str]:
        """All but the position, as text."""
        return [
            self.exam_id,
            self.exam_date.isoformat() if self.exam_date else "",
            self.priority.value,
            str(self.category or ""),
            "" if self.score is None else f"{self.score:.6g}",
            self.recall,
            self.laterality,
            self.view,
            self.status.value,
            self.reason,
            DISCLAIMER,
        ]


def _order(row: _Row) -> tuple[int, bool, int, float, date, str]:
    return (
        list(Priority).index(row.priority),
        row.status is not Status.SCORED,
        -(row.category or 0),
        -(row.score or 0.0),
        row.exam_date or date.max,
        row.exam_id,
    )


def _row(result: ExamResult, lost: list[InstanceRejection], point: OperatingPoint | None) -> _Row:
    top = next((region for region in result.regions if region.region_id == result.top_region_id), None)
    return _Row(
        exam_id=result.exam_id,
        exam_date=result.exam_date,
        priority=priority(result),
        category=result.category,
        score=result.score,
        recall=_recall(result.score, point),
        laterality=top.laterality.value if top else "",
        view=top.view.value if top else "",
        status=result.status,
        reason=str(result.rejection or "") or _incomplete(result, lost),
    )


def _recall(score: float | None, point: OperatingPoint | None) -> str:
    if score is None or point is None:
        return ""
    return "yes" if score >= point.threshold else "no"


def _incomplete(result: ExamResult, lost: list[InstanceRejection]) -> str:
    """What is not in the score of a scored exam."""
    rejected = [one.rejection.code for one in result.images if one.rejection is not None]
    rejected += [one.rejection.code for one in lost]
    return f"not scored: {_counted(rejected)}" if rejected else ""


def _unknown_row(exam_id: str, lost: list[InstanceRejection]) -> _Row:
    """An exam of which no instance became an image."""
    failed = any(one.status is Status.FAILED for one in lost)
    return _Row(
        exam_id=exam_id,
        exam_date=None,
        priority=Priority.MEDIUM,
        category=None,
        score=None,
        recall="",
        laterality="",
        view="",
        status=Status.FAILED if failed else Status.REJECTED,
        reason=f"no image: {_counted(one.rejection.code for one in lost)}",
    )


def _counted(codes: Iterable[Reason]) -> str:
    return ", ".join(f"{code} ({count})" for code, count in sorted(Counter(codes).items()))


def _cell(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula: this table is opened by people."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
