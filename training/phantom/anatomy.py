"""Coarse anatomy of one uncompressed breast: where fibroglandular tissue, fat lobules and ligaments lie.

The breast is half an ellipsoid on the chest wall. Two fields at 1 mm say what it is made of; both are smooth, so that
they can be sampled finely and only then be turned into tissue with sharp borders (`glandular_share`):

- `level`: fibroglandular tissue where positive. A random field with a power-law spectrum of exponent 3 (Metheany et
  al., Med Phys 35:4685, 2008) on a parenchymal cone, wide at the back, with its tip behind the nipple and its weight in
  the upper outer quadrant, between the subcutaneous and the retromammary fat; drawn out towards the nipple, with ducts.
- `septa`: signed distance in mm to the nearest of Cooper's ligaments, which are curved sheets between fat lobules (zero
  levels of a smooth random field; Bakic et al., Med Phys 29:2131, 2002, model them as ellipsoidal shells).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import scipy.fft
import scipy.ndimage
from scipy.optimize import brentq

from screening.exam import Laterality
from training.phantom.ducts import Paths, grow_ducts
from training.phantom.model import Float32Array, FloatArray, Woman
from training.phantom.seeds import generator
from training.phantom.texture import power_law_noise

SPACING_MM = 1.0
SKIN_MM = 1.45  # Huang et al., Med Phys 35:1199, 2008
_BEHIND_MM = 6.0  # how far the fields reach behind the chest wall and outside of the skin
_BORDER = 0.9  # rise of `level` over which fat turns into fibroglandular tissue
_LIGAMENT_MM, _LIGAMENT_SHARE = 1.5, 0.6  # full thickness of a ligament; its share of fibrous tissue
_LOBULE_MM = 20.0
_LIGAMENTS_OF_TISSUE, _MOST_LIGAMENTS = 0.4, 0.035  # volume of ligaments: of the fibroglandular; of the breast
_DRAWN_TOGETHER = 0.45  # width of structures at the nipple, as a share of that at the chest wall


@dataclass(frozen=True)
class Anatomy:
    """Fields of one breast, float32 [anterior, lateral, superior], in steps of `SPACING_MM` from `origin_mm`."""

    origin_mm: FloatArray
    level: Float32Array
    septa: Float32Array

    def indices(self, points: FloatArray) -> FloatArray:
        """Fractional indices (3, n) of points (n, 3) of the breast frame, in mm."""
        return ((points - self.origin_mm) / SPACING_MM).T


def anatomy(woman: Woman, laterality: Laterality) -> Anatomy:
    """Anatomy of one of her breasts, the same in each round; the last two that were asked for are kept in memory."""
    return _anatomy(woman.seed, woman.index, laterality, woman.glandularity, woman.radius_mm, woman.depth_mm)


def glandular_share(level: Float32Array, septa: Float32Array) -> Float32Array:
    """Share of fibroglandular (or fibrous) tissue, 0 to 1, from the two fields at any resolution."""
    share = level * np.float32(1 / _BORDER)
    share += np.float32(0.5)
    np.clip(share, 0, 1, out=share)
    np.maximum(share, _ligament_share(septa), out=share)
    return share


def _ligament_share(septa: Float32Array) -> Float32Array:
    share = np.abs(septa)
    share *= np.float32(-2 * _LIGAMENT_SHARE / _LIGAMENT_MM)
    share += np.float32(1.5 * _LIGAMENT_SHARE)
    np.clip(share, 0, np.float32(_LIGAMENT_SHARE), out=share)
    return share


def random_site(woman: Woman, laterality: Laterality, rng: np.random.Generator) -> FloatArray:
    """A place where a lesion may arise, (3,) in the breast frame, mm: in fibroglandular tissue or at its border.

    At least 8 mm under the skin and before the chest wall. Cancers arise in the terminal ducts, which end at the border
    of the parenchyma and within it.
    """
    fields = anatomy(woman, laterality)
    weight = _site_weights(woman.seed, woman.index, laterality, woman.glandularity, woman.radius_mm, woman.depth_mm)
    drawn = int(np.searchsorted(weight, rng.random() * weight[-1], side="right"))
    chosen = np.array(np.unravel_index(drawn, fields.level.shape)) + rng.uniform(-0.5, 0.5, 3)
    return np.asarray(fields.origin_mm + chosen * SPACING_MM, np.float64)


@lru_cache(maxsize=2)
def _site_weights(
    seed: int, index: int, laterality: Laterality, glandularity: float, radius_mm: float, depth_mm: float
) -> FloatArray:
    """Cumulated weight of the anatomy's voxels as sites of lesions."""
    fields = _anatomy(seed, index, laterality, glandularity, radius_mm, depth_mm)
    nearby = scipy.ndimage.uniform_filter(glandular_share(fields.level, fields.septa), 7)
    axes = _axes(fields.origin_mm, fields.level.shape)
    margin = 1 - 8.0 / min(radius_mm, depth_mm)
    allowed = (_normalised_radius(axes, radius_mm, depth_mm) < margin) & (axes[0] > 8.0)
    return np.cumsum(np.where(allowed, np.minimum(nearby, 0.5) ** 2, 0).ravel(), dtype=np.float64)


