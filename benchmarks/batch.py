"""What the runner itself costs, and what more workers bring; ratios are taken within one run.

    python -m benchmarks.batch [overhead] [resume] [memory] [workers] [ray]

`overhead`, `resume` and `memory` score by stubs and want a disk like that of the results; they take three minutes.
`workers` and `ray` score exams of full size and want a machine with two idle cores; they take ten.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.exam_files import write_exam
from screening.batch.engines.engine import cores
from screening.batch.events import BatchObserver, FinishedExam
from screening.batch.ledger import Ledger
from screening.batch.runner import Batch, run_batch
from screening.exam import Exam
from screening.model.bundle import Bundle, load_bundle
from screening.site import load_site
from screening.sources.folder import read_folder
from screening.store import STORE_NAME, ResultStore
from screening.store.schema import LedgerRow
from tests.support.batches import StubSetup, bare_exam
from tests.support.bundles import tiny_bundle

WAYS = ("overhead", "resume", "memory", "workers", "ray")
OVERHEAD_TARGET_S, RESUME_TARGET_S, SPEED_UP_TARGET, RAY_TARGET = 0.005, 10.0, 1.7, 0.85
_VIEWS = (2048, 1536)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", choices=(*WAYS, []), default=[])
    parser.add_argument("--exams", type=int, default=40, help="of full size (default: 40)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_memory_of(int(options.child))))
        return
    for way in options.ways or WAYS[:3]:
        for line in (workers if way == "workers" else ray if way == "ray" else _STUBBED[way])(options):
            print(line, flush=True)


class _Times(BatchObserver):
    """When exams ended, and how much memory this process had then."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.resident = 0

    def exam_finished(self, event: FinishedExam) -> None:
        self.ends.append(time.perf_counter())
        if event.done % 500 == 0:
            self.resident = max(self.resident, _resident())


def overhead(_: argparse.Namespace) -> Iterator[str]:
    """Seconds from one exam's end to the next when scoring takes none, in this process and in another."""
    for workers in (0, 1):
        with tempfile.TemporaryDirectory() as scratch:
            folder, bundle, times = Path(scratch), _bundle(Path(scratch)), _Times()
            _stub(bundle, _exams(folder, 2000), folder / "out", times, workers)
            each = (times.ends[-1] - times.ends[99]) / (len(times.ends) - 100)
            target = 1000 * OVERHEAD_TARGET_S
            yield f"overhead per exam, {workers} processes: {1000 * each:.2f} ms (target {target:.0f} ms)"


def resume(_: argparse.Namespace) -> Iterator[str]:
    """Seconds until the first of ten new exams ends, in a batch of 100,000 that are finished."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, bundle = Path(scratch), _bundle(Path(scratch))
        _finished_ledger(folder, bundle, 100_000)
        times, start = _Times(), time.perf_counter()
        batch = Batch("default", _exams(folder, 100_010), (), {}, workers=0, resume=True)
        with_ends = _UntilFirst(times)
        try:
            run_batch(batch, bundle, folder / "out", (with_ends,), StubSetup(bundle.model_id))
        except _FirstError:
            yield f"resume of 100,000 + 10: first exam after {times.ends[0] - start:.1f} s (target {RESUME_TARGET_S} s)"


class _FirstError(Exception):
    """The first exam has ended: tables of the others are not what is timed."""


class _UntilFirst(BatchObserver):
    def __init__(self, times: _Times) -> None:
        self._times = times

    def exam_finished(self, event: FinishedExam) -> None:
        self._times.exam_finished(event)
        raise _FirstError


def memory(_: argparse.Namespace) -> Iterator[str]:
    """Resident memory of the runner while it scores batches of three sizes, each in a fresh process."""
    for exams in (1_000, 10_000, 100_000):
        command = [sys.executable, "-m", "benchmarks.batch", "--child", str(exams)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        yield f"runner's memory, {exams:,} exams: {found / 1e6:.0f} MB while queueing and scoring"


def _memory_of(exams: int) -> int:
    """The most while exams are queued and scored; all but 1,000 are finished already, which is quicker."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, bundle, times = Path(scratch), _bundle(Path(scratch)), _Times()
        new = min(exams, 1_000)
        if exams > new:
            _finished_ledger(folder, bundle, exams - new)
        _stub(bundle, _exams(folder, exams), folder / "out", times, 0)
    return times.resident


def workers(options: argparse.Namespace) -> Iterator[str]:
    """Throughput of two processes on a core each against one on one core; one with both cores is told beside it."""
    every = cores()
    two, whole = (_throughput(options.exams, {"workers": number}) for number in (2, 1))
    os.sched_setaffinity(0, every[:1])  # the workers' parent was forked with more: `LocalEngine` takes ours
    one = _throughput(options.exams, {"workers": 1})
    os.sched_setaffinity(0, every)
    yield (
        f"two local workers: {two / one:.2f} × one on one core ({two:.2f} and {one:.2f} exams/s; "
        f"target {SPEED_UP_TARGET}); one worker with all {len(every)} cores: {whole:.2f} exams/s"
    )


def ray(options: argparse.Namespace) -> Iterator[str]:
    """Throughput of two Ray actors against two processes."""
    local = _throughput(options.exams, {"workers": 2})
    on_ray = _throughput(options.exams, {"engine": "ray", "workers": 2})
    yield f"two Ray actors: {on_ray / local:.2f} × two local workers ({on_ray:.2f} exams/s; target {RAY_TARGET})"


def _throughput(number: int, where: dict[str, Any]) -> float:
    """Exams per second from the end of the first on, when every worker has its model."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, bundle, times = Path(scratch), load_bundle(), _Times()
        write_exam(folder / "in", *_VIEWS)
        (exam,) = read_folder(folder / "in", load_site()).exams
        exams = [_copy(exam, one) for one in range(number)]
        run_batch(Batch("default", exams, (), {}, **where), bundle, folder / "out", (times,))
        skipped = 2 * 2  # while the other worker may still be starting
        return (len(times.ends) - 1 - skipped) / (times.ends[-1] - times.ends[skipped])


def _copy(exam: Exam, number: int) -> Exam:
    images = tuple(replace(image, image_id=f"{image.image_id}.{number}") for image in exam.images)
    return replace(exam, exam_id=f"{exam.exam_id}.{number}", images=images)


def _stub(bundle: Bundle, exams: Iterator[Exam], out: Path, times: _Times, workers: int) -> None:
    batch = Batch("default", exams, (), {}, workers=workers, resume=True)
    run_batch(batch, bundle, out, (times,), StubSetup(bundle.model_id))


def _exams(folder: Path, number: int) -> Iterator[Exam]:
    """Exams of one small file, one after the other."""
    path = folder / "file.dcm"
    path.write_text("one for all") if not path.exists() else None
    return (bare_exam(path, one) for one in range(1, number + 1))


def _finished_ledger(folder: Path, bundle: Bundle, exams: int) -> None:
    """A store whose ledger says that so many exams are finished."""
    with ResultStore(folder / "out" / STORE_NAME) as store:
        Ledger(store, bundle.model_id, bundle.sha256).queue(_exams(folder, exams))
        with store.writing() as session:
            session.execute(sa.update(LedgerRow).values(state="scored", exam=None, announced=True))


def _bundle(folder: Path) -> Bundle:
    return load_bundle(tiny_bundle(folder / "bundle"))


def _resident() -> int:
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


_STUBBED = {"overhead": overhead, "resume": resume, "memory": memory}

if __name__ == "__main__":
    main()
