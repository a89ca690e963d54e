"""What simulated and real images have in common, and what lesions teach: on images whose likeness is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.lesion_transfer import FOLDS, Patch, fitted, patches, transfer
from benchmarks.realism import Look, lines, look, overlap, sample, table
from screening.errors import ConfigError
from screening.exam import ImageKind, Laterality, View
from screening.imaging.geometry import Geometry
from tests.support.learning import record
from training.cache import PreparedRecord
from training.datasets.record import Lesion

MM = 0.5
ROWS, COLUMNS = 240, 160


def prepared(
    number: int, side: Laterality = Laterality.LEFT, spot: tuple[int, int] | None = None, **facts: object
) -> PreparedRecord:
    """A breast of 120 x 80 mm with noise; a lesion of 8 mm at the (row, column) `spot`."""
    rng = np.random.default_rng([number, side is Laterality.LEFT])
    pixels = 20_000 + 4_000 * rng.random((ROWS, COLUMNS))
    labels = np.zeros((ROWS, COLUMNS), np.uint8)
    lesions: tuple[Lesion, ...] = ()
    if spot is not None:
        y, x = np.mgrid[:ROWS, :COLUMNS]
        area = (y - spot[0]) ** 2 + (x - spot[1]) ** 2 <= 64
        pixels[area] += 20_000
        labels[area] = 1
        lesions = (Lesion(spot[1] - 8, spot[0] - 8, 16, 16, malignant=True, kind="spic"),)
    known = {"woman": str(number), "exam": str(number), "laterality": side, "lesions": lesions, "view": View.MLO}
    geometry = Geometry(0, 0, COLUMNS, ROWS, COLUMNS, ROWS)
    return PreparedRecord(record(number, **known | facts), pixels.astype(np.uint16), labels, geometry)


def looks(dataset: str, number: int, mean: float, seed: int) -> list[Look]:
    """Images of one grey level and of areas about 150 cm²."""
    rng = np.random.default_rng(seed)
    made = []
    for woman in range(number):
        greys = np.zeros(32)
        greys[int(32 * mean)] = 1
        made.append(Look(dataset, str(woman), "CC", 3.0 + 0.1 * rng.standard_normal(), 15_000.0, greys))
    return made


def test_area_and_grey_values_are_those_of_the_breast() -> None:
    one = prepared(1)
    air = one.pixels.copy()
    air[:, 100:] = 0
    found = look(replace(one, pixels=air), MM)
    assert found.area_mm2 == ROWS * 100 * MM**2
    assert found.greys.sum() == pytest.approx(1)
    centres = (np.arange(32) + 0.5) / 32
    assert found.greys @ centres == pytest.approx(22_000 / 65535, abs=0.02)
    assert found.exponent is not None
    assert abs(found.exponent) < 0.7  # white noise, of which the division by the pixel's blur lifts the end


def test_equal_sets_overlap_wholly_and_disjoint_ones_not_at_all() -> None:
    found = [*looks("simulated", 20, 0.2, 1), *looks("rsna", 20, 0.2, 2), *looks("cesm", 20, 0.8, 3)]
    greys = {line.of: line.interval for line in lines(found) if line.figure == "overlap of grey values"}
    points = {of: made.point for of, made in greys.items() if made is not None}
    assert points == pytest.approx({"simulated and rsna, CC": 1, "simulated and cesm, CC": 0, "rsna and cesm, CC": 0})


def test_overlap_does_not_depend_on_how_many_images_a_set_has() -> None:
    assert overlap(np.array([2.0, 2.0]), np.array([30.0, 10.0])) == pytest.approx(0.75)


def test_exponents_stand_with_how_many_images_are_in_the_published_range() -> None:
    inside, outside = looks("mias", 10, 0.5, 4), [replace(one, exponent=4.0) for one in looks("mias", 10, 0.5, 5)]
    outside = [replace(one, woman=f"other {one.woman}") for one in outside]
    (line,) = (one for one in lines([*inside, *outside]) if one.figure == "exponent")
    assert line.interval is not None
    assert line.interval.point == pytest.approx(3.5, abs=0.1)
    assert line.note.startswith("50%")
    assert line.n == "20 images of 20 women"


def test_sets_of_few_images_and_images_without_room_are_left_out() -> None:
    few = looks("rsna", 9, 0.5, 6)
    roomless = [replace(one, exponent=None) for one in looks("mias", 12, 0.5, 7)]
    found = list(lines([*few, *roomless]))
    assert [line.of for line in found] == ["mias CC"]
    assert found[0].interval is None
    assert found[0].reason in table(found)


def test_sample_takes_all_2d_images_of_some_women() -> None:
    records = [record(n, image=f"{n}.{k}") for n in range(20) for k in range(2)]
    volume = record(3, image="volume", kind=ImageKind.DBT)
    drawn = sample([*records, volume], 5)
    assert len({one.woman for one in drawn}) == 5
    assert len(drawn) == 10
    assert drawn == sample([*records, volume], 5)


def test_normal_patch_is_of_the_same_place_in_the_other_breast() -> None:
    left = prepared(1, spot=(100, 80))
    right = prepared(1, Laterality.RIGHT)
    mark = right.pixels.copy()
    mark[100, 80] = 65535
    lesion, normal = patches([left, replace(right, pixels=mark)], MM)
    assert (lesion.lesion, lesion.malignant) == (True, True)
    assert not normal.lesion
    assert normal.pixels.shape == (64, 64)
    assert np.unravel_index(normal.pixels.argmax(), (64, 64)) == (32, 32)


def test_other_breast_with_a_lesion_there_gives_no_normal_patch() -> None:
    found = list(patches([prepared(1, spot=(100, 80)), prepared(1, Laterality.RIGHT, (110, 90))], MM))
    assert [one.lesion for one in found] == [True, True]


@pytest.mark.parametrize("kind", ["misplaced", "vascular calcification"])
def test_lesions_that_are_no_lesions_to_learn_are_left_out(kind: str) -> None:
    one = prepared(1, spot=(100, 80))
    lesions = tuple(replace(lesion, kind=kind) for lesion in one.record.lesions or ())
    assert not list(patches([replace(one, record=replace(one.record, lesions=lesions))], MM))


def test_patches_have_one_brightness_and_contrast_whatever_the_image_s() -> None:
    one = prepared(1, spot=(100, 80))
    (dark,) = patches([replace(one, pixels=one.pixels // 2)], MM)
    (bright,) = patches([one], MM)
    np.testing.assert_allclose(dark.pixels, bright.pixels, atol=2e-3)


def test_lesions_that_look_alike_are_learned_from_one_set_for_the_other() -> None:
    found: dict[str, list[Patch]] = {}
    for name, first in (("simulated", 0), ("mias", 100)):
        images = []
        for number in range(first, first + 12):
            spot = (70 + 5 * (number % 12), 80)
            images += [prepared(number, spot=spot), prepared(number, Laterality.RIGHT)]
        found[name] = list(patches(images, MM))
    result = list(transfer(found["simulated"], found["mias"]))
    assert result[0].interval is not None
    assert result[0].interval.point > 0.95
    assert result[0].note == "beats chance"
    assert result[0].n == "12 lesions and 12 normal patches of 12 women"
    assert len(result) == 4


def test_too_few_women_to_learn_from_are_refused() -> None:
    patch = Patch("w", True, True, np.zeros((64, 64), np.float32))
    women = np.array([f"{n}" for n in range(FOLDS - 1)])
    with pytest.raises(ConfigError, match="at least 5 women"):
        fitted(np.zeros((len(women), 3), np.float32), np.array([patch.lesion] * len(women)), women)
