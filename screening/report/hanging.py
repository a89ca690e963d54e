"""How mammograms hang: which view goes where, which way it is turned, and where in the breast a region lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from screening.exam import Image, Laterality, View
from screening.imaging.mask import BreastMask, Side
from screening.result import Region

ROWS: tuple[tuple[View, ...], ...] = (
    (View.CC,),
    (View.MLO,),
    tuple(view for view in View if view not in (View.CC, View.MLO)),
)
"""Rows of the hanging, from the top: CC, MLO, other views. In each, the right breast hangs on the left."""

_FROM_ABOVE = (View.CC, View.XCCL, View.XCCM)
_FROM_THE_SIDE = (View.MLO, View.ML, View.LM, View.LMO)


@dataclass(frozen=True)
class Turn:
    """What turns a stored image into a hung one: mirrored left-right (`flip_x`), upside down (`flip_y`)."""

    flip_x: bool = False
    flip_y: bool = False

    def apply(self, x: float, y: float, columns: float, rows: float) -> tuple[float, float]:
        """Map a stored (column, row) of an image of this size to where it hangs."""
        return (columns - 1 - x if self.flip_x else x), (rows - 1 - y if self.flip_y else y)


def hang(image: Image, breast: BreastMask | None) -> Turn:
    """Return the turn that puts the chest walls back to back in the middle, and the axilla or the outer side on top.

    Which side the chest wall is on is seen in the pixels (`breast`, found on any reduced copy of the image); where no
    breast was found, Patient Orientation (0020,0020) says it, as it does which way is up. A header that is not an
    orientation (PS3.3 C.7.6.1.1.1) leaves the image as it is stored.
    """
    across, down = image.patient_orientation if len(image.patient_orientation) == 2 else ("", "")
    valid = across[:1] in ("A", "P") and down[:1] in ("L", "R", "H", "F")
    right = image.laterality is Laterality.RIGHT
    wall_on_right = right
    if breast is not None:
        wall_on_right = breast.chest_wall is Side.RIGHT
    elif valid:
        wall_on_right = across.startswith("P")
    outwards = "R" if right else "L"
    return Turn(flip_x=wall_on_right != right, flip_y=valid and down[:1] in ("H", outwards))


def place(region: Region, image: Image, breast: BreastMask, turn: Turn) -> str:
    """Say in BI-RADS words roughly where a region lies: depth in thirds, and upper/lower or outer/inner half.

    Measured on the breast's outline, from the chest wall to the foremost point, which is taken for the nipple; a
    band of a sixth of the breast's height about it is called central (ACR BI-RADS Atlas, 5th ed., location).
    """
    rows, columns = breast.mask.shape
    # Measured with the chest wall on the left.
    level = Turn(flip_x=breast.chest_wall is Side.RIGHT, flip_y=turn.flip_y)
    mask = breast.mask[:: -1 if level.flip_y else 1, :: -1 if level.flip_x else 1]
    x, y = level.apply(region.x + region.width / 2, region.y + region.height / 2, image.columns, image.rows)
    filled_columns, filled_rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    wall, front = filled_columns[0], filled_columns[-1]
    depth = (x * columns / image.columns - wall) / max(1, front - wall)
    words = ["posterior depth" if depth < 1 / 3 else "middle depth" if depth < 2 / 3 else "anterior depth"]
    names = ("outer", "inner") if region.view in _FROM_ABOVE else ("upper", "lower")
    if region.view in _FROM_ABOVE + _FROM_THE_SIDE:
        tip = max(1, (front - wall) // 30)
        nipple = np.flatnonzero(mask[:, front - tip : front + 1].any(axis=1)).mean()
        offset = (y * rows / image.rows - nipple) / max(1, filled_rows[-1] - filled_rows[0])
        words.insert(0, "central" if abs(offset) < 1 / 12 else names[0] if offset < 0 else names[1])
    return ", ".join(words)
