"""Log lines and progress of a night: for people, or one JSON object a line for a log collector.

Neither names a woman: what is told are counts, and an exam's own UID.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pythonjsonlogger.json import JsonFormatter
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LOG = logging.getLogger(__name__)

QUIET = ("pydicom", "matplotlib", "PIL", "mlflow", "alembic", "pynetdicom", "urllib3", "py.warnings")
"""Libraries that quote headers or addresses in what they log; ours says the same without a patient's data."""

Step = Callable[[int, int], None]
"""Called with how much is done and how much there is."""

_LINE_EVERY_S = 60.0
_TIME = "%Y-%m-%dT%H:%M:%S%z"
_CONSOLE = Console(stderr=True)


def set_up(json_lines: bool, verbose: bool = False) -> None:
    """Log to standard error: in colour on a terminal, plain with the time elsewhere, or as JSON lines.

    A JSON line has `time` (ISO 8601), `level`, `logger`, `message`, and what the place that logs adds (`extra`).
    """
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[_handler(json_lines)], force=True)
    logging.captureWarnings(True)
    for library in QUIET:
        logging.getLogger(library).setLevel(logging.CRITICAL)


class Steps:
    """Tells how far each step of a night is: a bar on a terminal, elsewhere a log line a minute."""

    def __init__(self, json_lines: bool) -> None:
        self._bars = _CONSOLE.is_terminal and not json_lines

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """One step; `name` is a few words of ours."""
        if not self._bars:
            yield _Lines(name)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=_CONSOLE) as progress:
            task = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)


class _Lines:
    """A log line now and then."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = time.monotonic() + _LINE_EVERY_S

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY_S
            LOG.info("%s: %d of %d", self._name, done, total, extra={"done": done, "total": total})


class _ToStandardError(logging.Handler):
    """Writes to whatever standard error is at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except OSError:
            self.handleError(record)  # a log that nobody reads any more must not end the night


def _handler(json_lines: bool) -> logging.Handler:
    if _CONSOLE.is_terminal and not json_lines:
        return RichHandler(console=_CONSOLE, show_path=False)
    handler = _ToStandardError()
    if json_lines:
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        line = "%(asctime)s %(levelname)s %(name)s %(message)s"
        handler.setFormatter(JsonFormatter(line, rename_fields=names, datefmt=_TIME))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", _TIME))
    return handler
