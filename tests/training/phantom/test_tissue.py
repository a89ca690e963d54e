"""Attenuation of the simulated breast's tissues."""

from __future__ import annotations

import numpy as np
import pytest

from training.phantom.tissue import HIGHEST_KEV, LOWEST_KEV, Tissue, attenuation

ENERGIES = np.linspace(LOWEST_KEV, HIGHEST_KEV, 36)

# cm²/g at 20 and 30 keV (NIST), and Hammerstein's composition of fibroglandular tissue by weight; ash left out
ELEMENTS = {"H": (0.3695, 0.3570), "C": (0.4420, 0.2562), "N": (0.6178, 0.3066), "O": (0.8653, 0.3779)}
GLANDULAR = {"H": 0.102, "C": 0.184, "N": 0.032, "O": 0.677}
GLANDULAR_G_PER_CM3 = 1.04


@pytest.mark.parametrize("energy", ENERGIES)
def test_tissues_are_ordered_as_radiographs_show_them(energy: float) -> None:
    order = [Tissue.ADIPOSE, Tissue.GLANDULAR, Tissue.TUMOUR, Tissue.CALCIUM]
    values = [attenuation(tissue, energy) for tissue in order]
    assert values == sorted(values)
    assert values[2] < 1.1 * values[1], "a tumour is hardly denser than fibroglandular tissue"
    assert values[3] > 7 * values[2]


@pytest.mark.parametrize("tissue", list(Tissue))
def test_attenuation_falls_with_energy(tissue: Tissue) -> None:
    assert (np.diff([attenuation(tissue, energy) for energy in ENERGIES]) < 0).all()


@pytest.mark.parametrize(("energy", "column"), [(20.0, 0), (30.0, 1)])
def test_measured_glandular_tissue_agrees_with_its_composition(energy: float, column: int) -> None:
    per_gram = sum(share * ELEMENTS[element][column] for element, share in GLANDULAR.items())
    computed_per_mm = per_gram * GLANDULAR_G_PER_CM3 / 10
    assert attenuation(Tissue.GLANDULAR, energy) == pytest.approx(computed_per_mm, rel=0.07)


def test_water_has_the_coefficient_of_its_elements() -> None:
    hydrogen = 0.1119
    per_gram = hydrogen * ELEMENTS["H"][0] + (1 - hydrogen) * ELEMENTS["O"][0]
    assert attenuation(Tissue.WATER, 20.0) == pytest.approx(per_gram / 10, rel=0.01)


@pytest.mark.parametrize("energy", [14.9, 50.1, float("nan")])
def test_energies_outside_of_the_tables_are_refused(energy: float) -> None:
    with pytest.raises(ValueError, match="keV"):
        attenuation(Tissue.SKIN, energy)
