"""Image quality, as a radiographer judges it: sentences that go with the result and never keep an image from it.

Every measure has a unit and a threshold. The thresholds were chosen on 2,489 digital mammograms of ten machines (RSNA
2022), 326 low-energy images of contrast mammography (CDD-CESM) and 210 digitised films (mini-MIAS), so that what they
mark there are images that show the fault, or at most a few per cent of the good ones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from screening.exam import Image, Laterality, View
from screening.imaging.geometry import Geometry
from screening.imaging.mask import BreastMask, Side
from screening.imaging.prepare import Cut, Prepared

SIDE_CONFIDENCE = 0.3
"""Below it the pixels do not say where the chest wall is: 0.3 % of digital images, whose breasts fill the frame. Above
it, 4 of 1,692 images (but for one machine that mirrors) contradict their labels, and three of those are mirrored."""
ANTERIOR_CONTACT_MM = 10.0
"""The front of a breast in the frame touches no edge: 0.8 % of digital images, all of them cut off."""
BORDER_CONTACT_MM = 40.0
"""Below, and above in CC, a large breast may graze the edge near the chest wall: up to 40 mm in 97 % of digital images.
What has more is cut off, as a third of the films is at the lower edge."""
SATURATED_SHARE = 0.05
"""Of the breast's pixels; at most 0.011 on digital images, above it in 1 % of the contrast set (enhancing cancers)."""
BLACK_SHARE = 0.10
"""Of the breast's pixels; the mask's rim of air makes up to 0.06."""
PECTORAL_CONTRAST = 0.6
"""Standard deviations between both sides of the muscle's edge. The median MLO has 1.4 to 2.5; 5 % of them (10 % in the
contrast set) have less, nearly all without a visible muscle. Of CC images, which have none, 76 % to 93 % have less."""
NIPPLE_MM2 = 0.4
"""Area that stands out from the outline. A flat nipple in profile may have no more than a bare outline, so that only
outlines without any bump are marked: 0.2 % of digital images, 5 % of films, 10 % in the contrast set, where cancers
retract nipples. Most nipples that are out of profile go unmarked."""
SHARPNESS = 0.27
"""Ratio without unit, see `sharpness`. Digital images have 0.33 or more, films 0.30, the contrast set (reduced by its
publisher) 0.25, 0.27 in 98 %. Of images blurred by motion over 1.5 mm, 94 % and more fall below it; over 1 mm, 12 % to
50 % of the digital images and films; motion of less than that goes unseen."""
IMPLANT_CM2, IMPLANT_CONTRAST = 15.0, 0.4
"""Area, and step in prepared brightness at its border, of what can only be an implant or a foreign body. Marks every
implant in the field (half of the images labelled so; the others displace it), no other digital image, 1 % of the
contrast set (cancers of 16 to 33 cm²) and 3 % of films, where dense tissue saturates."""

WRONG_SIDE = "The chest wall is seen"
"""How the sentence begins that says so of the other side."""

_FINE_MM = 0.5
"""Spacing of the image that sharpness and outline are judged on."""
_COARSE_MM = 2.0
"""Spacing of the image that large things are judged on."""
_CORNER_MM = (120.0, 80.0)
"""Height and width of the corner in which the pectoral muscle is looked for."""

_Floats = npt.NDArray[np.float32]
_Bools = npt.NDArray[np.bool_]
_ALONG_THE_BODY = frozenset({View.MLO, View.ML, View.LM, View.LMO, View.SIO, View.ISO, View.AT})
"""Views in which the breast goes on into the axilla, so that it is cut off at the upper edge by rights."""


