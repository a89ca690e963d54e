"""From measured attenuation to an image for presentation, as makers of machines do it, in three looks.

The steps are those of digital mammography in general: the margin, where the compressed breast thins out, is raised to
the level of the middle (peripheral equalisation: Byng et al. 1997, Radiology 203:564; Snoeren & Karssemeijer 2004, IEEE
Trans Med Imaging 23:799); detail is enhanced; contrast may be evened out over the breast; a curve maps the range of the
breast to grey. Looks differ in how much of each they do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from training.phantom.model import BoolArray, Float32Array

_AIR = 0.08
"""Absorption below which there is no tissue: less than 2 mm of fat."""
_NIPPLE_MM = 16.0
"""Radius of a disc that fits into any breast, but not into a nipple."""
_MARGIN_BIN_MM = 1.0
_INNER_MM = 20.0
"""Distance from the skin from which a breast is at full thickness."""
_SKIN_MM = 10.0
"""Distance from the skin within which the range of grey is not measured."""
_MARGIN_OF_FRAMES = 0.8
"""How far the margin is made up for in frames, where the skin stands out of its surroundings anyway."""
_COARSE = 4
"""Pixels averaged along each side before the range of grey is measured."""
_LEAST_SPAN = 0.22
"""Range of grey as a share of fat's absorption at least, so that a breast of fat is not all noise."""


@dataclass(frozen=True)
class Look:
    """`margin`: share of the margin's lack of thickness that is made up for. `detail`: gain of structures finer than
    about 2 mm. `local`: weight of contrast evened out over the surroundings. `curve`: grey in 0..1 of a place that is 0
    where fat is and 1 where the densest tissue is."""

    margin: float
    detail: float
    local: float
    curve: Callable[[Float32Array], Float32Array]


def _line(start: float, slope: float) -> Callable[[Float32Array], Float32Array]:
    """A straight line that bends at both ends, so that neither a calcification nor a fold is cut off."""

    def curve(value: Float32Array) -> Float32Array:
        grey = start + slope * value
        low = 0.5 * start
        grey = np.where(grey < low, low * np.exp(np.minimum(grey / low, 1.0) - 1.0), grey)
        return np.where(grey > 0.85, 1.0 - 0.15 * np.exp((0.85 - np.maximum(grey, 0.85)) / 0.15), grey)

    return curve


def _logistic(start: float, slope: float) -> Callable[[Float32Array], Float32Array]:
    """A sigmoid, as DICOM PS3.3 C.11.2.1.3.1 and film have it."""

    def curve(value: Float32Array) -> Float32Array:
        return np.asarray(1.0 / (1.0 + np.exp(-(start + slope * value))), np.float32)

    return curve


LOOKS: dict[Literal["logarithmic", "equalised", "sigmoid"], Look] = {
    "logarithmic": Look(margin=1.0, detail=0.8, local=0.0, curve=_line(0.22, 0.6)),
    "equalised": Look(margin=0.9, detail=0.4, local=0.5, curve=_line(0.4, 0.45)),
    "sigmoid": Look(margin=0.7, detail=0.2, local=0.0, curve=_logistic(0.1, 1.9)),
}


