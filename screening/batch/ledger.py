"""The ledger: where each exam is on its way from queued over claimed to scored, rejected or failed.

It lies in the database of the results, so that an exam's end and its result are stored in one transaction.

Claims are leases. A program that claims exams (a *runner*) counts up a number, its beat; others that have seen the
same beat for `LEASE_S` of their own monotonic clock take it to be dead and put its exams back into the queue. No two
clocks are compared, so that a clock that is wrong or set back does no harm. A runner that was only asleep finds its
claim gone and drops its answer: each end is written on condition that the claim still stands. A file (SQLite) has one
runner at a time, which holds a lock on the folder: what others had claimed is free at once.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from screening.batch.events import QueueState
from screening.batch.exam_json import exam_from_json, exam_to_json
from screening.batch.files import FileState, file_states, fingerprint, same_content
from screening.batch.patience import Patience
from screening.batch.worker import HOST, Report, Task
from screening.exam import Exam
from screening.result import Status
from screening.store import ResultStore
from screening.store.schema import ExamRow, LedgerRow, RunnerRow

LEASE_S = 60.0
"""A runner whose beat stands still for so long is taken to be dead."""
BEAT_S = 10.0
_AT_ONCE = 500
"""Exams that are queued in one transaction: their number bounds the memory that queueing takes."""

_BY_ITSELF = {"synchronize_session": False}
"""Execution option of a statement whose transaction looks at no changed row: SQLAlchemy then keeps none up to date."""

QUEUED, CLAIMED = "queued", "claimed"
"""States besides those of `Status`."""


@dataclass(frozen=True)
class Untold:
    """An exam that ended in an earlier run which died before it could tell its observers."""

    key: int
    exam: Exam
    attempts: int
    host: str
    worker: str
    started: float
    finished: float
    seconds: Mapping[str, float]
    digests: Mapping[str, str]
    config_sha256: str


class Ledger:
    """The exams of one model in a store. Every method raises `StoreError` when the database cannot be used.

    A database that is locked or cannot be reached is tried again for as long as `patience` lasts.

    Parameters
    ----------
    store
        Where results go. If it is a file, whoever opens its ledger holds the lock that keeps other runners out.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        store: ResultStore,
        model_id: str,
        bundle_sha256: str = "",
        config_sha256: str = "",
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._model_id = store, model_id
        self._bundle_sha256, self._config_sha256 = bundle_sha256, config_sha256
        self._patience = patience or Patience()
        self._clock = clock
        self.token = secrets.token_hex(8)
        self._seen: dict[str, tuple[int, float]] = {}
        self._told: list[int] = []
        self._patience(self._enter)

    # Queueing

    def queue(self, exams: Iterable[Exam]) -> int:
        """Queue the exams that are missing, new, changed or failed; return how many of these are unfinished now.

        An exam is changed if an image came, went or has other content than when it was read. Its old result, and that
        of a failed exam, is removed, as it is not that of these images. `exams` may be longer than fits in memory.
        """
        unfinished = 0
        waiting = iter(exams)
        while chunk := list(islice(waiting, _AT_ONCE)):
            unfinished += self._patience(partial(self._queue, chunk))
        return unfinished

    def _queue(self, exams: list[Exam]) -> int:
        with self._store.reading() as session:
            known = self._known(session, exams)
            # Of results that were stored without a ledger it is known that they are there, and no more.
            stored = self._stored(session, [exam.exam_id for exam in exams if exam.exam_id not in known])
        new: list[dict[str, Any]] = []
        again: list[dict[str, Any]] = []
        settled: list[dict[str, Any]] = []
        unfinished = 0
        for exam in exams:
            states = file_states(exam)
            mark = fingerprint(states)
            row = known.get(exam.exam_id)
            if row is None and exam.exam_id in stored:
                new.append(self._row(exam, mark) | {"state": stored[exam.exam_id], "exam": None, "announced": True})
                continue
            if row is not None and row.state in (Status.SCORED, Status.REJECTED):
                if row.fingerprint == mark:
                    continue
                if self._same_content(row.key, exam, states):
                    settled.append({"b_key": row.key, "fingerprint": mark})
                    continue
            unfinished += 1
            if row is None:
                new.append(self._row(exam, mark))
            elif row.state != CLAIMED:
                again.append(self._row(exam, mark) | {"b_key": row.key, "begun_with": row.state})
        self._write(new, again, settled)
        return unfinished

    def _write(self, new: list[dict[str, Any]], again: list[dict[str, Any]], settled: list[dict[str, Any]]) -> None:
        if not (new or again or settled):
            return
        with self._store.writing() as session:
            if new:
                insert = _insert(session).on_conflict_do_nothing(index_elements=["exam_id", "model_id"])
                session.execute(insert, new)
            if again:
                outdated = [row["exam_id"] for row in again if row["begun_with"] != QUEUED]
                for row in again:
                    # What waited already keeps its count of attempts.
                    kept = ("attempts", "crashes") if row.pop("begun_with") == QUEUED else ()
                    key = row.pop("b_key")
                    values = {name: value for name, value in row.items() if name not in kept}
                    session.execute(
                        sa.update(LedgerRow).where(LedgerRow.key == key, LedgerRow.state != CLAIMED).values(values)
                    )
                session.execute(
                    sa.delete(ExamRow).where(ExamRow.model_id == self._model_id, ExamRow.exam_id.in_(outdated))
                )
            for row in settled:
                session.execute(
                    sa.update(LedgerRow).where(LedgerRow.key == row["b_key"]).values(fingerprint=row["fingerprint"])
                )

    def _known(self, session: Session, exams: list[Exam]) -> dict[str, sa.Row[int, str, str, str]]:
        query = sa.select(LedgerRow.key, LedgerRow.exam_id, LedgerRow.state, LedgerRow.fingerprint).where(
            LedgerRow.model_id == self._model_id, LedgerRow.exam_id.in_([exam.exam_id for exam in exams])
        )
        return {row.exam_id: row for row in session.execute(query)}

    def _stored(self, session: Session, exam_ids: list[str]) -> dict[str, str]:
        query = sa.select(ExamRow.exam_id, ExamRow.status).where(
            ExamRow.model_id == self._model_id,
            ExamRow.exam_id.in_(exam_ids),
            ExamRow.status != Status.FAILED.value,
        )
        return {row.exam_id: row.status for row in session.execute(query)}

    def _same_content(self, key: int, exam: Exam, states: Mapping[str, FileState]) -> bool:
        with self._store.reading() as session:
            known = session.scalar(sa.select(LedgerRow.instances).where(LedgerRow.key == key))
        return same_content(exam, states, known or {})

    def _row(self, exam: Exam, mark: str) -> dict[str, Any]:
        return {
            "exam_id": exam.exam_id,
            "model_id": self._model_id,
            "state": QUEUED,
            "attempts": 0,
            "crashes": 0,
            "runner": None,
            "queued": time.time(),
            "seconds": {},
            "fingerprint": mark,
            "instances": {},
            "exam": exam_to_json(exam),
            "announced": False,
        }

    # Claiming

    def claim(self, number: int, held: Collection[int] = ()) -> list[Task]:
        """Claim up to `number` exams, the longest queued first. `held`: keys that this runner has claimed already."""
        return self._patience(lambda: self._claim(number), lambda: self._disown(held))

    def _claim(self, number: int) -> list[Task]:
        query = (
            sa.select(LedgerRow.key, LedgerRow.exam, LedgerRow.attempts, LedgerRow.crashes)
            .where(LedgerRow.model_id == self._model_id, LedgerRow.state == QUEUED)
            .order_by(LedgerRow.key)
            .limit(number)
            .with_for_update(skip_locked=True)  # SQLite has no such clause, nor two that write at once
        )
        with self._store.writing() as session:
            rows = session.execute(query).all()
            if rows:
                session.execute(
                    sa.update(LedgerRow)
                    .where(LedgerRow.key.in_([row.key for row in rows]))
                    .values(
                        state=CLAIMED,
                        runner=self.token,
                        host=HOST,
                        attempts=LedgerRow.attempts + 1,
                        config_sha256=self._config_sha256,
                        bundle_sha256=self._bundle_sha256,
                    )
                )
            self._note_told(session)
        self._told.clear()
        return [Task(row.key, exam_from_json(row.exam), row.attempts + 1, row.crashes) for row in rows]

    def _disown(self, held: Collection[int]) -> None:
        """Give back what an interrupted claim took: whether it was committed before the connection broke is unknown."""
        self._free(LedgerRow.runner == self.token, LedgerRow.key.not_in(held))

    def retry(self, task: Task, crashed: bool) -> Task:
        """Count another attempt at an exam that stays claimed."""
        later = replace(task, attempt=task.attempt + 1, crashes=task.crashes + crashed)

        def write() -> None:
            with self._store.writing() as session:
                session.execute(
                    sa.update(LedgerRow)
                    .where(LedgerRow.key == task.key, LedgerRow.runner == self.token, LedgerRow.state == CLAIMED)
                    .values(attempts=later.attempt, crashes=later.crashes)
                )

        self._patience(write)
        return later

    def finish(self, task: Task, report: Report, started: float, finished: float) -> bool:
        """Store how an exam ended, and its result. False, and nothing stored, if the claim does not stand any more."""
        return self._patience(lambda: self._finish(task, report, started, finished))

    def _finish(self, task: Task, report: Report, started: float, finished: float) -> bool:
        result = report.result
        states = {
            image.image_id: report.files[image.image_id].state if image.image_id in report.files else FileState()
            for image in task.exam.images
        }
        mine = sa.and_(LedgerRow.key == task.key, LedgerRow.runner == self.token, LedgerRow.attempts == task.attempt)
        change = (
            sa.update(LedgerRow)
            .where(mine, LedgerRow.state == CLAIMED)
            .values(
                state=result.status.value,
                host=report.host or HOST,
                worker=report.worker,
                started=started,
                finished=finished,
                seconds=dict(report.seconds),
                reason_code=result.rejection.code.value if result.rejection else None,
                reason_sentence=result.rejection.sentence if result.rejection else None,
                fingerprint=fingerprint(states),
                instances={image_id: file.record() for image_id, file in report.files.items()},
            )
        )
        with self._store.writing() as session:
            if session.connection().execute(change).rowcount == 0:
                # Either another runner took it over, or this very call was committed before the connection broke.
                return session.scalar(sa.select(LedgerRow.key).where(mine)) is not None
            self._store.put(session, result)
            self._note_told(session)
        self._told.clear()
        return True

    # Telling

    def told(self, key: int) -> None:
        """Note that the observers know of an exam's end; written with the next transaction, or by `leave`."""
        self._told.append(key)

    def _note_told(self, session: Session) -> None:
        """In a transaction after whose end `_told` is emptied: if it fails, it is done again."""
        if self._told:
            told = sa.update(LedgerRow).where(LedgerRow.key.in_(self._told)).values(announced=True, exam=None)
            session.execute(told, execution_options=_BY_ITSELF)

    def untold(self) -> Iterator[Untold]:
        """Exams that ended without their observers knowing, by key."""
        ended = [status.value for status in Status]
        query = (
            sa.select(LedgerRow)
            .where(LedgerRow.model_id == self._model_id, LedgerRow.announced.is_(False), LedgerRow.state.in_(ended))
            .where(LedgerRow.runner.not_in(sa.select(RunnerRow.token)))  # those that live tell theirs
            .order_by(LedgerRow.key)
        )
        with self._store.reading() as session:
            rows = session.scalars(query).all()
        for row in rows:
            yield Untold(
                row.key,
                exam_from_json(row.exam or ""),
                row.attempts,
                row.host or "",
                row.worker or "",
                row.started or 0.0,
                row.finished or 0.0,
                row.seconds,
                {image_id: str(record[2]) for image_id, record in row.instances.items()},
                row.config_sha256 or "",
            )

    # Leases

    def beat(self) -> None:
        """Show that this runner lives, and free what dead ones have claimed."""
        if self._store.is_file:
            return  # it has one runner, whose death frees the lock
        self._patience(self._beat)

    def _beat(self) -> None:
        with self._store.writing() as session:
            session.execute(sa.update(RunnerRow).where(RunnerRow.token == self.token).values(beat=RunnerRow.beat + 1))
            others = session.execute(
                sa.select(RunnerRow.token, RunnerRow.beat).where(
                    RunnerRow.token.in_(sa.select(LedgerRow.runner).where(LedgerRow.state == CLAIMED).distinct()),
                    RunnerRow.token != self.token,
                )
            ).all()
        now = self._clock()
        self._seen = {
            token: seen if (seen := self._seen.get(token)) and seen[0] == beat else (beat, now)
            for token, beat in others
        }
        for token, (_, since) in self._seen.items():
            if now - since >= LEASE_S:
                self._free(LedgerRow.runner == token)
                with self._store.writing() as session:
                    session.execute(sa.delete(RunnerRow).where(RunnerRow.token == token))

    def others_work(self) -> bool:
        """Whether exams are claimed by other runners, dead or alive."""
        query = sa.select(LedgerRow.key).where(
            LedgerRow.model_id == self._model_id, LedgerRow.state == CLAIMED, LedgerRow.runner != self.token
        )

        def read() -> bool:
            with self._store.reading() as session:
                return session.scalar(query.limit(1)) is not None

        return self._patience(read)

    def _enter(self) -> None:
        if self._store.is_file:
            self._free(sa.true())
        with self._store.writing() as session:
            if self._store.is_file:
                session.execute(sa.delete(RunnerRow))
            if session.get(RunnerRow, self.token) is None:
                session.add(RunnerRow(token=self.token, host=HOST, process=os.getpid(), begun=time.time(), beat=0))

    def leave(self) -> None:
        """Give back what is claimed, and go. Not patient: this is called on the way out."""
        self._free(LedgerRow.runner == self.token)
        with self._store.writing() as session:
            self._note_told(session)
            session.execute(sa.delete(RunnerRow).where(RunnerRow.token == self.token))
        self._told.clear()

    def _free(self, *which: sa.ColumnElement[bool]) -> None:
        """Queue claimed exams again; the attempt that was broken off is not counted."""
        with self._store.writing() as session:
            session.execute(
                sa.update(LedgerRow)
                .where(LedgerRow.state == CLAIMED, *which)
                .values(state=QUEUED, runner=None, attempts=LedgerRow.attempts - 1)
            )

    # Looking

    def state(self) -> QueueState:
        """How many exams are in each state."""
        return self._patience(self._state)

    def _state(self) -> QueueState:
        counted = (
            sa.select(LedgerRow.state, sa.func.count(), sa.func.min(LedgerRow.queued))
            .where(LedgerRow.model_id == self._model_id)
            .group_by(LedgerRow.state)
        )
        with self._store.reading() as session:
            found = {state: (number, since) for state, number, since in session.execute(counted)}
        numbers = {name: found.get(name, (0, 0.0))[0] for name in (QUEUED, CLAIMED, *(s.value for s in Status))}
        waiting = max(0.0, time.time() - found[QUEUED][1]) if QUEUED in found else 0.0
        return QueueState(**numbers, oldest_queued_seconds=waiting)

    def unfinished(self) -> tuple[int, int]:
        """How many exams, with how many images, are queued or claimed."""
        query = sa.select(LedgerRow.exam).where(
            LedgerRow.model_id == self._model_id, LedgerRow.state.in_((QUEUED, CLAIMED))
        )
        exams = images = 0
        with self._store.reading() as session:
            for text in session.scalars(query.execution_options(yield_per=1000)):
                exams += 1
                images += len(exam_from_json(text or "").images)
        return exams, images


def _insert(session: Session) -> Any:
    """An INSERT of the ledger's that can say what to do on conflict, in the database's dialect."""
    from sqlalchemy.dialects import postgresql, sqlite

    return (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(LedgerRow)
