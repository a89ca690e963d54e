"""A batch: every exam ends once, the tables say what the store says, and nothing depends on order, threads or luck."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from screening.batch import worker
from screening.batch.dispatch import Retries
from screening.batch.events import BatchObserver, FinishedExam
from screening.batch.read_ahead import ReadAhead
from screening.batch.runner import RESULT_FILES, Batch, Outcome, run_batch
from screening.errors import StoreError
from screening.exam import Exam, Image
from screening.model.bundle import Bundle
from screening.reading_aid import mark_threshold
from screening.report import picture_paths
from screening.result import ExamResult
from screening.scoring import ImageAnswer, answer, score
from screening.site import load_site
from screening.sources.folder import FolderScan, read_folder
from screening.store import STORE_NAME, ResultStore
from tests.support.exams import image_uid, study_uid, write_exam

EXAMS = 4
TABLES = ("exams.csv", "images.csv", "regions.csv")

AT_ONCE = Retries(most=2, first_s=0.0)

Go = Callable[..., Outcome]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four exams, of four, one, two and one view; and a text file among them."""
    folder = tmp_path_factory.mktemp("source")
    write_exam(folder, 1, spots={("L", "CC"): (70, 180), ("L", "MLO"): (60, 200)})
    write_exam(folder, 2, views=(("R", "CC"),))
    write_exam(folder, 3, views=(("L", "CC"), ("L", "MLO")))
    write_exam(folder, 4, views=(("L", "MLO"),))
    (folder / "notes.txt").write_text("not DICOM")
    return folder


@pytest.fixture(scope="module")
def scan(source: Path) -> FolderScan:
    return read_folder(source, load_site())


@pytest.fixture
def go(bundle: Bundle, scan: FolderScan) -> Go:
    def run(out: Path, scan: FolderScan = scan, observers: Any = (), **options: Any) -> Outcome:
        batch = Batch("default", scan.exams, scan.rejections, {}, **{"workers": 0, "retries": AT_ONCE, **options})
        return run_batch(batch, bundle, out, observers)

    return run


