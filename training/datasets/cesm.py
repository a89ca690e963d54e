"""CDD-CESM: low-energy images of contrast-enhanced mammography, with outlines by radiologists (Khaled et al. 2022).

Two layouts are read. The publisher's: the annotation sheet (`Radiology*manual*annotations.xlsx` as published, or its
sheet "all" saved as `.csv`), `Radiology_hand_drawn_segmentations_v2.csv` (shapes of the VGG Image Annotator) and
`Low energy images of CDD-CESM/*.jpg`. And one with the same facts in `labels.csv`, `lesions.csv` (a box per connected
part of the mask), `masks/*.png` and images padded to 512 x 512 in `images/*.png`. Only low-energy images are read:
subtracted images do not look like mammograms.

`Lesion.kind` is "finding", but "misplaced" where the annotator used an ellipse (its mask lies partly beside the lesion)
and "diffuse" where the box covers more than `DIFFUSE_SHARE` of the padded image (an oedema, a skin thickening, lesions
that touch): keep those for breast-level truth, and trust their place less.

The images are published cut out around the breast, without a spacing. 0.094 mm (the GE detector's, in the plane of the
breast) fits the publisher's mean height of 2355 rows. Padded to 512 x 512, every breast fills the height, so that its
spacing varies with its size; 0.42 mm makes the median breast 215 mm high, as the other digital sets', and is about
15 % wrong for one image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException
from PIL import Image

from screening.errors import ConfigError
from training.datasets.record import Lesion, Record
from training.datasets.tables import (
    Row,
    breast_density,
    find_one,
    flag,
    laterality,
    number,
    optional_number,
    read_table,
    require_columns,
    require_file,
    view,
)

PADDED_SIZE = 512
DIFFUSE_SHARE = 0.25
PADDED_SPACING_MM = (0.42, 0.42)
NATIVE_SPACING_MM = (0.094, 0.094)
POINT_RADIUS = 25.0
"""Radius in pixels given to a finding that was marked by one point."""

IMAGE_COLUMNS = ("image", "patient", "laterality", "view")
LABEL_COLUMNS = (*IMAGE_COLUMNS, "age", "density", "pathology", "ellipse")
LESION_COLUMNS = ("image", "x", "y", "width", "height")
PATHOLOGY = "Pathology Classification/ Follow up"
DENSITY = "Breast density (ACR)"
SHEET_COLUMNS = ("Image_name", "Patient_ID", "Side", "Type", "View", "Age", DENSITY, PATHOLOGY)
SHAPES = "Radiology_hand_drawn_segmentations_v2.csv"
SHAPE_COLUMNS = ("#filename", "region_shape_attributes")
IMAGES = "Low energy images of CDD-CESM"


def read_cesm(root: Path, truth: bool = True) -> list[Record]:
    """Every low-energy image of the tables under `root`, in their order; raises `ConfigError`, see the module.

    Without `truth`, `labels.csv` must hold no more than `IMAGE_COLUMNS`, and `lesions.csv` is not read.
    """
    return _read_padded(root, truth) if (root / "labels.csv").is_file() else _read_published(root)


def _read_padded(root: Path, truth: bool) -> list[Record]:
    table = root / "labels.csv"
    boxes = _boxes(root / "lesions.csv") if truth else {}
    records = []
    for row in read_table(table, LABEL_COLUMNS if truth else IMAGE_COLUMNS, optional=LABEL_COLUMNS):
        name = row["image"]
        malignant = _malignant(row["pathology"], table) if truth else None
        misplaced = truth and flag(row["ellipse"], table, "ellipse")
        lesions = []
        for x, y, width, height in boxes.get(name, []):
            kind = _kind(width * height / PADDED_SIZE**2, misplaced)
            mask = root / "masks" / f"{name}.png"
            lesions.append(Lesion(x, y, width, height, "mask", mask_path=mask, malignant=malignant, kind=kind))
        records.append(
            Record(
                dataset="cesm",
                woman=row["patient"],
                exam=row["patient"],
                image=name,
                path=root / "images" / f"{name}.png",
                laterality=laterality(row["laterality"], table),
                view=view(row["view"], table),
                malignant=malignant,
                lesions=tuple(lesions),
                pixel_spacing_mm=PADDED_SPACING_MM,
                density=breast_density(row["density"]),
                age=optional_number(row["age"], table, "age"),
            )
        )
    return records


def _boxes(table: Path) -> dict[str, list[tuple[float, ...]]]:
    """x, y, width and height of the lesions of each image, in pixels."""
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for row in read_table(table, LESION_COLUMNS):
        box = tuple(number(row[name], table, name) for name in LESION_COLUMNS[1:])
        boxes.setdefault(row["image"], []).append(box)
    return boxes


def _read_published(root: Path) -> list[Record]:
    table = find_one(root, "Radiology*manual*annotations.*", "table labels.csv or annotation sheet")
    shapes: dict[str, list[dict[str, Any]]] = {}
    for row in read_table(root / SHAPES, SHAPE_COLUMNS):
        name = row["#filename"].removesuffix(".jpg").strip()
        shapes.setdefault(name, []).append(_shape(row["region_shape_attributes"], root / SHAPES))
    images: dict[str, list[Row]] = {}
    for row in _sheet(table):
        if row["Type"] == "DM":
            images.setdefault(row["Image_name"], []).append(row)
    return [_published(root, table, rows, shapes.get(name, [])) for name, rows in images.items()]


def _published(root: Path, table: Path, rows: list[Row], shapes: list[dict[str, Any]]) -> Record:
    """One image of the sheet, which has a row for each of its findings."""
    first = rows[0]
    truths = {_malignant(row[PATHOLOGY], table) for row in rows}
    malignant = any(truths)
    path = require_file(root / IMAGES / f"{first['Image_name']}.jpg", "image")
    with Image.open(path) as image:
        side = max(image.size)
    truth = malignant if len(truths) == 1 else None
    lesions = tuple(lesion for shape in shapes if (lesion := _drawn(shape, side, truth)) is not None)
    return Record(
        dataset="cesm",
        woman=first["Patient_ID"],
        exam=first["Patient_ID"],
        image=first["Image_name"],
        path=path,
        laterality=laterality(first["Side"], table),
        view=view(first["View"], table),
        malignant=malignant,
        lesions=lesions or (None if malignant else ()),
        pixel_spacing_mm=NATIVE_SPACING_MM,
        density=breast_density(first[DENSITY]),
        age=optional_number(first["Age"], table, "Age"),
        machine=first.get("Machine", ""),
    )


def _sheet(path: Path) -> list[Row]:
    """Rows of the annotation sheet as text; a workbook's sheet "all", or its first one."""
    if path.suffix.lower() == ".csv":
        return read_table(path, SHEET_COLUMNS)
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, BadZipFile, OSError, KeyError, ValueError) as error:
        raise ConfigError(f"The annotation sheet {path} is no Excel workbook ({error}).") from error
    sheet = workbook["all"] if "all" in workbook.sheetnames else workbook.worksheets[0]
    table = [["" if cell is None else str(cell).strip() for cell in row] for row in sheet.iter_rows(values_only=True)]
    workbook.close()
    header = table[0] if table else []
    require_columns(path, header, SHEET_COLUMNS)
    return [dict(zip(header, row, strict=True)) for row in table[1:] if any(row)]


