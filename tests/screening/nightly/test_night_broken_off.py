"""Nights as real processes: two at once, and one that is killed in the middle."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.exams import study_uid
from tests.support.nights import NEXT, TONIGHT, Site, counting_pacs

EXAMS = 8
ENOUGH_SECONDS = 120
"""For a process to start on a busy machine; nothing waits so long where all is well."""


@pytest.fixture
def site(tmp_path: Path, bundle_folder: Path) -> Site:
    one = Site(tmp_path, bundle_folder)
    one.exams(*range(1, EXAMS + 1))
    return one


def start(site: Site, day: str = TONIGHT) -> subprocess.Popen[str]:
    """The night in a process group of its own."""
    command = [sys.executable, "-m", "screening.cli", *site.arguments(day)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def scored(site: Site) -> int:
    """How many exams the night's store has."""
    path = site.out / TONIGHT / "results.sqlite"
    if not path.is_file():
        return 0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        (number,) = connection.execute("SELECT count(*) FROM exams").fetchone()
        return int(number)
    except sqlite3.OperationalError:
        return 0  # it is being made
    finally:
        connection.close()


def wait_for(site: Site, number: int, process: subprocess.Popen[str]) -> None:
    """Until so many exams are scored, and not all."""
    deadline = time.monotonic() + ENOUGH_SECONDS
    while scored(site) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("next_day", [TONIGHT, NEXT])
def test_a_night_that_is_killed_is_finished_by_the_next_start_with_each_exam_once(site: Site, next_day: str) -> None:
    with counting_pacs() as (pacs, arrived):
        site.write_profile(pacs=pacs.url)
        process = start(site)
        wait_for(site, 3, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        before = scored(site)
        assert 3 <= before < EXAMS
        ran = site.night(next_day)
    assert ran.code == 0, ran.stderr
    found = Counter(row["exam_id"] for day in {TONIGHT, next_day} for row in ran.table(day))
    assert found == Counter(study_uid(number) for number in range(1, EXAMS + 1))
    assert len(ran.table(TONIGHT)) == EXAMS
    assert all(row["status"] == "scored" for row in ran.table(TONIGHT))
    assert len(arrived) == EXAMS
    assert set(arrived.values()) == {1}


def test_of_two_nights_started_at_once_one_works_and_the_other_leaves_with_a_sentence(site: Site) -> None:
    with counting_pacs() as (pacs, arrived):
        site.write_profile(pacs=pacs.url)
        processes = [start(site), start(site)]
        told = [process.communicate(timeout=ENOUGH_SECONDS) for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes == [0, 2], told
    left = next(text for process, (_, text) in zip(processes, told, strict=True) if process.returncode == 2)
    assert "another night is running" in " ".join(left.split())
    assert "Traceback" not in left
    with (site.out / TONIGHT / "exams.csv").open() as file:
        assert sum(1 for _ in file) == EXAMS + 1
    assert len(arrived) == EXAMS
    assert set(arrived.values()) == {1}


def test_a_night_that_is_told_to_stop_writes_what_is_finished_and_is_gone_on_with(site: Site) -> None:
    site.write_profile()
    process = start(site)
    wait_for(site, 2, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=ENOUGH_SECONDS)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    with (site.out / TONIGHT / "exams.csv").open() as file:
        assert 2 <= sum(1 for _ in file) - 1 < EXAMS
    ran = site.night(NEXT)
    assert ran.code == 0
    assert len(ran.table(TONIGHT)) == EXAMS