@lru_cache(maxsize=2)
def _anatomy(
    seed: int, index: int, laterality: Laterality, glandularity: float, radius_mm: float, depth_mm: float
) -> Anatomy:
    lengths = (depth_mm + 2 * _BEHIND_MM, 2 * (radius_mm + _BEHIND_MM))
    deep, across = (scipy.fft.next_fast_len(int(np.ceil(length / SPACING_MM)) + 1, real=True) for length in lengths)
    shape = (deep, across, across)
    side = -(across - 1) / 2 * SPACING_MM
    origin = np.array([-_BEHIND_MM, side, side])
    axes = _axes(origin, shape)
    rng = generator(seed, index, laterality, "parenchyma")
    level = _converge(power_law_noise(shape, SPACING_MM, 3.0, rng, (0.02, 0.5), stretch=(1.7, 1.0, 1.0)), depth_mm)
    level += _envelope(axes, radius_mm, depth_mm, generator(seed, index, "cone"))
    level += _duct_field(shape, origin, grow_ducts(depth_mm, radius_mm, generator(seed, index, laterality, "ducts")))
    ligaments = min(_LIGAMENTS_OF_TISSUE * glandularity, _MOST_LIGAMENTS)
    septa = _converge(_septa(shape, ligaments, generator(seed, index, laterality, "ligaments")), depth_mm)
    inside = _normalised_radius(axes, radius_mm - SKIN_MM, depth_mm - SKIN_MM) < 1
    inside &= axes[0] > 0
    level += _offset(level[inside][::7], septa[inside][::7], glandularity)
    for field in (level, septa):
        field.flags.writeable = False
    return Anatomy(origin, level, septa)


def _axes(origin: FloatArray, shape: tuple[int, ...]) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Coordinates of the voxels in mm: anterior, lateral, superior, ready to broadcast."""
    lines = [(origin[axis] + SPACING_MM * np.arange(shape[axis])).astype(np.float32) for axis in range(3)]
    return lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]


def _normalised_radius(
    axes: tuple[Float32Array, Float32Array, Float32Array], radius_mm: float, depth_mm: float
) -> Float32Array:
    """0 at the origin, 1 on the ellipsoid's surface."""
    anterior, lateral, superior = axes
    squared = (anterior / depth_mm) ** 2 + (lateral / radius_mm) ** 2 + (superior / radius_mm) ** 2
    return np.asarray(np.sqrt(squared), np.float32)


