"""Batches for tests of the ledger and of engines: exams of small files, and workers that answer without a network.

The stub answers from an exam's identifier alone, so that every engine must give the same; what some exams do to their
worker is in the name of their woman.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from screening.batch.files import ReadFile, read_file
from screening.batch.worker import HOST, Report, Task, worker_name
from screening.exam import Exam, Image, ImageKind, Laterality, View
from screening.result import BreastResult, ExamResult, ImageResult, Region, Status

KILLS, FAILS_ONCE, HANGS = "kills its worker", "fails once", "hangs"


def write_exams(folder: Path, number: int, first: int = 1, woman: str = "W") -> list[Exam]:
    """Exams of one view, each with a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return [small_exam(folder, one, woman) for one in range(first, first + number)]


def small_exam(folder: Path, number: int, woman: str = "W") -> Exam:
    """An exam whose one file holds its number."""
    path = folder / f"{number:06d}.dcm"
    if not path.exists():
        path.write_text(str(number))
    return bare_exam(path, number, woman)


def bare_exam(path: Path, number: int, woman: str = "W") -> Exam:
    """An exam of an image in `path`."""
    image = Image(
        image_id=f"1.2.{number}.1",
        path=path,
        laterality=Laterality.LEFT,
        view=View.CC,
        kind=ImageKind.FFDM,
        rows=100,
        columns=80,
        frames=1,
        pixel_spacing_mm=(0.1, 0.1),
    )
    return Exam(f"1.2.{number}", woman, None, "default", "ACME", (image,))


def answer(exam: Exam, model_id: str) -> ExamResult:
    """The stub's result."""
    (image,) = exam.images
    score = (int(exam.exam_id.rpartition(".")[2]) * 7919 % 1000) / 1000
    box = ((1.0, 1.0), (9.0, 1.0), (9.0, 9.0))
    region = Region(
        f"{image.image_id}.r1", image.image_id, image.laterality, image.view, 1.0, 1.0, 8.0, 8.0, box, score, 1
    )
    return ExamResult(
        exam_id=exam.exam_id,
        woman_id=exam.woman_id,
        exam_date=exam.exam_date,
        site=exam.site,
        manufacturer=exam.manufacturer,
        model_id=model_id,
        status=Status.SCORED,
        score=score,
        category=5,
        density="B",
        top_region_id=region.region_id,
        breasts=(BreastResult(image.laterality, score, region.region_id, "B"),),
        images=(ImageResult(image, Status.SCORED, score=score, regions=(region,)),),
    )


@dataclass(frozen=True)
class StubScorer:
    """Takes `seconds` an exam, and does what its woman's name says."""

    model_id: str
    seconds: float = 0.0

    def run(self, task: Task, ahead: Task | None = None) -> Report:
        """Answer, or do harm."""
        woman = task.exam.woman_id
        if woman == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        if woman == HANGS:
            time.sleep(3600)
        time.sleep(self.seconds)
        files: dict[str, ReadFile] = {image.image_id: read_file(image) for image in task.exam.images}
        passing = "not yet" if woman == FAILS_ONCE and task.attempt == 1 else ""
        return Report(answer(task.exam, self.model_id), passing, files, {"total": self.seconds}, HOST, worker_name())

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True)
class StubSetup:
    """Makes stubs."""

    model_id: str
    seconds: float = 0.0

    def open(self, threads: int) -> StubScorer:
        """A stub."""
        return StubScorer(self.model_id, self.seconds)


def exam_ids(exams: Iterable[Exam]) -> list[str]:
    """Sorted as in the tables."""
    return sorted(exam.exam_id for exam in exams)
