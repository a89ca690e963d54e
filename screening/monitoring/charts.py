"""The drift page's charts, as SVG: what a machine's weeks look like beside the reference.

Every chart has the weeks of the whole report from left to right, so that those of a machine, and of all machines, can
be read against each other. Colours: blue for less than the reference, orange for more, red for an alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

from screening.monitoring.cells import Cell
from screening.monitoring.drift import Measure, Point, Stream
from screening.monitoring.reference import BINS, Share
from screening.monitoring.two_sample import exact_interval

_WIDTH, _HEIGHT = 340, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 6, 8, 20
_LEVELS = ("#1d5f93", "#6d9fc6", "#c2d7e8", "#f4f4f2", "#f7d9b3", "#eba14f", "#c45f0b")
"""From a third of the reference's share, and less, to three times and more."""
_BORDERS = (1 / 3, 1 / 2, 2 / 3, 3 / 2, 2.0, 3.0)


@dataclass(frozen=True)
class Frame:
    """Where weeks and values lie in a chart. `weeks`: of the whole report, at least one; `high`: value at the top."""

    first: date
    weeks: int
    low: float
    high: float

    def x(self, monday: date) -> float:
        """The left edge of a week."""
        return _LEFT + (monday - self.first).days / 7 * self.step

    @property
    def step(self) -> float:
        """The width of a week."""
        return (_WIDTH - _LEFT - _RIGHT) / self.weeks

    def middle(self, cell: Cell) -> float:
        """The middle of a period."""
        return (self.x(cell.first) + self.x(cell.last) + self.step) / 2

    def y(self, value: float) -> float:
        """The height of a value; beyond the frame it stays at its edge."""
        share = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def tenths(stream: Stream, span: tuple[date, int]) -> str:
    """Each period's scores by tenth of the reference, the most suspicious on top: more or fewer than there."""
    frame = Frame(*span, 0, BINS)
    total = sum(stream.stratum.bins)
    squares: dict[int, list[str]] = {}
    for point in stream.points:
        cell = point.cell
        if not cell.scored:
            continue
        left, width = frame.x(cell.first), frame.x(cell.last) + frame.step - frame.x(cell.first)
        for number, count in enumerate(cell.bins):
            expected = stream.stratum.bins[number] / total * cell.scored
            level = sum((count + 0.5) / (expected + 0.5) >= border for border in _BORDERS)
            top, bottom = frame.y(number + 1), frame.y(number)
            squares.setdefault(level, []).append(f"M{left:.1f} {top:.1f}h{width:.1f}v{bottom - top:.1f}h{-width:.1f}z")
    body = "".join(f'<path fill="{_LEVELS[level]}" d="{"".join(d)}"/>' for level, d in sorted(squares.items()))
    labels = "".join(_label(frame.y(number - 0.5), str(number)) for number in (1, 5, 10))
    return _svg(f"Scores of {stream.machine} by tenth of the reference", body + labels + _months(frame))


def chart(stream: Stream, measure: Measure, span: tuple[date, int], limit: float) -> str:
    """A measure's CUSUM: upwards above the line, downwards below it; beyond the dashed limits it is an alarm."""
    frame = Frame(*span, -limit - 1.2, limit + 1.2)
    sums = [(point, point.charts[measure]) for point in stream.points if measure in point.charts]
    body = _rule(frame, 0, "axis") + "".join(_rule(frame, side * limit, "limit") for side in (1, -1))
    for side in (1, -1):
        places = [(frame.middle(p.cell), frame.y(side * (c.up if side > 0 else c.down))) for p, c in sums]
        body += _line(places, "up" if side > 0 else "down")
    for point, cusum in sums:
        if measure in point.alarms:
            higher = cusum.up if cusum.up >= cusum.down else -cusum.down
            title = f"{point.cell.days}: alarm ({_kinds(point, measure)})"
            body += _dot(frame.middle(point.cell), frame.y(higher), "alarm", title)
    labels = "".join(_label(frame.y(value), text) for value, text in ((limit, "more"), (-limit, "less")))
    return _svg(f"Sums of {measure} of {stream.machine}", body + labels + _months(frame))


