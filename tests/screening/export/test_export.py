"""A whole export: what comes out, what does not, and that nobody can be told from it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from typer.testing import CliRunner

from screening.cli import app
from screening.errors import ConfigError
from screening.exam import ImageKind
from screening.export.instance import End, Source, Why, export_instance
from screening.export.key import KEY_VARIABLE
from screening.export.pseudonyms import Pseudonyms
from screening.export.run import Job, Summary, export
from tests.support.dicom import mammogram, write_dicom
from tests.support.exports import (
    COLUMNS,
    KEY,
    OTHER_KEY,
    PLANTED,
    ROUNDS,
    ROWS,
    needs_tesseract,
    study_uid,
    write_followup,
    write_results,
)
from tests.support.validators import dciodvfy, dcmdump, needs

pytestmark = needs_tesseract
OURS = Pseudonyms(KEY)


@dataclass(frozen=True)
class Exported:
    results: Path
    files: Path
    followup: Path
    out: Path
    summary: Summary

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.out / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def copies(self) -> list[Path]:
        return sorted((self.out / "dicom").rglob("*.dcm"))

    def copy_of(self, study: int, number: int) -> Dataset:
        wanted = OURS.uid(f"{study_uid(study)}.{number}")
        return next(dcmread(path) for path in self.copies() if path.stem == wanted)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("export")
    results = write_results(folder / "results", folder / "files")
    followup = write_followup(folder / "followup")
    summary = export(Job(results, folder / "out", followup), OURS)
    return Exported(results, folder / "files", followup, folder / "out", summary)


def test_every_instance_ends_exported_held_back_or_failed_and_the_counts_add_up(exported: Exported) -> None:
    assert exported.summary.ends == {End.EXPORTED: 12, End.HELD_BACK: 3, End.FAILED: 0}
    manifest = exported.table("manifest.csv")
    record = json.loads((exported.out / "export.json").read_text())
    assert len(manifest) == exported.summary.total == record["instances"]["total"] == 15
    assert [row["status"] for row in manifest].count("exported") == record["instances"]["exported"]
    for row in manifest:
        if row["status"] == "exported":
            content = (exported.out / row["file"]).read_bytes()
            assert (row["sha256"], int(row["bytes"])) == (hashlib.sha256(content).hexdigest(), len(content))
    listed = {exported.out / row["file"] for row in manifest if row["file"]}
    assert listed == set(exported.copies())


def test_suspect_images_are_held_back_with_reason_and_listed_by_their_original_ids_at_home_only(
    exported: Exported,
) -> None:
    assert exported.summary.reasons == {
        (End.HELD_BACK, Why.BURNED_IN_STATED): 1,
        (End.HELD_BACK, Why.NOT_AN_IMAGE): 1,
        (End.HELD_BACK, Why.TEXT_IN_PIXELS): 1,
    }
    with exported.summary.held_back.open(newline="") as file:
        listed = {row["image_id"]: row["reason"] for row in csv.DictReader(file)}
    assert listed[f"{study_uid(1)}.5"] == "text-in-pixels"
    assert listed[f"{study_uid(1)}.6"] == "burned-in-annotation-stated"
    assert exported.summary.held_back.is_relative_to(exported.results)


@needs("dcmdump")
def test_no_planted_identifier_is_left_in_names_bytes_or_headers_as_another_program_reads_them(
    exported: Exported,
) -> None:
    words = [word.lower() for word in PLANTED] + ["beispiel", "berta", "1.2.826.0.1.3680043.10.1", "b-2"]
    words += [KEY.decode()] + [one.day.strftime(form) for one in ROUNDS for form in ("%Y%m%d", "%Y-%m-%d")]
    paths = [path for path in exported.out.rglob("*")]
    assert len(paths) > 20
    for path in paths:
        texts = [path.relative_to(exported.out).as_posix().lower()]
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1").lower())
        if path.suffix == ".dcm":
            texts.append(dcmdump(path).lower())
        assert [(word, path.name) for word in words for text in texts if word in text] == []


def test_identifiers_are_planted_indeed(exported: Exported) -> None:
    original = b"".join(path.read_bytes() for path in exported.files.rglob("*.dcm")).decode("latin-1").lower()
    assert [word for word in PLANTED if word.lower() not in original and "-12-" not in word] == []


@needs("dciodvfy")
def test_a_copy_is_as_valid_as_its_original(exported: Exported) -> None:
    originals = {str(OURS.uid(path.stem)): path for path in exported.files.rglob("*.dcm")}
    for path in exported.copies():
        before = set(dciodvfy(originals[path.stem]))
        assert set(dciodvfy(path)) <= before


def test_pixels_and_what_a_model_needs_are_kept(exported: Exported) -> None:
    copy = exported.copy_of(1, 3)
    np.testing.assert_array_equal(copy.pixel_array, np.full((ROWS, COLUMNS), 3, np.uint16))
    original = dcmread(exported.files / "Musterfrau" / f"{study_uid(1)}.3.dcm")
    for keyword in (
        "Rows",
        "ImagerPixelSpacing",
        "ImageLaterality",
        "ViewPosition",
        "PatientOrientation",
        "Manufacturer",
    ):
        assert copy[keyword].value == original[keyword].value
    assert copy.ViewCodeSequence[0].CodeMeaning == original.ViewCodeSequence[0].CodeMeaning
    assert copy.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109101"


def test_what_was_done_is_stated_as_the_standard_asks(exported: Exported) -> None:
    copy = exported.copy_of(2, 1)
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.LongitudinalTemporalInformationModified == "MODIFIED"
    assert copy.BurnedInAnnotation == "NO"
    stated = {item.CodeValue: item.CodeMeaning for item in copy.DeidentificationMethodCodeSequence}
    assert set(stated) == {"113100", "113101", "113107", "113108"}
    methods = [getattr(codes.CID7050, name) for name in dir(codes.CID7050) if name[0].isupper()]
    known = {code.value: code.meaning for code in methods}
    assert stated == {value: known[value] for value in stated}


def test_a_woman_has_one_pseudonym_and_one_shift_over_her_rounds_and_tables(exported: Exported) -> None:
    first, second = exported.copy_of(1, 1), exported.copy_of(2, 1)
    assert first.PatientID == second.PatientID == OURS.woman("NHS-4711-0815")
    days = [date.fromisoformat(f"{one[:4]}-{one[4:6]}-{one[6:]}") for one in (first.StudyDate, second.StudyDate)]
    assert days[1] - days[0] == ROUNDS[1].day - ROUNDS[0].day
    assert first.AcquisitionDateTime == first.StudyDate + "100000"
    assert first.StudyTime == "100000"
    for name in ("exams.csv", "followup/exams.csv"):
        rows = {row["exam_id"]: row for row in exported.table(name)}
        assert rows[first.StudyInstanceUID]["exam_date"] == days[0].isoformat()
        assert rows[first.StudyInstanceUID]["woman_id"] == first.PatientID
    diagnosis, biopsy = exported.table("followup/diagnoses.csv")[0], exported.table("followup/biopsies.csv")[0]
    assert date.fromisoformat(diagnosis["diagnosis_date"]) - days[1] == timedelta(days=34)
    assert date.fromisoformat(biopsy["biopsy_date"]) - days[1] == timedelta(days=25)


def test_ages_are_kept_and_those_over_89_become_one_group(exported: Exported) -> None:
    assert exported.copy_of(1, 1).PatientAge == "058Y"  # from birth date and study date
    assert exported.copy_of(3, 1).PatientAge == "090Y"
    assert [row["age"] for row in exported.table("followup/exams.csv")] == ["58", "60", "90"]
    assert exported.copy_of(1, 1).get("PatientBirthDate", "") == ""


def test_references_between_images_point_to_what_the_tables_and_other_copies_say(exported: Exported) -> None:
    copy = exported.copy_of(2, 1)
    reference = copy.SourceImageSequence[0].ReferencedSOPInstanceUID
    assert reference == OURS.uid(f"{study_uid(2)}.900")
    lesion = exported.table("followup/lesions.csv")[0]
    assert (lesion["exam_id"], lesion["image_id"]) == (copy.StudyInstanceUID, copy.SOPInstanceUID)
    regions = exported.table("regions.csv")
    assert {row["top_region_id"] for row in exported.table("exams.csv")} <= {row["region_id"] for row in regions}
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID


def test_another_key_makes_an_export_that_cannot_be_linked_to_this_one(exported: Exported, tmp_path: Path) -> None:
    other = tmp_path / "other"
    export(Job(exported.results, other, exported.followup, images=False), Pseudonyms(OTHER_KEY))
    theirs = "".join(path.read_text() for path in other.rglob("*.csv"))
    ours = [value for row in exported.table("exams.csv") for value in (row["woman_id"], row["exam_id"], row["site"])]
    assert [value for value in ours if value in theirs] == []
    with (other / "exams.csv").open(newline="") as file:
        dates = [row["exam_date"] for row in csv.DictReader(file)]
    assert set(dates).isdisjoint(row["exam_date"] for row in exported.table("exams.csv"))


def test_an_interrupted_export_is_no_result_and_the_same_command_ends_it_with_the_same_bytes(
    exported: Exported, tmp_path: Path
) -> None:
    class PowerCutError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise PowerCutError

    out = tmp_path / "out"
    with pytest.raises(PowerCutError):
        export(Job(exported.results, out, exported.followup), OURS, stop)
    assert not out.exists()
    unfinished = tmp_path / ".out.unfinished"
    before = {path: path.stat().st_mtime_ns for path in unfinished.rglob("*.dcm")}
    assert len(before) >= 5
    (unfinished / "dicom" / ".x.dcm.1.part").write_bytes(b"half")
    next(iter(before)).write_bytes(b"cut off")  # a copy that is not as it was written
    export(Job(exported.results, out, exported.followup), OURS)
    assert not unfinished.exists()
    assert contents(out) == contents(exported.out)
    kept = [path for path in before if (out / path.relative_to(unfinished)).stat().st_mtime_ns == before[path]]
    assert len(before) - 2 <= len(kept) < len(before)  # at most the one that was being written is written again


def test_another_key_does_not_go_on_with_an_unfinished_export(exported: Exported, tmp_path: Path) -> None:
    out, unfinished = tmp_path / "out", tmp_path / ".out.unfinished"
    shutil.copytree(exported.out, unfinished)
    shutil.copy(exported.out / "manifest.csv", unfinished / "journal.jsonl")
    export(Job(exported.results, out, images=False), OURS)
    assert {path.name for path in out.iterdir()} == {
        "exams.csv", "images.csv", "regions.csv", "manifest.csv", "export.json",
    }  # fmt: skip


def test_a_damaged_or_vanished_file_fails_alone(exported: Exported, tmp_path: Path) -> None:
    files, results = tmp_path / "files", tmp_path / "results"
    write_results(results, files)
    paths = sorted((files / "Musterfrau").glob(f"{study_uid(2)}.*.dcm"))
    paths[0].write_bytes(b"no DICOM at all")
    paths[1].unlink()
    shutil.copy(paths[3], paths[2])
    summary = export(Job(results, tmp_path / "out"), OURS)
    assert summary.ends == {End.EXPORTED: 9, End.HELD_BACK: 3, End.FAILED: 3}
    assert summary.reasons[End.FAILED, Why.UNREADABLE] == 2
    assert summary.reasons[End.FAILED, Why.OTHER_INSTANCE] == 1


def test_a_name_hidden_in_the_pixels_bytes_and_an_exam_of_nobody_are_not_exported(tmp_path: Path) -> None:
    hidden = np.frombuffer(b"Musterfrau".ljust(64), np.uint8).reshape(8, 8)
    path = write_dicom(tmp_path / "hidden.dcm", mammogram(hidden, PatientName="Musterfrau^E", BurnedInAnnotation="NO"))
    image_id = str(dcmread(path).SOPInstanceUID)
    named = Source(path, "1.2.3", "woman-1", image_id, ImageKind.FFDM)
    assert export_instance(named, tmp_path / "out", OURS).why is Why.IDENTIFIER_LEFT
    nobody = Source(path, "1.2.3", " ", image_id, ImageKind.FFDM)
    assert export_instance(nobody, tmp_path / "out", OURS).why is Why.UNKNOWN_WOMAN
    assert not (tmp_path / "out").exists()


def test_a_destination_that_is_in_use_or_within_the_results_is_refused(exported: Exported) -> None:
    with pytest.raises(ConfigError, match="there already"):
        export(Job(exported.results, exported.out), OURS)
    with pytest.raises(ConfigError, match="within the results"):
        export(Job(exported.results, exported.results / "dicom" / "out"), OURS)
    with pytest.raises(ConfigError, match="holds no results"):
        export(Job(exported.followup, exported.results.parent / "new"), OURS)


def test_the_command_says_what_it_did_and_never_whose_data_it_were(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["export", str(exported.results), "--pseudonymise", "--no-images", "--out"]
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    refused = CliRunner().invoke(app, [*arguments, str(tmp_path / "a")])
    assert refused.exit_code == 2
    assert KEY_VARIABLE in refused.stderr
    monkeypatch.setenv(KEY_VARIABLE, KEY.decode())
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "b"), "--followup", str(exported.followup)])
    assert done.exit_code == 0, done.output
    assert "personal data" in done.stdout
    assert "1 columns left out" in done.stdout
    shown = (done.stdout + done.stderr).lower()
    assert [word for word in PLANTED if word.lower() in shown] == []
    unasked = CliRunner().invoke(app, ["export", str(exported.results), "--out", str(tmp_path / "c")])
    assert (unasked.exit_code, (tmp_path / "c").exists()) == (2, False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_the_owner_may_read_the_export(exported: Exported) -> None:
    assert os.stat(exported.out).st_mode & 0o077 == 0
