"""Measure the training images for site acceptance: `python -m training.image_reference` writes a bundle's reference.

Run it whenever a bundle was trained on other data; it takes what the training's cache holds, and a minute.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image as PillowImage

from screening.acceptance.image_reference import SPACING, ImageGroup, ImageReference, image_group, save_reference
from screening.acceptance.measures import NAMES, measure
from screening.errors import ConfigError
from training.cache import PreparedRecord

_UNKNOWN = "unknown"
_CHUNK = 200


def image_reference(prepared: Iterable[PreparedRecord], prepared_mm: float) -> ImageReference:
    """The reference of images that a model learned from, by data set and of all; each image counts once.

    Raises `ConfigError` where there is no image.
    """
    rows = [_row(one, prepared_mm) for one in prepared]
    if not rows:
        raise ConfigError("data: no image could be prepared, so there is nothing to measure")
    names = sorted({row.dataset for row in rows})
    return ImageReference(
        prepared_mm=prepared_mm,
        all=_group(rows),
        by_set={name: _group([row for row in rows if row.dataset == name]) for name in names},
    )


@dataclass(frozen=True)
class _Row:
    """One image's measures, and what is known of it."""

    dataset: str
    manufacturer: str
    bits: int
    values: dict[str, float]


def _row(one: PreparedRecord, prepared_mm: float) -> _Row:
    record = one.record
    measured = asdict(measure(one.pixels.astype(np.float32) / np.float32(65535), prepared_mm))
    values = {SPACING: max(record.pixel_spacing_mm), **measured}
    return _Row(record.dataset, record.manufacturer or _UNKNOWN, _bits(record.path), values)


def _group(rows: Sequence[_Row]) -> ImageGroup:
    return image_group(
        {name: [row.values[name] for row in rows] for name in (SPACING, *NAMES)},
        Counter(row.bits for row in rows),
        Counter(row.manufacturer for row in rows),
    )


def _bits(path: Path) -> int:
    """Bits per pixel that the published file has room for; read from its header alone."""
    if path.suffix.lower() in (".dcm", ".dicom", ""):
        from screening.dicomfile import integer, open_dicom

        with open_dicom(path, ("BitsStored",)) as file:
            return integer(file.dataset, "BitsStored") or 16
    with PillowImage.open(path) as image:
        return 16 if re.search("16|^I", image.mode) else 8


def main(
    config: Annotated[str, typer.Option("--config", help="Recipe of the training.")] = "bundled",
    data_root: Annotated[Path, typer.Option("--data-root", help="Folder that data roots start from.")] = Path("."),
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Default: the bundle in the package.")] = None,
) -> None:
    """Measure a recipe's training images; write `training-images.json` beside the bundle that learned from them."""
    from screening.cli import one_sentence
    from screening.model.bundle import bundle_folder
    from training.cli import read_recipe
    from training.data import prepare_all, read_records

    with one_sentence():
        folder = bundle_folder(bundle)
        recipe = read_recipe(config, data_root)
        records = read_records(recipe)
        # A few at a time: all of them together take more than a gigabyte.
        chunks = (records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK))
        prepared = (one for chunk in chunks for one in prepare_all(chunk, recipe))
        reference = image_reference(prepared, recipe.pixel_spacing_mm)
        typer.echo(f"{reference.all.images} images measured: {save_reference(reference, folder)}")


if __name__ == "__main__":
    typer.run(main)
