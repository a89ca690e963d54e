"""Tomosynthesis volumes are scored: regions lie on lesions in three dimensions, and bad volumes cost no exam."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from screening.exam import ImageKind
from screening.imaging.slabs import Projection
from screening.imaging.volume import stored_order
from screening.model.bundle import Bundle, load_bundle
from screening.model.network import Ensemble, MammogramNet
from screening.reading_aid import mark_threshold
from screening.report.frames import FrameFiles
from screening.result import ExamResult, ImageResult, Reason, Region, Status
from screening.scoring import score
from screening.site import load_site
from screening.sources.folder import read_folder
from tests.support.bundles import ARCHITECTURE
from tests.support.command import Score
from tests.support.deliveries import POINTS
from tests.support.deliveries import bundle as deliverable
from tests.support.dicom import write_dicom
from tests.support.exams import drawn, instance
from tests.support.volumes import (
    COLUMNS,
    ROOT,
    ROWS,
    Pixels,
    Spot,
    capture,
    drawn_volume,
    tomosynthesis,
    write_slices,
    write_volume,
)

DEFAULT = load_site()
FRAMES = 24
SPOT: Spot = (90, 200, 12)
NEAR_PX, NEAR_FRAMES = 12.0, 2
"""Regions follow cells of 11 pixels; depth is told from slabs of 10 mm, 5 mm apart."""


def scored(folder: Path, bundle: Bundle) -> ExamResult:
    (exam,) = read_folder(folder, DEFAULT).exams
    return score(exam, bundle)


def only_image(folder: Path, bundle: Bundle) -> ImageResult:
    (image,) = scored(folder, bundle).images
    return image


def lies_on(region: Region, spot: Spot) -> bool:
    x, y = region.x + region.width / 2, region.y + region.height / 2
    return (
        np.hypot(x - spot[0], y - spot[1]) <= NEAR_PX
        and abs(region.frame_peak - spot[2]) <= NEAR_FRAMES
        and region.frame_first <= spot[2] <= region.frame_last
    )


def synthetic(folder: Path, study: int = 1, laterality: str = "L", view: str = "CC") -> Path:
    """A synthetic 2D image beside a volume, with the volume's lesion in it."""
    pixels = drawn(laterality, view, 1, SPOT[:2])
    attributes = {"StudyInstanceUID": f"{ROOT}.{study}", "PatientID": f"woman-{study}"}
    made = instance(
        study, 50, laterality, view, pixels, ImageType=["DERIVED", "PRIMARY", "", "GENERATED_2D"], **attributes
    )
    return write_dicom(folder / "synthetic.dcm", made)


# Where regions are


@pytest.mark.parametrize("depth", [3, 8, 12, 17, 21])
def test_region_lies_on_the_lesion_in_x_y_and_frame(tmp_path: Path, bundle: Bundle, depth: int) -> None:
    spot = (90, 200, depth)
    write_volume(tmp_path / "v.dcm", drawn_volume(FRAMES, [spot]))
    image = only_image(tmp_path, bundle)
    assert lies_on(image.regions[0], spot)
    assert image.regions[0].frame_last - image.regions[0].frame_first < FRAMES - 1


def test_deeper_lesion_has_deeper_frames(tmp_path: Path, bundle: Bundle) -> None:
    found = []
    for depth in (6, 18):
        write_volume(tmp_path / str(depth) / "v.dcm", drawn_volume(FRAMES, [(90, 200, depth)]))
        found.append(only_image(tmp_path / str(depth), bundle).regions[0])
    first, second = found
    assert second.frame_peak - first.frame_peak == pytest.approx(12, abs=NEAR_FRAMES)
    assert first.frame_last < second.frame_first + 6
    assert abs(first.x - second.x) + abs(first.y - second.y) < NEAR_PX


def test_two_lesions_at_two_depths_are_two_regions(tmp_path: Path, bundle: Bundle) -> None:
    spots: list[Spot] = [(90, 150, 5), (70, 260, 19)]
    write_volume(tmp_path / "v.dcm", drawn_volume(FRAMES, spots))
    image = only_image(tmp_path, bundle)
    for spot in spots:
        assert any(lies_on(region, spot) for region in image.regions[:3])


