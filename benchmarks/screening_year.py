"""When are results ready? A year of a screening programme through a queue of workers.

`python -m benchmarks.screening_year` prints it.

Workers are cores that take the oldest exam that waits. What is assumed of the programme stands in `Programme`; what an
exam costs was measured (docs/performance.md). With `--docs` the tables of docs/scaling.md and its figure are made anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

Floats = npt.NDArray[np.float64]

HOUR, DAY = 3600.0, 86400.0
MORNING = 7 * HOUR
"""When the readers begin."""
CORE_SECONDS = 4.52
"""Of a four-view 2D exam: 2.26 s on two cores (docs/performance.md)."""
BEGIN, END = "<!-- queue: begin -->", "<!-- queue: end -->"


@dataclass(frozen=True)
class Programme:
    """A national programme's year. All of it is assumed, but for the number of units.

    `units`, `mobile`: centres, and those of them that are vans: 69 and 59 in the Netherlands
    (bevolkingsonderzoeknederland.nl, 2020). A van sends all exams of its day in the evening, from a time between the
    two of `upload`, one every `upload_s` seconds; the others send each when it is taken. `hours`: of examination.
    `summer`: share of the usual exams in July and August. Nobody is examined at weekends and on `holidays`, nor between
    Christmas and New Year.
    """

    exams: int = 1_000_000
    year: int = 2027
    units: int = 69
    mobile: int = 59
    hours: tuple[float, float] = (8 * HOUR, 17 * HOUR)
    upload: tuple[float, float] = (17.5 * HOUR, 20.5 * HOUR)
    upload_s: float = 40.0
    summer: float = 0.7
    holidays: frozenset[tuple[int, int]] = field(
        default=frozenset({(1, 1), (3, 26), (3, 29), (4, 27), (5, 6), (5, 17)} | {(12, day) for day in range(24, 32)})
    )


@dataclass(frozen=True)
class Arrivals:
    """Exams in the order in which they arrive: seconds since New Year, and the day (0-based) they were taken on."""

    at: Floats
    day: npt.NDArray[np.int64]


def arrivals(programme: Programme, seed: int = 0) -> Arrivals:
    """Draw a year of exams; each unit's number of a day is Poisson."""
    rng = np.random.default_rng(seed)
    first = date(programme.year, 1, 1)
    weights = np.array([_weight(programme, first + timedelta(days=day)) for day in range(365)])
    expected = programme.exams * weights / weights.sum() / programme.units
    times, days = [], []
    for day in np.flatnonzero(weights):
        for unit, count in enumerate(rng.poisson(expected[day], programme.units)):
            taken = np.sort(rng.uniform(*programme.hours, count))
            if unit < programme.mobile:
                taken = rng.uniform(*programme.upload) + programme.upload_s * np.arange(1, count + 1)
            times.append(day * DAY + taken)
            days.append(np.full(count, day))
    at, taken_on = np.concatenate(times), np.concatenate(days)
    order = np.argsort(at, kind="stable")
    return Arrivals(at[order], taken_on[order])


def _weight(programme: Programme, day: date) -> float:
    if day.weekday() >= 5 or (day.month, day.day) in programme.holidays:
        return 0.0
    return programme.summer if day.month in (7, 8) else 1.0


@dataclass(frozen=True)
class Downtime:
    """When no worker works: rising intervals (start, end) in seconds that do not touch. Work goes on where it stopped.

    Time is mapped to time worked and back, so that the queue itself knows nothing of interruptions.
    """

    intervals: tuple[tuple[float, float], ...] = ()

    def worked(self, at: Floats) -> Floats:
        """Seconds worked until the times `at` (n,)."""
        if not self.intervals:
            return at
        start, end = np.array(self.intervals).T
        before = np.concatenate([[0.0], np.cumsum(end - start)])
        number = np.searchsorted(start, at, side="right")
        running = np.where(number > 0, np.minimum(0, at - end[number - 1]), 0)  # within an interval: less of it is over
        worked: Floats = at - before[number] - running
        return worked

    def clock(self, worked: Floats) -> Floats:
        """The earliest times (n,) at which so much has been worked."""
        if not self.intervals:
            return worked
        start, end = np.array(self.intervals).T
        before = np.concatenate([[0.0], np.cumsum(end - start)])
        clock: Floats = worked + before[np.searchsorted(start - before[:-1], worked, side="left")]
        return clock


