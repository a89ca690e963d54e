"""What earlier nights have done already, so that a source that keeps its exams is not scored night after night."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from screening.exam import Exam
from screening.result import InstanceRejection, Status
from screening.sources.folder import FolderScan
from screening.store import STORE_NAME, ResultStore


@dataclass(frozen=True)
class Known:
    """How many exams, and files in all, of a source were done on an earlier night."""

    exams: int = 0
    instances: int = 0


def without_known(scan: FolderScan, folders: Iterable[Path]) -> tuple[FolderScan, Known]:
    """A scan without what the nights in `folders` have done, and how much that was.

    Done is an exam that was scored or rejected with exactly these images, by whatever model: a new model is for new
    exams. So is a file that was rejected. What failed is tried again, an exam to which images have come is scored
    again. Raises StoreError if an earlier night's results cannot be read.
    """
    waiting: dict[str, Exam] = {exam.exam_id: exam for exam in scan.exams}
    rejections = {_key(one): one for one in scan.rejections if one.status is Status.REJECTED}
    found, known_exams, known_rejections = len(waiting), 0, 0
    images = 0
    for folder in folders:
        if not (waiting or rejections) or not (folder / STORE_NAME).is_file():
            continue
        with ResultStore(folder / STORE_NAME) as store:
            for exam_id, done in _done(store).items():
                exam = waiting.get(exam_id)
                if exam is not None and done == {image.image_id for image in exam.images}:
                    images += len(waiting.pop(exam_id).images)
            for rejection in store.rejections():
                known_rejections += rejections.pop(_key(rejection), None) is not None
    known_exams = found - len(waiting)
    kept = {id(one) for one in rejections.values()}
    left = replace(
        scan,
        exams=tuple(exam for exam in scan.exams if exam.exam_id in waiting),
        rejections=tuple(one for one in scan.rejections if one.status is not Status.REJECTED or id(one) in kept),
        instances=scan.instances - images - known_rejections,
    )
    return left, Known(known_exams, images + known_rejections)


def _done(store: ResultStore) -> dict[str, set[str]]:
    """The exams that were scored or rejected, each with its images."""
    images: dict[str, set[str]] = defaultdict(set)
    for exam_id, image_id in store.done_images():
        images[exam_id].add(image_id)
    return images


def _key(rejection: InstanceRejection) -> tuple[str, str, str, str]:
    return rejection.file, rejection.exam_id, rejection.image_id, rejection.rejection.code.value
