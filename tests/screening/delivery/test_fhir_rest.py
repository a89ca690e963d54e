"""FHIR reports and workitems on their way: through the outbox, each once, whatever the server does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from screening.delivery import fhir_file, making
from screening.delivery.context import Delivery
from screening.delivery.deliver import deliver_exam
from screening.delivery.destinations import sender_for
from screening.delivery.fhir import report_bundle
from screening.delivery.fhir_file import write_report
from screening.delivery.headers import DeliveryError
from screening.delivery.outbox import BackOff, Outbox, State
from screening.delivery.sending import Sent, send_queued
from screening.errors import StoreError
from screening.result import Status
from screening.site import Destination, Service
from tests.support.deliveries import CASES, Case, delivery
from tests.support.json_servers import FhirServer, UpsServer, serving, tag

NAME = "Musterfrau^Erika"


@pytest.fixture(autouse=True)
def _no_dicom_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take their time, and are not what these tests are about."""
    monkeypatch.setattr(making, "_MAKERS", {})


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite", BackOff(first_s=0.01, longest_s=0.02, most=3)) as opened:
        yield opened


@pytest.fixture
def fhir() -> Iterator[FhirServer]:
    with serving(FhirServer()) as running:
        yield running


def there(url: str, **more: Any) -> Destination:
    return Destination(name="reports", url=url, service=Service.FHIR, **more)


def send(outbox: Outbox, to: Destination, patience_s: float = 0.0) -> Sent:
    return send_queued(outbox, to.name, sender_for(to), patience_s)


def test_report_is_written_and_arrives_once_with_the_patient_s_number_in_its_system(
    outbox: Outbox, fhir: FhirServer, tmp_path: Path
) -> None:
    one = delivery(tmp_path / "exam", CASES["2d"])
    for expected in (1, 0):
        done = deliver_exam(one, tmp_path / "results", outbox, [there(fhir.url)], "urn:oid:1.2.3")
        assert (done.queued, done.problems) == (expected, ())
        assert send(outbox, there(fhir.url)).arrived == expected
    (path,) = (tmp_path / "results" / "fhir").iterdir()
    assert path.name == f"{one.result.exam_id}.json"
    written = json.loads(path.read_text())
    assert Bundle.model_validate(written).type == "transaction"
    assert fhir.resources == {
        f"{e['resource']['resourceType']}/{e['resource']['id']}": e["resource"] for e in written["entry"]
    }
    assert fhir.complaints == []
    assert set(fhir.versions.values()) == {1}
    (report,) = [one for one in fhir.resources.values() if one["resourceType"] == "DiagnosticReport"]
    assert report["subject"]["identifier"]["system"] == "urn:oid:1.2.3"


