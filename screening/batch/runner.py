"""Score a batch: every exam that was read ends as scored, rejected or failed, in the store and in the tables."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from screening.batch.read_ahead import ReadAhead
from screening.delivery.worklist import WORKLIST_NAME, write_worklist
from screening.errors import StoreError
from screening.exam import Exam
from screening.model.bundle import Bundle
from screening.report import write_figures, write_report
from screening.result import ExamResult, ImageResult, InstanceRejection, Reason, Rejection, Status
from screening.scoring import Answer, exam_result, score
from screening.store import STORE_NAME, BatchSummary, Counts, ResultStore, write_batch_json, write_tables
from screening.store.files import write_errors

LOG = logging.getLogger(__name__)

RESULT_FILES = ("exams.csv", "images.csv", "regions.csv", WORKLIST_NAME, "batch.json", "report.html")
"""What is written when a batch ends; made from the store."""

Progress = Callable[[ExamResult, int, int], None]
"""Called after each exam with its result, how many are done, and how many there are."""


@dataclass(frozen=True)
class Batch:
    """What is to be scored and how. `config` is recorded in `batch.json`."""

    site: str
    exams: Sequence[Exam]
    rejections: Sequence[InstanceRejection]
    config: dict[str, Any]
    workers: int = os.cpu_count() or 1
    half: bool = False
    resume: bool = False
    show_all: bool = False


@dataclass(frozen=True)
class Outcome:
    """How the batch ended. `interrupted`: the user stopped it before all exams were done."""

    counts: Counts
    interrupted: bool


def run_batch(batch: Batch, bundle: Bundle, out: Path, on_progress: Progress | None = None) -> Outcome:
    """Score the exams of a batch and write the results under `out`.

    Each exam is stored in one transaction as soon as it is scored, so that whatever stops the batch leaves complete
    exams. Tables, report and `batch.json` are written at the end, also after Ctrl-C. Without `resume`, results of an
    earlier batch in `out` are replaced. Raises `StoreError` when `out` cannot be written.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    # One thread an image, many images at once: threads that share one image wait for each other at every layer, which
    # on a machine with other work to do made the network 30 times slower.
    torch.set_num_threads(1)
    store = _open(out, batch.resume)
    with store:
        store.add_rejections(batch.rejections)
        done = store.finished(bundle.model_id) if batch.resume else set()
        waiting = [exam for exam in batch.exams if exam.exam_id not in done]
        left: list[Exam] = []
        interrupted = False
        try:
            _score_all(waiting, batch, bundle, store, out, on_progress)
        except KeyboardInterrupt:
            interrupted = True
            LOG.warning("stopped by the user; what was finished is written")
            stored = {result.exam_id for result in store.results(bundle.model_id)}
            left = [exam for exam in waiting if exam.exam_id not in stored]
        counts = store.counts(bundle.model_id, len(left), sum(len(exam.images) for exam in left))
        seconds = time.perf_counter() - clock
        summary = BatchSummary(
            site=batch.site,
            model_id=bundle.sha256,
            model_name=bundle.card.name,
            model_version=bundle.card.version,
            started=started,
            finished=datetime.now(UTC),
            counts=counts,
            reference=full_colour(bundle),
            config=batch.config,
            timings={"total": seconds, "per_exam": seconds / max(1, len(waiting) - len(left))},
        )
        store.add_batch(summary)
        try:
            write_tables(store, out, bundle.model_id)
            write_worklist(store.results(bundle.model_id), store.rejections(), out)
            write_batch_json(out, summary)
            write_report(
                out, store.results(bundle.model_id), store.rejections(), summary, _card(bundle), batch.show_all
            )
        except BaseException:
            # Of files that belong together and could not all be written, none may pass for the result. The store has
            # everything; another run with `resume` writes them anew.
            with contextlib.suppress(OSError):
                _discard(out, RESULT_FILES)
            raise
    return Outcome(counts, interrupted)


def full_colour(bundle: Bundle) -> float:
    """The score that a heatmap shows in full colour: where category 10 begins."""
    return bundle.calibration.category_thresholds[-1]


def _open(out: Path, resume: bool) -> ResultStore:
    if not resume:
        if (out / STORE_NAME).is_file():
            LOG.info("replacing the results of an earlier batch in %s", out)
        with write_errors(out):
            # The tables go at once: whatever becomes of this batch, they are not its result.
            _discard(out, (*RESULT_FILES, STORE_NAME, f"{STORE_NAME}-wal", f"{STORE_NAME}-shm"))
        shutil.rmtree(out / "heatmaps", ignore_errors=True)
    return ResultStore(out / STORE_NAME)


def _discard(out: Path, names: Iterable[str]) -> None:
    for name in names:
        (out / name).unlink(missing_ok=True)


def _score_all(
    exams: Sequence[Exam], batch: Batch, bundle: Bundle, store: ResultStore, out: Path, on_progress: Progress | None
) -> None:
    with ReadAhead(iter(exams), bundle, batch.workers, batch.half) as ask:
        for count, exam in enumerate(exams, start=1):
            result = _finish_or_fail(exam, bundle, store, out, ask)
            if on_progress is not None:
                on_progress(result, count, len(exams))


def _finish_or_fail(exam: Exam, bundle: Bundle, store: ResultStore, out: Path, ask: Answer) -> ExamResult:
    """Score, draw and store one exam."""
    try:
        result = score(exam, bundle, ask)
        write_figures(out, result, full_colour(bundle))
        store.add(result)
    except StoreError:
        raise  # no disk, no batch
    except Exception as error:
        # The one place where an unforeseen error is caught: it costs this exam, never the night. It is a bug, so its
        # trace goes to the log; the exam is failed, and so are its images.
        LOG.exception("exam %s failed", exam.exam_id)
        rejection = Rejection(Reason.UNREADABLE, f"an unforeseen {type(error).__name__}; see the log and report it")
        result = failed(exam, bundle, rejection)
        store.add(result)
    return result


def failed(exam: Exam, bundle: Bundle, rejection: Rejection) -> ExamResult:
    """The result of an exam that could not be scored, with every image failed for the same reason."""
    images = tuple(ImageResult(image, Status.FAILED, rejection) for image in exam.images)
    return exam_result(exam, bundle, Status.FAILED, rejection=rejection, images=images)


def _card(bundle: Bundle) -> dict[str, Any]:
    card = bundle.card
    calibration = bundle.calibration
    return {
        "Model": {"Name": card.name, "Version": card.version, "SHA-256": bundle.sha256, "Licence": card.licence},
        "Intended use": card.intended_use,
        "Limits": list(card.limits),
        "Training data": [entry.model_dump() for entry in card.training_data],
        "Measured": [entry.model_dump() for entry in card.figures],
        "Operating points": [entry.model_dump() for entry in calibration.operating_points],
        "Calibration": {
            "Prevalence": f"{calibration.prevalence:.2%}",
            "Fitted on": calibration.fitted_on,
            "Categories from": calibration.categories_from,
        },
    }
