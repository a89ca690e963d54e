"""Exams from a PACS by DIMSE: from Orthanc as from a folder, and from a peer that fails in every way."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread, uid

from screening.delivery.outbox import BackOff
from screening.errors import ConfigError, ScreeningError
from screening.site import DeliveryRules, Destination, load_site
from screening.sources.dimse import storage_contexts
from screening.sources.fetch import Fetched
from screening.sources.pacs import fetch_source
from tests.support.archives import DimseArchive, dimse_archive, files_of
from tests.support.command import Score
from tests.support.dicom import write_dicom
from tests.support.exams import BIRTH_DATE, NAME, WOMAN, drawn, image_uid, instance, study_uid, write_exam
from tests.support.orthanc import Orthanc, free_port, needs_orthanc

PATIENCE = BackOff(first_s=0.01, longest_s=0.02, most=3)
DAY = "20240131"
ONE, TWO, THREE, FOUR = (study_uid(number) for number in (1, 2, 3, 4))
PIXELS = drawn("L", "CC", 1)[::20, ::20]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[DimseArchive]:
    """A peer with three studies of two small images."""
    with dimse_archive(free_port()) as running:
        running.files = small_studies(tmp_path)
        yield running


def small_studies(folder: Path) -> dict[str, list[bytes]]:
    """Studies 1 to 3 of two images that are not to be scored."""
    made = [instance(study, number, "L", "CC", PIXELS) for study in (1, 2, 3) for number in (1, 2)]
    return files_of([write_dicom(folder / "archive" / f"{one.SOPInstanceUID}.dcm", one) for one in made])


def fetch(url: str, out: Path, more: str = "", timeout_s: float = 30.0) -> Fetched:
    rules = DeliveryRules(shadow=(Destination(name="pacs", url=url, timeout_s=timeout_s),))
    profile = load_site().model_copy(update={"delivery": rules})
    return fetch_source(f"{url}?date={DAY}{more}", profile, out, keep=False, patience=PATIENCE)[0]


def spooled(out: Path) -> list[str]:
    """UIDs of what is in the spool, all of it readable; nothing may be left in the folder for what comes in."""
    assert not (out / "incoming").exists()
    files = sorted(path for path in (out / "spool").rglob("*") if path.is_file())
    datasets = [dcmread(path) for path in files]
    assert [f"{one.StudyInstanceUID}/{one.SOPInstanceUID}.dcm" for one in datasets] == [
        f"{path.parent.name}/{path.name}" for path in files
    ]
    return [str(one.SOPInstanceUID) for one in datasets]


def images(*studies: int) -> list[str]:
    return [image_uid(study, number) for study in studies for number in (1, 2)]


def reasons(fetched: Fetched) -> dict[str, str]:
    assert fetched.found == fetched.fetched + len(fetched.failures)
    return {one.uid: one.sentence for one in fetched.failures}


# Orthanc


@needs_orthanc
@pytest.mark.parametrize("service", ["C-GET", "C-MOVE"])
def test_night_from_orthanc_gives_the_results_of_the_folder_and_names_nobody(
    tmp_path: Path,
    orthanc: Orthanc,
    commitment_port: int,
    score_cli: Score,
    caplog: pytest.LogCaptureFixture,
    service: str,
) -> None:
    spot = {("L", "CC"): (110.0, 180.0), ("L", "MLO"): (110.0, 180.0)}
    files = [
        *write_exam(tmp_path / "night", 1, spots=spot),
        *write_exam(tmp_path / "night", 2, syntax=uid.JPEGLosslessSV1),
    ]
    others = {"another-day": {"StudyDate": "20240201"}, "no-mammogram": {"Modality": "US"}}
    for study, (name, header) in enumerate(others.items(), start=3):
        files.append(write_dicom(tmp_path / name, instance(study, 1, "L", "CC", PIXELS, **header)))
    orthanc.store(files)

    move = f"&move_to=SCREENING:{commitment_port}" if service == "C-MOVE" else ""
    with caplog.at_level(logging.INFO):
        from_pacs = score_cli(f"{orthanc.dimse}?date=20240130-{DAY}{move}", tmp_path / "pacs")
    from_folder = score_cli(tmp_path / "night", tmp_path / "folder")

    assert (from_pacs.code, from_folder.code) == (0, 0)
    for table in ("exams", "images", "regions"):
        assert from_pacs.table(table) == from_folder.table(table) != []
    assert from_pacs.record["config"]["fetched"] == {"found": 2, "fetched": 2, "failed": 0}
    compressed = [dcmread(path) for path in (tmp_path / "pacs" / "spool" / TWO).iterdir()]
    assert {str(one.file_meta.TransferSyntaxUID) for one in compressed} == {uid.JPEGLosslessSV1}
    told = from_pacs.stdout + from_pacs.stderr + caplog.text + str(list((tmp_path / "pacs").rglob("*")))
    assert not [word for word in (WOMAN, NAME, BIRTH_DATE) if word in told]


# Faults


def test_complete_studies_are_in_the_spool(tmp_path: Path, archive: DimseArchive) -> None:
    assert fetch(archive.url, tmp_path / "out") == Fetched(3, 3, ())
    assert spooled(tmp_path / "out") == images(1, 2, 3)


def test_peer_that_is_down_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ScreeningError, match="cannot be reached by DIMSE, or is busy; it was asked 3 times"):
        fetch(f"dicom://PACS@127.0.0.1:{free_port()}", tmp_path / "out")


def test_wrong_credentials_are_one_sentence_after_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCREENING_PACS_USER", "reader")
    monkeypatch.setenv("SCREENING_PACS_PASSWORD", "wr0ng-passw0rd")
    with dimse_archive(free_port(), asks_for_user=True) as archive:
        with pytest.raises(ScreeningError, match="check the credentials") as caught:
            fetch_source(f"{archive.url}?date={DAY}", load_site(), tmp_path / "out", keep=False, patience=PATIENCE)
        assert archive.requests == ["user"]
    assert "wr0ng" not in str(caught.value)


def test_wrong_ae_title_is_one_sentence(tmp_path: Path, archive: DimseArchive) -> None:
    with pytest.raises(ScreeningError, match="check the credentials and the AE titles"):
        fetch(archive.url.replace("PACS", "OTHER"), tmp_path / "out")
    assert archive.requests == []


@pytest.mark.parametrize(("status", "sentence", "times"), [(0xA700, "no resources", 3), (0xA900, "refuses", 1)])
def test_search_that_fails_is_one_sentence(
    tmp_path: Path, archive: DimseArchive, status: int, sentence: str, times: int
) -> None:
    archive.find_status = status
    with pytest.raises(ScreeningError, match=sentence):
        fetch(archive.url, tmp_path / "out")
    assert archive.requests == ["search"] * times


def test_peer_without_c_get_is_told_how_to_go_on(tmp_path: Path) -> None:
    with dimse_archive(free_port(), offers_get=False) as archive:
        archive.files = small_studies(tmp_path)
        failed = reasons(fetch(archive.url, tmp_path / "out"))
        assert failed.keys() == {ONE, TWO, THREE}
        assert set(failed.values()) == {"pacs does not offer C-GET; use C-MOVE, with move_to=AE_TITLE:PORT"}
        assert archive.requests == ["search"]


def test_association_that_is_cut_half_way_is_tried_again(tmp_path: Path, archive: DimseArchive) -> None:
    archive.cuts = 2
    assert fetch(archive.url, tmp_path / "out", timeout_s=3.0) == Fetched(3, 3, ())
    assert archive.requests == ["search", ONE, ONE, ONE, TWO, THREE]
    assert spooled(tmp_path / "out") == images(1, 2, 3)


def test_study_that_never_comes_whole_fails_with_its_reason_and_the_others_come(
    tmp_path: Path, archive: DimseArchive
) -> None:
    archive.counts = {ONE: 3}
    unknown = instance(2, 3, "L", "CC", PIXELS, SOPClassUID=uid.PositronEmissionTomographyImageStorage)
    archive.files[TWO].append(write_dicom(tmp_path / "unknown.dcm", unknown).read_bytes())
    failed = reasons(fetch(archive.url, tmp_path / "out"))
    assert failed == {
        ONE: "2 of 3 instances came",
        TWO: "the PACS could not send 1 of its instances (status 0xB000)",
    }
    assert spooled(tmp_path / "out") == images(3)


def test_status_of_a_retrieval_that_fails_is_told(tmp_path: Path, archive: DimseArchive) -> None:
    archive.get_status = 0xA900
    failed = reasons(fetch(archive.url, tmp_path / "out"))
    assert set(failed.values()) == {"the PACS does not send it (status 0xA900)"}


def test_hostile_uids_name_no_file_and_fail_their_study_alone(tmp_path: Path, archive: DimseArchive) -> None:
    hostile = ["../../evil", "/tmp/evil", "..", "1..2", "1" * 65, "2" * 10_000]
    archive.files |= {one: [] for one in hostile}
    for study, header in ((3, {"SOPInstanceUID": "../../../evil"}), (4, {"StudyInstanceUID": "../evil"})):
        file = write_dicom(tmp_path / "made.dcm", instance(study, 1, "L", "CC", PIXELS, **header))
        archive.files[study_uid(study)] = [file.read_bytes()]
    fetched = fetch(archive.url, tmp_path / "out")
    assert reasons(fetched) == {
        "": "the PACS gives no valid Study Instance UID",
        THREE: "an instance has no valid SOP Instance UID",
        FOUR: "the PACS sent an instance of another study",
    }
    assert len(fetched.failures) == len(hostile) + 2
    assert spooled(tmp_path / "out") == images(1, 2)
    assert not list(tmp_path.rglob("*evil*"))


def test_move_destination_that_the_peer_does_not_know_is_named_after_one_request(
    tmp_path: Path, archive: DimseArchive
) -> None:
    failed = reasons(fetch(archive.url, tmp_path / "out", f"&move_to=STRANGER:{free_port()}"))
    assert failed.keys() == {ONE, TWO, THREE}
    assert set(failed.values()) == {"pacs does not know the AE title of move_to; enter it in the PACS"}
    assert archive.requests == ["search", "move"]


def test_port_that_is_taken_is_named(tmp_path: Path, archive: DimseArchive) -> None:
    with pytest.raises(ConfigError, match=f"port {archive.port} of move_to cannot be listened on"):
        fetch(archive.url, tmp_path / "out", f"&move_to=SCREENING:{archive.port}")


def test_contexts_fit_into_one_association_and_have_what_the_site_scores() -> None:
    scored = [uid.CTImageStorage, uid.DigitalMammographyXRayImageStorageForPresentation]
    contexts = storage_contexts(scored)
    assert len(contexts) <= 127
    assert {str(one) for one in scored} <= {abstract for abstract, _ in contexts}
    assert len(set(contexts)) == len(contexts)


def test_conformance_statement_has_the_sop_classes_that_are_asked_for() -> None:
    statement = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    section = statement.split("\n#### 3.6.1 ", 1)[1].split("\n#", 1)[0]
    models = {f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3)}
    asked = {abstract for abstract, _ in storage_contexts()}
    assert set(re.findall(r"1\.2\.840\.10008(?:\.\d+)+", section)) == models | asked
