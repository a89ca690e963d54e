"""The command `screening score` as a function."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One call of the command: exit code, what it printed, and the folder that it wrote."""

    code: int
    stdout: str
    stderr: str
    out: Path

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of one CSV file, "exams", "images" or "regions"."""
        with (self.out / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    @property
    def record(self) -> dict[str, Any]:
        """batch.json."""
        content: dict[str, Any] = json.loads((self.out / "batch.json").read_text())
        return content


Score = Callable[..., Run]
"""score(source, out, *options) runs `screening score` in this process, on a terminal of so many `columns`."""