def finished(at: Floats, service: Floats, workers: int, down: Downtime | None = None) -> Floats:
    """When each exam is done: first come, first served, by `workers` that are all alike.

    `at`: rising arrival times (n,) in seconds; `service`: seconds of work that each takes (n,).
    """
    down = down or Downtime()
    free = [0.0] * workers
    done = np.empty(len(at))
    for index, (arrival, work) in enumerate(zip(down.worked(at).tolist(), service.tolist(), strict=True)):
        start = max(arrival, free[0])
        heapq.heapreplace(free, start + work)
        done[index] = start + work
    return down.clock(done)


@dataclass(frozen=True)
class Answer:
    """What a year is like. `minutes`: from arrival to result, at the percentiles 50, 95 and 99.9 and at the longest.

    `by_morning`: share of exams whose result is there at 07:00 on the day after they were taken. `late_nights`: days
    of which at least one is not. `busy`: share of the year that a worker works. `peak_end`: hour of the clock at which
    the last exam of the busiest day is done (above 24: on the next day).
    """

    workers: int
    minutes: tuple[float, float, float, float]
    by_morning: float
    late_nights: int
    busy: float
    peak_end: float


def answer(found: Arrivals, seconds: float, workers: int, down: Downtime | None = None) -> Answer:
    """Run a year; each exam takes `seconds` of one core."""
    done = finished(found.at, np.full(len(found.at), seconds), workers, down)
    waited = (done - found.at) / 60
    late = done > (found.day + 1) * DAY + MORNING
    peak = busiest(found)
    percentiles = [float(q) for q in np.percentile(waited, (50, 95, 99.9, 100))]
    return Answer(
        workers=workers,
        minutes=(percentiles[0], percentiles[1], percentiles[2], percentiles[3]),
        by_morning=float(1 - late.mean()),
        late_nights=len(np.unique(found.day[late])),
        busy=len(done) * seconds / workers / (365 * DAY),
        peak_end=float((done[found.day == peak].max() - peak * DAY) / HOUR),
    )


def busiest(found: Arrivals) -> int:
    """The day with most exams, 0-based."""
    return int(np.bincount(found.day).argmax())


def nightly(start: float = 21 * HOUR, end: float = MORNING) -> Downtime:
    """Workers that work only from `start` to `end` of the next day."""
    return Downtime(tuple((day * DAY + end, day * DAY + start) for day in range(372)))


def failed_night(day: int, start: float = 18 * HOUR, hours: float = 16.0) -> Downtime:
    """Nothing works from the evening of `day` on; somebody mends it in the morning."""
    return Downtime(((day * DAY + start, day * DAY + start + hours * HOUR),))


def erlang_c(workers: int, load: float) -> float:
    """Probability of having to wait in M/M/c with an offered load in erlang (Erlang 1917), by its recursion."""
    blocked = 1.0
    for number in range(1, workers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / workers * (1 - blocked))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (header, ["---:"] * len(header), *rows):
        yield f"| {' | '.join(cells)} |"


_HEADER = (
    "workers (cores)",
    "median, min",
    "95 %, min",
    "99.9 %, min",
    "longest, h",
    "by 07:00",
    "late nights",
    "busiest day done at",
    "busy",
)


def _cells(one: Answer) -> tuple[str, ...]:
    median, high, highest, longest = one.minutes
    return (
        str(one.workers),
        f"{median:.1f}",
        f"{high:.1f}",
        f"{highest:.0f}",
        f"{longest / 60:.1f}",
        f"{one.by_morning:.2%}",
        str(one.late_nights),
        _clock(one.peak_end),
        f"{one.busy:.1%}",
    )


def _clock(hours: float) -> str:
    """Hours since midnight as a time of day, with the days that have passed."""
    days, rest = divmod(round(hours * 60), 24 * 60)
    return f"{rest // 60:02d}:{rest % 60:02d}" + (f" (+{days} d)" if days else "")


