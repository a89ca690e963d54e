"""What crosses the rooms of the simulation.

Two frames of reference, both in millimetres, both left-handed images of either breast (sides are mirrored only when an
image is written):

- **breast frame**, of the uncompressed breast: (anterior, lateral, superior). The origin is where the nipple's line
  meets the chest wall; `anterior` counts from the chest wall to the nipple, `lateral` to the woman's outer side.
- **view frame**, of the breast compressed for one view: (height, along, out). `height` counts from the breast support
  (the detector) to the paddle, `along` runs along the chest wall from the image's upper edge (lateral in CC, the axilla
  in MLO), `out` from the chest wall to the nipple. Arrays are indexed [layer, row, column] in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from screening.exam import Laterality, View

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

Density = Literal["A", "B", "C", "D"]


@dataclass(frozen=True)
class Woman:
    """One simulated woman. All that is drawn of her comes from (`seed`, `index`) and does not change with the rounds.

    `age` is in years at her first round. `radius_mm`: half the breast's width along the chest wall, `depth_mm`: chest
    wall to nipple, both uncompressed. `compressed_mm`: thickness under the paddle, by view, without the small change
    from round to round. `glandularity`: volumetric share of fibroglandular tissue inside of the skin.
    """

    seed: int
    index: int
    age: float
    density: Density
    glandularity: float
    radius_mm: float
    depth_mm: float
    compressed_mm: dict[View, float]

    @property
    def woman_id(self) -> str:
        """Her identifier in the registry: it says that she is simulated."""
        return f"SIM-{self.seed}-{self.index:06d}"


@dataclass(frozen=True)
class Grid:
    """Voxels of a view: `pixel_mm` in the plane of the detector, `layer_mm` in height."""

    pixel_mm: float = 0.2
    layer_mm: float = 1.0


@dataclass(frozen=True)
class CompressedBreast:
    """A breast under the paddle, for one view and round, at one effective photon energy.

    `attenuation`: float32 (layers, rows, columns), linear attenuation in 1/mm, 0 in air. Layer 0 lies on the breast
    support; row 0 is the image's upper edge; column 0 is the chest wall. `to_view` maps points of the breast frame,
    float64 (n, 3), to the view frame in mm. `glandular`: float32 like `attenuation`, share of fibroglandular tissue in
    each voxel, which decides how well a lesion hides.
    """

    laterality: Laterality
    view: View
    energy_kev: float
    grid: Grid
    attenuation: Float32Array
    glandular: Float32Array
    to_view: Callable[[FloatArray], FloatArray]

    @property
    def thickness_mm(self) -> float:
        """Height of the compressed breast."""
        return float(self.attenuation.shape[0] * self.grid.layer_mm)


class LesionKind(StrEnum):
    """What a lesion is; the first four may be malignant, the others are benign."""

    SPICULATED_MASS = "spiculated mass"
    CIRCUMSCRIBED_MASS = "circumscribed mass"
    MICROCALCIFICATIONS = "microcalcifications"
    ARCHITECTURAL_DISTORTION = "architectural distortion"
    CYST = "cyst"
    FIBROADENOMA = "fibroadenoma"
    VASCULAR_CALCIFICATION = "vascular calcification"


@dataclass(frozen=True)
class Lesion:
    """One lesion of one breast, over all rounds.

    `position_mm` is in the breast frame. `born` is when it has `birth_mm` of diameter; from then it grows with
    `doubling_days` (of volume; inf: it does not grow). `contrast`: its attenuation above the fibroglandular tissue's
    as a share of a typical tumour's (0: as glandular tissue, so it shows only against fat). `seed` fixes its shape.
    """

    lesion_id: str
    laterality: Laterality
    kind: LesionKind
    malignant: bool
    invasive: bool
    position_mm: tuple[float, float, float]
    born: date
    birth_mm: float
    doubling_days: float
    contrast: float
    seed: int


@dataclass(frozen=True)
class LesionTrace:
    """Where a lesion came to lie in a view: its box in the view frame, in mm, and how well it can be seen.

    `box_mm`: (height, along, out) of the lower and of the upper corner. `conspicuity`: contrast-to-noise ratio of the
    lesion against its surroundings in the ideal projection (Rose's criterion; detectable from 3 to 5).
    """

    lesion: Lesion
    diameter_mm: float
    box_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    conspicuity: float


Modality = Literal["mammography", "dbt", "both"]


@dataclass(frozen=True)
class Style:
    """How one make of machine takes and processes images. Names are made up; figures are typical of the class.

    `energy_kev`: effective photon energy. `bits`: stored. `pixel_mm`: of the written image, which the simulation may
    coarsen (`Grid.pixel_mm`). `blur_mm`: standard deviation of the detector's point spread. `scatter_to_primary` at
    50 mm. `photons_per_mm2` behind the breast. `sweep_degrees`, `projections`: of the tomosynthesis scan, in all.
    """

    name: str
    manufacturer: str
    model_name: str
    energy_kev: float
    bits: int
    pixel_mm: float
    blur_mm: float
    scatter_to_primary: float
    photons_per_mm2: float
    sweep_degrees: float
    projections: int
    frame_mm: float
    processing: Literal["logarithmic", "equalised", "sigmoid"]


@dataclass(frozen=True)
class SimulatedImage:
    """An image for presentation, hanging as written for a LEFT breast: column 0 is the chest wall.

    `pixels`: uint16, (rows, columns) of a mammogram, (frames, rows, columns) of a volume, frame 0 nearest to the breast
    support; tissue is bright (MONOCHROME2) on a background of 0. `frame_mm`: distance between frames.
    """

    laterality: Laterality
    view: View
    style: Style
    pixel_mm: float
    pixels: npt.NDArray[np.uint16]
    thickness_mm: float
    frame_mm: float | None = None
