"""The machines as a whole: places, depth, bytes, and what the synthetic image keeps."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.handmade_breasts import handmade_breast
from training.phantom.imaging import mammogram, synthetic_2d, tomosynthesis
from training.phantom.model import Grid, SimulatedImage, Style
from training.phantom.styles import BIRCH, STYLES, written_pixel_mm

BALL = (27.5, 61.3, 24.1)


def digest(image: SimulatedImage) -> str:
    return sha256(image.pixels.tobytes()).hexdigest()


def brightest_mm(pixels: npt.NDArray[np.uint16], pixel_mm: float) -> tuple[float, float]:
    """Centre of what stands out most near the ball, (along, out) in mm."""
    first = [int((place - 4) / pixel_mm) for place in BALL[1:]]
    near = pixels[tuple(slice(start, start + int(8 / pixel_mm)) for start in first)].astype(float)
    above = np.maximum(near - np.median(near) - 0.4 * (near.max() - np.median(near)), 0.0)
    rows, columns = (
        (places + start + 0.5) * pixel_mm for places, start in zip(np.indices(near.shape), first, strict=True)
    )
    return float((rows * above).sum() / above.sum()), float((columns * above).sum() / above.sum())


@pytest.mark.parametrize("style", STYLES)
def test_a_calcification_is_where_it_is_in_the_mammogram_and_in_its_frame(style: Style) -> None:
    breast = handmade_breast(ball_mm=BALL, ball_radius_mm=0.6, blobs=0)
    flat = mammogram(breast, style, np.random.default_rng(0))
    volume = tomosynthesis(breast, style, np.random.default_rng(0))
    peaks = volume.pixels[:, :, 30 : volume.pixels.shape[2] // 2].max(axis=(1, 2)).astype(int)
    frame = round(float(np.mean(np.flatnonzero(peaks == peaks.max()))))
    assert volume.frame_mm == 1.0
    assert abs(frame - int(BALL[0])) <= 1
    for image, pixels in ((flat, flat.pixels), (volume, volume.pixels[frame])):
        along, out = brightest_mm(pixels, image.pixel_mm)
        assert along == pytest.approx(BALL[1], abs=0.5 * max(image.pixel_mm, breast.grid.pixel_mm))
        assert out == pytest.approx(BALL[2], abs=0.5 * max(image.pixel_mm, breast.grid.pixel_mm))


@pytest.mark.parametrize("style", STYLES)
def test_images_cover_the_breast_at_the_styles_pixel_size_and_bits(style: Style) -> None:
    breast = handmade_breast()
    flat = mammogram(breast, style, np.random.default_rng(0))
    volume = tomosynthesis(breast, style, np.random.default_rng(0))
    assert flat.pixel_mm == volume.pixel_mm == written_pixel_mm(style, breast.grid)
    assert flat.pixels.shape == volume.pixels.shape[1:]
    assert len(volume.pixels) == 40
    for cells, extent in zip(flat.pixels.shape, breast.attenuation.shape[1:], strict=True):
        assert cells * flat.pixel_mm == pytest.approx(extent * breast.grid.pixel_mm, abs=flat.pixel_mm)
    for image in (flat, volume, synthetic_2d(volume)):
        assert image.pixels.dtype == np.uint16
        assert image.pixels.max() < 2**style.bits
        assert not image.pixels[..., :5, -5:].any()
    assert ((flat.pixels > 0) == (volume.pixels[20] > 0)).mean() > 0.98


def test_the_same_generator_gives_the_same_bytes_and_another_other_noise() -> None:
    breast = handmade_breast((20, 150, 70), grid=Grid(pixel_mm=0.8))
    for machine in (mammogram, tomosynthesis):
        first, again, other = (digest(machine(breast, BIRCH, np.random.default_rng(seed))) for seed in (3, 3, 4))
        assert first == again != other


def test_half_the_dose_makes_noise_stronger_by_the_root_of_two() -> None:
    breast = handmade_breast(blobs=0)
    noise = []
    for share in (1.0, 0.5):
        style = replace(BIRCH, photons_per_mm2=share * 5e4, processing="logarithmic")
        one, two = (mammogram(breast, style, np.random.default_rng(seed)).pixels.astype(float) for seed in (0, 1))
        noise.append(float((one - two)[140:220, 20:120].std()))
    assert noise[1] / noise[0] == pytest.approx(2**0.5, rel=0.05)


def test_a_calcification_stands_out_of_the_synthetic_image_more_than_of_the_mean_frame() -> None:
    volume = tomosynthesis(handmade_breast(ball_mm=BALL, blobs=0), BIRCH, np.random.default_rng(0))
    flat = synthetic_2d(volume)

    def contrast(pixels: npt.NDArray[np.float64]) -> float:
        row, column = (int(place / volume.pixel_mm) for place in BALL[1:])
        around = pixels[row - 20 : row + 20, column - 20 : column + 20]
        return float(around[18:23, 18:23].max() - np.median(around))

    assert flat.pixels.shape == volume.pixels.shape[1:]
    assert flat.frame_mm is None
    assert contrast(flat.pixels.astype(float)) > contrast(volume.pixels.mean(axis=0))


def test_a_breast_of_one_layer_makes_a_volume_and_one_frame_is_enough() -> None:
    breast = handmade_breast((1, 150, 70), grid=Grid(pixel_mm=0.8, layer_mm=10.0), blobs=0)
    volume = tomosynthesis(breast, BIRCH, np.random.default_rng(0))
    assert len(volume.pixels) == 10
    assert len(tomosynthesis(breast, replace(BIRCH, frame_mm=10.0), np.random.default_rng(0)).pixels) == 1
