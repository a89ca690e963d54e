"""The one record type that every dataset adapter gives: an image with what is known about its woman and breast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from screening.exam import ImageKind, Laterality, View

LesionShape = Literal["box", "ellipse", "polygon", "mask"]
Medium = Literal["film", "digital"]


@dataclass(frozen=True)
class Lesion:
    """One marked lesion: its bounding box in pixels of the image as published, and how it fills that box.

    `x`, `y` are column and row of the box's left upper corner, 0-based; `width`, `height` are in pixels. The box covers
    columns x to x + width and rows y to y + height, where pixel i covers i to i + 1. An "ellipse" is inscribed in the
    box (a circle where the sides are equal). A "polygon" is given by `outline`, its corners as (column, row). For a
    "mask", `mask_path` names a label image of the size of the published image, and the lesion is that mask's part
    within the box. `frame` is the 0-based slice of a tomosynthesis volume where the lesion was marked. `malignant` is
    None where the publisher does not say. `kind` is the publisher's word in lower case, or a warning about the outline
    (see the adapter).
    """

    x: float
    y: float
    width: float
    height: float
    shape: LesionShape = "box"
    mask_path: Path | None = None
    outline: tuple[tuple[float, float], ...] = ()
    malignant: bool | None = None
    kind: str = ""
    frame: int | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box as (column, row), in pixels."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class Record:
    """One image of a dataset.

    `woman` and `exam` are unique within `dataset` only. `image` is the publisher's own name of the image. `malignant`
    is the truth about the breast, None where unknown. `lesions` is None where locations are unknown, and empty where
    the publisher marks lesions but marked none here. `frame`: of a volume, the 0-based frame around which a slab of it
    is the image; None for the whole volume. `density` is the BI-RADS category A to D;
    `density_other` keeps a scale that does not map onto it. `age` is in years. `pixel_spacing_mm` is (between rows,
    between columns) as the adapter states or estimates it. `split` is the publisher's own partition, if any.
    """

    dataset: str
    woman: str
    exam: str
    image: str
    path: Path
    laterality: Laterality
    view: View
    malignant: bool | None
    lesions: tuple[Lesion, ...] | None
    pixel_spacing_mm: tuple[float, float]
    medium: Medium = "digital"
    kind: ImageKind = ImageKind.FFDM
    frame: int | None = None
    density: str | None = None
    density_other: str = ""
    age: float | None = None
    manufacturer: str = ""
    machine: str = ""
    implant: bool = False
    split: str | None = None

    @property
    def group(self) -> tuple[str, str]:
        """What must never be on both sides of a split: the woman, named with her dataset."""
        return self.dataset, self.woman

    @property
    def breast(self) -> tuple[str, str, str, Laterality]:
        """The unit that breast-level truth belongs to."""
        return self.dataset, self.woman, self.exam, self.laterality
