"""Follow-up tables as hospitals and registries send them: read, checked row by row, and typed.

A folder holds one CSV or Parquet file a table. What makes figures wrong is an error that names every row; what only
needs to be known (a diagnosis of a woman without exams) is a note. No row is dropped silently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from screening.errors import ScreeningError

Kind: TypeAlias = Literal["id", "text", "date", "flag", "number", "size", "side", "visibility"]

_SHOWN = 10  # problems that an error message lists; all of them are in its attribute
_FIRST_YEAR, _LAST_YEAR = 1900, 2200
_VISIBILITY = ("", "false_negative", "minimal_sign", "occult")


@dataclass(frozen=True)
class Column:
    """A column of a table: what it holds, whether the table needs it, and whether a row may leave it empty."""

    kind: Kind
    required: bool = True
    may_be_empty: bool = False


_OPTIONAL_TEXT = Column("text", required=False, may_be_empty=True)
_OPTIONAL_FLAG = Column("flag", required=False, may_be_empty=True)

TABLES: dict[str, dict[str, Column]] = {
    "exams": {
        "exam_id": Column("id"),
        "woman_id": Column("id"),
        "exam_date": Column("date"),
        "site": _OPTIONAL_TEXT,
        "manufacturer": _OPTIONAL_TEXT,
        "age": Column("number", required=False, may_be_empty=True),
        "density": _OPTIONAL_TEXT,
        "reader1": _OPTIONAL_FLAG,
        "reader2": _OPTIONAL_FLAG,
        "recalled": _OPTIONAL_FLAG,
    },
    "diagnoses": {
        "woman_id": Column("id"),
        "diagnosis_date": Column("date"),
        "laterality": Column("side", may_be_empty=True),
        "malignant": Column("flag"),
        "invasive": Column("flag", required=False, may_be_empty=True),
        "detection": _OPTIONAL_TEXT,
    },
    "followup": {"woman_id": Column("id"), "followed_until": Column("date")},
    "lesions": {
        "exam_id": Column("id"),
        "image_id": Column("id"),
        "laterality": Column("side", may_be_empty=True),
        "x": Column("number"),
        "y": Column("number"),
        "width": Column("size"),
        "height": Column("size"),
        "frame": Column("number", required=False, may_be_empty=True),
        "malignant": Column("flag"),
        "visible": Column("visibility", required=False, may_be_empty=True),
    },
    "biopsies": {
        "woman_id": Column("id"),
        "biopsy_date": Column("date"),
        "laterality": Column("side", may_be_empty=True),
        "malignant": Column("flag"),
    },
    "weights": {"exam_id": Column("id"), "weight": Column("size")},
}
_NEEDED = ("exams", "diagnoses", "followup")


@dataclass(frozen=True)
class Problem:
    """What is wrong with, or to be known of, one row: table file, line (from 1, the header included), sentence."""

    file: str
    line: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.sentence}"


class TableError(ScreeningError):
    """Tables cannot be trusted as they are; `problems` names every row, the message the first ones."""

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()) -> None:
        self.problems = problems
        listed = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        super().__init__(message + listed + more)


class FollowUpError(TableError):
    """The tables of the follow-up cannot be trusted."""


@dataclass(frozen=True, eq=False)
class FollowUp:
    """The follow-up of a screening programme, checked.

    Columns as in the files, and every optional column is there: identifiers and text as str ("" for unknown), dates
    as datetime64[s], flags and numbers as float64 (NaN for unknown). The index of each table is its line in the file.
    `notes` are the rows to know about.
    """

    exams: pd.DataFrame
    diagnoses: pd.DataFrame
    followup: pd.DataFrame
    lesions: pd.DataFrame | None = None
    biopsies: pd.DataFrame | None = None
    weights: pd.DataFrame | None = None
    notes: tuple[Problem, ...] = ()


def load_followup(folder: str | Path) -> FollowUp:
    """Read and check the follow-up tables of a folder; see `check_followup` for what is checked.

    Raises `FollowUpError` for a missing folder or table, two files for one table, a file that cannot be read, or
    problems in the rows.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FollowUpError(f"There is no follow-up folder {root}.")
    tables, files = {}, {}
    for name in TABLES:
        found = [path for path in (root / f"{name}.csv", root / f"{name}.parquet") if path.is_file()]
        if len(found) > 1:
            raise FollowUpError(f"The follow-up folder holds both {found[0].name} and {found[1].name}; keep one.")
        if not found and name in _NEEDED:
            raise FollowUpError(f"The follow-up folder {root} holds no {name}.csv or {name}.parquet.")
        for path in found:
            tables[name], files[name] = _read(path), path.name
    return check_followup(tables, files)


