"""Figures arranged for reading: the first few, lists that do not repeat themselves, and strategies by their rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evaluation.figure import Figure
from evaluation.report.pages import method_text

_FIRST = ("auc", "auc-difference")
_OF_POINTS = ("sensitivity", "specificity", "recall-rate")
_FEW_POINTS = 2  # with more of them, only their sensitivity is among the first figures
_OF_PROGRAMME = ("recall_rate", "cancer_detection_rate", "interval_cancer_rate", "programme_sensitivity")


@dataclass(frozen=True)
class Row:
    """A figure in a list; the texts beside it are empty, or say "as above", where they are those of the row above."""

    figure: Figure
    denominator: str
    method: str
    note: str
    reason: str


@dataclass(frozen=True)
class MatrixRow:
    """A row of figures, `note` on all of them, and each with the rest of its own note."""

    name: str
    note: str
    cells: tuple[tuple[Figure, str], ...]


@dataclass(frozen=True)
class Matrix:
    """Figures whose keys are ROW/COLUMN, such as the rates of each reading strategy."""

    columns: tuple[str, ...]
    rows: tuple[MatrixRow, ...]


def headline(figures: Iterable[Figure]) -> list[Figure]:
    """The figures that a reader asks for first, over all cases.

    AUC, what the operating points give, lesions found at the protocol's rates of false positives, expected over
    observed, and the programme's own rates.
    """
    whole = [one for one in figures if one.subgroup == "all"]
    points = [one for one in whole if one.group == "operating points" and one.key.partition("@")[0] in _OF_POINTS]
    if len({one.key.partition("@")[2] for one in points}) > _FEW_POINTS:
        points = [one for one in points if one.key.startswith("sensitivity@")]
    return [
        *(one for one in whole if one.key in _FIRST),
        *points,
        *(one for one in whole if one.key.startswith("froc-sensitivity@")),
        *(one for one in whole if one.key == "expected-observed"),
        *(one for one in whole if one.key in _OF_PROGRAMME),
    ]


def grouped(figures: Iterable[Figure]) -> dict[str, list[Row]]:
    """Figures in lists under the headings that they stand under, in the order of the first of each."""
    groups: dict[str, list[Figure]] = defaultdict(list)
    for one in figures:
        groups[one.group].append(one)
    return {group: rows(own) for group, own in groups.items()}


def rows(figures: Sequence[Figure]) -> list[Row]:
    """A list of figures that does not repeat what stands in the row above."""
    found = []
    above = Row(figures[0], "", "", "", "")
    for one in figures:
        own = Row(one, one.denominator, method_text(one), one.note, one.reason)
        found.append(
            Row(
                one,
                "" if own.denominator == above.denominator else own.denominator,
                "" if own.method == above.method else own.method,
                "as above" if own.note and own.note == above.note else own.note,
                "as above" if own.reason and own.reason == above.reason else own.reason,
            )
        )
        above = own
    return found


def matrices(figures: Iterable[Figure]) -> tuple[list[Matrix], list[Figure]]:
    """Figures with keys of the form ROW/COLUMN by rows and columns, and the others.

    Rows with the same columns make one matrix: strategies have more rates than differences between strategies.
    """
    cells: dict[str, dict[str, Figure]] = defaultdict(dict)
    others = []
    for one in figures:
        row, separator, column = one.key.rpartition("/")
        if separator:
            cells[row][column] = one
        else:
            others.append(one)
    by_columns: dict[tuple[str, ...], list[dict[str, Figure]]] = defaultdict(list)
    for row_cells in cells.values():
        by_columns[tuple(row_cells)].append(row_cells)
    return [_matrix(columns, own) for columns, own in by_columns.items()], others


def _matrix(columns: tuple[str, ...], cells: list[dict[str, Figure]]) -> Matrix:
    names = tuple(cells[0][column].label.rpartition(": ")[2] for column in columns)
    return Matrix(names, tuple(_matrix_row([row[column] for column in columns]) for row in cells))


def _matrix_row(figures: list[Figure]) -> MatrixRow:
    parts = [one.note.split("; ") for one in figures]
    common = [part for part in parts[0] if all(part in own for own in parts)]
    cells = (
        (one, "; ".join(part for part in own if part not in common)) for one, own in zip(figures, parts, strict=True)
    )
    return MatrixRow(figures[0].label.rpartition(": ")[0], "; ".join(common), tuple(cells))
