"""The ledger: every exam once, whoever dies, whatever the clock says; only what changed is scored again."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from screening.batch import ledger as ledger_module
from screening.batch.exam_json import exam_from_json, exam_to_json
from screening.batch.ledger import LEASE_S, Ledger
from screening.batch.patience import Patience
from screening.batch.worker import Task
from screening.errors import StoreAwayError
from screening.exam import Exam
from screening.store import STORE_NAME, ResultStore
from screening.store.schema import REVISION, Base
from tests.support.batches import StubScorer, answer, exam_ids, small_exam, write_exams
from tests.support.postgres import Postgres, needs_postgres

MODEL = "stub-1+0"
IMPATIENT = Patience(seconds=0.3, first_pause=0.05)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultStore]:
    with ResultStore(tmp_path / STORE_NAME) as opened:
        yield opened


@pytest.fixture
def exams(tmp_path: Path) -> list[Exam]:
    return write_exams(tmp_path / "in", 5)


def opened(store: ResultStore) -> Ledger:
    return Ledger(store, MODEL, patience=IMPATIENT)


def finish(ledger: Ledger, task: Task) -> bool:
    return ledger.finish(task, StubScorer(MODEL).run(task), 1.0, 2.0)


def score_all(ledger: Ledger) -> list[str]:
    scored = []
    while tasks := ledger.claim(2):
        for task in tasks:
            assert finish(ledger, task)
            scored.append(task.exam.exam_id)
    return sorted(scored)


# Once each


def test_an_exam_comes_back_from_json_equal(exams: list[Exam]) -> None:
    image = replace(exams[0].images[0], path=Path(os.fsdecode(b"M\xfcller")), slices=(Path("a"), Path("b")))
    odd = replace(exams[0], images=(image,), warnings=("ü",))
    assert exam_from_json(exam_to_json(odd)) == odd


def test_every_exam_is_claimed_once_and_its_result_is_stored_with_its_state(
    store: ResultStore, exams: list[Exam]
) -> None:
    ledger = opened(store)
    assert ledger.queue(exams) == len(exams)
    assert score_all(ledger) == exam_ids(exams)
    assert [result.exam_id for result in store.results()] == exam_ids(exams)
    state = ledger.state()
    assert (state.queued, state.claimed, state.scored) == (0, 0, len(exams))


def test_what_was_scored_is_not_scored_again(store: ResultStore, exams: list[Exam]) -> None:
    ledger = opened(store)
    ledger.queue(exams)
    score_all(ledger)
    assert ledger.queue(exams) == 0
    assert score_all(ledger) == []


def test_new_changed_and_incomplete_exams_are_scored_again_and_touched_ones_are_not(
    store: ResultStore, exams: list[Exam], tmp_path: Path
) -> None:
    ledger = opened(store)
    ledger.queue(exams)
    score_all(ledger)
    exams[0].images[0].path.write_text("other content")
    os.utime(exams[1].images[0].path)  # copied or touched: another time, the same content
    second = replace(exams[2].images[0], image_id="1.2.3.2")
    grown = replace(exams[2], images=(*exams[2].images, second))
    new = small_exam(tmp_path / "in", 99)
    assert ledger.queue([exams[0], exams[1], grown, *exams[3:], new]) == 3
    assert {task.exam.exam_id for task in ledger.claim(9)} == {exams[0].exam_id, grown.exam_id, new.exam_id}


def test_moved_files_are_not_scored_again(store: ResultStore, exams: list[Exam], tmp_path: Path) -> None:
    ledger = opened(store)
    ledger.queue(exams)
    score_all(ledger)
    shutil.move(tmp_path / "in", tmp_path / "moved")
    moved = [small_exam(tmp_path / "moved", number) for number in range(1, 6)]
    assert ledger.queue(moved) == 0


def test_another_bundle_scores_everything_anew_beside_the_first(store: ResultStore, exams: list[Exam]) -> None:
    first = opened(store)
    first.queue(exams)
    score_all(first)
    assert Ledger(store, "other").queue(exams) == len(exams)
    assert len(list(store.results(MODEL))) == len(exams)


def test_results_that_were_stored_without_a_ledger_are_kept(store: ResultStore, exams: list[Exam]) -> None:
    store.add(answer(exams[0], MODEL))
    ledger = opened(store)
    assert ledger.queue(exams) == len(exams) - 1
    assert ledger.state().scored == 1


# Who dies


def test_claims_of_a_dead_runner_are_free_at_once_in_a_file_and_their_attempt_is_not_counted(
    store: ResultStore, exams: list[Exam]
) -> None:
    first = opened(store)
    first.queue(exams)
    (task, *_) = first.claim(3)
    second = opened(store)
    assert [one.attempt for one in second.claim(9)] == [1] * len(exams)
    assert not finish(first, task)  # it was only asleep: its answer is dropped
    assert list(store.results()) == []


def test_an_end_that_was_not_told_is_told_by_the_next_run(store: ResultStore, exams: list[Exam]) -> None:
    first = opened(store)
    first.queue(exams)
    told, untold, _ = first.claim(3)
    assert finish(first, told)
    first.told(told.key)
    assert finish(first, untold)  # then it dies
    (found,) = opened(store).untold()
    assert found.exam == untold.exam
    assert list(found.digests) == [untold.exam.images[0].image_id]


def test_a_store_that_is_locked_is_waited_for(store: ResultStore, exams: list[Exam], tmp_path: Path) -> None:
    with ResultStore(tmp_path / STORE_NAME, busy_seconds=0.01) as hasty:
        ledger = Ledger(hasty, MODEL, patience=Patience(seconds=20, first_pause=0.05))
        impatient = Ledger(hasty, MODEL, patience=IMPATIENT)
        other = sqlite3.connect(tmp_path / STORE_NAME, isolation_level=None, check_same_thread=False)
        with contextlib.closing(other):
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreAwayError, match="locked by another program"):
                impatient.queue(exams)
            threading.Timer(0.5, other.rollback).start()
            assert ledger.queue(exams) == len(exams)


def test_a_clock_that_is_set_back_harms_nothing(
    store: ResultStore, exams: list[Exam], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = opened(store)
    ledger.queue(exams)
    half = ledger.claim(2)
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    for task in half:
        assert finish(ledger, task)
    assert ledger.queue(exams) == 3
    assert ledger.state().oldest_queued_seconds == 0
    assert len(score_all(ledger)) == 3
    assert [result.exam_id for result in store.results()] == exam_ids(exams)


# Several machines, one database


class Clock:
    """Monotonic seconds, as told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@needs_postgres
