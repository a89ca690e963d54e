"""Tomosynthesis volumes are read: every way of storage, every transfer syntax, frame by frame."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import uid

from screening.errors import ImageError
from screening.exam import Exam, Image, ImageKind, Laterality, View
from screening.imaging.decode import SUPPORTED_SYNTAXES
from screening.imaging.volume import open_volume
from screening.result import Reason
from screening.site import load_site
from screening.sources.folder import FolderScan, read_folder
from tests.support.dicom import code, noise_image, write_dicom
from tests.support.validators import dciodvfy, needs
from tests.support.volumes import (
    PIXEL_MM,
    capture,
    drawn_volume,
    slices,
    tomosynthesis,
    write_slices,
    write_volume,
)

DEFAULT = load_site()
LOSSY = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K}


def scan(folder: Path) -> FolderScan:
    return read_folder(folder, DEFAULT)


def only_exam(folder: Path) -> Exam:
    found = scan(folder)
    assert not found.rejections
    (exam,) = found.exams
    return exam


def only_image(folder: Path) -> Image:
    (image,) = only_exam(folder).images
    return image


def noise_frames(frames: int = 4, bits: int = 12) -> np.ndarray[Any, Any]:
    return np.stack([noise_image(48, 40, bits, seed=seed) for seed in range(frames)])


def shown(image: Image) -> np.ndarray[Any, Any]:
    with open_volume(image) as volume:
        return np.stack(list(volume.frames()))


@needs("dciodvfy")
def test_test_files_are_valid_by_their_iods(tmp_path: Path) -> None:
    pixels = drawn_volume(3, [(100, 200, 1)])
    files = [
        write_volume(tmp_path / "tomosynthesis.dcm", pixels),
        write_volume(tmp_path / "sides.dcm", pixels, frame_laterality="LLR", orientation=("A", "R")),
        write_slices(tmp_path / "slices", pixels)[0],
        write_dicom(tmp_path / "capture.dcm", capture(pixels)),
        write_dicom(tmp_path / "bytes.dcm", capture(drawn_volume(3, bits=8))),
    ]
    for file in files:
        assert dciodvfy(file) == []


def test_tomosynthesis_is_an_image_of_its_exam(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(5), laterality="R", view="MLO")
    image = only_image(tmp_path)
    assert (image.kind, image.laterality, image.view) == (ImageKind.DBT, Laterality.RIGHT, View.MLO)
    assert (image.frames, image.rows, image.columns) == (5, 400, 300)
    assert image.pixel_spacing_mm == pytest.approx((PIXEL_MM, PIXEL_MM))
    assert image.warnings == ()


@pytest.mark.parametrize("syntax", sorted(SUPPORTED_SYNTAXES), ids=lambda syntax: uid.UID(syntax).name)
def test_every_transfer_syntax_gives_the_frames_that_were_put_in(tmp_path: Path, syntax: str) -> None:
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
    pixels = noise_frames(bits=bits)
    window = (1 << bits) / 2
    dataset = tomosynthesis(pixels, bits_stored=bits)
    voi = dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    voi.WindowCenter, voi.WindowWidth = window, 2 * window
    write_dicom(tmp_path / "v.dcm", dataset, syntax)
    expected = pixels * (65535 / ((1 << bits) - 1))
    tolerance = 0.05 * 65535 if syntax in LOSSY else 1
    assert np.abs(shown(only_image(tmp_path)) - expected).mean() <= tolerance
    if syntax not in LOSSY:
        assert np.abs(shown(only_image(tmp_path)) - expected).max() <= tolerance


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_8_to_16_bits_are_shown_over_the_whole_range(tmp_path: Path, bits: int) -> None:
    pixels = noise_frames(bits=bits)
    dataset = tomosynthesis(pixels, bits_stored=bits)
    del dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence
    write_dicom(tmp_path / "v.dcm", dataset)
    frames = shown(only_image(tmp_path))
    assert (frames.min(), frames.max()) == (0, 65535)


def test_each_frame_is_shown_by_its_own_window(tmp_path: Path) -> None:
    pixels = np.stack([noise_image(48, 40)] * 2)
    dataset = tomosynthesis(pixels, bits_stored=12)
    del dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence
    for groups, width in zip(dataset.PerFrameFunctionalGroupsSequence, (4096.0, 2048.0), strict=True):
        item = tomosynthesis(pixels).SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
        item.WindowCenter, item.WindowWidth = width / 2, width
        groups.FrameVOILUTSequence = [item]
    write_dicom(tmp_path / "v.dcm", dataset)
    wide, narrow = shown(only_image(tmp_path)).astype(int)
    assert np.abs(narrow - np.minimum(2 * wide, 65535)).max() <= 40


def test_frames_without_window_share_one_scale(tmp_path: Path) -> None:
    pixels = (noise_frames(3) // np.array([4, 1, 2])[:, None, None]).astype(np.uint16)
    dataset = tomosynthesis(pixels, bits_stored=12)
    del dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence
    write_dicom(tmp_path / "v.dcm", dataset)
    with open_volume(only_image(tmp_path)) as volume:
        middle = volume.frame(volume.middle)
        frames = list(volume.frames())
    np.testing.assert_array_equal(frames[1], middle)
    means = [frame.mean() for frame in frames]
    assert means == pytest.approx([means[1] / 4, means[1], means[1] / 2], rel=0.02)


def test_all_ways_of_storage_give_the_same_frames(tmp_path: Path) -> None:
    pixels = drawn_volume(4, [(100, 200, 2)])
    write_volume(tmp_path / "a" / "v.dcm", pixels)
    write_slices(tmp_path / "b", pixels)
    write_dicom(tmp_path / "c" / "v.dcm", capture(pixels, WindowCenter=32768, WindowWidth=65536))
    expected = shown(only_image(tmp_path / "a"))
    for way in "bc":
        image = only_image(tmp_path / way)
        assert (image.kind, image.laterality, image.view) == (ImageKind.DBT, Laterality.LEFT, View.CC)
        assert (image.frames, image.pixel_spacing_mm) == (4, (PIXEL_MM, PIXEL_MM))
        np.testing.assert_array_equal(shown(image), expected)


def test_slices_make_one_volume_each_series_in_order_of_position(tmp_path: Path) -> None:
    pixels = drawn_volume(5, [(100, 200, 2)])
    datasets = slices(pixels)
    for number, dataset in enumerate(datasets):
        dataset.InstanceNumber = [4, 2, 5, 1, 3][number]
        write_dicom(tmp_path / f"{dataset.InstanceNumber}.dcm", dataset)
    write_slices(tmp_path / "other", pixels, view="MLO", instance=2)
    found = scan(tmp_path)
    assert found.instances == 2
    first, second = found.exams[0].images
    assert (first.view, second.view, first.frames, second.frames) == (View.CC, View.MLO, 5, 5)
    np.testing.assert_array_equal(shown(first), shown(second))


def test_slice_that_is_missing_from_a_series_is_a_gap(tmp_path: Path) -> None:
    paths = write_slices(tmp_path, drawn_volume(6))
    paths[3].unlink()
    with open_volume(only_image(tmp_path)) as volume:
        assert volume.stack.positions_mm == (0.0, 1.0, 2.0, 4.0, 5.0)
        assert "1 frame seems to be missing" in volume.stack.warnings[0]


@pytest.mark.parametrize(
    ("numbers", "warning"),
    [
        ([1, 2, 3, 4, 5], None),
        ([1, 3, 5, 7, 9], None),
        ([0, 0, 0, 0, 0], None),
        ([1, 2, 3, 5, 6], "1 frame seems to be missing (a gap in the Instance Numbers after frame 3)"),
        ([1, 2, 3, 4, 7, 9], "3 frames seem to be missing (a gap in the Instance Numbers after frame 4, 5)"),
    ],
)
def test_slice_without_position_that_is_missing_from_a_series_is_told(
    tmp_path: Path, numbers: list[int], warning: str | None
) -> None:
    for dataset, number in zip(slices(drawn_volume(len(numbers)), ImagePositionPatient=None), numbers, strict=True):
        dataset.InstanceNumber = number
        write_dicom(tmp_path / f"{dataset.SOPInstanceUID}.dcm", dataset)
    found = [text for text in only_image(tmp_path).warnings if "missing" in text]
    assert found == ([] if warning is None else [f"{warning}; what lay there was not seen"])


@pytest.mark.parametrize("bits", [8, 16])
def test_captures_of_bytes_and_of_words_are_read(tmp_path: Path, bits: int) -> None:
    pixels = drawn_volume(3, [(100, 200, 1)], bits=bits)
    dataset = capture(pixels, WindowCenter=1 << (bits - 1), WindowWidth=1 << bits)
    size = "Byte" if bits == 8 else "Word"
    assert dataset.SOPClassUID.name == f"Multi-frame Grayscale {size} Secondary Capture Image Storage"
    write_dicom(tmp_path / "v.dcm", dataset)
    image = only_image(tmp_path)
    assert (image.kind, image.frames) == (ImageKind.DBT, 3)
    np.testing.assert_allclose(shown(image), pixels * (65535 / ((1 << bits) - 1)), atol=1)


def test_capture_of_one_frame_is_a_volume_only_if_it_says_so(tmp_path: Path) -> None:
    pixels = drawn_volume(1)
    write_dicom(tmp_path / "a" / "v.dcm", capture(pixels))
    write_dicom(tmp_path / "b" / "v.dcm", capture(pixels, SeriesDescription="film", ViewPosition="CC"))
    slab, film = only_image(tmp_path / "a"), only_image(tmp_path / "b")
    assert (slab.kind, slab.view, slab.frames) == (ImageKind.DBT, View.CC, 1)
    assert film.kind is ImageKind.FFDM


def test_chest_ct_and_other_captures_are_no_tomosynthesis(tmp_path: Path) -> None:
    pixels = drawn_volume(2)
    attributes = {"BodyPartExamined": "CHEST", "SeriesDescription": "L CC thorax"}
    write_dicom(tmp_path / "ct.dcm", slices(pixels, **attributes)[0])
    write_dicom(tmp_path / "sc.dcm", capture(pixels, SeriesDescription="L CC ultrasound", SOPInstanceUID="1.2.3"))
    found = scan(tmp_path)
    assert [one.rejection.code for one in found.rejections] == [Reason.NOT_MAMMOGRAPHY] * 2
    assert not found.exams


@pytest.mark.parametrize(
    "attributes",
    [
        {"SOPClassUID": uid.BreastProjectionXRayImageStorageForProcessing},
        {"SOPClassUID": uid.BreastProjectionXRayImageStorageForPresentation},
        {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO_PROJ", "LEFT"]},
    ],
)
def test_raw_projections_are_rejected_with_their_reason(tmp_path: Path, attributes: dict[str, Any]) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(3), **attributes)
    (rejection,) = scan(tmp_path).rejections
    assert rejection.rejection.code is Reason.PROJECTION
    assert "projection" in rejection.rejection.sentence


def test_synthetic_image_of_the_tomosynthesis_class_is_read_as_2d(tmp_path: Path) -> None:
    image_type = ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]
    write_volume(tmp_path / "v.dcm", drawn_volume(1), ImageType=image_type)
    image = only_image(tmp_path)
    assert (image.kind, image.frames) == (ImageKind.SYNTHETIC, 1)
    assert image.pixel_spacing_mm == pytest.approx((PIXEL_MM, PIXEL_MM))


@pytest.mark.parametrize("described", [0, 5])
def test_frame_count_that_contradicts_the_functional_groups_is_refused(tmp_path: Path, described: int) -> None:
    dataset = tomosynthesis(drawn_volume(6))
    del dataset.PerFrameFunctionalGroupsSequence[described:]
    write_dicom(tmp_path / "v.dcm", dataset)
    (rejection,) = scan(tmp_path).rejections
    assert rejection.rejection.code is Reason.IMPLAUSIBLE_HEADER
    assert f"declares 6 frames, but describes {described}" in rejection.rejection.sentence


def test_single_frame_of_which_the_functional_groups_say_nothing_is_read(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(1), PerFrameFunctionalGroupsSequence=[])
    assert shown(only_image(tmp_path)).shape == (1, 400, 300)


def test_per_frame_laterality_that_disagrees_is_outvoted_with_a_warning(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(5), frame_laterality="LRLLR")
    image = only_image(tmp_path)
    assert image.laterality is Laterality.LEFT
    assert any("Frame Laterality says R in 2 of 5 frames" in text for text in image.warnings)


def test_wrong_frame_laterality_yields_to_the_description(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(3), frame_laterality="RRR", SeriesDescription="L CC Tomosynthesis")
    assert only_image(tmp_path).laterality is Laterality.LEFT


def test_view_and_side_of_a_capture_come_from_its_description(tmp_path: Path) -> None:
    attributes = {"Laterality": "", "SeriesDescription": "Right MLO DBT"}
    write_dicom(tmp_path / "v.dcm", capture(drawn_volume(2), **attributes))
    image = only_image(tmp_path)
    assert (image.laterality, image.view) == (Laterality.RIGHT, View.MLO)


def test_magnified_tomosynthesis_is_no_screening_view(tmp_path: Path) -> None:
    dataset = tomosynthesis(drawn_volume(2))
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = [code("399163009", "Magnification")]
    write_dicom(tmp_path / "v.dcm", dataset)
    assert scan(tmp_path).rejections[0].rejection.code is Reason.MAGNIFICATION


def test_at_most_one_frame_is_decoded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume(tmp_path / "v.dcm", noise_frames(8), bits_stored=12)
    with open_volume(only_image(tmp_path)) as volume:
        decoded: list[int] = []
        frame = type(volume).frame
        monkeypatch.setattr(type(volume), "frame", lambda self, place: (decoded.append(place), frame(self, place))[1])
        for used, _ in enumerate(volume.frames()):
            assert len(decoded) <= used + 2
        assert decoded == list(range(8))


@pytest.mark.parametrize("how", ["codestream", "file"])
def test_truncated_frame_is_named(tmp_path: Path, how: str) -> None:
    pixels = noise_frames(6)
    dataset = tomosynthesis(pixels, bits_stored=12)
    streams = [bytes(imagecodecs.jpegls_encode(frame)) for frame in pixels]
    if how == "codestream":
        streams[3] = streams[3][: len(streams[3]) // 2 // 2 * 2]
    path = write_dicom(tmp_path / "v.dcm", dataset, uid.JPEGLSLossless, codestreams=streams)
    if how == "file":
        path.write_bytes(path.read_bytes()[: -sum(map(len, streams[4:]))])
    with pytest.raises(ImageError, match="frame 4 of 6: .*truncated" if how == "codestream" else "truncated"):
        shown(only_image(tmp_path))


def test_deflated_volume_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    frame = np.kron(noise_image(48, 40), np.ones((20, 20), np.uint16))
    dataset = tomosynthesis(np.stack([frame + shift for shift in range(40)]), bits_stored=13)
    write_dicom(tmp_path / "v.dcm", dataset, uid.DeflatedExplicitVRLittleEndian)
    image = only_image(tmp_path)
    del dataset
    tracemalloc.start()
    with open_volume(image) as volume:
        frames = sum(1 for _ in volume.frames())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == 40
    assert peak < 0.5 * 40 * frame.nbytes


def test_deflated_data_larger_than_any_volume_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(4), uid.DeflatedExplicitVRLittleEndian)
    image = only_image(tmp_path)
    monkeypatch.setattr("screening.dicomfile.MAX_INFLATED", 500_000)
    with pytest.raises(ImageError, match="larger than any volume's"):
        shown(image)


_MEASURE = """
import json, re, sys
from pathlib import Path
from screening.imaging.load_volume import load_volume
from screening.imaging.prepare import Preparation
from screening.imaging.slabs import Slabbing
from screening.site import load_site
from screening.sources.folder import read_folder
(image,) = read_folder(Path(sys.argv[1]), load_site()).exams[0].images
loaded = load_volume(image, Preparation(0.5), Slabbing())
# Not ru_maxrss, which begins with what the process that started this one had.
peak_gb = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e6
print(json.dumps([str(loaded.status), len(loaded.volume.previews), peak_gb]))
"""


def test_80_frames_of_2457_by_1996_at_16_bits_never_need_half_a_gigabyte_to_read(tmp_path: Path) -> None:
    """With the network, `benchmarks/tomosynthesis.py` measures it; its weights and PyTorch add a fixed amount."""
    small = drawn_volume(1, [(100, 200, 0)])[0]
    frame = np.ascontiguousarray(np.kron(small, np.ones((7, 7), np.uint16))[:2457, :1996])
    dataset = tomosynthesis(np.zeros((80, 1, 1), np.uint16))
    dataset.Rows, dataset.Columns = frame.shape
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.1, 0.1]
    stream = bytes(imagecodecs.jpegls_encode(frame))
    write_dicom(tmp_path / "v.dcm", dataset, uid.JPEGLSLossless, codestreams=[stream] * 80)
    command = [sys.executable, "-c", _MEASURE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    status, frames, peak_gb = json.loads(done.stdout)
    assert (status, frames) == ("scored", 80)
    assert peak_gb < 0.5
