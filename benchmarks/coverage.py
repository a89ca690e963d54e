"""How often the 95 % intervals contain the truth, on repeated simulated programmes.

    python -m benchmarks.coverage [--repetitions 500] [--women 4000] [--json FILE]

Every repetition simulates a screening programme as tables, joins scores and follow-up under a protocol, and takes the
figures with their intervals as `screening evaluate` does. The truth is the same figure on one programme that is many
times larger; its own error is printed beside. Two processes at a time; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.progress import track

from evaluation.checks import FloatArray
from evaluation.cohort import Cohort, join
from evaluation.draft import settle
from evaluation.figures import FIGURES
from evaluation.froc import FrocStatistics
from evaluation.hits import Lesions, Regions
from evaluation.inputs import Inputs
from evaluation.localisation import Marks
from evaluation.protocol import Protocol, load_protocol
from evaluation.roc import RocStatistics
from tests.support.programme import simulate

PROTOCOL, ROUNDS = "mckinney-2020-us", 2
FP_RATES = (0.1, 1.0)
KEYS = {
    "auc": "AUC",
    "sensitivity@specificity=0.9": "Sensitivity at specificity 0.90",
    "froc-sensitivity@fp=0.1": "Sensitivity at 0.1 false positives per image",
    "froc-sensitivity@fp=1": "Sensitivity at 1 false positive per image",
}
SOURCES = ("auc", "sensitivity-at-specificity", "localisation")
WOMEN_A_CHUNK = 5_000
LOWEST, HIGHEST = 0.93, 0.97


@dataclass(frozen=True)
class Coverage:
    """Of one figure: truth, mean and spread of estimates, mean width, and the share of intervals with the truth."""

    figure: str
    truth: float
    mean: float
    spread: float
    width: float
    coverage: float
    repetitions: int

    @property
    def error(self) -> float:
        """Monte Carlo standard error of the coverage."""
        return float(np.sqrt(self.coverage * (1 - self.coverage) / self.repetitions))


def main() -> None:
    options = _options()
    chunks = -(-options.truth_women // WOMEN_A_CHUNK)
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        parts = pool.map(chunk, range(1_000_000, 1_000_000 + chunks))
        truth = _truth(list(track(parts, "A large programme for the truth", total=chunks)))
        jobs = [(seed, options.women, options.replicates) for seed in range(options.repetitions)]
        found = pool.map(repetition, jobs, chunksize=4)
        intervals = np.array(list(track(found, "Repetitions", total=len(jobs))))
    rows = [coverage(KEYS[key], truth[key], intervals[:, at]) for at, key in enumerate(KEYS)]
    print(table(rows, options))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


def repetition(job: tuple[int, int, int]) -> list[tuple[float, float, float]]:
    """Point and limits of every figure on one programme of (seed, women, replicates); NaN where there is none."""
    seed, women, replicates = job
    inputs = Inputs(_cohort(seed, women, replicates))
    drafts = [draft for name in SOURCES for draft in FIGURES[name](inputs) if draft.key in KEYS]
    figures = {one.key: one.interval for one in settle(drafts, inputs.cases, inputs.protocol.uncertainty)}
    found = [figures[key] for key in KEYS]
    return [(np.nan,) * 3 if one is None else (one.point, one.low, one.high) for one in found]


@dataclass(frozen=True, eq=False)
class Chunk:
    """The arrays of one part of the large programme."""

    positive: FloatArray
    score: FloatArray
    marks: Marks


def chunk(seed: int) -> Chunk:
    inputs = Inputs(_cohort(seed, WOMEN_A_CHUNK, 1))
    if isinstance(inputs.marks, str):
        raise RuntimeError(inputs.marks)
    return Chunk(inputs.cases.positive.astype(np.float64), inputs.cases.score, inputs.marks)


def coverage(figure: str, truth: float, intervals: FloatArray) -> Coverage:
    """From points and limits, shape (repetitions, 3); a repetition without interval does not cover."""
    point, low, high = intervals.T
    inside = (low <= truth) & (truth <= high)
    return Coverage(
        figure,
        truth,
        float(np.nanmean(point)),
        float(np.nanstd(point)),
        float(np.nanmean(high - low)),
        float(inside.mean()),
        len(intervals),
    )


def table(rows: list[Coverage], options: argparse.Namespace) -> str:
    lines = [
        f"{options.repetitions} programmes of {options.women:,} women and {ROUNDS} rounds, protocol {PROTOCOL}, "
        f"{options.replicates:,} replicates; truth from {options.truth_women:,} women. "
        f"Asked for: {LOWEST:.0%} to {HIGHEST:.0%}.",
        "",
        "| figure | truth | mean estimate | standard deviation | mean width | coverage (± standard error) | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        verdict = "as asked" if LOWEST <= row.coverage <= HIGHEST else "outside"
        lines.append(
            f"| {row.figure} | {row.truth:.4f} | {row.mean:.4f} | {row.spread:.4f} | {row.width:.4f} "
            f"| {row.coverage:.1%} ± {row.error:.1%} | {verdict} |"
        )
    return "\n".join(lines)


def _cohort(seed: int, women: int, replicates: int) -> Cohort:
    programme = simulate(women, ROUNDS, seed)
    return join(programme.checked_scores(), programme.checked_followup(), _protocol(replicates))


def _protocol(replicates: int) -> Protocol:
    protocol = load_protocol(PROTOCOL)
    return protocol.model_copy(
        update={
            "operating_points": (),
            "localisation": protocol.localisation.model_copy(update={"fp_rates": FP_RATES}),
            "uncertainty": protocol.uncertainty.model_copy(update={"replicates": replicates}),
        }
    )


def _truth(parts: list[Chunk]) -> dict[str, float]:
    roc = RocStatistics(
        np.concatenate([one.positive for one in parts]), np.concatenate([one.score for one in parts])
    )  # fmt: skip
    first = np.cumsum([0, *(one.marks.n_images for one in parts)])
    first_exam = np.cumsum([0, *(len(one.score) for one in parts)])
    regions = [one.marks.regions for one in parts]
    lesions = [one.marks.lesions for one in parts]

    rules = parts[0].marks.rules
    froc = FrocStatistics(
        Regions(
            np.concatenate([one.image + start for one, start in zip(regions, first[:-1], strict=True)]),
            np.concatenate([one.score for one in regions]),
            np.concatenate([one.box for one in regions]),
        ),
        Lesions(
            np.concatenate([one.image + start for one, start in zip(lesions, first[:-1], strict=True)]),
            np.concatenate([one.box for one in lesions]),
            target=np.concatenate([one.target for one in lesions]),
        ),
        int(first[-1]),
        rule=rules.rule(),
        level=rules.level,
        denominator=rules.fp_denominator,
        per=rules.fp_per,
        case=np.concatenate([one.marks.exam + start for one, start in zip(parts, first_exam[:-1], strict=True)]),
        others=rules.other_lesions,
    )
    return {
        "auc": roc.auc()(),
        "sensitivity@specificity=0.9": roc.sensitivity_at_specificity(0.9)(),
        **{f"froc-sensitivity@fp={rate:g}": froc.sensitivity_at_fp(rate)() for rate in FP_RATES},
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--women", type=int, default=4_000, help="of every repetition (default: 4000)")
    parser.add_argument("--replicates", type=int, default=2_000, help="of the bootstrap (default: 2000)")
    parser.add_argument("--truth-women", type=int, default=200_000, help="of the large programme (default: 200000)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
