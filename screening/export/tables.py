"""Tables with pseudonyms: what `score` wrote, and the follow-up of a registry. Only columns known by name come out.

Every column has a kind that says what a cell may hold. So no free text leaves a table: what a site writes into a column
of its own stays at home, and a word outside a column's vocabulary becomes an empty cell, which is counted.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal, TypeAlias

import pandas as pd

from screening.errors import ConfigError
from screening.exam import ImageKind, View
from screening.export.clean import OLDEST_AGE
from screening.export.dates import Shift
from screening.export.pseudonyms import Pseudonyms
from screening.result import Reason, Status
from screening.store import EXAM_COLUMNS, IMAGE_COLUMNS, REGION_COLUMNS

Kind: TypeAlias = Literal[
    "woman", "exam", "image", "region", "date", "number", "age", "site", "maker", "reason", "model"
]
Table: TypeAlias = Mapping[str, Kind | tuple[str, ...]]
"""By column: what a cell holds; a tuple is a vocabulary."""

_SIDES = ("L", "R", "B")
_DENSITIES = tuple("ABCDabcd1234")
_VIEWS = tuple(view.value for view in View)
_STATUS = tuple(status.value for status in Status)
_DETECTION = ("screen", "screening", "screen-detected", "interval", "symptomatic", "clinical", "incidental", "other")

_COLUMNS: dict[str, Kind | tuple[str, ...]] = {
    "exam_id": "exam",
    "woman_id": "woman",
    "image_id": "image",
    "region_id": "region",
    "top_region_id": "region",
    "exam_date": "date",
    "diagnosis_date": "date",
    "biopsy_date": "date",
    "followed_until": "date",
    "age": "age",
    "site": "site",
    "manufacturer": "maker",
    "reason": "reason",
    "model_id": "model",
    "status": _STATUS,
    "laterality": _SIDES,
    "view": _VIEWS,
    "kind": tuple(kind.value for kind in ImageKind),
    "density": _DENSITIES,
    "detection": _DETECTION,
    "visible": ("false_negative", "minimal_sign", "occult"),
}


def _table(*columns: str) -> Table:
    return {column: _COLUMNS.get(column, "number") for column in columns}


RESULT_TABLES: dict[str, Table] = {
    "exams": _table(*EXAM_COLUMNS),
    "images": _table(*IMAGE_COLUMNS),
    "regions": _table(*REGION_COLUMNS),
}
FOLLOWUP_TABLES: dict[str, Table] = {
    "exams": _table(
        "exam_id", "woman_id", "exam_date", "site", "manufacturer", "age", "density", "reader1", "reader2", "recalled"
    ),
    "diagnoses": _table("woman_id", "diagnosis_date", "laterality", "malignant", "invasive", "detection"),
    "followup": _table("woman_id", "followed_until"),
    "lesions": _table(
        "exam_id", "image_id", "laterality", "x", "y", "width", "height", "frame", "malignant", "visible"
    ),
    "biopsies": _table("woman_id", "biopsy_date", "laterality", "malignant"),
    "weights": _table("exam_id", "weight"),
}

# fmt: off
_MAKERS = frozenset({
    "HOLOGIC", "LORAD", "GE", "SIEMENS", "FUJIFILM", "FUJI", "PHILIPS", "SECTRA", "IMS", "GIOTTO", "PLANMED",
    "CARESTREAM", "KODAK", "AGFA", "KONICA", "MINOLTA", "FISCHER", "METALTRONICA", "CANON", "TOSHIBA", "VILLA",
    "INTERNAZIONALE", "MEDICO", "SCIENTIFICA", "MEDICAL", "SYSTEMS", "SYSTEM", "HEALTH", "HEALTHCARE",
    "HEALTHINEERS", "IMAGING", "SOLUTIONS", "INC", "AG", "AB", "OY", "GMBH", "CORPORATION", "CORP", "CO",
    "COMPANY", "LTD", "SPA", "S", "P", "A", "BV", "NV",
})
# fmt: on
"""Words of the names of mammography's manufacturers; a name with another word gets a pseudonym."""

_DAY = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ]00:00:00(?:\.0+)?)?")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_MODEL = re.compile(r"[\w.+-]{1,120}")
_FIRST_YEAR = 1900


@dataclass
class Exported:
    """What came of one table: its rows as CSV, cells that were emptied, by column, and how many columns stayed back."""

    content: bytes
    rows: int
    emptied: dict[str, int] = field(default_factory=dict)
    columns_left_out: int = 0


