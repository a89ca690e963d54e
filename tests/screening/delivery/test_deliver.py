"""From results to a PACS: every object that can be made arrives once, and an older result never lingers unmarked."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread, uid
from typer import Typer
from typer.testing import CliRunner

from screening.delivery import making
from screening.delivery.commands import join
from screening.delivery.context import Delivery, prepare
from screening.delivery.deliver import deliver_exam, deliver_results, log_mode
from screening.delivery.destinations import Credentials
from screening.delivery.headers import DeliveryError
from screening.delivery.making import write_objects
from screening.delivery.objects import encoded
from screening.delivery.outbox import Outbox, State
from screening.delivery.rejection_note import rejection_notes
from screening.delivery.sending import Sent, send_queued
from screening.delivery.stow import StowSender
from screening.errors import ConfigError, StoreError
from screening.result import ExamResult
from screening.site import DeliveryRules, Destination, Mode, ObjectKind
from screening.store import STORE_NAME, ResultStore
from tests.support.command import Score
from tests.support.deliveries import CASES, CREATED, Case, bundle, exam
from tests.support.exams import WOMAN, write_exam
from tests.support.orthanc import Orthanc, needs_orthanc
from tests.support.pacs import queue, says, web_pacs
from tests.support.validators import dciodvfy, needs, sr_validator

PACS = Destination(name="pacs", url="http://127.0.0.1:9/dicom-web")
ARCHIVE = Destination(name="archive", url="http://127.0.0.1:9/x", kinds=(ObjectKind.CAD_SR, ObjectKind.SUMMARY_IMAGE))
OF_2D = ["cad-sr", "measurement-report", *4 * ["presentation-state"], "summary-image"]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "results" / "outbox.sqlite") as opened:
        yield opened


def results(folder: Path, *exams: ExamResult, finished: datetime = CREATED) -> Path:
    """A results folder with these exams."""
    with ResultStore(folder / STORE_NAME) as store:
        for one in exams:
            store.add(one)
    (folder / "batch.json").write_text(json.dumps({"finished": finished.isoformat()}))
    return folder


def delivery(folder: Path, case: str = "2d", created: datetime = CREATED, **changes: Any) -> Delivery:
    return prepare(replace(exam(folder, CASES[case]), **changes), bundle(), created)


@pytest.mark.parametrize("case", ["2d", "dbt", "rejected"])
def test_every_kind_of_object_is_made_of_every_kind_of_exam_and_written_valid(case: str, tmp_path: Path) -> None:
    objects, problems = write_objects(delivery(tmp_path / "exam", case), tmp_path)
    assert problems == []
    assert {"cad-sr", "measurement-report", "summary-image"} <= {one.kind for one in objects}
    for one in objects:
        read = dcmread(one.path)
        assert (read.SOPInstanceUID, read.SOPClassUID) == (one.sop_instance_uid, one.sop_class_uid)
        assert one.path.name == f"{one.sop_instance_uid}.dcm"


def test_repeated_delivery_is_of_the_same_objects_and_queues_nothing(outbox: Outbox, tmp_path: Path) -> None:
    folder = results(tmp_path / "results", exam(tmp_path / "exam", CASES["2d"]))
    (first,) = deliver_results(folder, bundle(), outbox, [PACS])
    before = {one.path: one.path.read_bytes() for one in first.objects}
    (second,) = deliver_results(folder, bundle(), outbox, [PACS])
    assert first.objects == second.objects
    assert (first.queued, second.queued) == (len(OF_2D), 0)
    files = [*(folder / "dicom").rglob("*.dcm"), *(folder / "fhir").iterdir()]
    assert before == {path: path.read_bytes() for path in files}


def test_destination_gets_only_the_kinds_that_it_wants_and_shadow_without_one_keeps_the_files(
    outbox: Outbox, tmp_path: Path
) -> None:
    one = delivery(tmp_path / "exam")
    made = deliver_exam(one, tmp_path / "results", outbox, [])
    assert (made.queued, [one.kind for one in made.objects]) == (0, [*OF_2D, "fhir-report"])
    deliver_exam(one, tmp_path / "results", outbox, [PACS, ARCHIVE])
    assert [parcel.kind for parcel in outbox.parcels("pacs")] == OF_2D
    assert [parcel.kind for parcel in outbox.parcels("archive")] == ["cad-sr", "summary-image"]


def test_object_that_cannot_be_made_is_told_without_quoting_a_header_and_the_others_go(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Any:
        raise DeliveryError("a region does not lie in its image")

    def break_down(*_: object) -> Any:
        raise ValueError(f"cannot encode {WOMAN}")

    monkeypatch.setitem(making._MAKERS, ObjectKind.CAD_SR, refuse)
    monkeypatch.setitem(making._MAKERS, ObjectKind.PRESENTATION_STATE, break_down)
    done = deliver_exam(delivery(tmp_path / "exam"), tmp_path / "results", outbox, [PACS])
    assert done.problems[0] == "cad-sr: a region does not lie in its image"
    assert done.problems[1].startswith("presentation-state: an unforeseen ValueError at test_deliver.py:")
    assert WOMAN not in "".join(done.problems)
    assert [one.kind for one in done.objects] == ["measurement-report", "summary-image", "fhir-report"]
    assert done.queued == 2


def test_exam_that_cannot_be_delivered_is_told_and_costs_no_other(outbox: Outbox, tmp_path: Path) -> None:
    bad = replace(exam(tmp_path / "bad", Case({}, header={"PatientID": "x" * 65})), exam_id="0.bad")
    folder = results(tmp_path / "results", bad, exam(tmp_path / "good", CASES["2d"]))
    first, second = deliver_results(folder, bundle(), outbox, [PACS])
    assert first.problems == ("PatientID of the source is invalid (too long, or with signs that DICOM forbids)",)
    assert (first.queued, second.queued, second.problems) == (0, len(OF_2D), ())


HOSTILE = {
    "PatientID": "../../../etc/cron.d/x",
    "PatientName": "<script>alert(1)</script>^[bold]",
    "AccessionNumber": "..\\..",
    "StudyDescription": "x" * 60_000,
}


def test_hostile_headers_and_exam_ids_never_become_paths(outbox: Outbox, tmp_path: Path) -> None:
    hostile = exam(tmp_path / "exam", replace(CASES["2d"], header=HOSTILE))
    for exam_id in ("../../escaped", "/etc/passwd", "x" * 5000 + "\n", "..", "<script>"):
        one = prepare(replace(hostile, exam_id=exam_id), bundle(), CREATED)
        done = deliver_exam(one, tmp_path / "results", outbox, [PACS])
        assert done.problems == ()
        *made, report = (one.path for one in done.objects)
        assert {path.parent.parent for path in made} == {tmp_path / "results" / "dicom"}
        assert report.parent == tmp_path / "results" / "fhir"
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert not [name for name in names if "cron" in name or "script" in name or "escaped" in name or "xxx" in name]
    assert {name.split("/")[0] for name in names} == {"exam", "results"}


def test_heatmaps_that_were_written_when_the_exam_was_scored_are_delivered_with_it(
    outbox: Outbox, tmp_path: Path
) -> None:
    one = delivery(tmp_path / "exam")
    folder = write_objects(one, tmp_path / "results")[0][0].path.parent
    uid = one.instance_uid("heatmap", str(one.sources[2].sop_instance))
    (folder / f"{uid}.dcm").write_bytes(b"as it was written")
    objects, problems = write_objects(one, tmp_path / "results")
    assert problems == []
    assert [made.sop_instance_uid for made in objects if made.kind == "heatmap"] == [uid]


def late(folder: Path) -> tuple[Delivery, Delivery]:
    """An exam of which two images came late: before, and an hour later with all."""
    whole = exam(folder, CASES["2d"])
    part = replace(whole, images=whole.images[:2])
    return prepare(part, bundle(), CREATED), prepare(whole, bundle(), CREATED + timedelta(hours=1))


def test_exam_that_is_scored_again_supersedes_what_has_arrived_and_the_pacs_is_told(
    outbox: Outbox, tmp_path: Path
) -> None:
    before, after = late(tmp_path / "exam")
    with web_pacs() as pacs:
        to_pacs = StowSender(Destination(name="pacs", url=pacs.url), Credentials())
        deliver_exam(before, tmp_path / "results", outbox, [PACS])
        assert send_queued(outbox, "pacs", to_pacs).arrived == 5
        old = [one.sop_instance_uid for one in outbox.parcels()]
        deliver_exam(after, tmp_path / "results", outbox, [PACS])
        assert send_queued(outbox, "pacs", to_pacs) == Sent(len(OF_2D) + 1, 0, 0)
        assert deliver_exam(after, tmp_path / "results", outbox, [PACS]).queued == 0
    states = {one.sop_instance_uid: one.state for one in outbox.parcels()}
    assert [states[uid] for uid in old] == [State.SUPERSEDED] * 5
    assert set(states.values()) == {State.SUPERSEDED, State.SENT}
    (path,) = [one.path for one in outbox.parcels() if one.kind == "rejection-note"]
    note = dcmread(path)
    assert note.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.59"
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert note.StudyInstanceUID == before.identity.StudyInstanceUID
    referenced = [item.ReferencedSOPSequence[0] for item in note.ContentSequence if "ReferencedSOPSequence" in item]
    assert sorted(str(item.ReferencedSOPInstanceUID) for item in referenced) == sorted(old)


@needs("dciodvfy", "DicomSRValidator")
def test_report_of_a_newer_result_names_the_one_that_it_takes_the_place_of(outbox: Outbox, tmp_path: Path) -> None:
    before, after = late(tmp_path / "exam")
    first = deliver_exam(before, tmp_path / "results", outbox, [PACS])
    assert not any("PredecessorDocumentsSequence" in dcmread(one.path) for one in first.objects[:2])
    outbox.begin(outbox.parcels())
    second = deliver_exam(after, tmp_path / "results", outbox, [PACS])
    for old, new in zip(first.objects[:2], second.objects[:2], strict=True):
        assert (old.kind, old.sop_class_uid) == (new.kind, new.sop_class_uid)
        (study,) = dcmread(new.path).PredecessorDocumentsSequence
        (series,) = study.ReferencedSeriesSequence
        (item,) = series.ReferencedSOPSequence
        assert study.StudyInstanceUID == dcmread(old.path).StudyInstanceUID
        assert series.SeriesInstanceUID == dcmread(old.path).SeriesInstanceUID
        assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) == (old.sop_class_uid, old.sop_instance_uid)
        assert dciodvfy(new.path) == []
    assert sr_validator(second.objects[0].path) == []


def test_report_of_a_result_that_nobody_got_is_no_predecessor(outbox: Outbox, tmp_path: Path) -> None:
    before, after = late(tmp_path / "exam")
    deliver_exam(before, tmp_path / "results", outbox, [PACS])
    done = deliver_exam(after, tmp_path / "results", outbox, [PACS])
    assert not any("PredecessorDocumentsSequence" in dcmread(one.path) for one in done.objects[:2])


def test_pacs_that_wants_no_notes_gets_none(outbox: Outbox, tmp_path: Path) -> None:
    before, after = late(tmp_path / "exam")
    quiet = PACS.model_copy(update={"rejection_notes": False})
    deliver_exam(before, tmp_path / "results", outbox, [quiet])
    outbox.begin(outbox.parcels())
    deliver_exam(after, tmp_path / "results", outbox, [quiet])
    assert outbox.counts("pacs")[State.SUPERSEDED] == 5
    assert outbox.counts("pacs")[State.QUEUED] == len(OF_2D)


def test_object_that_cannot_be_made_this_time_is_not_taken_back(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = delivery(tmp_path / "exam")
    deliver_exam(one, tmp_path / "results", outbox, [PACS])
    outbox.begin(outbox.parcels())
    before = outbox.counts("pacs")

    def refuse(*_: object) -> Any:
        raise DeliveryError("not this time")

    monkeypatch.setitem(making._MAKERS, ObjectKind.CAD_SR, refuse)
    monkeypatch.setitem(making._MAKERS, ObjectKind.PRESENTATION_STATE, refuse)
    done = deliver_exam(one, tmp_path / "results", outbox, [PACS])
    assert len(done.problems) == 2
    assert done.queued == 0
    assert outbox.counts("pacs") == before


def test_result_that_was_never_sent_is_superseded_without_a_word_to_the_pacs(outbox: Outbox, tmp_path: Path) -> None:
    before, after = late(tmp_path / "exam")
    deliver_exam(before, tmp_path / "results", outbox, [PACS])
    deliver_exam(after, tmp_path / "results", outbox, [PACS])
    assert outbox.counts("pacs") | {} == {
        State.QUEUED: len(OF_2D),
        State.SENT: 0,
        State.COMMITTED: 0,
        State.FAILED: 0,
        State.SUPERSEDED: 5,
    }
    assert "rejection-note" not in {one.kind for one in outbox.parcels()}


def test_older_results_that_are_sent_late_are_told_and_do_not_replace_newer_ones(
    outbox: Outbox, tmp_path: Path
) -> None:
    before, after = late(tmp_path / "exam")
    deliver_exam(after, tmp_path / "results", outbox, [PACS])
    done = deliver_exam(before, tmp_path / "results", outbox, [PACS])
    assert done.queued == 0
    assert done.problems == ("not queued for pacs: a newer result of this exam is in the outbox already",)
    assert outbox.counts("pacs")[State.QUEUED] == len(OF_2D)


@needs("dciodvfy", "DicomSRValidator")
def test_note_of_rejection_is_a_valid_key_object_selection(outbox: Outbox, tmp_path: Path) -> None:
    before, after = late(tmp_path / "exam")
    deliver_exam(before, tmp_path / "results", outbox, [PACS])
    (note,) = rejection_notes(after, outbox.parcels())
    path = tmp_path / "note.dcm"
    path.write_bytes(encoded(note))
    assert dciodvfy(path) == []
    assert sr_validator(path) == []


def test_folder_without_a_finished_batch_or_with_another_model_s_results_is_told(
    outbox: Outbox, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no finished batch"):
        list(deliver_results(tmp_path, bundle(), outbox, [PACS]))
    other = replace(exam(tmp_path / "exam", CASES["2d"]), model_id="another")
    with pytest.raises(ConfigError, match="no result of model spots"):
        list(deliver_results(results(tmp_path / "results", other), bundle(), outbox, [PACS]))


def test_full_disk_ends_the_delivery_with_a_sentence_and_it_goes_on_where_it_was(
    outbox: Outbox, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        one = delivery(tmp_path / "exam")
        with pytest.raises(StoreError, match="the disk is full: free some space"):
            deliver_exam(one, disk, outbox, [PACS])
        assert outbox.parcels() == ()
        assert not list(disk.rglob("*.part"))
        assert all(dcmread(path) for path in disk.rglob("*.dcm"))
        subprocess.run(["mount", "-o", "remount,size=50M", str(disk)], check=True)
        assert deliver_exam(one, disk, outbox, [PACS]).queued == len(OF_2D)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_going_live_is_logged_with_who_decided_and_who_ran_it(outbox: Outbox) -> None:
    start = datetime.now(UTC)
    shadow = DeliveryRules(shadow=(ARCHIVE,))
    live = DeliveryRules(mode=Mode.LIVE, decided_by="Dr. Who", live=(PACS,))
    assert [log_mode(outbox, "a-site", rules, "words") for rules in (shadow, shadow, live)] == [True, False, True]
    last = outbox.switches()[-1]
    assert (last.before, last.after, last.decided_by) == ("shadow", "live", "Dr. Who")
    assert "@" in last.user
    assert start - timedelta(seconds=1) < last.when < datetime.now(UTC) + timedelta(seconds=1)


def command(*arguments: str) -> tuple[int, str, str]:
    app = Typer()
    join(app)
    done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "250"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@needs_orthanc
def test_send_delivers_once_and_orthanc_gives_every_object_back_identical(
    score_cli: Score, bundle_folder: Path, orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_exam(tmp_path / "in", 1)
    out = score_cli(tmp_path / "in", tmp_path / "out").out
    monkeypatch.setenv("SCREENING_PACS_USER", orthanc.user)
    arguments = ("send", str(out), "--to", orthanc.dicomweb, "--model", str(bundle_folder))
    monkeypatch.setenv("SCREENING_PACS_PASSWORD", "wrong")
    code, stdout, _ = command(*arguments)
    assert code == 1
    assert f"0 sent, {len(OF_2D) + 4} waiting" in stdout
    monkeypatch.setenv("SCREENING_PACS_PASSWORD", orthanc.password)
    for _ in range(2):
        code, stdout, stderr = command(*arguments)
        assert code == 0, stdout + stderr
    files = {path.stem: dcmread(path) for path in (out / "dicom").rglob("*.dcm")}
    assert len(files) == len(OF_2D) + 4
    # Scoring has written what the store does not keep: one heatmap for each image.
    assert [one.SOPClassUID for one in files.values()].count(uid.ParametricMapStorage) == 4
    assert orthanc.stored() == files
    assert orthanc.changes().count("NewInstance") == len(files)
    code, stdout, _ = command("outbox", str(out))
    assert code == 0
    assert f"{len(files)} sent" in stdout
    for text in (stdout, stderr):
        assert WOMAN not in text


def profile(folder: Path, mode: str, live: str, shadow: str) -> Path:
    path = folder / "a-site.yaml"
    path.write_text(
        f"""
