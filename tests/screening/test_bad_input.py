"""Bad input is normal input: what each kind gets, from the file on disk to the exit code and the tables.

One batch holds all the bad files, each in an exam of its own beside one good image, and is run once.
"""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from screening.result import Status
from screening.site import load_site
from screening.sources.folder import read_folder
from tests.support.command import Run, Score
from tests.support.dicom import encode, write_dicom
from tests.support.exams import drawn, image_uid, instance, study_uid, write_exam

J2K = uid.JPEG2000Lossless


@dataclass(frozen=True)
class Bad:
    """How to make a bad file, and what must become of it. `status` of the image, `code` and words of its reason."""

    write: Callable[[Path, int], None]
    status: Status
    code: str
    words: str
    known: bool = True
    """Whether the file still says which image it is."""


def dataset(study: int, pixels: npt.NDArray[np.uint16] | None = None, **attributes: Any) -> Dataset:
    shown = drawn("L", "MLO", seed=study) if pixels is None else pixels
    return instance(study, 9, "L", "MLO", shown, **attributes)


def header(**attributes: Any) -> Callable[[Path, int], None]:
    """A file whose header is changed; None deletes."""
    return lambda path, study: void(write_dicom(path, dataset(study, **attributes)))


def no_instance_uid(path: Path, study: int) -> None:
    write_dicom(path, dataset(study))
    tag, unknown = (struct.pack("<HH2s", 0x0008, element, b"UI") for element in (0x0018, 0x0019))
    path.write_bytes(path.read_bytes().replace(tag, unknown))


def void(_: object) -> None:
    """Forget a value."""


def cut_off(syntax: str) -> Callable[[Path, int], None]:
    def write(path: Path, study: int) -> None:
        write_dicom(path, dataset(study), syntax)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])

    return write


def codestream(damage: Callable[[bytes], bytes]) -> Callable[[Path, int], None]:
    def write(path: Path, study: int) -> None:
        made = dataset(study)
        write_dicom(path, made, J2K, codestreams=[damage(encode(drawn("L", "MLO", seed=study), made, J2K))])

    return write


def scrambled(stream: bytes) -> bytes:
    """Noise behind the main header, the end marker kept."""
    noise = np.random.default_rng(0).integers(0, 128, len(stream), dtype=np.uint8).tobytes()
    return stream[:120] + noise[120:-2] + stream[-2:]


def other_length(path: Path, study: int) -> None:
    made = dataset(study)
    made.Rows = made.Rows + 40
    write_dicom(path, made)


def one_by_one(path: Path, study: int) -> None:
    write_dicom(path, dataset(study, np.ones((1, 1), np.uint16)))


def constant(path: Path, study: int) -> None:
    write_dicom(path, dataset(study, np.full((400, 300), 1000, np.uint16)))


def label_only(path: Path, study: int) -> None:
    pixels = np.zeros((400, 300), np.uint16)
    pixels[20:40, 200:250] = 60_000
    write_dicom(path, dataset(study, pixels))


def unsupported_syntax(path: Path, study: int) -> None:
    write_dicom(path, dataset(study), uid.MPEG2MPML, codestreams=[b"\0" * 64])


def huge(path: Path, study: int) -> None:
    made = dataset(study)
    made.Rows, made.Columns, made.PixelData = 65535, 65535, b"\0\0"
    write_dicom(path, made)


def absurd_bits(path: Path, study: int) -> None:
    made = dataset(study)
    made.BitsAllocated, made.BitsStored, made.HighBit = 4096, 4096, 4095
    write_dicom(path, made)


