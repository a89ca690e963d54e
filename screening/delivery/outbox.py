"""The outbox: what is to be sent, and what has become of it; in SQLite, so that it outlives crashes.

An object's file is written, whole, before its row. A row says "arrived" only when the PACS said so; a crash between
sending and that note leaves the row queued, and the object is sent once more: the same SOP instance, which a PACS keeps
once. So nothing is lost, and nothing that is known to have arrived is sent again.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from screening.delivery.answers import Answer, Outcome
from screening.delivery.outbox_tables import VERSION, Base, ParcelRow, SwitchRow
from screening.errors import StoreError
from screening.store.connect import Wording, sentences, sqlite_engine
from screening.store.files import write_errors

OUTBOX_NAME = "outbox.sqlite"
_WORDS = Wording(
    "outbox", "send again (what is in it is kept)", "name another", "send again; a PACS keeps each object once"
)


class State(StrEnum):
    """Where an object is. Superseded: a newer result of the exam has taken its place, sent or not."""

    QUEUED = "queued"
    SENT = "sent"
    COMMITTED = "committed"
    FAILED = "failed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class Object:
    """An object that is to be delivered: its file and what identifies it.

    `lasting`: no newer result supersedes it. `replaces`: its receiver keeps one for all results of an exam, whose
    content a newer one takes the place of; a result that holds again has to be sent again.
    """

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    lasting: bool = False
    replaces: bool = False


@dataclass(frozen=True)
class Parcel:
    """One object on its way to one destination; times in UTC, None for what has not happened.

    `made`: when its result was made. `tried`: since then it may have arrived. `arrived` is exact to within the sending
    of its exam. `error`: why it has not, one sentence.
    """

    destination: str
    exam_id: str
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    made: datetime
    state: State
    attempts: int
    error: str
    queued: datetime
    tried: datetime | None
    arrived: datetime | None
    committed: datetime | None


@dataclass(frozen=True)
class Switch:
    """A change between live and shadow: at which site, from what to what, who decided, who ran it and when."""

    when: datetime
    site: str
    before: str
    after: str
    decided_by: str
    user: str
    profile: str


@dataclass(frozen=True)
class BackOff:
    """How long to wait after a failed attempt: `first_s`, then twice as long each time up to `longest_s`.

    An object that a PACS could not take `most` times has failed.
    """

    first_s: float = 5.0
    longest_s: float = 900.0
    most: int = 10

    def seconds(self, attempts: int) -> float:
        """Seconds to wait after so many failed attempts, at least one."""
        return float(min(self.longest_s, self.first_s * 2.0 ** min(attempts - 1, 60)))


class OutdatedError(Exception):
    """A newer result of the exam is in the outbox already; the older one must not take its place."""


class Outbox:
    """An outbox in the file `path`, made if missing. Every public method raises `StoreError` if it cannot be used.

    Threads and processes may share one; only one at a time sends (see `sending`).
    """

    def __init__(self, path: Path, back_off: BackOff | None = None, busy_seconds: float = 30.0) -> None:
        self.path = path
        self.back_off = back_off or BackOff()
        self._engine = sqlite_engine(path, busy_seconds)
        with self._sentences(), self._engine.begin() as connection:
            tables = sa.inspect(connection).get_table_names()
            version = connection.exec_driver_sql("PRAGMA user_version").scalar()
            if not tables:
                Base.metadata.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise StoreError(f"{path} is no outbox of this version of the program: move it away or name another.")

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; SQLite then folds its write-ahead log into the file."""
        self._engine.dispose()

    def enqueue(
        self,
        destination: str,
        exam_id: str,
        made: datetime,
        objects: Sequence[Object],
        current: Collection[str] = (),
        now: datetime | None = None,
    ) -> int:
        """Queue all objects of one result of an exam, in one transaction; return how many are new.

        What is there already stays as it is: delivered once. Objects of the exam that are neither among `objects` nor
        `current` are of an earlier result (late images, another model or operating point) and become superseded.

        Parameters
        ----------
        made
            When the result was made, with a time zone.
        current
            SOP Instance UIDs that belong to this result too, though their objects are not at hand this time.

        Raises
        ------
        OutdatedError
            If objects of a newer result are there already; nothing is queued then.
        """
        moment = (now or datetime.now(UTC)).timestamp()
        with self._transaction() as session:
            of_exam = sa.and_(ParcelRow.destination == destination, ParcelRow.exam_id == exam_id)
            rows = {row.sop_instance_uid: row for row in session.scalars(sa.select(ParcelRow).where(of_exam))}
            newest = max((row.made for row in rows.values() if row.state != State.SUPERSEDED), default=0.0)
            uids = {one.sop_instance_uid for one in objects}
            if made.timestamp() < newest and not uids <= {u for u, r in rows.items() if r.state != State.SUPERSEDED}:
                raise OutdatedError("a newer result of this exam is in the outbox already")
            for uid, row in rows.items():
                if uid not in uids and uid not in current and not row.lasting:
                    row.state = State.SUPERSEDED
            new = 0
            for one in objects:
                known = rows.get(one.sop_instance_uid)
                if known is None:
                    session.add(_new_row(destination, exam_id, made.timestamp(), moment, one))
                    new += 1
                    continue
                known.made = max(known.made, made.timestamp())
                known.path = str(one.path.absolute())
                if known.state == State.SUPERSEDED:  # the exam is again as it was
                    known.state = State.QUEUED if known.arrived is None or one.replaces else State.SENT
        return new

    def to_supersede(
        self, destination: str, exam_id: str, made: datetime, current: Collection[str]
    ) -> tuple[Parcel, ...]:
        """What `enqueue` would supersede and may have arrived: of an exam's earlier results, all but `current`."""
        query = sa.select(ParcelRow).where(
            ParcelRow.destination == destination,
            ParcelRow.exam_id == exam_id,
            ParcelRow.made <= made.timestamp(),
            ParcelRow.state != State.SUPERSEDED,
            ParcelRow.tried.is_not(None),
            ParcelRow.lasting.is_(False),
            ParcelRow.sop_instance_uid.not_in(current),
        )
        with self._transaction() as session:
            return tuple(_parcel(row) for row in session.scalars(query.order_by(ParcelRow.key)))

    def next_exam(self, destination: str, now: datetime | None = None) -> tuple[Parcel, ...]:
        """What is due of the exam whose turn it is: by arrival, those that failed before after the others."""
        moment = (now or datetime.now(UTC)).timestamp()
        due = sa.and_(
            ParcelRow.destination == destination, ParcelRow.state == State.QUEUED, ParcelRow.next_try <= moment
        )
        with self._transaction() as session:
            first = session.scalar(sa.select(ParcelRow).where(due).order_by(ParcelRow.attempts, ParcelRow.key))
            if first is None:
                return ()
            query = sa.select(ParcelRow).where(due, ParcelRow.exam_id == first.exam_id).order_by(ParcelRow.key)
            return tuple(_parcel(row) for row in session.scalars(query))

    def next_try(self, destination: str) -> datetime | None:
        """When something is due next; None if nothing is queued."""
        query = sa.select(sa.func.min(ParcelRow.next_try)).where(
            ParcelRow.destination == destination, ParcelRow.state == State.QUEUED
        )
        with self._transaction() as session:
            return _utc(session.scalar(query))

    def begin(self, parcels: Iterable[Parcel], now: datetime | None = None) -> None:
        """Note that these are about to be sent: from now on they may have arrived."""
        for_destination: dict[str, list[str]] = {}
        for one in parcels:
            for_destination.setdefault(one.destination, []).append(one.sop_instance_uid)
        moment = (now or datetime.now(UTC)).timestamp()
        with self._transaction() as session:
            for destination, uids in for_destination.items():
                session.execute(_update(destination, uids).values(tried=moment))

    def record(self, destination: str, answer: Answer, now: datetime | None = None) -> None:
        """Note what became of an object; what is superseded meanwhile stays so."""
        moment = (now or datetime.now(UTC)).timestamp()
        query = sa.select(ParcelRow).where(
            ParcelRow.destination == destination, ParcelRow.sop_instance_uid == answer.sop_instance_uid
        )
        with self._transaction() as session:
            row = session.scalar(query)
            if row is not None:
                self._note(row, answer, moment)

    def make_due(self, destination: str, failed: bool = False) -> None:
        """Let everything that waits be tried at once; `failed`: also what had failed, with attempts anew."""
        waiting = ParcelRow.destination == destination
        with self._transaction() as session:
            if failed:
                again = sa.update(ParcelRow).where(waiting, ParcelRow.state == State.FAILED)
                session.execute(again.values(state=State.QUEUED, attempts=0, next_try=0.0))
            session.execute(sa.update(ParcelRow).where(waiting, ParcelRow.state == State.QUEUED).values(next_try=0.0))

    def uncommitted(self, destination: str) -> tuple[Parcel, ...]:
        """What has arrived, but without a commitment so far, where commitment is not known not to be offered."""
        query = sa.select(ParcelRow).where(
            ParcelRow.destination == destination,
            ParcelRow.state == State.SENT,
            ParcelRow.commitment_offered.is_(True),
        )
        with self._transaction() as session:
            return tuple(_parcel(row) for row in session.scalars(query.order_by(ParcelRow.key)))

    def parcels(self, destination: str | None = None) -> tuple[Parcel, ...]:
        """All of them, or those of one destination, in order of arrival."""
        query = sa.select(ParcelRow).order_by(ParcelRow.key)
        if destination is not None:
            query = query.where(ParcelRow.destination == destination)
        with self._transaction() as session:
            return tuple(_parcel(row) for row in session.scalars(query))

    def unfinished(self) -> tuple[Parcel, ...]:
        """What waits or has failed, for whatever destination, in order of arrival."""
        query = sa.select(ParcelRow).where(ParcelRow.state.in_((State.QUEUED, State.FAILED))).order_by(ParcelRow.key)
        with self._transaction() as session:
            return tuple(_parcel(row) for row in session.scalars(query))

    def counts(self, destination: str) -> dict[State, int]:
        """How many objects are in each state, zeros included."""
        query = (
            sa.select(ParcelRow.state, sa.func.count())
            .where(ParcelRow.destination == destination)
            .group_by(ParcelRow.state)
        )
        with self._transaction() as session:
            found = {state: count for state, count in session.execute(query)}
        return {state: found.get(state, 0) for state in State}

    def note_mode(self, switch: Switch) -> bool:
        """Log a switch if the site's mode is not `switch.after` already; `before` is taken from the log.

        Rows are only ever added.
        """
        last = sa.select(SwitchRow.after).where(SwitchRow.site == switch.site).order_by(SwitchRow.key.desc()).limit(1)
        with self._transaction() as session:
            before = session.scalar(last)
            if before == switch.after:
                return False
            session.add(
                SwitchRow(
                    moment=switch.when.timestamp(),
                    site=switch.site,
                    before=before or "",
                    after=switch.after,
                    decided_by=switch.decided_by,
                    user=switch.user,
                    profile=switch.profile,
                )
            )
        return True

    def switches(self) -> tuple[Switch, ...]:
        """The log of switches between live and shadow, oldest first."""
        with self._transaction() as session:
            return tuple(
                Switch(_moment(row.moment), row.site, row.before, row.after, row.decided_by, row.user, row.profile)
                for row in session.scalars(sa.select(SwitchRow).order_by(SwitchRow.key))
            )

    @contextlib.contextmanager
    def sending(self, patience_s: float = 600.0) -> Iterator[None]:
        """Be the only one, of all processes, that sends from this outbox; the operating system ends it with a process.

        Raises StoreError if another still sends after `patience_s`.
        """
        lock = self.path.with_name(f"{self.path.name}.lock")
        deadline = time.monotonic() + patience_s
        with contextlib.ExitStack() as stack:
            with write_errors(lock):
                file = stack.enter_context(lock.open("ab"))
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise StoreError(
                            f"Another program is sending from {self.path}: wait until it has ended."
                        ) from error
                    time.sleep(0.1)
            yield

    def _note(self, row: ParcelRow, answer: Answer, moment: float) -> None:
        superseded = row.state == State.SUPERSEDED
        row.error = answer.sentence
        match answer.outcome:
            case Outcome.ARRIVED:
                row.state, row.arrived, row.commitment_offered = State.SENT, moment, True
            case Outcome.COMMITTED:
                row.state, row.committed = State.COMMITTED, moment
            case Outcome.NOT_OFFERED:
                row.commitment_offered = False
            case Outcome.NEVER:
                row.state = State.FAILED
                row.attempts += 1
            case Outcome.LATER:
                row.arrived = None
                row.attempts += 1
                row.state = State.FAILED if row.attempts >= self.back_off.most else State.QUEUED
                row.next_try = moment + self.back_off.seconds(row.attempts)
        if superseded:
            row.state = State.SUPERSEDED

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Session]:
        with self._sentences(), Session(self._engine) as session, session.begin():
            yield session

    def _sentences(self) -> AbstractContextManager[None]:
        return sentences(str(self.path), _WORDS)


def _new_row(destination: str, exam_id: str, made: float, moment: float, one: Object) -> ParcelRow:
    return ParcelRow(
        destination=destination,
        exam_id=exam_id,
        kind=one.kind,
        sop_class_uid=one.sop_class_uid,
        sop_instance_uid=one.sop_instance_uid,
        path=str(one.path.absolute()),
        lasting=one.lasting,
        made=made,
        state=State.QUEUED,
        queued=moment,
    )


def _update(destination: str, uids: Sequence[str]) -> sa.Update:
    return sa.update(ParcelRow).where(ParcelRow.destination == destination, ParcelRow.sop_instance_uid.in_(uids))


def _parcel(row: ParcelRow) -> Parcel:
    return Parcel(
        destination=row.destination,
        exam_id=row.exam_id,
        kind=row.kind,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        path=Path(row.path),
        made=_moment(row.made),
        state=State(row.state),
        attempts=row.attempts,
        error=row.error,
        queued=_moment(row.queued),
        tried=_utc(row.tried),
        arrived=_utc(row.arrived),
        committed=_utc(row.committed),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else _moment(seconds)
