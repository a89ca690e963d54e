"""Exams from a PACS by DICOMweb: from Orthanc as from a folder, and from a service that fails in every way."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.delivery.outbox import BackOff
from screening.errors import ConfigError, ScreeningError, StoreError
from screening.result import Status
from screening.site import DeliveryRules, Destination, SiteProfile, load_site
from screening.sources.fetch import Fetched
from screening.sources.multipart import BrokenOffError, Multipart
from screening.sources.pacs import fetch_source, is_pacs, pacs_address, rejections
from tests.support.archives import (
    WebArchive,
    files_of,
    half,
    half_of_what_was_announced,
    multipart,
    says,
    silence,
    trickle,
    web_archive,
)
from tests.support.command import Run, Score
from tests.support.dicom import write_dicom
from tests.support.exams import BIRTH_DATE, NAME, WOMAN, drawn, instance, study_uid, write_exam
from tests.support.orthanc import Orthanc, free_port, needs_orthanc

PATIENCE = BackOff(first_s=0.01, longest_s=0.02, most=3)
DAY = "20240131"
ONE, TWO, THREE, FOUR = (study_uid(number) for number in (1, 2, 3, 4))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[WebArchive]:
    """A service with two studies of two small images."""
    with web_archive() as running:
        running.files = small_studies(tmp_path / "archive", 2)
        yield running


def small_studies(folder: Path, count: int) -> dict[str, list[bytes]]:
    """Studies 1, 2, … of two images that are not to be scored."""
    pixels = drawn("L", "CC", 1)[::20, ::20]
    made = [instance(study, number, "L", "CC", pixels) for study in range(1, count + 1) for number in (1, 2)]
    return files_of([write_dicom(folder / f"{one.SOPInstanceUID}.dcm", one) for one in made])


def fetch(url: str, out: Path, keep: bool = False, profile: SiteProfile | None = None) -> Fetched:
    return fetch_source(f"{url}?date={DAY}", profile or load_site(), out, keep, patience=PATIENCE)[0]


def spooled(out: Path) -> dict[str, bytes]:
    """What is in the spool, by "STUDY/INSTANCE"; nothing may be left in the folder for what comes in."""
    assert not (out / "incoming").exists()
    files = [path for path in (out / "spool").rglob("*") if path.is_file()]
    assert all(path.suffix == ".dcm" for path in files)
    return {f"{path.parent.name}/{path.stem}": path.read_bytes() for path in files}


def expected(archive: WebArchive, *studies: str) -> dict[str, bytes]:
    return {f"{uid}/{uid}.{n}": file for uid in studies for n, file in enumerate(archive.files[uid], start=1)}


def reasons(fetched: Fetched) -> dict[str, str]:
    assert fetched.found == fetched.fetched + len(fetched.failures)
    return {one.uid: one.sentence for one in fetched.failures}


# Orthanc


@needs_orthanc
def test_night_from_orthanc_gives_the_results_of_the_folder_and_names_nobody(
    tmp_path: Path,
    orthanc: Orthanc,
    score_cli: Score,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spot = {("L", "CC"): (110.0, 180.0), ("L", "MLO"): (110.0, 180.0)}
    files = [*write_exam(tmp_path / "night", 1, spots=spot), *write_exam(tmp_path / "night", 2)]
    pixels = drawn("L", "CC", 1)
    others = {"another-day": {"StudyDate": "20240201"}, "no-mammogram": {"Modality": "US"}}
    for study, (name, header) in enumerate(others.items(), start=3):
        files.append(write_dicom(tmp_path / name, instance(study, 1, "L", "CC", pixels, **header)))
    orthanc.store(files)
    monkeypatch.setenv("SCREENING_PACS_USER", orthanc.user)
    monkeypatch.setenv("SCREENING_PACS_PASSWORD", orthanc.password)

    with caplog.at_level(logging.INFO):
        from_pacs = score_cli(f"{orthanc.dicomweb}?date=20240130-{DAY}", tmp_path / "pacs")
    from_folder = score_cli(tmp_path / "night", tmp_path / "folder")

    assert (from_pacs.code, from_folder.code) == (0, 0)
    for table in ("exams", "images", "regions"):
        assert from_pacs.table(table) == from_folder.table(table) != []
    assert from_pacs.record["config"]["fetched"] == {"found": 2, "fetched": 2, "failed": 0}
    assert "2 studies found, 2 fetched, 0 failed" in caplog.text
    told = from_pacs.stdout + from_pacs.stderr + caplog.text + str(list((tmp_path / "pacs").rglob("*")))
    assert not [word for word in (WOMAN, NAME, BIRTH_DATE, orthanc.password) if word in told]


# Faults


def test_instances_come_as_the_bytes_that_the_pacs_has(tmp_path: Path, archive: WebArchive) -> None:
    assert fetch(archive.url, tmp_path / "out") == Fetched(2, 2, ())
    assert spooled(tmp_path / "out") == expected(archive, ONE, TWO)


def test_pacs_that_is_down_is_one_sentence_and_earlier_studies_stay(tmp_path: Path, archive: WebArchive) -> None:
    fetch(archive.url, tmp_path / "out")
    with pytest.raises(ScreeningError, match=r"cannot be reached, .* asked 3 times"):
        fetch(f"http://127.0.0.1:{free_port()}/dicom-web", tmp_path / "out")
    assert spooled(tmp_path / "out") == expected(archive, ONE, TWO)


def test_what_may_pass_is_tried_again(tmp_path: Path, archive: WebArchive) -> None:
    archive.faults = {"search": [says(500), says(503)], ONE: [says(500), half], TWO: [half_of_what_was_announced]}
    assert fetch(archive.url, tmp_path / "out") == Fetched(2, 2, ())
    assert archive.requests == ["search"] * 4 + [ONE] * 3 + [TWO] * 2  # the last page of the search is empty
    assert spooled(tmp_path / "out") == expected(archive, ONE, TWO)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (says(401), "refuses our credentials"),
        (says(403), "refuses our credentials"),
        (says(404), "no QIDO-RS service"),
        (says(302), "no QIDO-RS service"),
        (says(200, b"<html>log in</html>", "text/html"), "does not answer in DICOM JSON"),
        (says(200, b"[" * 100_000), "does not answer in DICOM JSON"),
        (says(200, b"{}"), "does not answer with a list"),
    ],
)
def test_refusal_is_one_sentence_after_one_request(
    tmp_path: Path, archive: WebArchive, answer: Any, sentence: str
) -> None:
    archive.faults = {"search": [answer]}
    with pytest.raises(ScreeningError, match=sentence):
        fetch(archive.url, tmp_path / "out")
    assert archive.requests == ["search"]


def test_refusal_in_the_middle_ends_the_requests_and_fails_what_is_left(tmp_path: Path, archive: WebArchive) -> None:
    archive.files |= small_studies(tmp_path / "more", 4)
    archive.faults = {TWO: [says(401)]}
    failed = reasons(fetch(archive.url, tmp_path / "out"))
    assert failed.keys() == {TWO, THREE, FOUR}
    assert all("refuses our credentials" in sentence for sentence in failed.values())
    assert archive.requests[-2:] == [ONE, TWO]
    assert spooled(tmp_path / "out") == expected(archive, ONE)


def test_study_that_never_comes_whole_fails_with_its_reason_and_the_others_come(
    tmp_path: Path, archive: WebArchive
) -> None:
    archive.files |= small_studies(tmp_path / "more", 4)
    archive.counts = {ONE: 3}
    archive.faults = {TWO: [half] * 3, THREE: [says(404)] * 3}
    failed = reasons(fetch(archive.url, tmp_path / "out"))
    assert failed == {
        ONE: "2 of 3 instances came",
        TWO: f"{archive.url} cut the connection half-way",
        THREE: "the PACS does not send it (HTTP 404)",
    }
    assert spooled(tmp_path / "out") == expected(archive, FOUR)


def test_pacs_that_goes_down_in_the_middle_is_not_asked_for_each_study_that_is_left(
    tmp_path: Path, archive: WebArchive
) -> None:
    archive.files = small_studies(tmp_path / "more", 9)
    archive.faults = {uid: [says(503)] * 3 for uid in archive.files}
    fetched = fetch(archive.url, tmp_path / "out")
    assert (fetched.found, fetched.fetched, len(reasons(fetched))) == (9, 0, 9)
    assert len(archive.requests) == 2 + 3 * 3


def test_hostile_uids_name_no_file_and_fail_their_study_alone(tmp_path: Path, archive: WebArchive) -> None:
    hostile = ["../../evil", "/tmp/evil", "..", ".", "", "1..2", "1.2\x00", "1" * 65, "2" * 100_000]
    archive.files |= {uid: [file_with(tmp_path)] for uid in hostile}
    archive.files[THREE] = [file_with(tmp_path, SOPInstanceUID="../../../evil")]
    archive.files[FOUR] = [file_with(tmp_path, StudyInstanceUID="../evil")]
    archive.files["1.2.3"] = [b"x" * 1000]
    archive.files["1.2.4"] = []
    before = {path for path in tmp_path.rglob("*") if "evil" in path.name}
    fetched = fetch(archive.url, tmp_path / "out")
    failed = reasons(fetched)
    assert failed == {
        "": "the PACS gives no valid Study Instance UID",
        THREE: "an instance has no valid SOP Instance UID",
        FOUR: "the PACS sent an instance of another study",
        "1.2.3": "an instance cannot be read: is not a DICOM file",
        "1.2.4": "no instance came",
    }
    assert len(fetched.failures) == len(hostile) + 4
    assert set(archive.requests) == {"search", ONE, TWO, THREE, FOUR, "1.2.3", "1.2.4"}
    assert spooled(tmp_path / "out") == expected(archive, ONE, TWO)
    assert {path for path in tmp_path.rglob("*") if "evil" in path.name} == before


def file_with(folder: Path, **header: Any) -> bytes:
    """A DICOM file of study 4 whose header says what is asked for, valid or not."""
    dataset = instance(4, 1, "L", "CC", drawn("L", "CC", 1)[::20, ::20], **header)
    if "StudyInstanceUID" not in header:
        dataset.StudyInstanceUID = THREE
    path = write_dicom(folder / "made.dcm", dataset)
    return path.read_bytes()


def test_answer_without_end_is_cut_short(tmp_path: Path, archive: WebArchive) -> None:
    huge = json.dumps([{"0020000D": {"Value": ["1" * 5_000_000]}}]).encode()
    archive.faults = {"search": [says(200, huge)] * 3}
    with pytest.raises(ScreeningError, match="answers without an end") as caught:
        fetch(archive.url, tmp_path / "out")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("fault", "sentence"), [(trickle, "sends too slowly"), (silence, "did not answer within 0.3 s")]
)
def test_service_that_is_too_slow_holds_up_nobody(
    tmp_path: Path, archive: WebArchive, fault: Any, sentence: str
) -> None:
    archive.faults = {ONE: [fault] * 3}
    pacs = Destination(name="pacs", url=archive.url, timeout_s=0.3)
    profile = load_site().model_copy(update={"delivery": DeliveryRules(shadow=(pacs,))})
    assert reasons(fetch(archive.url, tmp_path / "out", profile=profile)) == {ONE: f"pacs {sentence}"}
    assert spooled(tmp_path / "out") == expected(archive, TWO)


@pytest.mark.parametrize("pages", [True, False])
def test_search_goes_on_until_nothing_new_comes(tmp_path: Path, archive: WebArchive, pages: bool) -> None:
    """Whether the service gives fewer studies than asked for, or does not know pages and gives all of them again."""
    archive.files = small_studies(tmp_path / "more", 5)
    archive.page, archive.pages = (2 if pages else 100), pages
    assert fetch(archive.url, tmp_path / "out") == Fetched(5, 5, ())
    assert len(archive.requests) == 5 + (4 if pages else 2)


def test_full_disk_ends_the_run_with_one_sentence(
    tmp_path: Path, archive: WebArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("screening.sources.spool.os.replace", full)
    with pytest.raises(StoreError, match="disk is full"):
        fetch(archive.url, tmp_path / "out")
    assert archive.requests[-1] == ONE


# The batch


def test_study_that_was_not_fetched_fails_the_batch_until_resume_fetches_it(
    tmp_path: Path, archive: WebArchive, score_cli: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.sources.fetch.time.sleep", lambda _: None)
    archive.files = files_of([*write_exam(tmp_path / "a", 1, views=(("L", "CC"),)), *write_exam(tmp_path / "a", 2)])
    archive.faults = {TWO: [half] * 3}

    run: Any = partial(score_cli, f"{archive.url}?date={DAY}", tmp_path / "out")
    first: Run = run()
    assert first.code == 1
    assert first.record["config"]["fetched"] == {"found": 2, "fetched": 1, "failed": 1}
    assert [row["exam_id"] for row in first.table("exams")] == [ONE]
    (row,) = [row for row in first.table("images") if row["status"] == Status.FAILED]
    assert row["exam_id"] == TWO
    assert "not-fetched" in row["reason"]

    archive.requests.clear()
    second: Run = run("--resume")
    assert second.code == 0
    assert archive.requests == ["search", "search", TWO]
    assert [row["exam_id"] for row in second.table("exams")] == [ONE, TWO]


def test_failed_studies_have_their_exam_only_where_that_is_the_study(tmp_path: Path, archive: WebArchive) -> None:
    archive.counts = {ONE: 3}
    fetched = fetch(archive.url, tmp_path / "out")
    profile = load_site()
    other = profile.model_copy(update={"exam": profile.woman})
    assert [one.exam_id for one in rejections(fetched.failures, profile)] == [ONE]
    assert [one.exam_id for one in rejections(fetched.failures, other)] == [""]


# The address


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("https://pacs/dicom-web", "say which days"),
        ("https://pacs/dicom-web?date=2024-01-31", "say which days"),
        ("https://pacs/dicom-web?date=20240230", "say which days"),
        ("https://pacs/dicom-web?date=20240131-", "say which days"),
        ("https://pacs/dicom-web?date=٢٠٢٤٠١٣١", "say which days"),
        ("https://pacs/dicom-web?date=20240131-20240130", "first day .* after the last"),
        ("https://pacs/dicom-web?date=20240131&patient=1", "'patient' is nothing to ask"),
        ("https://pacs/dicom-web?date=20240131&move_to=US:104", "move_to is for dicom"),
        ("https://user:secret@pacs/dicom-web?date=20240131", "credentials do not belong into a URL"),
        ("dicom://PACS@pacs?date=20240131&move_to=US:0", "our AE title"),
        ("dicom://PACS@pacs?date=20240131&move_to=THIS_TITLE_IS_TOO_LONG:104", "our AE title"),
        ("dicom://pacs?date=20240131", "AE_TITLE@HOST"),
    ],
)
def test_malformed_address_is_one_sentence(source: str, sentence: str) -> None:
    assert is_pacs(source)
    with pytest.raises(ConfigError, match=sentence) as caught:
        pacs_address(source, DeliveryRules())
    assert str(caught.value).startswith("SOURCE: ")
    assert "secret" not in str(caught.value)


def test_destination_of_the_profile_is_asked_with_its_settings_though_it_is_live() -> None:
    pacs = Destination(name="pacs", url="https://pacs/dicom-web", token_env="T", ca_file="ca.pem")
    address = pacs_address(f"https://pacs/dicom-web?date={DAY}", DeliveryRules(live=(pacs,)))
    assert (address.destination, address.dates) == (pacs, f"{DAY}-{DAY}")


@pytest.mark.parametrize("folder", ["night", "/data/night", "C:night", "https", "dicom:/x"])
def test_folder_is_no_address(folder: str) -> None:
    assert not is_pacs(folder)


# Multipart


@given(st.lists(st.binary(max_size=60)), st.data())
def test_parts_are_the_same_however_the_body_is_cut_into_chunks(parts: list[bytes], data: st.DataObject) -> None:
    parts = [part.replace(b"--mark", b"") for part in parts]
    body = multipart(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)))))
    chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert [b"".join(part) for part in Multipart(chunks, "mark")] == parts
    short = data.draw(st.integers(0, len(body) - len(b"--\r\n") - 1))
    with pytest.raises(BrokenOffError):
        _ = [b"".join(part) for part in Multipart([body[:short]], "mark")]