def report(found: Arrivals, seconds: float, costly: float) -> Iterator[str]:
    """The tables of docs/scaling.md, line by line."""
    peak, counts = busiest(found), np.bincount(found.day)
    yield f"Simulated: {len(found.at):,} exams on {np.count_nonzero(counts)} days; busiest day {counts[peak]:,} exams."
    scenarios: tuple[tuple[str, float, tuple[int, ...], Downtime | None], ...] = (
        (f"Scored as they arrive, {seconds:g} core-seconds an exam", seconds, (1, 2, 4), None),
        (f"Scored in the night only, 21:00 to 07:00, {seconds:g} core-seconds", seconds, (1, 2, 4), nightly()),
        (f"As they arrive, {costly:g} core-seconds an exam", costly, (4, 6, 8, 16), None),
        (f"In the night only, {costly:g} core-seconds", costly, (4, 6, 8, 16), nightly()),
    )
    for title, cost, cores, down in scenarios:
        yield from ("", f"**{title}**", "")
        yield from _table(_HEADER, [_cells(answer(found, cost, number, down)) for number in cores])
    yield from ("", "**The night of the busiest day fails: nothing works from 18:00 to 10:00**", "")
    rows = []
    for cost, workers in ((seconds, 1), (seconds, 2), (seconds, 4), (costly, 8), (costly, 16)):
        done = finished(found.at, np.full(len(found.at), cost), workers, failed_night(peak))
        mended = (peak + 1) * DAY + 10 * HOUR
        missing = int(((found.day == peak) & (done > (peak + 1) * DAY + MORNING)).sum())
        caught = float((done[found.day == peak].max() - mended) / HOUR)
        waiting = (done > (found.day + 1) * DAY + MORNING) & (found.day > peak)
        rows.append((f"{cost:g}", str(workers), f"{missing:,}", f"{caught:.1f}", f"{int(waiting.sum()):,}"))
    header = ("core-seconds", "workers", "exams missing at 07:00", "hours until they are done", "of later days late")
    yield from _table(header, rows)


def draw(found: Arrivals, seconds: float, path: Path) -> None:
    """Draw two days around the failed night: how many exams wait, by number of workers."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    peak = busiest(found)
    first = peak * DAY
    grid = np.arange(first + 6 * HOUR, first + 48 * HOUR, 300.0)
    came = np.searchsorted(found.at, grid)
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 5.2), dpi=110, layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        hours = (grid - first) / HOUR
        for axis, down, title in (
            (upper, None, "Exams that wait, busiest day of the year"),
            (lower, failed_night(peak), "The same, with the night failed from 18:00 to 10:00"),
        ):
            for workers, colour in ((1, "#a3241c"), (2, "#d99a14"), (4, "#1c5d8f")):
                done = np.sort(finished(found.at, np.full(len(found.at), seconds), workers, down))
                axis.plot(hours, came - np.searchsorted(done, grid), color=colour, label=f"{workers} worker(s)")
            axis.axvline(24 + MORNING / HOUR, color="#667080", linestyle="--", linewidth=1)
            axis.set_title(title, loc="left", fontsize=10)
            axis.set_ylabel("exams")
            axis.set_ylim(bottom=0)
        upper.legend(frameon=False)
        lower.set_xticks(range(6, 49, 3), [f"{hour % 24:02d}" for hour in range(6, 49, 3)])
        lower.set_xlabel(f"hour of the day; dashed: 07:00, readers begin ({seconds:g} core-seconds an exam)")
        figure.savefig(path, metadata={"Software": None})


def main(
    seconds: Annotated[float, typer.Option("--seconds", help="Core-seconds an exam.")] = CORE_SECONDS,
    costly: Annotated[float, typer.Option("--costly", help="Core-seconds of a more costly exam.")] = 40.0,
    exams: Annotated[int, typer.Option("--exams", help="Exams of the year.")] = 1_000_000,
    docs: Annotated[Path | None, typer.Option("--docs", help="Page whose tables and figure are made anew.")] = None,
) -> None:
    """Simulate a year of a screening programme and say when results are ready."""
    found = arrivals(Programme(exams=exams))
    lines = "\n".join(report(found, seconds, costly))
    typer.echo(lines)
    if docs is not None:
        text = docs.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        docs.write_text(f"{before}{BEGIN}\n{lines}\n{END}{rest.split(END)[1]}", encoding="utf-8")
        draw(found, seconds, docs.parent / "images" / "scaling.png")


if __name__ == "__main__":
    typer.run(main)
