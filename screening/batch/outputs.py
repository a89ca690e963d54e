"""What is written when a batch ends: tables, worklist, record and report, all made from the store."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from screening.batch.folder import discard
from screening.delivery.worklist import WORKLIST_NAME, write_worklist
from screening.model.bundle import Bundle
from screening.model.calibration import OperatingPoint
from screening.report import write_report
from screening.store import STORE_NAME, BatchSummary, ResultStore, write_batch_json, write_tables
from screening.store.copy import copy_results

RESULT_FILES = ("exams.csv", "images.csv", "regions.csv", WORKLIST_NAME, "batch.json", "report.html")


def write_outputs(
    out: Path,
    store: ResultStore,
    summary: BatchSummary,
    bundle: Bundle,
    show_all: bool,
    operating_point: OperatingPoint | None,
) -> None:
    """Write `RESULT_FILES`, and `results.sqlite` where the store is another database.

    Raises
    ------
    StoreError
        If one cannot be written. Then none is there: of files that belong together none may pass for the result. The
        store has everything; another run with `resume` writes them anew.
    """
    model_id = bundle.model_id
    try:
        write_tables(store, out, model_id)
        write_worklist(store.results(model_id), store.rejections(), out, operating_point)
        write_batch_json(out, summary)
        write_report(
            out,
            store.results(model_id),
            store.rejections(),
            summary,
            _card(bundle),
            show_all,
            operating_point=operating_point,
        )
        if not store.is_file:
            copy_results(store, out / STORE_NAME, model_id)
    except BaseException:
        with contextlib.suppress(OSError):
            discard(out, RESULT_FILES)
        raise


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
