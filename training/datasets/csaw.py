"""CSAW-CC (Karolinska): digital screening exams of 873 women with cancer and 7,850 without (Strand 2022).

Layout: the table (`CSAW-CC_breast_cancer_screening_data.csv`, or `anon_dataset_nonhidden_*.csv` as first released), the
DICOM files named in `anon_filename` anywhere below the folder, and radiologists' outlines of the cancers as images
`IMAGE_mask.png`, anywhere below it, too.

`rad_timing` 1 (detected at this screening) and 2 (an interval cancer, within 2 years) make the breast on
`x_cancer_laterality` malignant; at 3 (more than 2 years before the diagnosis) its truth is unknown. All other breasts
are not malignant. An interval cancer need not be visible. `x_age` is a band only, so no age is given. All images come
from Hologic machines with 0.07 mm pixels.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from screening.errors import ConfigError
from screening.exam import Laterality
from training.datasets.record import Lesion, Record
from training.datasets.tables import Row, find_one, flag, laterality, read_table, view

SPACING_MM = (0.07, 0.07)
TABLES = ("CSAW-CC_breast_cancer_screening_data.csv", "anon_dataset_nonhidden_*.csv")
COLUMNS = (
    "anon_patientid",
    "anon_filename",
    "exam_year",
    "x_case",
    "x_cancer_laterality",
    "rad_timing",
    "imagelaterality",
    "viewposition",
    "libra_percentdensity",
)


def read_csaw(root: Path) -> list[Record]:
    """Every image of the table under `root`, in its order; raises `ConfigError` naming what is missing."""
    pattern = next((name for name in TABLES if list(root.glob(name))), TABLES[0])
    table = find_one(root, pattern, "table")
    images = {path.name: path for path in root.rglob("*.dcm")}
    masks = {path.name.removesuffix("_mask.png"): path for path in root.rglob("*_mask.png")}
    return [_record(row, table, images, masks) for row in read_table(table, COLUMNS)]


def _record(row: Row, table: Path, images: dict[str, Path], masks: dict[str, Path]) -> Record:
    name = row["anon_filename"]
    if name not in images:
        raise ConfigError(f"The image {name} of {table} lies nowhere below {table.parent}.")
    image = Path(name).stem
    side = laterality(row["imagelaterality"], table)
    malignant = _malignant(row, side, table)
    lesions = _lesions(masks[image]) if image in masks else None
    if lesions is None and malignant is False:
        lesions = ()
    percent = row["libra_percentdensity"]
    return Record(
        dataset="csaw-cc",
        woman=row["anon_patientid"],
        exam=f"{row['anon_patientid']}_{row['exam_year']}",
        image=image,
        path=images[name],
        laterality=side,
        view=view(row["viewposition"], table),
        malignant=malignant,
        lesions=lesions,
        pixel_spacing_mm=SPACING_MM,
        density_other=f"LIBRA {percent} %" if percent else "",
        manufacturer="Hologic",
    )


def _malignant(row: Row, side: Laterality, table: Path) -> bool | None:
    if not flag(row["x_case"], table, "x_case"):
        return False
    if not row["x_cancer_laterality"]:
        return None
    if laterality(row["x_cancer_laterality"], table) != side:
        return False
    timing = {"1": True, "2": True, "3": None}
    value = row["rad_timing"].removesuffix(".0")
    if value not in timing:
        raise ConfigError(
            f"The table {table} has {row['rad_timing']!r} for rad_timing of a case, where 1 to 3 must be."
        )
    return timing[value]


def _lesions(mask: Path) -> tuple[Lesion, ...]:
    """A box for every connected part of the outlined cancer."""
    labels = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    if labels is None:
        raise ConfigError(f"The mask {mask} cannot be decoded.")
    count, _, boxes, _ = cv2.connectedComponentsWithStats((labels > 0).astype(np.uint8), connectivity=8)
    lesions = []
    for part in range(1, count):
        x, y, width, height = (float(value) for value in boxes[part, :4])
        lesions.append(Lesion(x, y, width, height, "mask", mask_path=mask, malignant=True, kind="cancer"))
    return tuple(lesions)
