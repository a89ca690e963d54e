"""How much simulated mammograms are like real ones, where that can be measured: texture, grey values, size.

    python -m benchmarks.realism --simulated DIR --data-root DATA [--docs docs/realism.md]

All images are prepared as the product prepares them and measured in the same way; `docs/realism.md` says how to read
the figures. What two real sets have in common stands beside what simulated women have in common with either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.power_law import BAND, PUBLISHED, exponent
from evaluation.bootstrap import Statistic, cluster_bootstrap
from evaluation.errors import MetricError
from evaluation.intervals import Interval
from screening.cli import one_sentence
from screening.exam import ImageKind
from screening.imaging.prepare import Preparation
from training.cache import PreparedRecord, prepare_records
from training.datasets import read_dataset
from training.datasets.record import Record
from training.pages import put_block
from training.simulated_figures import read_simulation

FloatArray = npt.NDArray[np.float64]

SIMULATED, REAL = "simulated", ("rsna", "cesm", "mias")
VIEWS = ("CC", "MLO")
SEED, REPLICATES = 0, 1_000
GREYS = np.linspace(0, 1, 33)
"""Edges of the bins of prepared grey values."""
AREAS_MM2 = np.arange(0, 60_001, 2_500)
"""Edges of the bins of breast areas: 25 cm² wide, so that some hundred images fill them."""
FEWEST = 10
"""Images of a view below which a set is not compared."""


@dataclass(frozen=True)
class Look:
    """What is measured on one image: the exponent of its power spectrum (None: no room for a region), the breast's area
    in mm², and the shares of its pixels in the bins of `GREYS`.
    """

    dataset: str
    woman: str
    view: str
    exponent: float | None
    area_mm2: float
    greys: FloatArray


@dataclass(frozen=True)
class Line:
    """One figure: `of`, in words, and its interval, or the reason why there is none. `n`: what was measured."""

    figure: str
    of: str
    n: str
    interval: Interval | None
    reason: str = ""
    note: str = ""


def look(prepared: PreparedRecord, pixel_mm: float) -> Look:
    """Measure one prepared image; `pixel_mm`: its square pixels."""
    image = prepared.pixels / 65535
    inside = prepared.pixels > 0
    record = prepared.record
    counts, _ = np.histogram(image[inside], GREYS)
    return Look(
        dataset=record.dataset,
        woman=record.woman,
        view=record.view.value,
        exponent=exponent(image, inside, pixel_mm),
        area_mm2=float(inside.sum()) * pixel_mm**2,
        greys=counts / max(1, counts.sum()),
    )


def lines(looks: Sequence[Look]) -> Iterator[Line]:
    """Every figure of the images, set by set and pair by pair."""
    sets = {
        (name, view): found
        for name in (SIMULATED, *REAL)
        for view in VIEWS
        if len(found := [one for one in looks if one.dataset == name and one.view == view]) >= FEWEST
    }
    for (name, view), found in sets.items():
        yield _exponent_line(name, view, [one for one in found if one.exponent is not None])
    for figure in ("grey values", "breast area"):
        for first, second in combinations((SIMULATED, *REAL), 2):
            for view in VIEWS:
                if (first, view) in sets and (second, view) in sets:
                    yield _overlap_line(figure, view, sets[first, view], sets[second, view])


def overlap(first: FloatArray, second: FloatArray) -> float:
    """Overlap coefficient of two histograms, shape (bins,) each: 0 for none in common, 1 for equal shares."""
    return float(np.minimum(first / first.sum(), second / second.sum()).sum())


def _exponent_line(name: str, view: str, found: Sequence[Look]) -> Line:
    values = np.array([one.exponent for one in found], dtype=np.float64)
    within = np.mean((values >= PUBLISHED[0]) & (values <= PUBLISHED[1])) if len(values) else 0.0
    note = f"{within:.0%} of images within {PUBLISHED[0]:g} to {PUBLISHED[1]:g}"
    return _line("exponent", f"{name} {view}", found, lambda weight: float(np.average(values, weights=weight)), note)


def _overlap_line(figure: str, view: str, first: Sequence[Look], second: Sequence[Look]) -> Line:
    found = [*first, *second]
    shares = np.stack([one.greys if figure == "grey values" else _area_bin(one) for one in found])
    split = len(first)

    def statistic(weight: FloatArray) -> float:
        if not weight[:split].any() or not weight[split:].any():
            return np.nan
        return overlap(weight[:split] @ shares[:split], weight[split:] @ shares[split:])

    of = f"{first[0].dataset} and {second[0].dataset}, {view}"
    return _line(
        f"overlap of {figure}", of, found, statistic, _medians(first, second) if figure != "grey values" else ""
    )


def _area_bin(one: Look) -> FloatArray:
    return np.histogram(min(one.area_mm2, AREAS_MM2[-1]), AREAS_MM2)[0].astype(np.float64)


def _medians(first: Sequence[Look], second: Sequence[Look]) -> str:
    medians = (np.median([one.area_mm2 for one in group]) / 100 for group in (first, second))
    return "medians {:.0f} and {:.0f} cm²".format(*medians)


def _line(figure: str, of: str, found: Sequence[Look], statistic: Statistic, note: str) -> Line:
    woman = np.array([f"{one.dataset} {one.woman}" for one in found])
    n = f"{len(found):,} images of {len(set(woman.tolist())):,} women"
    try:
        return Line(figure, of, n, cluster_bootstrap(statistic, woman, seed=SEED, replicates=REPLICATES), note=note)
    except MetricError as error:
        return Line(figure, of, n, None, str(error))


def table(found: Iterable[Line]) -> str:
    """The figures as a Markdown table."""
    rows = ["| figure | of | measured on | value | 95 % interval |  |", "| --- | --- | --- | --- | --- | --- |"]
    for one in found:
        value, limits = "not computable", ""
        if one.interval is not None:
            value, limits = f"{one.interval.point:.2f}", f"{one.interval.low:.2f} to {one.interval.high:.2f}"
        rows.append(f"| {one.figure} | {one.of} | {one.n} | {value} | {limits} | {one.note or one.reason} |")
    return "\n".join(rows)


def sample(records: Iterable[Record], number: int) -> list[Record]:
    """2D images of at most so many women of a set, drawn by a fixed seed, all images of each."""
    flat = [record for record in records if record.kind is ImageKind.FFDM]
    women = sorted({record.woman for record in flat})
    drawn = set(np.random.default_rng(SEED).permutation(women)[:number].tolist())
    return [record for record in flat if record.woman in drawn]


def prepared_sets(
    simulated: Path, data_root: Path, names: Sequence[str], women: int, cache: Path, pixel_mm: float
) -> Iterator[PreparedRecord]:
    """The prepared 2D images of simulated women and of the real sets there are under `data_root`, a set at a time."""
    roots = {SIMULATED: simulated} | {name: data_root / name for name in names if (data_root / name).is_dir()}
    for name, root in roots.items():
        prepared, problems = prepare_records(sample(read_dataset(name, root), women), Preparation(pixel_mm), cache)
        for problem in problems:
            typer.echo(f"left out: {problem}", err=True)
        yield from prepared


def of_simulation(folder: Path) -> str:
    """Which simulated women were looked at, in a sentence. Raises `ConfigError` where the folder is no simulation."""
    programme = read_simulation(folder)["programme"]
    return (
        f"Simulated: {programme['women']:,} women, rounds: {programme['rounds']}, seed {programme['seed']}, voxels of "
        f"{programme['pixel_mm']:g} mm."
    )


def main(
    simulated: Annotated[Path, typer.Option("--simulated", help="Folder of `screening simulate`.")],
    data_root: Annotated[Path, typer.Option("--data-root", help="Folder of the sets rsna/, cesm/ and mias/.")],
    women: Annotated[int, typer.Option("--women", min=2, help="At most so many women of each set.")] = 300,
    cache: Annotated[Path, typer.Option("--cache", help="Folder of prepared copies.")] = Path(".cache/prepared"),
    docs: Annotated[Path | None, typer.Option("--docs", help="Page to put the table into.")] = None,
) -> None:
    """Compare simulated with real mammograms."""
    from screening.model.bundle import load_bundle

    with one_sentence():
        pixel_mm = load_bundle().preparation.pixel_spacing_mm
        images = prepared_sets(simulated, data_root, REAL, women, cache, pixel_mm)
        text = table(lines([look(one, pixel_mm) for one in images]))
        head = (
            f"{of_simulation(simulated)} Prepared to {pixel_mm:g} mm; exponents fitted from {BAND[0]:g} to {BAND[1]:g} "
            f"cycles per mm; at most {women:,} women of each set; intervals over women, {REPLICATES:,} replicates."
        )
        typer.echo(f"{head}\n\n{text}")
        if docs is not None:
            put_block(docs, "realism", f"{head}\n\n{text}")


if __name__ == "__main__":
    typer.run(main)
