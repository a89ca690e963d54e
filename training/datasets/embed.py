"""EMBED open data (Emory): screening and diagnostic exams with findings and pathology (Jeong et al. 2023).

Layout: `tables/EMBED_OpenData_{metadata,clinical}.csv` (or their `_reduced` forms) and
`images/COHORT/WOMAN/STUDY/IMAGE.dcm`. Whole-breast 2D and C-view images are read; spot and magnification views,
tomosynthesis and screen captures are left out, and so are images without a side or a view that is known.

Pathology is written to the exam that led to the biopsy, mostly a diagnostic one, so truth is looked up by woman, side
and date: a breast is malignant if cancer (`path_severity` 0 or 1) is recorded for it at this exam or within
`WINDOW_DAYS` after; not malignant if no cancer is recorded at or after this exam and its own assessment is negative or
benign, or its biopsy was; and unknown otherwise.

`ROI_coords` are circles that radiologists drew, as corners (ymin, xmin, ymax, xmax); they are not linked to findings,
so a region's malignancy is known only where the breast's is negative.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from screening.errors import ConfigError
from screening.exam import ImageKind, Laterality, View
from training.datasets.record import Lesion, Record
from training.datasets.tables import Row, breast_density, first_file, optional_number, read_table

WINDOW_DAYS = 365
# Pixel in mm by maker, for tables without ImagerPixelSpacing (the reduced ones).
SPACING_MM = {"hologic": 0.07, "ge": 0.094, "fuji": 0.05}
METADATA_COLUMNS = (
    "empi_anon",
    "acc_anon",
    "study_date_anon",
    "anon_dicom_path",
    "FinalImageType",
    "ImageLateralityFinal",
    "ViewPosition",
    "spot_mag",
    "ROI_coords",
)
CLINICAL_COLUMNS = ("empi_anon", "acc_anon", "study_date_anon", "side", "bside", "asses", "path_severity", "tissueden")
_KINDS = {"2D": ImageKind.FFDM, "cview": ImageKind.SYNTHETIC, "C-view": ImageKind.SYNTHETIC}


@dataclass(frozen=True)
class _Finding:
    """One row of the clinical table: what was said about one side, or both, at one exam."""

    exam: str
    day: date
    sides: tuple[Laterality, ...]
    biopsied: tuple[Laterality, ...]
    assessment: str
    severity: float | None
    density: str | None
    age: float | None


def read_embed(root: Path) -> list[Record]:
    """Every whole-breast image of the tables under `root`, in their order; raises `ConfigError`, see the module."""
    clinical, metadata = _table(root, "clinical"), _table(root, "metadata")
    findings: dict[str, list[_Finding]] = defaultdict(list)
    for row in read_table(clinical, CLINICAL_COLUMNS):
        findings[row["empi_anon"]].append(_finding(row, clinical))
    return [
        _record(root, row, metadata, findings[row["empi_anon"]])
        for row in read_table(metadata, METADATA_COLUMNS)
        if _is_whole_breast(row)
    ]


def _table(root: Path, what: str) -> Path:
    return first_file(root / "tables", f"EMBED_OpenData_{what}.csv", f"EMBED_OpenData_{what}_reduced.csv")


def _is_whole_breast(row: Row) -> bool:
    return (
        row["FinalImageType"] in _KINDS
        and row["spot_mag"] in ("", "0", "0.0")
        and row["ImageLateralityFinal"] in list(Laterality)
        and row["ViewPosition"] in list(View)
    )


def _record(root: Path, row: Row, table: Path, findings: list[_Finding]) -> Record:
    side, exam, day = Laterality(row["ImageLateralityFinal"]), row["acc_anon"], _day(row["study_date_anon"], table)
    own = [finding for finding in findings if finding.exam == exam]
    malignant = _truth(side, day, own, findings)
    regions = _regions(row["ROI_coords"], table, malignant)
    path = _locate(root, row["anon_dicom_path"], table)
    return Record(
        dataset="embed",
        woman=row["empi_anon"],
        exam=exam,
        image=path.stem,
        path=path,
        laterality=side,
        view=View(row["ViewPosition"]),
        malignant=malignant,
        lesions=regions or (() if malignant is False else None),
        pixel_spacing_mm=_spacing(row),
        kind=_KINDS[row["FinalImageType"]],
        density=next((finding.density for finding in own if finding.density), None),
        age=next((finding.age for finding in own if finding.age is not None), None),
        manufacturer=row.get("Manufacturer", ""),
        machine=row.get("ManufacturerModelName", ""),
        implant=row.get("BreastImplantPresent", "").upper() == "YES",
    )


def _truth(side: Laterality, day: date, own: list[_Finding], findings: list[_Finding]) -> bool | None:
    cancers = [f.day for f in findings if side in f.biopsied and f.severity is not None and f.severity <= 1]
    coming = [found for found in cancers if found >= day]
    if any(found <= day + timedelta(days=WINDOW_DAYS) for found in coming):
        return True
    if coming:
        return None
    benign_biopsy = any(side in f.biopsied and f.severity is not None for f in own)
    assessments = {f.assessment for f in own if side in f.sides}
    negative = bool(assessments) and assessments <= {"N", "B"}
    return False if benign_biopsy or negative else None


def _finding(row: Row, table: Path) -> _Finding:
    sides = _sides(row["side"])
    return _Finding(
        exam=row["acc_anon"],
        day=_day(row["study_date_anon"], table),
        sides=sides or tuple(Laterality),
        biopsied=_sides(row["bside"]) or sides,
        assessment=row["asses"],
        severity=optional_number(row["path_severity"], table, "path_severity"),
        density=breast_density(row["tissueden"]),
        age=optional_number(row.get("age_at_study", ""), table, "age_at_study"),
    )


def _sides(text: str) -> tuple[Laterality, ...]:
    """L, R or B (both); none where empty: a negative exam has one row without a side, for both breasts."""
    return {"L": (Laterality.LEFT,), "R": (Laterality.RIGHT,), "B": tuple(Laterality)}.get(text, ())


def _day(text: str, table: Path) -> date:
    try:
        return date.fromisoformat(text[:10])
    except ValueError as error:
        raise ConfigError(f"The table {table} has {text!r} for study_date_anon, where a date must be.") from error


def _regions(text: str, table: Path, malignant: bool | None) -> tuple[Lesion, ...]:
    try:
        corners = [tuple(float(value) for value in box) for box in ast.literal_eval(text or "[]")]
        boxes = [(x0, y0, x1 - x0, y1 - y0) for y0, x0, y1, x1 in corners]
    except (ValueError, SyntaxError, TypeError) as error:
        raise ConfigError(f"The table {table} has {text!r} for ROI_coords, where a list of boxes must be.") from error
    truth = False if malignant is False else None
    return tuple(Lesion(*box, shape="ellipse", malignant=truth, kind="region of interest") for box in boxes)


def _locate(root: Path, path: str, table: Path) -> Path:
    """The table has the publisher's own folders; from the cohort on, they are those of the release."""
    parts = path.replace("\\", "/").split("/")
    start = next((i for i, part in enumerate(parts) if part.startswith("cohort_")), None)
    if start is None:
        raise ConfigError(f"The table {table} has the path {path!r}, which names no cohort.")
    return root.joinpath("images", *parts[start:])


def _spacing(row: Row) -> tuple[float, float]:
    values = row.get("ImagerPixelSpacing", "").strip("[]()").replace("\\", ",").split(",")
    try:
        between_rows, between_columns = (float(value.strip(" '\"")) for value in values)
    except ValueError:
        maker = row.get("Manufacturer", "").lower()
        pixel = next((size for name, size in SPACING_MM.items() if maker.startswith(name)), SPACING_MM["hologic"])
        return pixel, pixel
    return between_rows, between_columns
