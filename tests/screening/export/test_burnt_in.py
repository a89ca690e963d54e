"""Text in pixels: what is suspect, what passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from screening.exam import ImageKind
from screening.export.burnt_in import is_suspect, needs_check, text_suspected
from tests.support.dicom import mammogram, write_dicom
from tests.support.exports import needs_tesseract, with_text


def written(folder: Path, pixels: np.ndarray) -> Path:
    return write_dicom(folder / "image.dcm", mammogram(pixels))


@needs_tesseract
@pytest.mark.parametrize("turned", [0, 1])
def test_a_name_in_the_pixels_makes_the_image_suspect_upright_and_turned(turned: int, tmp_path: Path) -> None:
    assert text_suspected(written(tmp_path, np.rot90(with_text("Erika M. 1961"), turned)), 1)


@needs_tesseract
def test_view_markers_pass(tmp_path: Path) -> None:
    assert not text_suspected(written(tmp_path, with_text("R MLO")), 1)


@needs_tesseract
def test_text_in_any_of_a_few_frames_is_found(tmp_path: Path) -> None:
    frames = np.stack([with_text(""), with_text("4711-0815"), with_text("")])
    assert text_suspected(written(tmp_path, frames), 3)


@pytest.mark.parametrize("word", ["R", "L", "RCC", "L-MLO", "CC", "RMLOID", "(R)", "LEFT", "MAG", "|", "fe", "a1"])
def test_markers_and_specks_are_no_suspects(word: str) -> None:
    assert not is_suspect(word, 96.0)


@pytest.mark.parametrize("word", ["ERIKA", "1961", "61", "RMLOERIKA", "Dr.X", "4711-0815"])
def test_words_and_numbers_are_suspects_if_read_with_certainty(word: str) -> None:
    assert is_suspect(word, 96.0)
    assert not is_suspect(word, 40.0)


@pytest.mark.parametrize(
    ("sop_class", "stated", "kind", "looked_at"),
    [
        (uid.DigitalMammographyXRayImageStorageForPresentation, "NO", ImageKind.FFDM, False),
        (uid.BreastTomosynthesisImageStorage, "NO", ImageKind.DBT, False),
        (uid.DigitalMammographyXRayImageStorageForPresentation, "", ImageKind.FFDM, True),
        (uid.DigitalMammographyXRayImageStorageForPresentation, "NO", ImageKind.SYNTHETIC, True),
        (uid.SecondaryCaptureImageStorage, "NO", ImageKind.FFDM, True),
        (uid.DigitalXRayImageStorageForPresentation, "NO", ImageKind.FFDM, True),
    ],
)
def test_only_mammography_equipment_that_denies_burnt_in_text_is_believed(
    sop_class: str, stated: str, kind: ImageKind, looked_at: bool
) -> None:
    header = Dataset()
    header.SOPClassUID, header.BurnedInAnnotation = sop_class, stated
    assert needs_check(header, kind) is looked_at