def assess(pixels: npt.NDArray[np.integer], prepared: Prepared, image: Image) -> tuple[str, ...]:
    """Judge one image; a sentence for each fault, none for a good image.

    `pixels`: unsigned integers (rows, columns) as displayed, of which `prepared` was made. `image` gives the view, the
    spacing and whether an implant is known of.
    """
    warnings = _cut_off(prepared, image) + _clipped(pixels, prepared.mask)
    if image.view is View.MLO and not image.implant and pectoral_contrast(prepared, image) < PECTORAL_CONTRAST:
        warnings.append("No pectoral muscle is seen in the upper corner of this MLO view.")
    if max(image.pixel_spacing_mm) <= _FINE_MM:
        fine, inside = _fine_image(pixels, prepared, image.pixel_spacing_mm)
        protrusion = nipple_area_mm2(fine, inside)
        if protrusion is not None and protrusion < NIPPLE_MM2:
            warnings.append("No nipple stands out from the breast's outline: check that it is in profile.")
        sharp = sharpness(fine, inside)
        if sharp is not None and sharp < SHARPNESS:
            warnings.append(
                f"Fine detail is missing (sharpness {sharp:.2f}, usually above {SHARPNESS}): check for motion blur."
            )
    if not image.implant:
        area = bright_object_cm2(prepared, image)
        if area > IMPLANT_CM2:
            warnings.append(f"A bright object of {area:.0f} cm² lies in the breast, and the header states no implant.")
    return tuple(warnings)


def laterality_conflict(prepared: Prepared | Cut, image: Image) -> str | None:
    """A sentence where the pixels show the chest wall on another side than the header says; None where they agree.

    The header's Patient Orientation (PS3.3 C.7.6.1.1.1) counts first: rows that run to the anterior (A) have the chest
    wall on the left edge. Without it, a left breast is taken to have its chest wall on the left edge, as displays hang
    it. None, too, where the pixels do not tell (`SIDE_CONFIDENCE`).
    """
    if prepared.mask.side_confidence < SIDE_CONFIDENCE:
        return None
    seen = prepared.mask.chest_wall
    rows = image.patient_orientation[0][:1].upper() if image.patient_orientation else ""
    if rows in ("A", "P"):
        expected, ground = (Side.LEFT if rows == "A" else Side.RIGHT), "the header's patient orientation"
    else:
        left = image.laterality is Laterality.LEFT
        expected, ground = (
            (Side.LEFT if left else Side.RIGHT),
            f"a {'left' if left else 'right'} breast's usual display",
        )
    if seen is expected:
        return None
    return f"{WRONG_SIDE} at the {seen} edge, against {ground}: mirrored image, or wrong laterality."


def border_contact_mm(mask: BreastMask, geometry: Geometry, spacing_mm: tuple[float, float]) -> tuple[float, ...]:
    """Length in mm over which the breast touches the image's anterior, upper and lower edge (after any turning)."""
    found = mask.mask if mask.chest_wall is Side.LEFT else mask.mask[:, ::-1]
    upper, lower = (found[-1], found[0]) if geometry.flip_y else (found[0], found[-1])
    along_x, along_y = spacing_mm[1] * mask.scale[0], spacing_mm[0] * mask.scale[1]
    return float(found[:, -1].sum() * along_y), float(upper.sum() * along_x), float(lower.sum() * along_x)


def pectoral_contrast(prepared: Prepared, image: Image) -> float:
    """How clearly a straight oblique edge, brighter towards the upper chest-wall corner, crosses that corner.

    For each of about 170 lines, strips of 7 mm on both sides are compared: difference of their means over their
    standard deviation; the largest is returned, 0 where no line has breast on both sides. After the line model of the
    muscle by Karssemeijer (Phys Med Biol 1998, 43:365).
    """
    brightness, inside = _coarse(prepared, image)
    rows, columns = (round(side / _COARSE_MM) for side in _CORNER_MM)
    values, weights = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.float32)
    corner = brightness[:rows, :columns]
    weights[: corner.shape[0], : corner.shape[1]] = inside[:rows, :columns] > 0.99
    values[: corner.shape[0], : corner.shape[1]] = corner
    before, behind = _edge_strips()
    inside_only, seen = (values * weights).ravel(), weights.ravel()
    means, variances, covered = [], [], np.ones(len(before), np.bool_)
    for strip in (before, behind):
        count = strip @ seen
        covered &= count > 0.7 * strip.sum(axis=1)
        mean = strip @ inside_only / np.maximum(count, 1)
        means.append(mean)
        variances.append(strip @ inside_only**2 / np.maximum(count, 1) - mean**2)
    if not covered.any():
        return 0.0
    # 2 % of the brightness range is added, lest noise-free flat tissue make an edge of nothing.
    deviation = np.sqrt(np.maximum(variances[0] + variances[1], 0) / 2 + 0.02**2)
    return float(np.max(((means[0] - means[1]) / deviation)[covered]))


