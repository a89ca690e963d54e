"""Earlier exams of the same woman: fetched, scored, shown beside the present exam, and counted with nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydicom import dcmread

from screening.delivery.answers import UnreachableError
from screening.delivery.outbox import BackOff, Outbox
from screening.site import ArrivalRules, PriorRules, SiteProfile, load_site
from screening.sources.completeness import Completeness
from screening.sources.folder import read_folder
from screening.sources.inbox import Inbox
from screening.sources.priors import Priors, fetch_priors
from screening.sources.spool import Spool, Study
from screening.store import STORE_NAME, ResultStore
from tests.support.archives import WebArchive, files_of, reply, says, web_archive
from tests.support.command import Score
from tests.support.dicom import write_dicom
from tests.support.exams import BIRTH_DATE, NAME, WOMAN, drawn, instance, study_uid
from tests.support.listening import site
from tests.support.orthanc import Orthanc, needs_orthanc

if TYPE_CHECKING:
    from screening.model.bundle import Bundle

NOW, TWO_YEARS_AGO, THREE_YEARS_AGO, LONG_AGO = "20240131", "20220120", "20210115", "20100110"
VIEWS = (("R", "CC"), ("L", "CC"))
RULES = {"count": 1, "years": 5}


def exam(folder: Path, study: int, date: str, woman: str = WOMAN) -> list[Path]:
    """Two views of a woman on a day; this year there is a spot."""
    spot = (110.0, 180.0) if date == NOW else None
    return [
        write_dicom(
            folder / f"{study}-{side}{view}.dcm",
            instance(
                study, number, side, view, drawn(side, view, 10 * study + number, spot), PatientID=woman, StudyDate=date
            ),
        )
        for number, (side, view) in enumerate(VIEWS, start=1)
    ]


@pytest.fixture
def profile() -> SiteProfile:
    return load_site().model_copy(update={"priors": PriorRules(**RULES), "arrivals": ArrivalRules(quiet_s=0.1)})


class Archive:
    """A client whose PACS has these files. It raises `down` as often as that is told; `asked` is what it was asked."""

    def __init__(self, files: Iterable[Path], down: int = 0) -> None:
        self._files: dict[str, list[Path]] = {}
        for file in files:
            self._files.setdefault(str(dcmread(file, stop_before_pixels=True).StudyInstanceUID), []).append(file)
        self._down = down
        self.asked: list[tuple[str, str]] = []

    def find(self, dates: str, patient_id: str = "") -> Iterator[Study]:
        self.asked.append((dates, patient_id))
        if self._down:
            self._down -= 1
            raise UnreachableError("the PACS is down")
        for uid, files in self._files.items():
            yield Study(uid, len(files), str(dcmread(files[0], stop_before_pixels=True).StudyDate))

    def fetch(self, study: Study, spool: Spool) -> None:
        for file in self._files[study.uid]:
            spool.add(study, [file.read_bytes()])

    def count(self, study_uid: str) -> int | None:
        raise AssertionError("nobody should ask")


ONCE = BackOff(first_s=0.0, longest_s=0.0, most=1)


def priors(folder: Path, profile: SiteProfile, archive: Archive, *present: tuple[int, str]) -> list[Priors]:
    """The priors of exams of this year: (study, woman)."""
    files = [exam(folder / "now", study, NOW, woman) for study, woman in present]
    exams = read_folder(folder / "now", profile).exams
    assert len(exams) == len(files)
    return list(fetch_priors(exams, archive, profile, folder / "priors", ONCE))


# Which exams are priors


def test_the_latest_of_the_years_asked_for_is_fetched_and_the_present_exam_is_none(
    tmp_path: Path, profile: SiteProfile
) -> None:
    old = tmp_path / "old"
    archive = Archive([*exam(old, 1, NOW), *exam(old, 2, TWO_YEARS_AGO), *exam(old, 3, THREE_YEARS_AGO)])
    (found,) = priors(tmp_path, profile, archive, (1, WOMAN))
    assert [one.exam_id for one in found.exams] == [study_uid(2)]
    assert archive.asked == [("20190131-20240130", WOMAN)]
    two = profile.model_copy(update={"priors": PriorRules(count=2, years=5)})
    (found,) = priors(tmp_path / "two", two, archive, (1, WOMAN))
    assert [one.exam_id for one in found.exams] == [study_uid(2), study_uid(3)]


def test_study_whose_own_header_names_another_woman_is_no_prior(tmp_path: Path, profile: SiteProfile) -> None:
    archive = Archive(exam(tmp_path / "old", 2, TWO_YEARS_AGO, woman="somebody else"))
    (found,) = priors(tmp_path, profile, archive, (1, WOMAN))
    assert found.exams == ()


@pytest.mark.parametrize("hostile", ["*", "NHS?", "a*b"])
def test_patient_id_that_could_match_other_women_is_not_asked_for(
    tmp_path: Path, profile: SiteProfile, hostile: str
) -> None:
    archive = Archive(exam(tmp_path / "old", 2, TWO_YEARS_AGO))
    (found,) = priors(tmp_path, profile, archive, (1, hostile))
    assert (found.exams, archive.asked) == ((), [])
    assert "no Patient ID that a PACS can be asked for" in found.problem


def test_pacs_that_is_down_is_not_asked_for_each_woman_that_is_left(tmp_path: Path, profile: SiteProfile) -> None:
    archive = Archive(exam(tmp_path / "old", 9, TWO_YEARS_AGO), down=1)
    found = priors(tmp_path, profile, archive, (1, "A"), (2, "B"), (3, "C"))
    assert [one.problem for one in found] == ["the PACS is down; it was asked 1 times; run again later"] * 3
    assert len(archive.asked) == 1


# In a batch


@needs_orthanc
@pytest.mark.parametrize("service", ["dicomweb", "dimse"])
def test_prior_stands_beside_the_present_exam_in_the_report_and_is_counted_nowhere(
    tmp_path: Path, orthanc: Orthanc, score_cli: Score, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    if service == "dicomweb":
        monkeypatch.setenv("SCREENING_PACS_USER", orthanc.user)
        monkeypatch.setenv("SCREENING_PACS_PASSWORD", orthanc.password)
    days = {1: NOW, 2: TWO_YEARS_AGO, 3: THREE_YEARS_AGO, 4: LONG_AGO}
    files = [file for study, date in days.items() for file in exam(tmp_path / "in", study, date)]
    orthanc.store([*files, *exam(tmp_path / "in", 5, TWO_YEARS_AGO, woman=f"{WOMAN}-5")])
    source = f"{getattr(orthanc, service)}?date={NOW}"
    profile = str(site(tmp_path, priors=RULES))
    run = score_cli(source, tmp_path / "out", "--report-all", "--site", profile, "--workers", "0")
    present = exam(tmp_path / "now", 1, NOW)[0].parent
    alone = score_cli(present, tmp_path / "alone", "--report-all", "--workers", "0")
    assert (run.code, alone.code) == (0, 0)
    assert [row["exam_id"] for row in run.table("exams")] == [study_uid(1)]
    assert run.record["exams"]["total"] == 1
    assert run.record["instances"]["total"] == 2
    assert study_uid(2) not in (tmp_path / "out" / "worklist.csv").read_text()
    assert [row["score"] for row in run.table("exams")] == [row["score"] for row in alone.table("exams")]
    with ResultStore(tmp_path / "out" / "priors" / STORE_NAME) as store:
        (prior,) = store.results()
    assert prior.exam_id == study_uid(2)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('class="view prior"') == 2
    change = float(run.table("exams")[0]["score"]) - (prior.score or 0)
    assert f"{change:+.4f}" in page
    assert "2022-01-20" in page
    assert "2021-01-15" not in page
    assert "the score of the present exam does not use earlier ones" in page
    assert 'class="view prior"' not in (tmp_path / "alone" / "report.html").read_text()
    told = run.stdout + run.stderr + page + str(list((tmp_path / "out").rglob("*")))
    assert not [word for word in (WOMAN, NAME, BIRTH_DATE) if word in told]


def test_pacs_that_goes_down_before_the_priors_costs_only_these_and_the_report_says_so(
    tmp_path: Path, score_cli: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.sources.fetch.time", SimpleNamespace(sleep=lambda _: None))
    with web_archive() as archive:
        archive.files = files_of(exam(tmp_path / "in", 1, NOW))
        archive.faults["search"] = [_finds(archive), _finds(archive), says(503), says(503), says(503)]
        run = score_cli(
            f"{archive.url}?date={NOW}", tmp_path / "out", "--workers", "0", "--site", str(site(tmp_path, priors=RULES))
        )
    assert run.code == 0
    assert [row["status"] for row in run.table("exams")] == ["scored"]
    assert "earlier exams are missing:" in (tmp_path / "out" / "report.html").read_text()
    assert archive.requests.count("search") == 5


def _finds(archive: WebArchive) -> Any:
    def answer(handler: Any) -> None:
        found = archive.found(parse_qs(urlsplit(handler.path).query))
        reply(handler, 200, json.dumps(found).encode(), "application/dicom+json")

    return answer


# While listening


@pytest.mark.parametrize(("down", "shown"), [(1, True), (9, False)])
def test_priors_hold_up_no_result_and_are_sought_again_when_the_pacs_is_back(
    tmp_path: Path,
    bundle: Bundle,
    profile: SiteProfile,
    monkeypatch: pytest.MonkeyPatch,
    down: int,
    shown: bool,
) -> None:
    from screening.batch import arrivals
    from screening.batch.arrivals import ArrivalScorer, Setting

    monkeypatch.setattr(arrivals, "_PRIORS", BackOff(first_s=0.0, longest_s=0.0, most=3))
    archive = Archive(exam(tmp_path / "old", 2, TWO_YEARS_AGO), down)
    out, stop = tmp_path / "out", threading.Event()
    with Inbox(out, profile) as inbox, Outbox(out / "outbox.sqlite") as outbox:
        for file in exam(tmp_path / "in", 1, NOW):
            inbox.add(file.read_bytes(), file.name)
        setting = Setting(profile, bundle, out, 2, False, pacs=archive)
        scored: list[int] = []
        always = Completeness(profile.arrivals, None, clock=lambda: 1e12)
        scorer = ArrivalScorer(setting, inbox, outbox, always, lambda: scored.append(len(archive.asked)))
        steps = 0
        while scorer.step(stop):
            steps += 1
            assert steps < 10
        assert scored == [0]  # the result was queued before the PACS was asked
        assert inbox.without_priors() == ()
    assert len(archive.asked) == (2 if shown else 3)
    page = (out / "report.html").read_text()
    assert ("Earlier exam: score, change" in page) == shown
    assert "earlier exams are missing: the PACS is down" in page
    with ResultStore(out / STORE_NAME) as store:
        assert [one.exam_id for one in store.results()] == [study_uid(1)]
