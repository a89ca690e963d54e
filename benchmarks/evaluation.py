"""How fast an evaluation is, how its cost grows, how much memory it takes, and how it compares with a plain bootstrap.

    python -m benchmarks.evaluation [--exams 10000 100000 1000000] [--json FILE]

A programme is simulated for each size and written as tables; a fresh process then reads, joins and evaluates them, so
that its peak of memory is its own. Run it by hand, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress
from sklearn.metrics import roc_auc_score, roc_curve

from evaluation import figures, subgroups
from evaluation.bootstrap import cluster_bootstrap_many, cluster_codes
from evaluation.checks import FloatArray, IntArray
from evaluation.cohort import join
from evaluation.draft import settle
from evaluation.inputs import Inputs
from evaluation.protocol import load_protocol
from evaluation.roc import RocStatistics
from evaluation.scores import load_scores
from evaluation.tables import load_followup
from tests.support.programme import simulate

ROUNDS = 3
EXAMS_A_WOMAN = 2.5  # a little more in the simulator, so that no fewer exams come than asked for
PROTOCOL = "salim-2020"
COMPARED_AT = 100_000
TARGETS = {"roc": 60.0, "froc": 120.0}
MEMORY_TARGET_GB, RATIO_TARGET = 4.0, 50.0
PLAIN_REPLICATES = 20
SPECIFICITIES, MAX_FPR = (0.9, 0.95, 0.966), 0.1
_SEED = 1


def main() -> None:
    options = _options()
    if options.child:
        print(json.dumps(CHILDREN[options.child](options.folder)))
        return
    found: dict[str, Any] = {"machine": machine(), "roc": [], "froc": []}
    with tempfile.TemporaryDirectory() as scratch, Progress() as progress:
        steps = progress.add_task("Evaluation", total=3 * len(options.exams) + (COMPARED_AT in options.exams))
        for exams in options.exams:
            folder = Path(scratch) / str(exams)
            for child in ("write", "roc", "froc"):
                progress.update(steps, description=f"{exams:,} exams: {child}")
                answer = _fresh(child, folder)
                if child != "write":
                    found[child].append(answer)
                progress.advance(steps)
            if exams == COMPARED_AT:
                progress.update(steps, description=f"{exams:,} exams: scikit-learn")
                found["plain"] = _fresh("plain", folder)
                progress.advance(steps)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def write(folder: Path) -> dict[str, Any]:
    """Simulate a programme of as many exams as the folder is called, and write its tables."""
    programme = simulate(round(int(folder.name) / EXAMS_A_WOMAN), ROUNDS, _SEED)
    for part, tables in (("followup", programme.followup), ("scores", programme.scores)):
        (folder / part).mkdir(parents=True)
        for name, table in tables.items():
            table.to_parquet(folder / part / f"{name}.parquet")
    return {}


def measure_roc(folder: Path) -> dict[str, Any]:
    """Outcomes, and all figures of scores with their replicates; then the same with every subgroup."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        scores, followup = load_scores(folder / "scores" / "exams.parquet"), load_followup(folder / "followup")
    with _timed(seconds, "outcomes"):
        cohort = join(scores, followup, load_protocol(PROTOCOL))
    inputs = Inputs(cohort)
    with _timed(seconds, "figures"):
        drafts = [draft for source in figures.FIGURES.values() for draft in source(inputs)]
        settle(drafts, inputs.cases, inputs.protocol.uncertainty)
    peak = _peak_gb()
    with _timed(seconds, "with subgroups"):
        settle(drafts + subgroups.drafts(inputs), inputs.cases, inputs.protocol.uncertainty)
    return _size(inputs) | {"figures": len(drafts), "seconds": seconds, "peak_gb": peak, "peak_all_gb": _peak_gb()}