def sharpness(fine: _Floats, inside: _Bools) -> float | None:
    """Detail of 0.5 mm over detail of 1.5 mm: RMS of second differences at these distances, in the dullest direction.

    `fine`: brightness (rows, columns) at 0.5 mm; `inside`: the breast in it. The ratio does not depend on contrast.
    Motion along a row, a column or a diagonal takes the finer detail first, and noise adds to it, so that blur in a
    noisy image may go unseen. None where less than 5 cm² of the breast lie deeper than 8 mm.
    """
    core = _shrunk(inside, 16)
    reach = 3
    core = core[reach:-reach, reach:-reach]
    if core.sum() < 2000:
        return None
    rows, columns = core.shape

    def detail(down: int, right: int) -> float:
        middle = fine[reach : reach + rows, reach : reach + columns]
        after = fine[reach + down : reach + down + rows, reach + right : reach + right + columns]
        before = fine[reach - down : reach - down + rows, reach - right : reach - right + columns]
        return float(np.square((2 * middle - after - before)[core]).mean())

    directions = ((0, 1), (1, 0), (1, 1), (1, -1))
    ratios = [detail(y, x) / max(detail(reach * y, reach * x), 1e-12) for y, x in directions]
    return float(np.sqrt(min(ratios)))


def nipple_area_mm2(fine: _Floats, inside: _Bools) -> float | None:
    """Area of what stands out most from the front of the breast: the outline less its opening by a disc of 12 mm.

    `fine`, `inside`: see `sharpness`. The outline is drawn anew at 30 % of the step from air to skin, as the mask is
    smoothed. None where no air is seen around the breast.
    """
    front = int(np.flatnonzero(inside.any(axis=0))[-1])
    first = max(0, front // 2 - 24)  # of the front half, and what its opening looks at
    margin = 32
    grey = cv2.copyMakeBorder(fine[:, first:], *(margin,) * 4, cv2.BORDER_REPLICATE)
    breast = cv2.copyMakeBorder(inside[:, first:].astype(np.uint8), *(margin,) * 4, cv2.BORDER_REPLICATE) > 0
    near = _grown(breast, 12)
    air, skin = near & ~_grown(breast, 4), breast & ~_shrunk(breast, 6)
    if air.sum() < 50 or not skin.any():
        return None
    dark, bright = float(np.median(grey[air])), float(np.median(grey[skin]))
    outline = ((grey > dark + 0.3 * (bright - dark)) & near) | _shrunk(breast, 4)
    outline = _grown(_shrunk(outline, 2), 2)
    bumps = outline & ~_grown(_shrunk(outline, 24), 24)
    bumps = bumps[margin:-margin, margin + front // 2 - first : -margin]
    _, _, stats, _ = cv2.connectedComponentsWithStats(bumps.astype(np.uint8), connectivity=8)
    return float(stats[1:, cv2.CC_STAT_AREA].max(initial=0)) * _FINE_MM**2


def bright_object_cm2(prepared: Prepared, image: Image) -> float:
    """Area of the largest smooth, bright object with a distinct border (implant, device); 0 where there is none."""
    brightness, coverage = _coarse(prepared, image)
    inside = coverage > 0.5
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))
    bright = cv2.morphologyEx(((brightness > 0.8) & inside).astype(np.uint8), cv2.MORPH_OPEN, disc)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=4)
    if len(stats) < 2:
        return 0.0
    largest = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    around = _grown(largest, 4) & ~_grown(largest, 1) & inside
    if not around.any():
        return 0.0
    step = float(np.median(brightness[largest]) - brightness[around].mean())
    return float(largest.sum()) * (_COARSE_MM / 10) ** 2 if step > IMPLANT_CONTRAST else 0.0


def _cut_off(prepared: Prepared, image: Image) -> list[str]:
    anterior, upper, lower = border_contact_mm(prepared.mask, prepared.geometry, image.pixel_spacing_mm)
    contacts = [("front", anterior, ANTERIOR_CONTACT_MM), ("lower", lower, BORDER_CONTACT_MM)]
    if image.view not in _ALONG_THE_BODY:
        contacts.append(("upper", upper, BORDER_CONTACT_MM))
    return [
        f"The breast is cut off at the image's {edge} edge, over {length:.0f} mm."
        for edge, length, most in contacts
        if length > most
    ]


