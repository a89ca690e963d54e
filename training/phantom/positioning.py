"""How a breast lies under the paddle: it flows, keeping its volume, into a flat shape with a round edge.

The breast is pressed along one direction across the anterior axis: superior–inferior in CC, superomedial–inferolateral
at about 50° in MLO. In the plane of the paddle its outline is a superellipse, flatter towards the axilla; its middle
has the paddle's height and its edge is a half circle over that height. Points keep their direction from the middle of
the chest wall; their distance follows from the volume: what lay inside of an ellipsoidal shell before lies inside of
the same share of the flat breast's volume after. Along the pressed direction every column shrinks evenly.

50° is what a guide advises for tall women (Willison 2018, volparahealth.com: 40° to 50° by height); Norway's programme
takes 60° for all (Moshina et al. 2022, hdl:10037/28726). The outline is our choice, by eye: its exponents, its aspect,
the axilla, and how much changes from round to round. Shapes of real compressed breasts are published (Rodriguez-Ruiz et
al., Med Phys 44:2161, 2017, principal components of 931 pairs of views) and were not used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from screening.exam import Laterality, View
from training.phantom.model import FloatArray, Grid, Woman
from training.phantom.seeds import generator

AIR_MM = 12.0  # margin of air beyond the skin
_AXILLA = 1.35  # how much further an MLO breast runs towards the axilla than towards the fold below; our choice
_AXILLA_SEEN = 0.76  # share of that length that the image shows; our choice


@dataclass(frozen=True)
class Outline:
    """Shape of the compressed breast in the plane and its relation to the breast before.

    Lengths in mm from the middle of the chest wall: `out_mm` to the nipple's skin, `up_mm` and `down_mm` along the
    chest wall. `up_exponent`, `down_exponent` of the superellipse on either side of the nipple. `flat` and `round_`:
    matching normalised radii of the compressed and of the uncompressed breast.
    """

    thickness_mm: float
    out_mm: float
    up_mm: float
    down_mm: float
    up_exponent: float
    down_exponent: float
    flat: FloatArray
    round_: FloatArray

    def exponent(self, up: FloatArray) -> FloatArray:
        """Exponent of the superellipse on the side of each point."""
        return np.where(up > 0, self.up_exponent, self.down_exponent)

    def normalise(self, out: FloatArray, up: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Plane coordinates over the outline's lengths (x, y), normalised radius, and distance to the outline in mm."""
        lengths = np.where(up > 0, self.up_mm, self.down_mm)
        x, y = out / self.out_mm, up / lengths
        n = self.exponent(up)
        radius = np.maximum((np.abs(x) ** n + np.abs(y) ** n) ** (1 / n), 1e-6)
        slope = np.hypot((np.abs(x) / radius) ** (n - 1) / self.out_mm, (np.abs(y) / radius) ** (n - 1) / lengths)
        return x, y, radius, (1 - radius) / slope

    def half_height(self, edge: FloatArray) -> FloatArray:
        """Half of the breast's height in mm at a distance `edge` (mm) from its outline; 0 outside."""
        half = self.thickness_mm / 2
        beyond = np.clip(half - edge, 0, half)
        return np.asarray(np.sqrt(half**2 - beyond**2), np.float64)


@dataclass(frozen=True)
class Pose:
    """How the breast lies this time: `turn` about the anterior axis and `tilt` in the plane (radians), shifts in mm."""

    turn: float
    tilt: float
    out_shift_mm: float
    top_mm: float
    nipple_height_mm: float


