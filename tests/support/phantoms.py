"""Mammograms drawn for tests: a breast with texture, skin and nipple on air, with what else lies about in images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

HEIGHT_MM = 240.0
"""Height of every phantom, whatever its rows: its pixels are square, HEIGHT_MM / rows wide."""
WHITE = 65535


@dataclass(frozen=True)
class Outline:
    """A breast with its chest wall on the left edge, in shares of the image's rows and columns.

    It reaches `depth` of the columns at the row `centre`, and `half_height` of the rows up and down; `axilla` is how
    far, as a share of `depth`, it still reaches at the upper edge (0 in CC: a half-ellipse).
    """

    centre: float
    half_height: float
    depth: float
    axilla: float


CC = Outline(centre=0.5, half_height=0.36, depth=0.55, axilla=0.0)
MLO = Outline(centre=0.6, half_height=0.32, depth=0.55, axilla=0.55)


def spacing_mm(rows: int) -> tuple[float, float]:
    """Pixel spacing (between rows, between columns) of a phantom with so many rows."""
    return HEIGHT_MM / rows, HEIGHT_MM / rows


def breast_mask(
    rows: int,
    columns: int,
    laterality: str = "L",
    view: str = "CC",
    *,
    nipple: bool = True,
    outline: Outline | None = None,
) -> npt.NDArray[np.bool_]:
    """Where `synthetic_mammogram` draws the breast: bool (rows, columns)."""
    mask = _depth_inside(rows, columns, outline or _usual(view), nipple) > 0
    return np.ascontiguousarray(mask[:, ::-1]) if laterality == "R" else mask


def synthetic_mammogram(
    rows: int,
    columns: int,
    laterality: str = "L",
    view: str = "CC",
    seed: int = 0,
    *,
    pectoral: bool | None = None,
    nipple: bool = True,
    label: str = "",
    film: bool = False,
    noise: float = 60.0,
    outline: Outline | None = None,
) -> npt.NDArray[np.uint16]:
    """Draw a mammogram as displayed: uint16 (rows, columns), 0 (air) to 65535.

    The chest wall lies on the left edge for a left breast, on the right for a right one, as displays hang them.
    `pectoral`: a bright triangle in the upper chest-wall corner (by default in MLO). `label`: "", "far" (in the upper
    corner away from the breast) or "near" (12 mm beside the breast's widest place): a white plate with dark letters.
    `film`: air at 3,000 with grain, and a white border along the edges but for the chest wall. `noise`: standard
    deviation in the breast. The same arguments always give the same pixels.
    """
    rng = np.random.default_rng(seed)
    depth = _depth_inside(rows, columns, outline or _usual(view), nipple)
    mm = HEIGHT_MM / rows
    thickness = 1 - np.exp(-np.maximum(depth, 0) * mm / 6)
    image = thickness * (24_000 + 7_000 * _texture(rows, columns, mm, rng))
    if pectoral if pectoral is not None else view == "MLO":
        image += thickness * _pectoral(rows, columns)
    skin = (depth > 0) & (depth * mm < 1.8)
    image[skin] += 6_000
    image += rng.normal(0, 1, image.shape) * noise * thickness
    inside = depth > 0
    if film:
        image = np.where(inside, np.maximum(image, 0) + 3_000, 3_000 + rng.normal(0, 250, image.shape))
        border = max(2, rows // 60)
        for edge in (np.s_[:border], np.s_[-border:], np.s_[:, -border:]):
            image[edge] = np.where(inside[edge], image[edge], 60_000)
    if label:
        _draw_label(image, depth, mm, label)
    image = image[:, ::-1] if laterality == "R" else image
    return np.ascontiguousarray(np.rint(np.clip(image, 0, WHITE)).astype(np.uint16))


def _usual(view: str) -> Outline:
    return CC if view == "CC" else MLO


def _depth_inside(rows: int, columns: int, outline: Outline, nipple: bool) -> npt.NDArray[np.float64]:
    """Distance in pixels from the skin, positive inside: float (rows, columns), chest wall on the left."""
    y, x = np.mgrid[:rows, :columns] + 0.5
    v = (y / rows - outline.centre) / outline.half_height
    reach = np.sqrt(np.maximum(0, 1 - v**2))
    if outline.axilla:
        # Above the centre the outline runs to the axilla in a smooth curve instead of back to the chest wall.
        t = np.clip((outline.centre - y / rows) / outline.centre, 0, 1)
        reach = np.where(v < 0, 1 - (1 - outline.axilla) * t**1.7, reach)
    inside = x < reach * outline.depth * columns
    if nipple:
        radius, tip = 5 * rows / HEIGHT_MM, outline.depth * columns
        inside |= (x - tip) ** 2 + (y - outline.centre * rows) ** 2 < radius**2
    # No skin where the image cuts the breast off: distances run through a border that continues it.
    margin = 4
    bordered: npt.NDArray[Any] = cv2.copyMakeBorder(inside.astype(np.uint8), *(margin,) * 4, cv2.BORDER_REPLICATE)
    distance: npt.NDArray[Any] = cv2.distanceTransform(bordered, cv2.DIST_L2, 5)[margin:-margin, margin:-margin]
    return np.asarray(distance, np.float64)


def _texture(rows: int, columns: int, mm: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Parenchyma: a sum of smooth random fields with structures of 0.5 to 20 mm, mean 0, deviation 1."""
    total: npt.NDArray[np.float64] = np.zeros((rows, columns))
    for size, weight in ((20.0, 0.2), (8.0, 0.25), (3.0, 0.5), (1.0, 0.6), (0.5, 0.5)):
        shape = max(4, round(rows * mm / size)), max(4, round(columns * mm / size))
        field = rng.normal(0, 1, shape).astype(np.float32)
        total += weight * cv2.resize(field, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return np.asarray((total - total.mean()) / total.std())


def _pectoral(rows: int, columns: int) -> npt.NDArray[np.float64]:
    """A muscle from 0.22 of the columns at the upper edge to 0.45 of the rows at the chest wall, edge 1 % wide."""
    y, x = np.mgrid[:rows, :columns]
    inside = 1 - x / (0.22 * columns) - y / (0.45 * rows)
    return np.asarray(14_000 * np.clip(inside / 0.04, 0, 1))


def _draw_label(image: npt.NDArray[np.float64], depth: npt.NDArray[np.float64], mm: float, where: str) -> None:
    rows, columns = image.shape
    height, width = round(14 / mm), round(22 / mm)
    if where == "far":
        top, left = round(0.06 * rows), columns - width - round(0.05 * columns)
    else:
        row = int(np.argmax((depth > 0).sum(axis=1))) - height - round(12 / mm)
        right = int(np.flatnonzero((depth[max(0, row) : row + height] > 0).any(axis=0))[-1])
        top, left = max(0, row), min(columns - width - 1, right + round(12 / mm))
    plate = image[top : top + height, left : left + width]
    plate[:] = WHITE
    bar = max(1, height // 8)
    plate[2 * bar : -2 * bar, width // 5 : width // 5 + bar] = 2_000
    plate[-3 * bar : -2 * bar, width // 5 : width // 2] = 2_000