def _clipped(pixels: npt.NDArray[np.integer], mask: BreastMask) -> list[str]:
    """Shares of the breast at both ends of the grey scale, from a sample of the pixels."""
    step = max(1, min(pixels.shape) // 400)
    sample = pixels[::step, ::step]
    breast = sample[cv2.resize(mask.mask.astype(np.uint8), sample.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0]
    black, white = float(np.mean(breast == 0)), float(np.mean(breast == np.iinfo(pixels.dtype).max))
    if mask.inverted:
        black, white = white, black
    warnings = []
    if white > SATURATED_SHARE:
        warnings.append(f"{white:.0%} of the breast is saturated (white without detail).")
    if black > BLACK_SHARE:
        warnings.append(f"{black:.0%} of the breast is black without detail.")
    return warnings


def _fine_image(
    pixels: npt.NDArray[np.integer], prepared: Prepared, spacing_mm: tuple[float, float]
) -> tuple[_Floats, _Bools]:
    """The crop at 0.5 mm, turned like the prepared image, and the breast in it: float32 and bool (rows, columns)."""
    geometry = prepared.geometry
    crop = pixels[geometry.y0 : geometry.y0 + geometry.height, geometry.x0 : geometry.x0 + geometry.width]
    size = (round(geometry.width * spacing_mm[1] / _FINE_MM), round(geometry.height * spacing_mm[0] / _FINE_MM))
    # A whole factor first: averaging whole pixels is six times as fast as averaging parts of them.
    factor = max(1, int(_FINE_MM / 2 / max(spacing_mm)))
    height, width = (side - side % factor for side in crop.shape)
    fine = _averaged(_averaged(crop[:height, :width], (width // factor, height // factor)), size).astype(np.float32)
    fine = fine[:, ::-1] if geometry.flip_x else fine
    fine = fine[::-1] if geometry.flip_y else fine
    inside = cv2.resize(prepared.inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return np.ascontiguousarray(-fine if prepared.mask.inverted else fine), inside


def _coarse(prepared: Prepared, image: Image) -> tuple[_Floats, _Floats]:
    """Prepared brightness and share of breast, float32 (rows, columns) in [0, 1], at 2 mm."""
    geometry = prepared.geometry
    columns = max(1, round(geometry.width * image.pixel_spacing_mm[1] / _COARSE_MM))
    rows = max(1, round(geometry.height * image.pixel_spacing_mm[0] / _COARSE_MM))
    return _averaged(prepared.pixels, (columns, rows)), _averaged(prepared.inside.astype(np.float32), (columns, rows))


def _averaged(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Resample to `size` (columns, rows) by the mean over each new pixel's area."""
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=1)
def _edge_strips() -> tuple[_Floats, _Floats]:
    """Strips of 7 mm before and behind each line, float32 (lines, pixels of the corner).

    A line cuts the upper edge 12 to 76 mm from the corner, and the chest wall 24 to 168 mm from it, at 0.9 to 7 times
    that distance.
    """
    rows, columns = (round(side / _COARSE_MM) for side in _CORNER_MM)
    y, x = (np.mgrid[:rows, :columns] + 0.5) * _COARSE_MM
    before, behind = [], []
    for across in np.arange(12.0, 80.0, 4.0):
        for down in np.arange(24.0, 180.0, 12.0):
            if 0.9 <= down / across <= 7:
                distance = (1 - x / across - y / down) / np.hypot(1 / across, 1 / down)
                before.append(((distance > 0.5) & (distance < 7.5)).ravel())
                behind.append(((distance < -0.5) & (distance > -7.5)).ravel())
    return np.array(before, np.float32), np.array(behind, np.float32)


def _shrunk(region: _Bools, radius: int) -> _Bools:
    """Erosion by a disc; the region is taken to go on beyond the image's edge."""
    # Without air anywhere, OpenCV's distances are finite, but arbitrary and large.
    return cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 5) > radius


def _grown(region: _Bools, radius: int) -> _Bools:
    """Dilation by a disc."""
    if not region.any():
        return region
    return cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, 5) <= radius