def measure_froc(folder: Path) -> dict[str, Any]:
    """Matching, and all figures of marks with their replicates."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        scores, followup = load_scores(folder / "scores"), load_followup(folder / "followup")
    with _timed(seconds, "outcomes"):
        inputs = Inputs(join(scores, followup, load_protocol(PROTOCOL)))
    with _timed(seconds, "figures"):
        drafts = figures.FIGURES["localisation"](inputs)
        settle(drafts, inputs.cases, inputs.protocol.uncertainty)
    regions = 0 if isinstance(inputs.marks, str) else len(inputs.marks.regions)
    return _size(inputs) | {"figures": len(drafts), "regions": regions, "seconds": seconds, "peak_gb": _peak_gb()}


def measure_plain(folder: Path) -> dict[str, Any]:
    """The same five figures by our bootstrap, and by one that copies rows and calls scikit-learn in every replicate."""
    cohort = join(
        load_scores(folder / "scores" / "exams.parquet"), load_followup(folder / "followup"), load_protocol(PROTOCOL)
    )
    cases = Inputs(cohort).cases
    replicates = cohort.protocol.uncertainty.replicates
    start = time.perf_counter()
    roc = RocStatistics(cases.positive, cases.score)
    ours = {"auc": roc.auc(), "partial": roc.partial_auc(MAX_FPR, standardise=True)}
    ours |= {str(one): roc.sensitivity_at_specificity(one) for one in SPECIFICITIES}
    cluster_bootstrap_many(ours, cases.woman, seed=0, replicates=replicates)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    values = plain_bootstrap(cases.positive.astype(np.int64), cases.score, cases.woman, PLAIN_REPLICATES)
    plain = (time.perf_counter() - start) / PLAIN_REPLICATES * replicates
    assert values.shape == (PLAIN_REPLICATES, len(ours))
    return {"exams": len(cases), "replicates": replicates, "ours": seconds, "plain": plain, "ratio": plain / seconds}


def plain_bootstrap(y: IntArray, score: FloatArray, woman: IntArray, replicates: int) -> FloatArray:
    """AUC, partial AUC and sensitivities of women drawn with replacement, (replicates, 5), rows copied each time."""
    woman, n_women = cluster_codes(woman)
    order = np.argsort(woman, kind="stable")
    count = np.bincount(woman, minlength=n_women)
    first = np.cumsum(count) - count
    generator = np.random.default_rng(0)
    values = []
    for _ in range(replicates):
        drawn = generator.integers(0, n_women, n_women)
        within = np.arange(count[drawn].sum()) - np.repeat(np.cumsum(count[drawn]) - count[drawn], count[drawn])
        rows = order[np.repeat(first[drawn], count[drawn]) + within]
        fpr, tpr, _ = roc_curve(y[rows], score[rows], drop_intermediate=False)
        sensitivities = [tpr[fpr <= 1 - one].max() for one in SPECIFICITIES]
        areas = [roc_auc_score(y[rows], score[rows]), roc_auc_score(y[rows], score[rows], max_fpr=MAX_FPR)]
        values.append(areas + sensitivities)
    return np.array(values)


CHILDREN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "write": write,
    "roc": measure_roc,
    "froc": measure_froc,
    "plain": measure_plain,
}


def table(found: dict[str, Any]) -> str:
    """The findings in Markdown."""
    machine = found["machine"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, NumPy {machine['numpy']}; "
        f"protocol {PROTOCOL}, 2,000 replicates.",
        "",
        "| exams | women | positives | read | outcomes | figures of scores | … with subgroups | peak memory |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in found["roc"]:
        s = one["seconds"]
        lines.append(
            f"| {one['exams']:,} | {one['women']:,} | {one['positives']:,} | {s['read']:.1f} s | {s['outcomes']:.1f} s "
            f"| {s['figures']:.1f} s | {s['with subgroups']:.1f} s | {one['peak_gb']:.1f} GB "
            f"({one['peak_all_gb']:.1f} with subgroups) |"
        )
    lines += [
        "",
        "| regions | exams | read | outcomes | figures of marks | peak memory |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in found["froc"]:
        s = one["seconds"]
        lines.append(
            f"| {one['regions']:,} | {one['exams']:,} | {s['read']:.1f} s | {s['outcomes']:.1f} s "
            f"| {s['figures']:.1f} s | {one['peak_gb']:.1f} GB |"
        )
    lines += ["", f"Asked for: outcomes and figures of 1,000,000 exams in {TARGETS['roc']:.0f} s, of 4,000,000 regions "
              f"in {TARGETS['froc']:.0f} s, {MEMORY_TARGET_GB:.0f} GB."]  # fmt: skip
    if "plain" in found:
        one = found["plain"]
        lines.append(
            f"Five ROC figures of {one['exams']:,} exams, {one['replicates']:,} replicates: {one['ours']:.1f} s; by "
            f"scikit-learn on copied rows {one['plain']:.0f} s, scaled from {PLAIN_REPLICATES} replicates in the same "
            f"process: {one['ratio']:.0f} times as long (asked for: {RATIO_TARGET:.0f})."
        )
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _fresh(child: str, folder: Path) -> dict[str, Any]:
    """What a child measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.evaluation", "--child", child, "--folder", str(folder)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(answer.stdout))


def _size(inputs: Inputs) -> dict[str, int]:
    cases = inputs.cases
    return {"exams": len(cases), "women": len(cases.women), "positives": int(cases.positive.sum())}


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes to measure")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
