"""Regions in tomosynthesis volumes as the table that the scorer of the DBTex challenge takes.

Columns, in this order: PatientID, StudyUID, View, X, Width, Y, Height, Z, Depth, Score. Pixels and slices are whole and
count from 0; X and Y are the box's upper left corner, Z its first slice (instructions of the challenge; Konz et al.,
JAMA Netw Open 2023;6:e230524).

Coordinates are those of the volume as the challenge shows it: where the brighter outer column of the stored pixels,
the chest wall, is not on the side that the View's first letter asks for (L: left), rows and columns are both reversed
(the organisers' `dcmread_image`); slices stay as they are stored. A region whose frames are stored out of order has the
slices that follow one another around its peak: the table knows but one range.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evaluation.columns import ScoresError, read_table, typed
from evaluation.tables import Column, Problem
from screening.errors import ImageError
from screening.exam import Image, ImageKind
from screening.imaging.decode import decode_stored
from screening.imaging.stack import OUT_OF_ORDER
from screening.imaging.volume import stored_order, stored_run
from screening.report import picture_paths
from screening.result import ExamResult, ImageResult, Region, Status
from screening.store import STORE_NAME, ResultStore, write_atomically

COLUMNS = ("PatientID", "StudyUID", "View", "X", "Width", "Y", "Height", "Z", "Depth", "Score")

_IDENTITY = dict.fromkeys(("PatientID", "StudyUID", "View"), Column("id"))
_PATHS = ("classic_path", "descriptive_path")


@dataclass(frozen=True)
class Export:
    """What was written: how many predictions, of how many volumes; `unlisted` volumes are not in the list of files."""

    predictions: int
    volumes: int
    unlisted: int


@dataclass(frozen=True)
class Identity:
    """What the challenge calls a volume."""

    patient: str
    study: str
    view: str


def export_dbtex(results: Path, out: Path, file_paths: Path | None = None) -> Export:
    """Write the predictions of a folder that `screening score` wrote to `out`.

    `file_paths`: the data set's `BCS-DBT-file-paths-SPLIT.csv`, which says what the challenge calls each file; without
    it, a volume goes by its woman, exam, side and view, and a repeated view is numbered (lmlo2) in the order of image
    ids. Raises `ScoresError` where the results hold no volume, are of several models, or where neither the picture nor
    the file of a volume is there, so that nobody can say how it hangs.
    """
    if not (results / STORE_NAME).is_file():
        raise ScoresError(f"{results} holds no {STORE_NAME}; give the folder that screening score wrote.")
    named = None if file_paths is None else _listed(file_paths)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    predictions = volumes = unlisted = 0
    models: set[str] = set()
    with ResultStore(results / STORE_NAME) as store:
        for result in store.results():
            models.add(result.model_id)
            for one, identity in _volumes(result, named):
                if identity is None:
                    unlisted += 1
                    continue
                volumes += 1
                turned = chest_wall(results, result.exam_id, one.image) != identity.view[:1].upper()
                order = _stored_order(one)
                for region in sorted(one.regions, key=lambda region: region.rank):
                    writer.writerow(prediction(region, one.image, identity, turned, order))
                    predictions += 1
    if len(models) > 1:
        raise ScoresError(f"{results} holds results of {len(models)} models; score into a folder of its own.")
    if not volumes:
        raise ScoresError(f"{results} holds no scored tomosynthesis volume{' of that list' if unlisted else ''}.")
    write_atomically(out, [text.getvalue().encode()])
    return Export(predictions, volumes, unlisted)


def prediction(region: Region, image: Image, identity: Identity, turned: bool, order: Sequence[int]) -> tuple[str, ...]:
    """One line of the table.

    `turned`: the stored volume is turned by 180 degrees against the challenge's. `order`: the stored frame at each of
    the places that the region counts.
    """
    x, y = region.x, region.y
    if turned:
        x, y = image.columns - x - region.width, image.rows - y - region.height
    left = min(max(0, round(x)), image.columns - 1)
    top = min(max(0, round(y)), image.rows - 1)
    right, bottom = min(image.columns, round(x + region.width)), min(image.rows, round(y + region.height))
    first, last = stored_run(order, region)
    numbers = (left, max(1, right - left), top, max(1, bottom - top), first, last - first + 1)
    return identity.patient, identity.study, identity.view, *map(str, numbers), repr(float(region.score))


def chest_wall(results: Path, exam_id: str, image: Image) -> str:
    """The side, L or R, whose outer column of pixels is the brighter one, by the organisers' rule.

    Seen in the volume's first frame as stored, else in the picture that scoring left, whose outer columns may differ
    from it: it is the maximum of all frames as displayed. Raises `ScoresError` without either.
    """
    pixels: npt.NDArray[Any] | None
    try:
        pixels = decode_stored(image.path)
    except ImageError as error:
        pixels = cv2.imread(str(picture_paths(results, exam_id, image.image_id).plain), cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            raise ScoresError(
                f"Neither the file nor the picture of volume {image.image_id} can be read ({error}); score it again."
            ) from error
    return "R" if pixels[:, 0].sum(dtype=np.int64) < pixels[:, -1].sum(dtype=np.int64) else "L"


def _stored_order(one: ImageResult) -> tuple[int, ...]:
    """The stored frame at each place; raises `ScoresError` where frames are out of order, and no file says how."""
    try:
        return stored_order(one.image)
    except ImageError as error:
        if OUT_OF_ORDER in one.warnings:
            raise ScoresError(
                f"The frames of volume {one.image.image_id} are not stored in order, and its file, which says how, "
                f"cannot be read ({error}); score it again."
            ) from error
        return tuple(range(one.image.frames))


def _volumes(result: ExamResult, named: Mapping[str, Identity] | None) -> Iterator[tuple[ImageResult, Identity | None]]:
    """An exam's scored volumes with their names; None for one that the list of files does not have."""
    count: defaultdict[str, int] = defaultdict(int)
    scored = (one for one in result.images if one.image.kind is ImageKind.DBT and one.status is Status.SCORED)
    for one in sorted(scored, key=lambda one: one.image.image_id):
        if named is not None:
            yield one, next((named[tail] for tail in _tails(one.image.path) if tail in named), None)
            continue
        view = f"{one.image.laterality}{one.image.view}".lower()
        count[view] += 1
        number = str(count[view]) if count[view] > 1 else ""
        yield one, Identity(result.woman_id, result.exam_id, view + number)


def _listed(file_paths: Path) -> dict[str, Identity]:
    """The volumes of the data set's list, by each of their paths."""
    wanted = {**_IDENTITY, **dict.fromkeys(_PATHS, Column("text", may_be_empty=True))}
    errors: list[Problem] = []
    table = typed(read_table(file_paths, wanted), wanted, errors)
    if errors:
        raise ScoresError(f"{file_paths.name} has {len(errors)} errors in its rows:", tuple(errors))
    named = {}
    for patient, study, view, *paths in table[[*_IDENTITY, *_PATHS]].itertuples(index=False):
        for path in paths:
            named[str(PurePosixPath(str(path).replace("\\", "/")))] = Identity(patient, study, view)
    return named


def _tails(path: Path) -> Iterable[str]:
    """The path and what is left of it without its first folder, its first two, …: a list's paths are relative."""
    parts = path.parts
    return (str(PurePosixPath(*parts[start:])) for start in range(len(parts)))
