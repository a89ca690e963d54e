"""Power-law fields and the measurement of their exponent."""

from __future__ import annotations

import numpy as np
import pytest

from training.phantom.texture import power_law_noise, spectral_exponent


@pytest.mark.parametrize("exponent", [2.0, 3.0, 4.0])
def test_measured_exponent_is_the_one_asked_for(exponent: float) -> None:
    field = power_law_noise((512, 512), 0.4, exponent, np.random.default_rng(1), (0.01, 1.25))
    measured = spectral_exponent(field, np.ones(field.shape, bool), 0.4)
    assert measured == pytest.approx(exponent, abs=0.2)


def test_projection_of_a_volume_keeps_its_exponent() -> None:
    volume = power_law_noise((64, 192, 192), 0.5, 3.0, np.random.default_rng(2), (0.01, 1.0))
    projection = volume.sum(axis=0)
    assert spectral_exponent(projection, np.ones(projection.shape, bool), 0.5) == pytest.approx(3.0, abs=0.3)


def test_scale_of_grey_values_does_not_change_the_exponent() -> None:
    field = power_law_noise((256, 256), 0.4, 3.0, np.random.default_rng(3), (0.01, 1.25))
    everywhere = np.ones(field.shape, bool)
    plain = spectral_exponent(field, everywhere, 0.4)
    assert spectral_exponent(50 + 7 * field, everywhere, 0.4) == pytest.approx(plain)


def test_power_stays_inside_of_the_band() -> None:
    field = power_law_noise((128, 128), 0.5, 3.0, np.random.default_rng(4), (0.05, 0.3))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128, 0.5), np.fft.fftfreq(128, 0.5)))
    power = np.abs(np.fft.fft2(field.astype(np.float64))) ** 2
    assert power[frequency > 0.31].sum() < 1e-6 * power.sum()


def test_field_is_standardised_and_structures_stretch() -> None:
    field = power_law_noise((128, 128), 1.0, 3.0, np.random.default_rng(5), (0.05, 0.5), stretch=(3.0, 1.0))
    assert field.mean() == pytest.approx(0, abs=1e-4)
    assert field.std() == pytest.approx(1, abs=1e-4)
    assert np.abs(np.diff(field, axis=0)).mean() < 0.6 * np.abs(np.diff(field, axis=1)).mean()


def test_breast_smaller_than_a_region_is_refused() -> None:
    with pytest.raises(ValueError, match="no region"):
        spectral_exponent(np.ones((100, 100)), np.zeros((100, 100), bool), 0.4)
