"""A region's geometry as DICOM's spatial coordinates (PS3.3 C.18.6.1.2), which count like the region's own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from screening.delivery.context import Source
from screening.delivery.headers import DeliveryError
from screening.exam import Image
from screening.result import Region


def center(region: Region, image: Image) -> npt.NDArray[np.float64]:
    """Middle of the region's box: float (2,), (column, row), within the image."""
    middle = np.array([region.x + region.width / 2, region.y + region.height / 2])
    inside: npt.NDArray[np.float64] = np.clip(middle, 0, (image.columns, image.rows))
    return inside


def closed_outline(region: Region, image: Image) -> npt.NDArray[np.float64]:
    """The contour as a closed polygon, the first point again at the end: float (n, 2), (column, row), within the image.

    A contour of fewer than three points encloses nothing; the region's box is taken for it.
    """
    points = np.array(region.contour, dtype=np.float64).reshape(-1, 2)
    if len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    if len(points) < 3:
        x, y, right, bottom = region.x, region.y, region.x + region.width, region.y + region.height
        points = np.array([(x, y), (right, y), (right, bottom), (x, bottom)])
    points = np.clip(points, 0, (image.columns, image.rows))
    return np.vstack([points, points[:1]])


def frame_numbers(source: Source, region: Region) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stored frames of the peak and of the extent, rising and counted from 1 as DICOM does.

    Both are empty for a single-frame image, and for a slice of a series: only references to multi-frame instances may
    name frames (PS3.3 10.3). Raises `DeliveryError` for a region that reaches beyond the image's frames.
    """
    if source.frames <= 1 or not source.multi_frame:
        return (), ()
    if not 0 <= region.frame_first <= region.frame_peak <= region.frame_last < source.frames:
        raise DeliveryError(f"region {region.region_id} lies on frames that its image does not have")
    numbers = [stored + 1 for stored in source.order]
    return (numbers[region.frame_peak],), tuple(sorted(numbers[region.frame_first : region.frame_last + 1]))
