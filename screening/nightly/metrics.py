"""A night's figures for Prometheus: in a text file for node_exporter, or at a port while the night runs.

Names follow Prometheus' conventions (base units; `_info`, `_seconds`, `_timestamp_seconds`). What is counted of the
present night is a gauge, since it begins anew each night. No label holds anything of a woman or of an exam.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest, start_http_server

from screening.batch.events import BatchObserver, FinishedBatch, FinishedExam, QueueState, StartedBatch
from screening.delivery.outbox import State
from screening.errors import ConfigError
from screening.nightly.delivering import Destined
from screening.store import write_atomically

if TYPE_CHECKING:  # the bundle's module loads torch
    from screening.model.bundle import Bundle

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 150, 600)
_FOR_ALL = 0o644
"""Permissions of the text file: node_exporter has a user of its own."""
_EVERY_S = 15.0
"""A text file is written anew at most so often while exams are scored; node_exporter reads it as often."""


class NightMetrics(BatchObserver):
    """The figures of one run of `screening nightly`.

    Parameters
    ----------
    site
        Label of every figure.
    file
        Text file that is written, whole, every few seconds and at the end; its name must end in `.prom`.
    port, host
        Where they can be asked for as long as this process lives.

    Raises
    ------
    ConfigError
        If the file's name is not one that node_exporter reads, or the port cannot be had.
    """

    def __init__(self, site: str, file: Path | None = None, port: int | None = None, host: str = "127.0.0.1") -> None:
        if file is not None and file.suffix != ".prom":
            raise ConfigError(f"--metrics-file: {file.name} must end in .prom, or node_exporter does not read it")
        self.registry = CollectorRegistry()
        self._site, self._file = site, file
        self._written = 0.0
        gauge = self._gauge
        self._exams = gauge("exams", "Exams of the night by state.", "state")
        self._instances = gauge("instances", "Images and other files of the night by how they ended.", "state")
        self._rejects = gauge(
            "unscored", "Exams and instances that were not scored, by reason.", "of", "status", "reason"
        )
        self._age = gauge("queue_age_seconds", "How long the oldest exam has waited to be scored.")
        self._total = gauge("exams_of_this_run", "Exams that this run has to score.")
        self._outbox = gauge("outbox_objects", "Objects for a destination by state.", "destination", "state")
        self._oldest = gauge(
            "outbox_oldest_seconds", "Age of the oldest object that waits for a destination; 0 if none.", "destination"
        )
        self._model = gauge("model_info", "The model that scores; the value is 1.", "id", "name", "version")
        self._begun = gauge("night_start_timestamp_seconds", "When this run began.")
        self._ended = gauge("night_end_timestamp_seconds", "When this run ended; absent while it runs.")
        self._code = gauge("night_exit_code", "How this run ended: the exit code; absent while it runs.")
        self._urgency = gauge("night_urgency", "The morning summary's verdict: 0 nothing to do, 1 look at it, 2 act.")
        self._stages = Histogram(
            "stage_seconds",
            "Seconds that an exam took, by stage.",
            ["site", "stage"],
            namespace="screening",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._begun.labels(site).set_to_current_time()
        if port is not None:
            try:
                start_http_server(port, host, self.registry)
            except OSError as error:
                raise ConfigError(
                    f"--metrics-port: {host}:{port} cannot be listened on ({error.strerror}); give another"
                ) from error

    def model(self, bundle: Bundle) -> None:
        """Name the model."""
        self._model.labels(self._site, bundle.model_id, bundle.card.name, bundle.card.version).set(1)
        self.write()

    def batch_started(self, event: StartedBatch) -> None:
        """How many exams there are to score."""
        self._total.labels(self._site).set(event.total)
        self._write_now_and_then()

    def exam_finished(self, event: FinishedExam) -> None:
        """An exam's seconds."""
        for stage, seconds in event.seconds.items():
            self._stages.labels(self._site, stage).observe(seconds)
        self._write_now_and_then()

    def queue_seen(self, event: QueueState) -> None:
        """The ledger's states."""
        for state in ("queued", "claimed", "scored", "rejected", "failed"):
            self._exams.labels(self._site, state).set(getattr(event, state))
        self._age.labels(self._site).set(event.oldest_queued_seconds)
        self._write_now_and_then()

    def batch_finished(self, event: FinishedBatch) -> None:
        """The counts of the whole batch, as the tables have them."""
        exams, instances = event.counts.exams, event.counts.instances
        states = {"queued": exams.unfinished, "claimed": 0}
        for state in ("scored", "rejected", "failed"):
            states[state] = getattr(exams, state)
            self._instances.labels(self._site, state).set(getattr(instances, state))
        self._instances.labels(self._site, "unfinished").set(instances.unfinished)
        for state, number in states.items():
            self._exams.labels(self._site, state).set(number)
        self._age.labels(self._site).set(0)
        self._rejects.clear()
        for (status, reason), numbers in event.counts.reasons.items():
            for of, number in zip(("exam", "instance"), numbers, strict=True):
                self._rejects.labels(self._site, of, status, reason).set(number)
        self.write()

    def delivery(self, destinations: Iterable[Destined]) -> None:
        """How it stands with the outbox."""
        for one in destinations:
            for state in State:
                self._outbox.labels(self._site, one.name, state.value).set(one.counts[state])
            age = 0.0 if one.oldest is None else max(0.0, time.time() - one.oldest.timestamp())
            self._oldest.labels(self._site, one.name).set(age)
        self.write()

    def ended(self, code: int, urgency: int) -> None:
        """How the run ended."""
        self._ended.labels(self._site).set_to_current_time()
        self._code.labels(self._site).set(code)
        self._urgency.labels(self._site).set(urgency)
        self.write()

    def write(self) -> None:
        """Write the text file, if there is one. Raises StoreError if it cannot be written."""
        if self._file is not None:
            # Without waiting for the disk: after a power cut the next file is as good.
            write_atomically(self._file, [generate_latest(self.registry)], durable=False, mode=_FOR_ALL)
            self._written = time.monotonic()

    def _write_now_and_then(self) -> None:
        if time.monotonic() - self._written >= _EVERY_S:
            self.write()

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(name, words, ["site", *labels], namespace="screening", registry=self.registry)
