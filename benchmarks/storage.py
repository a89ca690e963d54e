"""What an exam leaves behind, bytes by kind and rows by table: `python -m benchmarks.storage RESULTS`."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

EMPTY_PAGES = 1
"""Of a table without rows; SQLite gives each table and index a page of its own."""


@dataclass(frozen=True)
class Footprint:
    """Of one results folder. `files`, `bytes`: by kind of file. `rows`: by database table, of all databases in it.

    `database_bytes`: of pages that hold rows, so that what an empty database takes does not count for each exam.
    """

    exams: int
    files: dict[str, int]
    bytes: dict[str, int]
    rows: dict[str, int]
    database_bytes: int


def footprint(results: Path) -> Footprint:
    """Measure a folder that `screening score` (and perhaps `screening send`) wrote."""
    files, sizes = Counter[str](), Counter[str]()
    rows: Counter[str] = Counter()
    database_bytes = 0
    for path in sorted(path for path in results.rglob("*") if path.is_file()):
        if path.suffix == ".sqlite":
            own, used = _database(path)
            rows.update(own)
            database_bytes += used
        else:
            kind = f"{path.relative_to(results).parts[0]}/*{path.suffix}" if path.parent != results else path.name
            files[kind] += 1
            sizes[kind] += path.stat().st_size
    return Footprint(rows["exams"], dict(files), dict(sizes), {t: n for t, n in rows.items() if n}, database_bytes)


def _database(path: Path) -> tuple[dict[str, int], int]:
    """Rows by table, and the bytes of tables and indices beyond one page each."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
        tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: int(base.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in tables}
        (size,) = base.execute("PRAGMA page_size").fetchone()
        (pages,) = base.execute("PRAGMA page_count").fetchone()
        (objects,) = base.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'index')").fetchone()
    return rows, max(0, pages - EMPTY_PAGES * objects - 1) * size


def lines(found: Footprint, year: int) -> Iterator[str]:
    """A table for people: of one exam, and of so many a year."""
    exams = max(1, found.exams)
    yield f"{found.exams} exams"
    for kind, size in sorted(found.bytes.items(), key=lambda item: -item[1]):
        of_year = size / exams * year / 1e12
        yield f"{kind}: {found.files[kind]} files, {size / exams / 1e3:.1f} kB an exam, {of_year:.3f} TB"
    database = found.database_bytes / exams
    yield f"databases: {database / 1e3:.1f} kB an exam, {database * year / 1e9:.1f} GB"
    for table, count in sorted(found.rows.items(), key=lambda item: -item[1]):
        yield f"table {table}: {count / exams:.2f} rows an exam, {count / exams * year / 1e6:.2f} million"


def main(
    results: Annotated[Path, typer.Argument(help="Folder that `screening score` wrote.")],
    year: Annotated[int, typer.Option("--year", help="Exams of a year.")] = 1_000_000,
) -> None:
    """Say what an exam takes of disk and database."""
    typer.echo("\n".join(lines(footprint(results), year)))


if __name__ == "__main__":
    typer.run(main)
