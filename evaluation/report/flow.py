"""The flow of exams through an evaluation, as STARD 2015 asks for it (item 19), laid out to be drawn as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

WIDTH = 980
LINE, PAD = 19, 12
_MAIN, _GAP, _ARROW = 400, 24, 34
_LETTER = 7.4  # width of a letter, about
_PER_ROW = 4

Entry = tuple[str, int]


@dataclass(frozen=True)
class Box:
    """A box and its lines of text, of which the first stands out."""

    x: float
    y: float
    width: float
    lines: tuple[str, ...]
    kind: Literal["main", "aside", "outcome"]

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + 2 * PAD

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def centre(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True)
class Diagram:
    """Boxes, lines without head, and arrows: x and y of their start and end."""

    height: float
    boxes: tuple[Box, ...]
    lines: tuple[tuple[float, float, float, float], ...]
    arrows: tuple[tuple[float, float, float, float], ...]


def diagram(flow: Sequence[tuple[int, str, int]]) -> Diagram:
    """Lay out a cohort's flow: all that came in (level 0), beside it what was taken off (1), below by outcome (2).

    `flow`: (level, label, count) in the order of the diagram.
    """
    came, taken, kept = ([(label, count) for at, label, count in flow if at == level] for level in (0, 1, 2))
    top = Box(0, 0, _MAIN, (_sum(came, "exams"), *_listed(came, _MAIN)), "main")
    aside_width = WIDTH - _MAIN - 2 * _GAP
    aside = Box(
        WIDTH - aside_width, 0, aside_width, (_sum(taken, "not analysed"), *_listed(taken, aside_width)), "aside"
    )
    middle = top.height / 2
    analysed = Box(0, max(top.bottom, aside.bottom) + _GAP, _MAIN, (_sum(kept, "analysed"),), "main")
    outcomes = _outcomes(kept, analysed.bottom + _ARROW)
    rail = analysed.bottom + _ARROW / 2
    ends = [box.centre for box in outcomes if box.y == analysed.bottom + _ARROW]
    return Diagram(
        height=max([analysed.bottom, *(box.bottom for box in outcomes)]),
        boxes=(top, aside, analysed, *outcomes),
        lines=(
            (analysed.centre, analysed.bottom, analysed.centre, rail),
            (min(ends, default=analysed.centre), rail, max([*ends, analysed.centre]), rail),
        ),
        arrows=(
            (top.centre, top.bottom, top.centre, analysed.y),
            (top.x + top.width, middle, aside.x, middle),
            *((x, rail, x, rail + _ARROW / 2) for x in ends),
        ),
    )


def _outcomes(entries: Sequence[Entry], y: float) -> list[Box]:
    """Boxes side by side, in rows of equal height."""
    columns = max(1, min(len(entries), _PER_ROW))
    width = (WIDTH - (columns - 1) * _GAP) / columns
    boxes: list[Box] = []
    for start in range(0, len(entries), columns):
        texts = [(f"{count:,}", *_wrapped(label, width)) for label, count in entries[start : start + columns]]
        most = max(len(text) for text in texts)
        for column, text in enumerate(texts):
            lines = (*text, *[""] * (most - len(text)))
            boxes.append(Box(column * (width + _GAP), y, width, lines, "outcome"))
        y = boxes[-1].bottom + _GAP / 2
    return boxes


def _sum(entries: Sequence[Entry], what: str) -> str:
    return f"{sum(count for _, count in entries):,} {what}"


def _listed(entries: Sequence[Entry], width: float) -> list[str]:
    return [line for label, count in entries for line in _wrapped(f"{count:,} {label}", width)]


def _wrapped(text: str, width: float) -> list[str]:
    return wrap(text, int((width - 2 * PAD) / _LETTER), subsequent_indent="\u2003")