name: a-site
description: A hospital.
sop_classes: [{{uid: DigitalMammographyXRayImageStorageForPresentation}}]
view: [{{attribute: ViewPosition}}]
laterality: [{{attribute: ImageLaterality}}]
delivery:
  mode: {mode}
  decided_by: Dr. Who
  live: [{{name: pacs, url: "{live}"}}]
  shadow: [{{name: archive, url: "{shadow}"}}]
"""
    )
    return path


def test_site_s_mode_says_where_send_goes_and_the_switch_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.model.bundle.load_bundle", lambda _: bundle())
    folder = results(tmp_path / "results", exam(tmp_path / "exam", CASES["2d"]))
    with web_pacs() as live, web_pacs() as shadow:
        site = profile(tmp_path, "shadow", live.url, shadow.url)
        code, stdout, _ = command("send", str(folder), "--site", str(site))
        assert code == 0
        assert f"archive: {len(OF_2D)} sent, 0 waiting, 0 failed" in stdout
        assert (len(live.stored), len(shadow.stored)) == (0, len(OF_2D))
        assert command("send", str(folder), "--site", str(site), "--to", "pacs")[0] == 2
        profile(tmp_path, "live", live.url, shadow.url)
        assert command("send", str(folder), "--site", str(site))[0] == 0
        assert len(live.stored) == len(OF_2D)
        assert len(shadow.requests) == 1
        with Outbox(folder / "outbox.sqlite") as outbox:  # what another night left there is not these results' matter
            queue(outbox, "pacs", tmp_path, count=1)
        live.script = [says(400)]
        code, stdout, _ = command("send", str(folder), "--site", str(site))
        assert code == 0
        assert "pacs: 0 sent, 0 waiting, 1 failed" in stdout
    code, stdout, _ = command("outbox", str(folder), "--site", str(site), "--all")
    assert "a-site new -> shadow, decided by Dr. Who" in stdout
    assert "a-site shadow -> live, decided by Dr. Who" in stdout
    code, stdout, _ = command("send", str(folder))
    assert code == 0
    assert "shadow mode without destination: the objects are in" in stdout


def test_outbox_without_a_send_and_send_without_results_are_told(tmp_path: Path) -> None:
    code, _, stderr = command("outbox", str(tmp_path))
    assert code == 2
    assert "there is no outbox" in " ".join(stderr.split())
    code, _, stderr = command("send", str(tmp_path), "--to", "ftp://pacs")
    assert code == 2
    assert "write http(s)://HOST" in " ".join(stderr.split())
