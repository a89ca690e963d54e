"""Simulated women: what `screening simulate` writes, with the truth about every lesion.

Layout: `images.csv`, `lesions.csv` and `dicom/WOMAN/ROUND/*.dcm` (see docs/simulate.md). Boxes are exact.

What is marked is what a radiologist who knows of the lesions would mark. In a 2D image that is every lesion with at
least a sign of it (`visible` is not "occult"). Overlap hides less in a volume, and there a lesion of 5 mm or more is
marked whether or not the 2D image has a sign of it. A breast whose cancer has no mark in any image of the exam counts
as of unknown truth: it is neither healthy, nor is there anything to learn to see. Volumes are records of kind DBT.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from screening.errors import ConfigError
from screening.exam import ImageKind
from training.datasets.record import Lesion, Record
from training.datasets.tables import Row, breast_density, flag, laterality, number, optional_number, read_table, view

IMAGE_COLUMNS = (
    "image_id",
    "exam_id",
    "woman_id",
    "file",
    "laterality",
    "view",
    "kind",
    "pixel_mm",
    "manufacturer",
    "machine",
    "age",
    "density",
    "malignant",
)
LESION_COLUMNS = (
    "exam_id",
    "image_id",
    "laterality",
    "x",
    "y",
    "width",
    "height",
    "frame",
    "kind",
    "malignant",
    "diameter_mm",
    "visible",
)
SHOWN_IN_VOLUME_MM = 5.0
"""Diameter from which a lesion is marked in a volume, whatever the 2D image shows."""

_Breast = tuple[str, str]


def read_simulated(root: Path) -> list[Record]:
    """Every image of the tables under `root`, in their order; raises `ConfigError` naming what is missing."""
    images, lesions = root / "images.csv", root / "lesions.csv"
    if not images.is_file() and (root / "simulation.json").is_file():
        raise ConfigError(f"The simulation in {root} is not complete; run the same screening simulate again.")
    rows = read_table(images, IMAGE_COLUMNS)
    kinds = {row["image_id"]: _kind(row, images) for row in rows}
    marked: dict[str, list[Lesion]] = defaultdict(list)
    with_mark: set[_Breast] = set()
    for row in read_table(lesions, LESION_COLUMNS):
        if row["image_id"] not in kinds:
            raise ConfigError(f"The table {lesions} has a lesion of {row['image_id']}, which {images} lacks.")
        if not _is_marked(row, kinds[row["image_id"]], lesions):
            continue
        lesion = _lesion(row, lesions)
        marked[row["image_id"]].append(lesion)
        if lesion.malignant:
            with_mark.add(_breast(row))
    return [_record(root, images, row, kinds[row["image_id"]], marked, with_mark) for row in rows]


def _is_marked(row: Row, kind: ImageKind, table: Path) -> bool:
    if kind is ImageKind.DBT and number(row["diameter_mm"], table, "diameter_mm") >= SHOWN_IN_VOLUME_MM:
        return True
    return row["visible"] != "occult"


def _lesion(row: Row, table: Path) -> Lesion:
    x, y, width, height = (number(row[name], table, name) for name in ("x", "y", "width", "height"))
    frame = optional_number(row["frame"], table, "frame")
    return Lesion(
        x,
        y,
        width,
        height,
        shape="ellipse",
        malignant=flag(row["malignant"], table, "malignant"),
        kind=row["kind"],
        frame=None if frame is None else int(frame),
    )


def _record(
    root: Path, table: Path, row: Row, kind: ImageKind, marked: dict[str, list[Lesion]], with_mark: set[_Breast]
) -> Record:
    spacing = number(row["pixel_mm"], table, "pixel_mm")
    cancer = flag(row["malignant"], table, "malignant")
    return Record(
        dataset="simulated",
        woman=row["woman_id"],
        exam=row["exam_id"],
        image=row["image_id"],
        path=root / "dicom" / row["file"],
        laterality=laterality(row["laterality"], table),
        view=view(row["view"], table),
        malignant=None if cancer and _breast(row) not in with_mark else cancer,
        lesions=tuple(marked.get(row["image_id"], ())),
        pixel_spacing_mm=(spacing, spacing),
        kind=kind,
        density=breast_density(row["density"]),
        age=optional_number(row["age"], table, "age"),
        manufacturer=row["manufacturer"],
        machine=row["machine"],
    )


def _breast(row: Row) -> _Breast:
    return row["exam_id"], row["laterality"]


def _kind(row: Row, table: Path) -> ImageKind:
    try:
        return ImageKind(row["kind"])
    except ValueError as error:
        kinds = ", ".join(ImageKind)
        raise ConfigError(f"The table {table} has the kind {row['kind']!r}, which is none of {kinds}.") from error
