"""The interface that the runner sees of every engine, and the choice of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from screening.batch.worker import Report, Scorer, Setup, Task
from screening.errors import ConfigError

EXAM_SECONDS = 1800.0
"""No exam takes so long: not four tomosynthesis volumes on one slow core."""


@dataclass(frozen=True)
class Done:
    """A task came to its end."""

    task: Task
    report: Report


@dataclass(frozen=True)
class Crashed:
    """A worker died with a task; `sentence` says what is known of its death."""

    task: Task
    sentence: str
    worker: str


class Engine(Protocol):
    """Workers that score exams.

    The runner submits no more than there is `room` for (back-pressure), and waits. A worker that dies is replaced; its
    tasks come back as crashed.
    """

    def room(self) -> int:
        """How many tasks it would take now, so that no worker has to wait."""

    def submit(self, task: Task) -> None:
        """Take a task."""

    def wait(self, seconds: float) -> list[Done | Crashed]:
        """What has ended, as soon as something has; empty after `seconds`.

        Raises `StoreError` where a worker cannot write results, `ScreeningError` where workers cannot be started.
        """

    def close(self) -> None:
        """Stop all workers; what they work on is lost."""


@dataclass(frozen=True)
class EngineOptions:
    """Which engine, and how large.

    Parameters
    ----------
    name
        `local` or `ray`.
    workers
        How many, each with one loaded model; None: one a core (`local`) or as many as the cluster has room for, also
        when it grows or shrinks (`ray`). 0 with `local`: no process, but threads of this one, which start at once and
        share its fate.
    address
        Of a Ray cluster (`auto`, `HOST:PORT`, `ray://…` is not taken); None starts Ray on this machine.
    cpus, gpus
        What a Ray worker takes of its machine; fractions share a GPU.
    memory_gb
        What a worker may allocate; None: its share of four fifths of this machine's memory (`local`), no limit (`ray`).
    exam_seconds
        A worker that gives no answer to an exam for so long hangs: it is ended, as if it had died.
    """

    name: str = "local"
    workers: int | None = None
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float | None = None
    exam_seconds: float = EXAM_SECONDS


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def open_engine(
    options: EngineOptions, setup: Callable[[], Setup], here: Callable[[int], Scorer], exams: int
) -> Engine:
    """Start an engine for so many exams. `here` makes a worker in this process, with so many threads.

    Raises
    ------
    ConfigError
        If there is no such engine, or it is not installed.
    """
    # An engine is imported where it is used: Ray takes seconds, and need not be installed.
    if options.name == "local" and options.workers == 0:
        from screening.batch.engines.here import HereEngine

        return HereEngine(here(len(cores())))
    if options.name == "local":
        from screening.batch.engines.local import LocalEngine

        return LocalEngine(setup(), min(options.workers or len(cores()), max(1, exams)), options)
    if options.name == "ray":
        try:
            from screening.batch.engines.ray import RayEngine
        except ImportError as error:
            raise ConfigError("--engine ray: Ray is not installed; pip install ray") from error
        return RayEngine(setup(), options)
    raise ConfigError(f"--engine {options.name}: there is no such engine; the engines are local and ray")