def _shape(text: str, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(text or "{}"))
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise ConfigError(f"The table {path} has a region that is no JSON object: {text[:60]!r}.") from error


def _drawn(shape: dict[str, Any], side: int, malignant: bool | None) -> Lesion | None:
    """A VGG shape as a lesion; None for the empty shape of an image without a region."""
    name = shape.get("name")
    if name in ("polygon", "polyline"):
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        outline = tuple((float(x), float(y)) for x, y in zip(xs, ys, strict=True))
        x, y, width, height = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
        kind = _kind(width * height / side**2, misplaced=False)
        return Lesion(x, y, width, height, "polygon", outline=outline, malignant=malignant, kind=kind)
    if name in ("ellipse", "circle", "point"):
        rx = float(shape.get("rx", shape.get("r", POINT_RADIUS)))
        ry = float(shape.get("ry", shape.get("r", POINT_RADIUS)))
        kind = _kind(4 * rx * ry / side**2, misplaced=name == "ellipse")
        return Lesion(shape["cx"] - rx, shape["cy"] - ry, 2 * rx, 2 * ry, "ellipse", malignant=malignant, kind=kind)
    return None


def _malignant(pathology: str, table: Path) -> bool:
    truth = {"malignant": True, "benign": False, "normal": False}
    if pathology.lower() not in truth:
        raise ConfigError(f"The table {table} has the pathology {pathology!r}, which is none of {', '.join(truth)}.")
    return truth[pathology.lower()]


def _kind(share: float, misplaced: bool) -> str:
    if misplaced:
        return "misplaced"
    return "diffuse" if share > DIFFUSE_SHARE else "finding"