def export_table(path: Path, columns: Table, pseudonyms: Pseudonyms) -> Exported:
    """A CSV or Parquet table with pseudonyms, shifted dates and only the columns that `columns` names, as CSV.

    Raises
    ------
    ConfigError
        If the table cannot be read, or holds a date or number that is none: it names line and column, no value.
    """
    header, rows = _read(path)
    if len(set(header)) < len(header):
        raise ConfigError(f"{path.name} has a column twice; keep one")
    names = [name for name in header if name in columns]
    writer = _Cells(path.name, pseudonyms)
    lines = [csv_line(names)]
    for line, cells in rows:
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        lines.append(csv_line([writer.cell(line, name, columns[name], row) for name in names]))
    return Exported("".join(lines).encode(), len(lines) - 1, writer.emptied, len(header) - len(names))


@dataclass
class _Cells:
    """Turns the cells of one table into what may be exported, and counts those that may not."""

    file: str
    pseudonyms: Pseudonyms
    emptied: dict[str, int] = field(default_factory=dict)

    def cell(self, line: int, name: str, kind: Kind | tuple[str, ...], row: Mapping[str, str]) -> str:
        text = row[name]
        if not text:
            return ""
        if isinstance(kind, tuple):
            return text if text in kind else self._empty(name)
        if kind == "date":
            return self._date(line, name, text, row.get("woman_id", ""))
        if kind in ("number", "age"):
            if not _NUMBER.fullmatch(text):
                raise ConfigError(f"{self.file}, line {line}: {name} is no number; correct it and export again")
            return str(OLDEST_AGE + 1) if kind == "age" and float(text) > OLDEST_AGE else text
        if kind == "model":
            return text if _MODEL.fullmatch(text) else self._empty(name)
        if kind == "reason":
            code = text.partition(":")[0]
            return code if code in set(Reason) else self._empty(name)
        changes: dict[str, Callable[[str], str]] = {
            "woman": self.pseudonyms.woman,
            "exam": self.pseudonyms.exam,
            "image": lambda one: str(self.pseudonyms.uid(one)),
            "region": self.pseudonyms.region,
            "site": lambda one: self.pseudonyms.group("site", one),
            "maker": lambda one: maker(one, self.pseudonyms),
        }
        return changes[kind](text)

    def _date(self, line: int, name: str, text: str, woman_id: str) -> str:
        found = _DAY.fullmatch(text)
        try:
            day = date(*(int(part) for part in found.groups())) if found else None
        except ValueError:
            day = None
        if day is None:
            raise ConfigError(f"{self.file}, line {line}: {name} is no date (YYYY-MM-DD); correct it and export again")
        if not woman_id:
            return self._empty(name)  # nothing says how the date moves
        moved = Shift(self.pseudonyms.shift_days(woman_id)).moved(day) if day.year >= _FIRST_YEAR else day
        if moved.year < _FIRST_YEAR:
            raise ConfigError(f"{self.file}, line {line}: {name} is too early to be moved; empty it and export again")
        return moved.isoformat()

    def _empty(self, name: str) -> str:
        self.emptied[name] = self.emptied.get(name, 0) + 1
        return ""


def maker(name: str, pseudonyms: Pseudonyms) -> str:
    """A manufacturer's name as it is, if it has words of such names only; else what stands for it."""
    words = set(re.findall(r"\w+", name.upper()))
    return name if words and words <= _MAKERS else pseudonyms.group("maker", name)


def _read(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header, and the rows with their line (from 1, the header included); blank lines are left out."""
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            return [str(name) for name in table.columns], _parquet_rows(table)
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        return [name.strip() for name in header], iter(list(_csv_rows(path, reader, len(header))))
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"the table {path.name} cannot be read ({type(error).__name__}); correct it") from error


def _csv_rows(path: Path, reader: Iterator[list[str]], fields: int) -> Iterator[tuple[int, list[str]]]:
    for row in reader:
        line: int = reader.line_num  # type: ignore[attr-defined]  # the csv module has no public type
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != fields:
            raise ConfigError(f"{path.name}, line {line}: {len(row)} fields, where the header has {fields}; correct it")
        yield line, row


def _parquet_rows(table: pd.DataFrame) -> Iterator[tuple[int, list[str]]]:
    for line, row in enumerate(table.itertuples(index=False), start=2):
        yield line, [_parquet_cell(value) for value in row]


def _parquet_cell(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]  # any scalar is fine
        return ""
    if isinstance(value, date):  # a Timestamp is one, too
        return value.isoformat()[:10]
    if isinstance(value, bool):
        return str(int(value))
    return str(value)


def csv_line(cells: Sequence[str], quoting: Literal[0, 1] = csv.QUOTE_MINIMAL) -> str:
    """One line of a CSV file (RFC 4180, LF)."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n", quoting=quoting).writerow(cells)
    return line.getvalue()
