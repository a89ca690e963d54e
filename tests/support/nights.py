"""Nights for tests: a site with a source and a PACS, the command as a function, and a PACS that counts."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from screening.configs import config_dir
from tests.support.exams import write_exam
from tests.support.pacs import WebPacs, store, web_pacs

TONIGHT, NEXT = "2026-02-03", "2026-02-04"


@dataclass(frozen=True)
class Ran:
    """One run of `screening nightly`: how it ended and what it wrote. `summary`: OUT/summary.json, empty if none."""

    code: int
    stdout: str
    stderr: str
    out: Path
    summary: dict[str, Any]

    def table(self, day: str, name: str = "exams") -> list[dict[str, str]]:
        """The rows of one CSV file of a night."""
        with (self.out / day / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@dataclass(frozen=True)
class Site:
    """A site under `folder`: its source `incoming`, its profile, its nights in `nights`.

    `credentials`: of its PACS, as keys of the profile.
    """

    folder: Path
    bundle: Path
    credentials: dict[str, str] = field(default_factory=dict)

    @property
    def incoming(self) -> Path:
        return self.folder / "incoming"

    @property
    def out(self) -> Path:
        return self.folder / "nights"

    @property
    def profile(self) -> Path:
        return self.folder / "site.yaml"

    def exams(self, *studies: int) -> None:
        """Put exams of one view into the source."""
        for study in studies:
            write_exam(self.incoming, study, views=(("R", "CC"),))

    def write_profile(self, at: str = "", pacs: str = "", **source: Any) -> None:
        """Write the profile: in live mode to `pacs`, or in shadow mode without destination."""
        content = yaml.safe_load((config_dir("sites") / "default.yaml").read_text())
        content |= {"name": "st-elsewhere", "source": {"at": at or str(self.incoming), **source}}
        if pacs:
            live = [{"name": "pacs", "url": pacs, "kinds": ["cad-sr"], "timeout_s": 30, **self.credentials}]
            content["delivery"] = {"mode": "live", "decided_by": "Dr. A. Example", "live": live}
        self.profile.write_text(yaml.safe_dump(content))

    def arguments(self, day: str = TONIGHT, *options: str) -> list[str]:
        """The command line of a night."""
        where = ["--site", str(self.profile), "--out", str(self.out), "--model", str(self.bundle), "--date", day]
        return ["nightly", *where, "--fp32", "--workers", "0", "--patience", "0", *options]

    def night(self, day: str = TONIGHT, *options: str) -> Ran:
        """Run a night in this process."""
        from screening.cli import app

        result = CliRunner().invoke(app, self.arguments(day, *options), env={"COLUMNS": "300"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a stack trace that a user would see
        summary = self.out / "summary.json"
        content = json.loads(summary.read_text()) if summary.is_file() else {}
        return Ran(result.exit_code, result.stdout, result.stderr, self.out, content)


@contextmanager
def counting_pacs(port: int = 0) -> Iterator[tuple[WebPacs, Counter[str]]]:
    """A DICOMweb service on loopback, and how often each SOP instance came."""
    arrived: Counter[str] = Counter()
    with web_pacs(port) as pacs:

        def count(handler: Any, contents: dict[str, bytes]) -> None:
            arrived.update(contents.keys())
            store(handler, contents)

        pacs.always = count
        yield pacs, arrived
