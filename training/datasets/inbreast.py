"""INbreast: 410 digital mammograms with exact contours (Moreira et al. 2012). For external evaluation only.

Layout: `INbreast.csv` (semicolons), `AllDICOMs/FILE_WOMAN_MG_SIDE_VIEW_ANON.dcm` and `AllXML/FILE.xml` (property lists
with the contours), in the folder itself or in its `INbreast Release 1.0/`.

The table states BI-RADS, not pathology: 1 and 2 count as not malignant, 4 to 6 as malignant, 3 as unknown. Contours do
not say which of an image's lesions the BI-RADS is for; all but single calcifications get the image's truth. Density is
the ACR's 4th edition, 1 to 4 for A to D. The Siemens detector has 0.07 mm pixels.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from screening.errors import ConfigError
from training.datasets.record import Lesion, Record
from training.datasets.tables import Row, breast_density, laterality, read_table, require_file, view

SPACING_MM = (0.07, 0.07)
COLUMNS = ("Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads")
_POINT = re.compile(r"\(\s*([-\d.eE+]+)\s*,\s*([-\d.eE+]+)\s*\)")


def read_inbreast(root: Path) -> list[Record]:
    """Every image of the table under `root`, in its order; raises `ConfigError` naming what is missing."""
    release = root / "INbreast Release 1.0"
    folder = release if release.is_dir() else root
    table = require_file(folder / "INbreast.csv", "table")
    dicoms = {path.name.split("_")[0]: path for path in sorted((folder / "AllDICOMs").glob("*.dcm"))}
    rows = [row for row in read_table(table, COLUMNS, delimiter=";") if row["File Name"]]
    return [_record(row, table, dicoms, folder / "AllXML" / f"{row['File Name']}.xml") for row in rows]


def _record(row: Row, table: Path, dicoms: dict[str, Path], contours: Path) -> Record:
    name = row["File Name"]
    if name not in dicoms:
        raise ConfigError(f"The image {name} of {table} is not in AllDICOMs; check the dataset's folder.")
    path = dicoms[name]
    words = path.stem.split("_")
    if len(words) < 2:
        raise ConfigError(f"The file {path} does not name its woman, as FILE_WOMAN_MG_SIDE_VIEW_ANON.dcm does.")
    malignant = _malignant(row["Bi-Rads"], table)
    # Only images without any finding (BI-RADS 1) have no file of contours.
    bare = row["Bi-Rads"] == "1" and not contours.is_file()
    regions = [] if bare else _regions(require_file(contours, "file of contours"))
    return Record(
        dataset="inbreast",
        woman=words[1],
        exam=f"{words[1]}_{row['Acquisition date']}",
        image=name,
        path=path,
        laterality=laterality(row["Laterality"], table),
        view=view(row["View"], table),
        malignant=malignant,
        lesions=tuple(_lesion(kind, points, malignant) for kind, points in regions),
        pixel_spacing_mm=SPACING_MM,
        density=breast_density(row["ACR"]),
        manufacturer="Siemens",
    )


def _malignant(birads: str, table: Path) -> bool | None:
    truth = {"1": False, "2": False, "3": None, "4": True, "5": True, "6": True}
    if birads[:1] not in truth:
        raise ConfigError(f"The table {table} has {birads!r} for Bi-Rads, where 1 to 6 must be.")
    return truth[birads[0]]


def _regions(path: Path) -> list[tuple[str, list[tuple[float, float]]]]:
    """Name and points (column, row) of each region; regions without points are left out."""
    try:
        with path.open("rb") as stream:
            images: list[dict[str, Any]] = plistlib.load(stream)["Images"]
        regions = [region for image in images for region in image["ROIs"]]
        named = [(str(region.get("Name", "")), _points(region["Point_px"])) for region in regions]
    except (plistlib.InvalidFileException, ExpatError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"The contours {path} are no property list of INbreast ({error}).") from error
    return [(name, points) for name, points in named if points]


def _points(texts: Iterable[str]) -> list[tuple[float, float]]:
    points = []
    for text in texts:
        match = _POINT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no point")
        points.append((float(match.group(1)), float(match.group(2))))
    return points


def _lesion(name: str, points: list[tuple[float, float]], malignant: bool | None) -> Lesion:
    """One contour; a single point becomes a box of one pixel around it."""
    kind = name.lower().strip()
    single = kind.startswith("calcification") or kind.startswith("point")
    truth = None if single and malignant else malignant
    if len(points) < 3:
        x, y = points[0]
        return Lesion(x - 0.5, y - 0.5, 1.0, 1.0, malignant=truth, kind=kind)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return Lesion(min(xs), min(ys), width, height, "polygon", outline=tuple(points), malignant=truth, kind=kind)