def shares(
    stream: Stream, measure: Measure, span: tuple[date, int], count: Callable[[Cell], tuple[int, int]], high: float
) -> str:
    """A share of each period with its exact 95 % interval; the line is the reference's, its band the interval."""
    frame = Frame(*span, 0, high)
    body = ""
    known = _known(stream, measure)
    if known is not None:
        low, top = exact_interval(known.count, known.total)
        body += (
            f'<rect class="band" x="{_LEFT}" width="{_WIDTH - _LEFT - _RIGHT}" y="{frame.y(top):.1f}" '
            f'height="{frame.y(low) - frame.y(top):.1f}"/>' + _rule(frame, known.count / known.total, "reference")
        )
    for point in stream.points:
        number, total = count(point.cell)
        if not total:
            continue
        low, top = exact_interval(number, total)
        x, kind = frame.middle(point.cell), "alarm" if measure in point.alarms else "value"
        body += f'<path class="whisker {kind}" d="M{x:.1f} {frame.y(low):.1f}V{frame.y(top):.1f}"/>'
        title = f"{point.cell.days}: {number} of {total}, {number / total:.1%} ({low:.1%} to {top:.1%})"
        body += _dot(x, frame.y(number / total), kind, title)
    labels = "".join(_label(frame.y(value), f"{value:.0%}") for value in (0, high / 2, high))
    return _svg(f"Share {measure} of {stream.machine}", body + labels + _months(frame))


def ceiling(values: Sequence[float]) -> float:
    """A round share above all values, for the top of a chart."""
    most = max(values, default=0.0)
    return next((top for top in (0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8) if most <= top), 1.0)


def span_of(streams: Sequence[Stream]) -> tuple[date, int] | None:
    """The first Monday of all periods, and how many weeks there are; None if there is no period."""
    cells = [point.cell for stream in streams for point in stream.points]
    if not cells:
        return None
    first = min(cell.first for cell in cells)
    return first, (max(cell.last for cell in cells) - first).days // 7 + 1


def _known(stream: Stream, measure: Measure) -> Share | None:
    if measure in stream.untested:
        return None
    return stream.stratum.incomplete if measure is Measure.INCOMPLETE else stream.stratum.recalled


def _kinds(point: Point, measure: Measure) -> str:
    return " and ".join(
        name for name, found in (("sudden", point.sudden), ("lasting", point.lasting)) if measure in found
    )


def _svg(name: str, body: str) -> str:
    label = escape(name, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}"><title>{label}</title>{body}</svg>'


def _label(y: float, text: str) -> str:
    return f'<text x="{_LEFT - 4}" y="{y + 3.5:.1f}" class="side">{escape(text)}</text>'


def _rule(frame: Frame, value: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{_LEFT} {frame.y(value):.1f}H{_WIDTH - _RIGHT}"/>'


def _line(places: Sequence[tuple[float, float]], kind: str) -> str:
    if not places:
        return ""
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'


def _dot(x: float, y: float, kind: str, title: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.4"><title>{escape(title)}</title></circle>'


def _months(frame: Frame) -> str:
    """Names of months under the weeks that begin them, as many as there is room for."""
    return "".join(
        f'<text x="{x:.1f}" y="{_HEIGHT - 6}" class="month">{escape(text)}</text>' for x, text in _month_places(frame)
    )


def _month_places(frame: Frame) -> Iterator[tuple[float, str]]:
    taken, month = -100.0, ""
    for week in range(frame.weeks):
        monday = date.fromordinal(frame.first.toordinal() + 7 * week)
        name = f"{monday:%b %y}"
        x = frame.x(monday)
        if name != month and x - taken >= 46 and x <= _WIDTH - 34:
            taken = x
            yield x, name
        month = name