def test_networks_of_earlier_stages_have_no_say_on_a_volume(tmp_path: Path, bundle: Bundle) -> None:
    (last,) = bundle.network.members
    earlier = MammogramNet(ARCHITECTURE).eval()
    staged = replace(bundle, network=Ensemble([earlier, last], stages=2))
    write_volume(tmp_path / "v.dcm", drawn_volume(FRAMES, [SPOT]))
    (exam,) = read_folder(tmp_path, DEFAULT).exams
    assert [one.score for one in score(exam, staged).images] == [one.score for one in score(exam, bundle).images]


TURNS: dict[str, tuple[Callable[[Pixels], Pixels], Callable[[Spot], Spot], tuple[str, str] | None, bool]] = {
    # The pixels, the spot, Patient Orientation in Frame, and whether the header's side looks contradicted.
    "turned by 180 degrees": (
        lambda p: p[:, ::-1, ::-1],
        lambda s: (COLUMNS - 1 - s[0], ROWS - 1 - s[1], s[2]),
        None,
        True,
    ),
    "mirrored": (lambda p: p[:, :, ::-1], lambda s: (COLUMNS - 1 - s[0], s[1], s[2]), ("P", "F"), False),
    "upside down": (lambda p: p[:, ::-1], lambda s: (s[0], ROWS - 1 - s[1], s[2]), ("A", "H"), False),
    "from the other end": (lambda p: p[::-1], lambda s: (s[0], s[1], FRAMES - 1 - s[2]), None, False),
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_volume_maps_back_to_where_it_is_stored(tmp_path: Path, bundle: Bundle, turn: str) -> None:
    turned, moved, orientation, contradicted = TURNS[turn]
    spot = (90, 230, 8)
    pixels = np.ascontiguousarray(turned(drawn_volume(FRAMES, [spot], view="MLO")))
    write_volume(tmp_path / "v.dcm", pixels, view="MLO", orientation=orientation)
    image = only_image(tmp_path, bundle)
    assert any(lies_on(region, moved(spot)) for region in image.regions[:3])  # the muscle is bright, too
    assert any("turned by 180 degrees" in text for text in image.warnings) is contradicted
    assert image.heatmap is not None
    assert image.heatmap.frames is not None
    row, column = _cell(image, moved(spot))
    assert image.heatmap.frames[row, column] == pytest.approx(moved(spot)[2], abs=NEAR_FRAMES + 1)


def _cell(image: ImageResult, spot: Spot) -> tuple[int, int]:
    """The cell of the heatmap that a place lies in."""
    heat = image.heatmap
    assert heat is not None
    rows, columns = heat.values.shape
    return int((spot[1] - heat.y) / heat.height * rows), int((spot[0] - heat.x) / heat.width * columns)


def test_map_of_frames_covers_the_breast_and_nothing_else(tmp_path: Path, bundle: Bundle) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(FRAMES, [SPOT]))
    heat = only_image(tmp_path, bundle).heatmap
    assert heat is not None
    assert heat.frames is not None
    assert heat.frames.shape == heat.values.shape
    np.testing.assert_array_equal(heat.frames >= 0, heat.values > 0)
    assert heat.frames.max() < FRAMES


def test_every_way_of_storage_gets_the_same_score(tmp_path: Path, bundle: Bundle) -> None:
    pixels = drawn_volume(12, [(90, 200, 6)])
    write_volume(tmp_path / "a" / "v.dcm", pixels, syntax=uid.JPEG2000Lossless)
    write_slices(tmp_path / "b", pixels)
    write_dicom(tmp_path / "c" / "v.dcm", capture(pixels, WindowCenter=32768, WindowWidth=65536))
    results = [scored(tmp_path / way, bundle) for way in "abc"]
    assert len({result.score for result in results}) == 1
    places = [[(r.x, r.y, r.frame_first, r.frame_last, r.frame_peak) for r in one.regions] for one in results]
    assert places[0] == places[1] == places[2]


