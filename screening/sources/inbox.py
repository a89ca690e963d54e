"""The inbox: instances that a PACS sends by itself, kept durably, and which exams of them wait to be scored.

An instance is on disk under its own name, and noted in the inbox's SQLite file, before its sender is told that it is
stored. What was scored is noted only when its result is stored and queued for delivery. So whatever stops the program,
the next run goes on with what came and was not scored.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from screening.delivery.objects import MANUFACTURER
from screening.dicomfile import open_dicom, text
from screening.errors import ConfigError, ImageError, StoreError
from screening.exam import Image
from screening.headers import header_keywords, read_instance
from screening.site import SiteProfile
from screening.sources.inbox_tables import VERSION, Base, ExamRow, InstanceRow
from screening.sources.spool import StudyError, is_uid
from screening.store.connect import Wording, sentences, sqlite_engine
from screening.store.files import write_errors

MAMMOGRAPHY = "MG"
_WORDS = Wording(
    "inbox",
    "listen again (what came is kept)",
    "give another --out",
    "listen again; have sent once more what was not scored",
)
_OURS_ONLY = 0o700
"""Mode of the folders: what is in them names women."""


class Kept(StrEnum):
    """What became of an instance: each is safe, and its sender may forget it."""

    NEW = "new"
    CHANGED = "changed"
    DUPLICATE = "a duplicate"
    OURS = "a result of this software"


@dataclass(frozen=True)
class Waiting:
    """An exam of which something came that was not scored yet.

    `studies`: Study Instance UID and how many instances of modality MG of it came. `since`: when the first of what
    waits came, `last`: the last, in seconds since 1970. `again`: whether an earlier state of the exam was scored.
    """

    name: str
    folder: Path
    studies: tuple[tuple[str, int], ...]
    views: frozenset[str]
    changes: int
    since: float
    last: float
    again: bool


class Inbox:
    """The folder `inbox` under `out`, with a folder for each exam; a context manager.

    An exam's folder is named by its Study Instance UID or, where the site profile makes exams of something else, by a
    hash. Threads may share an inbox, processes may not. Every method raises `StoreError` where the disk is full or the
    folder cannot be written.

    Raises `ConfigError` on entering if another process has it.
    """

    def __init__(self, out: Path, profile: SiteProfile) -> None:
        self.folder = out / "inbox"
        self._incoming = self.folder / "incoming"
        self._file = self.folder / "inbox.sqlite"
        self._profile = profile
        self._key = profile.pseudonym_key()
        self._keywords = header_keywords(profile) | {"Modality", "Manufacturer", "SOPInstanceUID", "StudyInstanceUID"}
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Inbox:
        with write_errors(self.folder):
            for folder in (self.folder, self._incoming):
                folder.mkdir(mode=_OURS_ONLY, parents=True, exist_ok=True)
            lock = self._stack.enter_context((self.folder / "lock").open("ab"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._stack.close()
            raise ConfigError(f"another program listens for {self.folder}; end it, or give another --out") from error
        for part in self._incoming.iterdir():  # of a run that was killed: its sender was told nothing
            part.unlink()
        self._engine = sqlite_engine(self._file, busy_seconds=30.0)
        self._stack.callback(self._engine.dispose)
        with self._sentences(), self._engine.begin() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar()
            if version not in (0, VERSION):
                raise StoreError(f"{self.folder} was written by another version of this program: give another --out.")
            Base.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, content: bytes, digest: str) -> Kept:
        """Keep one instance, a DICOM file with the `digest` of its dataset; it is durable when this returns.

        The same SOP instance with the same digest is kept once; with another digest it replaces the one before. Objects
        that this software made, and which a PACS may send back, are not kept. Raises StudyError, without identifiers,
        for what is no DICOM file or has no valid UIDs.
        """
        part = self._incoming / f"{threading.get_ident()}.part"
        try:
            with write_errors(part), part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            row = self._read(part)
            if row is None:
                return Kept.OURS
            row.digest = digest
            with self._lock:
                return self._keep(part, row)
        finally:
            part.unlink(missing_ok=True)

    def waiting(self) -> tuple[Waiting, ...]:
        """Exams with something that was not scored, in the order in which that began to come."""
        with self._transaction() as session:
            query = sa.select(ExamRow).where(ExamRow.changes > ExamRow.scored).order_by(ExamRow.since, ExamRow.key)
            exams = list(session.scalars(query))
            found: dict[str, list[InstanceRow]] = defaultdict(list)
            instances = sa.select(InstanceRow).join(ExamRow, ExamRow.name == InstanceRow.exam)
            instances = instances.where(InstanceRow.matters, ExamRow.changes > ExamRow.scored)
            for row in session.scalars(instances.order_by(InstanceRow.key)):
                found[row.exam].append(row)
            return tuple(self._waiting(exam, found[exam.name]) for exam in exams)

    def scored(self, exam: Waiting) -> None:
        """Note that an exam was scored as it was when `waiting` told of it; what came since then still waits."""
        with self._transaction() as session:
            session.execute(sa.update(ExamRow).where(ExamRow.name == exam.name).values(scored=exam.changes))

    def without_priors(self) -> tuple[Path, ...]:
        """Folders of scored exams whose earlier exams were not sought yet, in order of arrival."""
        query = sa.select(ExamRow.name).where(ExamRow.scored > 0, ExamRow.priors_sought.is_(False))
        with self._transaction() as session:
            return tuple(self.folder / name for name in session.scalars(query.order_by(ExamRow.key)))

    def priors_sought(self, folder: Path) -> None:
        """Note that the earlier exams of the woman were sought, found or not."""
        with self._transaction() as session:
            session.execute(sa.update(ExamRow).where(ExamRow.name == folder.name).values(priors_sought=True))

    def _read(self, part: Path) -> InstanceRow | None:
        """What the header says; None for an object that this software made."""
        try:
            with open_dicom(part, self._keywords) as file:
                uid, study = text(file.dataset, "SOPInstanceUID"), text(file.dataset, "StudyInstanceUID")
                modality, manufacturer = text(file.dataset, "Modality"), text(file.dataset, "Manufacturer")
                instance = read_instance(file, part, self._profile, self._key)
        except ImageError as error:
            raise StudyError(f"an instance cannot be read: {error}") from error
        if not is_uid(uid) or not is_uid(study):
            raise StudyError("an instance has no valid SOP Instance UID or Study Instance UID")
        if manufacturer == MANUFACTURER:
            return None
        return InstanceRow(
            exam=_folder_name(instance.exam_id or study),
            study_uid=study,
            sop_instance_uid=uid,
            mammogram=modality == MAMMOGRAPHY,
            matters=modality == MAMMOGRAPHY or isinstance(instance.outcome, Image),
            view=instance.laterality + instance.view,
        )

    def _keep(self, part: Path, new: InstanceRow) -> Kept:
        folder = self.folder / new.exam
        path = folder / f"{new.sop_instance_uid}.dcm"
        with self._transaction() as session:
            same = sa.and_(InstanceRow.exam == new.exam, InstanceRow.sop_instance_uid == new.sop_instance_uid)
            old = session.scalar(sa.select(InstanceRow).where(same))
            if old is not None and old.digest == new.digest and path.is_file():
                return Kept.DUPLICATE
            with write_errors(path):
                folder.mkdir(mode=_OURS_ONLY, exist_ok=True)
                os.replace(part, path)
                for changed in (folder, self.folder):
                    _make_durable(changed)
            if old is not None:
                session.delete(old)
                session.flush()
            session.add(new)
            _note(session, new)
            return Kept.NEW if old is None else Kept.CHANGED

    def _waiting(self, exam: ExamRow, instances: Sequence[InstanceRow]) -> Waiting:
        studies: dict[str, int] = defaultdict(int)
        for one in instances:
            studies[one.study_uid] += one.mammogram
        return Waiting(
            name=exam.name,
            folder=self.folder / exam.name,
            studies=tuple(studies.items()),
            views=frozenset(one.view for one in instances),
            changes=exam.changes,
            since=exam.since,
            last=exam.last,
            again=exam.scored > 0,
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Session]:
        with self._sentences(), Session(self._engine) as session, session.begin():
            yield session

    def _sentences(self) -> AbstractContextManager[None]:
        return sentences(str(self._file), _WORDS)


def _note(session: Session, new: InstanceRow) -> None:
    """Only what may be scored makes an exam wait; what lies beside it changes nothing."""
    now = time.time()
    exam = session.scalar(sa.select(ExamRow).where(ExamRow.name == new.exam))
    if exam is None:
        exam = ExamRow(name=new.exam, changes=0, scored=0, since=now, last=now, priors_sought=False)
        session.add(exam)
    if new.matters:
        if exam.changes == exam.scored:
            exam.since = now
        exam.changes += 1
        exam.last = now


def _folder_name(exam_id: str) -> str:
    return exam_id if is_uid(exam_id) else hashlib.sha256(exam_id.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _make_durable(folder: Path) -> None:
    """A file's new name is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
