"""What an evaluation leaves as tables: every figure, the flow of exams, and the outcome of every exam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd

from evaluation.figure import Figure
from evaluation.intervals import Interval
from evaluation.study import Evaluation
from screening.store import write_atomically

FIGURES, FLOW, EXAMS, NOTES = "figures.csv", "flow.csv", "exams.csv", "notes.txt"
_EXAM_COLUMNS = ["exam_id", "outcome", "role", "months_to_diagnosis", "included", "excluded_because", "score"]


def write_tables(evaluation: Evaluation, out: Path) -> list[Path]:
    """Write figures.csv (all figures, then comparisons), flow.csv, exams.csv and notes.txt; returns their paths.

    The exams stand there without the women's ids, which are in the tables that were read. Raises `StoreError` where
    the folder cannot be written.
    """
    cohort = evaluation.cohort
    tables = {
        FLOW: pd.DataFrame(cohort.flow, columns=["level", "label", "count"]),
        EXAMS: cohort.exams[_EXAM_COLUMNS],
    }
    figures = write_figures((*evaluation.figures, *evaluation.comparisons), out)
    for name, table in tables.items():
        _write(table.to_csv(index=False), out / name)
    _write("".join(f"{note}\n" for note in (*cohort.notes, *cohort.followup.notes)), out / NOTES)
    return [figures, *(out / name for name in (*tables, NOTES))]


def write_figures(figures: Sequence[Figure], out: Path) -> Path:
    """Write figures.csv; returns its path. Raises `StoreError` where the folder cannot be written."""
    _write(figures_table(figures).to_csv(index=False), out / FIGURES)
    return out / FIGURES


def _write(text: str, path: Path) -> None:
    write_atomically(path, [text.encode("utf-8", "backslashreplace")], durable=False)


def figures_table(figures: Sequence[Figure]) -> pd.DataFrame:
    """One row a figure: its fields, those of its interval (`point`, `low`, …, empty where there is none), `warning`."""
    of_figure = [field.name for field in fields(Figure) if field.name != "interval"]
    of_interval = [field.name for field in fields(Interval)]
    rows = [
        [getattr(one, name) for name in of_figure]
        + [getattr(one.interval, name) if one.interval else None for name in of_interval]
        + [one.warning]
        for one in figures
    ]
    return pd.DataFrame(rows, columns=[*of_figure, *of_interval, "warning"])
