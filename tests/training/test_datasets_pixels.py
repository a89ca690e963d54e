"""Pixels come as stored, 8 or 16 bit, on a dark background; lesions become masks of the published image."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screening.errors import ImageError
from screening.exam import Laterality, View
from screening.imaging.mask import looks_inverted
from training.datasets import Lesion, Record
from training.datasets.pixels import invert, lesion_mask, read_pixels


def record_of(path: Path) -> Record:
    return Record("a", "w", "w", path.stem, path, Laterality.LEFT, View.CC, False, (), (0.1, 0.1))


def half_disc(radius: float, tissue: float, dtype: type[np.unsignedinteger], air: float = 0.0) -> np.ndarray:
    """A breast: half a disc at the left border that fades out at the skin, with some structure, in darkness."""
    rng = np.random.default_rng(int(radius * 100))
    rows, columns = np.mgrid[:200, :160]
    distance = np.hypot((rows - 100) / 100, columns / 160) / radius
    texture = cv2.GaussianBlur(rng.normal(size=(200, 160)), (0, 0), 4) * 0.8
    image = np.where(distance < 1, tissue * (0.5 + 0.5 * np.sqrt(np.clip(1 - distance, 0, 1))) + texture * 0.2, air)
    image += rng.normal(scale=0.003, size=image.shape)
    return (np.clip(image, 0, 1) * np.iinfo(dtype).max).astype(dtype)


@settings(max_examples=30, deadline=None)
@given(radius=st.floats(0.3, 1.05), tissue=st.floats(0.3, 0.9), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_a_negative_is_told_from_a_mammogram_at_any_size_of_breast_and_bit_depth(
    radius: float, tissue: float, dtype: type[np.unsignedinteger]
) -> None:
    image = half_disc(radius, tissue, dtype)
    assert not looks_inverted(image)
    assert looks_inverted(invert(image))


def test_an_implant_saturated_to_white_is_no_negative() -> None:
    image = half_disc(0.8, 0.6, np.uint8)
    cv2.circle(image, (30, 100), 40, 255, -1)
    assert not looks_inverted(image)


def test_a_blank_image_is_no_negative() -> None:
    image = np.zeros((300, 300), np.uint8)
    assert not looks_inverted(image)
    image[100, 100:110] = 2
    assert not looks_inverted(image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_inverting_twice_gives_the_image_back(dtype: type[np.unsignedinteger]) -> None:
    image = half_disc(0.7, 0.6, dtype) // 2 + 7
    assert invert(image).dtype == dtype
    np.testing.assert_array_equal(invert(invert(image)), image)


@pytest.mark.parametrize(("name", "dtype"), [("a.png", np.uint8), ("a.png", np.uint16), ("a.pgm", np.uint8)])
def test_pixels_keep_their_values_and_their_depth(tmp_path: Path, name: str, dtype: type[np.unsignedinteger]) -> None:
    image = half_disc(0.7, 0.6, dtype)
    cv2.imwrite(str(tmp_path / name), image)
    read = read_pixels(record_of(tmp_path / name))
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


def test_a_negative_is_read_on_a_dark_background(tmp_path: Path) -> None:
    image = half_disc(0.7, 0.6, np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), invert(image))
    np.testing.assert_array_equal(read_pixels(record_of(tmp_path / "a.png")), image)


def test_a_damaged_image_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_pixels(record_of(tmp_path / "a.png"))


def test_a_floating_point_image_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tiff"), np.zeros((8, 8), np.float32))
    with pytest.raises(ImageError, match="float32"):
        read_pixels(record_of(tmp_path / "a.tiff"))


def test_a_box_covers_its_pixels_exactly() -> None:
    mask = lesion_mask(Lesion(3, 2, 4, 5), (20, 30))
    assert mask.sum() == 20
    assert mask[2:7, 3:7].all()


def test_a_circle_has_the_area_and_the_centre_of_a_circle() -> None:
    mask = lesion_mask(Lesion(40, 20, 60, 60, "ellipse"), (120, 150))
    assert mask.sum() == pytest.approx(math.pi * 30**2, rel=0.01)
    rows, columns = np.nonzero(mask)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((70, 50))


def test_a_polygon_is_filled_within_a_pixel_of_its_outline() -> None:
    outline = ((10.0, 10.0), (40.0, 10.0), (40.0, 50.0), (10.0, 50.0))
    mask = lesion_mask(Lesion(10, 10, 30, 40, "polygon", outline=outline), (80, 80))
    assert mask[12:48, 12:38].all()
    assert not mask[:9].any()
    assert not mask[52:].any()


def test_of_a_mask_only_the_part_in_the_box_is_the_lesion(tmp_path: Path) -> None:
    labels = np.zeros((50, 60), np.uint8)
    labels[5:10, 5:12] = 255
    labels[30:40, 20:50] = 255
    cv2.imwrite(str(tmp_path / "m.png"), labels)
    mask = lesion_mask(Lesion(5, 5, 7, 5, "mask", mask_path=tmp_path / "m.png"), (50, 60))
    assert mask.sum() == 35
    with pytest.raises(ImageError, match=r"\(50, 60\)"):
        lesion_mask(Lesion(5, 5, 7, 5, "mask", mask_path=tmp_path / "m.png"), (50, 61))
