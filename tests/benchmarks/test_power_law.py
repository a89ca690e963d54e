"""The exponent of a power spectrum: fields whose exponent is known, windows and pixels that must not matter."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.power_law import FloatArray, exponent


def field(beta: float, seed: int, side: int = 512) -> FloatArray:
    """Gaussian noise with the spectrum f^-beta, (side, side), filtered on twice the side so that it is not periodic."""
    rng = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(2 * side)
    radius = np.hypot(*np.meshgrid(frequency, frequency))
    radius[0, 0] = 1
    noise = np.fft.fft2(rng.standard_normal((2 * side, 2 * side)))
    return np.asarray(np.fft.ifft2(noise * radius ** (-beta / 2)).real[:side, :side])


@pytest.mark.parametrize("beta", [2.0, 2.7, 3.0, 3.3])
def test_exponent_of_a_field_is_the_one_that_it_was_made_with(beta: float) -> None:
    found = [exponent(field(beta, seed), np.ones((512, 512), bool), 0.25) for seed in range(3)]
    assert np.mean([one for one in found if one is not None]) == pytest.approx(beta, abs=0.1)


def test_blur_of_larger_pixels_is_divided_out() -> None:
    fine = field(3.0, 1, 1024)
    small = cv2.resize(fine, (256, 256), interpolation=cv2.INTER_AREA)
    before = exponent(fine, np.ones(fine.shape, bool), 0.125)
    after = exponent(small, np.ones(small.shape, bool), 0.5)
    assert before is not None
    assert after == pytest.approx(before, abs=0.1)


def test_scale_and_offset_of_brightness_do_not_matter() -> None:
    image, inside = field(3.0, 2), np.ones((512, 512), bool)
    assert exponent(40 * image + 1000, inside, 0.25) == pytest.approx(exponent(image, inside, 0.25))


def test_only_tissue_away_from_the_skin_is_looked_at() -> None:
    image = field(3.0, 3)
    inside = np.zeros((512, 512), bool)
    inside[100:400, :350] = True
    alone = exponent(image, inside, 0.25)
    spoilt = np.where(cv2.erode(inside.astype(np.uint8), np.ones((31, 31))) > 0, image, 1e6)
    assert exponent(np.where(inside, spoilt, -1e6), inside, 0.25) == pytest.approx(alone)


def test_breast_too_small_for_a_region_has_no_exponent() -> None:
    inside = np.zeros((512, 512), bool)
    inside[200:280, :120] = True
    assert exponent(field(3.0, 4), inside, 0.25) is None


def test_image_without_structure_has_no_exponent() -> None:
    assert exponent(np.full((512, 512), 0.5), np.ones((512, 512), bool), 0.25) is None
