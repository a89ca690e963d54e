"""`screening listen`: what a PACS sends is scored and delivered once, whatever happens in between."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined] # made when it is imported
    StudyRootQueryRetrieveInformationModelMove,
)
from typer.testing import CliRunner

from screening.audit_log.chained_log import log_files
from screening.cli import app
from screening.delivery.outbox import Outbox, State
from screening.listen_command import _listen
from screening.nightly.metrics import NightMetrics
from screening.site import load_site
from screening.sources.inbox import Inbox
from screening.store import STORE_NAME, ResultStore
from tests.support.dicom import write_dicom
from tests.support.exams import BIRTH_DATE, NAME, WOMAN, drawn, image_uid, instance, study_uid, write_exam
from tests.support.listening import running_listener, site, store, wait_until
from tests.support.orthanc import Orthanc, free_port, needs_orthanc
from tests.support.pacs import WebPacs, web_pacs

OK = 0x0000
VIEWS = (("R", "CC"), ("L", "CC"))
SPOT = {("L", "CC"): (110.0, 180.0)}


@pytest.fixture
def pacs() -> Iterator[WebPacs]:
    with web_pacs() as running:
        yield running


def profile(folder: Path, url: str, port: int, mode: str = "live", **more: Any) -> Path:
    delivery = {"mode": mode, "decided_by": "Dr. Who", mode: [{"name": "pacs", "url": url, "timeout_s": 20}]}
    arrivals = {"port": port, "quiet_s": 0.5, "patience_s": 1.0, **more.pop("arrivals", {})}
    return site(folder, delivery=delivery, arrivals=arrivals, **more)


@contextmanager
def listen(site_file: Path, out: Path, model: Path, metrics_file: Path | None = None) -> Iterator[int]:
    """The command's work in a thread of this process; its port."""
    loaded = load_site(site_file)
    stop, errors = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            _listen(loaded, out, str(model), 2, False, NightMetrics(loaded.name, metrics_file), stop)
        except BaseException as error:  # shown by the test's thread
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: is_open(loaded.arrivals.port) or not thread.is_alive())
        yield loaded.arrivals.port
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def arrived(pacs: WebPacs) -> list[Dataset]:
    return [dcmread(BytesIO(content)) for content in list(pacs.stored.values())]


def kinds(objects: list[Dataset]) -> list[str]:
    return sorted(str(one.Modality) for one in objects)


def small_exam(folder: Path, study: int, **header: Any) -> list[Path]:
    """Two images that a tiny bundle scores in moments."""
    files = []
    for number, (side, view) in enumerate(VIEWS, start=1):
        pixels = drawn(side, view, 10 * study + number, SPOT.get((side, view)))
        made = instance(study, number, side, view, pixels, **header)
        files.append(write_dicom(folder / f"{study}-{number}.dcm", made))
    return files


# What is delivered


