"""Screening exams drawn for tests: four views as DICOM files, a bright spot where asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

from tests.support.dicom import mammogram, write_dicom
from tests.support.phantoms import WHITE, spacing_mm, synthetic_mammogram

ROWS, COLUMNS = 400, 300
VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
WOMAN, NAME, BIRTH_DATE = "NHS-4711-0815", "Musterfrau^Erika", "19611223"
"""Who she is: must never be found in logs, reports or file names."""

Spot = tuple[float, float]
"""Column and row of a spot in the image of a left breast; in a right one it is mirrored."""


def drawn(laterality: str, view: str, seed: int, spot: Spot | None = None) -> npt.NDArray[np.uint16]:
    """A phantom of ROWS x COLUMNS pixels, of 0.6 mm, with a bright spot of 5 mm (standard deviation) at `spot`."""
    image = synthetic_mammogram(ROWS, COLUMNS, laterality, view, seed).astype(np.float64)
    if spot is not None:
        column = spot[0] if laterality == "L" else COLUMNS - 1 - spot[0]
        y, x = np.mgrid[:ROWS, :COLUMNS]
        image = 0.8 * image + 30_000 * np.exp(-((x - column) ** 2 + (y - spot[1]) ** 2) / (2 * 8.0**2))
    return np.clip(np.rint(image), 0, WHITE).astype(np.uint16)


def instance(
    study: int, number: int, laterality: str, view: str, pixels: npt.NDArray[np.uint16], **attributes: Any
) -> Dataset:
    """One view of an exam; `attributes` as of `mammogram`."""
    return mammogram(
        pixels,
        laterality=laterality,
        view=view,
        instance=number,
        study=study,
        **{
            "PatientID": f"{WOMAN}-{study}",
            "PatientName": NAME,
            "PatientBirthDate": BIRTH_DATE,
            "ImagerPixelSpacing": list(spacing_mm(ROWS)),
            # The whole range, so that what is drawn is what is displayed.
            "WindowCenter": 32768,
            "WindowWidth": 65536,
            **attributes,
        },
    )


def write_exam(
    folder: Path,
    study: int,
    views: tuple[tuple[str, str], ...] = VIEWS,
    spots: dict[tuple[str, str], Spot] | None = None,
    syntax: str = uid.ExplicitVRLittleEndian,
) -> list[Path]:
    """Write an exam's views under `folder`; the same arguments always give the same files."""
    paths = []
    for number, (laterality, view) in enumerate(views, start=1):
        pixels = drawn(laterality, view, 10 * study + number, (spots or {}).get((laterality, view)))
        path = folder / f"{study:03d}" / f"{laterality}{view}.dcm"
        paths.append(write_dicom(path, instance(study, number, laterality, view, pixels), syntax))
    return paths


def study_uid(study: int) -> str:
    """The exam id of a study."""
    return f"1.2.826.0.1.3680043.10.1.{study}"


def image_uid(study: int, number: int) -> str:
    """The image id of an instance."""
    return f"{study_uid(study)}.{number}"
