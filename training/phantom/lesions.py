"""Puts a lesion into a compressed breast, in the lesion's own box and at the view's voxel size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.phantom.conspicuity import conspicuity
from training.phantom.model import CompressedBreast, Float32Array, FloatArray, Grid, Lesion, LesionKind, LesionTrace
from training.phantom.shapes import Core, Grains, Shape, shape
from training.phantom.tissue import Tissue, attenuation

_CALCIUM_IN_MASS = 0.35  # share of solid hydroxyapatite
_SUBLAYERS = 3  # a core's edge is smooth over a part of a layer
_RING_MM = 18.0  # around a lesion, whose tissue it is seen against
_IN_BOX = 0.98  # of a lesion's substance, along each axis


def insert(breast: CompressedBreast, lesion: Lesion, diameter_mm: float) -> tuple[CompressedBreast, LesionTrace]:
    """The breast with the lesion in it, and where it lies and how well it can be seen there.

    The lesion takes the place of the tissue, voxel by voxel as far as it fills the voxel, so threads and grains thinner
    than a voxel keep their volume. The skin's outside stays air. The breast that is given is left as it is, and so is
    `glandular`. Conspicuity is measured against the breast as given, so insert a woman's lesions one after the other.
    A lesion that the view does not hold gives the same breast, an empty box (both corners alike) and conspicuity 0.
    """
    centre = breast.to_view(np.asarray(lesion.position_mm, dtype=np.float64)[None])[0]
    placement = _Placement(centre, _stiffened(_deformation(breast, lesion)))
    form = shape(lesion, diameter_mm)
    window = _window(breast, placement, form.core, [form.threads, form.calcium])
    if window is None:
        return breast, _unseen(lesion, diameter_mm, centre)
    before = breast.attenuation[window.slices]
    tissue, calcium = (share * (before > 0) for share in _shares(form, placement, window))
    if not (tissue.any() or calcium.any()):
        return breast, _unseen(lesion, diameter_mm, centre)
    soft, hard = _materials(lesion, breast.energy_kev)
    after = before + tissue * (np.float32(soft) - before)
    after += calcium * (np.float32(hard) - after)
    box = _box(tissue if tissue.any() else calcium, window)
    seen = _conspicuity(breast, window, after - before)
    whole = breast.attenuation.copy()
    whole[window.slices] = after
    return replace(breast, attenuation=whole), LesionTrace(lesion, diameter_mm, box, seen)


def _unseen(lesion: Lesion, diameter_mm: float, centre: FloatArray) -> LesionTrace:
    corner = (float(centre[0]), float(centre[1]), float(centre[2]))
    return LesionTrace(lesion, diameter_mm, (corner, corner), 0.0)


_CALCIFIED = (LesionKind.MICROCALCIFICATIONS, LesionKind.VASCULAR_CALCIFICATION)


@dataclass(frozen=True)
class _Placement:
    """Where a lesion's own frame lies in the view: view = centre + matrix @ own, mm. The matrix keeps volumes."""

    centre: FloatArray
    matrix: FloatArray

    def to_view(self, points: FloatArray) -> FloatArray:
        return np.asarray(self.centre + points @ self.matrix.T)

    def to_lesion(self, points: FloatArray) -> FloatArray:
        return np.asarray((points - self.centre) @ np.linalg.inv(self.matrix).T)


@dataclass(frozen=True)
class _Window:
    """A part of the voxels: index of the first and one past the last, along each axis."""

    first: tuple[int, int, int]
    last: tuple[int, int, int]
    grid: Grid

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        a, b, c = (slice(low, high) for low, high in zip(self.first, self.last, strict=True))
        return a, b, c

    @property
    def shape(self) -> tuple[int, int, int]:
        a, b, c = (high - low for low, high in zip(self.first, self.last, strict=True))
        return a, b, c

    @property
    def voxel_mm(self) -> FloatArray:
        return np.array([self.grid.layer_mm, self.grid.pixel_mm, self.grid.pixel_mm])


def _deformation(breast: CompressedBreast, lesion: Lesion) -> FloatArray:
    """How the breast is deformed at the lesion: derivative (3, 3) of the view frame by the breast frame."""
    step = 2.0
    position = np.asarray(lesion.position_mm, dtype=np.float64)
    around = breast.to_view(np.concatenate([position + step * np.eye(3), position - step * np.eye(3)]))
    return np.asarray((around[:3] - around[3:]).T / (2 * step))


def _stiffened(deformation: FloatArray) -> FloatArray:
    """The deformation of something stiffer than its surroundings: same rotation, half the strain, volume kept."""
    left, stretch, right = np.linalg.svd(deformation)
    stretch = np.sqrt(np.clip(stretch, 0.25, 4.0))
    return np.asarray(left @ np.diag(stretch / np.cbrt(stretch.prod())) @ right)


def _window(breast: CompressedBreast, placement: _Placement, core: Core | None, parts: list[Grains]) -> _Window | None:
    """The voxels that the lesion may touch; None if the view holds none of them."""
    points = [placement.to_view(part.points) for part in parts if len(part.points)]
    if core is not None:
        reach = core.reach_mm * np.linalg.norm(placement.matrix, axis=1)
        points.append(np.stack([placement.centre - reach, placement.centre + reach]))
    everywhere = np.concatenate(points)
    voxel = np.array([breast.grid.layer_mm, breast.grid.pixel_mm, breast.grid.pixel_mm])
    first = np.maximum(np.floor(everywhere.min(axis=0) / voxel).astype(int) - 1, 0)
    last = np.minimum(np.ceil(everywhere.max(axis=0) / voxel).astype(int) + 2, breast.attenuation.shape)
    if (first >= last).any():
        return None
    window = _Window(tuple(int(one) for one in first), tuple(int(one) for one in last), breast.grid)  # type: ignore[arg-type]
    return window if (breast.attenuation[window.slices] > 0).any() else None