@pytest.fixture(scope="module")
def finished(bundle: Bundle, scan: FolderScan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the batch, for tests that only look."""
    out = tmp_path_factory.mktemp("finished")
    run_batch(Batch("default", scan.exams, scan.rejections, {}, workers=0, show_all=True), bundle, out)
    return out


def rows(out: Path, name: str) -> list[dict[str, str]]:
    with (out / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tables(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


def record(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "batch.json").read_text())
    return content


class InterruptAfter(BatchObserver):
    """Ctrl-C when so many exams are done."""

    def __init__(self, number: int) -> None:
        self._number = number

    def exam_finished(self, event: FinishedExam) -> None:
        if event.done == self._number:
            raise KeyboardInterrupt


# What is written


def test_all_that_the_design_names_is_written(finished: Path, scan: FolderScan) -> None:
    assert {path.name for path in finished.iterdir()} == {STORE_NAME, "heatmaps", "dicom", *RESULT_FILES}
    for exam in scan.exams:
        for image in exam.images:
            assert picture_paths(finished, exam.exam_id, image.image_id).annotated.is_file()


def test_counts_add_up_to_every_file_that_was_read(finished: Path, scan: FolderScan) -> None:
    found = record(finished)
    assert found["exams"] == {"total": EXAMS, "scored": EXAMS, "rejected": 0, "failed": 0, "unfinished": 0}
    assert found["instances"] == {
        "total": scan.instances,
        "scored": scan.instances - 1,
        "rejected": 1,
        "failed": 0,
        "unfinished": 0,
    }
    assert found["reasons"] == [{"status": "rejected", "code": "not-dicom", "exams": 0, "instances": 1}]


def test_record_says_from_which_score_on_key_frames_show_a_region(finished: Path, bundle: Bundle) -> None:
    assert record(finished)["key_frame_threshold"] == mark_threshold(bundle.calibration)


def test_every_score_in_the_tables_is_that_of_a_region_in_the_tables(finished: Path) -> None:
    regions = {row["region_id"]: row for row in rows(finished, "regions")}
    for exam in rows(finished, "exams"):
        top = regions[exam["top_region_id"]]
        assert (exam["score"], exam["exam_id"]) == (top["score"], top["exam_id"])
        assert top["rank"] == "1"
        sides = [exam[side] for side in ("left_score", "right_score") if exam[side]]
        assert exam["score"] == max(sides, key=float)
        own = [row for row in regions.values() if row["exam_id"] == exam["exam_id"]]
        for side, stated in (("L", exam["left_score"]), ("R", exam["right_score"])):
            of_side = [row["score"] for row in own if row["laterality"] == side]
            assert stated == max(of_side, key=float, default="")
    for image in rows(finished, "images"):
        own = [row for row in regions.values() if row["image_id"] == image["image_id"]]
        assert image["score"] == max((row["score"] for row in own), key=float, default="")


def test_the_worklist_has_every_exam_with_the_score_of_the_tables(finished: Path, scan: FolderScan) -> None:
    with (finished / "worklist.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert sorted(row["exam_id"] for row in listed) == sorted(exam.exam_id for exam in scan.exams)
    with (finished / "exams.csv").open(encoding="utf-8", newline="") as file:
        told = {row["exam_id"]: row for row in csv.DictReader(file)}
    for row in listed:
        assert float(row["score"]) == pytest.approx(float(told[row["exam_id"]]["score"]), rel=1e-5)
    order = [(-int(row["category"]), -float(row["score"])) for row in listed]
    assert order == sorted(order)


def test_store_and_tables_say_the_same(finished: Path, bundle: Bundle) -> None:
    with ResultStore(finished / STORE_NAME) as store:
        stored = {result.exam_id: result for result in store.results(bundle.model_id)}
    for exam in rows(finished, "exams"):
        assert exam["score"] == f"{stored[exam['exam_id']].score:.6g}"
        assert exam["model_id"] == bundle.model_id
    assert sum(len(result.regions) for result in stored.values()) == len(rows(finished, "regions"))


# Nothing depends on order, threads or luck


@pytest.mark.parametrize("workers", [0, 2])
def test_two_runs_give_the_same_bytes_on_threads_and_on_processes(
    workers: int, finished: Path, tmp_path: Path, go: Go
) -> None:
    go(tmp_path, workers=workers)
    assert tables(tmp_path) == tables(finished)


def test_names_and_order_of_files_change_nothing(
    source: Path, finished: Path, tmp_path: Path, go: Go, scan: FolderScan
) -> None:
    other = tmp_path / "renamed"
    for number, path in enumerate(sorted(source.rglob("*"), reverse=True)):
        if path.is_file() and path.suffix == ".dcm":
            (other / str(number % 3)).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, other / str(number % 3) / f"{number:03d}")
    (other / "notes.txt").write_text("not DICOM")
    go(tmp_path / "out", read_folder(other, load_site()))
    assert tables(tmp_path / "out") == tables(finished)


def test_order_of_exams_and_images_changes_nothing(finished: Path, tmp_path: Path, go: Go, scan: FolderScan) -> None:
    turned = tuple(replace(exam, images=exam.images[::-1]) for exam in scan.exams[::-1])
    go(tmp_path, FolderScan(turned, scan.rejections, scan.instances))
    assert tables(tmp_path) == tables(finished)


# Unforeseen errors


@pytest.mark.parametrize("culprit", ["score", "write_figures"])
def test_unforeseen_error_costs_its_exam_and_nothing_else(
    culprit: str,
    finished: Path,
    tmp_path: Path,
    go: Go,
    scan: FolderScan,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    original = getattr(worker, culprit)

    def fails_once(*arguments: Any) -> Any:
        if any(getattr(one, "exam_id", None) == study_uid(3) for one in arguments):
            raise ZeroDivisionError("a bug")
        return original(*arguments)

    monkeypatch.setattr(worker, culprit, fails_once)
    outcome = go(tmp_path)
    assert not outcome.interrupted
    assert (outcome.counts.exams.scored, outcome.counts.exams.failed) == (EXAMS - 1, 1)
    assert outcome.counts.instances.failed == 2
    assert outcome.counts.instances.total == scan.instances
    before = {row["exam_id"]: row for row in rows(finished, "exams")}
    for row in rows(tmp_path, "exams"):
        if row["exam_id"] != study_uid(3):
            assert row == before[row["exam_id"]]
    (failed,) = (row for row in rows(tmp_path, "exams") if row["exam_id"] == study_uid(3))
    assert (failed["status"], failed["score"], failed["top_region_id"]) == ("failed", "", "")
    assert failed["reason"] == "unreadable: an unforeseen ZeroDivisionError; see the log and report it"
    (entry,) = (entry for entry in caplog.records if entry.levelno >= logging.ERROR)
    assert entry.exc_info is not None
    assert study_uid(3) in entry.getMessage()


def test_unforeseen_error_in_an_image_costs_its_exam_and_nothing_else(
    tmp_path: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:

    def fails_once(image: Image, *arguments: Any, **options: Any) -> ImageAnswer:
        if image.image_id == image_uid(1, 2):
            raise ZeroDivisionError
        return answer(image, *arguments, **options)

    monkeypatch.setattr(worker, "answer", fails_once)
    go(tmp_path)
    assert {row["exam_id"]: row["status"] for row in rows(tmp_path, "exams")} == {
        study_uid(1): "failed",
        **{study_uid(number): "scored" for number in (2, 3, 4)},
    }


# Stopping and going on


def test_stopped_batch_is_whole_as_far_as_it_came(finished: Path, tmp_path: Path, go: Go, scan: FolderScan) -> None:
    outcome = go(tmp_path, observers=(InterruptAfter(2),))
    assert outcome.interrupted
    done = {exam.exam_id for exam in scan.exams[:2]}
    assert [row for row in rows(finished, "exams") if row["exam_id"] in done] == rows(tmp_path, "exams")
    assert [row for row in rows(finished, "regions") if row["exam_id"] in done] == rows(tmp_path, "regions")
    found = record(tmp_path)
    assert found["exams"] == {"total": EXAMS, "scored": 2, "rejected": 0, "failed": 0, "unfinished": 2}
    assert found["instances"]["total"] == scan.instances
    assert (tmp_path / "report.html").is_file()


def test_stopped_batch_counts_a_failed_exam_once(
    tmp_path: Path, go: Go, scan: FolderScan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "score", lambda *_: 1 / 0)
    go(tmp_path, observers=(InterruptAfter(1),))
    assert record(tmp_path)["exams"] == {"total": EXAMS, "scored": 0, "rejected": 0, "failed": 1, "unfinished": 3}
    assert record(tmp_path)["instances"]["total"] == scan.instances


def test_resumed_batch_ends_like_one_that_was_never_stopped(
    finished: Path, tmp_path: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path, observers=(InterruptAfter(2),))
    scored: list[str] = []

    def noted(exam: Exam, *rest: Any) -> ExamResult:
        scored.append(exam.exam_id)
        return score(exam, *rest)

    monkeypatch.setattr(worker, "score", noted)
    outcome = go(tmp_path, resume=True)
    assert len(scored) == 2
    assert outcome.counts.exams.scored == EXAMS
    assert tables(tmp_path) == tables(finished)


def test_resumed_batch_tries_failed_exams_again(
    finished: Path, tmp_path: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(worker, "score", lambda *_: 1 / 0)
        assert go(tmp_path).counts.exams.failed == EXAMS
    assert go(tmp_path, resume=True).counts.exams.scored == EXAMS
    assert tables(tmp_path) == tables(finished)


def test_new_batch_replaces_all_of_an_earlier_one(tmp_path: Path, go: Go, scan: FolderScan) -> None:
    go(tmp_path)
    outcome = go(tmp_path, FolderScan(scan.exams[:1], (), 4))
    (exam,) = scan.exams[:1]
    assert outcome.counts.exams.total == 1
    assert {row["exam_id"] for row in rows(tmp_path, "exams")} == {exam.exam_id}
    assert [path.name for path in (tmp_path / "heatmaps").iterdir()] == [exam.exam_id]


def test_empty_batch_has_tables_and_a_report(tmp_path: Path, go: Go) -> None:
    assert go(tmp_path, FolderScan((), (), 0)).counts.exams.total == 0
    assert rows(tmp_path, "exams") == []
    assert (tmp_path / "report.html").is_file()


# Results that cannot be written


def full_disk(monkeypatch: pytest.MonkeyPatch, from_name: str) -> None:
    """From the first file of this name on, the disk is full for everything but the store."""
    original = os.replace
    full = False

    def replace(source: Path, target: Path) -> None:
        nonlocal full
        full = full or Path(target).match(from_name)
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("name", ["*.png", "images.csv", "report.html"])
def test_full_disk_leaves_no_table_and_a_readable_store(
    name: str, tmp_path: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path)  # results of an earlier batch, which must not pass for this one's
    full_disk(monkeypatch, name)
    with pytest.raises(StoreError, match="the disk is full: free some space and run again"):
        go(tmp_path)
    assert not set(RESULT_FILES) & {path.name for path in tmp_path.iterdir()}
    assert not list(tmp_path.rglob("*.part"))
    with ResultStore(tmp_path / STORE_NAME) as store:
        assert len(list(store.results())) == (0 if name == "*.png" else EXAMS)


def test_batch_that_ran_into_a_full_disk_goes_on_where_it_was(
    finished: Path, tmp_path: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full_disk(patch, f"{study_uid(3)}/*.png")
        with pytest.raises(StoreError):
            go(tmp_path)
    go(tmp_path, resume=True)
    assert tables(tmp_path) == tables(finished)


@pytest.mark.parametrize("blocked", ["exams.csv", STORE_NAME])
def test_folder_in_the_place_of_a_file_is_one_sentence(blocked: str, tmp_path: Path, go: Go) -> None:
    (tmp_path / blocked).mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        go(tmp_path)


# Reading ahead


def test_images_are_worked_on_in_order_before_they_are_asked_for(scan: FolderScan) -> None:
    images, begun = scan.exams[0].images, threading.Semaphore(0)
    order: list[str] = []

    def work(image: Image) -> str:
        order.append(image.image_id)
        begun.release()
        return image.image_id

    with contextlib.closing(ReadAhead(work, threads=1)) as ask:
        ask.expect(images)
        for _ in images:
            assert begun.acquire(timeout=10)
        assert order == [image.image_id for image in images]
        assert [ask(image) for image in images] == order
        assert len(order) == len(images)


def test_images_passed_over_are_not_given_to_others(scan: FolderScan) -> None:
    first, last = scan.exams[0].images[0], scan.exams[-1].images[-1]
    with contextlib.closing(ReadAhead(lambda image: image, threads=2)) as ask:
        ask.expect((first,))
        ask.expect((last,))
        assert ask(last) == last
        assert ask(first) == first  # not ahead any more


def test_an_image_of_the_same_id_and_another_file_is_worked_on_anew(scan: FolderScan) -> None:
    image = scan.exams[0].images[0]
    moved = replace(image, path=Path("elsewhere"))
    with contextlib.closing(ReadAhead(lambda image: image.path, threads=1)) as ask:
        ask.expect((image,))
        assert ask(moved) == moved.path


def test_leaving_drops_what_waits(scan: FolderScan) -> None:
    started, going_on = threading.Semaphore(0), threading.Event()
    count = 0

    def work(_: Image) -> None:
        nonlocal count
        count += 1
        started.release()
        going_on.wait(10)

    ask: ReadAhead[None] = ReadAhead(work, threads=1)
    ask.expect(scan.exams[0].images)
    assert started.acquire(timeout=10)
    threading.Timer(0.05, going_on.set).start()
    ask.close()
    assert count == 1
