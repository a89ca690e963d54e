"""Fetching studies from a PACS: each complete or named with the reason, and no storm of retries."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from screening.delivery.answers import RefusedError, UnreachableError
from screening.delivery.outbox import BackOff
from screening.errors import ScreeningError
from screening.sources.spool import Spool, Study, StudyError

LOG = logging.getLogger(__name__)

PATIENCE = BackOff(first_s=2.0, longest_s=30.0, most=3)
"""A question is asked three times, after 2 and 4 seconds."""

_SILENT_IN_A_ROW = 3
"""So many studies that a PACS was not there for, one after the other, are taken for all that are left."""

Progress = Callable[[int, int], None]


class Client(Protocol):
    """Asks one PACS; each method raises UnreachableError or RefusedError."""

    def find(self, dates: str, patient_id: str = "") -> Iterable[Study]:
        """Studies with mammograms and a Study Date in this range ("YYYYMMDD-YYYYMMDD"), of all women or of one.

        Of studies whose answer has another Patient ID than that which is asked for, none is given.
        """

    def count(self, study_uid: str) -> int | None:
        """How many instances of modality MG the PACS has of a study; None where it does not say."""

    def fetch(self, study: Study, spool: Spool) -> None:
        """Add the study's instances to the spool. Raises StudyError if the PACS cannot send all of them."""


@dataclass(frozen=True)
class Failure:
    """A study that was found but did not come completely, and why; `uid` is "" if it has no valid one."""

    uid: str
    sentence: str


@dataclass(frozen=True)
class Fetched:
    """What came of it; `found` is the number of studies fetched plus that of failures."""

    found: int
    fetched: int
    failures: tuple[Failure, ...]


def fetch_studies(
    client: Client, dates: str, spool: Spool, patience: BackOff = PATIENCE, on_progress: Progress | None = None
) -> Fetched:
    """Find the studies of these dates and fetch them into the spool, one after the other.

    What may pass is tried again, `patience.most` times in all. When the PACS refuses us, or is not there for several
    studies in a row, it is not asked any further: the studies that are left have failed for that reason.

    `on_progress` is called with (studies done, studies in all). Raises ScreeningError if the PACS cannot be asked which
    studies it has.
    """
    studies = found_studies(lambda: client.find(dates), patience)
    with spool:  # not before the PACS has answered: it removes what an earlier run fetched
        failures = tuple(fetch_all(client, studies, spool, patience, on_progress))
    LOG.info("%d studies found, %d fetched, %d failed", len(studies), len(studies) - len(failures), len(failures))
    return Fetched(len(studies), len(studies) - len(failures), failures)


def fetch_all(
    client: Client,
    studies: Sequence[Study],
    spool: Spool,
    patience: BackOff = PATIENCE,
    on_progress: Progress | None = None,
) -> Iterator[Failure]:
    """Fetch these studies into the open spool as `fetch_studies` does, and yield those that did not come."""
    silent, given_up = 0, ""
    for done, study in enumerate(studies, start=1):
        try:
            sentence = given_up or _fetch(client, study, spool, patience)
            silent = 0
        except UnreachableError as error:
            silent += 1
            sentence = str(error)
            given_up = sentence if silent >= _SILENT_IN_A_ROW else ""
        except RefusedError as error:
            sentence = given_up = str(error)
        if sentence:
            LOG.warning("study %s was not fetched: %s", study.uid or "without a valid UID", sentence)
            yield Failure(study.uid, sentence)
        if on_progress is not None:
            on_progress(done, len(studies))


def found_studies(search: Callable[[], Iterable[Study]], patience: BackOff = PATIENCE) -> list[Study]:
    """What a search finds, each study once. Raises ScreeningError if the PACS cannot be asked."""
    for attempt in range(1, patience.most + 1):
        try:
            answers = list(search())
            break
        except UnreachableError as error:
            if attempt == patience.most:
                raise ScreeningError(f"{error}; it was asked {attempt} times; run again later") from error
            time.sleep(patience.seconds(attempt))
        except RefusedError as error:
            raise ScreeningError(str(error)) from error
    known = {study.uid: study for study in answers if study.uid}
    return [*known.values(), *(study for study in answers if not study.uid)]


def _fetch(client: Client, study: Study, spool: Spool, patience: BackOff) -> str:
    """Fetch one study; why that failed, "" if it did not."""
    if not study.uid:
        return "the PACS gives no valid Study Instance UID"
    if spool.holds(study):
        return ""
    for attempt in range(1, patience.most + 1):
        problem: UnreachableError | StudyError
        try:
            client.fetch(study, spool)
            _check_complete(study, spool.received(study))
            spool.finish(study)
            return ""
        except (UnreachableError, StudyError) as error:
            problem = error
        if attempt < patience.most:
            time.sleep(patience.seconds(attempt))
    if isinstance(problem, UnreachableError):
        raise problem
    return str(problem)


def _check_complete(study: Study, received: int) -> None:
    """Raise StudyError if instances are missing; more than were counted is a study that has grown meanwhile."""
    if received == 0:
        raise StudyError("no instance came")
    if study.instances is not None and received < study.instances:
        raise StudyError(f"{received} of {study.instances} instances came")
