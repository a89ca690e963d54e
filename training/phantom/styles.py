"""The makes of machine that the simulated programme uses.

Three that differ in what a reader of images notices: pixel size, bit depth, sharpness, noise, the look of the processed
image and, for tomosynthesis, how far the tube travels. Their names are made up; their figures are typical of systems in
use (Sechopoulos 2013, Med Phys 40:014301: 9 to 25 projections over 11 to 50 degrees, pixels of 0.07 to 0.14
mm). `photons_per_mm2` are the quanta that the detector makes use of, some 60 to 100 microgray behind the breast at 5000
quanta per square millimetre and microgray (IEC 62220-1-2) and a detective quantum efficiency of about 0.6.
"""

from __future__ import annotations

from training.phantom.model import Grid, Style

FULL_RESOLUTION_MM = 0.1
"""Pixel of the grid on which a style's own pixel size is written unchanged."""

ALDER = Style(
    name="alder-15",
    manufacturer="Simulated Alder",
    model_name="Alder 15",
    energy_kev=20.0,
    bits=14,
    pixel_mm=0.1,
    blur_mm=0.06,
    scatter_to_primary=0.15,
    photons_per_mm2=2.6e5,
    sweep_degrees=15.0,
    projections=15,
    frame_mm=1.0,
    processing="logarithmic",
)
"""Narrow and quick: a direct-conversion detector, sharp; dark fat, crisp strands, a margin as bright as the middle."""

BIRCH = Style(
    name="birch-50",
    manufacturer="Simulated Birch",
    model_name="Birch 50",
    energy_kev=20.5,
    bits=12,
    pixel_mm=0.085,
    blur_mm=0.08,
    scatter_to_primary=0.22,
    photons_per_mm2=2.2e5,
    sweep_degrees=50.0,
    projections=25,
    frame_mm=1.0,
    processing="equalised",
)
"""Wide and slow: thin slices; contrast evened out over the breast, fat of a middle grey."""

CEDAR = Style(
    name="cedar-25",
    manufacturer="Simulated Cedar",
    model_name="Cedar 25",
    energy_kev=19.0,
    bits=10,
    pixel_mm=0.125,
    blur_mm=0.12,
    scatter_to_primary=0.2,
    photons_per_mm2=1.8e5,
    sweep_degrees=25.0,
    projections=9,
    frame_mm=1.0,
    processing="sigmoid",
)
"""In between: an indirect-conversion detector of large pixels, softer and noisier; a bright, flat, film-like curve."""

STYLES: tuple[Style, ...] = (ALDER, BIRCH, CEDAR)


def written_pixel_mm(style: Style, grid: Grid) -> float:
    """Pixel size of the images that a style writes of a breast on this grid, in mm.

    A coarser grid coarsens every style by the same factor, so that makes still differ: on the grid of 0.2 mm a style of
    0.085 mm writes 0.17 mm.
    """
    return style.pixel_mm * grid.pixel_mm / FULL_RESOLUTION_MM
