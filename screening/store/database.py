"""The results store: everything but pixels, in SQLite or another database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import delete, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.orm import Session, selectinload

from screening.errors import StoreError
from screening.result import ExamResult, InstanceRejection, Reason, Status
from screening.store.batch import BatchSummary, Counts, Ends
from screening.store.connect import WRITING, database_engine, database_url, sentences
from screening.store.convert import exam_result, exam_row, instance_rejection, rejection_row
from screening.store.migrate import prepare
from screening.store.schema import BatchRow, ExamRow, ImageRow, RejectionRow

STORE_NAME = "results.sqlite"


class ResultStore:
    """Results by exam and model, in SQLite (a path) or another database (a SQLAlchemy URL).

    Every public method raises `StoreError` with a sentence when the database cannot be read or written.
    Threads may share a store. Close it (or use it as a context manager) to leave one file and no write-ahead log.

    Parameters
    ----------
    url_or_path
        File to open or create, or a URL such as `postgresql+psycopg://host/results`.
    busy_seconds
        How long SQLite waits for another program that holds the file.
    """

    def __init__(self, url_or_path: str | Path, busy_seconds: float = 30.0) -> None:
        url = database_url(url_or_path)
        # str(url) hides a password.
        self.name = (url.database if url.get_backend_name() == "sqlite" else None) or str(url)
        try:
            self._engine = database_engine(url, busy_seconds)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise StoreError(f"The results store {self.name} cannot be opened: {error}.") from error
        with sentences(self.name), self._engine.execution_options(**WRITING).begin() as connection:
            prepare(connection, self.name)

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; SQLite then folds its write-ahead log into the file."""
        self._engine.dispose()

    @property
    def is_file(self) -> bool:
        """Whether it is a file, which one program at a time writes (SQLite), and not a database server's."""
        return self._engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction that writes: committed at the end, or as if it had never been."""
        with sentences(self.name), Session(self._engine.execution_options(**WRITING)) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """One transaction that reads."""
        with sentences(self.name), Session(self._engine) as session:
            yield session

    def add(self, result: ExamResult) -> None:
        """Store one exam in one transaction; see `put`."""
        with self.writing() as session:
            self.put(session, result)

    @staticmethod
    def put(session: Session, result: ExamResult) -> None:
        """Store one exam in a transaction of `writing`; an earlier result of the same exam and model is replaced.

        An image that was rejected by an earlier run and now belongs to the exam is no rejection any more; nor is the
        exam as a whole, if it could not be fetched then.
        """
        same = sa.and_(ExamRow.exam_id == result.exam_id, ExamRow.model_id == result.model_id)
        now_an_image = sa.and_(
            RejectionRow.image_id.in_([one.image.image_id for one in result.images]),
            RejectionRow.reason_code != Reason.DUPLICATE.value,
        )
        not_fetched_then = sa.and_(
            RejectionRow.exam_id == result.exam_id, RejectionRow.reason_code == Reason.NOT_FETCHED.value
        )
        # No row of this transaction is among them, so none needs to be kept up to date.
        alone = {"synchronize_session": False}
        session.execute(delete(ExamRow).where(same), execution_options=alone)
        session.execute(delete(RejectionRow).where(now_an_image | not_fetched_then), execution_options=alone)
        session.add(exam_row(result))

    def add_rejections(self, rejections: Iterable[InstanceRejection]) -> None:
        """Store instances that could not become images; the same file and UIDs replace their earlier row."""
        with self.writing() as session:
            for rejection in rejections:
                row = rejection_row(rejection)
                same = sa.and_(
                    RejectionRow.file == row.file,
                    RejectionRow.exam_id == row.exam_id,
                    RejectionRow.image_id == row.image_id,
                )
                session.execute(delete(RejectionRow).where(same))
                session.add(row)
                session.flush()

    def add_batch(self, batch: BatchSummary) -> None:
        """Record that a batch was run, with all that `batch.json` says of it."""
        record = batch.record()
        with self.writing() as session:
            session.add(
                BatchRow(
                    site=batch.site,
                    model_id=batch.model_id,
                    started=record["started"],
                    finished=record["finished"],
                    record=record,
                )
            )

    def finished(self, model_id: str) -> set[str]:
        """Exam ids that this model scored or rejected; failed exams are worth another try and are left out."""
        query = select(ExamRow.exam_id).where(ExamRow.model_id == model_id, ExamRow.status != Status.FAILED.value)
        with self.reading() as session:
            return set(session.scalars(query))

    def done_images(self) -> Iterator[tuple[str, str]]:
        """Iterate over (exam id, image id) of the exams that any model scored or rejected."""
        query = select(ExamRow.exam_id, ImageRow.image_id).join(ImageRow).where(ExamRow.status != Status.FAILED.value)
        with self.reading() as session:
            yield from session.execute(query.distinct().execution_options(yield_per=1000)).tuples()

    def of_woman(self, woman_id: str, model_id: str) -> tuple[ExamResult, ...]:
        """All exams of one woman by this model, the latest first; those without a date come last."""
        query = _whole_exams().where(ExamRow.woman_id == woman_id, ExamRow.model_id == model_id)
        with self.reading() as session:
            rows = session.scalars(query.order_by(ExamRow.exam_date.desc().nulls_last(), ExamRow.exam_id))
            return tuple(exam_result(row) for row in rows)

    def results(self, model_id: str | None = None) -> Iterator[ExamResult]:
        """Iterate over the exams, of one model or of all, by exam id; equal to what was added but for the pixels."""
        query = _whole_exams().order_by(ExamRow.exam_id, ExamRow.model_id).execution_options(yield_per=100)
        if model_id is not None:
            query = query.where(ExamRow.model_id == model_id)
        with self.reading() as session:
            for row in session.scalars(query):
                yield exam_result(row)

    def result(self, exam_id: str, model_id: str) -> ExamResult | None:
        """One exam's result, None if there is none."""
        with self.reading() as session:
            row = session.scalar(_whole_exams().where(ExamRow.exam_id == exam_id, ExamRow.model_id == model_id))
            return None if row is None else exam_result(row)

    def rejections(self) -> Iterator[InstanceRejection]:
        """Iterate over the instances that could not become images, by file."""
        query = select(RejectionRow).order_by(RejectionRow.file, RejectionRow.exam_id, RejectionRow.image_id)
        with self.reading() as session:
            for row in session.scalars(query.execution_options(yield_per=1000)):
                yield instance_rejection(row)

    def counts(self, model_id: str, unfinished_exams: int = 0, unfinished_instances: int = 0) -> Counts:
        """Count how exams and instances ended. An instance is an image of an exam or a rejected one, never both."""
        exams: dict[str, int] = {}
        instances: dict[str, int] = {}
        reasons: dict[tuple[str, str], tuple[int, int]] = {}
        queries = (
            (0, _counting(ExamRow.status, ExamRow.reason_code).where(ExamRow.model_id == model_id)),
            (
                1,
                _counting(ImageRow.status, ImageRow.reason_code).join(ExamRow).where(ExamRow.model_id == model_id),
            ),
            (1, _counting(RejectionRow.status, RejectionRow.reason_code)),
        )
        with self.reading() as session:
            for kind, query in queries:
                ends = (exams, instances)[kind]
                for status, code, number in session.execute(query):
                    ends[status] = ends.get(status, 0) + number
                    if code is not None:
                        before = reasons.get((status, code), (0, 0))
                        reasons[status, code] = (before[0] + number * (kind == 0), before[1] + number * (kind == 1))
        return Counts(
            exams=Ends(**exams, unfinished=unfinished_exams),
            instances=Ends(**instances, unfinished=unfinished_instances),
            reasons=dict(sorted(reasons.items())),
        )


def _whole_exams() -> Any:
    """Select exams with all that belongs to them."""
    return select(ExamRow).options(
        selectinload(ExamRow.breasts),
        selectinload(ExamRow.warnings),
        selectinload(ExamRow.images).selectinload(ImageRow.regions),
        selectinload(ExamRow.images).selectinload(ImageRow.warnings),
    )


def _counting(status: Any, code: Any) -> Any:
    return select(status, code, sa.func.count()).group_by(status, code)
