"""Simulated images as DICOM: valid by an independent validator, the same bytes again, and what they were made of."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest

from screening.exam import ImageKind, Laterality, View
from screening.site import load_site
from screening.sources.folder import read_folder
from tests.support.simulated_images import drawn_header, drawn_image
from tests.support.validators import dciodvfy, dcmdump, needs
from training.phantom.dicom import write_image
from training.phantom.model import Style
from training.phantom.styles import STYLES

ALL = list(product(ImageKind, Laterality, (View.CC, View.MLO)))
NAMES = ["-".join(case) for case in ALL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of image of both breasts and views."""
    folder = tmp_path_factory.mktemp("images")
    for number, (kind, laterality, view) in enumerate(ALL, start=1):
        write_image(
            drawn_image(kind, laterality, view), drawn_header(kind, number), folder / f"{NAMES[number - 1]}.dcm"
        )
    return folder


@needs("dciodvfy", "dcmdump")
@pytest.mark.parametrize("name", NAMES)
def test_independent_validators_find_no_error(folder: Path, name: str) -> None:
    assert dciodvfy(folder / f"{name}.dcm") == []
    dcmdump(folder / f"{name}.dcm")


@needs("dciodvfy")
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
@pytest.mark.parametrize("kind", ImageKind)
def test_each_make_writes_valid_objects(tmp_path: Path, kind: ImageKind, style: Style) -> None:
    image = drawn_image(kind, Laterality.RIGHT, View.MLO)
    bits = np.uint16((1 << style.bits) - 1)
    image = replace(image, style=style, pixel_mm=style.pixel_mm, pixels=image.pixels & bits)
    write_image(image, drawn_header(kind), tmp_path / "image.dcm")
    assert dciodvfy(tmp_path / "image.dcm") == []
    written = pydicom.dcmread(tmp_path / "image.dcm")
    assert (written.ManufacturerModelName, written.BitsStored) == (style.model_name, style.bits)


@needs("dcmdump")
@pytest.mark.parametrize("kind", [ImageKind.FFDM, ImageKind.DBT])
def test_dcmtk_decompresses_to_the_simulated_pixels_mirrored_for_a_right_breast(
    folder: Path, tmp_path: Path, kind: ImageKind
) -> None:
    plain = tmp_path / "plain.dcm"
    subprocess.run(["dcmdjpls", str(folder / f"{kind}-R-MLO.dcm"), str(plain)], check=True, timeout=60)
    pixels = pydicom.dcmread(plain).pixel_array
    np.testing.assert_array_equal(pixels, drawn_image(kind, Laterality.RIGHT).pixels[..., ::-1])


def test_the_pipeline_reads_each_image_as_what_was_simulated(folder: Path) -> None:
    scan = read_folder(folder, load_site(None))
    assert scan.rejections == ()
    (exam,) = scan.exams
    assert exam.woman_id == "SIM-1-000007"
    assert str(exam.exam_date) == "2020-03-04"
    assert exam.manufacturer == "Simulated Maker"
    assert {(image.kind, image.laterality, image.view) for image in exam.images} == set(ALL)
    for image in exam.images:
        assert image.warnings == ()
        assert image.pixel_spacing_mm == (0.2, 0.2)
        assert image.frames == (5 if image.kind is ImageKind.DBT else 1)
        assert image.image_id == drawn_header(image.kind).image_id(
            drawn_image(image.kind, image.laterality, image.view)
        )


def test_equal_images_make_equal_bytes(folder: Path, tmp_path: Path) -> None:
    for number, (kind, laterality, view) in enumerate(ALL, start=1):
        again = tmp_path / "again.dcm"
        write_image(drawn_image(kind, laterality, view), drawn_header(kind, number), again)
        assert again.read_bytes() == (folder / f"{NAMES[number - 1]}.dcm").read_bytes()


def test_no_identifier_is_used_twice(folder: Path) -> None:
    found = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    assert len({dataset.SOPInstanceUID for dataset in found}) == len(ALL)
    assert len({dataset.SeriesInstanceUID for dataset in found}) == len(ALL)
    assert len({dataset.StudyInstanceUID for dataset in found}) == 1
    kind = ImageKind.FFDM
    other_round = replace(drawn_header(kind).exam, round_number=2)
    assert other_round.exam_id != found[0].StudyInstanceUID
    assert other_round.image_id(kind, Laterality.LEFT, View.CC) not in {d.SOPInstanceUID for d in found}


@pytest.mark.parametrize("laterality", Laterality)
@pytest.mark.parametrize("view", [View.CC, View.MLO])
def test_frames_rise_from_the_breast_support_whichever_side_it_is_on(
    folder: Path, laterality: Laterality, view: View
) -> None:
    """In CC the support is below the breast; in MLO it is on the breast's outer side and below."""
    dataset = pydicom.dcmread(folder / f"dbt-{laterality}-{view}.dcm")
    first, second = (
        np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for frame in dataset.PerFrameFunctionalGroupsSequence[:2]
    )
    step = second - first
    assert np.linalg.norm(step) == pytest.approx(1.0, abs=1e-6)
    assert step[2] > 0.7, "towards the head"
    inwards = -1 if laterality is Laterality.LEFT else 1
    assert step[0] * inwards == pytest.approx(0.0 if view is View.CC else 0.5**0.5, abs=1e-6)
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    rows, columns = np.array(orientation[:3], float), np.array(orientation[3:], float)
    assert rows @ step == pytest.approx(0, abs=1e-6)
    assert columns @ step == pytest.approx(0, abs=1e-6)
    assert rows[1] == (-1 if laterality is Laterality.LEFT else 1), "rows lead from the chest wall to the nipple"


def test_names_say_that_nobody_is_meant_and_no_time_is_that_of_writing(folder: Path) -> None:
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        assert str(dataset.PatientName).startswith("SIMULATED^")
        stated = {str(element.value) for element in dataset.iterall() if element.VR in ("DA", "DT") and element.value}
        assert all(re.match("20200304", value) for value in stated)


def test_a_pixel_beyond_the_stated_bits_is_refused(tmp_path: Path) -> None:
    image = drawn_image(ImageKind.FFDM, Laterality.LEFT)
    too_bright = replace(image, pixels=image.pixels | np.uint16(1 << 13))
    with pytest.raises(ValueError, match="does not fit into 12 bits"):
        write_image(too_bright, drawn_header(ImageKind.FFDM), tmp_path / "image.dcm")
