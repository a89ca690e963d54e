from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import ImageDraw
from pydicom import dcmread

from screening.delivery.context import Delivery
from screening.delivery.objects import encoded, written
from screening.delivery.summary_image import summary_image
from screening.delivery.summary_picture import NOTICE, PAGE_COLUMNS, summary_picture
from screening.exam import Laterality, View
from screening.report.figures import write_figures
from screening.result import ImageResult, Reason, Rejection, Status
from tests.support.deliveries import CASES, COLUMNS, ROWS, SHA256, delivery, rejected_instance
from tests.support.validators import dciodvfy, dcmdump, needs

Words = list[str]


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Words:
    """What is written on the page, line by line."""
    written_words: Words = []
    draw = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, xy: Any, text: Any, *more: Any, **keywords: Any) -> None:
        written_words.append(str(text))
        draw(self, xy, text, *more, **keywords)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written_words


def breast(laterality: Laterality) -> npt.NDArray[np.uint8]:
    """A grey half ellipse on the chest wall of a breast as it is normally stored: uint8 (rows, columns)."""
    y, x = np.mgrid[:ROWS, :COLUMNS]
    inside = (x / (0.7 * COLUMNS)) ** 2 + ((y - ROWS / 2) / (0.4 * ROWS)) ** 2 < 1
    grey = np.where(inside, 90, 0).astype(np.uint8)
    return grey if laterality is Laterality.LEFT else grey[:, ::-1]


def with_images(delivered: Delivery, change: Any) -> Delivery:
    """The delivery with every image's result changed."""
    changed = {one.image.image_id: change(one) for one in delivered.result.images}
    sources = tuple(replace(one, result=changed[str(one.sop_instance)]) for one in delivered.sources)
    return replace(delivered, sources=sources, result=replace(delivered.result, images=tuple(changed.values())))


def pictured(delivered: Delivery) -> Delivery:
    """The delivery with a preview of every scored image."""
    return with_images(
        delivered,
        lambda one: replace(one, preview=breast(one.image.laterality)) if one.status is Status.SCORED else one,
    )


