"""The results store, its tables and the batch record."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event
from sqlalchemy.exc import IntegrityError

from screening.errors import StoreError
from screening.exam import Image, ImageKind, Laterality, PresentationIntent, View
from screening.result import (
    BreastResult,
    ExamResult,
    Heatmap,
    ImageResult,
    InstanceRejection,
    Reason,
    Region,
    Rejection,
    Status,
)
from screening.store import (
    EXAM_COLUMNS,
    IMAGE_COLUMNS,
    REGION_COLUMNS,
    STORE_NAME,
    BatchSummary,
    Counts,
    Ends,
    ResultStore,
    write_atomically,
    write_batch_json,
    write_tables,
)

MODEL = "5f" * 32
TABLES = ("exams.csv", "images.csv", "regions.csv")


def image(image_id: str, side: str = "L", view: str = "CC", **changes: Any) -> Image:
    made = Image(
        image_id=image_id,
        path=Path("exam") / image_id,
        laterality=Laterality(side),
        view=View(view),
        kind=ImageKind.FFDM,
        rows=3328,
        columns=2560,
        frames=1,
        pixel_spacing_mm=(0.07, 0.07),
    )
    return replace(made, **changes)


def region(region_id: str, of: Image, score: float, rank: int) -> Region:
    contour = ((100.25, 200.5), (180.0, 205.125), (150.0, 290.0))
    return Region(region_id, of.image_id, of.laterality, of.view, 100.25, 200.5, 79.75, 89.5, contour, score, rank)


def exam(exam_id: str = "1.2.3", score: float = 0.03, **changes: Any) -> ExamResult:
    left, right = image(f"{exam_id}.1"), image(f"{exam_id}.2", "R", "MLO")
    top, second = region(f"{exam_id}-1", left, score, 1), region(f"{exam_id}-2", right, score / 3, 2)
    made = ExamResult(
        exam_id=exam_id,
        woman_id="W1",
        exam_date=date(2026, 3, 1),
        site="north",
        manufacturer="ACME",
        model_id=MODEL,
        status=Status.SCORED,
        score=score,
        category=9,
        density="B",
        top_region_id=top.region_id,
        breasts=(
            BreastResult(Laterality.LEFT, score, top.region_id, "B"),
            BreastResult(Laterality.RIGHT, score / 3, second.region_id),
        ),
        images=(
            ImageResult(left, Status.SCORED, score=score, regions=(top,)),
            ImageResult(right, Status.SCORED, score=score / 3, regions=(second,), warnings=("motion",)),
        ),
        warnings=("two exams of one day",),
    )
    return replace(made, **changes)


def unscored(exam_id: str, status: Status, reason: Rejection, images: tuple[ImageResult, ...] = ()) -> ExamResult:
    return ExamResult(exam_id, "W2", None, "north", "", MODEL, status, reason, images=images)


def rejection(file: str = "a/b", exam_id: str = "", image_id: str = "") -> InstanceRejection:
    return InstanceRejection(file, exam_id, image_id, Status.REJECTED, Rejection(Reason.NOT_DICOM, "not DICOM"))


def batch(counts: Counts, **changes: Any) -> BatchSummary:
    made = BatchSummary(
        site="north",
        model_id=MODEL,
        model_name="malignancy",
        model_version="1.0",
        started=datetime(2026, 3, 2, 1, 0, tzinfo=UTC),
        finished=datetime(2026, 3, 2, 1, 30, tzinfo=UTC),
        counts=counts,
        reference=0.02,
    )
    return replace(made, **changes)


def fill(folder: Path, number: int) -> None:
    with ResultStore(folder / STORE_NAME) as opened:
        for one in range(number):
            opened.add(exam(f"1.{one}"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultStore]:
    with ResultStore(tmp_path / STORE_NAME) as opened:
        yield opened


# --- round trips ----------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
UNIT = st.floats(0, 1)
COORDINATE = st.floats(-10, 5000, allow_subnormal=False)


@st.composite
def exams(draw: st.DrawFn) -> ExamResult:
    exam_id = draw(TEXT)
    made = image(
        draw(TEXT),
        draw(st.sampled_from("LR")),
        draw(st.sampled_from([view.value for view in View])),
        kind=draw(st.sampled_from(ImageKind)),
        intent=draw(st.sampled_from(PresentationIntent)),
        frames=draw(st.integers(1, 90)),
        pixel_spacing_mm=(draw(st.floats(0.01, 0.5)), draw(st.floats(0.01, 0.5))),
        patient_orientation=tuple(draw(st.lists(TEXT, max_size=2))),
        implant=draw(st.booleans()),
        warnings=tuple(draw(st.lists(TEXT, max_size=2))),
    )
    contour = tuple(draw(st.lists(st.tuples(COORDINATE, COORDINATE), max_size=4)))
    x, y, width, height = (draw(COORDINATE) for _ in range(4))
    score = draw(UNIT)
    found = Region(
        draw(TEXT), made.image_id, made.laterality, made.view, x, y, width, height, contour, score, 1, 3, 9, 5
    )
    scored = ImageResult(made, Status.SCORED, score=score, regions=(found,), warnings=(draw(TEXT),))
    failed = ImageResult(made, Status.FAILED, Rejection(draw(st.sampled_from(Reason)), draw(TEXT)))
    return exam(
        exam_id,
        woman_id=draw(TEXT),
        exam_date=draw(st.none() | st.dates()),
        manufacturer=draw(TEXT),
        score=score,
        density=draw(st.none() | st.sampled_from("ABCD")),
        top_region_id=found.region_id,
        breasts=(BreastResult(made.laterality, score, found.region_id, draw(st.none() | st.just("C"))),),
        images=tuple(draw(st.permutations([scored, failed]))),
        warnings=tuple(draw(st.lists(TEXT, max_size=2))),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(result=exams())
def test_an_exam_comes_back_equal(store: ResultStore, result: ExamResult) -> None:
    store.add(result)
    assert result in list(store.results())


def test_pixels_are_left_out(store: ResultStore) -> None:
    plain = exam()
    heatmap = Heatmap(np.zeros((2, 2), np.float32), 0, 0, 10, 10)
    with_pixels = replace(plain.images[0], heatmap=heatmap, preview=np.zeros((4, 4), np.uint8))
    store.add(replace(plain, images=(with_pixels, plain.images[1])))
    assert list(store.results()) == [plain]


def test_numpy_scalars_come_back_as_numbers(store: ResultStore) -> None:
    plain = exam(score=0.25)
    first = plain.images[0]
    # Any: what the types forbid is what careless callers do.
    quarter: Any = np.float32(0.25)
    count: Any = np.int64(1)
    numpy_region = replace(first.regions[0], score=quarter, rank=count)
    numpy_image = replace(first, score=quarter, regions=(numpy_region,))
    store.add(replace(plain, score=quarter, category=9 * count, images=(numpy_image, plain.images[1])))
    assert list(store.results()) == [plain]


def test_rejections_come_back_equal_and_once(store: ResultStore) -> None:
    known = InstanceRejection(
        "x/1",
        "1.2",
        "1.2.1",
        Status.FAILED,
        Rejection(Reason.UNREADABLE, "x/1 is cut off"),
        laterality="L",
        view="CC",
        kind="ffdm",
        rows=10,
        columns=20,
        frames=1,
    )
    store.add_rejections([known, rejection()])
    store.add_rejections([rejection(), known])
    assert sorted(store.rejections(), key=lambda one: one.file) == [rejection(), known]


def test_text_that_no_database_takes_is_kept_readable(store: ResultStore, tmp_path: Path) -> None:
    undecodable = os.fsdecode(b"M\xfcller.dcm")
    store.add_rejections([rejection(undecodable)])
    store.add(exam(manufacturer="AC\0ME"))
    write_tables(store, tmp_path)
    assert [one.file for one in store.rejections()] == ["M\\udcfcller.dcm"]
    assert pd.read_csv(tmp_path / "exams.csv")["manufacturer"].tolist() == ["ACME"]


# --- adding ---------------------------------------------------------------------------------------------------------


def number_of_rows(path: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


def test_adding_again_replaces_with_all_that_belongs_to_it(store: ResultStore, tmp_path: Path) -> None:
    store.add(exam(score=0.5))
    before = number_of_rows(tmp_path / STORE_NAME)
    store.add(exam(score=0.03))
    assert number_of_rows(tmp_path / STORE_NAME) == before
    assert list(store.results()) == [exam(score=0.03)]


def test_results_of_two_models_stand_side_by_side(store: ResultStore) -> None:
    store.add(exam())
    store.add(exam(model_id="other"))
    assert [one.model_id for one in store.results()] == [MODEL, "other"]
    assert list(store.results("other")) == [exam(model_id="other")]


def test_an_exam_that_cannot_be_stored_leaves_the_earlier_one(store: ResultStore) -> None:
    store.add(exam())
    with pytest.raises(IntegrityError):
        store.add(exam(score=float("nan")))
    assert list(store.results()) == [exam()]


def test_finished_leaves_failed_exams_and_other_models_for_another_run(store: ResultStore) -> None:
    store.add(exam("1"))
    reason = Rejection(Reason.NO_ELIGIBLE_IMAGE, "nothing to score")
    store.add(unscored("2", Status.REJECTED, reason))
    store.add(unscored("3", Status.FAILED, reason))
    store.add(exam("4", model_id="other"))
    assert store.finished(MODEL) == {"1", "2"}


def test_an_image_rejected_before_and_scored_now_is_counted_once(store: ResultStore) -> None:
    store.add_rejections([rejection("f", "1.2.3", "1.2.3.1")])
    store.add(exam("1.2.3"))
    assert list(store.rejections()) == []


def test_a_duplicate_of_a_scored_image_stays_a_rejection(store: ResultStore) -> None:
    duplicate = replace(rejection("g", "1.2.3", "1.2.3.1"), rejection=Rejection(Reason.DUPLICATE, "the same as f"))
    store.add_rejections([duplicate])
    store.add(exam("1.2.3"))
    assert list(store.rejections()) == [duplicate]


def test_others_can_read_while_a_batch_writes(store: ResultStore, tmp_path: Path) -> None:
    store.add(exam("1"))
    with ResultStore(tmp_path / STORE_NAME) as reader:
        reading = reader.results()
        assert next(reading).exam_id == "1"
        store.add(exam("2"))
        assert list(reading) == []
        assert [one.exam_id for one in reader.results()] == ["1", "2"]


def test_what_was_stored_survives_a_kill(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        fill(tmp_path, 100_000)
        os._exit(0)
    path = tmp_path / STORE_NAME
    for _ in range(600):
        time.sleep(0.02)
        with contextlib.suppress(sqlite3.OperationalError):
            if path.exists() and number_of_rows(path).get("exams", 0) >= 5:
                break
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with ResultStore(path) as opened:
        kept = list(opened.results())
        opened.add(exam("9"))
    assert len(kept) >= 5
    assert all(one == exam(one.exam_id) for one in kept)


def test_a_closed_store_is_one_file(tmp_path: Path) -> None:
    with ResultStore(tmp_path / STORE_NAME) as opened:
        opened.add(exam())
        opened.add_batch(batch(opened.counts(MODEL)))
    assert [path.name for path in tmp_path.iterdir()] == [STORE_NAME]


def test_a_store_is_reached_by_url_too(tmp_path: Path) -> None:
    with ResultStore(f"sqlite:///{tmp_path}/by-url.sqlite") as opened:
        opened.add(exam())
    with ResultStore(tmp_path / "by-url.sqlite") as opened:
        assert list(opened.results()) == [exam()]


# --- tables ---------------------------------------------------------------------------------------------------------


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in TABLES]


def test_columns_are_those_of_the_design(store: ResultStore, tmp_path: Path) -> None:
    store.add(exam())
    write_tables(store, tmp_path)
    for name, columns in zip(TABLES, (EXAM_COLUMNS, IMAGE_COLUMNS, REGION_COLUMNS), strict=True):
        assert (tmp_path / name).read_text().splitlines()[0] == ",".join(columns)


def test_tables_depend_neither_on_the_order_of_results_nor_on_the_run(tmp_path: Path) -> None:
    results = [exam(f"1.2.{number}", score=0.9 / number) for number in range(1, 9)]
    rejected = [rejection(f"file {number}") for number in range(4)]
    seen = set()
    for run in range(3):
        folder = tmp_path / str(run)
        shuffled = random.Random(run)
        shuffled.shuffle(results)
        shuffled.shuffle(rejected)
        with ResultStore(folder / STORE_NAME) as opened:
            for result in results:
                images = list(result.images)
                shuffled.shuffle(images)
                opened.add(replace(result, images=tuple(images)))
            opened.add_rejections(rejected)
            write_tables(opened, folder)
        seen.add(tuple(tables(folder)))
    assert len(seen) == 1
    assert b"\r" not in b"".join(tables(tmp_path / "0"))


@pytest.mark.parametrize(
    "woman_id",
    ["=cmd()", "+1", "@x", "00012", 'say "a", "b"', "two\r\nlines", "cr\ronly", " spaced ", "NA", "Ä漢", "-"],
)
def test_a_patient_id_comes_back_from_pandas_as_it_was(store: ResultStore, tmp_path: Path, woman_id: str) -> None:
    store.add(exam(woman_id=woman_id))
    write_tables(store, tmp_path)
    frame = pd.read_csv(tmp_path / "exams.csv", dtype={"woman_id": str}, keep_default_na=False)
    assert frame["woman_id"].tolist() == [woman_id]
    assert len(frame.columns) == len(EXAM_COLUMNS)


def test_the_exam_score_is_the_very_text_of_its_top_region(store: ResultStore, tmp_path: Path) -> None:
    for number, score in enumerate(np.random.default_rng(0).random(20)):
        store.add(exam(f"1.{number}", score=float(score) / 1000))
    write_tables(store, tmp_path)
    scored = pd.read_csv(tmp_path / "exams.csv", dtype=str)
    regions = pd.read_csv(tmp_path / "regions.csv", dtype=str).set_index("region_id")
    assert (regions.loc[scored["top_region_id"], "score"].to_numpy() == scored["score"].to_numpy()).all()
    assert (scored["left_score"] == scored["score"]).all()


def test_numbers_are_written_in_one_way(store: ResultStore, tmp_path: Path) -> None:
    plain = exam(score=0.0000123456789)
    moved = replace(plain.images[0].regions[0], x=-0.001, y=1234.5678)
    store.add(replace(plain, images=(replace(plain.images[0], regions=(moved,)), plain.images[1])))
    write_tables(store, tmp_path)
    row = pd.read_csv(tmp_path / "regions.csv", dtype=str).iloc[0]
    assert (row["x"], row["y"], row["score"]) == ("0.00", "1234.57", "1.23457e-05")
    assert pd.read_csv(tmp_path / "images.csv", dtype=str)["pixel_spacing_mm"].tolist() == ["0.07", "0.07"]


def test_an_exam_with_a_failed_image_is_scored_and_the_image_has_its_reason(store: ResultStore, tmp_path: Path) -> None:
    plain = exam()
    failed = ImageResult(image("9.9"), Status.FAILED, Rejection(Reason.UNREADABLE, "9.9 is cut off"))
    store.add(replace(plain, images=(*plain.images, failed)))
    write_tables(store, tmp_path)
    exams_table = pd.read_csv(tmp_path / "exams.csv", keep_default_na=False)
    images_table = pd.read_csv(tmp_path / "images.csv", dtype=str, keep_default_na=False).set_index("image_id")
    assert exams_table["status"].tolist() == ["scored"]
    assert exams_table["reason"].tolist() == [""]
    assert images_table.loc["9.9", "status"] == "failed"
    assert images_table.loc["9.9", "reason"] == "unreadable: 9.9 is cut off"
    assert images_table.loc["9.9", "score"] == ""


def test_rejected_exams_and_files_have_rows_with_their_reason(store: ResultStore, tmp_path: Path) -> None:
    reason = Rejection(Reason.NO_ELIGIBLE_IMAGE, "only a specimen")
    store.add(unscored("7", Status.REJECTED, reason))
    store.add_rejections([rejection("in/readme.txt"), rejection("in/2", "7", "7.1")])
    write_tables(store, tmp_path)
    row = pd.read_csv(tmp_path / "exams.csv", keep_default_na=False).iloc[0]
    assert (row["status"], row["reason"], row["score"]) == ("rejected", "no-eligible-image: only a specimen", "")
    reasons = pd.read_csv(tmp_path / "images.csv", keep_default_na=False)["reason"].tolist()
    assert reasons == ["not-dicom: not DICOM [in/readme.txt]", "not-dicom: not DICOM"]


def test_an_empty_store_gives_tables_with_heads_only(store: ResultStore, tmp_path: Path) -> None:
    write_tables(store, tmp_path)
    assert all(len(pd.read_csv(tmp_path / name)) == 0 for name in TABLES)


# --- batch record ---------------------------------------------------------------------------------------------------


def test_counts_add_up_to_everything_that_was_read(store: ResultStore, tmp_path: Path) -> None:
    failed = ImageResult(image("9.9"), Status.FAILED, Rejection(Reason.UNREADABLE, "cut off"))
    store.add(replace(exam("1"), images=(*exam("1").images, failed)))
    reason = Rejection(Reason.ALL_IMAGES_FAILED, "nothing could be read")
    store.add(unscored("2", Status.FAILED, reason, (failed,)))
    store.add(exam("3", model_id="other"))
    store.add_rejections([rejection("a"), rejection("b")])
    counts = store.counts(MODEL, unfinished_exams=1, unfinished_instances=4)
    assert counts.exams == Ends(scored=1, failed=1, unfinished=1)
    assert counts.instances == Ends(scored=2, rejected=2, failed=2, unfinished=4)
    write_batch_json(tmp_path, batch(counts))
    record = json.loads((tmp_path / "batch.json").read_text())
    for kind in ("exams", "instances"):
        ends = record[kind]
        assert ends["total"] == sum(ends[end] for end in ("scored", "rejected", "failed", "unfinished"))
        reasons = sum(row[kind] for row in record["reasons"])
        assert reasons == ends["rejected"] + ends["failed"]


def test_the_batch_record_says_what_ran_but_not_where_nor_on_whom(store: ResultStore, tmp_path: Path) -> None:
    store.add(exam(woman_id="WOMAN-4711"))
    config = {"site": {"name": "north", "pseudonym_key": "hush"}, "token": "hush", "folder": Path("x"), "key": None}
    write_batch_json(tmp_path, batch(store.counts(MODEL), config=config, timings={"read": 1.23456}))
    text = (tmp_path / "batch.json").read_text()
    record = json.loads(text)
    assert record["started"] == "2026-03-02T01:00:00Z"
    assert record["model"]["id"] == MODEL
    assert record["timings_seconds"] == {"read": 1.235}
    assert record["versions"]["pydicom"]
    assert record["machine"]["cpus"] == os.cpu_count()
    assert record["config"]["folder"] == "x"
    assert record["config"]["key"] is None
    for secret in ("hush", "WOMAN-4711", socket.gethostname()):
        assert secret not in text


def test_times_are_written_in_utc(tmp_path: Path) -> None:
    local = datetime.fromisoformat("2026-03-02T01:00:00+02:00")
    write_batch_json(tmp_path, batch(Counts(Ends(), Ends()), started=local))
    assert json.loads((tmp_path / "batch.json").read_text())["started"] == "2026-03-01T23:00:00Z"


# --- errors ---------------------------------------------------------------------------------------------------------


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    ResultStore(tmp_path / STORE_NAME).close()
    with contextlib.closing(sqlite3.connect(tmp_path / STORE_NAME)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '99'")
    with pytest.raises(StoreError, match="written by another version of this program \\(schema 99"):
        ResultStore(tmp_path / STORE_NAME)


def test_another_programs_database_is_refused_and_untouched(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / STORE_NAME)) as connection, connection:
        connection.execute("CREATE TABLE shopping (item)")
    with pytest.raises(StoreError, match="another program's tables"):
        ResultStore(tmp_path / STORE_NAME)
    assert number_of_rows(tmp_path / STORE_NAME) == {"shopping": 0}


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / STORE_NAME).write_text("not a database, however long it is" * 100)
    with pytest.raises(StoreError, match="damaged or no results store"):
        ResultStore(tmp_path / STORE_NAME)


def test_a_locked_store_is_told(tmp_path: Path) -> None:
    with ResultStore(tmp_path / STORE_NAME, busy_seconds=0.05) as opened:
        with contextlib.closing(sqlite3.connect(tmp_path / STORE_NAME)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked by another program: wait"):
                opened.add(exam())
        opened.add(exam())
        assert len(list(opened.results())) == 1


def test_a_database_that_cannot_grow_is_told_and_keeps_what_it_has(tmp_path: Path) -> None:
    ResultStore(tmp_path / STORE_NAME).close()

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 60")

    event.listen(Engine, "connect", limit)
    try:
        with pytest.raises(StoreError, match="full: free some space"):
            fill(tmp_path, 500)
    finally:
        event.remove(Engine, "connect", limit)
    with ResultStore(tmp_path / STORE_NAME) as opened:
        kept = list(opened.results())
    assert kept
    assert all(one == exam(one.exam_id) for one in kept)


@pytest.mark.parametrize("url", ["postgresql+nodriver://secret:hush@nowhere/x", "nosuchdb://x", "sqlite://[bad:url/x"])
def test_a_url_that_cannot_be_opened_is_told_without_its_password(url: str) -> None:
    with pytest.raises(StoreError) as raised:
        ResultStore(url)
    assert "hush" not in str(raised.value)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be written .*--out"):
        ResultStore(tmp_path / "file" / STORE_NAME)
    with pytest.raises(StoreError, match=r"cannot be written .*--out"):
        write_atomically(tmp_path / "file" / "exams.csv", [b"x"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="permission denied"):
            write_atomically(tmp_path / "exams.csv", [b"x"])
        with pytest.raises(StoreError, match=r"cannot be opened|cannot be written"):
            ResultStore(tmp_path / STORE_NAME)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "permission denied"), (errno.EIO, "Input")],
)
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
) -> None:
    write_atomically(tmp_path / "exams.csv", [b"old"])

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=sentence):
        write_atomically(tmp_path / "exams.csv", [b"new"])
    assert (tmp_path / "exams.csv").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["exams.csv"]


def test_content_that_breaks_off_keeps_the_old_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "report.html", [b"old"])

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "report.html", broken())
    assert (tmp_path / "report.html").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(options, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_finished_exams_stay_readable(tiny_disk: Path) -> None:
    with pytest.raises(StoreError, match="full: free some space"):
        fill(tiny_disk, 2000)
    with pytest.raises(StoreError, match="the disk is full: free some space"):
        write_atomically(tiny_disk / "report.html", [b"x" * 500_000])
    assert not (tiny_disk / "report.html").exists()
    with ResultStore(tiny_disk / STORE_NAME) as opened:
        kept = list(opened.results())
    assert kept
    assert all(one == exam(one.exam_id) for one in kept)
