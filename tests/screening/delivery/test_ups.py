"""Workitems for reading, and bringing them to a server. Orthanc has no UPS: a small server here keeps the rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from screening.delivery.answers import Answer, Outcome, RefusedError, UnreachableError
from screening.delivery.context import DISCLAIMER, Delivery
from screening.delivery.destinations import sender_for
from screening.delivery.outbox import Parcel, State
from screening.delivery.ups import KIND, SOP_CLASS, Retrieval, Workitem, workitem, write_workitem
from screening.errors import ConfigError
from screening.site import Destination, Service
from tests.support.deliveries import CASES, CREATED, SHA256, Case, delivery
from tests.support.json_servers import UpsServer, serving, tag

PACS = Retrieval(wado_rs="https://pacs.example/dicom-web/", ae_title="PACS")


@pytest.fixture
def server() -> Iterator[UpsServer]:
    """The server, at a free port of this machine."""
    with serving(UpsServer()) as running:
        yield running


def item(folder: Path, case: Case = CASES["2d"]) -> Workitem:
    """The workitem of an exam made for the test."""
    return workitem(delivery(folder, case), PACS)


def parcel(path: Path) -> Parcel:
    """A workitem's file on its way."""
    where = "list", "exam", KIND, SOP_CLASS, "2.25.1", path
    return Parcel(*where, CREATED, State.QUEUED, 0, "", CREATED, None, None, None)


def create(server: UpsServer, folder: Path, *workitems: Workitem, timeout_s: float = 30.0) -> list[Answer]:
    """Write the workitems to files and send these."""
    parcels = []
    for number, one in enumerate(workitems):
        write_workitem(one, folder / f"{number}.json")
        parcels.append(parcel(folder / f"{number}.json"))
    there = Destination(name="list", url=server.url, service=Service.UPS, retrieve_ae_title="PACS", timeout_s=timeout_s)
    return list(sender_for(there).send(parcels))


ARRIVED = [Answer("2.25.1", Outcome.ARRIVED)]


@pytest.mark.parametrize("name", CASES)
def test_creation_satisfies_the_standard_s_table(tmp_path: Path, server: UpsServer, name: str) -> None:
    one = item(tmp_path, CASES[name])
    assert create(server, tmp_path, one) == ARRIVED
    assert server.complaints == []
    assert list(server.items) == [one.uid]
    stored = Dataset.from_json(server.items[one.uid])
    assert stored == one.dataset
    for element in stored.iterall():
        if element.VR != "SQ":
            value = str(element.value) if element.VR == "PN" else element.value
            DataElement(element.tag, element.VR, value, validation_mode=config.RAISE)


def test_workitem_is_the_source_s_patient_and_names_each_image_once(tmp_path: Path) -> None:
    made = delivery(tmp_path, CASES["partly-rejected"])
    dataset = workitem(made, PACS).dataset
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"):
        assert dataset[keyword].value == made.identity[keyword].value
    assert dataset.ReferencedRequestSequence[0].AccessionNumber == "A-77"
    (series,) = dataset.InputInformationSequence
    named = sorted(one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence)
    assert named == sorted(source.result.image.image_id for source in made.sources)
    assert series.DICOMRetrievalSequence[0].RetrieveAETitle == "PACS"
    url = series.WADORSRetrievalSequence[0].RetrieveURL
    assert url == f"https://pacs.example/dicom-web/studies/{series.StudyInstanceUID}/series/{series.SeriesInstanceUID}"


@pytest.mark.parametrize(("category", "expected"), [(10, "HIGH"), (9, "MEDIUM"), (8, "MEDIUM"), (7, "LOW"), (1, "LOW")])
def test_category_gives_the_priority(tmp_path: Path, category: int, expected: str) -> None:
    made = delivery(tmp_path, CASES["2d"])
    other = replace(made, result=replace(made.result, category=category))
    assert workitem(other, PACS).dataset.ScheduledProcedureStepPriority == expected


def test_comments_say_what_it_is_and_which_model_says_so(tmp_path: Path) -> None:
    comments = item(tmp_path, CASES["partly-rejected"]).dataset.CommentsOnTheScheduledProcedureStep
    for words in (DISCLAIMER, SHA256, "recall-3", "Not processed: L CC: too-small"):
        assert words in comments


def test_where_images_come_from_has_to_be_said() -> None:
    with pytest.raises(ConfigError, match="retrieved from"):
        Retrieval()


def changed(made: Delivery) -> Delivery:
    """The same exam, scored anew: another category, another operating point, one image fewer."""
    return replace(made, result=replace(made.result, category=10, images=made.result.images[1:]), point=made.points[-1])