def check_followup(tables: dict[str, pd.DataFrame], files: dict[str, str] | None = None) -> FollowUp:
    """Check tables that are already in memory; `files` names where each came from, for the messages.

    Errors: a missing column or table; an empty identifier; a date that is not YYYY-MM-DD (or YYYYMMDD), or no date;
    a flag that is not 0 or 1; a laterality that is not L, R, B (both) or empty; a number that is none; a size that
    is not above 0; an exam twice; a woman's follow-up twice; a weight twice, for an unknown exam, or missing.
    Notes: a diagnosis, biopsy or follow-up of a woman without exams; lesions of an unknown exam; a diagnosis twice;
    a malignant diagnosis of unknown side, or before the woman's first exam; an exam after a malignant diagnosis, after
    the end of follow-up, or of a woman without follow-up; two exams of a woman on one day.
    Raises `FollowUpError` that names every row with an error.
    """
    files = {name: f"{name}.csv" for name in tables} | (files or {})
    missing = [name for name in _NEEDED if name not in tables]
    if missing:
        raise FollowUpError(f"The follow-up lacks the table {missing[0]}.")
    errors: list[Problem] = []
    typed = {name: _typed(table, name, files[name], errors) for name, table in tables.items() if name in TABLES}
    if not errors:
        _check_keys(typed, files, errors)
    if errors:
        raise FollowUpError(f"The follow-up has {len(errors)} errors in its rows:", tuple(errors))
    return FollowUp(
        exams=typed["exams"],
        diagnoses=typed["diagnoses"],
        followup=typed["followup"],
        lesions=typed.get("lesions"),
        biopsies=typed.get("biopsies"),
        weights=typed.get("weights"),
        notes=tuple(_notes(typed, files)),
    )


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False)
    except (OSError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise FollowUpError(f"The follow-up table {path.name} cannot be read: {cause}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise FollowUpError(f"The follow-up table {path.name} has rows with more fields than its header.")
    return table


def _typed(table: pd.DataFrame, name: str, file: str, errors: list[Problem]) -> pd.DataFrame:
    """The table with typed columns; what does not fit is added to `errors`."""
    lacking = [column for column, rule in TABLES[name].items() if rule.required and column not in table.columns]
    if lacking:
        raise FollowUpError(f"{file} lacks the column {', '.join(lacking)}.")
    table = table.set_axis(pd.RangeIndex(2, len(table) + 2))
    table = table[~(table.isna() | (table == "")).all(axis=1)]  # blank lines
    lines = table.index
    columns: dict[str, pd.Series] = {}
    for column, rule in TABLES[name].items():
        given = table[column] if column in table.columns else pd.Series("", index=lines, dtype=object)
        empty = given.isna() | (given.astype(str).str.strip() == "")
        values, bad, sentence = PARSERS[rule.kind](given.where(~empty))
        if not rule.may_be_empty:
            errors.extend(Problem(file, line, f"{column} is empty") for line in lines[empty])
        errors.extend(Problem(file, line, f"{column} {given.at[line]!r} {sentence}") for line in lines[bad & ~empty])
        columns[column] = values
    return pd.DataFrame(columns)


_Parsed: TypeAlias = tuple[pd.Series, "pd.Series[bool]", str]


def _text(given: pd.Series) -> _Parsed:
    return given.astype(object).fillna("").astype(str).str.strip(), _none_bad(given), ""


def _date(given: pd.Series) -> _Parsed:
    if pd.api.types.is_datetime64_any_dtype(given):
        dates = given.dt.tz_localize(None).dt.normalize()
    else:
        text = given.astype(object).where(given.notna(), "").astype(str).str.strip()
        day = text.str.replace(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3", regex=True)
        day = day.str.replace(r"^(\d{4}-\d{2}-\d{2})[T ]00:00:00(\.0+)?$", r"\1", regex=True)
        dates = pd.to_datetime(day.where(day.str.fullmatch(r"\d{4}-\d{2}-\d{2}")), format="%Y-%m-%d", errors="coerce")
    dates = dates.astype("datetime64[s]")
    bad = ~dates.dt.year.between(_FIRST_YEAR, _LAST_YEAR)
    return dates, bad, "is no date of the form YYYY-MM-DD"


def _number(given: pd.Series) -> _Parsed:
    values = pd.to_numeric(given.astype(object), errors="coerce").astype(np.float64)
    return values, ~values.between(-np.inf, np.inf, inclusive="neither"), "is no number"


def _size(given: pd.Series) -> _Parsed:
    values, bad, _ = _number(given)
    return values, bad | ~(values > 0), "is no number above 0"


def _flag(given: pd.Series) -> _Parsed:
    values, bad, _ = _number(given)
    return values, bad | ~values.isin([0.0, 1.0]), "is neither 0 nor 1"


def _side(given: pd.Series) -> _Parsed:
    values, _, _ = _text(given)
    values = values.str.upper()
    return values, ~values.isin(["", "L", "R", "B"]), "is no laterality: L, R, B for both, or empty"


def _visibility(given: pd.Series) -> _Parsed:
    values, _, _ = _text(given)
    return values, ~values.isin(_VISIBILITY), f"is none of {', '.join(_VISIBILITY[1:])}"


def _none_bad(given: pd.Series) -> pd.Series[bool]:
    return pd.Series(False, index=given.index)


PARSERS: dict[Kind, Callable[[pd.Series], _Parsed]] = {
    "id": _text,
    "text": _text,
    "date": _date,
    "flag": _flag,
    "number": _number,
    "size": _size,
    "side": _side,
    "visibility": _visibility,
}
"""By kind of column: cells to values, which cells do not fit, and the sentence on those. Empty cells come as NaN."""


def _check_keys(tables: dict[str, pd.DataFrame], files: dict[str, str], errors: list[Problem]) -> None:
    """Keys that must be unique or known, and weights that must be complete."""

    def add(name: str, table: pd.DataFrame, rows: pd.Series[bool], key: str, sentence: str) -> None:
        found = table.loc[rows, key]
        errors.extend(
            Problem(files[name], line, f"{key} {value!r} {sentence}")
            for line, value in zip(found.index, found, strict=True)
        )

    for name, key in (("exams", "exam_id"), ("followup", "woman_id"), ("weights", "exam_id")):
        if name in tables:
            add(name, tables[name], tables[name][key].duplicated(), key, "stands there twice")
    if "weights" in tables:
        exams, weights = tables["exams"], tables["weights"]
        unknown = ~_among(weights["exam_id"], exams["exam_id"])
        add("weights", weights, unknown, "exam_id", f"is not in {files['exams']}")
        unweighted = ~_among(exams["exam_id"], weights["exam_id"])
        add("exams", exams, unweighted, "exam_id", f"has no weight in {files['weights']}")


def _notes(tables: dict[str, pd.DataFrame], files: dict[str, str]) -> list[Problem]:
    """Rows that are used as they stand, or that nothing can use, and why."""
    exams, diagnoses, followup = tables["exams"], tables["diagnoses"], tables["followup"]
    malignant = diagnoses[diagnoses["malignant"] == 1]
    first_exam = exams.groupby("woman_id")["exam_date"].min()
    first_diagnosis = malignant.groupby("woman_id")["diagnosis_date"].min()
    until = followup.set_index("woman_id")["followed_until"]
    notes: list[Problem] = []

    def note(name: str, table: pd.DataFrame, rows: pd.Series[bool], sentence: str) -> None:
        notes.extend(Problem(files[name], line, sentence) for line in table.index[rows])

    for name in ("diagnoses", "biopsies", "followup"):
        if name in tables:
            table = tables[name]
            note(
                name, table, ~_among(table["woman_id"], exams["woman_id"]), "the woman has no exam; the row is not used"
            )
    if "lesions" in tables:
        lesions = tables["lesions"]
        note(
            "lesions",
            lesions,
            ~_among(lesions["exam_id"], exams["exam_id"]),
            "the exam is unknown; the row is not used",
        )
    note("diagnoses", diagnoses, diagnoses.duplicated(), "the same diagnosis stands there twice; it counts once")
    note(
        "diagnoses", malignant, malignant["laterality"] == "", "the cancer's side is unknown; any breast can detect it"
    )
    before = malignant["diagnosis_date"] < _per_row(malignant, first_exam)
    note("diagnoses", malignant, before, "the diagnosis is earlier than the woman's first exam")
    after = exams["exam_date"] > _per_row(exams, first_diagnosis)
    note("exams", exams, after, "the exam comes after a malignant diagnosis; it is excluded")
    note("exams", exams, ~_among(exams["woman_id"], followup["woman_id"]), "the woman has no row in the follow-up")
    late = exams["exam_date"] > _per_row(exams, until)
    note("exams", exams, late, "the exam comes after the end of the woman's follow-up")
    twice = exams.duplicated(["woman_id", "exam_date"])
    note("exams", exams, twice, "the woman has another exam on this day; each is judged by itself")
    return notes


def _per_row(table: pd.DataFrame, by_woman: pd.Series) -> pd.Series:
    """Each row's value of a series by woman."""
    return by_woman.reindex(table["woman_id"]).set_axis(table.index)


def _among(keys: pd.Series, known: pd.Series) -> pd.Series[bool]:
    """Which keys are among the known ones; on text, `isin` of pandas is many times slower."""
    return pd.Series(pd.Index(known.unique()).get_indexer(pd.Index(keys)) >= 0, index=keys.index)