@dataclass(frozen=True)
class Presentation:
    """How the images of one breast and view become grey: found once, and the same for all frames of a volume.

    `breast`: where the breast is. `raised`: what peripheral equalisation adds. `low`, `high`: absorption of fat and of
    the densest tissue.
    """

    look: Look
    pixel_mm: float
    breast: BoolArray
    raised: Float32Array
    low: float
    high: float

    def grey(self, absorption: Float32Array, bits: int, *, enhance: bool = True) -> npt.NDArray[np.uint16]:
        """An image of so many bits: 0 in air, from 1 in the breast. `enhance`: whether detail is to be enhanced."""
        level = absorption + self.raised
        if enhance:
            level = level + self.look.detail * (level - self._surroundings(level, 1.0))
        value = (level - self.low) / (self.high - self.low)
        if self.look.local:
            value = value + self.look.local * (self._evened(value) - value)
        white = 2**bits - 1
        shown = 1.0 + (white - 1.0) * np.clip(self.look.curve(value), 0.0, 1.0)
        return np.where(self.breast, np.rint(shown), 0.0).astype(np.uint16)

    def _evened(self, value: Float32Array) -> Float32Array:
        """Each place against the mean and spread of its surroundings: adaptive equalisation, but smooth."""
        mean = self._surroundings(value, 12.0)
        spread = np.sqrt(np.maximum(self._surroundings((value - mean) ** 2, 12.0), 0.0))
        return np.asarray(0.35 + 0.18 * (value - mean) / (spread + 0.08), np.float32)

    def _surroundings(self, image: Float32Array, sigma_mm: float) -> Float32Array:
        """Mean over the surroundings, the air left out."""
        sigma = sigma_mm / self.pixel_mm
        step = max(1, int(sigma / 3))
        rows, columns = image.shape
        small = (max(1, columns // step), max(1, rows // step))
        inside = self.breast.astype(np.float32)
        total, share = (
            cv2.GaussianBlur(
                cv2.resize(part, small, interpolation=cv2.INTER_AREA),
                (0, 0),
                sigma / step,
                borderType=cv2.BORDER_REPLICATE,
            )
            for part in (np.where(self.breast, image, 0.0).astype(np.float32), inside)
        )
        mean = total / np.maximum(share, 1e-3)
        return np.asarray(cv2.resize(mean, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def presentation(
    absorption: Float32Array,
    processing: Literal["logarithmic", "equalised", "sigmoid"],
    pixel_mm: float,
    samples: Float32Array | None = None,
) -> Presentation:
    """How to show images of a breast of which `absorption`, float32 (rows, columns), is the whole.

    `samples`: (frames, rows, columns) of a volume, from which the range of grey is taken instead. Raises ValueError if
    there is no tissue.
    """
    look = LOOKS[processing]
    breast = breast_mask(absorption, pixel_mm)
    if not breast.any():
        raise ValueError("there is no tissue in this image, so nothing tells how to show it: draw the breast first")
    distance = _from_skin(breast, pixel_mm)
    inner = distance > min(_INNER_MM, 0.5 * float(distance.max()))
    share = look.margin if samples is None else _MARGIN_OF_FRAMES * look.margin
    fat = float(np.percentile(absorption[inner], 20))
    raised = np.float32(share) * np.where(breast, _missing(absorption, distance, fat), 0.0).astype(np.float32)
    images = absorption[None] if samples is None else samples
    low, high = _range(images, raised, distance > min(_SKIN_MM, 0.5 * float(distance.max())))
    return Presentation(look, pixel_mm, breast, raised, low, max(high, low + _LEAST_SPAN * abs(low)))


def breast_mask(absorption: Float32Array, pixel_mm: float) -> BoolArray:
    """The largest piece of tissue, its holes filled: bool (rows, columns)."""
    smooth = cv2.GaussianBlur(absorption, (0, 0), 0.5 / pixel_mm, borderType=cv2.BORDER_REPLICATE)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((smooth > _AIR).astype(np.uint8), connectivity=4)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    if not len(sizes):
        return np.zeros(absorption.shape, np.bool_)
    piece = (labels == 1 + int(np.argmax(sizes))).astype(np.uint8)
    outline, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(piece, outline, -1, 1, cv2.FILLED) > 0)


def _from_skin(breast: BoolArray, pixel_mm: float) -> Float32Array:
    """Distance from the skin in mm, 0 outside and in the nipple, which lies before it and is as thin as the margin."""
    scale = max(1, round(1.0 / pixel_mm))
    radius = round(_NIPPLE_MM / (scale * pixel_mm))
    rows, columns = breast.shape
    small = (max(1, columns // scale), max(1, rows // scale))
    coarse = cv2.resize(breast.astype(np.uint8), small, interpolation=cv2.INTER_NEAREST)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    framed = np.pad(coarse, 2 * radius, mode="edge")
    opened = cv2.dilate(cv2.morphologyEx(framed, cv2.MORPH_OPEN, disc), np.ones((3, 3), np.uint8))
    without = opened[2 * radius : -2 * radius, 2 * radius : -2 * radius]
    body = breast & (cv2.resize(without, (columns, rows), interpolation=cv2.INTER_NEAREST) > 0)
    return np.asarray(cv2.distanceTransform(body.astype(np.uint8), cv2.DIST_L2, 5) * pixel_mm, np.float32)


def _range(images: Float32Array, raised: Float32Array, inside: BoolArray) -> tuple[float, float]:
    """Absorption of fat and of the densest tissue, noise and calcifications averaged away over some pixels."""
    small = (max(1, inside.shape[1] // _COARSE), max(1, inside.shape[0] // _COARSE))
    where = cv2.resize(inside.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0.5
    levels = [cv2.resize(image + raised, small, interpolation=cv2.INTER_AREA)[where] for image in images]
    low, high = np.percentile(np.concatenate(levels), [3, 99.5])
    return float(low), float(high)


def _missing(absorption: Float32Array, distance: Float32Array, fat: float) -> Float32Array:
    """What fat near the skin lacks of the absorption of fat in the middle, by the distance from the skin in mm."""
    bins = np.arange(0.0, max(float(distance.max()), 2 * _MARGIN_BIN_MM), _MARGIN_BIN_MM)
    inside = distance > 0
    which = np.digitize(distance[inside], bins) - 1
    values = absorption[inside]
    order = np.argsort(which, kind="stable")
    pieces = np.split(values[order], np.searchsorted(which[order], np.arange(1, len(bins))))
    typical = np.array([np.percentile(piece, 20) if len(piece) else fat for piece in pieces])
    profile = np.maximum.accumulate(cv2.GaussianBlur(typical[None], (0, 0), 2.0, borderType=cv2.BORDER_REPLICATE)[0])
    lack = np.interp(distance, bins + _MARGIN_BIN_MM / 2, np.maximum(fat - profile, 0.0))
    return np.asarray(lack, np.float32)
