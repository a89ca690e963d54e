"""What lesions are made of: a solid core, threads of tissue, and grains of calcium, around an origin in mm.

A shape is drawn from the lesion's seed alone, in the same order whatever the size, so that a lesion looks like itself
in both views, and bigger in the next round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.phantom.model import Float32Array, FloatArray, Lesion, LesionKind


@dataclass(frozen=True)
class Core:
    """A solid body whose radius varies with direction: a Gaussian random sphere, log radius being a smooth field.

    `waves` (k, 3), `phases` and `weights` (k,) make that field on the unit sphere; `roughness` is its standard
    deviation, and `axes` (3,) stretch the body. `edge_mm`: over which the body falls off.
    """

    radius_mm: float
    edge_mm: float
    roughness: float
    waves: FloatArray
    phases: FloatArray
    weights: FloatArray
    axes: FloatArray

    @property
    def reach_mm(self) -> float:
        """No point of the body lies further from the origin."""
        return float(self.radius_mm * self.axes.max() * np.exp(_EXTREME * self.roughness) + self.edge_mm / 2)

    def depth_mm(self, points: Float32Array) -> Float32Array:
        """How far points (n, 3) lie below the surface along their radius, (n,) in mm; negative outside."""
        scaled = points / self.axes.astype(np.float32)
        distance = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
        depth: Float32Array = np.float32(self.radius_mm) - distance
        spread = np.exp(_EXTREME * self.roughness)
        margin = 1.0 + self.edge_mm
        near, far = self.radius_mm / spread - margin, self.radius_mm * spread + margin
        border = np.flatnonzero((distance > near) & (distance < far))
        unit = scaled[border] / np.maximum(distance[border], 1e-6)[:, None]
        field = np.cos(unit @ self.waves.T.astype(np.float32) + self.phases.astype(np.float32))
        field = np.clip(field @ self.weights.astype(np.float32), -_EXTREME, _EXTREME)
        depth[border] = self.radius_mm * np.exp(self.roughness * field) - distance[border]
        return depth


_EXTREME = 2.2  # standard deviations at which the field is cut off


@dataclass(frozen=True)
class Grains:
    """Matter too fine for the voxels, as points (n, 3) in mm that stand for volumes (n,) in mm³."""

    points: FloatArray
    volumes: FloatArray

    @staticmethod
    def joined(parts: list[Grains]) -> Grains:
        return Grains(
            np.concatenate([part.points for part in parts] or [np.empty((0, 3))]),
            np.concatenate([part.volumes for part in parts] or [np.empty(0)]),
        )


@dataclass(frozen=True)
class Shape:
    """A lesion of a given size: its core (None without one), its threads of tumour tissue, its grains of calcium."""

    core: Core | None
    threads: Grains
    calcium: Grains


_NOTHING = Grains.joined([])


def shape(lesion: Lesion, diameter_mm: float) -> Shape:
    """The shape of a lesion at a diameter, which is the core's, or the whole extent of what has no core.

    Masses are Gaussian random spheres with branching spicules (de Sisternes et al., Med Phys 2015;42:1098). A
    malignant cluster of calcifications holds pleomorphic grains and fine linear ones along ducts, a benign one round
    grains of one size (BI-RADS, 5th edition). An architectural distortion is spicules that radiate from a point without
    a mass. Calcified vessels are two broken parallel lines.
    """
    rng = np.random.default_rng(lesion.seed)
    radius = diameter_mm / 2
    match lesion.kind:
        case LesionKind.SPICULATED_MASS:
            core = _core(rng, radius, 0.2, 2.5, 0.2, edge_mm=0.35 * radius)
            threads = _spicules(rng, radius, count=60, start=0.6, reach=1.6, thickness_mm=0.5)
            return Shape(core, threads, _calcified_centre(rng, lesion, diameter_mm))
        case LesionKind.CIRCUMSCRIBED_MASS:
            return Shape(_core(rng, radius, 0.1, 2.5, 0.2, edge_mm=0.1 * radius), _NOTHING, _NOTHING)
        case LesionKind.ARCHITECTURAL_DISTORTION:
            return Shape(None, _spicules(rng, radius, count=60, start=0.08, reach=0.9, thickness_mm=0.26), _NOTHING)
        case LesionKind.CYST:
            return Shape(_core(rng, radius, 0.02, 1.0, 0.08), _NOTHING, _NOTHING)
        case LesionKind.FIBROADENOMA:
            return Shape(_core(rng, radius, 0.06, 1.2, 0.22), _NOTHING, _NOTHING)
        case LesionKind.MICROCALCIFICATIONS if lesion.malignant:
            return Shape(None, _NOTHING, _cluster(rng, diameter_mm, round_ones=False))
        case LesionKind.MICROCALCIFICATIONS:
            return Shape(None, _NOTHING, _cluster(rng, diameter_mm, round_ones=True))
        case LesionKind.VASCULAR_CALCIFICATION:
            return Shape(None, _NOTHING, _vessel(rng, diameter_mm))


def _core(
    rng: np.random.Generator, radius: float, roughness: float, frequency: float, stretch: float, edge_mm: float = 0.0
) -> Core:
    """A core whose field has waves of `frequency` and, weaker, of up to four times that."""
    scale = np.exp(rng.uniform(-0.3, np.log(4), (_WAVES, 1)))
    waves = _directions(rng, _WAVES) * scale * frequency
    weights = 1 / np.maximum(scale[:, 0], 1.0)
    weights *= np.sqrt(2 / (weights**2).sum())
    phases = rng.uniform(0, 2 * np.pi, _WAVES)
    axes = np.exp(rng.uniform(-stretch, stretch, 3))
    return Core(radius, edge_mm, roughness, waves, phases, weights, axes / np.cbrt(axes.prod()))


_WAVES = 20


def _directions(rng: np.random.Generator, count: int) -> FloatArray:
    """Unit vectors (count, 3), all directions alike."""
    return _unit(rng.standard_normal((count, 3)))


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def _spicules(
    rng: np.random.Generator, radius: float, count: int, start: float, reach: float, thickness_mm: float
) -> Grains:
    """Threads that leave a sphere of `start` radii outwards, wind, branch twice, and thin out towards their tips."""
    directions = _directions(rng, count)
    lengths = radius * reach * np.exp(0.4 * rng.standard_normal(count))
    # Threads grow thicker with the tumour, but much more slowly than it does.
    thickness = thickness_mm * rng.uniform(0.6, 1.4, count) * (max(radius, 1.0) / 5) ** 0.5
    paths = _wind(rng, start * radius * directions, directions, lengths, wobble=0.22)
    parts = [_tubes(paths, thickness)]
    for _ in range(2):
        fork = rng.integers(_STEPS // 4, 3 * _STEPS // 4, len(paths))
        at = np.arange(len(paths))
        heading = _unit(paths[at, fork] - paths[at, fork - 1])
        heading = _unit(heading + 0.5 * rng.standard_normal(heading.shape))
        thickness, lengths = 0.65 * thickness, lengths * rng.uniform(0.3, 0.7, len(paths))
        paths = _wind(rng, paths[at, fork], heading, lengths, wobble=0.25)
        parts.append(_tubes(paths, thickness))
    return Grains.joined(parts)


_STEPS = 10
_SPACING_MM = 0.15


def _wind(
    rng: np.random.Generator, roots: FloatArray, directions: FloatArray, lengths: FloatArray, wobble: float
) -> FloatArray:
    """Paths (k, steps + 1, 3) from their roots (k, 3), each step turning a little."""
    path = [roots]
    for _ in range(_STEPS):
        directions = _unit(directions + wobble * rng.standard_normal(directions.shape))
        path.append(path[-1] + directions * (lengths / _STEPS)[:, None])
    return np.stack(path, axis=1)


def _tubes(paths: FloatArray, radii: FloatArray) -> Grains:
    """Tubes along paths (k, steps + 1, 3) as points on their axis; radii (k,) fall to a third towards the end."""
    lengths = np.linalg.norm(np.diff(paths, axis=1), axis=2)
    between = max(1, int(np.ceil(lengths.max(initial=0) / _SPACING_MM)))
    place = (np.arange(between) + 0.5) / between
    points = paths[:, :-1, None] + place[:, None] * np.diff(paths, axis=1)[:, :, None]
    along = (np.arange(paths.shape[1] - 1)[:, None] + place) / (paths.shape[1] - 1)
    radius = radii[:, None, None] * (1 - along * 2 / 3)
    volumes = np.pi * radius**2 * (lengths / between)[:, :, None]
    return Grains(points.reshape(-1, 3), volumes.reshape(-1))


def _calcified_centre(rng: np.random.Generator, lesion: Lesion, diameter_mm: float) -> Grains:
    """A third of the malignant spiculated masses hold calcifications."""
    if rng.random() >= 1 / 3 or not lesion.malignant:
        return _NOTHING
    return _cluster(rng, 0.8 * diameter_mm, round_ones=False)


_WIDEST_MM, _MOST = 60.0, 110


def _cluster(rng: np.random.Generator, diameter_mm: float, round_ones: bool) -> Grains:
    """Calcifications within a ball; those further out appear as the cluster widens, those there stay as they are."""
    centres = _along_ducts(rng) if not round_ones else _directions(rng, _MOST)
    centres = centres * (_WIDEST_MM / 2 * (np.arange(_MOST) + 0.5) / _MOST)[:, None]
    linear = (rng.random(_MOST) < 0.35) & (not round_ones)
    # Half axes in mm: round ones alike; pleomorphic ones of all sizes; fine linear ones long and thin.
    width = rng.uniform(0.17, 0.24, _MOST) if round_ones else np.exp(rng.normal(np.log(0.16), 0.35, _MOST))
    stretch = np.ones((_MOST, 3)) if round_ones else np.exp(rng.normal(0, 0.3, (_MOST, 3)))
    halves = width[:, None] * stretch
    halves[linear] = np.stack([rng.uniform(0.4, 0.9, _MOST), *np.full((2, _MOST), 0.09)], axis=1)[linear]
    radial = _unit(centres + 0.3 * np.linalg.norm(centres, axis=1, keepdims=True) * rng.standard_normal(centres.shape))
    shown = np.linalg.norm(centres, axis=1) <= max(diameter_mm / 2, 1.0)
    parts = [_grain(*one) for one in zip(centres[shown], halves[shown], radial[shown], strict=True)]
    return Grains.joined(parts)


def _along_ducts(rng: np.random.Generator) -> FloatArray:
    """Directions (n, 3) that gather around the ducts of one segment."""
    ducts = _unit(np.array([1.0, 0.0, 0.0]) * rng.choice([-1, 1], (6, 1)) + 0.7 * rng.standard_normal((6, 3)))
    return _unit(ducts[rng.integers(0, 6, _MOST)] + 0.25 * rng.standard_normal((_MOST, 3)))


def _grain(centre: FloatArray, halves: FloatArray, axis: FloatArray) -> Grains:
    """An ellipsoid with the first half axis along `axis`, as points on a grid inside of it."""
    side = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    side /= np.linalg.norm(side)
    frame = np.stack([axis, side, np.cross(axis, side)])
    counts = np.clip(np.ceil(2 * halves / 0.1), 3, 16).astype(int)
    steps = [(np.arange(count) + 0.5) / count * 2 - 1 for count in counts]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = grid[(grid**2).sum(axis=1) <= 1.0]
    volume = 4 / 3 * np.pi * halves.prod()
    return Grains(centre + (inside * halves) @ frame, np.full(len(inside), volume / len(inside)))


def _vessel(rng: np.random.Generator, length_mm: float) -> Grains:
    """Two parallel calcified walls of a winding vessel, with gaps."""
    heading = _directions(rng, 1)
    width = rng.uniform(1.2, 2.2)
    path = _wind(rng, np.zeros((1, 3)), heading, np.array([length_mm]), wobble=0.25)[0]
    path -= path.mean(axis=0)
    side = np.cross(heading[0], _directions(rng, 1)[0])
    side *= width / 2 / max(float(np.linalg.norm(side)), 1e-6)
    walls = np.stack([path + side, path - side])
    grains = _tubes(walls, np.full(2, 0.18))
    # Plaques: stretches along the wall where the smooth noise is high enough.
    count = len(grains.points)
    noise = np.convolve(rng.standard_normal(_PLAQUE_NOISE), np.ones(5) / 5, mode="same")
    at = np.linspace(0, _PLAQUE_NOISE - 1, count).astype(int)
    return Grains(grains.points[noise[at] > 0], grains.volumes[noise[at] > 0] * rng.uniform(0.5, 1.0))


_PLAQUE_NOISE = 160