def test_pacs_gets_no_report_and_a_fhir_server_no_objects(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    pacs = Destination(name="pacs", url="http://127.0.0.1:9/dicom-web")
    deliver_exam(delivery(tmp_path, CASES["2d"]), tmp_path / "results", outbox, [pacs, there("http://127.0.0.1:9/r4")])
    kinds = {one.kind for one in outbox.parcels("pacs")}
    assert "cad-sr" in kinds
    assert "fhir-report" not in kinds
    assert [one.kind for one in outbox.parcels("reports")] == ["fhir-report"]


def rescored(folder: Path) -> tuple[Any, Any]:
    """A result, and an hour later one with fewer regions: two images are not in it any more."""
    whole = delivery(folder, CASES["2d"])
    images = whole.result.images
    gone = {one.region_id for image in images[2:] for one in image.regions}
    part = tuple(
        image if n < 2 else replace(image, status=Status.REJECTED, regions=(), score=None)
        for n, image in enumerate(images)
    )
    result = replace(whole.result, images=part)
    assert gone
    sources = tuple(replace(source, result=image) for source, image in zip(whole.sources, part, strict=True))
    return whole, replace(whole, result=result, sources=sources, created=whole.created + timedelta(hours=1))


def report_bundle_resources(one: Delivery) -> list[dict[str, Any]]:
    """What the report of this result says by itself."""
    return [entry["resource"] for entry in report_bundle(one)["entry"]]


def standing(fhir: FhirServer) -> set[str]:
    """Names of reports and observations that have not been withdrawn."""
    said = (name for name in fhir.resources if name.startswith(("Observation", "DiagnosticReport")))
    return {name for name in said if fhir.resources[name]["status"] != "entered-in-error"}


@pytest.mark.parametrize("folders", [("a", "a", "a"), ("a", "b", "c")], ids=["one folder", "another night's folder"])
@pytest.mark.parametrize("model", ["the same model", "another model"])
def test_what_an_earlier_result_said_is_withdrawn_and_comes_back_when_it_holds_again(
    outbox: Outbox, fhir: FhirServer, tmp_path: Path, folders: tuple[str, ...], model: str
) -> None:
    first, second = rescored(tmp_path / "exam")
    if model == "another model":
        second = replace(second, algorithm=replace(second.algorithm, sha256="cd" * 32))
    third = replace(first, created=second.created + timedelta(hours=1))
    withdrawn = []
    for one, folder in zip((first, second, third), folders, strict=True):
        deliver_exam(one, tmp_path / folder, outbox, [there(fhir.url)])
        assert send(outbox, there(fhir.url)) == Sent(1, 0, 0)
        assert standing(fhir) == {
            name
            for name in (f"{one['resourceType']}/{one['id']}" for one in report_bundle_resources(one))
            if name.startswith(("Observation", "DiagnosticReport"))
        }
        withdrawn.append([one for one in fhir.resources.values() if one.get("status") == "entered-in-error"])
    assert not withdrawn[0]
    assert withdrawn[1]
    assert not any("valueQuantity" in one or "conclusion" in one for one in withdrawn[1])


def test_report_that_is_no_valid_fhir_is_told_without_its_words_and_not_written(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = fhir_file.report_bundle

    def bad(*arguments: Any) -> dict[str, Any]:
        bundle = good(*arguments)
        bundle["entry"][0]["resource"]["issued"] = NAME
        return bundle

    monkeypatch.setattr(fhir_file, "report_bundle", bad)
    path = tmp_path / "a.json"
    with pytest.raises(DeliveryError, match=r"not valid at entry\.0\.resource") as caught:
        write_report(delivery(tmp_path / "exam", CASES["2d"]), path)
    assert NAME not in str(caught.value)
    assert not path.exists()
    done = deliver_exam(delivery(tmp_path / "exam", CASES["2d"]), tmp_path, outbox, [there("http://127.0.0.1:9/r4")])
    assert [one.split(":")[0] for one in done.problems] == ["fhir-report"]
    assert outbox.parcels() == ()


def test_damaged_file_of_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for damage in (b"", b"[", b"[]", b'{"entry": 5}', b"\xff"):
        path.write_bytes(damage)
        write_report(delivery(tmp_path / "exam", CASES["empty"]), path)
        Bundle.model_validate_json(path.read_text())


def one_report(outbox: Outbox, folder: Path, to: Destination, case: Case = CASES["2d"]) -> None:
    deliver_exam(delivery(folder / "exam", case), folder / "results", outbox, [to])


@pytest.mark.parametrize("fault", [500, 409, 412, b"{}", b"nonsense", b'{"type": "transaction-response", "entry": []}'])
def test_answer_that_is_no_proof_is_tried_again_until_it_is(
    outbox: Outbox, fhir: FhirServer, tmp_path: Path, fault: int | bytes
) -> None:
    one_report(outbox, tmp_path, there(fhir.url))
    fhir.faults = [fault, fault]
    assert send(outbox, there(fhir.url), patience_s=20) == Sent(1, 0, 0)
    assert len(fhir.requests) == 3


def test_server_that_fails_every_time_is_given_up_and_the_reason_told(
    outbox: Outbox, fhir: FhirServer, tmp_path: Path
) -> None:
    one_report(outbox, tmp_path, there(fhir.url))
    fhir.faults = [500] * 9
    assert send(outbox, there(fhir.url), patience_s=20).failed == 1
    assert len(fhir.requests) == 3  # what the outbox allows here
    assert outbox.parcels()[0].error == "the FHIR server failed on it (HTTP 500)"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_report_that_the_server_finds_fault_with_has_failed_at_once(
    outbox: Outbox, fhir: FhirServer, tmp_path: Path, status: int
) -> None:
    one_report(outbox, tmp_path, there(fhir.url))
    fhir.faults = [status]
    assert send(outbox, there(fhir.url), patience_s=20).failed == 1
    assert len(fhir.requests) == 1
    assert f"HTTP {status}" in outbox.parcels()[0].error


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "refuses our credentials"), (403, "refuses our credentials"), (404, "no FHIR"), (307, "no FHIR")],
)
def test_wrong_credentials_or_address_are_one_sentence_and_one_request_and_the_report_stays(
    outbox: Outbox,
    fhir: FhirServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    sentence: str,
) -> None:
    monkeypatch.setenv("A_TOKEN", "the-secret-token")
    to = there(fhir.url, token_env="A_TOKEN")
    one_report(outbox, tmp_path, to)
    fhir.faults = [status]
    sent = send(outbox, to, patience_s=20)
    assert sentence in sent.problem
    assert "the-secret-token" not in sent.problem
    assert (sent.waiting, len(fhir.requests)) == (1, 1)
    assert fhir.headers[0]["Authorization"] == "Bearer the-secret-token"
    assert send(outbox, to) == Sent(1, 0, 0)


