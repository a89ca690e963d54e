"""VinDr-Mammo: 5,000 digital four-view exams, read twice, with boxes of non-benign findings (Nguyen et al. 2023).

Layout: `breast-level_annotations.csv`, `finding_annotations.csv`, `images/STUDY/IMAGE.dicom` and, if there,
`metadata.csv` (age, maker).

There is no pathology, only the readers' BI-RADS, so malignancy is known at the ends alone: 1 and 2 count as not
malignant, 5 as malignant (95 % and more are, BI-RADS 5th ed.), 3 and 4 stay unknown. `Lesion.kind` carries the
categories and the finding's BI-RADS, for recipes that want the suspicious ones. The pixel is that of the Siemens
detector that most images come from, 0.085 mm; the files' headers know better.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from screening.errors import ConfigError
from training.datasets.record import Lesion, Record
from training.datasets.tables import Row, breast_density, laterality, number, read_table, view

SPACING_MM = (0.085, 0.085)
BREAST_COLUMNS = (
    "study_id",
    "series_id",
    "image_id",
    "laterality",
    "view_position",
    "breast_birads",
    "breast_density",
    "split",
)
FINDING_COLUMNS = ("image_id", "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax")
METADATA_COLUMNS = ("Series Instance UID", "Patient's Age")


def read_vindr(root: Path) -> list[Record]:
    """Every image of the tables under `root`, in their order; raises `ConfigError` naming what is missing."""
    table, findings = root / "breast-level_annotations.csv", root / "finding_annotations.csv"
    lesions: dict[str, list[Lesion]] = {}
    for row in read_table(findings, FINDING_COLUMNS):
        if row["xmin"]:
            lesions.setdefault(row["image_id"], []).append(_lesion(row, findings))
    series = _series(root / "metadata.csv")
    records = []
    for row in read_table(table, BREAST_COLUMNS):
        about = series.get(row["series_id"], {})
        records.append(
            Record(
                dataset="vindr",
                woman=row["study_id"],
                exam=row["study_id"],
                image=row["image_id"],
                path=root / "images" / row["study_id"] / f"{row['image_id']}.dicom",
                laterality=laterality(row["laterality"], table),
                view=view(row["view_position"], table),
                malignant=_malignant(row["breast_birads"], table),
                lesions=tuple(lesions.get(row["image_id"], ())),
                pixel_spacing_mm=SPACING_MM,
                density=breast_density(row["breast_density"]),
                age=_age(about.get("Patient's Age", "")),
                manufacturer=about.get("Manufacturer", ""),
                machine=about.get("Manufacturer's Model Name", ""),
                split=row["split"],
            )
        )
    return records


def _lesion(row: Row, table: Path) -> Lesion:
    x0, y0, x1, y1 = (number(row[name], table, name) for name in ("xmin", "ymin", "xmax", "ymax"))
    try:
        categories = ast.literal_eval(row["finding_categories"])
    except (ValueError, SyntaxError) as error:
        raise ConfigError(f"The table {table} has {row['finding_categories']!r} for finding_categories.") from error
    birads = row["finding_birads"]
    kind = ", ".join(str(category) for category in categories).lower() + (f" ({birads})" if birads else "")
    malignant = _malignant(birads, table) if birads else None
    return Lesion(x0, y0, x1 - x0, y1 - y0, malignant=malignant, kind=kind)


def _malignant(birads: str, table: Path) -> bool | None:
    truth = {"1": False, "2": False, "3": None, "4": None, "5": True}
    category = birads.removeprefix("BI-RADS ")
    if category not in truth:
        raise ConfigError(f"The table {table} has {birads!r}, where BI-RADS 1 to 5 must be.")
    return truth[category]


def _series(path: Path) -> dict[str, Row]:
    if not path.is_file():
        return {}
    return {row["Series Instance UID"]: row for row in read_table(path, METADATA_COLUMNS)}


def _age(text: str) -> float | None:
    """Years from a DICOM age string such as 045Y."""
    match = re.fullmatch(r"0*(\d+)Y?", text)
    return float(match.group(1)) if match else None
