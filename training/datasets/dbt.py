"""BCS-DBT (Duke): 22,000 tomosynthesis volumes with boxes of biopsied lesions (Buda et al. 2021).

Layout: `BCS-DBT-file-paths-SPLIT*.csv`, `BCS-DBT-labels-SPLIT*.csv` and `BCS-DBT-boxes-SPLIT*.csv` for the splits
train, validation and test (those that are there), and TCIA's DICOM tree, named by the column `classic_path` or
`descriptive_path`.

Boxes are in the frame where the breast hangs as its side demands (a left breast's chest wall at the left border). Some
volumes are stored turned by 180 degrees, and the header's laterality is not reliable, so the pixels decide (the
publisher's own rule: the brighter of the two outer columns is the chest wall), and boxes of turned volumes are turned
back into the stored pixels. Only volumes with boxes are opened for this.

Hologic reconstructs to 0.095 to 0.117 mm, by paddle; 0.1 mm is stated here, the headers know better. "Actionable"
volumes (recalled, not biopsied) have no boxes: not malignant, places unknown.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array

from screening.errors import ConfigError
from screening.exam import ImageKind, Laterality
from training.datasets.record import Lesion, Record
from training.datasets.tables import Row, find_one, flag, laterality, number, read_table, view

SPACING_MM = (0.1, 0.1)
SPLITS = ("train", "validation", "test")
KEY = ("PatientID", "StudyUID", "View")
PATH_COLUMNS = (*KEY, "descriptive_path", "classic_path")
LABEL_COLUMNS = (*KEY, "Normal", "Actionable", "Benign", "Cancer")
BOX_COLUMNS = (*KEY, "Slice", "X", "Y", "Width", "Height", "Class")


def read_dbt(root: Path) -> list[Record]:
    """Every volume of the tables under `root`, split by split; raises `ConfigError` naming what is missing."""
    splits = [split for split in SPLITS if list(root.glob(f"BCS-DBT-file-paths-{split}*.csv"))]
    if not splits:
        raise ConfigError(f"{root} holds no table BCS-DBT-file-paths-SPLIT*.csv; check the dataset's folder.")
    return [record for split in splits for record in _with_breast_truth(_read_split(root, split))]


def _read_split(root: Path, split: str) -> list[Record]:
    paths, labels, boxes = (
        find_one(root, f"BCS-DBT-{what}-{split}*.csv", "table") for what in ("file-paths", "labels", "boxes")
    )
    truth = {_key(row): row for row in read_table(labels, LABEL_COLUMNS)}
    found: dict[tuple[str, ...], list[Lesion]] = {}
    for row in read_table(boxes, BOX_COLUMNS):
        found.setdefault(_key(row), []).append(_lesion(row, boxes))
    records = []
    for row in read_table(paths, PATH_COLUMNS):
        if _key(row) not in truth:
            raise ConfigError(f"The table {labels} lacks {', '.join(_key(row))}, which {paths} has.")
        records.append(_record(root, split, paths, row, truth[_key(row)], labels, found.get(_key(row), [])))
    return records


def _record(root: Path, split: str, paths: Path, row: Row, truth: Row, labels: Path, lesions: list[Lesion]) -> Record:
    path = _locate(root, row)
    side = laterality(row["View"][:1], paths)
    malignant, actionable = flag(truth["Cancer"], labels, "Cancer"), flag(truth["Actionable"], labels, "Actionable")
    if lesions:
        lesions = _in_stored_pixels(lesions, path, side)
    return Record(
        dataset="bcs-dbt",
        woman=row["PatientID"],
        exam=row["StudyUID"],
        image=f"{row['PatientID']}_{row['StudyUID']}_{row['View']}",
        path=path,
        laterality=side,
        # A repeated view is numbered: lmlo2.
        view=view(row["View"][1:].rstrip("0123456789"), paths),
        malignant=malignant,
        lesions=tuple(lesions) if lesions or not (malignant or actionable) else None,
        pixel_spacing_mm=SPACING_MM,
        kind=ImageKind.DBT,
        manufacturer="Hologic",
        split=split,
    )


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


def _lesion(row: Row, table: Path) -> Lesion:
    x, y, width, height, frame = (number(row[name], table, name) for name in ("X", "Y", "Width", "Height", "Slice"))
    kind = row["Class"].lower()
    if kind not in ("benign", "cancer"):
        raise ConfigError(f"The table {table} has {row['Class']!r} in column Class, where benign or cancer must be.")
    return Lesion(x, y, width, height, malignant=kind == "cancer", kind=kind, frame=int(frame))


def _locate(root: Path, row: Row) -> Path:
    """The volume by either of its names; the classic one if neither is there."""
    candidates = [root / row[name].replace("\\", "/") for name in ("classic_path", "descriptive_path")]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _in_stored_pixels(lesions: list[Lesion], path: Path, side: Laterality) -> list[Lesion]:
    """The boxes in the pixels as stored: turned by 180 degrees if the volume is."""
    frame = _middle_frame(path)
    chest_wall = Laterality.RIGHT if frame[:, 0].sum() < frame[:, -1].sum() else Laterality.LEFT
    if chest_wall == side:
        return lesions
    rows, columns = frame.shape
    return [
        replace(lesion, x=columns - lesion.x - lesion.width, y=rows - lesion.y - lesion.height) for lesion in lesions
    ]


def _middle_frame(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    try:
        frames = int(pydicom.dcmread(path, stop_before_pixels=True).get("NumberOfFrames", 1))
        pixels = pixel_array(path, index=frames // 2)
    except (OSError, InvalidDicomError, AttributeError, ValueError, NotImplementedError) as error:
        raise ConfigError(f"The volume {path} cannot be decoded ({error}).") from error
    return np.asarray(pixels, dtype=np.int64)


def _with_breast_truth(records: list[Record]) -> list[Record]:
    """The labels are per view; a breast is malignant if one of its views is."""
    malignant = {record.breast for record in records if record.malignant}
    return [
        replace(record, malignant=True, lesions=record.lesions or None) if record.breast in malignant else record
        for record in records
    ]