@dataclass(frozen=True)
class Positioned:
    """The mapping between the breast frame and the view frame for one breast, view and round."""

    outline: Outline
    pose: Pose
    radius_mm: float
    depth_mm: float

    def plane(self, along: FloatArray, out: FloatArray) -> tuple[FloatArray, FloatArray]:
        """View frame to (out, up) of the outline, mm."""
        cosine, sine = np.cos(self.pose.tilt), np.sin(self.pose.tilt)
        forward, up = out + self.pose.out_shift_mm, self.pose.top_mm - along
        return cosine * forward + sine * up, -sine * forward + cosine * up

    def edge(self, along: FloatArray, out: FloatArray) -> FloatArray:
        """Distance of places in the view's plane to the breast's outline, mm; negative in air."""
        return self.outline.normalise(*self.plane(along, out))[3]

    def flow(self, along: FloatArray, out: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Where columns of the view come from: anterior and across in mm, and the stretch of their height.

        A point `height` in the column was `stretch` × (height - half the thickness) from the breast's middle before.
        """
        outline = self.outline
        x, y, radius, edge = outline.normalise(*self.plane(along, out))
        n = outline.exponent(y)
        before = np.interp(radius, outline.flat, outline.round_)
        scale = before / radius ** (n / 2)
        anterior = self.depth_mm * scale * np.sign(x) * np.abs(x) ** (n / 2)
        across = self.radius_mm * scale * np.sign(y) * np.abs(y) ** (n / 2)
        chord = self.radius_mm * np.sqrt(np.maximum(1 - before**2, 0))
        return anterior, across, chord / np.maximum(outline.half_height(edge), 1e-3)

    def unturn(self, across: FloatArray, pressed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(lateral, superior) from the coordinates across and along the direction of the pressure, mm."""
        cosine, sine = np.cos(self.pose.turn), np.sin(self.pose.turn)
        return cosine * across - sine * pressed, sine * across + cosine * pressed

    def to_breast(self, points: FloatArray) -> FloatArray:
        """Points (n, 3) of the view frame to the breast frame, mm; outside of the breast to somewhere outside."""
        anterior, across, stretch = self.flow(points[:, 1], points[:, 2])
        pressed = stretch * (points[:, 0] - self.outline.thickness_mm / 2)
        return np.column_stack([anterior, *self.unturn(across, pressed)])

    def to_view(self, points: FloatArray) -> FloatArray:
        """Points (n, 3) of the breast frame to the view frame, mm."""
        outline = self.outline
        points = np.atleast_2d(np.asarray(points, np.float64))
        cosine, sine = np.cos(self.pose.turn), np.sin(self.pose.turn)
        across = (cosine * points[:, 1] + sine * points[:, 2]) / self.radius_mm
        pressed = -sine * points[:, 1] + cosine * points[:, 2]
        forward = points[:, 0] / self.depth_mm
        before = np.clip(np.hypot(forward, across), 1e-9, 1 - 1e-9)
        after = np.interp(before, outline.round_, outline.flat)
        n = outline.exponent(across)
        x = after * np.sign(forward) * (np.abs(forward) / before) ** (2 / n)
        y = after * np.sign(across) * (np.abs(across) / before) ** (2 / n)
        plane_out, plane_up = x * outline.out_mm, y * np.where(y > 0, outline.up_mm, outline.down_mm)
        *_, edge = outline.normalise(plane_out, plane_up)
        chord = self.radius_mm * np.sqrt(1 - before**2)
        height = outline.thickness_mm / 2 + pressed / chord * outline.half_height(edge)
        cosine, sine = np.cos(self.pose.tilt), np.sin(self.pose.tilt)
        out = cosine * plane_out - sine * plane_up - self.pose.out_shift_mm
        along = self.pose.top_mm - (sine * plane_out + cosine * plane_up)
        return np.column_stack([height, along, out])


def position(woman: Woman, laterality: Laterality, view: View, round_number: int, grid: Grid) -> Positioned:
    """How she is positioned and compressed for one view of one round: a few mm, degrees and per cent off the last."""
    if view not in woman.compressed_mm:
        raise ValueError(f"the simulation knows the views CC and MLO, not {view}")
    hers = generator(woman.seed, woman.index, view, "shape")
    aspect = 0.98 * np.exp(0.1 * hers.standard_normal())
    exponents = (1.75 if view is View.MLO else 1.7, 1.85) + 0.1 * hers.standard_normal(2)
    turn = np.deg2rad(hers.normal(50, 3) if view is View.MLO else 0.0)
    now = generator(woman.seed, woman.index, laterality, view, round_number, "pose")
    pressed = woman.compressed_mm[view] * (1 + 0.03 * now.standard_normal())
    thickness = max(1, round(pressed / grid.layer_mm)) * grid.layer_mm
    outline = _fit_outline(woman, view, thickness, np.clip(exponents, 1.3, 2.3), float(aspect))
    seen = outline.up_mm * _AXILLA_SEEN if view is View.MLO else outline.up_mm + AIR_MM
    pose = Pose(
        turn=float(turn + np.deg2rad(3.0) * now.standard_normal()),
        tilt=float(np.deg2rad(2.0) * now.standard_normal()),
        out_shift_mm=float(np.clip(2.5 + 2.0 * now.standard_normal(), -1.0, 8.0)),
        top_mm=float(seen + 3.0 * now.standard_normal()),
        nipple_height_mm=float(thickness * (0.5 + 0.06 * now.standard_normal())),
    )
    return Positioned(outline, pose, woman.radius_mm, woman.depth_mm)


def _fit_outline(woman: Woman, view: View, thickness: float, exponents: FloatArray, aspect: float) -> Outline:
    """The outline that holds the volume of the uncompressed breast (in MLO with an axillary tail above it)."""
    axilla = _AXILLA if view is View.MLO else 1.0
    volume = 2 / 3 * np.pi * woman.radius_mm**2 * woman.depth_mm * (1 + axilla) / 2
    upper, lower = (float(exponent) for exponent in exponents)
    shape = Outline(thickness, 1.0, aspect * axilla, aspect, upper, lower, np.empty(0), np.empty(0))

    def scaled(factor: float) -> Outline:
        return replace(shape, out_mm=factor, up_mm=factor * shape.up_mm, down_mm=factor * shape.down_mm)

    factor = brentq(lambda tried: _columns(scaled(tried))[1].sum() - volume, 5.0, 500.0, xtol=0.01)
    outline = scaled(factor)
    radii, volumes = _columns(outline)
    order = np.argsort(radii)
    shares = np.cumsum(volumes[order]) / volumes.sum()
    flat = np.linspace(0, 1, 200)
    reached = np.interp(flat, radii[order], shares, left=0.0)
    reached[-1] = 1.0
    return replace(outline, flat=flat, round_=np.sqrt(1 - (1 - reached) ** (2 / 3)))


def _columns(outline: Outline) -> tuple[FloatArray, FloatArray]:
    """Normalised radius and volume (mm³) of columns that tile the flat breast's plane before the chest wall."""
    steps = 100
    x = (np.arange(steps) + 0.5)[:, None] / steps
    y = (np.arange(-steps, steps) + 0.5)[None, :] / steps
    lengths = np.where(y > 0, outline.up_mm, outline.down_mm)
    *_, radius, edge = outline.normalise(x * outline.out_mm, y * lengths)
    volume = 2 * outline.half_height(edge) * outline.out_mm * lengths / steps**2
    inside = radius < 1
    return radius[inside], volume[inside]
