"""The outbox: nothing is lost and nothing is sent twice, whatever happens in between."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.engine import Engine

from screening.delivery.answers import Answer, Outcome, by_status
from screening.delivery.outbox import BackOff, Object, Outbox, OutdatedError, State, Switch
from screening.errors import StoreError
from tests.support.pacs import MADE, objects, queue

EARLY, LATE = MADE, MADE + timedelta(hours=1)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite") as opened:
        yield opened


def named(*uids: str) -> list[Object]:
    return [Object("cad-sr", "1.2.840", uid, Path(f"/results/{uid}.dcm")) for uid in uids]


def states(outbox: Outbox) -> dict[str, State]:
    return {one.sop_instance_uid: one.state for one in outbox.parcels()}


def test_what_has_arrived_is_never_due_again_however_often_it_is_queued(outbox: Outbox) -> None:
    assert outbox.enqueue("pacs", "exam", EARLY, named("1", "2")) == 2
    outbox.record("pacs", Answer("1", Outcome.ARRIVED))
    assert outbox.enqueue("pacs", "exam", EARLY, named("1", "2")) == 0
    assert [one.sop_instance_uid for one in outbox.next_exam("pacs")] == ["2"]


def test_each_destination_has_its_own_state(outbox: Outbox) -> None:
    for name in ("pacs", "archive"):
        outbox.enqueue(name, "exam", EARLY, named("1"))
    outbox.record("pacs", Answer("1", Outcome.ARRIVED))
    assert outbox.next_exam("pacs") == ()
    assert len(outbox.next_exam("archive")) == 1


def test_exams_go_in_order_of_arrival_and_those_that_failed_after_the_others(outbox: Outbox) -> None:
    for exam in ("first", "second", "third"):
        outbox.enqueue("pacs", exam, EARLY, named(exam))
    outbox.record("pacs", Answer("first", Outcome.LATER, "busy"), EARLY)
    order = []
    while group := outbox.next_exam("pacs"):
        order.append(group[0].exam_id)
        outbox.record("pacs", Answer(group[0].sop_instance_uid, Outcome.ARRIVED))
    assert order == ["second", "third", "first"]


def test_back_off_doubles_up_to_its_longest_and_an_object_fails_after_the_last_attempt(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite", BackOff(first_s=5, longest_s=30, most=5)) as outbox:
        outbox.enqueue("pacs", "exam", EARLY, named("1"))
        waits = []
        for _ in range(4):
            outbox.record("pacs", Answer("1", Outcome.LATER, "busy"), EARLY)
            due = outbox.next_try("pacs")
            assert due is not None
            waits.append((due - EARLY).total_seconds())
            assert outbox.next_exam("pacs", due - timedelta(seconds=1)) == ()
        assert waits == [5, 10, 20, 30]
        outbox.record("pacs", Answer("1", Outcome.LATER, "busy"), EARLY)
        assert outbox.counts("pacs")[State.FAILED] == 1
        outbox.make_due("pacs")
        assert outbox.next_exam("pacs") == ()
        outbox.make_due("pacs", failed=True)
        assert outbox.next_exam("pacs")[0].attempts == 0


def test_newer_result_supersedes_what_is_queued_and_what_has_arrived(outbox: Outbox) -> None:
    outbox.enqueue("pacs", "exam", EARLY, named("old-sent", "old-queued", "same"))
    outbox.enqueue("pacs", "other exam", EARLY, named("other"))
    outbox.begin([one for one in outbox.parcels() if one.sop_instance_uid == "old-sent"])
    outbox.record("pacs", Answer("old-sent", Outcome.ARRIVED))
    assert outbox.to_supersede("pacs", "exam", EARLY - timedelta(hours=1), {"older"}) == ()
    told = outbox.to_supersede("pacs", "exam", LATE, {"new", "same"})
    assert [one.sop_instance_uid for one in told] == ["old-sent"]
    outbox.enqueue("pacs", "exam", LATE, named("new", "same"))
    assert states(outbox) == {
        "old-sent": State.SUPERSEDED,
        "old-queued": State.SUPERSEDED,
        "same": State.QUEUED,
        "other": State.QUEUED,
        "new": State.QUEUED,
    }
    assert [one.sop_instance_uid for one in outbox.next_exam("pacs")] == ["same", "new"]


def test_older_result_never_takes_the_place_of_a_newer_one(outbox: Outbox) -> None:
    outbox.enqueue("pacs", "exam", EARLY, named("old"))
    outbox.enqueue("pacs", "exam", LATE, named("new"))
    with pytest.raises(OutdatedError, match="a newer result of this exam"):
        outbox.enqueue("pacs", "exam", EARLY, named("old"))
    assert states(outbox) == {"old": State.SUPERSEDED, "new": State.QUEUED}


def test_late_word_of_arrival_does_not_bring_a_superseded_object_back(outbox: Outbox) -> None:
    outbox.enqueue("pacs", "exam", EARLY, named("old"))
    outbox.enqueue("pacs", "exam", LATE, named("new"))
    outbox.record("pacs", Answer("old", Outcome.ARRIVED))
    assert states(outbox)["old"] is State.SUPERSEDED
    assert outbox.parcels()[0].arrived is not None


def test_exam_that_is_as_it_was_before_gets_its_first_objects_back(outbox: Outbox) -> None:
    outbox.enqueue("pacs", "exam", EARLY, named("a", "b"))
    outbox.record("pacs", Answer("a", Outcome.ARRIVED))
    outbox.enqueue("pacs", "exam", LATE, named("c"))
    outbox.enqueue("pacs", "exam", LATE + timedelta(hours=1), named("a", "b"))
    assert states(outbox) == {"a": State.SENT, "b": State.QUEUED, "c": State.SUPERSEDED}


def test_commitment_is_asked_for_once_and_what_is_not_committed_is_sent_again(outbox: Outbox) -> None:
    outbox.enqueue("pacs", "exam", EARLY, named("1", "2", "3"))
    for uid in ("1", "2", "3"):
        outbox.record("pacs", Answer(uid, Outcome.ARRIVED))
    outbox.record("pacs", Answer("1", Outcome.COMMITTED))
    outbox.record("pacs", Answer("2", Outcome.LATER, "not committed"), EARLY)
    outbox.record("pacs", Answer("3", Outcome.NOT_OFFERED))
    assert outbox.uncommitted("pacs") == ()
    assert states(outbox) == {"1": State.COMMITTED, "2": State.QUEUED, "3": State.SENT}


_ENDS = st.sampled_from([*Outcome, "crash"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ends=st.lists(_ENDS, max_size=12))
def test_whatever_a_pacs_answers_an_object_is_due_until_it_has_arrived_or_failed_and_never_after(
    tmp_path_factory: pytest.TempPathFactory, ends: list[Outcome | str]
) -> None:
    path = tmp_path_factory.mktemp("outbox") / "outbox.sqlite"
    outbox, now, expected = Outbox(path, BackOff(first_s=1, most=100)), EARLY, State.QUEUED
    outbox.enqueue("pacs", "exam", EARLY, named("1"))
    for end in ends:
        now += timedelta(hours=1)
        due = outbox.next_exam("pacs", now)
        assert len(due) == (expected is State.QUEUED)
        if not due or end in (Outcome.COMMITTED, Outcome.NOT_OFFERED):
            continue
        outbox.begin(due)
        if end == "crash":  # nothing is known of this attempt
            outbox.close()
            outbox = Outbox(path, outbox.back_off)
        elif isinstance(end, Outcome):
            outbox.record("pacs", Answer("1", end), now)
            expected = {Outcome.ARRIVED: State.SENT, Outcome.NEVER: State.FAILED}.get(end, State.QUEUED)
        outbox.enqueue("pacs", "exam", EARLY, named("1"), now=now)
        assert states(outbox) == {"1": expected}
    outbox.close()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome.ARRIVED),
        (0xB000, Outcome.ARRIVED),
        (0xB007, Outcome.ARRIVED),
        (0x0111, Outcome.ARRIVED),
        (0xA700, Outcome.LATER),
        (0x0110, Outcome.LATER),
        (0x1234, Outcome.LATER),
        (0xA900, Outcome.NEVER),
        (0xC000, Outcome.NEVER),
        (0xC122, Outcome.NEVER),
        (0x0122, Outcome.NEVER),
    ],
)
def test_statuses_mean_what_the_standard_s_tables_say(status: int, outcome: Outcome) -> None:
    assert by_status("1", status).outcome is outcome


_ENQUEUE_FOR_EVER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from screening.delivery.outbox import Object, Outbox
with Outbox(Path(sys.argv[1])) as outbox:
    for n in range(100_000):
        outbox.enqueue("pacs", f"exam-{n}", datetime.now(UTC), [Object("cad-sr", "1", f"{n}", Path("x"))])
        print(n, flush=True)
"""


