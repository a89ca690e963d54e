"""A worker: one loaded model that scores exams one after the other, in this process or in another."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import cv2
import torch

from screening.batch.files import ChangedError, ReadFile, file_state, read_file
from screening.batch.read_ahead import ReadAhead
from screening.delivery.making import write_heatmaps
from screening.errors import BundleError, StoreError
from screening.exam import Exam, Image
from screening.imaging.load import LoadedImage
from screening.model.bundle import Bundle, load_bundle
from screening.model.calibration import OperatingPoint
from screening.report import write_figures
from screening.result import ExamResult, ImageResult, InstanceRejection, Reason, Rejection, Status
from screening.scoring import ImageAnswer, answer, exam_result, score

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """An exam that a runner has claimed: `key` of the ledger; `attempt` counts from 1.

    `crashes`: how often its worker died with it. Then it is scored alone, so that the next death has one cause.
    """

    key: int
    exam: Exam
    attempt: int = 1
    crashes: int = 0

    @property
    def alone(self) -> bool:
        """Whether no other exam may be in its worker."""
        return self.crashes > 0


@dataclass(frozen=True)
class Report:
    """What a worker says of one exam.

    `passing`: why another attempt may end better, "" where it would not; then `result` is how it ends if there is
    none. `files`: as they were read, by SOP Instance UID. `seconds`: by stage. `log`: what the worker logged.
    """

    result: ExamResult
    passing: str = ""
    files: Mapping[str, ReadFile] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    host: str = ""
    worker: str = ""
    log: tuple[logging.LogRecord, ...] = ()


class Scorer(Protocol):
    """What an engine's workers do."""

    def run(self, task: Task, ahead: Task | None = None) -> Report:
        """Score an exam; `ahead` is likely to be the next. Raises `StoreError` where results cannot be written."""

    def close(self) -> None:
        """Let go of threads."""


class Setup(Protocol):
    """How a process becomes a worker; it is sent there."""

    def open(self, threads: int) -> Scorer:
        """Load the model. Raises `ScreeningError`."""


