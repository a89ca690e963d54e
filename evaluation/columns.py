"""Tables of millions of rows, read and typed a column at a time; the kinds of columns are those of `tables`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from evaluation.checks import BoolArray, IntArray
from evaluation.tables import PARSERS, Column, Problem, TableError


class ScoresError(TableError):
    """Score tables cannot be used as they are; `problems` names every row, the message the first ones."""


@dataclass(eq=False)
class RawTable:
    """A table as it was read. `file`: its name, for messages. `lines`: int64 (n,), each row's line in the file.

    `typed` takes its columns away one by one, so that a table of millions of rows is not in memory twice.
    """

    file: str
    cells: pa.Table
    lines: IntArray


def read_table(path: Path, wanted: Mapping[str, Column]) -> RawTable:
    """Read those columns of a CSV or Parquet file that are wanted; of a CSV file every cell is text.

    Raises `ScoresError` for a file that cannot be read, a column that stands there twice, or rows of another length
    than the header.
    """
    try:
        if path.suffix == ".parquet":
            names = pyarrow.parquet.read_schema(path).names
            _refuse_repeated(path, names, wanted)
            cells = pyarrow.parquet.read_table(path, columns=[name for name in names if name in wanted])
            return RawTable(path.name, cells, np.arange(2, len(cells) + 2))
        return _read_csv(path, wanted)
    except (OSError, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        # The library's message may quote cells of the file after its first words.
        cause = " ".join(str(error).split())[:120]
        raise ScoresError(f"The table {path.name} cannot be read: {cause}") from error


def from_frame(table: pd.DataFrame, file: str, wanted: Mapping[str, Column]) -> RawTable:
    """A table that is in memory already; its rows count as lines from 2, as in a file."""
    _refuse_repeated(Path(file), list(table.columns), wanted)
    frame = table[[name for name in table.columns if name in wanted]]
    try:
        cells = pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException:
        cells = pa.Table.from_pandas(frame.astype(object).where(frame.notna(), "").astype(str), preserve_index=False)
    return RawTable(file, cells, np.arange(2, len(table) + 2))


def typed(raw: RawTable, wanted: Mapping[str, Column], errors: list[Problem]) -> pd.DataFrame:
    """The table with all wanted columns, in their order, and its lines as index; what does not fit goes to `errors`.

    Identifiers and text become str ("" for none), dates datetime64[s], the rest float64 (NaN for none). Rows of empty
    cells only are left out. The columns of `raw` are taken away.

    Raises `ScoresError` if a required column is not there.
    """
    lacking = [name for name, rule in wanted.items() if rule.required and name not in raw.cells.column_names]
    if lacking:
        names = ", ".join(raw.cells.column_names) or "none of those that are used"
        raise ScoresError(f"{raw.file} lacks the column {', '.join(lacking)}; it has {names}.")
    columns: dict[str, pd.Series] = {}
    empties: dict[str, BoolArray] = {}
    for name, rule in wanted.items():
        given = _taken(raw, name)
        values, empties[name], bad, sentence = _parse(given, rule)
        columns[name] = values.set_axis(raw.lines)
        for row in np.flatnonzero(bad):
            errors.append(Problem(raw.file, int(raw.lines[row]), f"{name} {str(given[row]).strip()!r} {sentence}"))
    blank = np.logical_and.reduce(list(empties.values()))
    for name in (name for name, rule in wanted.items() if not rule.may_be_empty):
        missing = raw.lines[empties[name] & ~blank]
        errors.extend(Problem(raw.file, int(line), f"{name} is empty") for line in missing)
    table = pd.DataFrame(columns)
    return table[~blank] if blank.any() else table


def _taken(raw: RawTable, name: str) -> pa.ChunkedArray:
    """A column of the table, which has it no more; empty cells where there is none of that name."""
    if name not in raw.cells.column_names:
        return pa.chunked_array([pa.nulls(len(raw.lines), pa.string())])
    column = raw.cells[name]
    raw.cells = raw.cells.drop_columns([name])
    return column


def positions(keys: pd.Series, known: pd.Series) -> IntArray:
    """Where each key stands among the known ones, which are unique, as a row number; -1 for keys that do not."""
    found = pc.index_in(pa.chunked_array(pa.array(keys)), value_set=_combined(pa.array(known)))
    return np.asarray(pc.fill_null(found, -1), dtype=np.int64)


def repeated(keys: pd.Series) -> BoolArray:
    """Which keys stood there before."""
    if pc.count_distinct(pa.array(keys)).as_py() == len(keys):
        return np.zeros(len(keys), dtype=np.bool_)
    return np.asarray(keys.duplicated().to_numpy(), dtype=np.bool_)


def _read_csv(path: Path, wanted: Mapping[str, Column]) -> RawTable:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    _refuse_repeated(path, header, wanted)
    names = [name for name in header if name in wanted]
    ragged: list[pyarrow.csv.InvalidRow] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    cells = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=names or header[:1],
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    if ragged:
        raise ScoresError(f"{path.name} has rows of another length than its header:", _ragged_rows(path, len(header)))
    return RawTable(path.name, cells.select(names), _lines(path, len(cells)))


def _lines(path: Path, rows: int) -> IntArray:
    """The line of each row; where lines are blank or cells hold line ends, the file is read once more to count."""
    with path.open("rb") as file:
        ends, last = 0, b""
        for block in iter(lambda: file.read(1 << 20), b""):
            ends, last = ends + block.count(b"\n"), block
    if ends + (not last.endswith(b"\n")) == rows + 1:
        return np.arange(2, rows + 2)
    with path.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        lines, before = [], 0
        for row in reader:
            if row:
                lines.append(before + 1)
            before = reader.line_num
    if len(lines) != rows + 1:
        raise csv.Error("its quotation marks do not pair up")
    return np.array(lines[1:], dtype=np.int64)


def _ragged_rows(path: Path, fields: int) -> tuple[Problem, ...]:
    with path.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        return tuple(
            Problem(path.name, reader.line_num, f"{len(row)} fields, where the header has {fields}")
            for row in reader
            if row and len(row) != fields
        )


def _refuse_repeated(path: Path, names: list[str], wanted: Mapping[str, Column]) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise ScoresError(f"{path.name} has the column {name} twice; keep one.")


_Parsed: TypeAlias = tuple[pd.Series, BoolArray, BoolArray, str]
"""Values, which cells are empty, which others do not fit, and the sentence on those."""


def _parse(given: pa.ChunkedArray, rule: Column) -> _Parsed:
    if pa.types.is_dictionary(given.type):
        given = given.cast(given.type.value_type)
    if rule.kind in ("number", "size"):
        return _number(given, rule)
    if rule.kind in ("id", "text"):
        return _text(given)
    return _coded(given, rule)


def _number(given: pa.ChunkedArray, rule: Column) -> _Parsed:
    try:
        numbers = given.cast(pa.float64())
    except pa.ArrowException:  # some cell is blank or no number: find out which, at leisure
        given = given.cast(pa.string())
        given = pc.if_else(pc.equal(pc.utf8_trim_whitespace(given), ""), pa.scalar(None, pa.string()), given)
        numbers = pa.array(pd.to_numeric(given.to_pandas(), errors="coerce"), type=pa.float64(), from_pandas=True)
    empty = np.asarray(pc.is_null(given, nan_is_null=True))
    values = np.array(pc.fill_null(numbers, np.nan), dtype=np.float64)
    bad = ~np.isfinite(values) & ~empty
    if rule.kind == "size":
        return pd.Series(values), empty, bad | (values <= 0), "is no number above 0"
    return pd.Series(values), empty, bad, "is no number"


def _text(given: pa.ChunkedArray) -> _Parsed:
    text = pc.fill_null(pc.utf8_trim_whitespace(given.cast(pa.large_string())), "")
    return pd.Series(text.to_pandas(), dtype="str"), np.asarray(pc.equal(text, "")), np.zeros(len(text), np.bool_), ""


def _coded(given: pa.ChunkedArray, rule: Column) -> _Parsed:
    """Dates, sides and flags, which take few values: each is parsed once, as the follow-up's are."""
    coded = _combined(given).dictionary_encode()
    code = np.asarray(pc.fill_null(coded.indices, -1))
    distinct = coded.dictionary.to_pandas()
    blank = distinct.isna() | (distinct.astype(str).str.strip() == "")
    values, bad, sentence = PARSERS[rule.kind](distinct.where(~blank))
    known = pd.Series(values.array.take(code, allow_fill=True), dtype=values.dtype)
    if known.dtype == "str":
        known = known.fillna("")
    # What no code stands for, -1, is the last of these.
    return known, np.append(blank, True)[code], np.append(bad & ~blank, False)[code], sentence


def _combined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
