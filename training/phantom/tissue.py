"""Linear attenuation of breast tissues at the energies of mammography.

Adipose, fibroglandular and tumour tissue as measured by Johns & Yaffe (Phys Med Biol 32:675, 1987); skin by the
composition of Hammerstein et al. (Radiology 130:485, 1979), muscle by ICRU report 44, water and hydroxyapatite by
formula, all with the mass attenuation coefficients of NIST (Hubbell & Seltzer, NISTIR 5632). Below 18 keV, where
Johns & Yaffe stop, their slope goes on.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np


class Tissue(StrEnum):
    """What a voxel may be made of. A cyst's fluid is water; calcium is solid hydroxyapatite (3.16 g/cm³)."""

    ADIPOSE = "adipose"
    GLANDULAR = "glandular"
    TUMOUR = "tumour"
    SKIN = "skin"
    MUSCLE = "muscle"
    WATER = "water"
    CALCIUM = "calcium"


LOWEST_KEV, HIGHEST_KEV = 15.0, 50.0

# keV: 1/cm
_MEASURED_KEV = (15.0, 18.0, 20.0, 25.0, 30.0, 40.0, 50.0)
_COMPUTED_KEV = (15.0, 20.0, 30.0, 40.0, 50.0)
_PER_CM: dict[Tissue, tuple[tuple[float, ...], tuple[float, ...]]] = {
    Tissue.ADIPOSE: (_MEASURED_KEV, (0.792, 0.558, 0.456, 0.322, 0.264, 0.215, 0.194)),
    Tissue.GLANDULAR: (_MEASURED_KEV, (1.580, 1.028, 0.802, 0.506, 0.378, 0.273, 0.233)),
    Tissue.TUMOUR: (_MEASURED_KEV, (1.671, 1.085, 0.844, 0.529, 0.392, 0.281, 0.238)),
    Tissue.SKIN: (_COMPUTED_KEV, (1.721, 0.842, 0.396, 0.286, 0.243)),
    Tissue.MUSCLE: (_COMPUTED_KEV, (1.778, 0.862, 0.397, 0.282, 0.238)),
    Tissue.WATER: (_COMPUTED_KEV, (1.673, 0.810, 0.376, 0.268, 0.227)),
    Tissue.CALCIUM: (_COMPUTED_KEV, (47.2, 20.7, 6.63, 3.12, 1.85)),
}


def attenuation(tissue: Tissue, energy_kev: float) -> float:
    """Linear attenuation coefficient in 1/mm, interpolated between the logarithms of energy and of attenuation.

    Raises ValueError outside of 15–50 keV.
    """
    if not LOWEST_KEV <= energy_kev <= HIGHEST_KEV:
        raise ValueError(f"attenuation is tabulated from {LOWEST_KEV:g} to {HIGHEST_KEV:g} keV, not at {energy_kev:g}")
    energies, per_cm = _PER_CM[tissue]
    return float(np.exp(np.interp(np.log(energy_kev), np.log(energies), np.log(per_cm)))) / 10.0
