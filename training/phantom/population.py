"""The women: age, density, size and compressed thickness, drawn from published distributions.

- Density: the shares 10/40/40/10 of A to D (BI-RADS atlas, 5th edition, 2013), falling with age (Checka et al., AJR
  198:W292, 2012: about a third of a standard deviation in ten years).
- Glandularity: volumetric, quantiles close to Yaffe et al. (The myth of the 50-50 breast, Med Phys 36:5437, 2009):
  80 % of women under 27 %, 95 % under 45 % with the skin, of which the skin is about 5 points.
- Size: half an ellipsoid of about 0.7 litres with a log-normal spread, chosen to lie within the diameters at the chest
  wall and the lengths to the nipple that breast CT finds (Huang et al., Med Phys 38:2180, 2011); dense breasts are
  smaller.
- Compressed thickness: 53 ± 13 mm (Helvie et al., AJR 163:1371, 1994, and later surveys), thicker in large breasts; MLO
  a few mm thicker than CC.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from screening.exam import View
from training.phantom.model import Density, Woman
from training.phantom.seeds import generator

AGES = (45.0, 72.0)
DENSITY_SHARES: dict[Density, float] = {"A": 0.1, "B": 0.4, "C": 0.4, "D": 0.1}
THICKNESS_MM, THICKNESS_SD_MM, THICKNESS_LIMITS_MM = 53.0, 13.0, (22.0, 88.0)
_DENSITY_FALL_PER_YEAR = 0.035
_QUANTILES = (0.0, 0.1, 0.5, 0.8, 0.9, 0.95, 1.0)
_GLANDULARITIES = (0.03, 0.06, 0.13, 0.215, 0.28, 0.36, 0.55)


def draw_woman(seed: int, index: int) -> Woman:
    """Woman `index` of the population `seed`: the same two numbers always give the same woman."""
    rng = generator(seed, index, "woman")
    age = rng.uniform(*AGES)
    quantile = _density_quantile(age, rng.standard_normal())
    dense = norm.ppf(quantile)
    size = -0.3 * dense + np.sqrt(1 - 0.3**2) * rng.standard_normal()
    radius = float(np.clip(66.0 * np.exp(0.14 * size + 0.04 * rng.standard_normal()), 45.0, 98.0))
    depth = float(np.clip(76.0 * np.exp(0.16 * size + 0.08 * rng.standard_normal()), 45.0, 125.0))
    thick = THICKNESS_MM - 1.5 + THICKNESS_SD_MM * (0.75 * size + 0.65 * rng.standard_normal())
    mlo = thick + 3.0 + 3.0 * rng.standard_normal()
    return Woman(
        seed=seed,
        index=index,
        age=float(age),
        density=_density(quantile),
        glandularity=float(np.interp(quantile, _QUANTILES, _GLANDULARITIES)),
        radius_mm=radius,
        depth_mm=depth,
        compressed_mm={View.CC: _possible(thick, radius), View.MLO: _possible(mlo, radius)},
    )


def _density_quantile(age: float, deviation: float) -> float:
    """Rank of a woman's density among all women, 0 to 1, by her age and her deviation from the women of that age."""
    middle = sum(AGES) / 2
    spread = (AGES[1] - AGES[0]) / np.sqrt(12) * _DENSITY_FALL_PER_YEAR
    return float(norm.cdf((deviation - _DENSITY_FALL_PER_YEAR * (age - middle)) / np.hypot(1.0, spread)))


def _density(quantile: float) -> Density:
    reached = 0.0
    for density, share in DENSITY_SHARES.items():
        reached += share
        if quantile < reached:
            return density
    return "D"


def _possible(thickness_mm: float, radius_mm: float) -> float:
    """Thickness within what paddles press and at most four fifths of the uncompressed breast's height."""
    low, high = THICKNESS_LIMITS_MM
    return float(np.clip(thickness_mm, low, min(high, 1.6 * radius_mm)))
