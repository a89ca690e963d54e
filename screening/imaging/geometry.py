"""The one mapping between source pixels and prepared pixels, with its inverse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """How a prepared image was cut from its source: crop, mirror, resample.

    Coordinates are (column, row), continuous, with pixel `i` centred on `i`. The crop covers source pixels
    `x0 … x0+width-1` by `y0 … y0+height-1`; it is mirrored left-right where `flip_x` and upside down where `flip_y`
    is set, then resampled to `columns` × `rows`. Scales follow from these numbers, so the mapping is exact.
    """

    x0: int
    y0: int
    width: int
    height: int
    columns: int
    rows: int
    flip_x: bool = False
    flip_y: bool = False

    @property
    def scale(self) -> tuple[float, float]:
        """Source pixels per prepared pixel, (column, row)."""
        return self.width / self.columns, self.height / self.rows

    def to_source(self, points: npt.ArrayLike) -> Points:
        """Map prepared (column, row) points, shape (..., 2), to source coordinates of the same shape."""
        p = np.asarray(points, dtype=np.float64)
        scale_x, scale_y = self.scale
        x = (p[..., 0] + 0.5) * scale_x - 0.5
        y = (p[..., 1] + 0.5) * scale_y - 0.5
        x = self.width - 1 - x if self.flip_x else x
        y = self.height - 1 - y if self.flip_y else y
        return np.stack([x + self.x0, y + self.y0], axis=-1)

    def to_prepared(self, points: npt.ArrayLike) -> Points:
        """Map source (column, row) points, shape (..., 2), to prepared coordinates of the same shape."""
        p = np.asarray(points, dtype=np.float64)
        scale_x, scale_y = self.scale
        x, y = p[..., 0] - self.x0, p[..., 1] - self.y0
        x = self.width - 1 - x if self.flip_x else x
        y = self.height - 1 - y if self.flip_y else y
        return np.stack([(x + 0.5) / scale_x - 0.5, (y + 0.5) / scale_y - 0.5], axis=-1)
