"""From a displayed mammogram to the network's input: one orientation, one spacing, one intensity scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from screening.errors import ImageError
from screening.imaging.geometry import Geometry
from screening.imaging.mask import BreastMask, Side, find_breast

MARGIN_MM = 4.0
"""Kept around the breast's box, so that the skin line is whole."""


@dataclass(frozen=True)
class Preparation:
    """What a bundle asks of its input. `pixel_spacing_mm`: square spacing of prepared pixels.

    `maximum_mm`: (height, width) beyond which a breast's box is refused as implausible (a wrong spacing).
    """

    pixel_spacing_mm: float
    maximum_mm: tuple[float, float] = (450.0, 380.0)


@dataclass(frozen=True)
class Prepared:
    """The network's input and how to get back.

    `pixels`: float32 (rows, columns) in [0, 1], chest wall on the left, zero outside the breast.
    `inside`: bool (rows, columns), the breast. `mask`: the breast in the whole source image.
    """

    pixels: npt.NDArray[np.float32]
    inside: npt.NDArray[np.bool_]
    geometry: Geometry
    mask: BreastMask


def prepare(
    pixels: npt.NDArray[np.integer], spacing_mm: tuple[float, float], preparation: Preparation, flip_y: bool = False
) -> Prepared:
    """Cut out the breast, turn its chest wall to the left, resample and normalise.

    `pixels`: unsigned integers (rows, columns) as displayed. `spacing_mm`: source spacing (between rows, between
    columns). `flip_y`: the image is stored upside down. Intensities are set by the breast's own percentiles (skin rim
    left out), so that a vendor's window or look-up table matters little. Raises `ImageError` when there is no breast,
    the breast's pixels are constant, or its size is implausible for the spacing.
    """
    cut = cut_out(pixels, spacing_mm, preparation, flip_y)
    resampled = cut.resampled(pixels)
    return Prepared(normalised(resampled, cut.inside, preparation), cut.inside, cut.geometry, cut.mask)


@dataclass(frozen=True)
class Cut:
    """Where a breast is cut out, from its own image or from others that lie exactly over it (frames of a volume).

    `inside`: bool (rows, columns), the breast in prepared pixels. `mask`: the breast in the whole source image.
    """

    geometry: Geometry
    inside: npt.NDArray[np.bool_]
    mask: BreastMask

    def resampled(self, pixels: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Prepared rows x columns of `pixels`, unsigned integers as displayed: dense tissue bright, else unchanged."""
        g = self.geometry
        crop = pixels[g.y0 : g.y0 + g.height, g.x0 : g.x0 + g.width]
        shrinks = g.scale[0] >= 1 and g.scale[1] >= 1
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        found: npt.NDArray[Any] = cv2.resize(crop, (g.columns, g.rows), interpolation=interpolation)
        found = _mirrored(found, g).astype(np.float32)
        return np.float32(np.iinfo(pixels.dtype).max) - found if self.mask.inverted else found


def cut_out(
    pixels: npt.NDArray[np.integer], spacing_mm: tuple[float, float], preparation: Preparation, flip_y: bool = False
) -> Cut:
    """Find the breast to cut out; parameters and errors as of `prepare`."""
    mask = find_breast(pixels)
    geometry = _geometry(mask, pixels.shape, spacing_mm, preparation, flip_y)
    inside = _crop(mask.mask.astype(np.uint8), _on_mask(geometry, mask), geometry, cv2.INTER_LINEAR) > 0
    return Cut(geometry, inside, mask)


def _geometry(
    mask: BreastMask,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float],
    preparation: Preparation,
    flip_y: bool,
) -> Geometry:
    row_mm, column_mm = spacing_mm
    if not (math.isfinite(row_mm) and math.isfinite(column_mm) and min(row_mm, column_mm) > 0):
        raise ImageError(
            f"the pixel spacing is {row_mm} × {column_mm} mm: correct the header or the site profile's default"
        )
    x0, y0, x1, y1 = mask.box
    margin_x, margin_y = round(MARGIN_MM / column_mm), round(MARGIN_MM / row_mm)
    x0, y0 = max(0, x0 - margin_x), max(0, y0 - margin_y)
    x1, y1 = min(shape[1], x1 + margin_x), min(shape[0], y1 + margin_y)
    height_mm, width_mm = (y1 - y0) * row_mm, (x1 - x0) * column_mm
    if height_mm > preparation.maximum_mm[0] or width_mm > preparation.maximum_mm[1]:
        raise ImageError(
            f"the breast would measure {height_mm:.0f} × {width_mm:.0f} mm: the pixel spacing in the header "
            "(or the site profile's default) must be wrong"
        )
    columns = max(1, round(width_mm / preparation.pixel_spacing_mm))
    rows = max(1, round(height_mm / preparation.pixel_spacing_mm))
    if min(columns, rows) < 32:
        raise ImageError(
            f"the breast would measure only {height_mm:.0f} × {width_mm:.0f} mm: the pixel spacing in the header "
            "(or the site profile's default) must be wrong"
        )
    return Geometry(x0, y0, x1 - x0, y1 - y0, columns, rows, mask.chest_wall is Side.RIGHT, flip_y)


def _on_mask(geometry: Geometry, mask: BreastMask) -> npt.NDArray[np.float64]:
    """The affine map, 2×3, from prepared pixels (before mirroring) to pixels of the reduced mask."""
    (scale_x, scale_y), (mask_x, mask_y) = geometry.scale, mask.scale
    return np.array(
        [
            [scale_x / mask_x, 0, (geometry.x0 + 0.5 * scale_x) / mask_x - 0.5],
            [0, scale_y / mask_y, (geometry.y0 + 0.5 * scale_y) / mask_y - 0.5],
        ]
    )


def _crop(
    image: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64], geometry: Geometry, interpolation: int
) -> npt.NDArray[np.uint8]:
    warped = cv2.warpAffine(
        image * 255,
        affine,
        (geometry.columns, geometry.rows),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return _mirrored(np.where(warped >= 128, 1, 0).astype(np.uint8), geometry)


def _mirrored(image: npt.NDArray[Any], geometry: Geometry) -> npt.NDArray[Any]:
    image = image[:, ::-1] if geometry.flip_x else image
    return np.ascontiguousarray(image[::-1] if geometry.flip_y else image)


def normalised(
    image: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_], preparation: Preparation
) -> npt.NDArray[np.float32]:
    """Map the breast's 1st and 99.7th percentile to 0.05 and 1; outside is 0.

    `image`: (rows, columns), or several images (…, rows, columns) that lie over one another and share one scale.
    The rim of 5 mm, where the breast thins out, has no say; nor does the background, whatever is written on it.
    """
    rim = max(1, round(5.0 / preparation.pixel_spacing_mm))
    distance = cv2.distanceTransform(np.pad(inside, 1, constant_values=True).astype(np.uint8), cv2.DIST_L2, 3)
    core = image[..., distance[1:-1, 1:-1] > rim]
    if core.size < 256:
        core = image[..., inside]
    low, high = np.percentile(core, [1.0, 99.7])
    if high <= low:
        raise ImageError("the breast's pixels are constant")
    scaled = np.clip(0.05 + (image - np.float32(low)) * np.float32(0.95 / (high - low)), 0, 1)
    return np.where(inside, scaled, np.float32(0))
