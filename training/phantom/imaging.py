"""The simulated machines: a mammogram, a tomosynthesis volume and its synthetic 2D image of a compressed breast."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from training.phantom.detector import Exposure, absorption, automatic_exposure, counted, thickness
from training.phantom.model import CompressedBreast, Float32Array, SimulatedImage, Style
from training.phantom.processing import presentation
from training.phantom.projection import project
from training.phantom.reconstruction import plane_heights, reconstruct, sweep
from training.phantom.styles import written_pixel_mm

_SCAN_DOSE = 1.5
"""Dose of a tomosynthesis scan as a share of a mammogram's (Feng & Sechopoulos 2012, Radiology 263:35: 1.1 to 1.8)."""
_SCATTER_WITHOUT_GRID = 0.53
"""Scatter to primary ratio of a tomosynthesis scan behind 50 mm, taken without a grid (Boone & Cooper 2000)."""


def mammogram(breast: CompressedBreast, style: Style, rng: np.random.Generator) -> SimulatedImage:
    """One mammogram for presentation, in the style of a machine; the same generator state gives the same bytes."""
    pixel = written_pixel_mm(style, breast.grid)
    depth = breast.attenuation.sum(axis=0) * np.float32(breast.grid.layer_mm)
    depth, tissue = (
        _resampled(image[None], breast.grid.pixel_mm, pixel)[0]
        for image in (depth, thickness(breast.attenuation, breast.grid.layer_mm))
    )
    open_field = automatic_exposure(depth, tissue, style.photons_per_mm2 * pixel**2)
    exposure = Exposure(open_field, style.scatter_to_primary, pixel, style.blur_mm)
    measured = absorption(counted(depth, tissue, exposure, rng), open_field)
    pixels = presentation(measured, style.processing, pixel).grey(measured, style.bits)
    return SimulatedImage(breast.laterality, breast.view, style, pixel, pixels, breast.thickness_mm)


def tomosynthesis(breast: CompressedBreast, style: Style, rng: np.random.Generator) -> SimulatedImage:
    """One tomosynthesis volume for presentation: frame f shows the plane (f + 1/2) `style.frame_mm` above the support.

    The tube sweeps along the chest wall. A mammogram's dose and a half is split evenly over the projections.
    """
    pixel = written_pixel_mm(style, breast.grid)
    angles = sweep(style.sweep_degrees, style.projections)
    margin = 1 + int(np.ceil(breast.thickness_mm * np.tan(np.radians(style.sweep_degrees / 2)) / pixel))
    depths, tissue = _shadows(breast, angles.tolist(), pixel, margin)
    upright = depths[len(angles) // 2]
    quanta = _SCAN_DOSE * style.photons_per_mm2 * pixel**2 / len(angles)
    open_field = automatic_exposure(upright, tissue, quanta)
    exposure = Exposure(open_field, _SCATTER_WITHOUT_GRID, pixel, style.blur_mm)
    for depth in depths:
        depth[:] = absorption(counted(depth, tissue, exposure, rng), open_field)
    heights = plane_heights(breast.thickness_mm, style.frame_mm)
    planes = reconstruct(depths, angles, pixel, heights, breast.thickness_mm, margin)
    planes *= np.float32(breast.thickness_mm)
    shown = presentation(planes.mean(axis=0), style.processing, pixel, samples=planes[::6])
    pixels = np.empty(planes.shape, np.uint16)
    for frame, plane in zip(pixels, planes, strict=True):
        frame[:] = shown.grey(plane, style.bits, enhance=False)
    return SimulatedImage(
        breast.laterality, breast.view, style, pixel, pixels, breast.thickness_mm, frame_mm=style.frame_mm
    )


def synthetic_2d(volume: SimulatedImage) -> SimulatedImage:
    """A 2D image of a volume: halfway between the mean of its frames and, at each place, the brightest of them.

    The mean looks like a mammogram, the brightest keeps what is small and dense.
    """
    white = 2**volume.style.bits - 1
    breast = volume.pixels.any(axis=0)
    mixed = 0.5 * volume.pixels.mean(axis=0, dtype=np.float32) + 0.5 * volume.pixels.max(axis=0)
    low, high = np.percentile(mixed[breast], [1, 99.8])
    value = 0.15 + 0.75 * (mixed - low) / max(high - low, 1.0)
    pixels = np.where(breast, 1.0 + (white - 1.0) * np.clip(value, 0.0, 1.0), 0.0)
    return replace(volume, pixels=np.rint(pixels).astype(np.uint16), frame_mm=None)


def _shadows(
    breast: CompressedBreast, angles: list[float], pixel_mm: float, margin_rows: int
) -> tuple[Float32Array, Float32Array]:
    """Line integrals for each angle and tissue thickness on the detector, with `margin_rows` more rows at both ends."""
    grid = breast.grid
    before = int(np.ceil(margin_rows * pixel_mm / grid.pixel_mm)) + 1
    depths = project(breast.attenuation, grid, angles, before)
    tissue = np.pad(thickness(breast.attenuation, grid.layer_mm), ((before, before), (0, 0)), mode="edge")
    return (
        _resampled(depths, grid.pixel_mm, pixel_mm, before, margin_rows),
        _resampled(tissue[None], grid.pixel_mm, pixel_mm, before, margin_rows)[0],
    )


def _resampled(
    images: Float32Array, from_mm: float, to_mm: float, from_margin: int = 0, to_margin: int = 0
) -> Float32Array:
    """Images, (n, rows, columns), on pixels of another size, by bilinear interpolation.

    The outer corner of the first pixel behind the margins (rows at both ends) stays where it is.
    """
    scale = to_mm / from_mm
    rows = round((images.shape[1] - 2 * from_margin) / scale) + 2 * to_margin
    columns = round(images.shape[2] / scale)
    corner = 0.5 * scale - 0.5
    to_source = np.array([[scale, 0.0, corner], [0.0, scale, corner + from_margin - to_margin * scale]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    resampled = np.empty((len(images), rows, columns), np.float32)
    for target, image in zip(resampled, images, strict=True):
        cv2.warpAffine(image, to_source, (columns, rows), target, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return resampled
