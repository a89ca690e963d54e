"""A batch in a process of its own, and what kills it, its workers, and the nodes of a Ray cluster.

    python -m tests.support.chaos BUNDLE EXAMS OUT OPTIONS

scores EXAMS by stubs (or, of DICOM files, by the bundle), with `resume`; OPTIONS are those of `Batch` as JSON, besides
`seconds` that a stub takes, and `lease`, the seconds after which a database's other runners give up a dead one.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.network import HERE, Host, listens
from tests.support.orthanc import free_port

ROOT = Path(__file__).parents[2]
TABLES = ("exams.csv", "images.csv", "regions.csv")
LOCAL_KINDS = ("runner", *["worker"] * 4)
RAY_KINDS = (*LOCAL_KINDS, *["node"] * 3)
"""What is killed, as often as it stands there."""
_PATIENCE_S = 300.0
_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Ray's clusters ask for one: they listen on all of this machine's addresses."""


def main() -> None:
    bundle_folder, source, out = (Path(one) for one in sys.argv[1:4])
    options: dict[str, Any] = json.loads(sys.argv[4])
    seconds, lease = options.pop("seconds", None), options.pop("lease", None)
    # Here, as a process that is about to be killed should at least be imported quickly.
    from screening.batch import dispatch, ledger
    from screening.batch.dispatch import Retries
    from screening.batch.runner import Batch, run_batch
    from screening.model.bundle import load_bundle
    from screening.site import load_site
    from screening.sources.folder import read_folder
    from tests.support.batches import StubSetup, small_exam

    if lease is not None:
        ledger.LEASE_S, dispatch.BEAT_S = lease, lease / 6
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
    """Runs a batch over and over until it has ended, killing meanwhile. `killed`: how many of each kind.

    `kinds`: what is drawn from, by `seed`, for each kill. `nodes`: of the Ray cluster that it runs on, if it does.
    """

    bundle: Path
    source: Path
    out: Path
    options: dict[str, Any]
    seed: int = 0
    kinds: tuple[str, ...] = LOCAL_KINDS
    nodes: RayNodes | None = None
    host: Host = HERE
    killed: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def run(self, kills: int, between_s: tuple[float, float]) -> None:
        """Kill so many times, of kinds and after pauses that the seed draws, then let the batch end."""
        rng = random.Random(self.seed)
        plan = [(rng.choice(self.kinds), rng.uniform(*between_s)) for _ in range(kills)]
        deadline = time.monotonic() + _PATIENCE_S + 30 * kills
        self.start()
        try:
            for kind, pause in plan:
                while not self.ended():
                    self._wait(pause)
                    struck = self._strike(kind, rng)
                    self._keep_running()
                    if struck:
                        break
            while not self.ended():
                assert time.monotonic() < deadline, "the batch does not end"
                self._keep_running()
                time.sleep(0.1)
        finally:
            self.stop()

    def _strike(self, kind: str, rng: random.Random) -> bool:
        """Kill one of a kind; whether there was one."""
        if kind == "node" and self.nodes is not None:
            self.nodes.kill_one(rng)
            self.nodes.add()
        else:
            found = [self._running()] if kind == "runner" else self.workers()
            if not found or not self._kill(rng.choice(found)):
                return False
        self.killed[kind] += 1
        return True

    def _keep_running(self) -> None:
        if self._running().poll() not in (None, 0):
            self.start()

    def workers(self) -> list[psutil.Process]:
        """Processes that score: a fork server's children, or actors of Ray."""
        if self.nodes is not None:
            return self.nodes.actors()
        with contextlib.suppress(psutil.Error):
            own = psutil.Process(self._running().pid)
            return [leaf for child in own.children() for leaf in child.children() if _is_forked(leaf)]
        return []

    def stop(self) -> None:
        """Kill what runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        """Start the batch, or go on with it."""
        arguments = [str(self.bundle), str(self.source), str(self.out), json.dumps(self.options)]
        self.out.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.host.enter, sys.executable, "-m", "tests.support.chaos", *arguments],
                cwd=ROOT,
                env=os.environ | _TOKEN,
                stdout=log,
                stderr=log,
            )
        self.starts += 1

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> Path:
        """What the batch logs, of all its runs."""
        return self.out.parent / f"{self.out.name}.log"

    def ended(self) -> bool:
        """Whether the batch has come to its end."""
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
    """A Ray cluster on this machine: a head and further nodes, of one CPU and in a process group each.

    `settings`: further variables of its environment.
    """

    def __init__(self, host: Host = HERE, settings: Mapping[str, str] | None = None) -> None:
        self.port, self._host, self._settings = free_port(), host, dict(settings or {})
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._head = self._start(host, "--head", f"--port={self.port}", "--num-cpus=1", "--include-dashboard=false")
        self._wait_for_head()

    @property
    def address(self) -> str:
        """Of the cluster."""
        return f"{self._host.address}:{self.port}"

    def add(self, host: Host | None = None) -> None:
        """Start another node."""
        self._nodes.append(self._start(host or self._host, f"--address={self.address}", "--num-cpus=1"))

    def kill_one(self, rng: random.Random) -> None:
        """Kill a node, but for the head, with all that runs on it."""
        if self._nodes:
            _kill_group(self._nodes.pop(rng.randrange(len(self._nodes))))

    def actors(self) -> list[psutil.Process]:
        """Processes of its nodes that score."""
        return [one for node in (self._head, *self._nodes) for one in _family(node) if _is_actor(one)]

    def close(self) -> None:
        """Kill all nodes."""
        for node in (*self._nodes, self._head):
            _kill_group(node)

    def _start(self, host: Host, *options: str) -> subprocess.Popen[bytes]:
        usual = ["--block", "--disable-usage-stats", f"--node-ip-address={host.address}"]
        command = [*host.enter, str(Path(sys.executable).with_name("ray")), "start", *options, *usual]
        return subprocess.Popen(
            [*command, f"--object-store-memory={80 << 20}"],
            start_new_session=True,
            cwd=ROOT,
            env=os.environ | _TOKEN | self._settings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _wait_for_head(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self._head.poll() is None:
            if listens(self._head.pid, self.port):
                return
            time.sleep(0.2)
        self.close()
        raise AssertionError("Ray does not start")


@contextlib.contextmanager
def ray_nodes(number: int, host: Host = HERE, settings: Mapping[str, str] | None = None) -> Iterator[RayNodes]:
    """A cluster of a head and so many nodes."""
    cluster = RayNodes(host, settings)
    try:
        for _ in range(number):
            cluster.add()
        yield cluster
    finally:
        cluster.close()


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a session: what `ray start --block` has started, and what those have."""
    for one in _family(process):
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
