"""A batch's audit log: everything that was asked of it stands there, and no woman's identity does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from screening.audit_log import ChainedLog, verify
from screening.audit_log.chained_log import log_files
from screening.audit_log.observer import KEY_ENV, exam_name
from screening.cli import app
from tests.support.command import Run, Score
from tests.support.exams import BIRTH_DATE, NAME, WOMAN, image_uid, study_uid, write_exam


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in log_files(folder) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory, score_cli: Score) -> Run:
    folder = tmp_path_factory.mktemp("audited")
    source = folder / f"{WOMAN} {NAME}"  # a path that names her
    for study in (1, 2):
        write_exam(source, study, spots={("R", "CC"): (150, 200)})
    (source / f"{NAME}.txt").write_text("no image")
    (source / "001" / "RCC.dcm").rename(source / "001" / f"{NAME}.dcm")
    broken = source / "002" / "LMLO.dcm"
    broken.write_bytes(broken.read_bytes()[:-1000])
    broken.rename(source / "002" / f"{NAME} {BIRTH_DATE}.dcm")
    return score_cli(source, folder / "out", "--workers", "0")


def test_a_batch_is_logged_from_its_begin_to_its_end(batch: Run) -> None:
    events = records(batch.out / "audit-log")
    assert [one["event"] for one in events] == ["batch-started", "exam", "exam", "batch-finished"]
    assert events[0]["exams"] == 2
    assert events[0]["operating_points"] == {"recall": 0.2}
    assert events[-1]["exams"]["total"] == 2
    assert events[-1]["instances"]["total"] == 9
    assert all("@" in one["by"] and one["software"].startswith("screening") for one in events)


def test_an_exam_is_logged_with_what_went_in_and_what_came_out(batch: Run) -> None:
    logged = {one["exam_id"]: one for one in records(batch.out / "audit-log") if one["event"] == "exam"}
    rows = {row["exam_id"]: row for row in batch.table("exams")}
    assert logged.keys() == rows.keys() == {study_uid(1), study_uid(2)}
    for exam_id, one in logged.items():
        assert f"{one['score']:.6g}" == rows[exam_id]["score"]
        assert str(one["category"]) == rows[exam_id]["category"]
        assert one["top_region_id"] == rows[exam_id]["top_region_id"]
        assert one["bundle_sha256"] == batch.record["model"]["id"]
        assert set(one) >= {"started", "finished", "host", "config_sha256", "attempts", "warnings", "breasts"}
        scored = [image["sop_instance_uid"] for image in one["images"] if image["status"] == "scored"]
        assert sorted(one["outputs"]) == sorted(f"{uid}.png" for uid in scored)
    files = {path.stem: path for path in batch.out.parent.glob("*/001/*.dcm")}
    digests = {one["sop_instance_uid"]: one["sha256"] for one in logged[study_uid(1)]["inputs"]}
    assert digests[image_uid(1, 2)] == hashlib.sha256(files["LCC"].read_bytes()).hexdigest()
    assert len(logged[study_uid(2)]["inputs"]) == 3
    reasons = {one["code"]: one["instances"] for one in records(batch.out / "audit-log")[-1]["reasons"]}
    assert reasons == {"not-dicom": 1, "unreadable": 1}


def test_the_outputs_of_a_batch_are_logged_by_their_digests(batch: Run) -> None:
    outputs = {one["name"]: one["sha256"] for one in records(batch.out / "audit-log")[-1]["outputs"]}
    assert outputs.keys() == {"exams.csv", "images.csv", "regions.csv", "worklist.csv", "report.html"}
    for name, digest in outputs.items():
        assert hashlib.sha256((batch.out / name).read_bytes()).hexdigest() == digest


def test_no_identity_is_logged_whatever_names_files_and_reasons_hold(batch: Run) -> None:
    text = b"".join(path.read_bytes() for path in log_files(batch.out / "audit-log")).decode()
    for identity in (WOMAN, NAME, NAME.partition("^")[0], NAME.partition("^")[2], BIRTH_DATE, "1961"):
        assert identity.lower() not in text.lower()


def test_the_anchor_stands_in_the_batch_record_and_is_printed(batch: Run) -> None:
    anchor = batch.record["audit_log"]
    assert anchor["records"] == 4
    assert anchor["hash"] in batch.stdout
    assert verify(batch.out / "audit-log", expect=anchor["hash"]).whole


def test_the_command_says_whether_a_log_is_whole(batch: Run, tmp_path: Path) -> None:
    anchor = batch.record["audit_log"]["hash"]
    run = CliRunner()
    whole = run.invoke(app, ["verify-log", str(batch.out / "audit-log"), "--expect", anchor])
    assert (whole.exit_code, "whole: 4 records" in whole.stdout) == (0, True)
    (log,) = log_files(batch.out / "audit-log")
    (tmp_path / log.name).write_bytes(log.read_bytes().replace(b'"category":1', b'"category":2').replace(b"B", b"C"))
    broken = run.invoke(app, ["verify-log", str(tmp_path)])
    assert broken.exit_code == 1
    assert "was changed after it was written" in broken.stdout
    assert run.invoke(app, ["verify-log", str(tmp_path / "nothing")]).exit_code == 2
    assert run.invoke(app, ["prune-log", str(batch.out / "audit-log"), "--keep-months", "3"]).exit_code == 2


def test_a_resumed_batch_goes_on_in_the_same_chain(
    tmp_path: Path, score_cli: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_ENV, "a key of sixteen characters")
    write_exam(tmp_path / "in", 3, views=(("R", "CC"),))
    first = score_cli(tmp_path / "in", tmp_path / "out", "--workers", "0")
    again = score_cli(tmp_path / "in", tmp_path / "out", "--workers", "0", "--resume")
    assert (first.code, again.code) == (0, 0)
    events = [one["event"] for one in records(tmp_path / "out" / "audit-log")]
    assert events == ["batch-started", "exam", "batch-finished", "batch-started", "batch-finished"]
    assert verify(tmp_path / "out" / "audit-log", b"a key of sixteen characters").whole
    monkeypatch.setenv(KEY_ENV, "another key of this length")
    stopped = score_cli(tmp_path / "in", tmp_path / "out", "--workers", "0", "--resume")
    assert stopped.code == 2
    assert "sealed with another key" in stopped.stderr


@pytest.mark.parametrize("exam_id", ["NHS-4711", "4711", "exam-0123456789abcdef01234567", "1..2", "1.2.3 "])
def test_an_exam_that_the_site_groups_by_another_id_goes_by_its_digest(tmp_path: Path, exam_id: str) -> None:
    plain = exam_name(exam_id, ChainedLog(tmp_path))
    assert plain == f"sha256:{hashlib.sha256(exam_id.encode()).hexdigest()}"
    keyed = exam_name(exam_id, ChainedLog(tmp_path, b"a key of sixteen characters"))
    assert keyed.startswith("hmac-sha256:")
    assert keyed[-64:] != plain[-64:]
    assert exam_name(study_uid(1), ChainedLog(tmp_path)) == study_uid(1)
