"""mini-MIAS: 322 digitised film mammograms (MLO), 1024 x 1024 at 200 µm (Suckling et al. 1994).

Two layouts are read: the publisher's (`Info.txt` and PGM images beside it) and one with the same facts in
`lesions.csv` and `images/*.png`. Lesions are circles. `Info.txt` counts y from the lower border, `lesions.csv` from the
upper one. A row with a severity but without coordinates (a scattered lesion) makes the locations of that whole image
unknown. Film 2k - 1 and 2k are the two breasts of woman k. `lesions.csv` says which side each shows. For `Info.txt`
the publisher's note 1 holds: left breasts have even numbers, right ones odd, and odd films do show the chest wall at
the right border, as right breasts hang. (A `lesions.csv` may say otherwise; its column is taken as it is.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from screening.errors import ConfigError
from screening.exam import Laterality, View
from training.datasets.record import Lesion, Record
from training.datasets.tables import first_file, laterality, number, read_table

SIZE = 1024
SPACING_MM = (0.2, 0.2)
IMAGE_COLUMNS = ("image", "woman", "laterality")
COLUMNS = (*IMAGE_COLUMNS, "view", "tissue", "abnormality", "severity", "x", "y", "radius")


@dataclass(frozen=True)
class _Row:
    """One abnormality (or the statement that there is none) of one film; `circle` is (column, row, radius), pixels."""

    image: str
    woman: str
    laterality: Laterality
    tissue: str
    abnormality: str
    severity: str
    circle: tuple[float, float, float] | None


def read_mias(root: Path, truth: bool = True) -> list[Record]:
    """Every image of the table under `root`, in the order of its name; raises `ConfigError`, see the module.

    Without `truth`, `lesions.csv` must hold no more than `IMAGE_COLUMNS`.
    """
    table = first_file(root, "lesions.csv", "Info.txt")
    if table.name == "Info.txt":
        return _records(_rows_of_info(table), root, ".pgm")
    return _records(_rows_of_csv(table, truth), root / "images", ".png")


def _rows_of_csv(path: Path, truth: bool) -> list[_Row]:
    rows = []
    for row in read_table(path, COLUMNS if truth else IMAGE_COLUMNS, optional=COLUMNS):
        if truth and row["abnormality"] != "NORM" and row["severity"] not in ("B", "M"):
            raise ConfigError(f"The table {path} has {row['severity']!r} in column severity, where B or M must be.")
        circle = None
        if row["x"] and row["y"] and row["radius"]:
            circle = number(row["x"], path, "x"), number(row["y"], path, "y"), number(row["radius"], path, "radius")
        side = laterality(row["laterality"], path)
        rows.append(_Row(row["image"], row["woman"], side, row["tissue"], row["abnormality"], row["severity"], circle))
    return rows


def _rows_of_info(path: Path) -> list[_Row]:
    """The lines `mdb001 G CIRC B 535 425 197`; other lines of the file are the publisher's explanations."""
    rows = []
    for line in path.read_text(encoding="latin-1").splitlines():
        words = line.split()
        if not words or not words[0].startswith("mdb"):
            continue
        if len(words) < 3 or (words[2] != "NORM" and len(words) < 4):
            raise ConfigError(f"The table {path} has the incomplete line {line.strip()!r}.")
        image, tissue, abnormality = words[:3]
        severity = "" if abnormality == "NORM" else words[3]
        circle = None
        if len(words) == 7 and all(word.isdigit() for word in words[4:]):
            x, y, radius = map(float, words[4:])
            circle = x, SIZE - y, radius
        film = int(image.removeprefix("mdb"))
        side = Laterality.RIGHT if film % 2 else Laterality.LEFT
        rows.append(_Row(image, str((film + 1) // 2), side, tissue, abnormality, severity, circle))
    return rows


def _records(rows: list[_Row], images: Path, suffix: str) -> list[Record]:
    films: dict[str, list[_Row]] = {}
    for row in rows:
        films.setdefault(row.image, []).append(row)
    return [_record(name, films[name], images / f"{name}{suffix}") for name in sorted(films)]


def _record(name: str, rows: list[_Row], path: Path) -> Record:
    abnormal = [row for row in rows if row.abnormality != "NORM"]
    unknown = any(row.circle is None for row in abnormal)
    return Record(
        dataset="mias",
        woman=rows[0].woman,
        exam=rows[0].woman,
        image=name,
        path=path,
        laterality=rows[0].laterality,
        view=View.MLO,
        malignant=any(row.severity == "M" for row in abnormal),
        lesions=None if unknown else tuple(_lesion(row, row.circle) for row in abnormal if row.circle),
        pixel_spacing_mm=SPACING_MM,
        medium="film",
        density_other=rows[0].tissue,
    )


def _lesion(row: _Row, circle: tuple[float, float, float]) -> Lesion:
    x, y, radius = circle
    return Lesion(
        x=x - radius,
        y=y - radius,
        width=2 * radius,
        height=2 * radius,
        shape="ellipse",
        malignant=row.severity == "M",
        kind=row.abnormality.lower(),
    )
