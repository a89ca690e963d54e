"""Sending by STOW-RS: to a service that fails in every way, and to Orthanc."""

from __future__ import annotations

import logging
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread

from screening.delivery.answers import Answer, Outcome, RefusedError, UnreachableError
from screening.delivery.destinations import Credentials, chosen, credentials, sender_for
from screening.delivery.outbox import BackOff, Outbox, State
from screening.delivery.sending import Sent, send_queued
from screening.delivery.stow import StowSender
from screening.errors import ConfigError
from screening.site import DeliveryRules, Destination, Mode
from tests.support.orthanc import Orthanc, free_port, needs_orthanc
from tests.support.pacs import (
    NAME,
    PATIENT,
    WebPacs,
    cut,
    parcels,
    partly,
    queue,
    says,
    slow,
    store,
    store_silently,
    trickle,
    web_pacs,
)

SECRET = "p4ss-w0rd"


@pytest.fixture
def pacs() -> Iterator[WebPacs]:
    with web_pacs() as running:
        yield running


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite", BackOff(first_s=0.02, longest_s=0.05, most=3)) as opened:
        yield opened


def sender(url: str, timeout: float = 5.0, **access: str) -> StowSender:
    return StowSender(Destination(name="pacs", url=url, timeout_s=timeout), Credentials(**access))


def send(outbox: Outbox, pacs: WebPacs, patience: float = 0.0, timeout: float = 5.0) -> Sent:
    return send_queued(outbox, "pacs", sender(pacs.url, timeout), patience)


def test_objects_arrive_as_the_very_bytes_of_their_files_and_a_second_run_sends_nothing(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path
) -> None:
    uids = queue(outbox, "pacs", tmp_path, exams=3)
    assert send(outbox, pacs) == Sent(arrived=9, failed=0, waiting=0)
    assert list(pacs.stored) == uids
    assert all(content == (tmp_path / f"{uid}.dcm").read_bytes() for uid, content in pacs.stored.items())
    queue(outbox, "pacs", tmp_path, exams=3)
    assert send(outbox, pacs) == Sent(arrived=0, failed=0, waiting=0)
    assert len(pacs.requests) == 3


def test_objects_that_the_answer_says_failed_are_told_apart_from_those_that_were_stored(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path
) -> None:
    some = parcels(outbox, tmp_path)
    pacs.script = [partly(202, [None, 0xA900, 0xA700])]
    assert list(sender(pacs.url).send(some)) == [
        Answer(some[0].sop_instance_uid, Outcome.ARRIVED),
        Answer(
            some[1].sop_instance_uid,
            Outcome.NEVER,
            "the PACS says that it does not match its SOP class (status 0xA900)",
        ),
        Answer(some[2].sop_instance_uid, Outcome.LATER, "the PACS has no resources left (status 0xA700)"),
    ]


def test_conflict_is_tried_again_unless_it_says_of_an_instance_why_it_never_will_be_taken(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path
) -> None:
    queue(outbox, "pacs", tmp_path)
    pacs.script = [says(409), partly(409, [0xA700, 0x0122, 0x0110])]
    assert send(outbox, pacs, patience=5) == Sent(arrived=2, failed=1, waiting=0)
    assert len(pacs.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        says(200),
        says(200, "<html>Please log in</html>"),
        says(200, "[" * 5000),
        says(200, '{"00081199": {"Value": ["x", {"00081155": 5}]}}'),
    ],
    ids=["empty", "login-page", "nested", "malformed"],
)
def test_answer_that_does_not_name_an_object_is_no_proof_that_it_arrived(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path, answer: Callable[..., None]
) -> None:
    some = parcels(outbox, tmp_path)
    pacs.script = [answer]
    answers = list(sender(pacs.url).send(some))
    assert {one.outcome for one in answers} == {Outcome.LATER}
    assert answers[0].sentence == "the PACS does not say that it stored it (HTTP 200)"
    assert send(outbox, pacs).arrived == 3


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials_are_one_sentence_and_one_request_and_nothing_is_lost(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path, status: int
) -> None:
    queue(outbox, "pacs", tmp_path, exams=5)
    pacs.always = says(status)
    sent = send(outbox, pacs, patience=5)
    assert sent == Sent(0, 0, 15, f"pacs refuses our credentials (HTTP {status}); check the variables that hold them")
    assert len(pacs.requests) == 1
    pacs.always = store
    assert send(outbox, pacs) == Sent(15, 0, 0)


