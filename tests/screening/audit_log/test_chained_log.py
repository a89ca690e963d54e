"""The audit log's chain: what tampering it shows, and what a crash leaves."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from screening.audit_log import ChainedLog, verify
from screening.audit_log.chained_log import REPAIRED, log_files
from screening.audit_log.prune import prune
from screening.audit_log.record import START, line_of, record_of
from screening.errors import ConfigError, StoreError
from tests.support.audit_logs import KEY, Clock, filled, lines, write_lines


def sentences(folder: Path, key: bytes | None = None, expect: str | None = None) -> list[str]:
    return [str(problem) for problem in verify(folder, key, expect).problems]


# --- whole ----------------------------------------------------------------------------------------------------------


def test_an_untouched_log_is_whole_and_ends_where_its_writer_says(tmp_path: Path) -> None:
    log = filled(tmp_path)
    found = verify(tmp_path, expect=log.head().hash)
    assert found.whole
    assert found.head == log.head()
    assert (found.records, found.first, found.notes) == (8, 0, ())


def test_a_log_can_be_checked_without_this_program(tmp_path: Path) -> None:
    """The recipe of docs/audit-log.md: each hash is SHA-256 of the line without its last member."""
    filled(tmp_path)
    previous = START
    for line in lines(tmp_path):
        body, _, digest = line.rpartition(b',"hash":"')
        assert hashlib.sha256(body + b"}").hexdigest() == digest[:-2].decode()
        assert json.loads(line)["previous"] == previous
        previous = json.loads(line)["hash"]


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_any_content_is_one_line_of_ascii_and_comes_back_as_it_was(content: dict[str, object]) -> None:
    own = {"event": "e", "previous": START, "sequence": 0, "time": "t"}
    line, digest = line_of({**content, **own}, None)
    assert line.isascii()
    assert b"\n" not in line
    record = record_of(line, None)
    assert record.sound
    expected = {name: value for name, value in content.items() if name not in ("hash", "seal")}
    assert {**expected, **own, "seal": "sha256", "hash": digest} == record.content


def test_a_figure_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ChainedLog(tmp_path).append("exam", {"score": float("nan")})


# --- tampering ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_every_changed_bit_is_found_and_told_by_its_line(
    tmp_path: Path, key: bytes | None, place: int, bit: int
) -> None:
    folder = tmp_path / str(key)
    if not folder.exists():
        filled(folder, key=key)
        (folder / "kept").write_bytes(log_files(folder)[0].read_bytes())
    whole = (folder / "kept").read_bytes()
    changed = bytearray(whole)
    place %= len(whole) - 1  # the last line break alone may be missing
    changed[place] ^= 1 << bit
    log_files(folder)[0].write_bytes(changed)
    found = verify(folder, key)
    assert not found.whole
    line = whole[:place].count(b"\n") + 1
    assert found.problems[0].line in (line, line + 1)  # a hash that is changed is missed by the record after it


def test_a_removed_record_is_found(tmp_path: Path) -> None:
    filled(tmp_path)
    content = lines(tmp_path)
    write_lines(tmp_path, content[:3] + content[5:])
    assert sentences(tmp_path) == [
        "audit-000001-2026-01.jsonl, line 4: records 3 to 4 should stand before record 5: removed, or put elsewhere"
    ]


def test_removed_first_records_are_found(tmp_path: Path) -> None:
    filled(tmp_path)
    write_lines(tmp_path, lines(tmp_path)[2:])
    (only,) = sentences(tmp_path)
    assert "begins with record 2; those before were removed" in only


def test_two_records_that_changed_places_are_found(tmp_path: Path) -> None:
    filled(tmp_path)
    content = lines(tmp_path)
    content[2], content[3] = content[3], content[2]
    write_lines(tmp_path, content)
    found = sentences(tmp_path)
    assert "line 3: record 2 should stand before record 3" in found[0]
    assert "line 4: record 2 stands here out of order" in found[1]


def test_a_doubled_record_is_found(tmp_path: Path) -> None:
    filled(tmp_path)
    content = lines(tmp_path)
    write_lines(tmp_path, [*content[:4], content[3], *content[4:]])
    (only,) = sentences(tmp_path)
    assert "line 5: record 3 stands here out of order or twice" in only


def test_a_record_put_in_with_a_proper_hash_is_found(tmp_path: Path) -> None:
    filled(tmp_path)
    content = lines(tmp_path)
    before = record_of(content[3], None)
    forged, _ = line_of({"event": "exam", "previous": before.hash, "sequence": 4, "time": before.time}, None)
    write_lines(tmp_path, [*content[:4], forged, *content[4:]])
    (only,) = sentences(tmp_path)
    assert "line 6: record 4 stands here out of order or twice, or one of the two was put in" in only


def test_a_record_replaced_with_a_proper_hash_is_missed_by_the_next(tmp_path: Path) -> None:
    filled(tmp_path)
    content = lines(tmp_path)
    old = dict(record_of(content[4], None).content)
    del old["hash"]
    content[4], _ = line_of(old | {"score": 0.9}, None)
    write_lines(tmp_path, content)
    (only,) = sentences(tmp_path)
    assert "line 6: record 5 does not continue the record before it, which was replaced" in only


@pytest.mark.parametrize("foreign", [b"", b"{}", b"not json", b'{"event":"exam","hash":"' + b"0" * 64 + b'"}'])
def test_a_line_that_is_no_record_is_found(tmp_path: Path, foreign: bytes) -> None:
    filled(tmp_path)
    content = lines(tmp_path)
    write_lines(tmp_path, [*content[:2], foreign, *content[2:]])
    (only,) = sentences(tmp_path)
    assert "line 3: is no record" in only


def test_a_log_cut_off_at_its_end_is_found_by_a_hash_noted_elsewhere_and_only_so(tmp_path: Path) -> None:
    anchor = filled(tmp_path).head()
    write_lines(tmp_path, lines(tmp_path)[:-2])
    assert verify(tmp_path).whole
    (only,) = sentences(tmp_path, expect=anchor.hash)
    assert "cut off at its end" in only


def test_a_log_that_went_on_still_holds_the_noted_hash(tmp_path: Path) -> None:
    log = filled(tmp_path)
    anchor = log.head()
    log.append("exam", {})
    assert verify(tmp_path, expect=anchor.hash).whole


def test_a_chain_made_anew_without_the_key_is_found(tmp_path: Path) -> None:
    filled(tmp_path / "true", key=KEY)
    filled(tmp_path / "false")
    assert verify(tmp_path / "true", KEY).whole
    found = sentences(tmp_path / "false", KEY)
    assert len(found) == 8
    assert "not sealed with the key" in found[0]
    filled(tmp_path / "guessed", key=b"another key of this length")
    assert "was changed" in sentences(tmp_path / "guessed", KEY)[0]


def test_a_keyed_log_is_not_checked_without_its_key(tmp_path: Path) -> None:
    filled(tmp_path, key=KEY)
    with pytest.raises(ConfigError, match="sealed with a key"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("begun", "other", "sentence"),
    [
        (KEY, b"another key of this length", "sealed with another key"),
        (KEY, None, "sealed with another key"),
        (None, KEY, "begun without"),
    ],
)
def test_a_log_is_not_continued_with_another_key(
    tmp_path: Path, begun: bytes | None, other: bytes | None, sentence: str
) -> None:
    filled(tmp_path, key=begun)
    before = lines(tmp_path)
    with pytest.raises(ConfigError, match=sentence):
        ChainedLog(tmp_path, other).append("exam", {})
    assert lines(tmp_path) == before


def test_nothing_is_appended_to_a_record_that_was_changed(tmp_path: Path) -> None:
    filled(tmp_path)
    content = lines(tmp_path)
    write_lines(tmp_path, [*content[:-1], content[-1].replace(b"0.007", b"0.008")])
    with pytest.raises(ConfigError, match="was changed"):
        ChainedLog(tmp_path).append("exam", {})


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.touch()])
def test_a_log_that_is_none_is_told(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "log")
    with pytest.raises(ConfigError, match=r"holds no"):
        verify(tmp_path / "log")


# --- crashes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [1, 40, 150])
def test_a_torn_last_line_is_told_and_kept_and_the_chain_goes_on(tmp_path: Path, left: int) -> None:
    filled(tmp_path)
    (path,) = log_files(tmp_path)
    whole = path.read_bytes()
    torn = lines(tmp_path)[-1][:left]
    path.write_bytes(whole[: -len(lines(tmp_path)[-1]) - 1] + torn)
    (only,) = sentences(tmp_path)
    assert "line 8: is no record" in only
    assert "not yet repaired" in only
    ChainedLog(tmp_path).append("exam", {})
    found = verify(tmp_path)
    assert found.whole
    assert found.notes == ("audit-000001-2026-01.jsonl, line 8: was torn in writing, as record 7 says.",)
    assert torn in path.read_bytes()
    repair = record_of(path.read_bytes().splitlines()[8], None)
    assert (repair.event, repair.content["torn_bytes"]) == (REPAIRED, left)


def test_a_repair_that_is_torn_itself_is_repaired(tmp_path: Path) -> None:
    filled(tmp_path)
    (path,) = log_files(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"half\n{"other half of a repair"\n')
    ChainedLog(tmp_path).append("exam", {})
    assert verify(tmp_path).whole


def test_a_torn_line_changed_after_its_repair_is_found(tmp_path: Path) -> None:
    filled(tmp_path)
    (path,) = log_files(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"half')
    ChainedLog(tmp_path).append("exam", {})
    path.write_bytes(path.read_bytes().replace(b'{"half', b'{"hold'))
    assert "line 9: is no record" in sentences(tmp_path)[0]


def test_a_record_that_lacks_only_its_line_break_counts(tmp_path: Path) -> None:
    filled(tmp_path)
    (path,) = log_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert verify(tmp_path).records == 8
    assert ChainedLog(tmp_path).append("exam", {}).records == 9
    assert verify(tmp_path).whole


def test_a_first_record_that_is_torn_is_repaired(tmp_path: Path) -> None:
    log = ChainedLog(tmp_path, now=Clock())
    log.append("exam", {})
    (path,) = log_files(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    ChainedLog(tmp_path).append("exam", {})
    found = verify(tmp_path)
    assert found.whole
    assert found.records == 2


def test_the_end_is_found_behind_records_of_any_length(tmp_path: Path) -> None:
    log = ChainedLog(tmp_path)
    log.append("exam", {"warnings": ["x" * 300_000]})
    log.append("exam", {"warnings": ["y" * 2_000_000]})
    assert ChainedLog(tmp_path).head() == log.head()


def writer(folder: Path, records: int, name: str) -> int:
    """The process number of a child that appends so many records."""
    child = os.fork()
    if child == 0:
        log = ChainedLog(folder)
        for number in range(records):
            log.append("exam", {"writer": name, "number": number, "filling": "x" * 2000})
        os._exit(0)
    return child


def test_a_killed_writer_leaves_a_log_that_goes_on_whole(tmp_path: Path) -> None:
    chance = random.Random(0)
    for round_ in range(10):
        before = sum(path.stat().st_size for path in log_files(tmp_path))
        child = writer(tmp_path, 10**6, str(round_))
        while sum(path.stat().st_size for path in log_files(tmp_path)) < before + 20_000:
            time.sleep(0.005)
        time.sleep(chance.random() / 50)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    ChainedLog(tmp_path).append("exam", {})
    found = verify(tmp_path)
    assert found.whole
    assert found.records > 60


def test_processes_that_append_at_once_make_one_chain(tmp_path: Path) -> None:
    children = [writer(tmp_path, 40, str(number)) for number in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    found = verify(tmp_path)
    assert found.whole
    assert found.records == 120
    contents = [record_of(line, None).content for line in lines(tmp_path)]
    for name in ("0", "1", "2"):
        assert [one["number"] for one in contents if one["writer"] == name] == list(range(40))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def append_many(log: ChainedLog, records: int) -> None:
    for _ in range(records):
        log.append("exam", {"filling": "x" * 500})


def test_a_full_disk_stops_and_the_log_goes_on_when_there_is_room(tiny_disk: Path) -> None:
    filler = tiny_disk / "filler"
    filler.write_bytes(b"x" * 20_000)
    log = ChainedLog(tiny_disk / "log")
    with pytest.raises(StoreError, match="the disk is full"):
        append_many(log, 1000)
    filler.unlink()
    log.append("exam", {})
    found = verify(tiny_disk / "log")
    assert found.whole
    assert any("torn in writing" in note for note in found.notes)


# --- rotation and pruning -------------------------------------------------------------------------------------------


def rotated(folder: Path, months: int = 10) -> tuple[ChainedLog, Clock]:
    """A log with three records in each of so many months from January 2026 on."""
    clock = Clock()
    log = ChainedLog(folder, now=clock)
    for month in range(months):
        clock.moment = datetime(2026 + month // 12, month % 12 + 1, 15, tzinfo=UTC)
        for _ in range(3):
            log.append("exam", {})
    return log, clock


def test_a_month_or_a_large_file_begins_a_new_one_and_the_chain_goes_on(tmp_path: Path) -> None:
    rotated(tmp_path / "months", 3)
    assert [path.name for path in log_files(tmp_path / "months")] == [
        "audit-000001-2026-01.jsonl",
        "audit-000002-2026-02.jsonl",
        "audit-000003-2026-03.jsonl",
    ]
    large = ChainedLog(tmp_path / "large", most_bytes=1000, now=Clock())
    for _ in range(12):
        large.append("exam", {"filling": "x" * 100})
    assert len(log_files(tmp_path / "large")) > 2
    for name, records in (("months", 9), ("large", 12)):
        found = verify(tmp_path / name)
        assert found.whole
        assert found.records == records


def test_a_clock_set_back_breaks_nothing(tmp_path: Path) -> None:
    log, clock = rotated(tmp_path, 3)
    clock.moment = datetime(2025, 12, 1, tzinfo=UTC)
    log.append("exam", {})
    assert len(log_files(tmp_path)) == 3
    assert verify(tmp_path).whole


def test_a_removed_file_is_found(tmp_path: Path) -> None:
    rotated(tmp_path, 4)
    log_files(tmp_path)[1].unlink()
    (only,) = sentences(tmp_path)
    assert "records 3 to 5 should stand before record 6" in only


def test_a_torn_line_is_repaired_in_its_own_file_also_in_a_new_month(tmp_path: Path) -> None:
    _, clock = rotated(tmp_path, 2)
    newest = log_files(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-30])
    clock.moment = datetime(2026, 3, 1, tzinfo=UTC)
    ChainedLog(tmp_path, now=clock).append("exam", {})
    assert verify(tmp_path).whole


def test_pruning_leaves_a_whole_log_that_says_what_was_removed(tmp_path: Path) -> None:
    log, clock = rotated(tmp_path)
    anchor = record_of(log_files(tmp_path)[1].read_bytes().splitlines()[-1], None).hash
    done = prune(tmp_path, now=clock.moment)
    assert done.files == ("audit-000001-2026-01.jsonl", "audit-000002-2026-02.jsonl", "audit-000003-2026-03.jsonl")
    assert done.records == 9
    found = verify(tmp_path, expect=anchor)
    assert found.whole
    assert found.first == 9
    assert "were pruned" in found.notes[0]
    log.append("exam", {})
    assert prune(tmp_path, now=clock.moment).files == ()
    assert verify(tmp_path).whole


def test_what_is_pruned_twice_is_still_whole(tmp_path: Path) -> None:
    rotated(tmp_path, 12)
    prune(tmp_path, now=datetime(2026, 10, 20, tzinfo=UTC))
    prune(tmp_path, now=datetime(2026, 12, 20, tzinfo=UTC))
    assert verify(tmp_path).whole
    assert verify(tmp_path).first > 9


def test_pruning_that_died_between_two_files_leaves_a_whole_log(tmp_path: Path) -> None:
    _, clock = rotated(tmp_path)
    survivor = log_files(tmp_path)[2]
    content = survivor.read_bytes()
    prune(tmp_path, now=clock.moment)
    survivor.write_bytes(content)
    found = verify(tmp_path)
    assert found.whole
    assert found.first == 6


def test_files_removed_beyond_what_was_pruned_are_found(tmp_path: Path) -> None:
    _, clock = rotated(tmp_path)
    prune(tmp_path, now=clock.moment)
    log_files(tmp_path)[0].unlink()
    (only,) = sentences(tmp_path)
    assert "no record says so" in only


def test_evidence_is_not_pruned_nor_are_less_than_six_months_kept(tmp_path: Path) -> None:
    _, clock = rotated(tmp_path)
    with pytest.raises(ConfigError, match="6 months at least"):
        prune(tmp_path, keep_months=5, now=clock.moment)
    first = log_files(tmp_path)[0]
    first.write_bytes(first.read_bytes().replace(b'"exam"', b'"exax"', 1))
    with pytest.raises(ConfigError, match="nothing is removed"):
        prune(tmp_path, now=clock.moment)
    assert len(log_files(tmp_path)) == 10


def test_one_file_is_checked_alone(tmp_path: Path) -> None:
    rotated(tmp_path, 3)
    found = verify(log_files(tmp_path)[1])
    assert found.whole
    assert "begins with record 3" in found.notes[0]
