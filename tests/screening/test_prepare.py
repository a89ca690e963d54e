"""From a displayed mammogram to the network's input: places, turns, intensities, and what may not change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from screening.errors import ImageError
from screening.imaging.prepare import Preparation, Prepared, prepare
from tests.support.phantoms import WHITE, synthetic_mammogram

ROWS, COLUMNS = 800, 640
SPACING = (0.3, 0.3)
PREPARATION = Preparation(0.5)
LABEL_CHANGE = 0.0005
"""Mean absolute change of prepared brightness, of 0 to 1, that things beside the breast may make."""
IMAGES = [("L", "CC"), ("R", "CC"), ("L", "MLO"), ("R", "MLO")]


@cache
def drawn(laterality: str = "L", view: str = "CC", **options: Any) -> npt.NDArray[np.uint16]:
    """A phantom, drawn once; not to be written to."""
    image = synthetic_mammogram(ROWS, COLUMNS, laterality, view, **options)
    image.flags.writeable = False
    return image


@cache
def prepared(laterality: str = "L", view: str = "CC", **options: Any) -> Prepared:
    """The phantom, prepared once."""
    return prepare(drawn(laterality, view, **options), SPACING, PREPARATION)


def on_source(found: Prepared) -> npt.NDArray[np.float32]:
    """Prepared pixels laid back over the whole source image, zero elsewhere."""
    geometry = found.geometry
    pixels = found.pixels[:: -1 if geometry.flip_y else 1, :: -1 if geometry.flip_x else 1]
    whole = np.zeros((ROWS, COLUMNS), np.float32)
    crop = np.s_[geometry.y0 : geometry.y0 + geometry.height, geometry.x0 : geometry.x0 + geometry.width]
    whole[crop] = cv2.resize(np.ascontiguousarray(pixels), (geometry.width, geometry.height))
    return whole


def change(one: Prepared, other: Prepared) -> float:
    """Mean absolute difference of prepared brightness over the breast, in source pixels."""
    first, second = on_source(one), on_source(other)
    return float(np.abs(first - second)[(first > 0) | (second > 0)].mean())


@pytest.mark.parametrize(("laterality", "view"), IMAGES)
def test_prepared_image_shows_the_breast_alone_with_its_chest_wall_on_the_left(laterality: str, view: str) -> None:
    found = prepared(laterality, view)
    geometry = found.geometry
    assert found.pixels.dtype == np.float32
    assert found.pixels.shape == found.inside.shape == (geometry.rows, geometry.columns)
    assert found.pixels.min() == 0
    assert found.pixels.max() == 1
    assert not found.pixels[~found.inside].any()
    assert found.inside[:, 0].mean() > found.inside[:, -1].mean() + 0.5
    assert geometry.flip_x == (laterality == "R")


@given(size=st.floats(0.3, 1.1), row_mm=st.floats(0.2, 0.4), column_mm=st.floats(0.2, 0.4))
@settings(max_examples=12, deadline=None)
def test_prepared_pixels_have_the_spacing_asked_for(size: float, row_mm: float, column_mm: float) -> None:
    found = prepare(drawn(), (row_mm, column_mm), Preparation(size))
    scale_x, scale_y = found.geometry.scale
    # A whole number of pixels is left over by at most half of one, in at least 32.
    assert scale_x * column_mm == pytest.approx(size, rel=0.5 / found.geometry.columns + 1e-9)
    assert scale_y * row_mm == pytest.approx(size, rel=0.5 / found.geometry.rows + 1e-9)


@given(image=st.sampled_from(IMAGES), upside_down=st.booleans(), x=st.floats(0.1, 0.35), y=st.floats(0.45, 0.7))
@example(image=("L", "MLO"), upside_down=False, x=1 / 3, y=0.6103015450752063)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bright_spot_appears_where_the_geometry_says(
    image: tuple[str, str], upside_down: bool, x: float, y: float
) -> None:
    # A brighter disc elsewhere sets the top of the scale, so that the spot is not clipped.
    disc = np.zeros((ROWS, COLUMNS), np.uint8)
    cv2.circle(disc, (COLUMNS - 90 if image[0] == "R" else 90, 270), 40, 1, cv2.FILLED)
    plain = np.where(disc > 0, np.uint16(60_000), drawn(*image))
    plain = plain[::-1] if upside_down else plain
    column, row = x * COLUMNS, y * ROWS
    column = COLUMNS - 1 - column if image[0] == "R" else column
    row = ROWS - 1 - row if upside_down else row
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    spot = np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / (2 * 4.0**2))
    marked = np.minimum(plain + 8000 * spot, WHITE).astype(np.uint16)
    before, after = (prepare(i, SPACING, PREPARATION, flip_y=upside_down) for i in (plain, marked))
    assert before.geometry == after.geometry
    gain = after.pixels - before.pixels
    gain = np.maximum(gain - 0.3 * gain.max(), 0)  # without a step, which would weigh whole pixels in or out
    at = np.mgrid[: gain.shape[0], : gain.shape[1]]
    seen = np.array([(at[1] * gain).sum(), (at[0] * gain).sum()]) / gain.sum()
    assert np.abs(seen - after.geometry.to_prepared([column, row])).max() < 0.1
    assert np.abs(after.geometry.to_source(seen) - [column, row]).max() < 0.5


@pytest.mark.parametrize("options", [{}, {"film": True}, {"label": "near"}])
@pytest.mark.parametrize("view", ["CC", "MLO"])
def test_mirrored_image_gives_the_same_pixels_and_the_mirrored_geometry(view: str, options: dict[str, Any]) -> None:
    one, other = prepared("L", view, **options), prepare(drawn("L", view, **options)[:, ::-1], SPACING, PREPARATION)
    geometry = one.geometry
    assert other.geometry == replace(geometry, x0=COLUMNS - geometry.x0 - geometry.width, flip_x=True)
    np.testing.assert_array_equal(other.inside, one.inside)
    np.testing.assert_allclose(other.pixels, one.pixels, atol=1e-3)


@pytest.mark.parametrize(("laterality", "view"), IMAGES)
def test_image_stored_upside_down_gives_the_same_pixels(laterality: str, view: str) -> None:
    turned = prepare(drawn(laterality, view)[::-1], SPACING, PREPARATION, flip_y=True)
    straight = prepared(laterality, view)
    assert turned.geometry.flip_y
    assert turned.pixels.shape == straight.pixels.shape
    np.testing.assert_allclose(turned.pixels, straight.pixels, atol=1e-3)


@pytest.mark.parametrize("label", ["far", "near"])
@pytest.mark.parametrize(("laterality", "view"), IMAGES)
@pytest.mark.parametrize("film", [False, True], ids=["digital", "film"])
def test_label_beside_the_breast_changes_next_to_nothing(label: str, laterality: str, view: str, film: bool) -> None:
    with_label = prepared(laterality, view, film=film, label=label)
    assert change(prepared(laterality, view, film=film), with_label) < LABEL_CHANGE


def test_text_and_scratches_outside_change_next_to_nothing() -> None:
    ink = np.zeros((ROWS, COLUMNS), np.uint8)
    for line, words in enumerate(("R CC", "28 kV 90 mAs", "2019")):
        cv2.putText(ink, words, (430, 60 + 34 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2)
    cv2.line(ink, (560, 700), (620, 790), 255, 2)
    written = np.where(ink > 0, np.uint16(WHITE), drawn())
    assert change(prepared(), prepare(written, SPACING, PREPARATION)) < LABEL_CHANGE


def test_film_border_and_grain_change_little() -> None:
    # The border covers a part of the breast in MLO, and the film's air lies under the breast, too.
    assert change(prepared(), prepared(film=True)) < 0.01


@pytest.mark.parametrize("options", [{}, {"label": "far"}])
@pytest.mark.parametrize(("laterality", "view"), IMAGES)
def test_negative_gives_the_same_pixels(laterality: str, view: str, options: dict[str, Any]) -> None:
    negative = prepare(WHITE - drawn(laterality, view, **options), SPACING, PREPARATION)
    assert negative.mask.inverted
    assert change(prepared(laterality, view, **options), negative) < 0.005


def test_eight_bits_give_nearly_what_sixteen_give() -> None:
    narrow = prepare((drawn() // 257).astype(np.uint8), SPACING, PREPARATION)
    assert narrow.pixels.shape == prepared().pixels.shape
    assert np.abs(narrow.pixels - prepared().pixels).mean() < 0.005


def test_scale_and_offset_of_the_grey_values_do_not_matter() -> None:
    dim = prepare((drawn() // 5 + 4000).astype(np.uint16), SPACING, PREPARATION)
    assert change(prepared(), dim) < 0.002


WINDOWS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "gamma 0.8": lambda g: g**0.8,
    "gamma 1.25": lambda g: g**1.25,
    "sigmoid": lambda g: 1 / (1 + np.exp(-6 * (g - 0.4))),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_other_vendors_window_moves_brightness_by_a_twentieth_at_most(window: str) -> None:
    shown = np.rint(WINDOWS[window](drawn(view="MLO") / WHITE) * WHITE).astype(np.uint16)
    found = prepare(shown, SPACING, PREPARATION)
    assert change(prepared(view="MLO"), found) < 0.05


def test_two_runs_give_the_same_bytes() -> None:
    assert prepare(drawn(), SPACING, PREPARATION).pixels.tobytes() == prepared().pixels.tobytes()


@pytest.mark.parametrize("spacing", [(3.0, 3.0), (0.3, 1.5), (2.0, 0.3), (1e9, 1e9)])
def test_spacing_that_makes_the_breast_a_giant_is_refused(spacing: tuple[float, float]) -> None:
    with pytest.raises(ImageError, match=r"the pixel spacing in the header .* must be wrong"):
        prepare(drawn(), spacing, PREPARATION)


@pytest.mark.parametrize("spacing", [(0.003, 0.003), (0.3, 0.01), (1e-9, 1e-9)])
def test_spacing_that_makes_the_breast_a_dwarf_is_refused(spacing: tuple[float, float]) -> None:
    with pytest.raises(ImageError, match=r"only .* the pixel spacing in the header .* must be wrong"):
        prepare(drawn(), spacing, PREPARATION)


@pytest.mark.parametrize("bad", [0.0, -0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("axis", [0, 1])
def test_spacing_that_is_no_length_is_refused(bad: float, axis: int) -> None:
    with pytest.raises(ImageError, match="correct the header or the site profile's default"):
        prepare(drawn(), (bad, 0.3) if axis == 0 else (0.3, bad), PREPARATION)


@pytest.mark.parametrize("value", [0, 1, WHITE])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (800, 640)])
def test_constant_image_is_refused(value: int, shape: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="no breast was found"):
        prepare(np.full(shape, value, np.uint16), SPACING, PREPARATION)


def test_breast_without_any_contrast_is_refused() -> None:
    flat = np.where(drawn() > 0, 40_000, 0).astype(np.uint16)
    with pytest.raises(ImageError, match="constant"):
        prepare(flat, SPACING, PREPARATION)


def test_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="rows × columns"):
        prepare(np.zeros((0, 0), np.uint16), SPACING, PREPARATION)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_tiny_image_is_prepared_or_refused_but_never_breaks(rows: int, columns: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, WHITE, (rows, columns), dtype=np.uint16)
    try:
        found = prepare(noise, (4.0, 4.0), PREPARATION)
    except ImageError as error:
        assert len(str(error)) > 20  # noqa: PT017 - either outcome is right
    else:
        assert np.isfinite(found.pixels).all()
