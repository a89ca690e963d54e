"""What is true of the simulated images: a row for each image, and a row for each lesion in each image."""

from __future__ import annotations

from collections.abc import Sequence

from screening.exam import ImageKind, Laterality
from training.phantom.conspicuity import visibility
from training.phantom.headers import ImageHeader, decimal
from training.phantom.model import LesionTrace, SimulatedImage, Woman
from training.phantom.registry import ImageBox, Row

IMAGE_COLUMNS = (
    "image_id", "exam_id", "woman_id", "round", "exam_date", "file", "laterality", "view", "kind", "rows", "columns",
    "frames", "pixel_mm", "frame_mm", "thickness_mm", "manufacturer", "machine", "age", "density", "malignant",
)  # fmt: skip
LESION_COLUMNS = (
    "lesion_id", "woman_id", "exam_id", "image_id", "laterality", "view", "x", "y", "width", "height", "frame",
    "frame_first", "frame_last", "kind", "malignant", "invasive", "diameter_mm", "conspicuity", "visible",
)  # fmt: skip


def image_row(
    image: SimulatedImage, header: ImageHeader, woman: Woman, file: str, traces: Sequence[LesionTrace]
) -> Row:
    """The row of one image. `file` is its path below the folder of all images; `traces` are the breast's lesions."""
    exam = header.exam
    return {
        "image_id": header.image_id(image),
        "exam_id": exam.exam_id,
        "woman_id": exam.woman_id,
        "round": exam.round_number + 1,
        "exam_date": exam.exam_date.isoformat(),
        "file": file,
        "laterality": image.laterality.value,
        "view": image.view.value,
        "kind": header.kind.value,
        "rows": image.pixels.shape[-2],
        "columns": image.pixels.shape[-1],
        "frames": len(image.pixels) if header.kind is ImageKind.DBT else 1,
        "pixel_mm": decimal(image.pixel_mm),
        "frame_mm": image.frame_mm,
        "thickness_mm": round(image.thickness_mm, 1),
        "manufacturer": image.style.manufacturer,
        "machine": image.style.model_name,
        "age": int(exam.age),
        "density": woman.density,
        "malignant": int(any(trace.lesion.malignant for trace in traces)),
    }


def lesion_row(image: SimulatedImage, header: ImageHeader, trace: LesionTrace, box: ImageBox) -> Row:
    """The row of one lesion that lies at `box` in an image."""
    (low, *_), (high, *_) = trace.box_mm
    lesion = trace.lesion
    return {
        "lesion_id": lesion.lesion_id,
        "woman_id": header.exam.woman_id,
        "exam_id": header.exam.exam_id,
        "image_id": box.image_id,
        "laterality": image.laterality.value,
        "view": image.view.value,
        "x": box.x,
        "y": box.y,
        "width": box.width,
        "height": box.height,
        "frame": box.frame,
        "frame_first": _frame(image, low),
        "frame_last": _frame(image, high - 1e-6),  # a lesion that ends where a frame begins is not in it
        "kind": lesion.kind.value,
        "malignant": int(lesion.malignant),
        "invasive": int(lesion.invasive),
        "diameter_mm": round(trace.diameter_mm, 2),
        "conspicuity": round(trace.conspicuity, 3),
        "visible": visibility(trace.conspicuity),
    }


def image_box(trace: LesionTrace, image: SimulatedImage, image_id: str) -> ImageBox | None:
    """A lesion's box in pixels of the image as written, within its borders; None if the image does not hold it.

    In a volume, `frame` is the one that shows the middle of the lesion's height.
    """
    (low_height, low_along, low_out), (high_height, high_along, high_out) = trace.box_mm
    rows, columns = image.pixels.shape[-2:]
    left, right = max(low_out / image.pixel_mm, 0.0), min(high_out / image.pixel_mm, columns)
    top, bottom = max(low_along / image.pixel_mm, 0.0), min(high_along / image.pixel_mm, rows)
    if right <= left or bottom <= top:
        return None
    if image.laterality is Laterality.RIGHT:
        left, right = columns - right, columns - left
    x, y, width, height = (round(edge, 2) for edge in (left, top, right - left, bottom - top))
    return ImageBox(image_id, x, y, width, height, _frame(image, (low_height + high_height) / 2))


def _frame(image: SimulatedImage, height_mm: float) -> int | None:
    """The frame of a volume at a height above the breast support; None in a 2D image."""
    if image.frame_mm is None:
        return None
    return min(max(int(height_mm / image.frame_mm), 0), len(image.pixels) - 1)
