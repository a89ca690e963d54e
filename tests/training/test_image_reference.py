"""The reference of the training images holds what was measured on them, each image once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from screening.acceptance.image_reference import LEVELS, SPACING, load_reference, save_reference
from screening.errors import ConfigError
from screening.exam import Laterality, View
from screening.imaging.geometry import Geometry
from training.cache import PreparedRecord
from training.datasets.record import Record
from training.image_reference import image_reference

PREPARED_MM = 0.5


def prepared(folder: Path, number: int, dataset: str, dtype: type, maker: str = "") -> PreparedRecord:
    """An image whose breast is `number` rows of 100 pixels at half brightness."""
    path = folder / f"{dataset}{number}.png"
    cv2.imwrite(str(path), np.ones((8, 8), dtype))
    record = Record(
        dataset=dataset,
        woman=str(number),
        exam=str(number),
        image=str(number),
        path=path,
        laterality=Laterality.LEFT,
        view=View.CC,
        malignant=False,
        lesions=None,
        pixel_spacing_mm=(0.1, 0.2),
        manufacturer=maker,
    )
    pixels = np.zeros((300, 100), np.uint16)
    pixels[:number] = 32768
    return PreparedRecord(record, pixels, np.zeros((300, 100), np.uint8), Geometry(0, 0, 100, 300, 100, 300, False))


def test_measures_bits_and_makers_are_those_of_the_images(tmp_path: Path) -> None:
    records = [prepared(tmp_path, 100 + number, "one", np.uint8, "Maker") for number in range(3)]
    records += [prepared(tmp_path, 200, "two", np.uint16)]
    reference = image_reference(records, PREPARED_MM)
    assert (reference.all.images, reference.by_set["one"].images, reference.by_set["two"].images) == (4, 3, 1)
    assert reference.all.bits == {8: 3, 16: 1}
    assert reference.all.manufacturers == {"Maker": 3, "unknown": 1}
    areas = reference.by_set["one"].quantiles["breast_area_cm2"]
    assert areas[len(LEVELS) // 2] == pytest.approx(101 * 100 * PREPARED_MM**2 / 100)
    assert reference.by_set["two"].quantiles["brightness"][0] == pytest.approx(0.5, abs=1e-4)
    assert reference.all.quantiles[SPACING][0] == pytest.approx(0.2)  # the larger of both directions


def test_reference_comes_back_from_its_file_and_is_the_same_each_time(tmp_path: Path) -> None:
    records = [prepared(tmp_path, 100, "one", np.uint8)]
    reference = image_reference(records, PREPARED_MM)
    first = save_reference(reference, tmp_path).read_bytes()
    assert load_reference(tmp_path) == reference
    assert save_reference(image_reference(records, PREPARED_MM), tmp_path).read_bytes() == first
    assert load_reference(tmp_path / "elsewhere") is None


def test_no_image_is_no_reference() -> None:
    with pytest.raises(ConfigError, match="no image could be prepared"):
        image_reference([], PREPARED_MM)
