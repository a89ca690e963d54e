"""Counts behind a breast: Beer-Lambert, scatter, the statistics of quanta, blur."""

from dataclasses import replace

import numpy as np
import pytest

from training.phantom.detector import (
    Exposure,
    absorption,
    automatic_exposure,
    counted,
    scatter,
    scatter_to_primary,
    thickness,
)
from training.phantom.model import Float32Array

CLEAN = Exposure(open_field=2e5, scatter_to_primary=0.0, pixel_mm=0.2, blur_mm=0.01)


def even(value: float, shape: tuple[int, int] = (600, 400)) -> Float32Array:
    return np.full(shape, value, np.float32)


def test_counts_fall_with_the_exponential_of_the_path() -> None:
    rng = np.random.default_rng(0)
    for depth in (0.5, 2.0, 3.5):
        mean = float(counted(even(depth), even(50.0), CLEAN, rng).mean())
        assert mean == pytest.approx(CLEAN.open_field * np.exp(-depth), rel=1e-3)


def test_scatter_without_a_grid_grows_with_thickness_and_with_the_breast() -> None:
    by_thickness = scatter_to_primary(np.array([0, 20, 30, 40, 50, 60, 70, 80], np.float32), 150.0)
    assert by_thickness[0] == 0
    assert (np.diff(by_thickness) > 0).all()
    assert 0.15 < by_thickness[1] < 0.3
    assert 0.4 < by_thickness[4] < 0.6
    assert 0.8 < by_thickness[7] < 1.1
    assert scatter_to_primary(even(50.0, (1, 1)), 60.0) < scatter_to_primary(even(50.0, (1, 1)), 200.0)


def test_behind_an_even_breast_of_50_mm_scatter_is_the_exposures_share_of_the_primary() -> None:
    quanta = scatter(even(1000.0), even(50.0), replace(CLEAN, scatter_to_primary=0.3))
    assert np.abs(quanta - 300.0).max() < 0.3


def test_scatter_is_broad_and_the_open_field_adds_none() -> None:
    tissue = even(50.0)
    tissue[:, 200:] = 0
    primary = np.where(tissue > 0, even(1000.0), even(30000.0))
    primary[300:305, 100:105] = 500.0
    quanta = scatter(primary, tissue, replace(CLEAN, scatter_to_primary=0.3))
    assert quanta.max() <= 301
    assert quanta[:, 390].max() < 0.2 * quanta[:, 10].max()
    assert abs(quanta[302, 102] - quanta[450, 102]) < 0.02 * quanta[450, 102]
    assert not scatter(even(3e4), even(0.0), CLEAN).any()


def test_noise_of_quanta_has_the_variance_of_its_mean() -> None:
    counts = counted(even(3.0), even(50.0), CLEAN, np.random.default_rng(1))
    electronic = 25.0
    assert float(counts.var()) == pytest.approx(float(counts.mean()) + electronic, rel=0.02)


def test_the_detectors_blur_smooths_the_noise_as_well() -> None:
    sharp, blurred = (
        counted(even(3.0), even(50.0), replace(CLEAN, blur_mm=blur), np.random.default_rng(1)) for blur in (0.01, 0.15)
    )
    assert blurred.var() < 0.5 * sharp.var()
    assert np.corrcoef(blurred[:, 1:].ravel(), blurred[:, :-1].ravel())[0, 1] > 0.4
    assert abs(np.corrcoef(sharp[:, 1:].ravel(), sharp[:, :-1].ravel())[0, 1]) < 0.02


def test_automatic_exposure_leaves_the_wanted_quanta_behind_any_breast() -> None:
    for depth in (1.0, 2.5, 4.0):
        open_field = automatic_exposure(even(depth), even(50.0), 8000.0)
        counts = counted(even(depth), even(50.0), replace(CLEAN, open_field=open_field), np.random.default_rng(2))
        assert float(np.median(counts)) == pytest.approx(8000.0, rel=0.01)


def test_measured_absorption_is_the_path_less_what_scatter_hides() -> None:
    exposure = replace(CLEAN, open_field=1e7, scatter_to_primary=0.3)
    counts = counted(even(2.0), even(50.0), exposure, np.random.default_rng(3))
    assert float(absorption(counts, exposure.open_field).mean()) == pytest.approx(2.0 - np.log(1.3), abs=2e-3)


def test_thickness_counts_tissue_only() -> None:
    attenuation = np.zeros((10, 2, 2), np.float32)
    attenuation[2:8, 0, 1] = 0.05
    assert thickness(attenuation, 0.5).tolist() == [[0.0, 3.0], [0.0, 0.0]]