def test_frames_out_of_order_are_sorted_by_plane_position(tmp_path: Path, bundle: Bundle) -> None:
    pixels = drawn_volume(FRAMES, [SPOT])
    write_volume(tmp_path / "a" / "v.dcm", pixels)
    order = np.random.default_rng(0).permutation(FRAMES)
    write_volume(tmp_path / "b" / "v.dcm", np.ascontiguousarray(pixels[order]), positions_mm=[float(i) for i in order])
    straight, shuffled = (only_image(tmp_path / way, bundle) for way in "ab")
    assert shuffled.score == straight.score
    assert shuffled.regions[0].frame_peak == straight.regions[0].frame_peak
    assert any("not stored in the order of their plane positions" in text for text in shuffled.warnings)
    shown = stored_order(shuffled.image)[shuffled.regions[0].frame_peak]
    np.testing.assert_array_equal(pixels[order][shown], pixels[straight.regions[0].frame_peak])


# Scores are traceable; exams of any mixture


def test_combined_exam_is_traceable_and_its_images_are_scored_as_alone(tmp_path: Path, bundle: Bundle) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(FRAMES, [SPOT]))
    synthetic(tmp_path)
    result = scored(tmp_path, bundle)
    assert sorted(one.image.kind for one in result.images) == [ImageKind.DBT, ImageKind.SYNTHETIC]
    regions = {region.region_id: region for region in result.regions}
    assert result.top_region_id is not None
    assert result.score == regions[result.top_region_id].score == max(one.score or 0 for one in result.images)
    alone = {}
    for name in ("v", "synthetic"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.dcm").rename(tmp_path / name / "one.dcm")
        image = only_image(tmp_path / name, bundle)
        alone[image.image.kind] = image.score
    # Images of one view do not support each other, so that each keeps its score.
    assert {one.image.kind: one.score for one in result.images} == alone


def test_views_of_a_breast_support_each_other_whatever_their_kind(tmp_path: Path, bundle: Bundle) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(FRAMES, [SPOT]))
    synthetic(tmp_path, view="MLO")
    volume, flat = sorted(scored(tmp_path, bundle).images, key=lambda one: one.image.kind)
    assert (volume.image.kind, flat.image.kind) == (ImageKind.DBT, ImageKind.SYNTHETIC)
    assert volume.score == pytest.approx(flat.score)


def test_density_is_that_of_the_2d_image_where_there_is_one(tmp_path: Path, bundle: Bundle) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(FRAMES))
    path = synthetic(tmp_path)
    combined = scored(tmp_path, bundle).density
    (tmp_path / "v.dcm").unlink()
    assert path.exists()
    assert combined == scored(tmp_path, bundle).density


def test_key_frames_show_the_regions_above_the_operating_point(tmp_path: Path, bundle: Bundle) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(FRAMES, [SPOT]))
    image = only_image(tmp_path, bundle)
    threshold = bundle.calibration.operating_points[0].threshold
    shown = [region_id for key in image.key_frames for region_id in key.region_ids]
    assert sorted(shown) == sorted(one.region_id for one in image.regions if one.score >= threshold)
    assert abs(image.key_frames[0].frame - SPOT[2]) <= NEAR_FRAMES
    for key in image.key_frames:
        assert key.preview is not None
        assert key.preview.shape == (ROWS, COLUMNS)


def test_regions_are_shown_from_the_lowest_operating_point_of_any_kind_on() -> None:
    image, breast = (
        point.model_copy(update={"per": per}) for point, per in zip(POINTS, ("image", "breast"), strict=False)
    )
    assert image.threshold > breast.threshold
    assert mark_threshold(deliverable((image, breast)).calibration) == breast.threshold
    assert mark_threshold(deliverable((image,)).calibration, breast) == breast.threshold
    assert mark_threshold(deliverable(()).calibration) == 0.0