def test_what_was_queued_outlives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    arguments = [sys.executable, "-c", _ENQUEUE_FOR_EVER, str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(10)]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout.read().split()]
    with Outbox(path) as outbox:
        kept = [one.sop_instance_uid for one in outbox.parcels()]
    assert kept[: len(said)] == [str(n) for n in said]
    assert len(kept) <= len(said) + 1


def queue_exams(outbox: Outbox, count: int) -> None:
    for n in range(1, count + 1):
        outbox.enqueue("pacs", f"exam-{n}", EARLY, named(*(f"{n}.{k}" for k in range(8))))


def test_full_database_is_told_and_what_is_in_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    Outbox(path).close()

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 30")

    event.listen(Engine, "connect", limit)
    try:
        with Outbox(path) as outbox, pytest.raises(StoreError, match=r"outbox .* is full: free some space"):
            queue_exams(outbox, 1000)
    finally:
        event.remove(Engine, "connect", limit)
    with Outbox(path) as outbox:
        kept = outbox.parcels()
        assert kept
        assert len(kept) % 8 == 0  # whole exams
        assert outbox.enqueue("pacs", "exam-9999", EARLY, named("more")) == 1


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(options, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_is_told_and_after_making_room_everything_can_be_queued(tiny_disk: Path) -> None:
    filling = tiny_disk / "filling"
    with Outbox(tiny_disk / "outbox.sqlite") as outbox:
        outbox.enqueue("pacs", "exam-0", EARLY, named("0"))
        with filling.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            file.writelines(itertools.repeat(b"x" * 512, 10_000))
        with pytest.raises(StoreError, match="is full: free some space"):
            queue_exams(outbox, 1000)
        filling.unlink()
        kept = len(outbox.parcels())
        assert kept >= 1
        assert outbox.enqueue("pacs", "another", EARLY, named("another")) == 1
        assert len(outbox.parcels()) == kept + 1


def test_only_one_program_at_a_time_sends(outbox: Outbox) -> None:
    with (
        outbox.sending(),
        Outbox(outbox.path) as other,
        pytest.raises(StoreError, match="Another program is sending"),
        other.sending(patience_s=0.0),
    ):
        pass
    with Outbox(outbox.path) as other, other.sending(patience_s=0.0):
        pass


def switch(after: str, site: str = "a-site") -> Switch:
    return Switch(EARLY, site, "", after, "Dr. Who", "operator@host", "ab" * 32)


def test_switch_between_shadow_and_live_is_logged_with_who_and_when_and_only_when_it_changes(outbox: Outbox) -> None:
    for mode in ("shadow", "shadow", "live", "live", "shadow"):
        outbox.note_mode(switch(mode))
    outbox.note_mode(switch("shadow", "b-site"))
    assert [(one.site, one.before, one.after) for one in outbox.switches()] == [
        ("a-site", "", "shadow"),
        ("a-site", "shadow", "live"),
        ("a-site", "live", "shadow"),
        ("b-site", "", "shadow"),
    ]
    assert all((one.when, one.decided_by, one.user) == (EARLY, "Dr. Who", "operator@host") for one in outbox.switches())


def test_file_that_is_no_outbox_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"these are my notes, and not a database " * 100)
    with pytest.raises(StoreError, match="damaged or no outbox"):
        Outbox(text)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    with pytest.raises(StoreError, match="no outbox of this version"):
        Outbox(other)
    assert text.read_bytes().startswith(b"these are")


def test_locked_outbox_is_told(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite", busy_seconds=0.05) as outbox:
        other = sqlite3.connect(outbox.path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another program"):
            outbox.enqueue("pacs", "exam", EARLY, named("1"))
        other.close()
        assert outbox.enqueue("pacs", "exam", EARLY, named("1")) == 1


def test_identifiers_with_odd_signs_are_kept_apart(outbox: Outbox, tmp_path: Path) -> None:
    for exam in ("../../etc/passwd", "<script>", "x" * 10_000, "a'; DROP TABLE parcels; --"):
        outbox.enqueue("pacs", exam, EARLY, named(exam))
    assert len({one.exam_id for one in outbox.parcels()}) == 4
    assert queue(outbox, "archive", tmp_path, exams=1, count=2) == [
        one.sop_instance_uid for one in objects(tmp_path, 2)
    ]
