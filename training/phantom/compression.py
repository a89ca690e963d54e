"""Voxels of a breast under the paddle.

The coarse anatomy is sampled into the view at 1 mm, brought to the pixels by interpolation, and finer texture is added
there layer by layer; only then do the fields become tissue, so that borders are sharp. Skin (1.45 mm, Huang et al., Med
Phys 35:1199, 2008), nipple and, in MLO, the pectoral muscle lie around and behind.

The nipple is our choice: 10 mm across and 5.5 mm high, less than the means of 13 and 9 mm in 600 breasts that were not
compressed (doi:10.1007/s00266-008-9194-y). So are the pectoral muscle's width, thickness and share of fat, and its
length: it reaches the nipple's level in two of three women, as positioning asks for, where Spuur, Poulos & Rickard
(Mammography image quality, 2008) saw that in a quarter of the images. The fine texture's band and strength are our
choice, by eye.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import scipy.ndimage

from screening.exam import Laterality, View
from training.phantom.anatomy import SKIN_MM, Anatomy, anatomy, glandular_share
from training.phantom.model import CompressedBreast, Float32Array, FloatArray, Grid, Woman
from training.phantom.positioning import AIR_MM, Positioned, position
from training.phantom.seeds import generator
from training.phantom.texture import power_law_noise
from training.phantom.tissue import Tissue, attenuation

IntArray = npt.NDArray[np.intp]

_ORDER = (Tissue.ADIPOSE, Tissue.GLANDULAR, Tissue.SKIN, Tissue.MUSCLE)
_COARSE_MM = 1.0
_FINE_PLANES = 6
_FINE_BAND_PER_MM = (0.35, 2.5)
_FINE_STRENGTH = 0.2
_MUSCLE_SHARE = 0.8  # the rest is fat between the fibres
_NIPPLE_MM = (4.5, 5.0, 6.5)  # half axes: height, along, out


def compressed(
    woman: Woman, laterality: Laterality, view: View, round_number: int, energy_kev: float, grid: Grid
) -> CompressedBreast:
    """One of her breasts, compressed for `view` (CC or MLO) in a round of screening, as voxels of `grid`.

    Raises ValueError for another view and for an energy that `attenuation` does not know.
    """
    positioned = position(woman, laterality, view, round_number, grid)
    shape = _shape(positioned, view, grid)
    level, septa = _coarse_fields(anatomy(woman, laterality), positioned, shape, grid)
    fine = fine_planes(woman, laterality, view, positioned, shape[1:], grid)
    plane = _plane(positioned, woman, laterality, view, shape, grid)
    values = np.array([attenuation(tissue, energy_kev) for tissue in _ORDER], np.float32)
    body = np.zeros(shape, np.float32)
    glandular = np.zeros(shape, np.float32)
    turns = _turns(woman, laterality, view, shape[0], grid)
    for layer, (number, sign) in enumerate(turns):
        texture = _to_pixels(level[layer], shape[1:])
        (np.add if sign > 0 else np.subtract)(texture, fine[number], out=texture)
        share = glandular_share(texture, _to_pixels(septa[layer], shape[1:]))
        _fill(body[layer], glandular[layer], share, plane, (layer + 0.5) * grid.layer_mm, values)
    return CompressedBreast(laterality, view, energy_kev, grid, body, glandular, positioned.to_view)


def _turns(woman: Woman, laterality: Laterality, view: View, layers: int, grid: Grid) -> list[tuple[int, int]]:
    """Which fine plane each layer takes, and with which sign: the same for the same share of the height each round."""
    nominal = max(1, round(woman.compressed_mm[view] / grid.layer_mm))
    rng = generator(woman.seed, woman.index, laterality, view, "layers")
    numbers, signs = rng.integers(0, _FINE_PLANES, nominal), rng.choice([-1, 1], nominal)
    places = ((np.arange(layers) + 0.5) * nominal / layers).astype(int)
    return [(int(numbers[place]), int(signs[place])) for place in places]


def _middles(count: int, spacing_mm: float) -> FloatArray:
    return np.asarray((np.arange(count) + 0.5) * spacing_mm, np.float64)


@dataclass(frozen=True)
class _Plane:
    """What depends on the place in the detector's plane alone.

    `air`: flat indices of pixels without breast at any height. `rim`: of the others. For the latter, float32:
    `beyond_squared`, how far each lies in the round edge, and `nipple_squared`, its distance from the nipple's middle
    in units of the nipple's half axes. `muscle`, float32 (rows, columns): half of the pectoral muscle's height in mm,
    negative outside of it; None in CC.
    """

    half_mm: float
    grid: Grid
    air: IntArray
    rim: IntArray
    beyond_squared: Float32Array
    nipple_squared: Float32Array
    nipple_height_mm: float
    muscle: Float32Array | None


def _shape(positioned: Positioned, view: View, grid: Grid) -> tuple[int, int, int]:
    """Layers, rows, columns: the breast with a margin of air, in whole coarse pixels."""
    outline, pose = positioned.outline, positioned.pose
    step = _coarse_factor(grid)
    rows = (pose.top_mm + outline.down_mm + AIR_MM) / grid.pixel_mm / step
    columns = (outline.out_mm + _NIPPLE_MM[2] + AIR_MM) / grid.pixel_mm / step
    layers = round(outline.thickness_mm / grid.layer_mm)
    return layers, int(np.ceil(rows)) * step, int(np.ceil(columns)) * step


def _coarse_factor(grid: Grid) -> int:
    return max(1, round(_COARSE_MM / grid.pixel_mm))


def _coarse_fields(
    fields: Anatomy, positioned: Positioned, shape: tuple[int, int, int], grid: Grid
) -> tuple[Float32Array, Float32Array]:
    """`level` and `septa` of the anatomy at the view's coarse voxels, float32 (layers, rows/k, columns/k)."""
    step = _coarse_factor(grid)
    size = (shape[0], shape[1] // step, shape[2] // step)
    pixel = grid.pixel_mm * step
    spacings = (grid.layer_mm, pixel, pixel)
    heights, along, out = (_middles(count, spacing) for count, spacing in zip(size, spacings, strict=True))
    inside = np.nonzero(positioned.edge(along[:, None], out[None, :]) > -2 * pixel)
    anterior, across, stretch = positioned.flow(along[inside[0]], out[inside[1]])
    level, septa = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for layer, height in enumerate(heights):
        lateral, superior = positioned.unturn(across, stretch * (height - positioned.outline.thickness_mm / 2))
        indices = fields.indices(np.column_stack([anterior, lateral, superior]))
        for field, target in ((fields.level, level), (fields.septa, septa)):
            sampled = scipy.ndimage.map_coordinates(field, indices, np.float32, order=1, mode="nearest")
            target[layer][inside] = sampled
    return level, septa


def _to_pixels(coarse: Float32Array, shape: tuple[int, ...]) -> Float32Array:
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def fine_planes(
    woman: Woman, laterality: Laterality, view: View, positioned: Positioned, shape: tuple[int, ...], grid: Grid
) -> list[Float32Array]:
    """Texture finer than the coarse anatomy, float32 (rows, columns), which the layers share in turn.

    It is the same in every round and moves with the breast's position.
    """
    rng = generator(woman.seed, woman.index, laterality, view, "texture")
    across, deep = (
        int(np.ceil(length / grid.pixel_mm / 32)) * 32 for length in (2.4 * woman.radius_mm, 1.4 * woman.depth_mm)
    )
    pose = positioned.pose
    cosine, sine = np.cos(pose.tilt), np.sin(pose.tilt)
    # pixel of the view -> (up, out) of the outline -> pixel of the texture
    offset_out, offset_up = pose.out_shift_mm / grid.pixel_mm, pose.top_mm / grid.pixel_mm
    matrix = np.array(
        [
            [cosine, -sine, cosine * offset_out + sine * offset_up],
            [sine, cosine, sine * offset_out - cosine * offset_up],
        ]
    )
    planes = []
    for _ in range(_FINE_PLANES):
        noise = power_law_noise((across, deep), grid.pixel_mm, 3.0, rng, _FINE_BAND_PER_MM)
        noise *= np.float32(_FINE_STRENGTH)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(noise, matrix, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_WRAP)
        planes.append(np.asarray(moved, np.float32))
    return planes


def _plane(
    positioned: Positioned, woman: Woman, laterality: Laterality, view: View, shape: tuple[int, int, int], grid: Grid
) -> _Plane:
    along, out = _middles(shape[1], grid.pixel_mm)[:, None], _middles(shape[2], grid.pixel_mm)[None, :]
    forward, up = positioned.plane(along, out)
    half = positioned.outline.thickness_mm / 2
    edge = _edge(positioned, shape, grid)
    nipple = (up / _NIPPLE_MM[1]) ** 2 + ((forward - positioned.outline.out_mm + 1.0) / _NIPPLE_MM[2]) ** 2
    tissue = (edge > -grid.pixel_mm) | (nipple < 1.5)
    rim = np.flatnonzero(tissue)
    muscle_rng = generator(woman.seed, woman.index, laterality, "muscle")
    return _Plane(
        half_mm=half,
        grid=grid,
        air=np.flatnonzero(~tissue),
        rim=rim,
        beyond_squared=(np.maximum(half - edge, 0) ** 2).ravel()[rim].astype(np.float32),
        nipple_squared=nipple.ravel()[rim].astype(np.float32),
        nipple_height_mm=positioned.pose.nipple_height_mm,
        muscle=_muscle(positioned, muscle_rng, along, out) if view is View.MLO else None,
    )


def _edge(positioned: Positioned, shape: tuple[int, int, int], grid: Grid) -> Float32Array:
    """Distance of each pixel to the outline, mm: smooth, so that it is worked out at the coarse pixels."""
    step = _coarse_factor(grid)
    along, out = (_middles(count // step, step * grid.pixel_mm) for count in shape[1:])
    coarse = positioned.edge(along[:, None], out[None, :])
    return _to_pixels(coarse.astype(np.float32), shape[1:])


def _muscle(positioned: Positioned, rng: np.random.Generator, along: FloatArray, out: FloatArray) -> Float32Array:
    """Half of the pectoral muscle's height: a triangle, broad above, that ends at the chest wall, round in front."""
    width = positioned.depth_mm * rng.uniform(0.4, 0.7)
    length = positioned.pose.top_mm * rng.uniform(0.8, 1.35)
    bulge = rng.uniform(-0.05, 0.15) * width
    share = along / length
    border = width * (1 - share) + bulge * 4 * np.clip(share * (1 - share), 0, 1)
    inside = (border - out) * length / np.hypot(length, width)
    half = positioned.outline.thickness_mm / 2 * rng.uniform(0.25, 0.5)
    rounded = np.clip(1 - inside / (2.0 * half), 0, 1)
    return np.asarray(np.where(inside > 0, half * np.sqrt(1 - rounded**2), -1.0), np.float32)


def _fill(
    body: Float32Array,
    glandular: Float32Array,
    share: Float32Array,
    plane: _Plane,
    height_mm: float,
    values: Float32Array,
) -> None:
    """Write one layer's attenuation and glandular share into `body` and `glandular`."""
    fat, gland, skin, muscle = values
    rise = np.float32(height_mm - plane.half_mm)
    np.multiply(share, gland - fat, out=body)
    body += fat
    glandular[...] = share
    if plane.muscle is not None:
        _add_muscle(body, glandular, plane, rise, muscle)
    layer, pixel = np.float32(plane.grid.layer_mm), np.float32(plane.grid.pixel_mm)
    deepest = max(plane.half_mm - SKIN_MM - float(max(layer, pixel)), 0.0)
    squared = plane.beyond_squared + rise**2
    near = np.flatnonzero(squared > deepest**2)
    rim = plane.rim[near]
    centre = np.sqrt(squared[near])
    # a voxel's extent along the skin's normal: over it the skin's border is spread, so that thickness adds up
    soft = np.maximum(np.abs(rise) * layer / np.maximum(centre, pixel), pixel)
    depth = np.float32(plane.half_mm) - centre
    lift = np.float32((height_mm - plane.nipple_height_mm) / _NIPPLE_MM[0])
    teat = (1 - np.sqrt(plane.nipple_squared[near] + lift**2)) * np.float32(_NIPPLE_MM[0])
    present = np.clip(np.maximum(depth, teat) / soft + np.float32(0.5), 0, 1)
    under_skin = np.clip((depth - np.float32(SKIN_MM)) / soft + np.float32(0.5), 0, 1)
    flat_body, flat_glandular = body.reshape(-1), glandular.reshape(-1)
    flat_glandular[rim] *= under_skin
    flat_body[rim] = present * (skin + under_skin * (flat_body[rim] - skin))
    flat_body[plane.air] = 0.0
    flat_glandular[plane.air] = 0.0


def _add_muscle(
    body: Float32Array, glandular: Float32Array, plane: _Plane, rise: np.float32, muscle: np.float32
) -> None:
    """Replace what lies inside of the pectoral muscle; the texture stays faintly, as fat between fibres."""
    assert plane.muscle is not None
    part = np.s_[:, : int((plane.muscle > 0).any(axis=0).sum())]
    sheath = (plane.muscle[part] - np.abs(rise)) / np.float32(plane.grid.layer_mm) + np.float32(0.5)
    np.clip(sheath, 0, np.float32(_MUSCLE_SHARE), out=sheath)
    body[part] += sheath * (muscle - body[part])
    glandular[part] *= 1 - sheath / np.float32(_MUSCLE_SHARE)
