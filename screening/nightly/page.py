"""The morning summary as a page: one HTML file, without network or scripts, in the style of the batch report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from screening.nightly.summary import HTML_NAME, tonight_line
from screening.store import write_atomically


def write_html(record: Mapping[str, Any], out: Path) -> None:
    """Write `summary.html` of a summary's record (`Morning.record`) into `out`.

    Text from headers, file names, PACS or profiles is escaped. Raises StoreError if `out` cannot be written.
    """
    write_atomically(out / HTML_NAME, [page(record).encode("utf-8", "backslashreplace")])


def page(record: Mapping[str, Any]) -> str:
    """The page as text."""
    lines = [tonight_line(record), *record["last_nights"]]
    most = max((line["new"] for line in lines), default=0)
    bars = [{**line, "width": round(100 * line["new"] / most, 1) if most else 0.0} for line in lines]
    return _environment().get_template("summary.html").render(**record, lines=bars)


@cache
def _environment() -> Environment:
    environment = Environment(
        # The report's style sheet is the house's.
        loader=ChoiceLoader([PackageLoader("screening.nightly"), PackageLoader("screening.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clock"] = _clock
    environment.filters["duration"] = _duration
    return environment


def _clock(moment: str) -> str:
    """A moment of the record, for people."""
    return moment.replace("T", " ").removesuffix("Z")[:16] + " UTC"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