@pytest.mark.parametrize("status", [301, 302, 307, 404, 405, 415])
def test_wrong_address_is_told_and_a_redirect_not_followed(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path, status: int
) -> None:
    queue(outbox, "pacs", tmp_path)
    pacs.script = [says(status, Location=f"{pacs.url}/elsewhere")]
    sent = send(outbox, pacs, patience=5)
    assert "no STOW-RS service at this address" in sent.problem
    assert sent.waiting == 3
    assert len(pacs.requests) == 1


def test_bad_request_costs_only_the_object_that_it_is_about(outbox: Outbox, pacs: WebPacs, tmp_path: Path) -> None:
    queue(outbox, "pacs", tmp_path)
    pacs.script = [says(400), store, says(400), store]
    assert send(outbox, pacs) == Sent(arrived=2, failed=1, waiting=0)


def test_server_error_is_tried_again_with_growing_pauses_and_then_given_up(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path
) -> None:
    queue(outbox, "pacs", tmp_path)
    pacs.always = says(500)
    assert send(outbox, pacs, patience=5) == Sent(arrived=0, failed=3, waiting=0)
    assert len(pacs.requests) == outbox.back_off.most


def test_exam_on_which_the_pacs_fails_does_not_hold_up_the_others(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path
) -> None:
    uids = queue(outbox, "pacs", tmp_path, exams=4)
    pacs.script = [says(500)]
    assert send(outbox, pacs, patience=5) == Sent(arrived=12, failed=0, waiting=0)
    assert set(list(pacs.stored)[:3]) == set(uids[3:6])


def test_pacs_that_fails_on_everything_is_left_alone_for_a_while(outbox: Outbox, pacs: WebPacs, tmp_path: Path) -> None:
    queue(outbox, "pacs", tmp_path, exams=20)
    pacs.always = says(500)
    sent = send(outbox, pacs)
    assert sent.problem == "the PACS could not take several exams one after the other"
    assert len(pacs.requests) == 3
    assert sent.waiting == 60


def test_pacs_that_is_down_at_the_start_gets_everything_when_it_comes_up(outbox: Outbox, tmp_path: Path) -> None:
    uids = queue(outbox, "pacs", tmp_path, exams=2)
    port = free_port()
    url = f"http://127.0.0.1:{port}/dicom-web"
    sent = send_queued(outbox, "pacs", sender(url))
    assert sent == Sent(0, 0, 6, "pacs cannot be reached, or cut the connection")
    assert {one.attempts for one in outbox.parcels()} == {0}  # it is not the objects' fault
    with web_pacs(port) as pacs:
        assert send(outbox, pacs) == Sent(6, 0, 0)
        assert list(pacs.stored) == uids


def test_pacs_that_goes_down_in_the_middle_gets_the_rest_later(outbox: Outbox, pacs: WebPacs, tmp_path: Path) -> None:
    uids = queue(outbox, "pacs", tmp_path, exams=4)
    pacs.script = [store, says(503), says(503), store]
    assert send(outbox, pacs, patience=10) == Sent(12, 0, 0)
    assert list(pacs.stored) == uids


@pytest.mark.parametrize("fault", [cut, store_silently], ids=["cut-half-way", "cut-after-storing"])
def test_cut_connection_is_no_arrival_and_the_same_objects_are_sent_again(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path, fault: Callable[..., None]
) -> None:
    uids = queue(outbox, "pacs", tmp_path)
    pacs.script = [fault]
    sent = send(outbox, pacs)
    assert (sent.arrived, sent.waiting) == (0, 3)
    assert sent.problem
    assert send(outbox, pacs) == Sent(3, 0, 0)
    assert list(pacs.stored) == uids


@pytest.mark.parametrize("fault", [slow(2.0), trickle], ids=["silent", "trickles"])
def test_slow_pacs_holds_up_a_run_no_longer_than_the_timeout(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path, fault: Callable[..., None]
) -> None:
    queue(outbox, "pacs", tmp_path)
    pacs.script = [fault]
    start = time.monotonic()
    sent = send(outbox, pacs, timeout=0.3)
    assert time.monotonic() - start < 2.0
    assert (sent.arrived, sent.waiting) == (0, 3)
    assert sent.problem
    assert send(outbox, pacs).arrived == 3


