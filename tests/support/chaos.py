"""A batch in a process of its own, and what kills it, its workers, and the nodes of a Ray cluster.

    python -m tests.support.chaos BUNDLE EXAMS OUT OPTIONS

scores EXAMS by stubs (or, of DICOM files, by the bundle), with `resume`; OPTIONS are those of `Batch` as JSON, besides
`seconds` that a stub takes.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.orthanc import free_port

ROOT = Path(__file__).parents[2]
TABLES = ("exams.csv", "images.csv", "regions.csv")
_PATIENCE_S = 300.0
_TOKEN = {"RAY_AUTH_MODE": "token"}
"""Ray's clusters ask for one, which the first `ray start` leaves in the home folder."""


def main() -> None:
    bundle_folder, source, out = (Path(one) for one in sys.argv[1:4])
    options: dict[str, Any] = json.loads(sys.argv[4])
    seconds = options.pop("seconds", None)
    # Here, as a process that is about to be killed should at least be imported quickly.
    from screening.batch.dispatch import Retries
    from screening.batch.runner import Batch, run_batch
    from screening.model.bundle import load_bundle
    from screening.site import load_site
    from screening.sources.folder import read_folder
    from tests.support.batches import StubSetup, small_exam

    bundle = load_bundle(bundle_folder)
    retries = Retries(most=options.pop("most", 9), first_s=0.2)
    if seconds is None:
        exams: Any = read_folder(source, load_site()).exams
        setup = None
    else:
        exams = [small_exam(source, int(path.stem)) for path in sorted(source.iterdir())]
        setup = StubSetup(bundle.model_id, seconds)
    batch = Batch("default", exams, (), {}, resume=True, retries=retries, **options)
    run_batch(batch, bundle, out, setup=setup)


@dataclass
class Chaos:
    """Runs a batch over and over until it has ended, killing meanwhile. `killed`: how many of each kind."""

    bundle: Path
    source: Path
    out: Path
    options: dict[str, Any]
    seed: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def run(self, kills: int, between_s: tuple[float, float], nodes: RayNodes | None = None) -> None:
        """Kill so many times at random moments, then let the batch end."""
        rng = random.Random(self.seed)
        deadline = time.monotonic() + _PATIENCE_S + 30 * kills
        self._start()
        try:
            while self.killed.total() < kills and not self._ended():
                self._wait(rng.uniform(*between_s))
                kind = rng.choice(["runner", *["worker"] * 4, *(["node"] * 3 if nodes else [])])
                if kind == "node" and nodes is not None:
                    nodes.kill_one()
                    nodes.add()
                    self.killed[kind] += 1
                elif kind == "runner" and self._kill(self._running()):
                    self.killed[kind] += 1
                    self._start()
                elif kind == "worker" and (found := self.workers()) and self._kill(rng.choice(found)):
                    self.killed[kind] += 1
                if self._running().poll() is not None:
                    self._start()
            while not self._ended():
                assert time.monotonic() < deadline, "the batch does not end"
                if self._running().poll() is not None:
                    self._start()
                time.sleep(0.1)
        finally:
            self.stop()

    def workers(self) -> list[psutil.Process]:
        """Processes that score: a fork server's children, or actors of Ray."""
        found = []
        with contextlib.suppress(psutil.Error):
            own = psutil.Process(self._running().pid)
            found = [leaf for child in own.children() for leaf in child.children() if _is_forked(leaf)]
        return found or [one for one in psutil.process_iter() if _is_actor(one)]

    def stop(self) -> None:
        """Kill what runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        arguments = [str(self.bundle), str(self.source), str(self.out), json.dumps(self.options)]
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out.parent / f"{self.out.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.chaos", *arguments],
                cwd=ROOT,
                env=os.environ | _TOKEN,
                stdout=log,
                stderr=log,
            )
        self.starts += 1

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _ended(self) -> bool:
        return self._running().poll() == 0

    def _wait(self, seconds: float) -> None:
        """Until something can be killed for which exams are at work, and then at random."""
        deadline = time.monotonic() + 120
        while not self.workers() and self._running().poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(seconds)

    @staticmethod
    def _kill(process: psutil.Process | subprocess.Popen[bytes]) -> bool:
        if isinstance(process, subprocess.Popen) and process.poll() is not None:
            return False
        with contextlib.suppress(psutil.Error):
            process.kill()
            process.wait()
            return True
        return False


def _is_forked(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "forkserver" in " ".join(process.cmdline())
    return False


def _is_actor(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        command = process.cmdline()
        return bool(command) and command[0].startswith("ray::_Actor")
    return False


class RayNodes:
    """A Ray cluster on this machine: a head and further nodes, of one CPU and in a process group each."""

    def __init__(self) -> None:
        self.port = free_port()
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._head = self._start("--head", f"--port={self.port}", "--num-cpus=1", "--include-dashboard=false")
        self._wait_for_head()

    @property
    def address(self) -> str:
        """Of the cluster."""
        return f"127.0.0.1:{self.port}"

    def add(self) -> None:
        """Start another node."""
        self._nodes.append(self._start(f"--address={self.address}", "--num-cpus=1"))

    def kill_one(self) -> None:
        """Kill a node with all that runs on it."""
        if self._nodes:
            _kill_group(self._nodes.pop(0))

    def close(self) -> None:
        """Kill all nodes."""
        for node in (*self._nodes, self._head):
            _kill_group(node)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        # On loopback, lest others reach it; tokens keep out other users of this machine.
        usual = ["--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1"]
        command = [str(Path(sys.executable).with_name("ray")), "start", *options, *usual]
        return subprocess.Popen(
            [*command, f"--object-store-memory={80 << 20}"],
            start_new_session=True,
            cwd=ROOT,
            env=os.environ | _TOKEN,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _wait_for_head(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self._head.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.2)
        self.close()
        raise AssertionError("Ray does not start")


@contextlib.contextmanager
def ray_nodes(number: int) -> Iterator[RayNodes]:
    """A cluster of a head and so many nodes."""
    cluster = RayNodes()
    try:
        for _ in range(number):
            cluster.add()
        yield cluster
    finally:
        cluster.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a session: what `ray start --block` has started, and what those have."""
    family = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    for one in family:
        with contextlib.suppress(psutil.Error):
            one.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def rows(out: Path, name: str) -> list[dict[str, str]]:
    """A table; every line of it must be whole."""
    with (out / name).open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert all(None not in row and None not in row.values() for row in found)
    return found


def tables(out: Path) -> dict[str, bytes]:
    """The tables' bytes."""
    return {name: (out / name).read_bytes() for name in TABLES}


if __name__ == "__main__":
    main()
