"""Earlier exams of the women of a batch: fetched and scored before it, in a results folder of their own.

They are counted, listed and delivered with nothing of the batch; its report shows them beside the present exams.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from screening.batch.runner import Batch, run_batch
from screening.exam import Exam
from screening.model.bundle import Bundle
from screening.report import PRIORS_NAME
from screening.result import InstanceRejection
from screening.site import SiteProfile
from screening.sources.pacs import is_pacs, source_client
from screening.sources.priors import fetch_priors
from screening.store.files import write_errors


def score_priors(
    exams: Sequence[Exam],
    source: str,
    profile: SiteProfile,
    bundle: Bundle,
    out: Path,
    workers: int | None,
    half: bool,
    resume: bool,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Exam, ...]:
    """Fetch the earlier exams that the site profile's `priors` ask for and score them into `out/priors`.

    Returns the exams; one whose earlier exams could not be fetched has a warning that says why. Nothing is done where
    `source` is no PACS or the profile asks for none. Without `resume`, what an earlier batch left there is removed.
    Raises StoreError if the folder cannot be written, ConfigError as `source_client`.
    """
    folder = out / PRIORS_NAME
    if not resume and folder.is_dir():
        with write_errors(folder):
            shutil.rmtree(folder)
    if not is_pacs(source) or not profile.priors.count:
        return tuple(exams)
    client = source_client(source, profile)
    found = list(fetch_priors(exams, client, profile, folder, on_progress=on_progress))
    rejections: dict[tuple[str, str], InstanceRejection] = {
        (one.exam_id, one.file): one for priors in found for one in priors.rejections
    }
    batch = Batch(
        site=profile.name,
        exams=tuple({exam.exam_id: exam for priors in found for exam in priors.exams}.values()),
        rejections=tuple(rejections.values()),
        config={"source": source, "priors": profile.priors.model_dump()},
        workers=workers,
        half=half,
        resume=True,
    )
    run_batch(batch, bundle, folder)
    return tuple(
        replace(exam, warnings=(*exam.warnings, f"earlier exams are missing: {one.problem}")) if one.problem else exam
        for exam, one in zip(exams, found, strict=True)
    )
