"""What a worker logs goes with its report to the runner, whose log has one place and one format."""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from screening.batch.worker import Report


class Records(logging.handlers.QueueHandler):
    """Keeps log records, as text that another process can read."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # there is no queue: `enqueue` keeps them
        self._records: list[logging.LogRecord] = []

    def enqueue(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._records.append(record)

    def added_to(self, report: Report) -> Report:
        """The report with what was logged."""
        return replace(report, log=tuple(self._records))


@contextmanager
def collected() -> Iterator[Records]:
    """Collect what this process logs, instead of showing it."""
    root, records = logging.getLogger(), Records()
    handlers, level = root.handlers, root.level
    root.handlers = [records]
    root.setLevel(logging.INFO)
    try:
        yield records
    finally:
        root.handlers = handlers
        root.setLevel(level)


def replay(report: Report) -> Report:
    """Log here what a worker logged, and return the report without it."""
    for record in report.log:
        logging.getLogger(record.name).handle(record)
    return replace(report, log=())
