"""Finding the breast: on drawn mammograms, whose truth is known, and on real ones where the shared data are at hand."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from screening.errors import ImageError
from screening.imaging.mask import BreastMask, Side, find_breast, looks_inverted
from tests.support.phantoms import WHITE, Outline, breast_mask, synthetic_mammogram

ROWS, COLUMNS = 480, 384
DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared development data are not at hand")

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "label far": {"label": "far"},
    "label near": {"label": "near"},
    "film": {"film": True},
    "film with label": {"film": True, "label": "near"},
    "noisy": {"noise": 1500.0},
}


def in_source(found: BreastMask, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask at the size of its source image."""
    return cv2.resize(found.mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


def overlap(found: BreastMask, truth: npt.NDArray[np.bool_]) -> float:
    """Intersection over union."""
    mask = in_source(found, truth.shape)
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("view", ["CC", "MLO"])
@pytest.mark.parametrize("laterality", ["L", "R"])
def test_breast_and_chest_wall_are_found_whatever_lies_beside(variant: str, view: str, laterality: str) -> None:
    image = synthetic_mammogram(ROWS, COLUMNS, laterality, view, **VARIANTS[variant])
    found = find_breast(image)
    assert overlap(found, breast_mask(ROWS, COLUMNS, laterality, view)) > 0.95
    assert found.chest_wall is (Side.LEFT if laterality == "L" else Side.RIGHT)
    assert found.side_confidence > 0.5
    assert not found.inverted


@pytest.mark.parametrize("shape", [(160, 128), (1000, 640), (300, 450)])
def test_scale_and_box_are_those_of_the_source(shape: tuple[int, int]) -> None:
    found = find_breast(synthetic_mammogram(*shape))
    truth = breast_mask(*shape)
    assert found.mask.shape[1] * found.scale[0] == pytest.approx(shape[1])
    assert found.mask.shape[0] * found.scale[1] == pytest.approx(shape[0])
    x0, y0, x1, y1 = found.box
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    expected = [0, rows[0], columns[-1] + 1, rows[-1] + 1]
    assert np.abs(np.subtract([x0, y0, x1, y1], expected)).max() <= 0.03 * max(shape)


@pytest.mark.parametrize("variant", ["plain", "label far", "label near", "noisy"])
def test_white_background_is_inverted_first(variant: str) -> None:
    image = synthetic_mammogram(ROWS, COLUMNS, view="MLO", **VARIANTS[variant])
    found = find_breast(WHITE - image)
    assert found.inverted
    assert overlap(found, breast_mask(ROWS, COLUMNS, view="MLO")) > 0.95


@pytest.mark.parametrize("share", [0.0, 0.05, 0.15])
def test_white_film_border_is_no_white_background(share: float) -> None:
    image = synthetic_mammogram(ROWS, COLUMNS)
    image[:, COLUMNS - round(share * COLUMNS) :] = WHITE
    assert not looks_inverted(image)
    assert looks_inverted(WHITE - synthetic_mammogram(ROWS, COLUMNS))


def test_large_implant_is_no_white_background() -> None:
    image = synthetic_mammogram(ROWS, COLUMNS, outline=Outline(0.5, 0.49, 0.9, 0.0))
    cv2.ellipse(image, (0, ROWS // 2), (round(0.75 * COLUMNS), round(0.42 * ROWS)), 0, 0, 360, WHITE, cv2.FILLED)
    assert not find_breast(image).inverted


def test_breast_that_fills_the_image_is_found_but_not_its_side() -> None:
    image = synthetic_mammogram(ROWS, COLUMNS, outline=Outline(0.5, 0.75, 1.3, 0.0))
    found = find_breast(image)
    assert not found.inverted
    assert found.mask.mean() > 0.9
    assert found.side_confidence < 0.3


def test_fat_as_dark_as_air_leaves_no_bite_at_the_chest_wall() -> None:
    image = synthetic_mammogram(ROWS, COLUMNS)
    image[200:280, :60] = 0
    found = find_breast(image)
    assert in_source(found, image.shape)[200:280, :60].mean() > 0.99


@pytest.mark.parametrize("laterality", ["L", "R"])
def test_tissue_along_the_whole_chest_wall_is_no_film_border(laterality: str) -> None:
    image = synthetic_mammogram(ROWS, COLUMNS, laterality, outline=Outline(0.5, 0.487, 0.55, 0.0))
    mask = in_source(find_breast(image), image.shape)
    assert mask[:, 2 if laterality == "L" else -3].mean() > 0.95


@pytest.mark.parametrize("view", ["CC", "MLO"])
def test_air_of_a_padded_film_is_no_breast(view: str) -> None:
    image = np.zeros((ROWS, COLUMNS + 200), np.uint16)
    image[:, 60 : 60 + COLUMNS] = np.maximum(synthetic_mammogram(ROWS, COLUMNS, view=view), 6_000)
    truth = np.zeros(image.shape, np.bool_)
    truth[:, 60 : 60 + COLUMNS] = breast_mask(ROWS, COLUMNS, view=view)
    assert overlap(find_breast(image), truth) > 0.95


def test_hole_in_the_breast_is_filled() -> None:
    image = synthetic_mammogram(ROWS, COLUMNS)
    cv2.circle(image, (90, 240), 30, 0, cv2.FILLED)
    assert overlap(find_breast(image), breast_mask(ROWS, COLUMNS)) > 0.95


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((400, 300), np.uint16),
        np.full((400, 300), WHITE, np.uint16),
        np.full((1, 1), 7, np.uint16),
        np.full((1, 4000), 7, np.uint8),
        np.zeros((400, 300), np.uint8),
    ],
    ids=["blank", "saturated", "one pixel", "one row", "blank 8 bit"],
)
def test_image_without_a_breast_is_refused(pixels: npt.NDArray[np.integer]) -> None:
    with pytest.raises(ImageError, match="no breast was found"):
        find_breast(pixels)


@pytest.mark.parametrize("shape", [(0, 0), (0, 300), (300, 0), (300, 200, 3), (300,)])
def test_array_that_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="rows × columns"):
        find_breast(np.zeros(shape, np.uint16))


