"""CBIS-DDSM: 3,100 film mammograms with masks of masses and calcifications, pathology proven (Lee et al. 2017).

Layout: the four tables `{mass,calc}_case_description_{train,test}_set.csv`, and TCIA's DICOM tree, beside them or in
`CBIS-DDSM/`: either SUBJECT/STUDY-UID/SERIES-UID/*.dcm, or folders with descriptive names beside the `metadata.csv`
(columns "Series UID", "File Location") that comes with such a download.

The tables name a file for each mask, but the file's number in its folder is not reliable (a folder may hold the mask
and the crop in either order): the mask is the file that says "ROI mask" in its Series Description, else the larger one.
The box of each mask is found from its pixels, so reading the whole set takes minutes.

Films were digitised on four scanners, at 0.042 to 0.050 mm, which the published files do not name; 0.0455 mm errs by
10 % at most. `split` is the publisher's, which has women on both sides when masses and calcifications are pooled.
Density is the ACR's of 1998, four steps from fatty to dense like A to D.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from screening.errors import ConfigError
from training.datasets.record import Lesion, Record
from training.datasets.tables import Row, breast_density, laterality, read_table, view

SPACING_MM = (0.0455, 0.0455)
COLUMNS = (
    "patient_id",
    "left or right breast",
    "image view",
    "abnormality type",
    "pathology",
    "image file path",
    "ROI mask file path",
)
DENSITY = {"mass": "breast_density", "calc": "breast density"}
"""The column of the density, as the tables of masses and of calcifications spell it."""
METADATA_COLUMNS = ("Series UID", "File Location")
TABLES = tuple((kind, split) for kind in ("mass", "calc") for split in ("train", "test"))


def read_cbis(root: Path) -> list[Record]:
    """Every image of the four tables under `root`, in their order; raises `ConfigError` naming what is missing."""
    series = _series_folders(root)
    images: dict[str, Record] = {}
    for kind, split in TABLES:
        table = root / f"{kind}_case_description_{split}_set.csv"
        for row in read_table(table, (*COLUMNS, DENSITY[kind])):
            name = _parts(row["image file path"])[0]
            if name not in images:
                images[name] = _image(root, series, table, row, split)
            lesions = (*(images[name].lesions or ()), _lesion(root, series, row))
            images[name] = replace(images[name], lesions=lesions)
    return _with_breast_truth(list(images.values()))


def _image(root: Path, series: dict[str, Path], table: Path, row: Row, split: str) -> Record:
    path = _files(root, series, row["image file path"])[0]
    return Record(
        dataset="cbis-ddsm",
        woman=row["patient_id"],
        exam=row["patient_id"],
        image=_parts(row["image file path"])[0],
        path=path,
        laterality=laterality(row["left or right breast"], table),
        view=view(row["image view"], table),
        malignant=None,
        lesions=(),
        pixel_spacing_mm=SPACING_MM,
        medium="film",
        density=breast_density(row.get("breast_density", row.get("breast density", ""))),
        split=split,
    )


def _lesion(root: Path, series: dict[str, Path], row: Row) -> Lesion:
    mask = _mask_file(_files(root, series, row["ROI mask file path"]))
    x, y, width, height = _bounding_box(mask)
    return Lesion(
        x,
        y,
        width,
        height,
        shape="mask",
        mask_path=mask,
        malignant=row["pathology"] == "MALIGNANT",
        kind=row["abnormality type"].lower(),
    )


def _with_breast_truth(records: list[Record]) -> list[Record]:
    """A breast is malignant if one of its lesions is, in whichever view or table."""
    malignant = {r.breast for r in records for lesion in r.lesions or () if lesion.malignant}
    return [replace(record, malignant=record.breast in malignant) for record in records]


def _series_folders(root: Path) -> dict[str, Path]:
    """Folder by series UID, where the download's own table gives them."""
    table = root / "metadata.csv"
    if not table.is_file():
        return {}
    rows = read_table(table, METADATA_COLUMNS)
    return {row["Series UID"]: root / row["File Location"].replace("\\", "/") for row in rows}


def _parts(path: str) -> list[str]:
    """SUBJECT, STUDY-UID, SERIES-UID, file, of a path in the tables, which has stray quotes and line ends."""
    parts = path.strip().strip('"').strip().split("/")
    if len(parts) != 4:
        raise ConfigError(f"CBIS-DDSM names a file {path!r}, where SUBJECT/STUDY/SERIES/FILE must be.")
    return parts


def _files(root: Path, series: dict[str, Path], path: str) -> list[Path]:
    """The DICOM files of the series that `path` names; raises `ConfigError` where there are none."""
    subject, study, uid, _ = _parts(path)
    candidates = [base / subject / study / uid for base in (root, root / "CBIS-DDSM")]
    for folder in (*candidates, *([series[uid]] if uid in series else [])):
        if files := sorted(folder.glob("*.dcm")):
            return files
    raise ConfigError(f"No DICOM file of {path!r} lies under {root}; check the dataset's folder.")


def _mask_file(files: Iterable[Path]) -> Path:
    """The mask among the files of a series: the one that says so, else the one with the most pixels."""

    def rank(path: Path) -> tuple[bool, int]:
        header = _header(path)
        return "mask" in str(header.get("SeriesDescription", "")).lower(), int(header.Rows) * int(header.Columns)

    found = list(files)
    return found[0] if len(found) == 1 else max(found, key=rank)


def _header(path: Path) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError as error:
        raise ConfigError(f"The mask {path} is no DICOM file ({error}).") from error


def _bounding_box(mask: Path) -> tuple[float, float, float, float]:
    """x, y, width and height of the mask's non-zero pixels; raises `ConfigError` for an empty or unreadable mask."""
    try:
        pixels = pydicom.dcmread(mask).pixel_array > 0
    except (InvalidDicomError, AttributeError, ValueError, NotImplementedError) as error:
        raise ConfigError(f"The mask {mask} cannot be decoded ({error}).") from error
    columns, rows = np.flatnonzero(pixels.any(axis=0)), np.flatnonzero(pixels.any(axis=1))
    if not columns.size:
        raise ConfigError(f"The mask {mask} marks no pixel.")
    x, y = float(columns[0]), float(rows[0])
    return x, y, float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)