def test_server_that_is_away_slow_or_cuts_the_connection_gets_the_same_report_later_and_once(
    outbox: Outbox, tmp_path: Path
) -> None:
    with serving(FhirServer()) as fhir:
        to, port = there(fhir.url, timeout_s=0.3), int(fhir.url.split(":")[2].split("/")[0])
        one_report(outbox, tmp_path, to)
    sent = send(outbox, to)
    assert "cannot be reached" in sent.problem
    with serving(FhirServer(), port) as fhir:
        fhir.faults = [1.0, "cut", 503]  # each after the work is done, but the last
        assert send(outbox, to, patience_s=20) == Sent(1, 0, 0)
        assert len(fhir.requests) == 4
        assert len([one for one in fhir.resources.values() if one["resourceType"] == "DiagnosticReport"]) == 1
        assert set(fhir.versions.values()) == {3}  # the same resources each time, and no others


_SENDS = """
import sys
from pathlib import Path
from screening.delivery.destinations import sender_for
from screening.delivery.outbox import Outbox
from screening.delivery.sending import send_queued
from screening.site import Destination, Service
to = Destination(name="reports", url=sys.argv[2], service=Service.FHIR)
with Outbox(Path(sys.argv[1])) as outbox:
    send_queued(outbox, "reports", sender_for(to))
"""


def test_process_killed_between_storing_and_its_note_makes_no_second_report(
    outbox: Outbox, fhir: FhirServer, tmp_path: Path
) -> None:
    one_report(outbox, tmp_path, there(fhir.url))
    fhir.faults = [60.0]
    with subprocess.Popen([sys.executable, "-c", _SENDS, str(outbox.path), fhir.url]) as process:
        while not fhir.resources:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert outbox.counts("reports")[State.QUEUED] == 1
    before = dict(fhir.resources)
    assert send(outbox, there(fhir.url)) == Sent(1, 0, 0)
    assert fhir.resources == before


def test_workitem_goes_through_the_same_outbox_and_follows_the_result(outbox: Outbox, tmp_path: Path) -> None:
    first, second = rescored(tmp_path / "exam")
    second = replace(second, result=replace(second.result, category=10))
    with serving(UpsServer()) as ups:
        to = Destination(name="list", url=ups.url, service=Service.UPS, retrieve_ae_title="PACS", worklist="Reading")
        priorities = []
        for one in (first, first, second, replace(first, created=second.created)):
            deliver_exam(one, tmp_path / "results", outbox, [to])
            sent = send(outbox, to)
            assert (sent.waiting, sent.failed) == (0, 0)
            (item,) = ups.items.values()
            priorities.append(item[tag("ScheduledProcedureStepPriority")]["Value"][0])
        assert priorities == ["MEDIUM", "MEDIUM", "HIGH", "MEDIUM"]
        assert item[tag("WorklistLabel")]["Value"] == ["Reading"]
        assert ups.complaints == []
    assert len([path for _, path in ups.requests if "workitem=" in path]) == 3


def test_full_disk_under_the_reports_is_one_sentence_and_leaves_no_half(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object) -> None:
        raise StoreError(f"{path.name} cannot be written, the disk is full")

    monkeypatch.setattr(fhir_file, "write_atomically", full)
    with pytest.raises(StoreError, match="disk is full"):
        one_report(outbox, tmp_path, there("http://127.0.0.1:9/r4"))
    assert outbox.parcels() == ()
