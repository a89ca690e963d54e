"""The results store: everything but pixels, in SQLite or another database."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import delete, event, select
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.orm import Session, selectinload

from screening.errors import StoreError
from screening.result import ExamResult, InstanceRejection, Reason, Status
from screening.store.batch import BatchSummary, Counts, Ends
from screening.store.convert import exam_result, exam_row, instance_rejection, rejection_row
from screening.store.files import write_errors
from screening.store.schema import SCHEMA_VERSION, Base, BatchRow, ExamRow, ImageRow, RejectionRow, VersionRow

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
        url = _url(url_or_path)
        # str(url) hides a password.
        self.name = (url.database if url.get_backend_name() == "sqlite" else None) or str(url)
        try:
            self._engine = _engine(url, busy_seconds)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise StoreError(f"The results store {self.name} cannot be opened: {error}.") from error
        with self._sentences():
            self._check_version()

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; SQLite then folds its write-ahead log into the file."""
        self._engine.dispose()

    def add(self, result: ExamResult) -> None:
        """Store one exam in one transaction; an earlier result of the same exam and model is replaced.

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
        with self._sentences(), Session(self._engine) as session, session.begin():
            session.execute(delete(ExamRow).where(same))
            session.execute(delete(RejectionRow).where(now_an_image | not_fetched_then))
            session.add(exam_row(result))

    def add_rejections(self, rejections: Iterable[InstanceRejection]) -> None:
        """Store instances that could not become images; the same file and UIDs replace their earlier row."""
        with self._sentences(), Session(self._engine) as session, session.begin():
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
        with self._sentences(), Session(self._engine) as session, session.begin():
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
        with self._sentences(), Session(self._engine) as session:
            return set(session.scalars(query))

    def results(self, model_id: str | None = None) -> Iterator[ExamResult]:
        """Iterate over the exams, of one model or of all, by exam id; equal to what was added but for the pixels."""
        query = (
            select(ExamRow)
            .options(
                selectinload(ExamRow.breasts),
                selectinload(ExamRow.warnings),
                selectinload(ExamRow.images).selectinload(ImageRow.regions),
                selectinload(ExamRow.images).selectinload(ImageRow.warnings),
            )
            .order_by(ExamRow.exam_id, ExamRow.model_id)
            .execution_options(yield_per=100)
        )
        if model_id is not None:
            query = query.where(ExamRow.model_id == model_id)
        with self._sentences(), Session(self._engine) as session:
            for row in session.scalars(query):
                yield exam_result(row)

    def rejections(self) -> Iterator[InstanceRejection]:
        """Iterate over the instances that could not become images, by file."""
        query = select(RejectionRow).order_by(RejectionRow.file, RejectionRow.exam_id, RejectionRow.image_id)
        with self._sentences(), Session(self._engine) as session:
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
        with self._sentences(), Session(self._engine) as session:
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

    def _check_version(self) -> None:
        """Make the tables in an empty database; refuse one of another version or of something else."""
        with self._engine.begin() as connection:
            tables = sa.inspect(connection).get_table_names()
            if not tables:
                Base.metadata.create_all(connection)
                connection.execute(sa.insert(VersionRow).values(version=SCHEMA_VERSION))
                return
            if VersionRow.__tablename__ not in tables:
                raise StoreError(f"{self.name} holds another program's tables: give another --out folder or database.")
            version = connection.scalar(select(VersionRow.version))
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"The results store {self.name} was written by another version of this program (schema {version}, "
                f"this one uses {SCHEMA_VERSION}): give another --out folder, or use the version that wrote it."
            )

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn what a database raises into a `StoreError`; a broken constraint is a bug and stays what it is."""
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, sqlite3.Error) as error:
            raise StoreError(_database_sentence(error, self.name)) from error


def _url(url_or_path: str | Path) -> URL:
    """Return the database URL; a path's folder is made."""
    if isinstance(url_or_path, str) and "://" in url_or_path:
        try:
            return make_url(url_or_path)
        except (ArgumentError, ValueError) as error:
            raise StoreError("The results store's URL cannot be read: write it as dialect://host/database.") from error
    path = Path(url_or_path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return URL.create("sqlite", database=str(path))


def _engine(url: URL, busy_seconds: float) -> Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url)
    engine = sa.create_engine(url, connect_args={"timeout": busy_seconds})

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _: object) -> None:
        # A write-ahead log lets others read while a batch writes; FULL makes a finished exam outlive a power cut.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _database_sentence(error: DBAPIError | sqlite3.Error, name: str) -> str:
    """Say what is wrong and what to do; SQLite's own result codes tell the cases apart (sqlite.org/rescode.html)."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorname", "")
    sentences = {
        "SQLITE_FULL": f"The disk that holds {name} is full: free some space and run again (finished exams are kept).",
        "SQLITE_READONLY": f"{name} cannot be written: change its permissions or give another --out folder.",
        "SQLITE_CANTOPEN": f"{name} cannot be opened: check that its folder exists and can be written.",
        "SQLITE_BUSY": f"{name} is locked by another program: wait until that has ended, then run again.",
        "SQLITE_NOTADB": f"{name} is not a results store: move that file away or give another --out folder.",
        "SQLITE_CORRUPT": f"{name} is damaged: move that file away or give another --out folder, and score again.",
    }
    for start, sentence in sentences.items():
        if code.startswith(start):
            return sentence
    return f"The results store {name} cannot be read or written: {cause}."


def _counting(status: Any, code: Any) -> Any:
    return select(status, code, sa.func.count()).group_by(status, code)
