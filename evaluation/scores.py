"""Scores of a system, from us or from any other: the tables exams, images and regions as far as they are given."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.checks import BoolArray
from evaluation.columns import RawTable, ScoresError, from_frame, positions, read_table, repeated, typed
from evaluation.tables import Column, Problem

SCORED, REJECTED, FAILED = "scored", "rejected", "failed"

_ID = Column("id")
_TEXT = Column("text", required=False, may_be_empty=True)
_SIDE = Column("side", required=False, may_be_empty=True)
_DATE = Column("date", required=False, may_be_empty=True)
_NUMBER = Column("number", required=False, may_be_empty=True)
_NEEDED_NUMBER = Column("number")

# Instances that never became an image have no identifiers, which is why those of images may be empty.
_KNOWN_ID = Column("id", may_be_empty=True)

TABLES: dict[str, dict[str, Column]] = {
    "exams": {
        "exam_id": _ID,
        **dict.fromkeys(("woman_id",), _TEXT),
        "exam_date": _DATE,
        **dict.fromkeys(("status", "reason"), _TEXT),
        **dict.fromkeys(("score", "category", "left_score", "right_score"), _NUMBER),
        **dict.fromkeys(("density", "site", "manufacturer", "model_id"), _TEXT),
    },
    "images": {
        "image_id": _KNOWN_ID,
        "exam_id": _KNOWN_ID,
        "laterality": _SIDE,
        **dict.fromkeys(("view", "kind", "status", "reason"), _TEXT),
        **dict.fromkeys(("score", "rows", "columns", "frames", "pixel_spacing_mm"), _NUMBER),
    },
    "regions": {
        "region_id": _TEXT,
        "exam_id": _ID,
        "image_id": _ID,
        "laterality": _SIDE,
        "view": _TEXT,
        **dict.fromkeys(("frame_first", "frame_last", "frame_peak"), _NUMBER),
        **dict.fromkeys(("x", "y", "width", "height", "score"), _NEEDED_NUMBER),
        "rank": _NUMBER,
    },
}


_OF_SCORED = ("score", "category", "left_score", "right_score")  # what exams that were not scored have none of


@dataclass(frozen=True, eq=False)
class Scores:
    """What one system said of the exams.

    `name`: how reports call the system. `model_ids`: the models that made the scores (one, or the tables are refused).
    `exams`: one row an exam with exam_id, woman_id, exam_date, status, reason, score, category, left_score,
    right_score, density, site, manufacturer: text as str ("" for not given), dates as datetime64, numbers as float64
    (NaN for not given). `images` (image_id, exam_id, laterality, view, kind, status, reason, score, rows, columns,
    frames, pixel_spacing_mm) and `regions` (region_id, exam_id, image_id, laterality, view, frame_first, frame_last,
    frame_peak, x, y, width, height, score, rank) are None where the system gives none. `sha256`: hex digest over the
    files, for the record of an evaluation ("" for tables that came from no file). The index of each table is its line
    in the file. Every exam whose status is `scored` has a score, and no other has. `notes`: sentences to know about.
    `key_frame_threshold`: score from which on key frames show a region, where the folder's `batch.json` says so.
    """

    name: str
    model_ids: tuple[str, ...]
    exams: pd.DataFrame
    images: pd.DataFrame | None
    regions: pd.DataFrame | None
    sha256: str
    notes: tuple[str, ...] = ()
    key_frame_threshold: float | None = None


def load_scores(path: str | Path, name: str | None = None) -> Scores:
    """Read the scores of a system: the folder that `screening score` wrote, or any system's table of exams.

    `path`: a folder with exams.csv and, if there are any, images.csv and regions.csv (each may be .parquet), or one
    such table of exams. Only exam_id and score (or left_score and right_score) are needed; see `check_scores`. `name`
    is the model's by default, or else the folder's or the file's.

    Raises `ScoresError` for a missing folder or table, two files for one table, a file that cannot be read, or
    problems in the rows.
    """
    root = Path(path)
    files = _files(root)
    tables = ((table, read_table(file, TABLES[table])) for table, file in files.items())
    scores = _check(tables, name, root.resolve().stem, _sha256(files))
    return replace(scores, key_frame_threshold=_key_frame_threshold(root / "batch.json"))


def check_scores(tables: Mapping[str, pd.DataFrame], name: str | None = None) -> Scores:
    """Check tables that are already in memory: "exams" and, if there are any, "images" and "regions".

    Errors: several models in one table; an empty identifier; an exam twice, or a scored image twice; a score or another
    number that is none; a status that is not scored, rejected or failed; a scored exam without score; a region or a
    scored image of an unknown exam; a region of an unknown image, or of an image of another exam; a negative width or
    height. A score that is missing is the higher one of the breasts, if they have any. Without a status, an exam with a
    score is scored and one without has failed.
    Notes: scores outside 0 to 1; scores of exams that were rejected or failed, which are not used.
    Raises `ScoresError` that names every row with an error.
    """
    if "exams" not in tables:
        raise ScoresError("The scores lack the table exams.")
    given = ((table, from_frame(tables[table], f"{table}.csv", TABLES[table])) for table in TABLES if table in tables)
    return _check(given, name, "scores", "")


def _files(root: Path) -> dict[str, Path]:
    if root.is_file():
        if root.suffix not in (".csv", ".parquet"):
            raise ScoresError(f"The scores must be a .csv or .parquet file, or a folder with exams.csv; not {root}.")
        return {"exams": root}
    if not root.is_dir():
        raise ScoresError(f"There are no scores at {root}.")
    files = {}
    for table in TABLES:
        found = [file for file in (root / f"{table}.csv", root / f"{table}.parquet") if file.is_file()]
        if len(found) > 1:
            raise ScoresError(f"The folder of scores holds both {found[0].name} and {found[1].name}; keep one.")
        if found:
            files[table] = found[0]
    if "exams" not in files:
        raise ScoresError(f"The folder of scores {root} holds no exams.csv or exams.parquet.")
    return files


def _key_frame_threshold(record: Path) -> float | None:
    """What `screening score` notes beside the tables; None where there is no such record, or one without it."""
    try:
        content = json.loads(record.read_bytes()) if record.is_file() else {}
    except (OSError, ValueError) as error:
        raise ScoresError(f"{record} cannot be read: {error}") from error
    value = content.get("key_frame_threshold") if isinstance(content, dict) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _sha256(files: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for table, file in files.items():
        with file.open("rb") as content:
            digest.update(f"{table}:{hashlib.file_digest(content, 'sha256').hexdigest()};".encode())
    return digest.hexdigest()


def _check(given: Iterable[tuple[str, RawTable]], name: str | None, otherwise: str, sha256: str) -> Scores:
    errors: list[Problem] = []
    notes: list[str] = []
    tables, files = {}, {}
    for table, raw in given:  # one after the other, so that only one of them is in memory twice
        if table == "exams" and not {"score", "left_score", "right_score"} & set(raw.cells.column_names):
            raise ScoresError(f"{raw.file} lacks the column score (or left_score and right_score).")
        tables[table], files[table] = typed(raw, TABLES[table], errors), raw.file
    models = _models(tables["exams"].pop("model_id"), files["exams"])
    if not errors:
        tables["exams"] = _checked_exams(tables["exams"], files["exams"], errors, notes)
        _check_keys(tables, files, errors)
    if errors:
        raise ScoresError(f"The scores have {len(errors):,} errors in their rows:", tuple(errors))
    return Scores(
        name=name or next(map(_short, models), otherwise),
        model_ids=models,
        exams=tables["exams"],
        images=tables.get("images"),
        regions=tables.get("regions"),
        sha256=sha256,
        notes=tuple(notes),
    )


def _models(model_id: pd.Series, file: str) -> tuple[str, ...]:
    exams_of = model_id[model_id != ""].value_counts()
    if len(exams_of) > 1:
        listed = ", ".join(f"{model} ({count:,} exams)" for model, count in exams_of.items())
        raise ScoresError(
            f"{file} mixes the scores of {len(exams_of)} models: {listed}; evaluate each model by itself."
        )
    return tuple(str(model) for model in exams_of.index)


def _short(model_id: str) -> str:
    """A model's name; of a bundle's SHA-256 its first digits, which tell models apart as well."""
    return f"model {model_id[:12]}" if re.fullmatch("[0-9a-f]{64}", model_id) else model_id


def _checked_exams(exams: pd.DataFrame, file: str, errors: list[Problem], notes: list[str]) -> pd.DataFrame:
    """The exams with their status and score settled."""
    score = exams["score"].fillna(exams[["left_score", "right_score"]].max(axis=1))
    status = exams["status"]
    for line in exams.index[~status.isin(["", SCORED, REJECTED, FAILED])]:
        errors.append(Problem(file, line, f"status {status[line]!r} is none of {SCORED}, {REJECTED}, {FAILED}"))
    for line in exams.index[(status == SCORED) & score.isna()]:
        errors.append(Problem(file, line, "the exam is scored but has no score"))
    untold = status == ""
    status = status.mask(untold, np.where(score.isna(), FAILED, SCORED))
    reason = exams["reason"].mask(untold & score.isna() & (exams["reason"] == ""), "no score given")
    scored = status == SCORED
    stray = int((~scored & score.notna()).sum())
    if stray:
        notes.append(f"scores of exams that were rejected or failed, which are not used: {stray:,}")
    odd = int((scored & ~score.between(0, 1)).sum())
    if odd:
        notes.append(f"exams with scores outside 0 to 1, of which calibration means nothing: {odd:,}")
    settled = exams.assign(status=status, reason=reason, score=score)
    return settled.assign(**{name: settled[name].where(scored) for name in _OF_SCORED})


def _check_keys(tables: Mapping[str, pd.DataFrame], files: Mapping[str, str], errors: list[Problem]) -> None:
    """Identifiers that must be unique, or known, or agree."""

    def add(table: str, rows: BoolArray, key: str, sentence: str) -> None:
        found = tables[table][key][rows]
        errors.extend(
            Problem(files[table], line, f"{key} {value!r} {sentence}")
            for line, value in zip(found.index, found, strict=True)
        )

    exams = tables["exams"]
    add("exams", repeated(exams["exam_id"]), "exam_id", "stands there twice")
    if errors:
        return
    if "images" in tables:
        images = tables["images"]
        used = ~images["status"].isin([REJECTED, FAILED]).to_numpy()
        add("images", used & (positions(images["exam_id"], exams["exam_id"]) < 0), "exam_id", "is not among the exams")
        twice = np.zeros(len(images), dtype=np.bool_)
        twice[used] = repeated(images["image_id"][used])
        add("images", twice, "image_id", "stands there twice")
        add("images", used & (images["image_id"] == "").to_numpy(), "image_id", "is empty")
    if "regions" in tables:
        regions = tables["regions"]
        add("regions", positions(regions["exam_id"], exams["exam_id"]) < 0, "exam_id", "is not among the exams")
        for size in ("width", "height"):
            add("regions", (regions[size] < 0).to_numpy(), size, "is negative")
    if "regions" in tables and "images" in tables and not errors:
        known = images[used]
        at = positions(regions["image_id"], known["image_id"])
        add("regions", at < 0, "image_id", "is not among the images")
        theirs = known["exam_id"].array.take(np.maximum(at, 0)) if len(known) else regions["exam_id"].array
        add("regions", (at >= 0) & np.asarray(theirs != regions["exam_id"].array), "image_id", "is of another exam")
