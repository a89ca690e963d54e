"""Scores of simulated women by 2D images alone and by tomosynthesis volumes alone.

An exam that holds both gets one score, in which views of either kind support each other (`screening.aggregate`), and
which cannot be taken apart afterwards: so the same exams are scored twice, each time with one kind of image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from screening.batch.events import BatchObserver
from screening.batch.runner import Batch, run_batch
from screening.errors import ConfigError
from screening.exam import Exam, ImageKind
from screening.model.bundle import Bundle
from screening.model.precision import bfloat16_pays
from screening.site import load_site
from screening.sources.folder import read_folder

ARMS: dict[str, ImageKind] = {"2D": ImageKind.FFDM, "DBT": ImageKind.DBT}
"""The two ways to read the same exams, each by one kind of image; results lie in folders of these names."""


def score_arm(
    arm: str,
    dicom: Path,
    bundle: Bundle,
    out: Path,
    *,
    observers: Sequence[BatchObserver] = (),
) -> None:
    """Score every exam under `dicom` by the images of one arm into `out`, going on from what is there already.

    Raises `ConfigError` where no exam has an image of that kind.
    """
    profile = load_site()
    exams = [one for one in (only(exam, ARMS[arm]) for exam in read_folder(dicom, profile).exams) if one.images]
    if not exams:
        raise ConfigError(f"no exam under {dicom} has an image of the kind {ARMS[arm]}, by which {arm} is scored")
    half = bfloat16_pays(bundle.device)
    config = {"images": ARMS[arm].value, "model": bundle.model_id, "bfloat16": half}
    batch = Batch(profile.name, exams, (), config, workers=0, half=half, resume=True)  # the bundle may have no folder
    if run_batch(batch, bundle, out, observers).interrupted:
        raise KeyboardInterrupt


def only(exam: Exam, kind: ImageKind) -> Exam:
    """The exam with its images of one kind."""
    return replace(exam, images=tuple(image for image in exam.images if image.kind is kind))
