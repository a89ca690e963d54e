"""Workers as processes of this machine, each pinned to its share of the cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from screening.batch.engines.engine import EngineOptions, cores
from screening.batch.engines.pool import Event, Pool, Seat
from screening.batch.worker import Setup, Task, worker_name
from screening.batch.worker_log import collected, replay
from screening.errors import ScreeningError

_CONTEXT = multiprocessing.get_context("forkserver")
# Libraries are loaded once, and a worker starts in the time that its model takes.
_CONTEXT.set_forkserver_preload(["screening.batch.worker"])
_SHARE = 0.8
_GIB = 1 << 30
_LAST_BREATH_S = 10.0


@dataclass(frozen=True)
class _Process:
    process: BaseProcess
    connection: Connection
    place: int


class LocalEngine(Pool[_Process]):
    """So many worker processes; of `options`, what each may take."""

    def __init__(self, setup: Setup, workers: int, options: EngineOptions) -> None:
        super().__init__(options.exam_seconds)
        self._setup, self._workers = setup, workers
        self._limit = _default_limit(workers) if options.memory_gb is None else int(options.memory_gb * _GIB)
        self._resize()

    def _wanted(self) -> int:
        return self._workers

    def _start(self) -> _Process:
        taken = {seat.handle.place for seat in self.seats}
        place = next(number for number in range(self._workers + 1) if number not in taken)
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(
            target=_serve,
            args=(theirs, self._setup, _share(cores(), place, self._workers), self._limit),
            name="screening-worker",
            daemon=True,
        )
        process.start()
        theirs.close()  # ours alone holds it open: when the worker dies, reading ends
        return _Process(process, ours, place)

    def _send(self, handle: _Process, task: Task, ahead: Task | None) -> None:
        with contextlib.suppress(OSError):  # it is dead, which the next reading tells
            handle.connection.send((task, ahead))

    def _news(self, seconds: float) -> list[Event[_Process]]:
        by_connection = {seat.handle.connection: seat for seat in self.seats}
        found = wait(list(by_connection), seconds)
        return [self._said(by_connection[one]) for one in found if isinstance(one, Connection)]

    def _said(self, seat: Seat[_Process]) -> Event[_Process]:
        try:
            message = seat.handle.connection.recv()
        except (EOFError, OSError):
            return Event(seat, death=_cause(seat.handle.process))
        if isinstance(message, ScreeningError):
            raise message
        if isinstance(message, str):
            return Event(seat, name=message)
        return Event(seat, report=replay(message))

    def _discard(self, handle: _Process) -> None:
        handle.connection.close()
        handle.process.kill()
        handle.process.join(_LAST_BREATH_S)
        if handle.process.exitcode is not None:  # one that waits for a dead disk cannot be killed, and is left
            handle.process.close()

    def close(self) -> None:
        """Kill the workers: what they have finished is stored, what they write has no name yet."""
        for seat in self.seats:
            self._discard(seat.handle)
        self.seats.clear()


def _share(cores: list[int], place: int, workers: int) -> list[int]:
    """The cores of one worker; workers beyond the cores share them."""
    if workers >= len(cores):
        return [cores[place % len(cores)]]
    start, end = (number * len(cores) // workers for number in (place % workers, place % workers + 1))
    return cores[start:end]


def _default_limit(workers: int) -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(_SHARE * memory / workers)


def _cause(process: BaseProcess) -> str:
    process.join(_LAST_BREATH_S)  # its end of the pipe is closed, so it is about to be gone
    code = process.exitcode
    if code is None or code >= 0:
        return f"exit code {code}"
    return f"signal {signal.Signals(-code).name}"


def _serve(connection: Connection, setup: Setup, cores: Collection[int], limit: int) -> None:
    """A worker's life: it ends with its runner's."""
    # Ctrl-C at a terminal goes to all processes; the runner alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, cores)
    # Memory that is asked for and private, as the kernel counts it: libraries and the files that are read are not.
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the runner is gone
            _work(connection, setup, len(cores))
        # Threads may still read ahead for a runner that is gone; nothing waits for them.
        os._exit(0)
    except BaseException:
        traceback.print_exc()  # a bug; to the runner it is a death
        os._exit(1)


def _work(connection: Connection, setup: Setup, threads: int) -> None:
    try:
        scorer = setup.open(threads)
        connection.send(worker_name())
        while True:
            task, ahead = connection.recv()
            with collected() as records:
                report = scorer.run(task, ahead)
            connection.send(records.added_to(report))
    except ScreeningError as error:
        connection.send(error)
