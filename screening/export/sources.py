"""Which files an export is about: the exams' images, our own objects, and what never became an image of an exam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from screening.exam import ImageKind
from screening.export.instance import End, Outcome, Source, Why
from screening.report.figures import picture_paths
from screening.store import ResultStore


@dataclass(frozen=True)
class Instance:
    """One instance that the results know. `what`: image, object or other; `outcome` where it is settled beforehand."""

    what: str
    exam_id: str
    woman_id: str
    image_id: str
    file: str
    kind: ImageKind | None = None
    outcome: Outcome | None = None

    @property
    def source(self) -> Source:
        """The file to export."""
        return Source(Path(self.file), self.exam_id, self.woman_id, self.image_id, self.kind)


def instances(store: ResultStore, results: Path, objects: bool) -> Iterator[Instance]:
    """Every instance once: images by exam, then our own objects (if asked for), then what the batch rejected.

    An exam that several models scored has its images once. Raises `StoreError` if the store cannot be read.
    """
    exams: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    for result in store.results():
        exams[result.exam_id] = result.woman_id
        for image in (one.image for one in result.images):
            if (result.exam_id, image.image_id) not in seen:
                seen.add((result.exam_id, image.image_id))
                yield Instance("image", result.exam_id, result.woman_id, image.image_id, str(image.path), image.kind)
    if objects:
        yield from _objects(results, exams)
    for rejection in store.rejections():
        settled = Outcome(End.HELD_BACK, Why.NOT_AN_IMAGE)
        woman_id = exams.get(rejection.exam_id, "")
        yield Instance("other", rejection.exam_id, woman_id, rejection.image_id, rejection.file, None, settled)


def _objects(results: Path, exams: dict[str, str]) -> Iterator[Instance]:
    """The files under `dicom/`; those in a folder that is of no exam have nobody to be a pseudonym of."""
    folders = {picture_paths(results, exam_id, "").annotated.parent.name: exam_id for exam_id in exams}
    for path in sorted((results / "dicom").glob("*/*.dcm")):
        exam_id = folders.get(path.parent.name)
        if exam_id is None:
            settled = Outcome(End.HELD_BACK, Why.NOT_OF_AN_EXAM)
            yield Instance("object", "", "", path.stem, str(path), None, settled)
        else:
            yield Instance("object", exam_id, exams[exam_id], path.stem, str(path))
