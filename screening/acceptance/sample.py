"""A site's sample: its headers read, its exams scored, some of them twice; what is judged later is all here."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from screening.acceptance.facts import Facts, read_facts
from screening.acceptance.measures import Measures, measure
from screening.batch.read_ahead import ReadAhead
from screening.exam import Exam, Image, ImageKind
from screening.model.bundle import Bundle
from screening.result import ExamResult, InstanceRejection, Reason, Rejection, Status
from screening.scoring import Answer, ImageAnswer, answer, exam_result, score
from screening.site import SiteProfile
from screening.sources.folder import FolderScan

LOG = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_WITHOUT_HEADER = frozenset({Reason.NOT_DICOM, Reason.UNREADABLE})


@dataclass(frozen=True)
class Sample:
    """What was found.

    `facts`: of every file whose header can be parsed. `results`: of the exams, without pixels. `measures`: of each
    scored 2D image, by its UID. `seconds`: of each exam in turn, while images are read ahead. `repeated`: how many
    exams were scored a second time; `unequal`: those of them with another result.
    """

    scan: FolderScan
    facts: tuple[Facts, ...]
    results: tuple[ExamResult, ...]
    measures: dict[str, Measures]
    seconds: tuple[float, ...]
    repeated: int
    unequal: tuple[str, ...]

    @property
    def scored(self) -> tuple[ExamResult, ...]:
        """The exams that have a score."""
        return tuple(result for result in self.results if result.status is Status.SCORED)

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted UIDs of all instances that have one: which sample this was."""
        uids = {image.image_id for exam in self.scan.exams for image in exam.images}
        uids |= {one.image_id for one in self.scan.rejections if one.image_id}
        return hashlib.sha256("\n".join(sorted(uids)).encode("utf-8", "surrogatepass")).hexdigest()


def read_sample(
    root: Path,
    scan: FolderScan,
    profile: SiteProfile,
    bundle: Bundle,
    *,
    workers: int,
    half: bool,
    repeat: int,
    on_progress: Progress | None = None,
) -> Sample:
    """Score the exams of a folder that was read, and as many as `repeat` of them once more, in another order.

    Where an exam fails unforeseen, it is failed, as in a batch. `on_progress`: exams done, and in all.
    """
    again = _spread_over(scan.exams, repeat)
    exams = (*scan.exams, *again)
    measures: dict[str, Measures] = {}
    results: list[ExamResult] = []
    seconds: list[float] = []
    ahead: ReadAhead[ImageAnswer] = ReadAhead(partial(answer, bundle=bundle, half=half), workers)
    ask = _measuring(ahead, measures, bundle.preparation.pixel_spacing_mm)
    try:
        for number, exam in enumerate(exams):
            started = time.perf_counter()
            ahead.expect(image for one in exams[number : number + 2] for image in one.images)
            results.append(_result(exam, bundle, ask))
            seconds.append(time.perf_counter() - started)
            if on_progress is not None:
                on_progress(number + 1, len(exams))
    finally:
        ahead.close()
    first, second = results[: len(scan.exams)], results[len(scan.exams) :]
    by_id = {result.exam_id: result for result in first}
    return Sample(
        scan=scan,
        facts=tuple(read_facts(_paths(root, scan), profile)),
        results=tuple(first),
        measures=measures,
        seconds=tuple(seconds[: len(first)]),
        repeated=len(again),
        unequal=tuple(result.exam_id for result in second if result != by_id[result.exam_id]),
    )


def rejected_paths(root: Path, rejections: Sequence[InstanceRejection]) -> list[Path]:
    """The files of rejected instances that have a header; `root` is what was read."""
    folder = root if root.is_dir() else root.parent
    paths = (folder / one.file for one in rejections if one.rejection.code not in _WITHOUT_HEADER)
    return [path for path in paths if path.is_file()]


def _paths(root: Path, scan: FolderScan) -> list[Path]:
    return [image.path for exam in scan.exams for image in exam.images] + rejected_paths(root, scan.rejections)


def _spread_over(exams: Sequence[Exam], number: int) -> list[Exam]:
    """So many exams, evenly from first to last, the last first."""
    count = min(number, len(exams))
    return [exams[index * len(exams) // count] for index in reversed(range(count))] if count else []


def _measuring(ask: Answer, measures: dict[str, Measures], spacing_mm: float) -> Answer:
    def measured(image: Image) -> ImageAnswer:
        found = ask(image)
        if found.loaded.prepared is not None and image.kind is not ImageKind.DBT:  # of slabs there is no reference
            measures[image.image_id] = measure(found.loaded.prepared.pixels, spacing_mm)
        return found

    return measured


def _result(exam: Exam, bundle: Bundle, ask: Answer) -> ExamResult:
    """The exam's result without pixels."""
    try:
        result = score(exam, bundle, ask)
    except Exception as error:
        # The one place where an unforeseen error is caught, as in a batch: it costs this exam, never the sample.
        LOG.exception("exam %s failed", exam.exam_id)
        rejection = Rejection(Reason.UNREADABLE, f"an unforeseen {type(error).__name__}; see the log and report it")
        result = exam_result(exam, bundle, Status.FAILED, rejection=rejection)
    return replace(
        result, images=tuple(replace(one, heatmap=None, preview=None, key_frames=()) for one in result.images)
    )
