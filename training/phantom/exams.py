"""One woman's exams: taken, read and written, round by round, until the programme ends or finds her cancer.

Women are independent of each other, so that any number of processes makes the same files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from screening.exam import ImageKind, Laterality, View
from training.phantom.compression import compressed
from training.phantom.dicom import write_image
from training.phantom.headers import ExamHeader, ImageHeader
from training.phantom.imaging import mammogram, synthetic_2d, tomosynthesis
from training.phantom.lesions import insert
from training.phantom.model import CompressedBreast, Grid, LesionTrace, Modality, SimulatedImage, Style, Woman
from training.phantom.population import draw_woman
from training.phantom.programme import Course, Visit, plan
from training.phantom.readers import read
from training.phantom.registry import ExamRecord, ImageBox, Row, Rows, conclude, lesion_rows
from training.phantom.seeds import generator
from training.phantom.styles import STYLES
from training.phantom.teaching import with_more_lesions
from training.phantom.truth import image_box, image_row, lesion_row

FIRST_ROUND = date(2016, 1, 4)
"""The programme's first day."""
VIEWS = (View.CC, View.MLO)
_OTHER_MACHINE = 0.15
"""Share of rounds in which a woman is examined on another machine than usual."""
_ORDER = {key: number for number, key in enumerate(product(ImageKind, VIEWS, Laterality), start=1)}


@dataclass(frozen=True)
class Programme:
    """What is simulated; equal values give equal bytes. `cancer_share`: see `programme.plan`.

    `more_lesions`: see `teaching.with_more_lesions`; with any, women have one exam, and no registry knows of them.
    """

    seed: int
    women: int
    rounds: int
    modality: Modality
    pixel_mm: float
    cancer_share: float | None
    more_lesions: float = 0.0


@dataclass(frozen=True)
class WomanRows:
    """What is known of a woman once she is simulated, as rows of tables that JSON can hold.

    `registry`: of the follow-up. `images`, `lesions`: of every image and of every lesion on it.
    """

    registry: Rows = field(default_factory=dict)
    images: list[Row] = field(default_factory=list)
    lesions: list[Row] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Itself, for `WomanRows(**...)`."""
        return {"registry": self.registry, "images": self.images, "lesions": self.lesions}


@dataclass
class _Exam:
    """An exam while it is taken: the traces of its lesions by view, each with its boxes in the images."""

    header: ExamHeader
    style: Style
    folder: Path
    traces: list[tuple[LesionTrace, list[ImageBox]]] = field(default_factory=list)


def simulate_woman(programme: Programme, index: int, folder: Path) -> WomanRows:
    """Write the images of woman `index` to `folder`/ROUND/*.dcm and return what is known of her."""
    woman = draw_woman(programme.seed, index)
    course = plan(woman, programme.rounds, programme.cancer_share, FIRST_ROUND)
    rows = WomanRows()
    if programme.more_lesions:
        _take(programme, with_more_lesions(course, programme.more_lesions), course.visits[0], folder, rows)
        return rows
    records: list[ExamRecord] = []
    found: list[_Exam] = []
    for visit in course.visits:
        exam = _take(programme, course, visit, folder, rows)
        reading = read(course, visit, [trace for trace, _ in exam.traces])
        style = exam.style
        records.append(ExamRecord(exam.header.exam_id, visit, reading, style.name, style.manufacturer))
        found.append(exam)
        if reading.detects:
            break
    rows.registry.update(conclude(course, records))
    for record, exam in zip(records, found, strict=True):
        for trace, boxes in exam.traces:
            rows.registry["lesions"] += lesion_rows(course, records, record, trace, boxes)
    return rows


def machine(seed: int, index: int, round_number: int) -> Style:
    """The machine that a woman is examined on: mostly the same one, now and then another."""
    usual = int(generator(seed, index, "machine").integers(len(STYLES)))
    rng = generator(seed, index, "machine", round_number)
    if rng.random() < _OTHER_MACHINE:
        usual += int(rng.integers(1, len(STYLES)))
    return STYLES[usual % len(STYLES)]


def _take(programme: Programme, course: Course, visit: Visit, folder: Path, rows: WomanRows) -> _Exam:
    """Take and write all images of a visit, and add to `rows` what they show."""
    woman = course.woman
    header = ExamHeader(woman.woman_id, visit.round_number, visit.on, visit.age)
    style = machine(woman.seed, woman.index, visit.round_number)
    exam = _Exam(header, style, folder / f"round-{visit.round_number + 1}")
    exam.folder.mkdir(parents=True)
    for laterality, view in product(Laterality, VIEWS):
        _take_view(programme, course, visit, (laterality, view), exam, rows)
    return exam


def _take_view(
    programme: Programme, course: Course, visit: Visit, which: tuple[Laterality, View], exam: _Exam, rows: WomanRows
) -> None:
    """Compress a breast once and take its images; a function of its own, so that no two breasts are in memory."""
    woman, (laterality, view) = course.woman, which
    grid = Grid(pixel_mm=programme.pixel_mm)
    breast = compressed(woman, laterality, view, visit.round_number, exam.style.energy_kev, grid)
    # Nothing from here on needs the glandular share, and a volume needs the memory.
    breast = replace(breast, glandular=np.zeros((0, 0, 0), np.float32))
    traces = []
    for lesion, diameter in course.present(visit.on):
        if lesion.laterality is laterality:
            breast, trace = insert(breast, lesion, diameter)
            traces.append(trace)
    boxes: list[list[ImageBox]] = [[] for _ in traces]
    for kind, image in _images(programme, visit, woman, breast, exam.style):
        name = f"{kind}-{laterality}-{view}.dcm"
        header = ImageHeader(exam.header, kind, _ORDER[kind, view, laterality])
        write_image(image, header, exam.folder / name)
        rows.images.append(image_row(image, header, woman, f"{woman.woman_id}/{exam.folder.name}/{name}", traces))
        for trace, places in zip(traces, boxes, strict=True):
            box = image_box(trace, image, header.image_id(image))
            if box is not None:
                places.append(box)
                rows.lesions.append(lesion_row(image, header, trace, box))
    exam.traces.extend(zip(traces, boxes, strict=True))


def _images(
    programme: Programme, visit: Visit, woman: Woman, breast: CompressedBreast, style: Style
) -> Iterator[tuple[ImageKind, SimulatedImage]]:
    """The images of one compression; noise is drawn for each kind apart, so either is the same without the other."""
    key = (woman.seed, woman.index, "image", visit.round_number, breast.laterality, breast.view)
    if programme.modality != "dbt":
        yield ImageKind.FFDM, mammogram(breast, style, generator(*key, ImageKind.FFDM))
    if programme.modality != "mammography":
        volume = tomosynthesis(breast, style, generator(*key, ImageKind.DBT))
        yield ImageKind.DBT, volume
        yield ImageKind.SYNTHETIC, synthetic_2d(volume)
