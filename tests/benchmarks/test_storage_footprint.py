"""What an exam takes of disk and database is counted whole, and fixed costs are not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.storage import footprint, lines


def database(path: Path, exams: int) -> None:
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE exams (exam_id TEXT, text TEXT)")
        base.execute("CREATE TABLE images (image_id TEXT)")
        base.executemany("INSERT INTO exams VALUES (?, ?)", [(str(n), "x" * 900) for n in range(exams)])
        base.executemany("INSERT INTO images VALUES (?)", [(str(n),) for n in range(4 * exams)])


def test_files_and_rows_are_counted_by_kind(tmp_path: Path) -> None:
    database(tmp_path / "results.sqlite", 3)
    (tmp_path / "exams.csv").write_text("12345")
    for exam in ("a", "b", "c"):
        (tmp_path / "heatmaps" / exam).mkdir(parents=True)
        (tmp_path / "heatmaps" / exam / "1.png").write_bytes(bytes(100))
    found = footprint(tmp_path)
    assert found.exams == 3
    assert found.rows == {"exams": 3, "images": 12}
    assert found.bytes == {"exams.csv": 5, "heatmaps/*.png": 300}
    assert found.files["heatmaps/*.png"] == 3
    assert "table images: 4.00 rows an exam, 4.00 million" in list(lines(found, 1_000_000))


def test_empty_database_costs_no_exam_anything_and_a_full_one_about_its_content(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    database(tmp_path / "none" / "results.sqlite", 0)
    assert footprint(tmp_path / "none").database_bytes == 0
    (tmp_path / "many").mkdir()
    database(tmp_path / "many" / "results.sqlite", 1000)
    assert 900_000 < footprint(tmp_path / "many").database_bytes < 1_400_000