def test_file_that_is_gone_is_told_and_the_others_of_the_exam_arrive(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path
) -> None:
    uids = queue(outbox, "pacs", tmp_path)
    (tmp_path / f"{uids[1]}.dcm").unlink()
    assert send(outbox, pacs) == Sent(2, 0, 1)
    assert "cannot be read (No such file" in outbox.parcels()[1].error
    queue(outbox, "pacs", tmp_path)
    assert send(outbox, pacs, patience=5) == Sent(1, 0, 0)


def test_server_that_speaks_no_tls_or_has_a_certificate_that_nobody_trusts_gets_nothing(
    outbox: Outbox, tls_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = parcels(outbox, tmp_path)
    with web_pacs() as plain, pytest.raises(UnreachableError):
        list(sender(plain.url.replace("http:", "https:")).send(some))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*tls_files)
    # What a machine trusts by its environment is not what a profile says.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    with web_pacs(tls=context) as pacs:
        with pytest.raises(RefusedError, match="certificate cannot be trusted"):
            list(sender(pacs.url).send(some))
        assert not pacs.stored
        trusting = StowSender(Destination(name="pacs", url=pacs.url, ca_file=str(tls_files[0])), Credentials())
        assert {answer.outcome for answer in trusting.send(some)} == {Outcome.ARRIVED}


@pytest.mark.parametrize(
    ("access", "header"),
    [
        ({"user_env": "A_USER", "password_env": "A_PASSWORD"}, "Basic cmVhZGVyOnA0c3MtdzByZA=="),
        ({"token_env": "A_PASSWORD"}, f"Bearer {SECRET}"),
        ({}, None),
    ],
    ids=["user", "token", "nobody"],
)
def test_credentials_come_from_the_environment_and_are_shown_nowhere(
    outbox: Outbox,
    pacs: WebPacs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    access: dict[str, str],
    header: str | None,
) -> None:
    monkeypatch.setenv("A_USER", "reader")
    monkeypatch.setenv("A_PASSWORD", SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n" if access else "")
    caplog.set_level(logging.DEBUG)
    destination = Destination(name="pacs", url=pacs.url, **access)  # type: ignore[arg-type] # mypy sees str alone
    queue(outbox, "pacs", tmp_path)
    pacs.script = [store, says(401)]
    assert send_queued(outbox, "pacs", sender_for(destination)).arrived == 3
    assert pacs.requests[0].get("Authorization") == header
    queue(outbox, "pacs", tmp_path, exams=2)
    problem = send_queued(outbox, "pacs", sender_for(destination)).problem
    assert "credentials" in problem
    everything = problem + caplog.text + repr(credentials(destination)) + destination.model_dump_json()
    for secret in (SECRET, "cmVhZGVyO", PATIENT, NAME):
        assert secret not in everything


def test_variable_that_is_not_set_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="token_env names the environment variable A_TOKEN, which is not set"):
        sender_for(Destination(name="pacs", url="https://pacs.example/dicom-web", token_env="A_TOKEN"))


SHADOW = Destination(name="archive", url="https://archive.example/dicom-web")
LIVE = Destination(name="pacs", url="https://pacs.example/dicom-web")
RULES = DeliveryRules(live=(LIVE,), shadow=(SHADOW,))


def test_mode_says_where_results_go() -> None:
    assert chosen(RULES, None) == (SHADOW,)
    live = DeliveryRules(mode=Mode.LIVE, decided_by="Dr. Who", live=(LIVE,), shadow=(SHADOW,))
    assert chosen(live, None) == (LIVE,)
    assert chosen(RULES, "archive") == (SHADOW,)


@pytest.mark.parametrize("to", ["pacs", LIVE.url, LIVE.url + "/"])
def test_nobody_goes_live_by_a_slip_of_the_command_line(to: str) -> None:
    with pytest.raises(ConfigError, match="the site is in shadow mode"):
        chosen(RULES, to)


def test_address_without_profile_takes_the_documented_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCREENING_PACS_TOKEN", SECRET)
    (destination,) = chosen(DeliveryRules(), "https://pacs.example/dicom-web/")
    assert credentials(destination) == Credentials(token=SECRET)
    assert destination.url == destination.name == "https://pacs.example/dicom-web"
    assert chosen(DeliveryRules(), "dicom://PACS@host:104")[0].token_env is None
    with pytest.raises(ConfigError, match=r"--to: .*credentials do not belong into a URL"):
        chosen(DeliveryRules(), "https://me:secret@pacs.example/")


