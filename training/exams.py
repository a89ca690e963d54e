"""Records as exams, so that a data set is scored by the very function that scores a hospital's batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from screening.errors import ImageError
from screening.exam import Exam, Image
from screening.imaging.load import LoadedImage, preview
from screening.imaging.prepare import Preparation, prepare
from screening.result import Reason, Rejection, Status
from training.datasets.pixels import read_pixels
from training.datasets.record import Record


@dataclass(frozen=True)
class DatasetExams:
    """`exams` of a data set, and the record that each image id stands for."""

    exams: tuple[Exam, ...]
    records: dict[str, Record]

    def load(self, image: Image, preparation: Preparation) -> LoadedImage:
        """Load a record's image, as `screening.imaging.load.load_image` loads a DICOM file."""
        try:
            pixels = read_pixels(self.records[image.image_id])
        except ImageError as error:
            return LoadedImage(image, Status.FAILED, rejection=Rejection(Reason.UNREADABLE, str(error)))
        image = replace(image, rows=pixels.shape[0], columns=pixels.shape[1])
        try:
            prepared = prepare(pixels, image.pixel_spacing_mm, preparation)
        except ImageError as error:
            return LoadedImage(image, Status.REJECTED, rejection=Rejection(Reason.NO_BREAST, str(error)))
        return LoadedImage(image, Status.SCORED, prepared, preview(pixels, prepared.mask.inverted))


def as_exams(records: Sequence[Record]) -> DatasetExams:
    """Group records by woman and exam; image ids are DATASET-IMAGE, exam ids DATASET-WOMAN-EXAM."""
    grouped: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        grouped[record.dataset, record.woman, record.exam].append(record)
    by_image = {image_id(record): record for record in records}
    exams = tuple(_exam(key, grouped[key]) for key in sorted(grouped))
    return DatasetExams(exams, by_image)


def image_id(record: Record) -> str:
    """The id of a record's image in results: it contains the publisher's name of the image."""
    return f"{record.dataset}-{record.image}"


def _exam(key: tuple[str, str, str], records: Sequence[Record]) -> Exam:
    dataset, woman, exam = key
    images = sorted((as_image(record) for record in records), key=lambda image: image.image_id)
    return Exam(
        exam_id="-".join((dataset, woman) if exam == woman else (dataset, woman, exam)),
        woman_id=f"{dataset}-{woman}",
        exam_date=None,
        site=dataset,
        manufacturer=records[0].manufacturer or records[0].machine,
        images=tuple(images),
    )


def as_image(record: Record) -> Image:
    """A record's image as the pipeline takes it."""
    # Rows and columns are the file's own; `load` fills them in.
    return Image(
        image_id=image_id(record),
        path=record.path,
        laterality=record.laterality,
        view=record.view,
        kind=record.kind,
        rows=0,
        columns=0,
        frames=1,
        pixel_spacing_mm=record.pixel_spacing_mm,
    )
