"""What goes in: one woman's screening exam and its images, as read from DICOM headers (no pixels)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path


class Laterality(StrEnum):
    """Side of the body that a breast is on (the woman's own left and right)."""

    LEFT = "L"
    RIGHT = "R"


class View(StrEnum):
    """Mammographic projection, by the abbreviations of ACR and DICOM CID 4014."""

    CC = "CC"
    MLO = "MLO"
    ML = "ML"
    LM = "LM"
    LMO = "LMO"
    FB = "FB"
    SIO = "SIO"
    ISO = "ISO"
    XCCL = "XCCL"
    XCCM = "XCCM"
    AT = "AT"
    CV = "CV"


class PresentationIntent(StrEnum):
    """Presentation Intent Type (0008,0068): processed for display, or raw for processing."""

    FOR_PRESENTATION = "FOR PRESENTATION"
    FOR_PROCESSING = "FOR PROCESSING"


class ImageKind(StrEnum):
    """How the image was made: full-field digital (or film), synthetic 2D, or a tomosynthesis volume."""

    FFDM = "ffdm"
    SYNTHETIC = "synthetic"
    DBT = "dbt"


@dataclass(frozen=True)
class Image:
    """One SOP instance that may be scored.

    `pixel_spacing_mm` is (between rows, between columns) in the plane of the breast as the header states it, or the
    site profile's default. `rows`/`columns` describe the stored image, whose coordinates every region uses.
    `patient_orientation` is DICOM's (0020,0020): direction of rows (to the right), then of columns (downwards).
    `slices`: of a volume that is stored as a series of single-frame files, these files, in order; `path` and `image_id`
    are then those of the first.
    """

    image_id: str
    path: Path
    laterality: Laterality
    view: View
    kind: ImageKind
    rows: int
    columns: int
    frames: int
    pixel_spacing_mm: tuple[float, float]
    intent: PresentationIntent = PresentationIntent.FOR_PRESENTATION
    patient_orientation: tuple[str, ...] = ()
    implant: bool = False
    warnings: tuple[str, ...] = ()
    slices: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Exam:
    """One woman's screening visit. `exam_id` is the Study Instance UID or the site profile's grouping."""

    exam_id: str
    woman_id: str
    exam_date: date | None
    site: str
    manufacturer: str
    images: tuple[Image, ...]
    warnings: tuple[str, ...] = ()
