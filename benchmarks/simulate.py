"""How fast women are simulated: four 2D views, and four tomosynthesis volumes.

    python -m benchmarks.simulate [--women N] [--workers N] [--docs docs/performance.md]

Run it by hand from the checkout's root, on a machine that does nothing else. `screening simulate` is run in a process
of its own, once for mammograms and once for volumes (each of which comes with a synthetic 2D image), one round at
0.2 mm: time from start to end, the start of the program included, by woman. Peak memory is that of the largest process.
"""

from __future__ import annotations

import csv
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from training.pages import put_block

BLOCK = "simulate"
PIXEL_MM = 0.2
TARGET_S = {"mammography": 5.0, "dbt": 40.0}
"""Asked of a woman: of four 2D views, and of four volumes of 50 frames, on two cores."""


@dataclass(frozen=True)
class Run:
    """One run of the simulator; `frames`: of a volume, on average, 0 of mammograms. `peak_gb`: of one process."""

    modality: str
    women: int
    workers: int
    seconds: float
    frames: float
    peak_gb: float

    @property
    def a_woman(self) -> float:
        """Seconds a woman."""
        return self.seconds / self.women


def run(modality: str, women: int, workers: int, seed: int, folder: Path) -> Run:
    """Simulate `women` into `folder`; raises `CalledProcessError` where that fails."""
    command = [sys.executable, "-c", "from screening.cli import main; main()", "simulate", "--out", str(folder)]
    options = {"women": women, "seed": seed, "modality": modality, "pixel-mm": PIXEL_MM, "workers": workers}
    command += [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    with (folder / "images.csv").open(newline="", encoding="utf-8") as stream:
        frames = [int(row["frames"]) for row in csv.DictReader(stream) if row["kind"] == "dbt"]
    return Run(modality, women, workers, seconds, sum(frames) / len(frames) if frames else 0.0, peak)


def document(runs: list[Run]) -> str:
    """The table in Markdown."""
    lines = [
        f"{runs[0].women} women, seed 7, one round, voxels of {PIXEL_MM} mm, {runs[0].workers} workers on "
        f"{os.cpu_count()} cores ({platform.machine()}); time includes the start of the program.",
        "",
        "| of a woman | seconds | asked for | largest process |",
        "| --- | --- | --- | --- |",
    ]
    for one in runs:
        title = "four 2D views" if not one.frames else f"four volumes of {one.frames:.0f} frames on average"
        lines.append(f"| {title} | {one.a_woman:.1f} | ≤ {TARGET_S[one.modality]:.0f} | {one.peak_gb:.2f} GB |")
    return "\n".join(lines)


def main(
    women: Annotated[int, typer.Option("--women", min=1, help="Women of each run.")] = 8,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 2,
    docs: Annotated[Path | None, typer.Option("--docs", help="Page whose block is replaced.")] = None,
) -> None:
    """Time both, print the table and, with --docs, put it into a page."""
    with tempfile.TemporaryDirectory() as scratch:
        runs = [run(modality, women, workers, 7, Path(scratch) / modality) for modality in TARGET_S]
    text = document(runs)
    print(text)
    if docs is not None:
        put_block(docs, BLOCK, text)


if __name__ == "__main__":
    typer.run(main)
