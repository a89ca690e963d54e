"""From a map of malignancy logits to a short list of candidate regions in one image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from screening.imaging.geometry import Geometry

MOST_REGIONS = 8
"""Kept per image: enough to draw a free-response curve far beyond any useful number of marks."""

SEPARATION_MM = 12.0
"""Peaks nearer to a higher one than this are the same finding (a screen-detected cancer measures about 15 mm)."""

REACH_MM = 15.0
"""A region's outline stays within this distance of its peak."""

DROP = 0.7
"""The outline is where the logit has fallen by this much from the peak: the odds by half. Chosen with `REACH_MM`, of
four pairs, on the women that the first bundle was trained on: 1.0 with 20 mm put fewer centres into lesions, the three
tighter pairs did about alike."""

OUTSIDE = np.float32(-1e4)
"""Logit of cells that are not breast."""


@dataclass(frozen=True)
class Candidate:
    """One peak of the map. `logit`: its height. `contour`: float (n, 2), closed, (column, row) in source pixels, where
    pixel i covers i to i + 1. `frames`: of a volume the first and the last frame, and the one of the peak.
    """

    logit: float
    contour: npt.NDArray[np.float64]
    frames: tuple[int, int, int] = (0, 0, 0)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height around the contour, in source pixels."""
        low, high = self.contour.min(axis=0), self.contour.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def find_candidates(
    logits: npt.NDArray[np.float32], cell: int, spacing_mm: float, geometry: Geometry
) -> list[Candidate]:
    """Peaks of `logits` (rows, columns), highest first, at most `MOST_REGIONS` and at least one.

    `logits`: one value a cell of `cell` prepared pixels, each `spacing_mm` wide; `OUTSIDE` where there is no breast.
    Ties go to the upper, then the left cell. Suppression is greedy from the highest peak, so that of several marks on
    one finding the best stays.
    """
    cell_mm = cell * spacing_mm
    rows, columns = np.indices(logits.shape)
    remaining = logits.copy()
    candidates: list[Candidate] = []
    while len(candidates) < MOST_REGIONS:
        row, column = np.unravel_index(int(np.argmax(remaining)), logits.shape)
        if candidates and remaining[row, column] <= OUTSIDE / 2:
            break
        distance_mm = np.hypot(rows - row, columns - column) * cell_mm
        if is_peak(logits, int(row), int(column)) or not candidates:
            cells = outline(logits, int(row), int(column), distance_mm)
            candidates.append(Candidate(float(logits[row, column]), in_source(cells, cell, geometry)))
            remaining[distance_mm < SEPARATION_MM] = OUTSIDE
        else:
            remaining[row, column] = OUTSIDE  # the flank of a peak that was suppressed
    return candidates


def is_peak(logits: npt.NDArray[np.float32], row: int, column: int) -> bool:
    """Whether a cell is as high as its eight neighbours."""
    around = logits[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    return bool(logits[row, column] >= around.max())


def outline(
    logits: npt.NDArray[np.float32], row: int, column: int, distance_mm: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Outline (n, 2), (column, row) in cells, of the connected part about the peak that is nearly as high."""
    near = (logits >= logits[row, column] - DROP) & (distance_mm <= REACH_MM)
    _, labels = cv2.connectedComponents(near.astype(np.uint8), connectivity=4)
    part = (labels == labels[row, column]).astype(np.uint8)
    # Drawn on the lattice of the cells' edges and centres, a cell is three points wide, the outermost on its edges.
    lattice = np.zeros((2 * part.shape[0] + 1, 2 * part.shape[1] + 1), np.uint8)
    lattice[1::2, 1::2] = part
    contours, _ = cv2.findContours(
        cv2.dilate(lattice, np.ones((3, 3), np.uint8)), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return contours[0][:, 0, :] / 2 - 0.5


def in_source(cells: npt.NDArray[np.float64], cell: int, geometry: Geometry) -> npt.NDArray[np.float64]:
    """Map points (n, 2) from cells to source pixels, from pixel centres to edges; cells beyond the crop end at it."""
    edges = geometry.to_source((cells + 0.5) * cell - 0.5) + 0.5
    low = np.array([geometry.x0, geometry.y0])
    return np.clip(edges, low, low + np.array([geometry.width, geometry.height]))
