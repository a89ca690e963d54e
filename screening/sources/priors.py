"""Earlier exams of the same woman, fetched from the PACS to be shown beside the present one.

They are no exams of the night, and what the model says of the present exam does not depend on them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from screening.delivery.outbox import BackOff
from screening.dicomfile import open_dicom, text
from screening.errors import ImageError, ScreeningError
from screening.exam import Exam
from screening.result import InstanceRejection
from screening.site import SiteProfile
from screening.sources.fetch import PATIENCE, Client, fetch_all, found_studies
from screening.sources.folder import read_folder
from screening.sources.spool import Spool, Study, is_uid

LOG = logging.getLogger(__name__)

_WILDCARDS = frozenset("*?\\")
"""Of matching in C-FIND and QIDO-RS (PS3.4 C.2.2.2.4); the backslash separates values."""


@dataclass(frozen=True)
class Priors:
    """The earlier exams of the woman of one exam; `problem` says why some are missing, without identifiers."""

    exams: tuple[Exam, ...] = ()
    rejections: tuple[InstanceRejection, ...] = ()
    problem: str = ""


def fetch_priors(
    exams: Sequence[Exam],
    client: Client,
    profile: SiteProfile,
    folder: Path,
    patience: BackOff = PATIENCE,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Priors]:
    """For each of the exams, fetch the earlier ones that the site profile's `priors` ask for, into `folder`.

    What was fetched before is kept. When the PACS does not answer or refuses us, it is not asked for the other exams
    either: each of these has the reason for its `problem`. Raises StoreError if the folder cannot be written.
    """
    given_up = ""
    with Spool(folder, keep=True) as spool:
        for done, exam in enumerate(exams, start=1):
            try:
                found = Priors(problem=given_up) if given_up else _priors(exam, client, profile, spool, patience)
            except _UnanswerableError as error:
                given_up = str(error)
                found = Priors(problem=given_up)
            if found.problem:
                LOG.warning("exam %.80r: earlier exams are missing: %s", exam.exam_id, found.problem)
            yield found
            if on_progress is not None:
                on_progress(done, len(exams))


class _UnanswerableError(Exception):
    """The PACS could not be asked."""


def _priors(exam: Exam, client: Client, profile: SiteProfile, spool: Spool, patience: BackOff) -> Priors:
    rules = profile.priors
    if exam.exam_date is None:
        return Priors(problem="the exam has no date that others could be earlier than")
    patient_id, studies = _identity(exam)
    if not patient_id or _WILDCARDS & set(patient_id):
        return Priors(problem="the exam has no Patient ID that a PACS can be asked for")
    dates = f"{_years_before(exam.exam_date, rules.years):%Y%m%d}-{exam.exam_date - timedelta(days=1):%Y%m%d}"
    try:
        answers = found_studies(lambda: client.find(dates, patient_id), patience)
    except ScreeningError as error:
        raise _UnanswerableError(str(error)) from error
    earlier = sorted((one for one in answers if one.uid not in studies), key=lambda one: (one.date, one.uid))
    wanted = earlier[::-1][: rules.count]
    failures = tuple(fetch_all(client, wanted, spool, patience))
    lost = {one.uid for one in failures}
    scans = [read_folder(_folder(spool, one), profile) for one in wanted if one.uid not in lost]
    return Priors(
        exams=tuple(one for scan in scans for one in scan.exams if _is_prior(one, exam)),
        rejections=tuple(one for scan in scans for one in scan.rejections),
        problem="; ".join(dict.fromkeys(one.sentence for one in failures)),
    )


def _is_prior(one: Exam, exam: Exam) -> bool:
    """Whether an exam is an earlier one of the same woman, as its own headers say."""
    assert exam.exam_date is not None
    earlier = one.exam_date is not None and one.exam_date < exam.exam_date
    return earlier and one.woman_id == exam.woman_id and one.exam_id != exam.exam_id


def _identity(exam: Exam) -> tuple[str, frozenset[str]]:
    """Patient ID as the PACS knows it (`woman_id` may be a pseudonym), and the exam's own studies."""
    patients, studies = set(), set()
    for image in exam.images:
        try:
            with open_dicom(image.path, ("PatientID", "StudyInstanceUID")) as file:
                patients.add(text(file.dataset, "PatientID"))
                studies.add(text(file.dataset, "StudyInstanceUID"))
        except ImageError:
            continue  # scoring will say what is wrong with the image
    return (patients.pop() if len(patients) == 1 else ""), frozenset(studies)


def _folder(spool: Spool, study: Study) -> Path:
    assert is_uid(study.uid)
    return spool.folder / study.uid


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return day.replace(year=day.year - years, day=28)
