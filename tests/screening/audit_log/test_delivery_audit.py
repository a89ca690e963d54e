"""What was sent, and each switch between shadow and live, stands in the audit log, also after a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from screening.audit_log import ChainedLog, verify
from screening.audit_log.chained_log import log_files
from screening.audit_log.deliveries import log_deliveries
from screening.delivery.answers import Answer, Outcome
from screening.delivery.outbox import Object, Outbox, Switch

MADE = datetime(2026, 3, 2, 4, tzinfo=UTC)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite") as opened:
        yield opened


def queued(outbox: Outbox, exam_id: str, *uids: str) -> None:
    objects = [Object("cad-sr", "1.2.840", uid, Path(f"/results/{uid}.dcm")) for uid in uids]
    outbox.enqueue("pacs", exam_id, MADE, objects)


def events(folder: Path, event: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for path in log_files(folder) for line in path.read_bytes().splitlines()]
    return [one for one in records if one["event"] == event]


def test_what_has_arrived_is_logged_once_and_what_waits_is_not(tmp_path: Path, outbox: Outbox) -> None:
    log = ChainedLog(tmp_path / "log")
    queued(outbox, "1.2.3", "1.2.3.1", "1.2.3.2", "1.2.3.3")
    for uid in ("1.2.3.1", "1.2.3.2"):
        outbox.record("pacs", Answer(uid, Outcome.ARRIVED))
    log_deliveries(log, outbox)
    outbox.record("pacs", Answer("1.2.3.3", Outcome.ARRIVED))
    log_deliveries(log, outbox)
    log_deliveries(log, outbox)
    logged = events(tmp_path / "log", "delivered")
    assert [[one["sop_instance_uid"] for one in record["objects"]] for record in logged] == [
        ["1.2.3.1", "1.2.3.2"],
        ["1.2.3.3"],
    ]
    assert {(one["exam_id"], one["destination"], one["state"]) for one in logged} == {("1.2.3", "pacs", "sent")}
    assert verify(tmp_path / "log").whole


def test_two_outboxes_of_one_log_hide_nothing_of_each_other(tmp_path: Path, outbox: Outbox) -> None:
    log = ChainedLog(tmp_path / "log")
    queued(outbox, "1.2.3", "1.2.3.1")
    outbox.record("pacs", Answer("1.2.3.1", Outcome.ARRIVED))
    with Outbox(tmp_path / "other.sqlite") as other:
        log_deliveries(log, other)
    log_deliveries(log, outbox)
    assert len(events(tmp_path / "log", "delivered")) == 1


def test_a_switch_to_live_is_logged_with_who_decided(tmp_path: Path, outbox: Outbox) -> None:
    log = ChainedLog(tmp_path / "log")
    for mode in ("shadow", "live"):
        outbox.note_mode(Switch(datetime.now(UTC), "north", "", mode, "Dr. Example", "screening@host", "ab" * 32))
    log_deliveries(log, outbox)
    log_deliveries(log, outbox)
    switches = events(tmp_path / "log", "mode-switched")
    assert [(one["before"], one["after"], one["decided_by"]) for one in switches] == [
        ("", "shadow", "Dr. Example"),
        ("shadow", "live", "Dr. Example"),
    ]