def test_creating_again_is_the_same_workitem_with_the_new_priority_by_whatever_model(
    tmp_path: Path, server: UpsServer
) -> None:
    made = delivery(tmp_path, CASES["2d"])
    other = replace(changed(made), algorithm=replace(made.algorithm, sha256="cd" * 32))
    first, second = workitem(made, PACS), workitem(other, PACS)
    assert create(server, tmp_path, first, first, second) == 3 * ARRIVED
    assert server.complaints == []
    (stored,) = server.items.values()
    assert stored[tag("ScheduledProcedureStepPriority")]["Value"] == ["HIGH"]
    assert stored[tag("PatientID")]["Value"] == ["woman-1"]


@pytest.mark.parametrize("state", ["IN PROGRESS", "COMPLETED", "CANCELED", "gone"])
def test_workitem_that_a_reader_has_taken_is_left_alone(tmp_path: Path, server: UpsServer, state: str) -> None:
    one = item(tmp_path)
    create(server, tmp_path, one)
    server.items[one.uid][tag("ProcedureStepState")]["Value"] = [state]
    if state == "gone":
        server.faults = [409, 410]
    before = json.dumps(server.items)
    (answer,) = create(server, tmp_path, one)
    assert answer.outcome is Outcome.ARRIVED
    assert "is done" in answer.sentence or "a reader has" in answer.sentence
    assert json.dumps(server.items) == before


def test_connection_cut_after_the_work_was_done_makes_no_second_workitem(tmp_path: Path, server: UpsServer) -> None:
    server.faults = ["cut"]
    with pytest.raises(UnreachableError, match="cut the connection"):
        create(server, tmp_path, item(tmp_path))
    assert create(server, tmp_path, item(tmp_path)) == ARRIVED
    assert len(server.items) == 1


def test_server_that_does_not_answer_holds_up_a_run_no_longer_than_the_timeout(
    tmp_path: Path, server: UpsServer
) -> None:
    server.faults = [1.0]
    with pytest.raises(UnreachableError, match=r"did not answer within 0\.2 s"):
        create(server, tmp_path, item(tmp_path), timeout_s=0.2)


@pytest.mark.parametrize(("status", "outcome"), [(400, Outcome.NEVER), (500, Outcome.LATER)])
def test_refused_workitem_is_its_own_answer_and_the_others_follow(
    tmp_path: Path, server: UpsServer, status: int, outcome: Outcome
) -> None:
    server.faults = [status]
    one = item(tmp_path)
    refused, created = create(server, tmp_path, one, one)
    assert refused.outcome is outcome
    assert f"(HTTP {status})" in refused.sentence
    assert [created] == ARRIVED
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [b"[]", b"{}", b"nonsense", b'[{"00741000": 5}]', b"[" * 10_000])
def test_unreadable_answer_on_a_workitem_is_told_and_it_is_tried_again(
    tmp_path: Path, server: UpsServer, body: bytes
) -> None:
    server.faults = [409, body]
    (answer,) = create(server, tmp_path, item(tmp_path))
    assert answer.outcome is Outcome.LATER
    assert "cannot be read" in answer.sentence


@pytest.mark.parametrize("status", [401, 403, 404, 307])
def test_wrong_credentials_or_address_are_one_sentence_and_one_request(
    tmp_path: Path, server: UpsServer, status: int
) -> None:
    server.faults = [status]
    one = item(tmp_path)
    with pytest.raises(RefusedError, match="refuses our credentials" if status in (401, 403) else "no UPS-RS service"):
        create(server, tmp_path, one, one)
    assert len(server.requests) == 1


def test_server_that_is_busy_or_away_is_left_for_later(tmp_path: Path, server: UpsServer) -> None:
    server.faults = [503]
    with pytest.raises(UnreachableError, match="busy"):
        create(server, tmp_path, item(tmp_path))
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        create(UpsServer(url="http://127.0.0.1:9/rs"), tmp_path, item(tmp_path))
    assert "woman-1" not in str(caught.value)


def test_hostile_header_is_data_and_nothing_else(tmp_path: Path, server: UpsServer) -> None:
    name, number = "<script>alert(1)</script>^\"'\u00e9\u6c34", "../../etc/passwd"
    case = replace(CASES["2d"], header={"PatientName": name, "PatientID": number, "SpecificCharacterSet": "ISO_IR 192"})
    one = item(tmp_path, case)
    assert create(server, tmp_path, one) == ARRIVED
    stored = Dataset.from_json(server.items[one.uid])
    assert str(stored.PatientName) == name
    assert stored.PatientID == number
    assert all(number not in path for _, path in server.requests)
