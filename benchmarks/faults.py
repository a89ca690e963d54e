"""Fifty kills over a batch of 200 small exams, at random moments; then every exam must be there once.

    python -m benchmarks.faults [--engine local|ray] [--kills 50] [--exams 200] [--seed 0]

Run it by hand: it takes about ten minutes. With `--engine ray` the nodes of a cluster of three are killed, too.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections import Counter
from pathlib import Path

from screening.model.bundle import load_bundle
from screening.site import load_site
from screening.sources.folder import read_folder
from screening.store import STORE_NAME, ResultStore
from tests.support.bundles import tiny_bundle
from tests.support.chaos import Chaos, ray_nodes, rows
from tests.support.exams import write_exam


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = load_bundle(tiny_bundle(folder / "bundle"))
        for study in range(1, options.exams + 1):
            write_exam(folder / "in", study, views=(("L", "CC"),))
        wanted = sorted(exam.exam_id for exam in read_folder(folder / "in", load_site()).exams)
        with ray_nodes(2) if options.engine == "ray" else contextlib.nullcontext() as nodes:
            where = {"engine": "ray", "address": nodes.address} if nodes else {"workers": 2}
            chaos = Chaos(folder / "bundle", folder / "in", folder / "out", where, options.seed)
            chaos.run(options.kills, (0.0, 1.0), nodes)
        found = [row["exam_id"] for row in rows(folder / "out", "exams.csv")]
        with ResultStore(folder / "out" / STORE_NAME) as store:
            stored = Counter(result.exam_id for result in store.results(bundle.model_id))
        unscored = sum(row["status"] != "scored" for row in rows(folder / "out", "exams.csv"))
    kills = f"{chaos.killed.total()} kills {dict(chaos.killed)}"
    print(f"engine {options.engine}: {kills}, {chaos.starts} starts of the runner")
    print(
        f"exams {len(wanted)}, in the table {len(found)}, lost {len(set(wanted) - set(found))}, "
        f"doubled {len(found) - len(set(found))}, doubled in the store {sum(n > 1 for n in stored.values())}, "
        f"not scored {unscored}"
    )
    if found != wanted or unscored or sorted(stored) != wanted:
        raise SystemExit("an exam was lost, doubled or not scored")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--exams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