def nested(path: Path, study: int) -> None:
    """A view code sequence within itself, 20,000 times."""
    write_dicom(path, dataset(study))
    content = path.read_bytes()
    start = content.index(struct.pack("<HH", 0x0054, 0x0220))
    open_item = struct.pack("<HH2sHL", 0x0054, 0x0220, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    path.write_bytes(content[:start] + 20_000 * open_item)


def empty(path: Path, study: int) -> None:
    path.write_bytes(b"")


FAILED, REJECTED = Status.FAILED, Status.REJECTED

CASES = {
    "truncated pixel data": Bad(cut_off(uid.ExplicitVRLittleEndian), FAILED, "unreadable", "truncated"),
    "truncated JPEG 2000": Bad(cut_off(J2K), FAILED, "unreadable", "truncated"),
    "truncated deflated": Bad(cut_off(uid.DeflatedExplicitVRLittleEndian), FAILED, "unreadable", "truncated"),
    "wrong length": Bad(other_length, FAILED, "unreadable", "bytes where rows x columns"),
    "codestream without end": Bad(
        codestream(lambda s: s[: len(s) // 2]), FAILED, "unreadable", "end marker is missing"
    ),
    "scrambled codestream": Bad(codestream(scrambled), FAILED, "unreadable", "corrupt"),
    "codestream that is none": Bad(codestream(lambda s: b"\0" * len(s)), FAILED, "unreadable", "no JPEG 2000 header"),
    "zero bytes": Bad(empty, FAILED, "unreadable", "the file is empty", known=False),
    "no PatientID": Bad(header(PatientID=None), REJECTED, "missing-identifier", "no PatientID"),
    "no StudyInstanceUID": Bad(header(StudyInstanceUID=None), REJECTED, "missing-identifier", "no StudyInstanceUID"),
    "no SOPInstanceUID": Bad(no_instance_uid, REJECTED, "missing-identifier", "no SOPInstanceUID", known=False),
    "unknown view": Bad(header(ViewPosition="XYZ", ViewCodeSequence=None), REJECTED, "unknown-view", "no known view"),
    "unsupported syntax": Bad(unsupported_syntax, REJECTED, "transfer-syntax-not-supported", "MPEG2"),
    "not mammography": Bad(
        header(SOPClassUID=uid.CTImageStorage, Modality="CT"), REJECTED, "not-mammography", "Modality (CT)"
    ),
    "other object": Bad(
        header(SOPClassUID=uid.GrayscaleSoftcopyPresentationStateStorage),
        REJECTED,
        "sop-class-not-eligible",
        "SOP class",
    ),
    "1x1 pixels": Bad(one_by_one, REJECTED, "too-small", "1 x 1 pixels"),
    "constant pixels": Bad(constant, REJECTED, "constant-pixels", "same value"),
    "no breast": Bad(label_only, REJECTED, "no-breast-found", "breast"),
    "huge dimensions": Bad(huge, REJECTED, "implausible-header", "65535 x 65535"),
    "absurd bits": Bad(absurd_bits, REJECTED, "implausible-header", "Bits Allocated is 4096"),
    "deep nesting": Bad(nested, REJECTED, "implausible-header", "nested too deep", known=False),
    "not DICOM": Bad(
        lambda path, _: void(path.write_text("dear all")), REJECTED, "not-dicom", "not a DICOM file", False
    ),
}
STUDIES = {name: number for number, name in enumerate(CASES, start=1)}
VIEWS_BESIDE = (("L", "CC"),)


def bad_file(folder: Path, name: str) -> Path:
    return folder / f"{STUDIES[name]:03d}" / f"bad-{STUDIES[name]:03d}.dcm"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name, bad in CASES.items():
        write_exam(folder, STUDIES[name], VIEWS_BESIDE)
        bad.write(bad_file(folder, name), STUDIES[name])
    return folder


@pytest.fixture(scope="module")
def run(source: Path, score_cli: Score, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return score_cli(source, tmp_path_factory.mktemp("out"))


def ending(run: Run, name: str) -> dict[str, str]:
    """The row of images.csv of the bad file."""
    number = STUDIES[name]
    rows = run.table("images")
    if CASES[name].known:
        found = [row for row in rows if row["image_id"] == image_uid(number, 9)]
    else:
        found = [row for row in rows if f"bad-{number:03d}.dcm" in row["reason"]]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", CASES)
def test_bad_file_ends_with_its_status_its_code_and_its_cause(name: str, run: Run) -> None:
    row = ending(run, name)
    assert row["status"] == CASES[name].status
    code, _, sentence = row["reason"].partition(": ")
    assert code == CASES[name].code
    assert CASES[name].words in sentence
    assert row["score"] == ""


@pytest.mark.parametrize("name", CASES)
def test_exam_goes_on_without_the_bad_file(name: str, run: Run) -> None:
    (row,) = (r for r in run.table("exams") if r["exam_id"] == study_uid(STUDIES[name]))
    assert row["status"] == "scored"
    assert float(row["score"]) > 0


@pytest.mark.parametrize("name", [name for name, bad in CASES.items() if bad.status is Status.FAILED])
def test_failed_file_can_be_found(name: str, run: Run) -> None:
    """By its SOP Instance UID, or where it has none by its name."""
    row, number = ending(run, name), STUDIES[name]
    assert row["image_id"] == image_uid(number, 9) or f"bad-{number:03d}.dcm" in row["reason"]


def test_batch_with_failures_exits_1_and_its_counts_add_up(run: Run, source: Path) -> None:
    assert run.code == 1
    assert "Traceback" not in run.stderr
    found = run.record
    files = sum(path.is_file() for path in source.rglob("*"))
    by_status = {status: sum(bad.status is status for bad in CASES.values()) for status in (FAILED, REJECTED)}
    assert found["instances"] == {
        "total": files,
        "scored": len(CASES),
        "rejected": by_status[REJECTED],
        "failed": by_status[FAILED],
        "unfinished": 0,
    }
    assert found["exams"]["scored"] == found["exams"]["total"] == len(CASES)
    assert sum(reason["instances"] for reason in found["reasons"]) == len(CASES)
    images = run.table("images")
    assert len(images) == files


def test_every_reason_stands_in_the_report(run: Run) -> None:
    page = (run.out / "report.html").read_text()
    for bad in CASES.values():
        assert bad.code in page


def test_batch_of_rejections_alone_exits_0(tmp_path: Path, score_cli: Score) -> None:
    for name in ("constant pixels", "unknown view", "not DICOM"):
        bad_file(tmp_path / "in", name).parent.mkdir(parents=True)
        CASES[name].write(bad_file(tmp_path / "in", name), STUDIES[name])
    found = score_cli(tmp_path / "in", tmp_path / "out")
    assert found.code == 0
    (exam,) = found.table("exams")
    assert exam["status"] == "rejected"
    assert exam["reason"].startswith("no-eligible-image: no image is fit to be scored (constant-pixels: ")


def test_exam_of_failed_images_alone_fails(tmp_path: Path, score_cli: Score) -> None:
    name = "scrambled codestream"
    CASES[name].write(bad_file(tmp_path / "in", name), STUDIES[name])
    found = score_cli(tmp_path / "in", tmp_path / "out")
    assert found.code == 1
    (exam,) = found.table("exams")
    assert exam["status"] == "failed"
    assert exam["reason"].startswith("all-images-failed: no image could be read (unreadable: bad-")
    assert found.table("regions") == []


@pytest.mark.parametrize("name", ["huge dimensions", "absurd bits", "deep nesting"])
def test_absurd_file_is_refused_before_memory_is_taken(name: str, tmp_path: Path) -> None:
    path = bad_file(tmp_path, name)
    path.parent.mkdir()
    CASES[name].write(path, STUDIES[name])
    profile = load_site()
    read_folder(path, profile)  # what is imported and cached at first use does not count
    tracemalloc.start()
    try:
        found = read_folder(path, profile)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not found.exams
    assert peak < 32 << 20
