"""Sending by C-STORE with storage commitment: to a peer that fails in every way, and to Orthanc."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ImplicitVRLittleEndian

from screening.delivery.answers import Outcome, RefusedError, UnreachableError
from screening.delivery.cstore import CStoreSender
from screening.delivery.destinations import Credentials
from screening.delivery.outbox import BackOff, Outbox, State
from screening.delivery.sending import Sent, send_queued
from screening.errors import ConfigError
from screening.site import Destination
from tests.support.orthanc import Orthanc, free_port, needs_orthanc
from tests.support.pacs import DimsePacs, dimse_pacs, parcels, queue


@pytest.fixture
def pacs() -> Iterator[DimsePacs]:
    with dimse_pacs(free_port()) as running:
        yield running


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite", BackOff(first_s=0.02, longest_s=0.05, most=3)) as opened:
        yield opened


def sender(url: str, user: str = "", password: str = "", **options: Any) -> CStoreSender:
    settings = {"timeout_s": 5.0, "commitment": False, **options}
    return CStoreSender(Destination(name="pacs", url=url, **settings), Credentials(user, password))


def states(outbox: Outbox) -> list[State]:
    return [one.state for one in outbox.parcels()]


def test_objects_arrive_unchanged_and_a_second_run_sends_nothing(
    outbox: Outbox, pacs: DimsePacs, tmp_path: Path
) -> None:
    uids = queue(outbox, "pacs", tmp_path, exams=2)
    assert send_queued(outbox, "pacs", sender(pacs.url)) == Sent(6, 0, 0)
    assert pacs.stored == [dcmread(tmp_path / f"{uid}.dcm") for uid in uids]
    assert send_queued(outbox, "pacs", sender(pacs.url)) == Sent(0, 0, 0)
    assert len(pacs.stored) == 6


def test_peer_that_takes_only_implicit_vr_gets_the_same_values(outbox: Outbox, tmp_path: Path) -> None:
    some = parcels(outbox, tmp_path)
    with dimse_pacs(free_port(), syntaxes=[ImplicitVRLittleEndian]) as pacs:
        answers = list(sender(pacs.url).send(some))
    assert {answer.outcome for answer in answers} == {Outcome.ARRIVED}
    assert [one.PixelData for one in pacs.stored] == [dcmread(parcel.path).PixelData for parcel in some]


def test_each_object_has_the_outcome_of_its_status(outbox: Outbox, pacs: DimsePacs, tmp_path: Path) -> None:
    some = parcels(outbox, tmp_path, count=4)
    pacs.statuses = [0xA700, 0xC000, 0x0111, 0xB000]
    assert [answer.outcome for answer in sender(pacs.url).send(some)] == [
        Outcome.LATER,
        Outcome.NEVER,
        Outcome.ARRIVED,
        Outcome.ARRIVED,
    ]


def test_association_that_is_cut_half_way_keeps_what_has_arrived_and_sends_the_rest(
    outbox: Outbox, pacs: DimsePacs, tmp_path: Path
) -> None:
    uids = queue(outbox, "pacs", tmp_path)
    pacs.cut_after = 1
    sent = send_queued(outbox, "pacs", sender(pacs.url))
    assert (sent.arrived, sent.waiting) == (1, 2)
    assert sent.problem == "pacs did not answer within 5 s, or broke off"
    pacs.cut_after = None
    assert send_queued(outbox, "pacs", sender(pacs.url)) == Sent(2, 0, 0)
    assert [str(one.SOPInstanceUID) for one in pacs.stored] == uids


def test_peer_that_is_down_is_told_in_a_sentence_and_loses_nothing(outbox: Outbox, tmp_path: Path) -> None:
    queue(outbox, "pacs", tmp_path)
    port = free_port()
    sent = send_queued(outbox, "pacs", sender(f"dicom://PACS@127.0.0.1:{port}"))
    assert sent == Sent(0, 0, 3, "pacs cannot be reached by DIMSE, or is busy")
    with dimse_pacs(port) as pacs:
        assert send_queued(outbox, "pacs", sender(pacs.url)) == Sent(3, 0, 0)


def test_wrong_ae_title_is_told_in_a_sentence_and_not_tried_again(
    outbox: Outbox, pacs: DimsePacs, tmp_path: Path
) -> None:
    queue(outbox, "pacs", tmp_path)
    start = time.monotonic()
    sent = send_queued(outbox, "pacs", sender(pacs.url.replace("PACS", "OTHER")), patience_s=30)
    assert time.monotonic() - start < 10
    assert "rejects the association (Called AE title not recognised)" in sent.problem
    assert "SCREENING (ours) and OTHER" in sent.problem
    assert sent.waiting == 3


def test_sop_class_that_the_peer_does_not_take_fails_with_its_reason_and_costs_no_other(
    outbox: Outbox, tmp_path: Path
) -> None:
    some = parcels(outbox, tmp_path)
    other = dcmread(some[1].path)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.50"
    other.save_as(some[1].path)
    with dimse_pacs(free_port()) as pacs:
        answers = list(sender(pacs.url).send(some))
        assert [answer.outcome for answer in answers] == [Outcome.ARRIVED, Outcome.NEVER, Outcome.ARRIVED]
        assert "does not accept its SOP class" in answers[1].sentence
        assert [answer.outcome for answer in sender(pacs.url).send(some[1:2])] == [Outcome.NEVER]


def test_files_that_are_gone_or_no_dicom_are_answered_and_the_others_arrive(
    outbox: Outbox, pacs: DimsePacs, tmp_path: Path
) -> None:
    some = parcels(outbox, tmp_path)
    some[0].path.unlink()
    some[1].path.write_bytes(b"no DICOM" * 100)
    outcomes = {answer.sop_instance_uid: answer.outcome for answer in sender(pacs.url).send(some)}
    assert [outcomes[one.sop_instance_uid] for one in some] == [Outcome.LATER, Outcome.NEVER, Outcome.ARRIVED]


@pytest.mark.parametrize("reports", ["same", "call"])
def test_committed_is_what_the_peer_reports_on_either_association_and_the_rest_is_sent_again(
    outbox: Outbox, pacs: DimsePacs, tmp_path: Path, reports: str
) -> None:
    uids = queue(outbox, "pacs", tmp_path)
    pacs.reports, pacs.call_back, pacs.lost = reports, free_port(), {uids[1]}
    with_commitment = sender(pacs.url, commitment=True, commitment_port=pacs.call_back)
    assert send_queued(outbox, "pacs", with_commitment) == Sent(3, 0, 1)
    assert states(outbox) == [State.COMMITTED, State.QUEUED, State.COMMITTED]
    pacs.lost = set()
    assert send_queued(outbox, "pacs", with_commitment, patience_s=5) == Sent(1, 0, 0)
    assert states(outbox) == [State.COMMITTED] * 3
    assert send_queued(outbox, "pacs", with_commitment) == Sent(0, 0, 0)
    assert pacs.requests == 2


def test_report_that_does_not_come_leaves_objects_sent_and_is_asked_for_in_the_next_run(
    outbox: Outbox, pacs: DimsePacs, tmp_path: Path
) -> None:
    queue(outbox, "pacs", tmp_path)
    pacs.reports = "never"
    assert send_queued(outbox, "pacs", sender(pacs.url, commitment=True, timeout_s=0.5)) == Sent(3, 0, 0)
    assert states(outbox) == [State.SENT] * 3
    pacs.reports = "same"
    assert send_queued(outbox, "pacs", sender(pacs.url, commitment=True)) == Sent(0, 0, 0)
    assert states(outbox) == [State.COMMITTED] * 3
    assert len(pacs.stored) == 3


def test_commitment_that_is_not_offered_is_asked_for_once(outbox: Outbox, tmp_path: Path) -> None:
    queue(outbox, "pacs", tmp_path)
    with dimse_pacs(free_port(), [DigitalMammographyXRayImageStorageForPresentation]) as pacs:
        for _ in range(2):
            assert send_queued(outbox, "pacs", sender(pacs.url, commitment=True)).problem == ""
            assert outbox.uncommitted("pacs") == ()
    assert states(outbox) == [State.SENT] * 3


def test_port_that_is_taken_is_told(outbox: Outbox, pacs: DimsePacs, tmp_path: Path) -> None:
    some = parcels(outbox, tmp_path)
    with pytest.raises(ConfigError, match=f"commitment_port {pacs.port} cannot be listened on"):
        list(sender(pacs.url, commitment=True, commitment_port=pacs.port).commit(some))


def test_user_and_password_are_shown_to_the_peer_and_a_wrong_one_is_refused(outbox: Outbox, tmp_path: Path) -> None:
    some = parcels(outbox, tmp_path)
    with dimse_pacs(free_port(), asks_for_user=True) as pacs:
        assert len(list(sender(pacs.url, "reader", "right").send(some))) == 3
        with pytest.raises(RefusedError, match="check the credentials") as caught:
            list(sender(pacs.url, "reader", "wr0ng").send(some))
    assert pacs.users == [(b"reader", b"right"), (b"reader", b"wr0ng")]
    assert "wr0ng" not in str(caught.value)


def test_over_tls_only_a_peer_with_a_trusted_certificate_gets_objects(
    outbox: Outbox, tls_files: tuple[Path, Path], tmp_path: Path
) -> None:
    some = parcels(outbox, tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*tls_files)
    with dimse_pacs(free_port(), tls=context) as pacs:
        url = pacs.url.replace("dicom:", "dicom-tls:")
        with pytest.raises(UnreachableError):
            list(sender(url).send(some))
        assert not pacs.stored
        assert len(list(sender(url, ca_file=str(tls_files[0])).send(some))) == 3
        assert len(pacs.stored) == 3


@needs_orthanc
def test_orthanc_has_what_was_sent_identical_and_commits_to_it(
    outbox: Outbox, orthanc: Orthanc, commitment_port: int, tmp_path: Path
) -> None:
    uids = queue(outbox, "pacs", tmp_path, exams=2)
    to_orthanc = sender(orthanc.dimse, timeout_s=20, commitment=True, commitment_port=commitment_port)
    assert send_queued(outbox, "pacs", to_orthanc) == Sent(6, 0, 0)
    assert orthanc.stored() == {uid: dcmread(tmp_path / f"{uid}.dcm") for uid in uids}
    assert states(outbox) == [State.COMMITTED] * 6
    assert send_queued(outbox, "pacs", to_orthanc) == Sent(0, 0, 0)
    assert orthanc.changes().count("NewInstance") == 6


@needs_orthanc
def test_orthanc_does_not_commit_to_what_it_lost_and_gets_it_again(
    outbox: Outbox, orthanc: Orthanc, commitment_port: int, tmp_path: Path
) -> None:
    queue(outbox, "pacs", tmp_path)
    assert send_queued(outbox, "pacs", sender(orthanc.dimse)).arrived == 3
    orthanc.clear()
    outbox_again = sender(orthanc.dimse, timeout_s=20, commitment=True, commitment_port=commitment_port)
    parcels_there = outbox.parcels()
    answers = list(outbox_again.commit(parcels_there))
    assert [answer.outcome for answer in answers] == [Outcome.LATER] * 3
    for answer in answers:
        outbox.record("pacs", answer)
    assert send_queued(outbox, "pacs", outbox_again, patience_s=5).arrived == 3
    assert states(outbox) == [State.COMMITTED] * 3
    assert len(orthanc.stored()) == 3
