"""One night at a time, whoever starts it; and a dead one is in nobody's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from screening.nightly.lock import LOCK_NAME, LockedError, only_one

HOLD = "import sys, time; from pathlib import Path; from screening.nightly.lock import only_one\n"
HOLD += "with only_one(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def holder(out: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_night_is_told_who_holds_the_lock_and_a_killed_holder_does_not_block(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        words = rf"process {process.pid} of .* since 20\d\d-.*start it again later"
        with pytest.raises(LockedError, match=words), only_one(tmp_path):
            pass
        assert "held" not in (tmp_path / LOCK_NAME).read_text(), "the holder's name outlives the attempt"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    with only_one(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"), only_one(tmp_path):
        raise RuntimeError("broken")
    with only_one(tmp_path):
        pass


def test_a_lock_file_with_anything_in_it_is_only_a_file(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_bytes(b"\xff\0 not JSON")
    with only_one(tmp_path):
        pass