def test_label_alone_is_no_breast() -> None:
    image = np.zeros((ROWS, COLUMNS), np.uint16)
    image[20:40, 300:340] = WHITE
    with pytest.raises(ImageError, match="no breast was found"):
        find_breast(image)


def rows_of(name: str, table: str) -> Iterator[dict[str, str]]:
    with (DATA / name / table).open(newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(stream)


def grey(path: Path) -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image.astype(np.uint8, copy=False)


@needs_data
def test_mask_covers_the_lesions_of_contrast_mammograms() -> None:
    names = sorted({row["image"] for row in rows_of("cesm", "lesions.csv")})[::3]
    covered = marked = 0
    for name in names:
        lesion = grey(DATA / "cesm" / "masks" / f"{name}.png") > 0
        image = grey(DATA / "cesm" / "images" / f"{name}.png")
        covered += int((in_source(find_breast(image), image.shape) & lesion).sum())
        marked += int(lesion.sum())
    assert covered / marked > 0.99


@needs_data
def test_mask_covers_the_centres_of_all_lesions_on_film() -> None:
    lesions = [row for row in rows_of("mias", "lesions.csv") if row["x"] and row["radius"]]
    assert lesions
    for row in lesions:
        image = grey(DATA / "mias" / "images" / f"{row['image']}.png")
        mask = in_source(find_breast(image), image.shape)
        assert mask[min(1023, int(float(row["y"]))), min(1023, int(float(row["x"])))], row["image"]


@needs_data
def test_chest_wall_is_on_the_side_that_the_labels_say_in_digital_images() -> None:
    # Machine 49 wrote many of its images mirrored.
    rows = [row for row in rows_of("rsna", "labels.csv") if row["machine_id"] != "49"][::8]
    right = []
    for row in rows:
        image = grey(DATA / "rsna" / "images" / f"{row['patient_id']}_{row['image_id']}.jpg")
        if np.ptp(image) > 10:  # one is blank
            right.append((find_breast(image).chest_wall is Side.LEFT) == (row["laterality"] == "L"))
    assert len(right) > 150
    assert np.mean(right) >= 0.99


@needs_data
def test_chest_wall_is_on_one_side_for_either_breast_on_film() -> None:
    # This set hangs its films with the chest walls outwards.
    right = []
    for row in list(rows_of("mias", "lesions.csv"))[::3]:
        found = find_breast(grey(DATA / "mias" / "images" / f"{row['image']}.png"))
        if found.side_confidence >= 0.3:
            right.append((found.chest_wall is Side.RIGHT) == (row["laterality"] == "L"))
    assert len(right) > 40
    assert np.mean(right) >= 0.99


@needs_data
def test_all_images_stored_as_negatives_are_recognised() -> None:
    # Machine 29 stores negatives in most of its images, machine 48 in none.
    rows = [row for row in rows_of("rsna", "labels.csv") if row["machine_id"] in ("29", "48", "210")][::9]
    for row in rows:
        image = grey(DATA / "rsna" / "images" / f"{row['patient_id']}_{row['image_id']}.jpg")
        air = np.median(np.concatenate([image[10:60, 300:340].ravel(), image[-60:-10, 300:340].ravel()]))
        if air > 250 or air < 5:
            assert looks_inverted(image) == (air > 250), row["image_id"]