def _shares(form: Shape, placement: _Placement, window: _Window) -> tuple[Float32Array, Float32Array]:
    """Share of each voxel that the lesion's tissue fills, and that its calcifications fill."""
    tissue = _deposited(form.threads, placement, window)
    if form.core is not None:
        tissue += _filled(form.core, placement, window)
    return np.minimum(tissue, np.float32(1)), np.minimum(_deposited(form.calcium, placement, window), np.float32(1))


def _filled(core: Core, placement: _Placement, window: _Window) -> Float32Array:
    """Share of each voxel that the core fills; the sharpest edge falls off over one pixel."""
    share = np.zeros(window.shape, dtype=np.float32)
    voxel, first = window.voxel_mm, np.array(window.first)
    reach = core.reach_mm * np.linalg.norm(placement.matrix, axis=1) + voxel
    low = np.clip(np.floor((placement.centre - reach) / voxel).astype(int) - first, 0, window.shape)
    high = np.clip(np.ceil((placement.centre + reach) / voxel).astype(int) - first, 0, window.shape)
    row, column = (((np.arange(low[axis], high[axis]) + first[axis] + 0.5) * voxel[axis]) for axis in (1, 2))
    plane = np.stack(np.broadcast_arrays(0.0, row[:, None], column), axis=-1).reshape(-1, 3)
    plane = placement.to_lesion(plane).astype(np.float32)
    upwards = placement.to_lesion(placement.centre + np.array([[1.0, 0.0, 0.0]]))[0]
    part = share[:, low[1] : high[1], low[2] : high[2]]
    edge = np.float32(max(core.edge_mm, voxel[1]))
    for index in range(low[0], high[0]):
        for sub in range(_SUBLAYERS):
            height = (first[0] + index + (sub + 0.5) / _SUBLAYERS) * voxel[0]
            depth = core.depth_mm(plane + (height * upwards).astype(np.float32)).reshape(part.shape[1:])
            part[index] += np.clip(np.float32(0.5) + depth / edge, 0, 1) / np.float32(_SUBLAYERS)
    return share


def _deposited(grains: Grains, placement: _Placement, window: _Window) -> Float32Array:
    """Share of each voxel that grains fill: each shares its volume among the eight voxels around it (trilinearly)."""
    if not len(grains.points):
        return np.zeros(window.shape, dtype=np.float32)
    place = placement.to_view(grains.points) / window.voxel_mm - 0.5 - np.array(window.first)
    low = np.floor(place).astype(np.int64)
    part = place - low
    indices, weights = [], []
    for corner in np.ndindex(2, 2, 2):
        index = low + corner
        inside = ((index >= 0) & (index < window.shape)).all(axis=1)
        weight = np.prod(np.where(corner, part, 1 - part), axis=1) * grains.volumes
        indices.append(np.ravel_multi_index(tuple(index[inside].T), window.shape))
        weights.append(weight[inside])
    size = int(np.prod(window.shape))
    volume = np.bincount(np.concatenate(indices), weights=np.concatenate(weights), minlength=size)
    return np.asarray(volume / window.voxel_mm.prod(), dtype=np.float32).reshape(window.shape)


def _materials(lesion: Lesion, energy_kev: float) -> tuple[float, float]:
    """Attenuation of the lesion's tissue and of its calcifications, 1/mm.

    `contrast` of soft lesions is above glandular tissue in shares of tumour's (Johns & Yaffe 1987); calcifications are
    porous, and theirs is a share of solid hydroxyapatite.
    """
    glandular = attenuation(Tissue.GLANDULAR, energy_kev)
    soft = glandular + lesion.contrast * (attenuation(Tissue.TUMOUR, energy_kev) - glandular)
    share = lesion.contrast if lesion.kind in _CALCIFIED else _CALCIUM_IN_MASS
    return soft, share * attenuation(Tissue.CALCIUM, energy_kev)


def _box(share: Float32Array, window: _Window) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Corners in mm of the box that holds most of the lesion along each axis, so that no single thread widens it."""
    corners = []
    for axis, voxel in enumerate(window.voxel_mm):
        profile = share.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.float64)
        reached = np.cumsum(profile) / max(float(profile.sum()), 1e-12)
        first = int(np.searchsorted(reached, (1 - _IN_BOX) / 2))
        last = int(np.searchsorted(reached, (1 + _IN_BOX) / 2))
        corners.append((window.first[axis] + np.array([first, last + 1])) * voxel)
    (a, b), (c, d), (e, f) = (tuple(float(edge) for edge in corner) for corner in corners)
    return (a, c, e), (b, d, f)


def _conspicuity(breast: CompressedBreast, window: _Window, added: Float32Array) -> float:
    """Conspicuity in the ideal projection of the lesion's window and a ring around it."""
    pixel, layer = breast.grid.pixel_mm, breast.grid.layer_mm
    ring = int(np.ceil(_RING_MM / pixel))
    (_, top, left), (_, bottom, right) = window.first, window.last
    rows = slice(max(top - ring, 0), bottom + ring)
    columns = slice(max(left - ring, 0), right + ring)
    background = breast.attenuation[:, rows, columns].sum(axis=0) * layer
    signal = np.zeros_like(background)
    row, column = top - rows.start, left - columns.start
    signal[row : row + added.shape[1], column : column + added.shape[2]] = added.sum(axis=0) * layer
    return conspicuity(signal, background, pixel)
