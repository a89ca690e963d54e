"""Small images as the simulation makes them, hanging as of a left breast."""

from __future__ import annotations

import csv
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np

from screening.exam import ImageKind, Laterality, View
from training.phantom.dicom import write_image
from training.phantom.headers import ExamHeader, ImageHeader
from training.phantom.model import SimulatedImage, Style
from training.phantom.truth import IMAGE_COLUMNS, LESION_COLUMNS

STYLE = Style("drawn", "Simulated Maker", "Drawn 1", 20.0, 12, 0.1, 0.08, 0.3, 1e5, 16.0, 15, 1.0, "logarithmic")


def drawn_image(kind: ImageKind, laterality: Laterality, view: View = View.CC) -> SimulatedImage:
    """A half disc of noise at the left border, a mammogram of (80, 60) or a volume of (5, 80, 60).

    The pixel's size is what floating point makes of 0.2 mm on the way, with more digits than DICOM allows.
    """
    rng = np.random.default_rng(3)
    shape = (5, 80, 60) if kind is ImageKind.DBT else (80, 60)
    y, x = np.mgrid[:80, :60]
    pixels = np.where(np.hypot(y - 40, x) < 38, rng.integers(500, 1 << STYLE.bits, shape), 0).astype(np.uint16)
    frame_mm = 1.0 if kind is ImageKind.DBT else None
    return SimulatedImage(laterality, view, STYLE, 0.1 * 0.2 / 0.1, pixels, 52.5, frame_mm)


def drawn_header(kind: ImageKind, number: int = 1) -> ImageHeader:
    """Of woman 7's second exam."""
    return ImageHeader(ExamHeader("SIM-1-000007", 1, date(2020, 3, 4), 55.5), kind, number)


def write_simulated_set(root: Path) -> None:
    """A folder as `screening simulate` leaves it, of one drawn exam of both breasts: mammogram, volume, synthetic 2D.

    The left breast has a cancer (occult in the 2D images of the MLO view) and a cyst, the right one a cancer of 3 mm
    that nothing shows.
    """
    images, lesions = [], []
    for number, (kind, side, view) in enumerate(product(ImageKind, Laterality, (View.CC, View.MLO)), start=1):
        image, header = drawn_image(kind, side, view), drawn_header(kind, number)
        image_id = header.image_id(image)
        file = f"{header.exam.woman_id}/round-2/{image_id}.dcm"
        (root / "dicom" / file).parent.mkdir(parents=True, exist_ok=True)
        write_image(image, header, root / "dicom" / file)
        frame = 2 if kind is ImageKind.DBT else ""
        common = {"exam_id": header.exam.exam_id, "image_id": image_id, "laterality": side, "frame": frame}
        images.append(
            common
            | {"woman_id": header.exam.woman_id, "file": file, "view": view, "kind": kind, "pixel_mm": 0.2}
            | {"manufacturer": "Maker", "machine": "Model", "age": 55, "density": "C", "malignant": 1}
        )
        left = side is Laterality.LEFT
        cancer = {"x": 10, "y": 20.5, "width": 8, "height": 9, "kind": "spiculated mass", "malignant": 1}
        hidden = view is View.MLO or not left
        cancer |= {"diameter_mm": 8 if left else 3, "visible": "occult" if hidden else "false_negative"}
        cyst = {"x": 20, "y": 30, "width": 6, "height": 6, "kind": "cyst", "malignant": 0}
        cyst |= {"diameter_mm": 6, "visible": "minimal_sign"}
        lesions += [common | cancer, *([common | cyst] if left else [])]
    for name, columns, rows in (("images", IMAGE_COLUMNS, images), ("lesions", LESION_COLUMNS, lesions)):
        with (root / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
