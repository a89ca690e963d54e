"""Workers as actors of a Ray cluster, on CPUs or on shares of GPUs.

Files and results folder must be reached under the same paths from all of its machines.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import time
from typing import Any

# Ray reports its use to its makers unless told otherwise, and it is told before it is loaded.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayError, RayTaskError

from screening.batch.engines.engine import EngineOptions
from screening.batch.engines.pool import Event, Pool, Seat
from screening.batch.worker import Report, Setup, Task, worker_name
from screening.batch.worker_log import collected, replay
from screening.errors import ConfigError, ScreeningError

_LOOK_EVERY_S = 5.0
_GIB = 1 << 30


class _Actor:
    """A worker on the cluster."""

    def __init__(self, setup: Setup, memory_gb: float | None, cpus: float) -> None:
        if memory_gb is not None:
            limit = int(memory_gb * _GIB)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        self._scorer = setup.open(max(1, int(cpus)))

    def ready(self) -> str:
        """The worker's name; called when it has loaded its model."""
        return worker_name()

    def run(self, task: Task, ahead: Task | None) -> Report:
        """Score an exam, and read ahead."""
        with collected() as records:
            report = self._scorer.run(task, ahead)
        return records.added_to(report)


class RayEngine(Pool[Any]):
    """Actors, as many as asked for or as the cluster has room for. One that dies with its machine starts on another.

    Raises
    ------
    ConfigError
        If the cluster cannot be joined.
    """

    def __init__(self, setup: Setup, options: EngineOptions) -> None:
        super().__init__(options.exam_seconds)
        self._options = options
        self._ours = not ray.is_initialized()
        if self._ours:
            _join(options.address)
        actor: Any = ray.remote(_Actor)
        self._actor = actor.options(num_cpus=options.cpus, num_gpus=options.gpus, max_restarts=0)
        self._setup = ray.put(setup)
        self._calls: dict[Any, Any] = {}
        self._looked, self._fits = 0.0, 1
        self._resize()

    def _wanted(self) -> int:
        if self._options.workers:
            return self._options.workers
        now = time.monotonic()
        if not self._looked or now - self._looked > _LOOK_EVERY_S:
            self._looked, self._fits = now, self._room_in_cluster()
        return self._fits

    def _room_in_cluster(self) -> int:
        """How many workers fit on the machines that are alive; at least one, which may wait for a machine."""
        places = 0
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # of a package with types
        for node in nodes:
            if node["Alive"]:
                has = node["Resources"]
                fits = [has.get("CPU", 0.0) / self._options.cpus]
                if self._options.gpus:
                    fits.append(has.get("GPU", 0.0) / self._options.gpus)
                places += int(min(fits))
        return max(1, places)

    def _start(self) -> Any:
        handle = self._actor.remote(self._setup, self._options.memory_gb, self._options.cpus)
        self._calls[handle.ready.remote()] = handle
        return handle

    def _send(self, handle: Any, task: Task, ahead: Task | None) -> None:
        self._calls[handle.run.remote(task, ahead)] = handle

    def _news(self, seconds: float) -> list[Event[Any]]:
        calls = list(self._calls)
        done, _ = ray.wait(calls, num_returns=1, timeout=seconds)
        if done:  # whatever else is there by now
            done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        seats = {id(seat.handle): seat for seat in self.seats}
        events = []
        for call in done:
            handle = self._calls.pop(call, None)
            if handle is not None and id(handle) in seats:
                events.append(self._answered(seats[id(handle)], call))
        return events

    def _answered(self, seat: Seat[Any], call: Any) -> Event[Any]:
        try:
            answer = ray.get(call)
        except RayTaskError as error:
            if isinstance(error.cause, ScreeningError):
                raise error.cause from error
            return Event(seat, death=f"an unforeseen {type(error.cause).__name__} in the worker")
        except RayError as error:
            cause = getattr(error, "cause", None)  # an actor whose start failed carries why
            if isinstance(cause, RayTaskError) and isinstance(cause.cause, ScreeningError):
                raise cause.cause from error
            return Event(seat, death=type(error).__name__)
        return Event(seat, name=answer) if isinstance(answer, str) else Event(seat, report=replay(answer))

    def _discard(self, handle: Any) -> None:
        self._calls = {call: of for call, of in self._calls.items() if of is not handle}
        with contextlib.suppress(RayError, ValueError):  # it is dead, or its machine is gone
            ray.kill(handle)

    def close(self) -> None:
        """Stop the workers, and leave the cluster if this engine joined it."""
        for seat in self.seats:
            self._discard(seat.handle)
        self.seats.clear()
        if self._ours:
            ray.shutdown()


def _join(address: str | None) -> None:
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster can be joined there; start one with ray start --head, and where it "
            "asks for a token, set RAY_AUTH_MODE=token and give every machine the same ~/.ray/auth_token"
        ) from error