_SEND = """
import sys
from pathlib import Path
from screening.delivery.destinations import Credentials
from screening.delivery.outbox import Outbox
from screening.delivery.sending import send_queued
from screening.delivery.stow import StowSender
from screening.site import Destination
with Outbox(Path(sys.argv[1])) as outbox:
    send_queued(outbox, "pacs", StowSender(Destination(name="pacs", url=sys.argv[2]), Credentials()))
"""


def test_process_killed_while_the_pacs_stores_loses_nothing_and_the_pacs_has_each_object_once(
    outbox: Outbox, pacs: WebPacs, tmp_path: Path
) -> None:
    uids = queue(outbox, "pacs", tmp_path, exams=3)
    with subprocess.Popen([sys.executable, "-c", _SEND, str(outbox.path), pacs.url]) as process:

        def store_and_kill(handler: Any, contents: dict[str, bytes]) -> None:
            handler.server.pacs.stored |= contents
            os.kill(process.pid, signal.SIGKILL)

        pacs.script = [store, store_and_kill]
    assert process.returncode == -signal.SIGKILL
    assert [one.state for one in outbox.parcels()] == [State.SENT] * 3 + [State.QUEUED] * 6
    assert send(outbox, pacs) == Sent(6, 0, 0)
    assert list(pacs.stored) == uids
    assert len(pacs.requests) == 4


@needs_orthanc
def test_orthanc_has_what_was_sent_once_and_gives_it_back_identical(
    outbox: Outbox, orthanc: Orthanc, tmp_path: Path
) -> None:
    uids = queue(outbox, "pacs", tmp_path, exams=3)
    access = {"user": orthanc.user, "password": orthanc.password}
    to_orthanc = sender(orthanc.dicomweb, 60, **access)
    assert send_queued(outbox, "pacs", to_orthanc) == Sent(9, 0, 0)
    session = requests.Session()
    session.auth = (orthanc.user, orthanc.password)
    client = DICOMwebClient(orthanc.dicomweb, session)
    read = [
        one for study in client.search_for_studies() for one in client.retrieve_study(study["0020000D"]["Value"][0])
    ]
    assert {str(one.SOPInstanceUID): one for one in read} == {uid: dcmread(tmp_path / f"{uid}.dcm") for uid in uids}
    assert send_queued(outbox, "pacs", to_orthanc) == Sent(0, 0, 0)
    assert orthanc.changes().count("NewInstance") == 9


@needs_orthanc
def test_two_hundred_exams_at_once_all_arrive_in_order(outbox: Outbox, orthanc: Orthanc, tmp_path: Path) -> None:
    uids = queue(outbox, "pacs", tmp_path, exams=200, count=1)
    to_orthanc = sender(orthanc.dicomweb, 60, user=orthanc.user, password=orthanc.password)
    assert send_queued(outbox, "pacs", to_orthanc) == Sent(200, 0, 0)
    changes = orthanc.get("/changes?limit=100000").json()["Changes"]
    arrived = [one["ID"] for one in changes if one["ChangeType"] == "NewInstance"]
    stored = {one["ID"]: one["MainDicomTags"]["SOPInstanceUID"] for one in orthanc.get("/instances?expand").json()}
    assert [stored[one] for one in arrived] == uids


@needs_orthanc
def test_orthanc_takes_again_what_it_has_already_without_keeping_it_twice(
    outbox: Outbox, orthanc: Orthanc, tmp_path: Path
) -> None:
    some = parcels(outbox, tmp_path)
    to_orthanc = sender(orthanc.dicomweb, 60, user=orthanc.user, password=orthanc.password)
    for _ in range(2):  # as after a crash before the answer was noted
        assert {answer.outcome for answer in to_orthanc.send(some)} == {Outcome.ARRIVED}
    assert len(orthanc.stored()) == 3


@needs_orthanc
def test_orthanc_refuses_wrong_credentials_and_what_is_no_dicom_costs_only_itself(
    outbox: Outbox, orthanc: Orthanc, tmp_path: Path
) -> None:
    some = parcels(outbox, tmp_path)
    with pytest.raises(RefusedError, match="credentials"):
        list(sender(orthanc.dicomweb, 60, user=orthanc.user, password="wrong").send(some))
    some[1].path.write_bytes(b"no DICOM" * 100)
    answers = list(sender(orthanc.dicomweb, 60, user=orthanc.user, password=orthanc.password).send(some))
    assert [answer.outcome is Outcome.ARRIVED for answer in answers] == [True, False, True]
    assert len(orthanc.stored()) == 2