def mark_pixels(page: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Where the page, grey but for marks, has colour: (n, 2), row and column."""
    return np.argwhere(np.ptp(page.astype(int), axis=-1) > 60)


@needs("dcmdump")
def test_dcmtk_shows_the_same_picture(tmp_path: Path) -> None:
    delivered = pictured(delivery(tmp_path, CASES["2d"]))
    path = written(summary_image(delivered), tmp_path / "out")
    done = subprocess.run(["dcmj2pnm", str(path), str(tmp_path / "shown.ppm")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = cv2.imread(str(tmp_path / "shown.ppm"))
    assert shown is not None
    np.testing.assert_array_equal(shown[:, :, ::-1], summary_picture(delivered))


@needs("dcmdump", "dciodvfy")
@pytest.mark.parametrize("case", CASES)
def test_pixel_data_are_the_drawn_picture_and_validators_find_nothing(tmp_path: Path, case: str) -> None:
    delivered = pictured(delivery(tmp_path, CASES[case]))
    path = written(summary_image(delivered), tmp_path / "out")
    read = dcmread(path)
    np.testing.assert_array_equal(read.pixel_array, summary_picture(delivered))
    assert (list(read.ImageType), read.ConversionType) == (["DERIVED", "SECONDARY"], "WSD")
    assert dciodvfy(path) == []
    dump = dcmdump(path)
    assert SHA256 in dump
    assert NOTICE in dump


def test_it_is_the_sources_patients_refers_to_all_sources_and_is_the_same_when_made_again(tmp_path: Path) -> None:
    delivered = delivery(tmp_path, CASES["partly-rejected"])
    summary = summary_image(delivered)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
        assert summary[keyword] == delivered.identity[keyword]
    referenced = {one.ReferencedSOPInstanceUID for one in summary.SourceImageSequence}
    assert referenced == {source.sop_instance for source in delivered.sources}
    assert delivered.point.name in summary.ImageComments
    assert encoded(summary_image(delivery(tmp_path, CASES["partly-rejected"]))) == encoded(summary)


@pytest.mark.parametrize("case", ["2d", "empty", "rejected"])
def test_every_page_says_that_a_computer_made_it(tmp_path: Path, words: Words, case: str) -> None:
    summary_picture(delivery(tmp_path, CASES[case]))
    assert NOTICE in words
    assert f"Bundle {SHA256}" in words


def test_findings_are_listed_with_place_size_and_score(tmp_path: Path, words: Words) -> None:
    delivered = pictured(delivery(tmp_path, CASES["2d"]))
    page = summary_picture(delivered)
    assert "Computer output: exam score 0.7000, category 9 of 10" in words
    assert "2 regions at operating point recall-3 (score 0.6000 or above)" in words
    assert any(line.startswith("1: R CC, ") and line.endswith("2 x 1 mm: score 0.7000") for line in words), words
    assert len(mark_pixels(page))


def test_where_nothing_is_found_it_says_so_and_marks_nothing(tmp_path: Path, words: Words) -> None:
    page = summary_picture(pictured(delivery(tmp_path, CASES["empty"])))
    assert "Nothing found: no region at operating point recall-3 (score 0.6000 or above)" in words
    assert not len(mark_pixels(page))


def test_unscored_images_are_named_with_their_reason(tmp_path: Path, words: Words) -> None:
    rejected = rejected_instance()
    delivered = pictured(delivery(tmp_path, CASES["partly-rejected"], rejections=[rejected]))
    summary_picture(delivered)
    for view in ("L CC", "L MLO"):
        assert f"Not scored: {view}: the image is too small to be a mammogram" in words
    assert f"Not scored: image of unknown view: {rejected.rejection.sentence}" in words


def test_nothing_found_is_not_said_of_images_that_were_not_scored(tmp_path: Path, words: Words) -> None:
    case = replace(CASES["empty"], rejected=("LCC",))
    summary_picture(delivery(tmp_path, case))
    assert any(line.startswith("Nothing found in the images that were scored: ") for line in words)


def test_an_unscored_exam_says_that_it_says_nothing(tmp_path: Path, words: Words) -> None:
    summary_picture(delivery(tmp_path, CASES["rejected"]))
    assert "This exam was not scored" in words
    assert not any("score 0" in line or "Nothing found" in line for line in words)


def test_a_files_name_is_not_on_the_page(tmp_path: Path, words: Words) -> None:
    """Files are named after women in some archives."""
    sentence = "Musterfrau.dcm: the pixel data are truncated"

    def failed(one: ImageResult) -> ImageResult:
        image = replace(one.image, path=tmp_path / "Musterfrau.dcm")
        rejection = Rejection(Reason.UNREADABLE, sentence)
        return replace(one, image=image, status=Status.FAILED, rejection=rejection, score=None, regions=())

    delivered = with_images(delivery(tmp_path, CASES["rejected"]), failed)
    summary_picture(delivered)
    assert any("the pixel data are truncated" in line for line in words)
    assert not any("Musterfrau" in line for line in words)


def test_who_she_is_changes_no_pixel(tmp_path: Path) -> None:
    one = summary_picture(pictured(delivery(tmp_path / "1", CASES["2d"])))
    header = {"PatientName": "Somebody^Else", "PatientID": "4711", "PatientBirthDate": "19500101"}
    other = summary_image(pictured(delivery(tmp_path / "2", replace(CASES["2d"], header=header))))
    assert other.PatientName == "Somebody^Else"
    np.testing.assert_array_equal(other.pixel_array, one)


def test_burned_in_annotation_is_no_unless_a_source_has_some(tmp_path: Path) -> None:
    assert summary_image(delivery(tmp_path / "1", CASES["2d"])).BurnedInAnnotation == "NO"
    marked = replace(CASES["2d"], header={"BurnedInAnnotation": "YES"})
    assert summary_image(delivery(tmp_path / "2", marked)).BurnedInAnnotation == "YES"


def test_an_image_stored_mirrored_hangs_like_any_other(tmp_path: Path) -> None:
    """Pixels and regions turn together: the page of mirrored images is the page of the images."""
    delivered = pictured(delivery(tmp_path, CASES["2d"]))

    def mirrored(one: ImageResult) -> ImageResult:
        assert one.preview is not None
        regions = tuple(
            replace(
                region,
                x=COLUMNS - region.x - region.width,
                contour=tuple((COLUMNS - x, y) for x, y in region.contour),
            )
            for region in one.regions
        )
        return replace(one, preview=one.preview[:, ::-1], regions=regions)

    page, turned = summary_picture(delivered), summary_picture(with_images(delivered, mirrored))
    # Resampling is not exactly symmetric.
    assert np.mean(np.abs(page.astype(int) - turned) > 8) < 0.002


def test_a_region_is_drawn_where_it_is(tmp_path: Path) -> None:
    case = replace(CASES["2d"], rejected=("RMLO", "LCC", "LMLO"))
    grey = np.full((ROWS, COLUMNS), 90, np.uint8)
    delivered = with_images(delivery(tmp_path, case), lambda one: replace(one, preview=grey if one.score else None))
    page = summary_picture(delivered)
    (top, left), (bottom, right) = (f(np.argwhere((page == 90).all(axis=-1)), axis=0) for f in (np.min, np.max))
    assert right < PAGE_COLUMNS // 2, "the right breast hangs on the left"
    scale = (right + 1 - left) / COLUMNS
    (region,) = delivered.marked
    expected = np.array([region.y, region.y + region.height]) * scale + top
    found = mark_pixels(page)
    # The score has the colour, too, and stands above the outline; so do lines of text outside of the picture.
    found = found[(found[:, 0] >= expected[0] - 2) & (found[:, 0] <= bottom) & (found[:, 1] >= left)]
    assert (found[:, 0].min(), found[:, 0].max()) == pytest.approx(expected, abs=scale / 2)
    expected = np.array([region.x, region.x + region.width]) * scale + left
    assert (found[:, 1].min(), found[:, 1].max()) == pytest.approx(expected, abs=scale / 2)


def test_of_several_images_of_a_view_the_most_suspicious_is_shown_and_the_others_listed(
    tmp_path: Path, words: Words
) -> None:
    delivered = pictured(delivery(tmp_path, CASES["2d"]))

    def all_right_cc(one: ImageResult) -> ImageResult:
        return replace(one, image=replace(one.image, laterality=Laterality.RIGHT, view=View.CC))

    summary_picture(with_images(delivered, all_right_cc))
    assert "R CC   score 0.7000" in words
    assert "Scored, not pictured: R CC 0.1500, R CC 0.7000, R CC 0.0200" in words
    assert words.count("not in this exam") == 3


def test_results_from_the_store_are_drawn_with_the_reports_pictures(tmp_path: Path, words: Words) -> None:
    delivered = pictured(delivery(tmp_path, CASES["2d"]))
    write_figures(tmp_path / "batch", delivered.result, 1.0)
    stored = with_images(delivered, lambda one: replace(one, preview=None))
    words.clear()
    page = summary_picture(stored, tmp_path / "batch")
    assert not any("no picture at hand" in line for line in words)
    fresh = summary_picture(delivered)
    assert np.mean(np.abs(page.astype(int) - fresh) > 24) < 0.01, "JPEG changes more than it may"
    summary_picture(stored)
    assert sum("no picture at hand" in line for line in words) == 4


HOSTILE: dict[str, Any] = {
    "PatientName": "<script>alert(1)</script>^" + "A" * 300,
    "PatientID": "../../etc/passwd",
    "StudyDescription": "x" * 5000,
    "AccessionNumber": "\u0007;rm -rf",
    "PatientOrientation": ["Q\u00e9", "<b>"],
}


@needs("dciodvfy")
@pytest.mark.filterwarnings("ignore")
def test_hostile_headers_neither_stop_the_summary_nor_reach_page_or_file_name(tmp_path: Path, words: Words) -> None:
    delivered = pictured(delivery(tmp_path, replace(CASES["2d"], header=HOSTILE)))
    summary = summary_image(delivered)
    path = written(summary, tmp_path / "out")
    assert path.name == f"{summary.SOPInstanceUID}.dcm"
    assert dciodvfy(path) == []
    assert not any(sign in line for line in words for sign in ("script", "passwd", "rm -rf", "<b>"))


def test_sentences_of_any_length_and_signs_fit_on_the_page(tmp_path: Path, words: Words) -> None:
    sentence = "\u202e\x00\n\u5973 " + "very long " * 5000
    delivered = delivery(tmp_path, CASES["2d"], rejections=[rejected_instance(f"1.2.{n}") for n in range(50)])
    rejections = tuple(
        replace(one, rejection=Rejection(Reason.SPOT, f"{n} {sentence}")) for n, one in enumerate(delivered.rejections)
    )
    page = summary_picture(replace(delivered, rejections=rejections))
    assert page.shape[0] < 2200
    assert "and 42 more that were not scored" in words
    assert all(line.replace("\n", "").isascii() for line in words)
