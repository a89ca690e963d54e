"""Reading a publisher's tables: every missing file, column or unreadable value is named in a `ConfigError`."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from screening.errors import ConfigError
from screening.exam import Laterality, View

Row = dict[str, str]


def require_file(path: Path, what: str = "file") -> Path:
    """`path` itself; raises `ConfigError` naming it where no such file is."""
    if not path.is_file():
        raise ConfigError(f"The {what} {path} is missing; check the dataset's folder.")
    return path


def require_columns(path: Path, present: Iterable[str], wanted: Iterable[str]) -> None:
    """Raises `ConfigError` naming the columns of `wanted` that the table `path` lacks."""
    missing = sorted(set(wanted) - set(present))
    if missing:
        raise ConfigError(f"The table {path} lacks the column {', '.join(missing)}; it must be the publisher's own.")


def first_file(folder: Path, *names: str) -> Path:
    """The first of the tables `names` that `folder` holds; raises `ConfigError` naming them all where it has none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"{folder} holds no table {' or '.join(names)}; check the dataset's folder.")


def read_table(path: Path, columns: Iterable[str], delimiter: str = ",", optional: Iterable[str] = ()) -> list[Row]:
    """The rows of a CSV file with a header line, as stripped text by column name; absent cells are empty text.

    So are the cells of `optional` columns that the file lacks. Raises `ConfigError` where the file is missing, is not
    UTF-8 text, or lacks one of `columns`.
    """
    require_file(path, "table")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter, restval="")
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            blank = dict.fromkeys(optional, "")
            rows = [blank | {name: (row[name] or "").strip() for name in header} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"The table {path} is no CSV text in UTF-8 ({error}).") from error
    require_columns(path, header, columns)
    return rows


def find_one(folder: Path, pattern: str, what: str) -> Path:
    """The one file of `folder` that matches the glob `pattern`; raises `ConfigError` where there is none or several."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ConfigError(f"{folder} must hold one {what} named {pattern}, but holds {len(found)}.")
    return found[0]


def number(text: str, path: Path, column: str) -> float:
    """`text` as a number; raises `ConfigError` naming table and column where it is none."""
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"The table {path} has {text!r} in column {column}, where a number must be.") from error


def optional_number(text: str, path: Path, column: str) -> float | None:
    """As `number`, but None for an empty cell."""
    return number(text, path, column) if text else None


def flag(text: str, path: Path, column: str) -> bool:
    """0/1 or true/false in any case; raises `ConfigError` for anything else."""
    values = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
    if text.lower() not in values:
        raise ConfigError(f"The table {path} has {text!r} in column {column}, where 0 or 1 must be.")
    return values[text.lower()]


def laterality(text: str, path: Path) -> Laterality:
    """Side from L/R or left/right in any case; raises `ConfigError` for anything else."""
    sides = {"L": Laterality.LEFT, "LEFT": Laterality.LEFT, "R": Laterality.RIGHT, "RIGHT": Laterality.RIGHT}
    if text.upper() not in sides:
        raise ConfigError(f"The table {path} has {text!r} for the side, where L or R must be.")
    return sides[text.upper()]


def view(text: str, path: Path) -> View:
    """View from its abbreviation in any case; raises `ConfigError` for one that is not known."""
    try:
        return View(text.upper())
    except ValueError as error:
        raise ConfigError(f"The table {path} has the view {text!r}, which is none of {', '.join(View)}.") from error


def breast_density(text: str) -> str | None:
    """BI-RADS density A to D from a letter, "density b" or 1 to 4; None for anything else (blank, not assessed)."""
    last = text.split()[-1].upper() if text.split() else ""
    letter = {"1": "A", "2": "B", "3": "C", "4": "D"}.get(last.removesuffix(".0"), last)
    return letter if letter in ("A", "B", "C", "D") else None