def test_two_runners_share_a_batch_and_each_exam_is_claimed_by_one(database: str, tmp_path: Path) -> None:
    exams = write_exams(tmp_path / "in", 60)
    scored: list[list[str]] = [[], []]

    def work(number: int) -> None:
        with ResultStore(database) as store:
            ledger = opened(store)
            ledger.queue(exams)
            scored[number] = score_all(ledger)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(scored[0] + scored[1]) == exam_ids(exams)
    with ResultStore(database) as store:
        assert [result.exam_id for result in store.results()] == exam_ids(exams)


@needs_postgres
def test_a_runner_that_stands_still_loses_its_claims_after_the_lease_and_its_late_answer_is_dropped(
    database: str, tmp_path: Path
) -> None:
    exams = write_exams(tmp_path / "in", 3)
    clock = Clock()
    with ResultStore(database) as store:
        dead = opened(store)
        alive = Ledger(store, MODEL, patience=IMPATIENT, clock=clock)
        dead.queue(exams)
        (task, _) = dead.claim(2)
        assert len(alive.claim(9)) == 1
        alive.beat()
        clock.now = LEASE_S - 1
        dead.beat()  # it lives yet
        alive.beat()
        clock.now = 2 * LEASE_S - 2
        alive.beat()
        assert alive.claim(9) == []
        clock.now = 2 * LEASE_S
        alive.beat()
        assert len(alive.claim(9)) == 2
        assert not finish(dead, task)
        assert list(store.results()) == []


@contextlib.contextmanager
def going_away(postgres: Postgres) -> Iterator[None]:
    postgres.stop()
    back = threading.Timer(0.7, postgres.start)
    back.start()
    yield
    back.join()


@needs_postgres
def test_a_database_that_goes_and_comes_back_costs_no_exam(postgres: Postgres, database: str, tmp_path: Path) -> None:
    exams = write_exams(tmp_path / "in", 20)
    with ResultStore(database) as store:
        ledger = Ledger(store, MODEL, patience=Patience(seconds=60, first_pause=0.1))
        ledger.queue(exams)
        scored: list[str] = []
        while tasks := ledger.claim(3):
            for task in tasks:
                with going_away(postgres) if len(scored) in (4, 11) else contextlib.nullcontext():
                    assert finish(ledger, task)
                scored.append(task.exam.exam_id)
        assert sorted(scored) == exam_ids(exams)
        assert [result.exam_id for result in store.results()] == exam_ids(exams)


@needs_postgres
def test_postgres_orders_results_by_code_points_like_the_tables(database: str, tmp_path: Path) -> None:
    names = ["b", "A", "a", "Z", "1.10", "1.9", "ä"]
    (plain,) = write_exams(tmp_path / "in", 1)
    with ResultStore(database) as store:
        for name in names:
            store.add(replace(answer(plain, MODEL), exam_id=name))
        assert [result.exam_id for result in store.results()] == sorted(names)


# Migrations


def tables_of(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall())


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    """A store as it was before the ledger, with one result."""
    made, old = tmp_path / "made.sqlite", tmp_path / "old.sqlite"
    with ResultStore(made):
        pass
    with contextlib.closing(sqlite3.connect(made)) as new, contextlib.closing(sqlite3.connect(old)) as target:
        for (statement,) in new.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
            if not any(name in statement for name in ("ledger", "runners", "alembic")):
                target.execute(statement)
        target.execute("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)")
        target.execute("INSERT INTO schema_version VALUES (1)")
        target.execute(
            "INSERT INTO exams (exam_id, model_id, woman_id, site, manufacturer, status, score)"
            f" VALUES ('1.2.1', '{MODEL}', 'W', 's', '', 'scored', 0.5)"
        )
        target.commit()
    return old


def test_a_store_of_the_version_before_is_migrated_and_its_results_are_finished(
    old_store: Path, tmp_path: Path
) -> None:
    with ResultStore(old_store) as store:
        ledger = opened(store)
        assert ledger.queue(write_exams(tmp_path / "in", 2)) == 1
    engine = sa.create_engine(f"sqlite:///{old_store}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_migration_that_breaks_off_leaves_the_store_as_it_was(
    old_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tables_of(old_store)

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("alembic.operations.Operations.create_index", broken)
        with pytest.raises(KeyboardInterrupt):
            ResultStore(old_store)
    assert tables_of(old_store) == before


def test_the_revision_of_the_tables_is_that_of_the_last_migration() -> None:
    folder = Path(ledger_module.__file__).parents[1] / "store" / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == REVISION
