"""Scoring a data set with a finished bundle, into the same files as a hospital's batch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from screening.exam import Exam
from screening.model.bundle import Bundle
from screening.result import ExamResult
from screening.scoring import answer, score
from screening.store import STORE_NAME, ResultStore, write_tables
from training.datasets.record import Record
from training.exams import as_exams


def score_dataset(
    records: Sequence[Record], bundle: Bundle, out: Path, *, workers: int = 1, half: bool = False
) -> list[ExamResult]:
    """Score every exam among `records`; write the store, `exams.csv`, `images.csv` and `regions.csv` to `out`.

    Earlier results in `out` are replaced. Returns the results without pixels, by exam. Raises `StoreError` when `out`
    cannot be written.
    """
    torch.set_num_threads(1)  # one thread an exam, many exams at once
    exams = as_exams(records)
    for suffix in ("", "-wal", "-shm"):
        (out / f"{STORE_NAME}{suffix}").unlink(missing_ok=True)

    def scored(exam: Exam) -> ExamResult:
        result = score(exam, bundle, lambda image: answer(image, bundle, load=exams.load, half=half))
        # Thousands of results may wait for the store: without their pictures they are small.
        return replace(result, images=tuple(replace(image, heatmap=None, preview=None) for image in result.images))

    results = []
    with ResultStore(out / STORE_NAME) as store, ThreadPoolExecutor(workers) as pool:
        finished = pool.map(scored, exams.exams)
        for result in track(finished, "Scoring exams", total=len(exams.exams), console=Console(stderr=True)):
            store.add(result)
            results.append(result)
        write_tables(store, out, bundle.model_id)
    return results
