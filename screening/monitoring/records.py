"""What monitoring knows of an exam, and how it is read from results folders: few columns of many nights."""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from screening.errors import ConfigError
from screening.result import ExamResult, Reason, Status

LOG = logging.getLogger(__name__)

EXAMS, IMAGES, BATCH = "exams.csv", "images.csv", "batch.json"
BESIDE_THE_POINT = frozenset(
    code.value for code in (Reason.NOT_DICOM, Reason.DUPLICATE, Reason.NOT_MAMMOGRAPHY, Reason.NOT_FETCHED)
)
"""Rejections that say nothing of how a machine makes its images."""


@dataclass(frozen=True)
class ExamRecord:
    """One exam as monitoring sees it.

    Parameters
    ----------
    day
        Of the exam, or of the batch where the header states none; None if neither is known.
    breasts
        The score of each breast, left before right; one or two of a scored exam.
    density
        A to D, "" if unknown.
    reasons
        Codes for which the exam or images of it were not scored, one for each image.
    """

    exam_id: str
    day: date | None
    site: str
    manufacturer: str
    model_id: str
    score: float | None = None
    category: int | None = None
    breasts: tuple[float, ...] = ()
    density: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def incomplete(self) -> bool:
        """Whether the exam, or an image of it, was rejected or failed."""
        return self.score is None or bool(self.reasons)


@dataclass(frozen=True)
class Records:
    """Exams of one or more batches, each once; `notes` says in sentences what could not be taken as it was."""

    exams: tuple[ExamRecord, ...]
    notes: tuple[str, ...] = ()

    def of_model(self, model_id: str) -> Records:
        """The exams that this model scored or rejected, and a note on the others."""
        kept = tuple(one for one in self.exams if one.model_id in ("", model_id))
        if left := len(self.exams) - len(kept):
            return Records(kept, (*self.notes, f"{left} exams of other models are left out."))
        return self

    def since(self, first: date) -> Records:
        """The exams from a day on; one whose day is unknown stays, and is told later."""
        return replace(self, exams=tuple(one for one in self.exams if one.day is None or one.day >= first))

    @property
    def latest_model(self) -> str:
        """The model of the latest exam that one has answered. Raises ConfigError if there is none."""
        dated = [(one.day or date.min, one.model_id) for one in self.exams if one.model_id]
        if not dated:
            raise ConfigError("there is no exam in these results; give folders that `screening score` wrote")
        return max(dated)[1]


def record_of(result: ExamResult) -> ExamRecord:
    """The record of a result, as the store or the runner gives it."""
    own = [image.rejection.code.value for image in result.images if image.rejection]
    if result.status is not Status.SCORED and not own and result.rejection is not None:
        own = [result.rejection.code.value]
    return ExamRecord(
        exam_id=result.exam_id,
        day=result.exam_date,
        site=result.site,
        manufacturer=result.manufacturer,
        model_id=result.model_id,
        score=result.score,
        category=result.category,
        breasts=tuple(breast.score for breast in sorted(result.breasts, key=lambda breast: breast.laterality.value)),
        density=result.density or "",
        reasons=tuple(own),
    )


def read_records(results: Iterable[Path]) -> Records:
    """Read folders that `screening score` wrote (`exams.csv`, `images.csv`, `batch.json`), or their `exams.csv`.

    An exam that is in several folders counts once, as the last folder has it. Instances that were rejected before they
    could become an exam count as one exam without manufacturer, on the day of the batch.
    Raises ConfigError for a folder without `exams.csv` or a table that is none.
    """
    exams: dict[str, ExamRecord] = {}
    notes = Counter[str]()
    for path in results:
        folder = path if path.is_dir() else path.parent
        for record in _read_batch(folder, path / EXAMS if path.is_dir() else path, notes):
            if record.exam_id in exams:
                notes["exams are in several of the results; the last counts."] += 1
            exams[record.exam_id] = record
    return Records(tuple(exams.values()), tuple(f"{number} {text}" for text, number in notes.items()))


@dataclass
class _Unscored:
    """What `images.csv` tells of one exam: the reasons of its images that were not scored."""

    reasons: list[str] = field(default_factory=list)


def _read_batch(folder: Path, table: Path, notes: Counter[str]) -> Iterator[ExamRecord]:
    site, day = _batch(folder)
    unscored: dict[str, _Unscored] = {}
    if (folder / IMAGES).is_file():
        for row in _rows(folder / IMAGES, ("exam_id", "status", "reason")):
            code = row["reason"].partition(":")[0]
            if row["exam_id"] and row["status"] != Status.SCORED and code not in BESIDE_THE_POINT:
                unscored.setdefault(row["exam_id"], _Unscored()).reasons.append(code)
    else:
        notes["batches have no images.csv: of their rejections, only whole exams are seen."] += 1
    for row in _rows(table, ("exam_id", "exam_date", "status", "score", "site", "manufacturer", "model_id")):
        known = unscored.pop(row["exam_id"], _Unscored()).reasons
        own = [row.get("reason", "").partition(":")[0]] if row["status"] != Status.SCORED and not known else known
        yield _record(table, row, day, tuple(own))
    for exam_id, found in unscored.items():
        yield ExamRecord(exam_id, day, site, "", "", reasons=tuple(found.reasons))


def _record(table: Path, row: Mapping[str, str], day: date | None, reasons: tuple[str, ...]) -> ExamRecord:
    try:
        sides = [row.get(side, "") for side in ("left_score", "right_score")]
        return ExamRecord(
            exam_id=row["exam_id"],
            day=date.fromisoformat(row["exam_date"]) if row["exam_date"] else day,
            site=row["site"],
            manufacturer=row["manufacturer"],
            model_id=row["model_id"],
            score=_score(row["score"]) if row["status"] == Status.SCORED else None,
            category=_category(row["category"]) if row.get("category") else None,
            breasts=tuple(_score(side) for side in sides if side),
            density=row.get("density", ""),
            reasons=reasons,
        )
    except ValueError as error:
        raise ConfigError(f"{table}: exam {row['exam_id']:.80}: {error}; score it again, or correct the row") from error


def _score(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:  # also refuses NaN
        raise ValueError(f"{text!r} is no score between 0 and 1")
    return value


def _category(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 10:
        raise ValueError(f"{text!r} is no category between 1 and 10")
    return value


def _rows(table: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"{table}: has no column {', '.join(missing)}; give what `screening score` wrote")
            for row in reader:
                if None in row or None in row.values():
                    raise ConfigError(f"{table}, line {reader.line_num}: has not as many cells as the head")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{table}: cannot be read ({why}); give a folder that `screening score` wrote") from error


def _batch(folder: Path) -> tuple[str, date | None]:
    """Site and day of a batch, as far as its record says."""
    try:
        record: Any = json.loads((folder / BATCH).read_text(encoding="utf-8"))
        return str(record["site"]), datetime.fromisoformat(record["started"]).astimezone(UTC).date()
    except FileNotFoundError:
        return "", None
    except (OSError, ValueError, KeyError, TypeError) as error:
        LOG.warning("%s is no proper record of a batch (%s); its site and day are not known", folder / BATCH, error)
        return "", None