def test_region_of_a_sites_own_operating_point_has_a_key_frame(tmp_path: Path, bundle: Bundle) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(FRAMES, [SPOT]))
    (exam,) = read_folder(tmp_path, DEFAULT).exams
    usual = score(exam, bundle).images[0]
    lowest = min(region.score for region in usual.regions)
    assert lowest < mark_threshold(bundle.calibration)
    own = bundle.calibration.operating_points[0].model_copy(update={"threshold": lowest})
    keys = score(exam, bundle, operating_point=own).images[0].key_frames
    assert len({region for key in keys for region in key.region_ids}) == len(usual.regions)


def test_slabs_are_a_setting_of_the_bundle_and_old_bundles_load(bundle: Bundle, bundle_folder: Path) -> None:
    card = bundle.card
    assert (bundle.slabbing.thickness_mm, bundle.slabbing.step_mm) == (10, 5)
    assert bundle.slabbing.projection is Projection.MEAN
    changed = card.preparation.model_copy(update={"slab_mm": 6.0, "slab_projection": Projection.MAXIMUM})
    assert type(card.preparation).model_validate(changed.model_dump()) == changed
    old = {"pixel_spacing_mm": 0.5}
    assert type(card.preparation).model_validate(old).slab_mm == 10
    assert load_bundle(bundle_folder).slabbing == bundle.slabbing


# Bad volumes


