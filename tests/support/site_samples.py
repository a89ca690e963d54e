"""A site's sample for acceptance: ordinary exams, and files that the default profile cannot read as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid

from screening.acceptance.image_reference import SPACING, ImageReference, image_group, save_reference
from screening.acceptance.measures import NAMES, measure
from screening.imaging.prepare import Preparation, prepare
from tests.support.bundles import SPACING_MM
from tests.support.dicom import write_dicom
from tests.support.exams import COLUMNS, ROWS, VIEWS, drawn, instance
from tests.support.phantoms import spacing_mm

EXAMS, WORDY = 20, 2
"""Twenty exams are just enough for a recall rate of one half."""


@dataclass(frozen=True)
class Accepted:
    """One run of `screening accept`."""

    code: int
    stdout: str
    stderr: str
    out: Path

    @property
    def record(self) -> dict[str, Any]:
        """acceptance.json."""
        content: dict[str, Any] = json.loads((self.out / "acceptance.json").read_text())
        return content

    def check(self, name: str) -> dict[str, str]:
        """The check whose name begins so."""
        (found,) = [one for one in self.record["checks"] if one["name"].startswith(name)]
        return dict(found)


Accept = Callable[..., Accepted]


EQUIPMENT = {"Manufacturer": "Maker, Inc.", "ManufacturerModelName": "Mammo One", "SoftwareVersions": ["1.2", "7"]}
SECRET_PROTOCOL = "Screening Musterfrau Erika"
"""A protocol that somebody typed a name into: it must be seen nowhere."""
SPOT = (110.0, 210.0)


def write_ordinary(folder: Path, exams: int, first: int = 1) -> list[Path]:
    """Exams of four views with everything in their headers; every fifth has a bright spot in the left CC."""
    paths = []
    for study in range(first, first + exams):
        for number, (laterality, view) in enumerate(VIEWS, start=1):
            spot = SPOT if study % 5 == 0 and (laterality, view) == ("L", "CC") else None
            pixels = drawn(laterality, view, 10 * study + number, spot)
            dataset = instance(
                study,
                number,
                laterality,
                view,
                pixels,
                ProtocolName=SECRET_PROTOCOL if study == first else "Screening 4 views",
                SeriesDescription=f"{laterality} {view}",
                **EQUIPMENT,
            )
            paths.append(write_dicom(folder / f"{study:03d}" / f"{laterality}{view}.dcm", dataset))
    return paths


def write_wordy(folder: Path, exams: int, first: int = 900) -> list[Path]:
    """Exams of another SOP class, whose view and side stand in the series description alone."""
    paths = []
    for study in range(first, first + exams):
        for number, (laterality, view) in enumerate(VIEWS, start=1):
            dataset = instance(
                study,
                number,
                laterality,
                view,
                drawn(laterality, view, 10 * study + number),
                SOPClassUID=uid.SecondaryCaptureImageStorage,
                SeriesDescription=f"{'LEFT' if laterality == 'L' else 'RIGHT'} {view} screening",
                ViewPosition=None,
                ViewCodeSequence=None,
                ImageLaterality=None,
                **EQUIPMENT,
            )
            paths.append(write_dicom(folder / f"{study:03d}" / f"{number}.dcm", dataset))
    return paths


def phantom_reference(folder: Path, images: int = 24) -> ImageReference:
    """Measure other phantoms of the same kind as a bundle's training images, and save that beside it."""
    measured = []
    for seed in range(5000, 5000 + images):
        laterality, view = VIEWS[seed % len(VIEWS)]
        prepared = prepare(drawn(laterality, view, seed), spacing_mm(ROWS), Preparation(SPACING_MM))
        measured.append(measure(prepared.pixels, SPACING_MM))
    values = {name: [getattr(one, name) for one in measured] for name in NAMES}
    group = image_group({SPACING: [spacing_mm(ROWS)[0]] * images, **values}, {16: images}, {"Maker": images})
    reference = ImageReference(prepared_mm=SPACING_MM, all=group, by_set={})
    save_reference(reference, folder)
    return reference


def darkened(laterality: str, view: str, seed: int) -> npt.NDArray[np.uint16]:
    """A phantom whose grey scale was bent, as by another vendor's look-up table: uint16 (ROWS, COLUMNS)."""
    pixels = drawn(laterality, view, seed).astype(np.float64) / 65535
    assert pixels.shape == (ROWS, COLUMNS)
    bent: npt.NDArray[np.uint16] = np.rint(65535 * pixels**6).astype(np.uint16)
    return bent
