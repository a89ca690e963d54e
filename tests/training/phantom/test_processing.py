"""Presentation: black air, a visible margin, grey within the bits, and three looks that differ."""

from typing import Literal, get_args

import numpy as np
import pytest

from tests.support.handmade_breasts import FAT, handmade_breast
from training.phantom.model import Float32Array, Style
from training.phantom.processing import LOOKS, breast_mask, presentation
from training.phantom.styles import STYLES

Processing = Literal["logarithmic", "equalised", "sigmoid"]
PIXEL = 0.4


def absorbed(**drawn: int) -> Float32Array:
    return handmade_breast(**drawn).attenuation.sum(axis=0)


@pytest.mark.parametrize("style", STYLES)
def test_air_is_black_and_tissue_is_not_within_the_bits(style: Style) -> None:
    image = absorbed()
    pixels = presentation(image, style.processing, PIXEL).grey(image, style.bits)
    breast = breast_mask(image, PIXEL)
    assert pixels.dtype == np.uint16
    assert not pixels[~breast].any()
    assert pixels[breast].min() >= 1
    assert 0.8 * 2**style.bits < pixels.max() < 2**style.bits


@pytest.mark.parametrize("processing", LOOKS)
def test_glandular_tissue_is_brighter_than_fat(processing: Processing) -> None:
    breast = handmade_breast()
    image = breast.attenuation.sum(axis=0)
    shown = presentation(image, processing, PIXEL)
    pixels = shown.grey(image, 12)
    inner = image > 0.9 * FAT * len(breast.attenuation)
    gland = breast.glandular.sum(axis=0)
    assert pixels[inner & (gland > 8)].mean() > pixels[inner & (gland == 0)].mean() + 400


@pytest.mark.parametrize("processing", LOOKS)
def test_the_margin_is_raised_towards_the_middle(processing: Processing) -> None:
    image = absorbed(blobs=0)
    thin = (image > 0.5 * image.max()) & (image < 0.75 * image.max())
    shown = presentation(image, processing, PIXEL)
    middle = float(np.median(image[image > 0.98 * image.max()]))
    before, after = middle - image[thin].mean(), middle - (image + shown.raised)[thin].mean()
    assert abs(after) < 0.5 * before


@pytest.mark.parametrize("processing", LOOKS)
def test_the_curve_never_turns_dense_tissue_darker_and_never_ends(processing: Processing) -> None:
    grey = LOOKS[processing].curve(np.linspace(-3, 6, 500, dtype=np.float32))
    assert (np.diff(grey) >= 0).all()
    assert (np.diff(grey[150:300]) > 0).all()
    assert grey.min() >= 0
    assert grey.max() <= 1


def test_looks_differ_in_the_grey_of_fat() -> None:
    image = absorbed()
    fat = (image > 0.98 * FAT * 40) & (image < 1.02 * FAT * 40)
    greys = sorted(float(presentation(image, look, PIXEL).grey(image, 12)[fat].mean()) for look in get_args(Processing))
    assert min(np.diff(greys)) > 0.05 * 4096


def test_a_breast_of_fat_is_not_stretched_until_its_noise_shows() -> None:
    noise = np.random.default_rng(0).normal(0, 0.008, (300, 140)).astype(np.float32)
    clean = absorbed(blobs=0)
    shown = presentation(clean + noise, "logarithmic", PIXEL)
    added = shown.grey(clean + noise, 14).astype(float) - shown.grey(clean, 14)
    assert added[120:180, 20:80].std() < 0.04 * 2**14


def test_a_speck_in_the_air_is_no_breast_and_a_hole_is_filled() -> None:
    image = absorbed()
    whole = breast_mask(image, PIXEL)
    marked = image.copy()
    marked[5:9, 130:134] = 3.0
    marked[150:160, 40:50] = 0.0
    assert (breast_mask(marked, PIXEL) == whole).all()


@pytest.mark.parametrize("processing", LOOKS)
def test_a_nipple_is_raised_like_the_margin_and_does_not_vanish_in_the_air(processing: Processing) -> None:
    image = absorbed(blobs=0)
    tip = int(np.flatnonzero(image[150])[-1])
    nipple = (slice(144, 156), slice(tip - 4, tip + 11))
    image[nipple] = np.maximum(image[nipple], 0.6)
    shown = presentation(image, processing, PIXEL)
    assert shown.grey(image, 12)[150, tip + 4 : tip + 8].min() > 0.2 * 4095


def test_an_image_without_tissue_is_refused() -> None:
    with pytest.raises(ValueError, match="no tissue"):
        presentation(np.zeros((50, 40), np.float32), "sigmoid", PIXEL)


def test_all_frames_of_a_volume_share_one_scale() -> None:
    image = absorbed()
    shown = presentation(image, "logarithmic", PIXEL, samples=np.stack([image, 1.3 * image]))
    assert shown.high > presentation(image, "logarithmic", PIXEL).high
    assert (shown.grey(1.1 * image, 12, enhance=False) >= shown.grey(image, 12, enhance=False)).all()
