"""What comes out: regions, image, breast and exam results, rejections. Every score is traceable to a region."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from screening.exam import Image, Laterality, View


class Status(StrEnum):
    """How an instance or an exam ended. Nothing read ends otherwise."""

    SCORED = "scored"
    REJECTED = "rejected"
    FAILED = "failed"


class Reason(StrEnum):
    """Why an instance or an exam was not scored. Codes are stable: sites filter and count by them."""

    NOT_DICOM = "not-dicom"
    DUPLICATE = "duplicate"
    MISSING_IDENTIFIER = "missing-identifier"
    NOT_MAMMOGRAPHY = "not-mammography"
    SOP_CLASS = "sop-class-not-eligible"
    FOR_PROCESSING = "for-processing"
    PROJECTION = "raw-projection"
    TOMOSYNTHESIS = "tomosynthesis-not-supported"
    UNKNOWN_VIEW = "unknown-view"
    UNKNOWN_LATERALITY = "unknown-laterality"
    UNKNOWN_SPACING = "unknown-pixel-spacing"
    MAGNIFICATION = "magnification"
    SPOT = "spot-compression"
    SPECIMEN = "specimen"
    LOCALISER = "localiser"
    BIOPSY = "biopsy"
    EXCLUDED_BY_SITE = "excluded-by-site"
    TRANSFER_SYNTAX = "transfer-syntax-not-supported"
    IMPLAUSIBLE_HEADER = "implausible-header"
    TOO_SMALL = "too-small"
    CONSTANT = "constant-pixels"
    NO_BREAST = "no-breast-found"
    NO_ELIGIBLE_IMAGE = "no-eligible-image"
    UNREADABLE = "unreadable"
    NOT_FETCHED = "not-fetched"
    ALL_IMAGES_FAILED = "all-images-failed"
    STILL_WRITTEN = "still-being-written"
    OUT_OF_MEMORY = "out-of-memory"
    WORKER_DIED = "worker-died"


@dataclass(frozen=True)
class Rejection:
    """A reason code and a sentence for people."""

    code: Reason
    sentence: str

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"


@dataclass(frozen=True)
class Region:
    """A suspicious place, in *source pixel coordinates* (column, row; 0-based; of the stored image).

    Pixel i covers i to i + 1, as in DICOM's spatial coordinates (PS3.3 C.18.6.1.2). `x, y, width, height` are the box
    around `contour`, a closed polygon of (column, row).
    `score` in [0, 1] is calibrated like the exam score; `rank` counts from 1 within the exam. Frames are 0-based and
    inclusive; 0 for a single-frame image.
    """

    region_id: str
    image_id: str
    laterality: Laterality
    view: View
    x: float
    y: float
    width: float
    height: float
    contour: tuple[tuple[float, float], ...]
    score: float
    rank: int
    frame_first: int = 0
    frame_last: int = 0
    frame_peak: int = 0


@dataclass(frozen=True)
class Heatmap:
    """Malignancy probability over an image, for pictures.

    `values`: float32 (rows, columns) in [0, 1], calibrated like the region scores, in source orientation (never
    mirrored); it covers the source box `x, y, width, height` in source pixels. `frames`: of a volume, whose values are
    the highest over its frames, the frame of each: int16 (rows, columns), -1 beyond the breast.
    """

    values: npt.NDArray[np.float32]
    x: float
    y: float
    width: float
    height: float
    frames: npt.NDArray[np.int16] | None = None


@dataclass(frozen=True)
class KeyFrame:
    """A frame of a volume to look at. `frame`: 0-based. `region_ids`: the regions it shows, most suspicious first.

    `preview`: uint8 (rows, columns), the frame as displayed, reduced, in source orientation.
    """

    frame: int
    region_ids: tuple[str, ...]
    preview: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class ImageResult:
    """One image's end. `score`, `regions`, `heatmap`, `preview` are set only when `status` is scored.

    `preview`: uint8 (rows, columns), the whole image as displayed (dark background), reduced, in source orientation;
    of a volume the maximum of its frames. `key_frames`: of a volume, the frames to look at, in that order.
    """

    image: Image
    status: Status
    rejection: Rejection | None = None
    score: float | None = None
    regions: tuple[Region, ...] = ()
    heatmap: Heatmap | None = None
    preview: npt.NDArray[np.uint8] | None = None
    warnings: tuple[str, ...] = ()
    key_frames: tuple[KeyFrame, ...] = ()


@dataclass(frozen=True)
class BreastResult:
    """One breast: the highest fused region over its views. `density` is BI-RADS 5th ed. A–D, or None."""

    laterality: Laterality
    score: float
    top_region_id: str
    density: str | None = None


@dataclass(frozen=True)
class ExamResult:
    """One exam's end. `score` = max over breasts; `category` 1–10 (10 = most suspicious tenth)."""

    exam_id: str
    woman_id: str
    exam_date: date | None
    site: str
    manufacturer: str
    model_id: str
    status: Status
    rejection: Rejection | None = None
    score: float | None = None
    category: int | None = None
    density: str | None = None
    top_region_id: str | None = None
    breasts: tuple[BreastResult, ...] = ()
    images: tuple[ImageResult, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions of the exam, most suspicious first."""
        return tuple(sorted((r for i in self.images for r in i.regions), key=lambda region: region.rank))


@dataclass(frozen=True)
class InstanceRejection:
    """A file that could not become an image of an exam: where it was found (relative), and why it is not scored.

    `exam_id` and `image_id` are empty where the file does not say them.
    """

    file: str
    exam_id: str
    image_id: str
    status: Status
    rejection: Rejection
    laterality: str = ""
    view: str = ""
    kind: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 0
