"""What a cancer registry and a screening office know of simulated women, as the tables of the follow-up format.

A woman's rows are made by herself and are plain lists and dictionaries, so women can be simulated apart, kept as JSON,
and put together at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from training.phantom.model import LesionTrace
from training.phantom.programme import Course, Visit
from training.phantom.readers import Reading
from training.phantom.seeds import generator

Row = dict[str, str | int | float | None]
Rows = dict[str, list[Row]]
"""Rows by table: those of `COLUMNS`."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "exams": (
        "exam_id", "woman_id", "exam_date", "site", "manufacturer", "age", "density", "reader1", "reader2", "recalled",
    ),
    "diagnoses": ("woman_id", "diagnosis_date", "laterality", "malignant", "invasive", "detection"),
    "followup": ("woman_id", "followed_until"),
    "lesions": (
        "exam_id", "image_id", "laterality", "x", "y", "width", "height", "frame", "malignant", "visible",
    ),
    "biopsies": ("woman_id", "biopsy_date", "laterality", "malignant"),
    "weights": ("exam_id", "weight"),
}  # fmt: skip
"""The tables of a registry's folder and their columns."""


@dataclass(frozen=True)
class ExamRecord:
    """One exam that took place: `exam_id` is its Study Instance UID, `site` and `manufacturer` where it was taken."""

    exam_id: str
    visit: Visit
    reading: Reading
    site: str
    manufacturer: str


@dataclass(frozen=True)
class ImageBox:
    """Where a lesion lies in an image, in pixels as stored (column, row of the upper left corner), and its frame."""

    image_id: str
    x: float
    y: float
    width: float
    height: float
    frame: int | None = None


def conclude(course: Course, exams: Sequence[ExamRecord]) -> Rows:
    """All rows of a woman but those of lesions, from the exams that took place, in order.

    A cancer that screening detects is diagnosed 10 to 59 days after the exam, or sooner if it surfaces; any other when
    it surfaces, if that is within her follow-up. Benign biopsies follow the recall within 10 to 39 days, and are in
    `diagnoses` too, as not malignant.
    """
    rows: Rows = {name: [] for name in COLUMNS}
    woman = course.woman
    for exam in exams:
        rows["exams"].append(_exam_row(course, exam))
        rows["weights"].append({"exam_id": exam.exam_id, "weight": round(course.weight, 9)})
        for laterality, days in _benign(course, exam):
            on = exam.visit.on + timedelta(days=days)
            if on <= course.followed_until:
                _diagnosis(rows, woman.woman_id, on, laterality, False, None, "screening")
    cancer, diagnosed = course.cancer, _diagnosed(course, exams)
    if cancer is not None and diagnosed is not None:
        on, detection = diagnosed
        _diagnosis(rows, woman.woman_id, on, cancer.laterality, True, int(cancer.invasive), detection)
    rows["followup"].append({"woman_id": woman.woman_id, "followed_until": course.followed_until.isoformat()})
    return rows


def lesion_rows(course: Course, exams: Sequence[ExamRecord], exam: ExamRecord, trace: LesionTrace,
                boxes: Sequence[ImageBox]) -> list[Row]:  # fmt: skip
    """The registry's rows of a lesion on one exam of `exams`, one for each box; none if no registry knows the lesion.

    Known are a cancer once it is diagnosed, on all exams that it was there at, and benign lesions that were biopsied.
    `visible` says how well the cancer could be seen on exams that did not detect it, and is empty elsewhere.
    """
    if trace.lesion.lesion_id not in known_lesions(course, exams):
        return []
    missed = trace.lesion.malignant and not exam.reading.detects
    common: Row = {
        "exam_id": exam.exam_id,
        "laterality": trace.lesion.laterality.value,
        "malignant": int(trace.lesion.malignant),
        "visible": exam.reading.visible[trace.lesion.lesion_id] if missed else "",
    }
    return [common | {name: getattr(box, name) for name in ("image_id", "x", "y", "width", "height", "frame")}
            for box in boxes]  # fmt: skip


def known_lesions(course: Course, exams: Sequence[ExamRecord]) -> frozenset[str]:
    """Ids of the lesions that a registry knows: the cancer once diagnosed, and what was biopsied."""
    known = {lesion_id for exam in exams for _, lesion_id in exam.reading.biopsied} - {""}
    if course.cancer is not None and _diagnosed(course, exams) is not None:
        known.add(course.cancer.lesion_id)
    return frozenset(known)


def tables(women: Iterable[Rows]) -> dict[str, pd.DataFrame]:
    """The tables of many women, in the order given; every table has all of its columns, rows or not."""
    merged: Rows = {name: [] for name in COLUMNS}
    for rows in women:
        for name, found in rows.items():
            merged[name].extend(found)
    return {name: pd.DataFrame(merged[name], columns=list(columns)) for name, columns in COLUMNS.items()}


def write_registry(women: Iterable[Rows], folder: Path) -> None:
    """Write the tables of many women as CSV files into `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables(women).items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def _exam_row(course: Course, exam: ExamRecord) -> Row:
    return {
        "exam_id": exam.exam_id,
        "woman_id": course.woman.woman_id,
        "exam_date": exam.visit.on.isoformat(),
        "site": exam.site,
        "manufacturer": exam.manufacturer,
        "age": int(exam.visit.age),
        "density": course.woman.density,
        "reader1": int(exam.reading.reader1),
        "reader2": int(exam.reading.reader2),
        "recalled": int(exam.reading.recalled),
    }


def _diagnosed(course: Course, exams: Sequence[ExamRecord]) -> tuple[date, str] | None:
    """When the woman's cancer is diagnosed, and how; None if that is not within her follow-up."""
    if course.surfaces is None:
        return None
    found = course.surfaces, "symptoms"
    for exam in exams:
        if exam.reading.detects:
            days = int(_chance(course, exam).integers(10, 60))
            found = min(course.surfaces, exam.visit.on + timedelta(days=days)), "screening"
    return found if found[0] <= course.followed_until else None


def _benign(course: Course, exam: ExamRecord) -> list[tuple[str, int]]:
    """Lateralities of an exam's benign biopsies, each breast once, and how many days later they were taken."""
    rng = _chance(course, exam)
    sides = sorted({laterality.value for laterality, _ in exam.reading.biopsied})
    return [(side, int(rng.integers(10, 40))) for side in sides]


def _chance(course: Course, exam: ExamRecord) -> np.random.Generator:
    return generator(course.woman.seed, course.woman.index, "assessment", exam.visit.round_number)


def _diagnosis(
    rows: Rows, woman_id: str, on: date, laterality: str, malignant: bool, invasive: int | None, detection: str
) -> None:
    """A biopsy and the diagnosis that it made."""
    common: Row = {"woman_id": woman_id, "laterality": str(laterality), "malignant": int(malignant)}
    rows["biopsies"].append(common | {"biopsy_date": on.isoformat()})
    rows["diagnoses"].append(common | {"diagnosis_date": on.isoformat(), "invasive": invasive, "detection": detection})