@dataclass(frozen=True)
class Output:
    """Where and how a worker writes what only pixels can make: pictures, and heatmaps as DICOM objects.

    `rejections`: by exam, the instances that are no images of it; they and the operating point stand in the objects.
    """

    folder: Path
    operating_point: OperatingPoint | None = None
    rejections: Mapping[str, tuple[InstanceRejection, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerSetup:
    """A worker for the bundle in `folder`, which must still be the one with this `sha256`."""

    folder: Path
    sha256: str
    device: str
    half: bool
    output: Output

    def open(self, threads: int) -> Worker:
        """Load the bundle. Raises `BundleError` where it cannot be read or is another one."""
        bundle = load_bundle(self.folder, torch.device(self.device))
        if bundle.sha256 != self.sha256:
            raise BundleError(f"{self.folder} was changed while the batch ran: start the batch again")
        return Worker(bundle, self.half, threads, self.output)


@dataclass(frozen=True)
class _Read:
    """An image's answer, its file if it could be read, and why another attempt may end better."""

    answer: ImageAnswer
    file: ReadFile | None = None
    passing: str = ""


class Worker:
    """Scores exams with a loaded bundle and writes their pictures; results come back without pixels.

    The network computes on one thread an image, with `threads` images at once: threads that share one image wait for
    each other at every layer, which on a machine with other work to do made the network 30 times slower.
    """

    def __init__(self, bundle: Bundle, half: bool, threads: int, output: Output) -> None:
        torch.set_num_threads(1)
        self._bundle, self._half, self._output = bundle, half, output
        self._ahead: ReadAhead[_Read] = ReadAhead(self._read, threads)

    def close(self) -> None:
        """Drop what was read ahead."""
        self._ahead.close()

    def run(self, task: Task, ahead: Task | None = None) -> Report:
        """Score one exam, draw its pictures, and begin to read those of `ahead`."""
        exam, begun, waited = task.exam, time.perf_counter(), 0.0
        reads: dict[str, _Read] = {}

        def ask(image: Image) -> ImageAnswer:
            nonlocal waited
            start = time.perf_counter()
            reads[image.image_id] = read = self._ahead(image)
            waited += time.perf_counter() - start
            return read.answer

        self._ahead.expect((*exam.images, *(ahead.exam.images if ahead else ())))
        try:
            result = score(exam, self._bundle, ask, self._output.operating_point)
            scored = time.perf_counter()
            self._draw(result)
        except StoreError:
            raise  # no disk, no batch
        except Exception as error:
            # The one place where an unforeseen error is caught: it costs this exam, never the night. It is a bug, so
            # its trace goes to the log; the exam is failed, and so are its images.
            if is_out_of_memory(error):
                result = failed(exam, self._bundle, _OUT_OF_MEMORY)
                return Report(result, str(_OUT_OF_MEMORY), host=HOST, worker=worker_name())
            LOG.exception("exam %s failed", exam.exam_id)
            sentence = f"an unforeseen {type(error).__name__}; see the log and report it"
            result, scored = failed(exam, self._bundle, Rejection(Reason.UNREADABLE, sentence)), time.perf_counter()
        end = time.perf_counter()
        return Report(
            without_pixels(result),
            next((read.passing for read in reads.values() if read.passing), ""),
            {image_id: read.file for image_id, read in reads.items() if read.file is not None},
            {
                "images": waited,
                "score": scored - begun - waited,
                "figures": end - scored,
                "total": end - begun,
            },
            HOST,
            worker_name(),
        )

    def _draw(self, result: ExamResult) -> None:
        """Write what is made of pixels: the store does not keep them."""
        output = self._output
        write_figures(output.folder, result, full_colour(self._bundle))
        rejections = output.rejections.get(result.exam_id, ())
        write_heatmaps(result, self._bundle, output.folder, output.operating_point, rejections)

    def _answer(self, image: Image) -> ImageAnswer:
        return answer(image, self._bundle, half=self._half)

    def _read(self, image: Image) -> _Read:
        """Answer an image and take its file's digest; the file must be the same before and after."""
        try:
            file = read_file(image)
            found = self._answer(image)
            if file_state(image) != file.state:
                raise ChangedError
        except ChangedError:
            sentence = f"{image.path.name} was changed while it was read: score it again when it has been written"
            return _unread(image, Rejection(Reason.STILL_WRITTEN, sentence))
        except OSError as error:
            sentence = f"{image.path.name}: the file cannot be read: {error.strerror or type(error).__name__}"
            return _unread(image, Rejection(Reason.UNREADABLE, sentence))
        except Exception as error:
            if is_out_of_memory(error):
                return _unread(image, _OUT_OF_MEMORY)
            raise
        return _Read(found, file)


HOST = platform.node()

_OUT_OF_MEMORY = Rejection(
    Reason.OUT_OF_MEMORY, "it needs more memory than a worker may have: give workers more, or have fewer of them"
)


def worker_name() -> str:
    """The name of this process as a worker, unique on its host."""
    return str(os.getpid())


def full_colour(bundle: Bundle) -> float:
    """The score that a heatmap shows in full colour: where category 10 begins."""
    return bundle.calibration.category_thresholds[-1]


def failed(exam: Exam, bundle: Bundle, rejection: Rejection) -> ExamResult:
    """The result of an exam that could not be scored, with every image failed for the same reason."""
    images = tuple(ImageResult(image, Status.FAILED, rejection) for image in exam.images)
    return exam_result(exam, bundle, Status.FAILED, rejection=rejection, images=images)


def without_pixels(result: ExamResult) -> ExamResult:
    """The result as the store keeps it."""
    return replace(result, images=tuple(_without_pixels(one) for one in result.images))


def _without_pixels(result: ImageResult) -> ImageResult:
    frames = tuple(replace(frame, preview=None) for frame in result.key_frames)
    return replace(result, heatmap=None, preview=None, key_frames=frames)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that no memory was left; each library says it in its own way."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, cv2.error):
        return "Insufficient memory" in str(error)
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _unread(image: Image, rejection: Rejection) -> _Read:
    unread = LoadedImage(image, Status.FAILED, rejection=rejection, warnings=image.warnings)
    return _Read(ImageAnswer(unread), passing=str(rejection))
