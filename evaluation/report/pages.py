"""What pages of figures share: the templates and their style, and how numbers are written for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from evaluation.figure import Figure
from evaluation.manifest import git_commit
from evaluation.protocol import Protocol
from screening.store import write_atomically

NOTICE = "Research only. Not a medical device, not for clinical use."


@cache
def environment() -> Environment:
    """Templates of this package, then those of the batch report, whose style (`report.css`) pages share.

    Everything that a template prints is escaped.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader("evaluation.report"), PackageLoader("screening.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "count": lambda number: f"{number:,}",
        "value": value_text,
        "limits": limits_text,
        "method": method_text,
        "threshold": threshold_text,
    }
    return found


def write_page(template: str, path: Path, protocol: Protocol, data: Mapping[str, Any], **content: Any) -> Path:
    """Fill a template that extends `base.html` and write it to `path`, whole or not at all.

    `data`: the manifest of what was evaluated. `content`: what this template needs besides. Raises `StoreError` where
    `path` cannot be written.
    """
    pieces = (
        environment()
        .get_template(template)
        .generate(
            notice=NOTICE,
            protocol=protocol,
            settings=protocol.model_dump(mode="json", exclude={"name", "source", "description", "choices"}),
            data=data,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            version=version("screening"),
            commit=git_commit(),
            **content,
        )
    )
    write_atomically(path, (piece.encode("utf-8", "backslashreplace") for piece in pieces))
    return path


def number_text(value: float, per: int = 1, like: float | None = None) -> str:
    """A number times `per` with three decimals, fewer from 10 on, none from 1,000 on; `like`: as many as that one."""
    scaled, size = value * per, abs(value if like is None else like) * per
    if not math.isfinite(scaled):
        return "∞" if scaled > 0 else "−∞" if scaled < 0 else "none"
    decimals = 3 if size < 10 else 1 if size < 1_000 else 0
    return f"{scaled:,.{decimals}f}".replace("-", "−")


def value_text(figure: Figure) -> str:
    """A figure's value with what it is counted per ("6.1 per 1,000"), or "not computable"."""
    if figure.interval is None:
        return "not computable"
    suffix = {1: "", 100: " %"}.get(figure.per, f" per {figure.per:,}")
    return number_text(figure.interval.point, figure.per) + suffix


def limits_text(figure: Figure) -> str:
    """A figure's interval, "0.812 to 0.871"; empty where it has none."""
    if figure.interval is None:
        return ""
    made = figure.interval
    low, high = (number_text(limit, figure.per, like=made.point) for limit in (made.low, made.high))
    return f"{low} to {high}"


def method_text(figure: Figure) -> str:
    """How a figure's interval was made: "95 %, percentile bootstrap, 2,000 × 10,002 women"; empty without interval."""
    made = figure.interval
    if made is None:
        return ""
    text = f"{100 * made.level:g} %, {made.method}"
    if made.replicates:
        text += f", {made.replicates:,} × {made.n_clusters:,} women"
    if made.not_computable:
        text += f", {made.not_computable:,} replicates without a value"
    return text


def threshold_text(figure: Figure) -> str:
    """The score from which a case is called; empty where the figure has none."""
    return "" if figure.threshold is None else f"{figure.threshold:.4g}"