def test_exams_are_delivered_once_in_order_of_arrival_and_named_in_the_tables(
    tmp_path: Path, pacs: WebPacs, bundle_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    studies = (3, 1, 2)
    with (
        caplog.at_level("INFO"),
        listen(profile(tmp_path, pacs.url, free_port()), tmp_path / "out", bundle_folder) as port,
    ):
        for study in studies:
            files = small_exam(tmp_path / "in", study)
            assert store(port, files) == [OK, OK]
        wait_until(lambda: len({one.StudyInstanceUID for one in arrived(pacs)}) == 3)
        sent = len(pacs.stored)
        assert store(port, files) == [OK, OK]  # again, as a sender does that had no answer
        time.sleep(1.5)
        assert len(pacs.stored) == sent
    order = list(dict.fromkeys(str(one.StudyInstanceUID) for one in arrived(pacs)))
    assert order == [study_uid(study) for study in studies]
    assert kinds(arrived(pacs)) == sorted(["SR", "SR", "PR", "PR", "OT", "OT", "OT"] * 3)
    assert len(pacs.requests) == 3
    exams = (tmp_path / "out" / "exams.csv").read_text()
    assert [study_uid(study) in exams for study in studies] == [True] * 3
    told = caplog.text + str(list((tmp_path / "out").rglob("*")))
    assert not [word for word in (WOMAN, NAME, BIRTH_DATE) if word in told]


def test_late_and_changed_images_are_scored_again_and_the_earlier_result_is_superseded(
    tmp_path: Path, pacs: WebPacs, bundle_folder: Path
) -> None:
    out = tmp_path / "out"
    first, second = small_exam(tmp_path / "in", 1)
    with listen(profile(tmp_path, pacs.url, free_port()), out, bundle_folder) as port:
        assert store(port, [first]) == [OK]
        wait_until(lambda: len(pacs.stored) == 5)
        early = {str(one.SOPInstanceUID) for one in arrived(pacs)}
        assert store(port, [second]) == [OK]
        wait_until(lambda: len(pacs.stored) == 5 + 8)
        late = {str(one.SOPInstanceUID) for one in arrived(pacs)} - early
        changed = instance(1, 2, "L", "CC", drawn("L", "CC", 77))
        assert store(port, [write_dicom(tmp_path / "changed.dcm", changed)]) == [OK]
        wait_until(lambda: len(pacs.stored) == 5 + 8 + 8)
        time.sleep(1.0)
    notes = [one for one in arrived(pacs) if one.Modality == "KO"]
    rejected = [
        {
            str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            for item in note.ContentSequence
            if "ReferencedSOPSequence" in item
        }
        for note in notes
    ]
    is_note = {str(one.SOPInstanceUID) for one in notes}
    assert rejected == [early, late - is_note]
    with Outbox(out / "outbox.sqlite") as outbox:
        states = {one.sop_instance_uid: one.state for one in outbox.parcels("pacs")}
    assert {uid for uid, state in states.items() if state == State.SUPERSEDED} == early | (late - is_note)
    with ResultStore(out / STORE_NAME) as results:
        (result,) = results.results()
    assert {one.image.image_id for one in result.images} == {image_uid(1, 1), image_uid(1, 2)}
    assert "scored again: images came late or were changed" in result.warnings


def test_exam_that_stays_incomplete_is_scored_with_a_warning(
    tmp_path: Path, pacs: WebPacs, bundle_folder: Path
) -> None:
    rules = {"views": ["RCC", "LCC", "RMLO"]}
    with listen(profile(tmp_path, pacs.url, free_port(), arrivals=rules), tmp_path / "out", bundle_folder) as port:
        store(port, small_exam(tmp_path / "in", 1))
        wait_until(lambda: len(pacs.stored) > 0)
    assert "scored incomplete, nothing came for 1 s: no RMLO" in (tmp_path / "out" / "report.html").read_text()


def test_in_shadow_mode_nothing_goes_to_the_live_pacs(tmp_path: Path, pacs: WebPacs, bundle_folder: Path) -> None:
    with web_pacs() as aside:
        file = profile(tmp_path, aside.url, free_port(), mode="shadow")
        text = file.read_text().replace(
            "  mode: shadow", f"  live: [{{name: live, url: '{pacs.url}'}}]\n  mode: shadow"
        )
        file.write_text(text)
        with listen(file, tmp_path / "out", bundle_folder) as port:
            store(port, small_exam(tmp_path / "in", 1))
            wait_until(lambda: len(aside.stored) > 0)
        assert len(pacs.stored) == 0


# Crashes


def test_what_came_before_the_process_was_killed_is_scored_and_delivered_once_after_a_restart(
    tmp_path: Path, pacs: WebPacs, bundle_folder: Path
) -> None:
    file = profile(tmp_path, pacs.url, free_port())
    with running_listener(file, tmp_path / "out", bundle_folder) as first:
        assert store(load_site(file).arrivals.port, small_exam(tmp_path / "in", 1)) == [OK, OK]
        first.kill()  # torch is still being loaded: nothing can have been scored
    assert not (tmp_path / "out" / STORE_NAME).exists()
    with listen(file, tmp_path / "out", bundle_folder):
        wait_until(lambda: len(pacs.stored) == 7)
        time.sleep(1.0)
    assert (len(pacs.stored), len(pacs.requests)) == (7, 1)


def test_process_killed_between_scoring_and_sending_delivers_once_after_a_restart(
    tmp_path: Path, pacs: WebPacs, bundle_folder: Path
) -> None:
    port = free_port()
    with running_listener(
        profile(tmp_path, f"http://127.0.0.1:{free_port()}/x", port), tmp_path / "out", bundle_folder
    ) as first:
        assert store(port, small_exam(tmp_path / "in", 1)) == [OK, OK]
        first.says("objects wait in the outbox")  # the PACS is down
        first.kill()
    with listen(profile(tmp_path, pacs.url, port), tmp_path / "out", bundle_folder):
        wait_until(lambda: len(pacs.stored) == 7)
        time.sleep(1.0)
    assert (len(pacs.stored), len(pacs.requests)) == (7, 1)


def test_crash_before_it_is_noted_that_an_exam_was_scored_delivers_the_same_objects_once(
    tmp_path: Path, pacs: WebPacs, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Time enough between two images on a busy machine: what is scored in two parts is delivered in two.
    file = profile(tmp_path, pacs.url, free_port(), arrivals={"quiet_s": 2.0, "patience_s": 4.0})

    def crash(*_: object) -> None:
        raise ZeroDivisionError

    def first_run() -> None:
        with listen(file, tmp_path / "out", bundle_folder) as port:
            store(port, small_exam(tmp_path / "in", 1))
            wait_until(lambda: len(pacs.stored) == 7)
            wait_until(lambda: not is_open(port))

    with monkeypatch.context() as patch:
        patch.setattr(Inbox, "scored", crash)
        with pytest.raises(ZeroDivisionError):
            first_run()
    with listen(file, tmp_path / "out", bundle_folder):
        wait_until(lambda: not _something_waits(tmp_path / "out"))
        time.sleep(1.0)
    assert (len(pacs.stored), len(pacs.requests)) == (7, 1)


def _something_waits(out: Path) -> bool:
    with sqlite3.connect(out / "inbox" / "inbox.sqlite") as connection:
        return bool(connection.execute("SELECT count(*) FROM exams WHERE changes > scored").fetchone()[0])


# The audit log and the metrics


def audited(out: Path) -> list[dict[str, Any]]:
    """The records of a log that is whole by `verify-log`."""
    checked = CliRunner().invoke(app, ["verify-log", str(out / "audit-log")])
    assert checked.exit_code == 0, checked.output
    return [json.loads(line) for path in log_files(out / "audit-log") for line in path.read_bytes().splitlines()]


def logged_exams(out: Path) -> list[dict[str, Any]]:
    return [one for one in audited(out) if one["event"] == "exam"]


def test_exam_and_its_late_image_stand_in_the_audit_log_with_digests_scores_and_what_was_delivered(
    tmp_path: Path, pacs: WebPacs, bundle_folder: Path
) -> None:
    out, metrics = tmp_path / "out", tmp_path / "listen.prom"
    first, second = small_exam(tmp_path / "in", 1)
    with listen(profile(tmp_path, pacs.url, free_port()), out, bundle_folder, metrics) as port:
        store(port, [first])
        wait_until(lambda: len(pacs.stored) == 5)
        with ResultStore(out / STORE_NAME) as results:
            scores = [one.score for one in results.results()]
        store(port, [second])
        wait_until(lambda: len(pacs.stored) == 5 + 8)
    with ResultStore(out / STORE_NAME) as results:
        scores += [one.score for one in results.results()]
    exams = logged_exams(out)
    assert [one["exam_id"] for one in exams] == [study_uid(1)] * 2
    assert [one["score"] for one in exams] == scores
    digests = {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (out / "inbox" / study_uid(1)).glob("*.dcm")
    }
    read = [{one["sop_instance_uid"]: one["sha256"] for one in exam["inputs"]} for exam in exams]
    assert read == [{image_uid(1, 1): digests[image_uid(1, 1)]}, digests]
    assert "scored again: images came late or were changed" in exams[1]["warnings"]
    events = [one["event"] for one in audited(out)]
    assert [one for one in events if one.startswith(("batch", "exam"))] == [
        "batch-started", "exam", "exam", "batch-finished",
    ]  # fmt: skip
    delivered = [one for record in audited(out) if record["event"] == "delivered" for one in record["objects"]]
    assert {one["sop_instance_uid"] for one in delivered} == {str(one.SOPInstanceUID) for one in arrived(pacs)}
    assert json.loads((out / "batch.json").read_text())["audit_log"]["records"] == events.index("batch-finished") + 1
    figures = metrics.read_text()
    assert 'screening_exams{site="hospital",state="scored"} 1.0' in figures
    assert 'screening_stage_seconds_count{site="hospital",stage="total"} 2.0' in figures


def test_exam_whose_listener_was_killed_between_store_and_log_is_not_delivered_before_the_next_start_logs_it(
    tmp_path: Path, pacs: WebPacs, bundle_folder: Path
) -> None:
    file, out = profile(tmp_path, pacs.url, free_port()), tmp_path / "out"
    dies = "import os; from screening.batch.telling import Telling; Telling.exam = lambda *_: os.kill(os.getpid(), 9)"
    with running_listener(file, out, bundle_folder, before=dies) as first:
        store(load_site(file).arrivals.port, small_exam(tmp_path / "in", 1))
        assert first.process.wait(120) == -signal.SIGKILL
    with ResultStore(out / STORE_NAME) as results:
        (stored,) = results.results()
    assert logged_exams(out) == []
    with Outbox(out / "outbox.sqlite") as outbox:
        assert list(outbox.parcels("pacs")) == []
    with listen(file, out, bundle_folder):
        wait_until(lambda: len(pacs.stored) == 7)
    (logged,) = logged_exams(out)
    assert (logged["exam_id"], logged["score"]) == (stored.exam_id, stored.score)


# The whole way with a real PACS


@needs_orthanc
def test_orthanc_sends_by_store_and_move_and_has_the_results_by_both_protocols(
    tmp_path: Path,
    orthanc: Orthanc,
    commitment_port: int,
    bundle_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PACS_USER", orthanc.user)
    monkeypatch.setenv("PACS_PASSWORD", orthanc.password)
    web = {"name": "web", "url": orthanc.dicomweb, "user_env": "PACS_USER", "password_env": "PACS_PASSWORD"}
    live = [
        {**web, "kinds": ["cad-sr", "presentation-state", "measurement-report"]},
        {"name": "dimse", "url": orthanc.dimse, "kinds": ["summary-image", "heatmap"], "commitment": False},
    ]
    file = site(
        tmp_path,
        delivery={"mode": "live", "decided_by": "Dr. Who", "live": live},
        arrivals={"port": free_port(), "ae_title": "OTHER", "quiet_s": 0.5, "patience_s": 60, "pacs": "web"},
    )
    options = ("--port", str(commitment_port), "--ae-title", "SCREENING")
    files = [*write_exam(tmp_path / "in", 1), *write_exam(tmp_path / "in", 2, syntax=uid.JPEGLosslessSV1)]
    orthanc.store(files)
    with running_listener(file, tmp_path / "out", bundle_folder, *options) as listener:
        for study, send in ((study_uid(1), _by_store), (study_uid(2), _by_move)):
            send(orthanc, study)
        wait_until(lambda: len(orthanc.get("/instances").json()) >= 8 + 2 * 11)
        assert listener.end() == 0
    session = requests.Session()
    session.auth = (orthanc.user, orthanc.password)
    client = DICOMwebClient(orthanc.dicomweb, session)
    for study in (study_uid(1), study_uid(2)):
        read = client.retrieve_study(study)
        results = [one for one in read if one.Modality != "MG"]
        assert sorted(str(one.Modality) for one in results) == sorted(["SR"] * 2 + ["PR"] * 4 + ["OT"] * 5)
        assert {one.PatientID for one in read} == {read[0].PatientID}
    compressed = dcmread(tmp_path / "out" / "inbox" / study_uid(2) / f"{image_uid(2, 1)}.dcm")
    assert compressed.file_meta.TransferSyntaxUID == uid.JPEGLosslessSV1


def _by_store(orthanc: Orthanc, study: str) -> None:
    """Orthanc sends by C-STORE."""
    found = requests.post(
        f"http://127.0.0.1:{orthanc.http_port}/tools/lookup", study, auth=(orthanc.user, orthanc.password), timeout=60
    ).json()
    (resource,) = [one["ID"] for one in found if one["Type"] == "Study"]
    url = f"http://127.0.0.1:{orthanc.http_port}/modalities/SCREENING/store"
    requests.post(url, resource, auth=(orthanc.user, orthanc.password), timeout=60).raise_for_status()


def _by_move(orthanc: Orthanc, study: str) -> None:
    """Somebody asks Orthanc by C-MOVE to send it."""
    ae = AE("SCREENING")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = ae.associate("127.0.0.1", orthanc.dicom_port, ae_title="ORTHANC")
    assert association.is_established
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study
    answers = list(association.send_c_move(identifier, "SCREENING", StudyRootQueryRetrieveInformationModelMove))
    association.release()
    assert answers[-1][0].Status == OK