def _envelope(
    axes: tuple[Float32Array, Float32Array, Float32Array], radius_mm: float, depth_mm: float, rng: np.random.Generator
) -> Float32Array:
    """How readily parenchyma forms: high in the cone, falling towards skin, chest wall and the inner lower quadrant."""
    anterior, lateral, superior = axes
    outer, upper = rng.normal(0.10, 0.05, 2) * radius_mm
    behind = np.clip((depth_mm - anterior) / depth_mm, 0, 1)
    from_axis = np.sqrt((lateral - outer * behind) ** 2 + (superior - upper * behind) ** 2)
    cone = radius_mm * (0.08 + rng.uniform(0.75, 0.95) * behind**0.8)
    sideways = np.minimum(from_axis / cone, np.float32(1.6))
    sideways *= sideways * sideways
    skin_depth = (1 - _normalised_radius(axes, radius_mm, depth_mm)) * min(radius_mm, depth_mm)
    subcutaneous = np.exp(-(np.maximum(skin_depth, 0) / rng.uniform(6, 10))) * np.minimum(from_axis / 10, 1)
    retromammary = np.exp(-np.maximum(anterior, 0) / rng.uniform(7, 13))
    return np.asarray(-1.6 * sideways - 2.5 * subcutaneous - 2.0 * retromammary, np.float32)


def _duct_field(shape: tuple[int, ...], origin: FloatArray, paths: Paths) -> Float32Array:
    """Rise of the level along ducts: each point spreads by about its radius."""
    field = np.zeros(shape, np.float32)
    cells = np.rint((paths.points - origin) / SPACING_MM).astype(int)
    within = ((cells >= 0) & (cells < shape)).all(axis=1)
    np.maximum.at(field, tuple(cells[within].T), paths.radii[within].astype(np.float32))
    spread = scipy.ndimage.gaussian_filter(field, 0.7 / SPACING_MM, truncate=3.0)
    return np.asarray(4.0 * spread, np.float32)


def _converge(field: Float32Array, depth_mm: float) -> Float32Array:
    """The field drawn together towards the nipple's axis in front, so that its structures point to the nipple."""
    across = field.shape[1]
    middle = (across - 1) / 2
    drawn = np.empty_like(field)
    for number, plane in enumerate(field):
        behind = np.clip((depth_mm - (number * SPACING_MM - _BEHIND_MM)) / depth_mm, 0, 1)
        factor = 1 / (_DRAWN_TOGETHER + (1 - _DRAWN_TOGETHER) * behind)
        matrix = np.array([[factor, 0, middle * (1 - factor)], [0, factor, middle * (1 - factor)]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        drawn[number] = cv2.warpAffine(plane, matrix, (across, across), flags=flags, borderMode=cv2.BORDER_WRAP)
    return drawn


def _septa(shape: tuple[int, ...], volume_share: float, rng: np.random.Generator) -> Float32Array:
    """Signed distance to the ligaments: zero levels of a smooth field, thinning out where a second one is high.

    Scaled so that ligaments fill about `volume_share` of the breast.
    """
    walls = power_law_noise(shape, SPACING_MM, 6.0, rng, (1 / _LOBULE_MM, 0.25), stretch=(2.0, 1.0, 1.0))
    gaps = power_law_noise(shape, SPACING_MM, 6.0, rng, (1 / (2 * _LOBULE_MM), 0.25))
    walls *= _LOBULE_MM / 4 * np.exp(2 * np.maximum(gaps + np.float32(0.5), 0))
    walls *= np.float32(_ligament_share(walls[::2, ::3, ::3]).mean() / volume_share)
    return walls


def _offset(level: Float32Array, septa: Float32Array, glandularity: float) -> np.float32:
    """What to add to `level` so that the mean share is `glandularity`; the ligaments alone may exceed that."""

    def excess(offset: float) -> float:
        return float(glandular_share(level + np.float32(offset), septa).mean()) - glandularity

    if excess(-20.0) > 0:
        return np.float32(-3.0)
    return np.float32(brentq(excess, -20.0, 20.0, xtol=1e-3))
