"""Prepared copies: made once, made anew when anything changes, and lesions drawn where they are."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screening.exam import Laterality
from screening.imaging.geometry import Geometry
from screening.imaging.prepare import Preparation, prepare
from tests.support.learning import record
from tests.support.phantoms import spacing_mm, synthetic_mammogram
from training.cache import lesion_labels, prepare_records
from training.datasets.pixels import read_pixels
from training.datasets.record import Lesion, Record

PREPARATION = Preparation(1.5)
SPACING = spacing_mm(240)


def drawn(folder: Path, number: int, side: str = "L") -> Record:
    path = folder / f"{number}.png"
    cv2.imwrite(str(path), synthetic_mammogram(240, 180, side, "MLO", seed=number))
    return record(number, path=path, laterality=Laterality(side), pixel_spacing_mm=SPACING)


def copies(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_copy_is_the_prepared_image_and_is_made_once(tmp_path: Path) -> None:
    records = [drawn(tmp_path, 1), drawn(tmp_path, 2, "R")]
    cache = tmp_path / "cache"
    first, problems = prepare_records(records, PREPARATION, cache)
    made = copies(cache)
    second, _ = prepare_records(records, PREPARATION, cache)
    assert not problems
    assert copies(cache) == made
    assert len(made) == 2
    for given_record, a, b in zip(records, first, second, strict=True):
        expected = prepare(read_pixels(given_record), SPACING, PREPARATION)
        assert a.record is given_record
        assert a.geometry == expected.geometry
        assert a.pixels == pytest.approx(expected.pixels * 65535, abs=0.51)
        assert np.array_equal(a.pixels, b.pixels)


def test_a_changed_image_spacing_or_lesion_makes_a_new_copy(tmp_path: Path) -> None:
    one = drawn(tmp_path, 1)
    cache = tmp_path / "cache"
    prepare_records([one], PREPARATION, cache)
    changed = [
        replace(one, pixel_spacing_mm=(1.1, 1.1)),
        replace(one, lesions=(Lesion(20, 110, 12, 12, malignant=True),)),
    ]
    for count, other in enumerate(changed, start=2):
        prepare_records([other], PREPARATION, cache)
        assert len(copies(cache)) == count
    prepare_records([one], Preparation(2.0), cache)
    assert len(copies(cache)) == 4
    later = one.path.stat().st_mtime_ns + 1_000_000_000
    os.utime(one.path, ns=(later, later))
    prepare_records([one], PREPARATION, cache)
    assert len(copies(cache)) == 5


def test_a_redrawn_mask_makes_a_new_copy(tmp_path: Path) -> None:
    one, mask = drawn(tmp_path, 1), np.zeros((240, 180), np.uint8)
    mask[100:130, 20:60] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    one = replace(one, lesions=(Lesion(20, 100, 40, 30, "mask", mask_path=tmp_path / "mask.png", malignant=True),))
    (first,), _ = prepare_records([one], PREPARATION, tmp_path / "cache")
    mask[100:130, 40:60] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    (second,), _ = prepare_records([one], PREPARATION, tmp_path / "cache")
    assert 0 < np.count_nonzero(second.lesions) < np.count_nonzero(first.lesions)


def test_an_image_that_cannot_be_prepared_is_named_and_left_out(tmp_path: Path) -> None:
    good, damaged = drawn(tmp_path, 1), drawn(tmp_path, 2)
    damaged.path.write_bytes(damaged.path.read_bytes()[:100])
    empty = drawn(tmp_path, 3)
    cv2.imwrite(str(empty.path), np.zeros((240, 180), np.uint8))
    prepared, problems = prepare_records([damaged, good, empty], PREPARATION, tmp_path / "cache")
    assert [one.record for one in prepared] == [good]
    assert [problem.split(":")[0] for problem in problems] == ["rsna image2", "rsna image3"]
    assert len(copies(tmp_path / "cache")) == 1


def test_a_half_written_copy_is_not_taken(tmp_path: Path) -> None:
    one = drawn(tmp_path, 1)
    cache = tmp_path / "cache"
    (whole,), _ = prepare_records([one], PREPARATION, cache)
    (copy,) = cache.iterdir()
    copy.with_suffix(".4711.part").write_bytes(copy.read_bytes()[:50])
    copy.unlink()
    (again,), problems = prepare_records([one], PREPARATION, cache)
    assert not problems
    assert np.array_equal(whole.pixels, again.pixels)


@given(x=st.floats(10, 60), y=st.floats(60, 150), side=st.floats(2, 30), flip=st.booleans(), shrink=st.floats(1.0, 4.0))
@settings(max_examples=100, deadline=None)
def test_a_lesions_label_lies_where_the_lesion_is(x: float, y: float, side: float, flip: bool, shrink: float) -> None:
    geometry = Geometry(5, 20, 150, 200, round(150 / shrink), round(200 / shrink), flip_x=flip)
    labels = lesion_labels((Lesion(x, y, side, side, "ellipse", malignant=True),), (240, 180), geometry)
    rows, columns = np.nonzero(labels == 1)
    assert len(rows) > 0, "even a lesion smaller than a pixel is drawn"
    centre = geometry.to_prepared([x + side / 2 - 0.5, y + side / 2 - 0.5])
    assert np.hypot(columns.mean() - centre[0], rows.mean() - centre[1]) < 1.0
    reach = side / 2 / shrink + 1.5
    assert np.hypot(columns - centre[0], rows - centre[1]).max() <= reach


def test_a_small_lesion_on_a_large_one_is_not_covered() -> None:
    geometry = Geometry(0, 0, 180, 240, 90, 120)
    small, large = Lesion(60, 60, 8, 8), Lesion(30, 30, 80, 80)
    for lesions in ((small, large), (large, small)):
        labels = lesion_labels(lesions, (240, 180), geometry)
        assert np.count_nonzero(labels == 1 + lesions.index(small)) == 16
