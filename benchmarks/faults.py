"""Fifty kills over a batch of 200 small exams, at random moments; then every exam must be there once.

    python -m benchmarks.faults [--engine local|ray] [--kills 50] [--exams 200] [--seed 0]

Run it by hand: it takes about ten minutes. With `--engine ray` the nodes of a cluster of three are killed, too. What is
killed, and after how long, is drawn by the seed; where the batch is by then is up to the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from screening.batch.runner import Batch, run_batch
from screening.model.bundle import load_bundle
from screening.site import load_site
from screening.sources.folder import read_folder
from screening.store import STORE_NAME, ResultStore
from tests.support.bundles import tiny_bundle
from tests.support.chaos import LOCAL_KINDS, RAY_KINDS, Chaos, ray_nodes, rows, tables
from tests.support.exams import write_exam


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and with it, all that was started here
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = load_bundle(tiny_bundle(folder / "bundle"))
        for study in range(1, options.exams + 1):
            write_exam(folder / "in", study, views=(("L", "CC"),))
        exams = read_folder(folder / "in", load_site()).exams
        wanted = sorted(exam.exam_id for exam in exams)
        begun = time.monotonic()
        with ray_nodes(2) if options.engine == "ray" else contextlib.nullcontext() as nodes:
            where = {"engine": "ray", "address": nodes.address} if nodes else {"workers": 2}
            kinds = RAY_KINDS if nodes else LOCAL_KINDS
            chaos = Chaos(folder / "bundle", folder / "in", folder / "out", where, options.seed, kinds, nodes)
            chaos.run(options.kills, (0.0, 1.0))
        seconds = time.monotonic() - begun
        found = [row["exam_id"] for row in rows(folder / "out", "exams.csv")]
        unscored = sum(row["status"] != "scored" for row in rows(folder / "out", "exams.csv"))
        with ResultStore(folder / "out" / STORE_NAME) as store:
            stored = Counter(result.exam_id for result in store.results(bundle.model_id))
        run_batch(Batch("default", exams, (), {}, workers=0), bundle, folder / "whole")
        same = tables(folder / "out") == tables(folder / "whole")
    kills = f"{chaos.killed.total()} kills {dict(chaos.killed)}"
    print(f"engine {options.engine}: {kills}, {chaos.starts} starts of the runner, {seconds:.0f} s")
    print(
        f"exams {len(wanted)}, in the table {len(found)}, lost {len(set(wanted) - set(found))}, "
        f"doubled {len(found) - len(set(found))}, doubled in the store {sum(n > 1 for n in stored.values())}, "
        f"not scored {unscored}; tables {'as' if same else 'NOT as'} those of an undisturbed batch, to the byte"
    )
    if chaos.killed.total() < options.kills:
        raise SystemExit(f"the batch ended after {chaos.killed.total()} kills: give it more exams")
    if found != wanted or unscored or stored != Counter(wanted) or not same:
        raise SystemExit("an exam was lost, doubled or not scored, or a table is not whole")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--exams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