@pytest.mark.parametrize("how", ["frame", "file"])
def test_truncated_frame_37_of_60_fails_the_volume_and_the_exam_says_so(
    tmp_path: Path, bundle: Bundle, how: str
) -> None:
    pixels = drawn_volume(60, [(90, 200, 30)])
    streams = [bytes(imagecodecs.jpegls_encode(frame)) for frame in pixels]
    if how == "frame":
        streams[36] = streams[36][: len(streams[36]) // 4 * 2]
    path = write_dicom(tmp_path / "v.dcm", tomosynthesis(pixels), uid.JPEGLSLossless, codestreams=streams)
    if how == "file":
        path.write_bytes(path.read_bytes()[: -sum(map(len, streams[37:])) - 1000])
    synthetic(tmp_path)
    result = scored(tmp_path, bundle)
    volume, flat = sorted(result.images, key=lambda one: one.image.kind)
    assert (volume.status, flat.status, result.status) == (Status.FAILED, Status.SCORED, Status.SCORED)
    assert volume.rejection is not None
    assert volume.rejection.code is Reason.UNREADABLE
    assert "truncated" in volume.rejection.sentence
    assert how == "file" or "frame 37 of 60" in volume.rejection.sentence
    assert "scored without the tomosynthesis volume L CC, which could not be read" in result.warnings
    assert result.score == flat.score


def test_missing_frames_are_told_and_the_rest_is_scored_at_its_depth(tmp_path: Path, bundle: Bundle) -> None:
    pixels = drawn_volume(FRAMES, [SPOT])
    kept = [frame for frame in range(FRAMES) if frame not in (4, 5, 6)]
    write_volume(tmp_path / "v.dcm", np.ascontiguousarray(pixels[kept]), positions_mm=[float(i) for i in kept])
    image = only_image(tmp_path, bundle)
    assert any("3 frames seem to be missing" in text for text in image.warnings)
    assert lies_on(image.regions[0], (90, 200, SPOT[2] - 3))


def test_zero_slice_spacing_is_told_and_scored(tmp_path: Path, bundle: Bundle) -> None:
    dataset = tomosynthesis(drawn_volume(FRAMES, [SPOT]), positions_mm=[0.0] * FRAMES)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = measures.SliceThickness = 0
    write_dicom(tmp_path / "v.dcm", dataset)
    image = only_image(tmp_path, bundle)
    assert any("no distance between frames" in text for text in image.warnings)
    assert lies_on(image.regions[0], SPOT)


@pytest.mark.parametrize("made", [tomosynthesis, capture])
def test_one_frame_only_is_told_and_scored(tmp_path: Path, bundle: Bundle, made: Callable[[Pixels], Dataset]) -> None:
    write_dicom(tmp_path / "v.dcm", made(drawn_volume(1, [(90, 200, 0)])))
    image = only_image(tmp_path, bundle)
    assert "the volume has one frame only" in image.warnings
    assert lies_on(image.regions[0], (90, 200, 0))


def test_laterality_that_contradicts_the_pixels_is_told(tmp_path: Path, bundle: Bundle) -> None:
    write_volume(tmp_path / "v.dcm", drawn_volume(12), frame_laterality="R" * 12, SeriesDescription="reconstruction")
    image = only_image(tmp_path, bundle)
    assert image.image.laterality == "R"
    assert any("chest wall is seen at the left edge" in text for text in image.warnings)


def test_blank_volume_is_rejected_with_its_reason(tmp_path: Path, bundle: Bundle) -> None:
    write_volume(tmp_path / "v.dcm", np.full((4, ROWS, COLUMNS), 100, np.uint16))
    result = scored(tmp_path, bundle)
    assert result.status is Status.REJECTED
    assert result.images[0].rejection is not None
    assert result.images[0].rejection.code is Reason.CONSTANT


# The command and what it writes


def test_command_writes_regions_with_frames_the_reading_aid_and_its_montage(tmp_path: Path, score_cli: Score) -> None:
    write_volume(tmp_path / "in" / "v.dcm", drawn_volume(FRAMES, [SPOT]))
    synthetic(tmp_path / "in")
    run = score_cli(tmp_path / "in", tmp_path / "out", "--report-all")
    assert run.code == 0, run.stderr
    with (tmp_path / "out" / "regions.csv").open() as file:
        of_volume = [row for row in csv.DictReader(file) if row["image_id"] == f"{ROOT}.1.1"]
    first = min(of_volume, key=lambda row: int(row["rank"]))
    assert abs(int(first["frame_peak"]) - SPOT[2]) <= NEAR_FRAMES
    files = FrameFiles(tmp_path / "out" / "heatmaps" / f"{ROOT}.1" / f"{ROOT}.1.1.jpg")
    record = json.loads(files.record.read_text())
    assert record["frames"] == FRAMES
    assert record["key_frames"][0]["frame"] == int(first["frame_peak"])
    assert record["key_frames"][0]["regions"][0] == first["region_id"]
    for key in record["key_frames"]:
        assert files.frame(key["frame"]).is_file()
    numbers = cv2.imread(str(files.numbers), cv2.IMREAD_UNCHANGED)
    assert numbers.dtype == np.uint16
    assert numbers.max() <= FRAMES
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"1. frame {int(first['frame_peak']) + 1}" in page
    assert f"of {FRAMES} frames to look at" in page
    assert "Doe" not in page
    assert "woman-1" not in page


def test_rejected_volume_is_told_in_the_report_and_the_exam_is_scored_on_its_other_image(
    tmp_path: Path, score_cli: Score
) -> None:
    dataset = tomosynthesis(drawn_volume(6))
    dataset.PerFrameFunctionalGroupsSequence = []
    write_dicom(tmp_path / "in" / "v.dcm", dataset)
    synthetic(tmp_path / "in")
    run = score_cli(tmp_path / "in", tmp_path / "out", "--report-all")
    assert run.code == 0, run.stderr
    assert [row["status"] for row in run.table("exams")] == ["scored"]
    assert {(row["kind"], row["status"]) for row in run.table("images")} == {
        ("synthetic", "scored"),
        ("dbt", "rejected"),
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{ROOT}.1.1" in page
    assert "not scored: the header declares 6 frames, but describes 0" in page


def test_failed_volume_is_told_in_the_report_and_the_command_exits_1(tmp_path: Path, score_cli: Score) -> None:
    pixels = drawn_volume(4)
    streams = [bytes(imagecodecs.jpegls_encode(frame)) for frame in pixels]
    streams[2] = streams[2][:1000]
    write_dicom(tmp_path / "in" / "v.dcm", tomosynthesis(pixels), uid.JPEGLSLossless, codestreams=streams)
    synthetic(tmp_path / "in")
    run = score_cli(tmp_path / "in", tmp_path / "out", "--report-all")
    assert run.code == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "scored without the tomosynthesis volume L CC" in page
    assert "frame 3 of 4" in page
