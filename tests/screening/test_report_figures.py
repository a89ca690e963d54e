"""Pictures of scored images, and how they hang."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.errors import StoreError
from screening.exam import Image, ImageKind, Laterality, View
from screening.imaging.mask import find_breast
from screening.report.figures import (
    HEADER_ROWS,
    MARK_COLOUR,
    MARKS_PER_IMAGE,
    annotated,
    heat_intensity,
    picture_paths,
    write_figures,
)
from screening.report.hanging import Turn, hang, place
from screening.report.pictures import ExamPictures
from screening.result import ExamResult, Heatmap, ImageResult, Reason, Region, Rejection, Status

ROWS, COLUMNS = 1600, 1200
SHAPE = (400, 300)
REFERENCE = 0.02


def image(side: str = "L", view: str = "CC", orientation: tuple[str, ...] = (), image_id: str = "1.2") -> Image:
    return Image(
        image_id=image_id,
        path=Path("x"),
        laterality=Laterality(side),
        view=View(view),
        kind=ImageKind.FFDM,
        rows=ROWS,
        columns=COLUMNS,
        frames=1,
        pixel_spacing_mm=(0.1, 0.1),
        patient_orientation=orientation,
    )


def breast(wall_on_right: bool = False, upside_down: bool = False) -> npt.NDArray[np.uint8]:
    """Half an ellipse against an edge, the nipple above the middle; textured, as tissue is."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = ((columns / 220) ** 2 + ((rows - 170) / 150) ** 2) < 1
    texture = 110 + 40 * np.sin(rows / 9) * np.cos(columns / 7)
    preview = np.where(inside, texture, 0).astype(np.uint8)
    preview = preview[:, ::-1] if wall_on_right else preview
    return np.ascontiguousarray(preview[::-1] if upside_down else preview)


def region(x: float, y: float, width: float = 120, height: float = 80, rank: int = 1, score: float = 0.03) -> Region:
    return Region(f"r{rank}", "1.2", Laterality.LEFT, View.CC, x, y, width, height, (), score, rank)


def flat_heatmap(value: float) -> Heatmap:
    return Heatmap(np.full((40, 30), value, np.float32), 0, 0, COLUMNS, ROWS)


def scored(*regions: Region, heatmap: Heatmap | None = None) -> ImageResult:
    return ImageResult(image(), Status.SCORED, None, 0.03, regions, heatmap or flat_heatmap(0), breast())


def drawn(result: ImageResult) -> npt.NDArray[np.uint8]:
    """The mammogram's part of the PNG, BGR."""
    intensity = heat_intensity(result.heatmap, result.image, SHAPE, REFERENCE)
    return annotated(result, intensity, REFERENCE)[HEADER_ROWS : HEADER_ROWS + SHAPE[0], : SHAPE[1]]


def marked(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where a picture has the marks' colour."""
    return np.asarray((np.abs(picture.astype(int) - MARK_COLOUR) < 60).all(axis=2))


def exam(*images: ImageResult, exam_id: str = "1.2.3") -> ExamResult:
    return ExamResult(exam_id, "W", None, "north", "", "m", Status.SCORED, None, 0.03, 10, images=images)


# --- names ----------------------------------------------------------------------------------------------------------


@given(exam_id=st.text(), image_id=st.text())
def test_no_id_leads_out_of_the_heatmaps_folder(exam_id: str, image_id: str) -> None:
    paths = picture_paths(Path("/out"), exam_id, image_id)
    for path in (paths.annotated, paths.plain, paths.heat):
        assert path.parent.parent == Path("/out/heatmaps")
        assert Path(os.path.normpath(path)) == path
        assert all(re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.-]*", part) for part in (path.name, path.parent.name))
        assert len(path.name) < 100


@given(ids=st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_two_ids_never_share_a_file(ids: list[str]) -> None:
    first, second = (picture_paths(Path("/out"), one, one) for one in ids)
    assert first.annotated.parent != second.annotated.parent
    assert first.annotated.name != second.annotated.name


def test_uids_are_kept_and_what_could_be_a_path_is_not() -> None:
    uid = "1.2.840.113619.2.66.2158408118.16050010109105933.20000"
    assert picture_paths(Path("out"), uid, uid).annotated == Path("out/heatmaps") / uid / f"{uid}.png"
    for odd in ("../../etc", "..", ".", "", "a/b", "a\\b", "Mass_1", "x.", "C:", "a" * 65):
        assert re.fullmatch(r"[0-9a-f]{16}", picture_paths(Path("out"), odd, odd).annotated.parent.name)


# --- marks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "y"), [(200, 240), (404, 640), (640, 800), (80, 1000)])
def test_a_mark_is_drawn_where_the_region_is(x: float, y: float) -> None:
    picture = drawn(scored(region(x, y)))
    is_mark = marked(picture)
    scale = ROWS / SHAPE[0]
    left, right, top, bottom = x / scale, (x + 120) / scale, y / scale, (y + 80) / scale
    middle_x, middle_y = round((left + right) / 2), round((top + bottom) / 2)
    # Each side of the box is met within a pixel of where it maps to.
    for line, expected in ((is_mark[middle_y, :], (left, right)), (is_mark[:, middle_x], (top, bottom))):
        found = np.flatnonzero(line)
        assert all(np.abs(found - edge).min() <= 1 for edge in expected)
    inside = is_mark[round(top) + 3 : round(bottom) - 3, round(left) + 3 : round(right) - 3]
    assert not inside.any()


def test_a_contour_is_drawn_rather_than_its_box() -> None:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = tuple((600 + 200 * float(np.cos(t)), 700 + 200 * float(np.sin(t))) for t in turn)
    picture = drawn(scored(replace(region(400, 500, 400, 400), contour=circle)))
    is_mark = marked(picture)
    assert is_mark[175 - 1 : 175 + 2, 100 - 1 : 100 + 2].any()
    assert not is_mark[124:128, 98:102].any()


def test_only_the_most_suspicious_regions_are_drawn() -> None:
    regions = [region(100 + 150 * n, 600, 60, 60, rank=n + 1) for n in range(MARKS_PER_IMAGE + 2)]
    assert (drawn(scored(*regions)) == drawn(scored(*regions[:MARKS_PER_IMAGE]))).all()


def test_labels_are_whole_and_apart_at_every_edge() -> None:
    def ink(*regions: Region) -> int:
        """Pixels of the marks' colour but for the outlines."""
        is_mark = marked(drawn(scored(*regions)))
        for one in regions:
            x, y = int(one.x / 4), int(one.y / 4)
            is_mark[max(0, y - 2) : y + 18, max(0, x - 2) : x + 18] = False
        return int(is_mark.sum())

    in_the_open = ink(region(600, 800, 60, 60, 1))
    assert in_the_open > 50
    corners = [region(x, y, 60, 60, 1) for x in (0, COLUMNS - 60) for y in (0, ROWS - 60)]
    assert [ink(corner) for corner in corners] == [in_the_open] * 4
    close = [region(500, 800, 60, 60, 1), region(600, 800, 60, 60, 2)]
    assert ink(*close) == sum(ink(one) for one in close)


# --- heat -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "y"), [(0, 0), (340, 500), (700, 900)])
def test_heat_lies_where_the_heatmap_says(x: float, y: float) -> None:
    values = np.zeros((20, 15), np.float32)
    values[7, 4] = REFERENCE
    intensity = heat_intensity(Heatmap(values, x, y, 480, 640), image(), SHAPE, REFERENCE)
    peak_y, peak_x = np.unravel_index(intensity.argmax(), SHAPE)
    scale = ROWS / SHAPE[0]
    assert abs(peak_x + 0.5 - (x + 4.5 * 32) / scale) <= 1
    assert abs(peak_y + 0.5 - (y + 7.5 * 32) / scale) <= 1


def test_heat_is_full_at_the_reference_and_proportional_below() -> None:
    for value, expected in ((0.0, 0), (REFERENCE / 2, 127), (REFERENCE, 255), (0.9, 255)):
        intensity = heat_intensity(flat_heatmap(value), image(), SHAPE, REFERENCE)
        assert np.abs(intensity.astype(int) - expected).max() <= 1


def test_tissue_of_an_exam_far_above_category_10_keeps_its_contrast_to_the_peak(tmp_path: Path) -> None:
    values = np.full((40, 30), 2 * REFERENCE, np.float32)
    values[10:14, 10:14] = 30 * REFERENCE
    result = replace(exam(scored(heatmap=Heatmap(values, 0, 0, COLUMNS, ROWS))), score=30 * REFERENCE)
    write_figures(tmp_path, result, REFERENCE)
    heat = cv2.imread(str(picture_paths(tmp_path, "1.2.3", "1.2").heat), cv2.IMREAD_UNCHANGED)[..., 3]
    assert heat[len(heat) // 2 :].max() < heat.max() / 4


def test_heat_ends_at_the_heatmaps_box_and_at_the_image() -> None:
    values = np.ones((10, 10), np.float32)
    inside = heat_intensity(Heatmap(values, 400, 800, 200, 100), image(), SHAPE, REFERENCE)
    assert (inside[200:225, 100:150] == 255).all()
    assert int((inside > 0).sum()) == 25 * 50
    beyond = heat_intensity(Heatmap(values, -200, -100, 2000, 3000), image(), SHAPE, REFERENCE)
    assert (beyond == 255).all()
    outside = heat_intensity(Heatmap(values, 5000, 5000, 100, 100), image(), SHAPE, REFERENCE)
    assert not outside.any()


@given(x=st.floats(-4000, 4000), y=st.floats(-4000, 4000), width=st.floats(0.1, 5000), height=st.floats(0.1, 5000))
def test_any_box_is_filled_as_far_as_it_is_in_the_image(x: float, y: float, width: float, height: float) -> None:
    heatmap = Heatmap(np.ones((5, 4), np.float32), x, y, width, height)
    intensity = heat_intensity(heatmap, image(), SHAPE, REFERENCE)
    assert set(np.unique(intensity)) <= {0, 255}
    filled_rows, filled_columns = np.nonzero(intensity)
    for filled, start, size, whole in ((filled_columns, x, width, COLUMNS), (filled_rows, y, height, ROWS)):
        if filled.size:
            assert filled.min() * 4 == pytest.approx(max(0, start), abs=3)
            assert (filled.max() + 1) * 4 == pytest.approx(min(whole, start + size), abs=6)


@pytest.mark.parametrize("reference", [0.0, -1.0, float("nan")])
def test_a_reference_that_is_no_score_is_refused(reference: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        heat_intensity(flat_heatmap(0.1), image(), SHAPE, reference)


def test_tissue_without_suspicion_stays_as_it_is() -> None:
    picture = drawn(scored(heatmap=flat_heatmap(REFERENCE / 30)))
    assert (picture == breast()[:, :, None]).all()


def test_tissue_under_full_heat_keeps_half_its_contrast() -> None:
    grey = breast()
    hot = cv2.cvtColor(drawn(scored(heatmap=flat_heatmap(1.0))), cv2.COLOR_BGR2GRAY).astype(float)
    inside = grey > 60
    slope = np.polyfit(grey[inside].astype(float), hot[inside], 1)[0]
    assert slope > 0.5


def test_hotter_is_more_visible() -> None:
    means = []
    for value in np.linspace(0, REFERENCE, 8):
        picture = drawn(scored(heatmap=flat_heatmap(float(value)))).astype(int)
        means.append(np.abs(picture - breast()[:, :, None]).mean())
    assert (np.diff(means) >= 0).all()
    assert means[-1] > 20


# --- files ----------------------------------------------------------------------------------------------------------


def test_every_scored_image_gets_its_pictures_and_no_other_does(tmp_path: Path) -> None:
    failed = ImageResult(image(image_id="2"), Status.FAILED, Rejection(Reason.UNREADABLE, "cut off"))
    other = replace(scored(), image=image("R", "MLO", image_id="3"))
    write_figures(tmp_path, exam(scored(), failed, other), REFERENCE)
    names = {path.name for path in (tmp_path / "heatmaps" / "1.2.3").iterdir()}
    assert names == {f"{name}.{suffix}" for name in ("1.2", "3") for suffix in ("png", "jpg", "webp")}


def test_the_parts_for_the_report_are_the_mammogram_and_its_heat(tmp_path: Path) -> None:
    values = np.zeros((40, 30), np.float32)
    values[10:20, 5:15] = 1
    write_figures(tmp_path, exam(scored(heatmap=Heatmap(values, 0, 0, COLUMNS, ROWS))), REFERENCE)
    paths = picture_paths(tmp_path, "1.2.3", "1.2")
    plain = cv2.imread(str(paths.plain), cv2.IMREAD_UNCHANGED)
    assert plain is not None
    assert plain.shape == SHAPE
    assert np.abs(plain.astype(int) - breast()).mean() < 2
    heat = cv2.imread(str(paths.heat), cv2.IMREAD_UNCHANGED)
    assert heat is not None
    rows, columns, channels = heat.shape
    assert channels == 4
    assert heat[round(rows * 15 / 40), round(columns * 10 / 30), 3] > 100
    assert not heat[rows // 2 + 5 :, :, 3].any()


def test_two_runs_write_the_same_pictures(tmp_path: Path) -> None:
    for run in ("a", "b"):
        write_figures(tmp_path / run, exam(scored(region(200, 300), heatmap=flat_heatmap(0.01))), REFERENCE)
    first, second = (sorted((tmp_path / run / "heatmaps" / "1.2.3").iterdir()) for run in ("a", "b"))
    assert len(first) == 3
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_picture_that_cannot_be_written_is_told_and_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="disk is full"):
        write_figures(tmp_path, exam(scored()), REFERENCE)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- hanging --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["R", "L"])
@pytest.mark.parametrize("wall_on_right", [False, True])
def test_chest_walls_meet_in_the_middle_however_the_image_is_stored(side: str, wall_on_right: bool) -> None:
    stored = breast(wall_on_right)
    turn = hang(image(side), find_breast(stored))
    hung = stored[:, ::-1] if turn.flip_x else stored
    inner = hung[:, -20:] if side == "R" else hung[:, :20]
    outer = hung[:, :20] if side == "R" else hung[:, -20:]
    assert inner.mean() > 30
    assert outer.mean() < 1


@pytest.mark.parametrize(
    ("side", "view", "orientation", "turn"),
    [
        ("L", "CC", ("A", "R"), Turn()),
        ("L", "CC", ("P", "R"), Turn(flip_x=True)),
        ("L", "CC", ("A", "L"), Turn(flip_y=True)),
        ("R", "CC", ("P", "L"), Turn()),
        ("R", "CC", ("A", "R"), Turn(flip_x=True, flip_y=True)),
        ("R", "MLO", ("P", "FL"), Turn()),
        ("R", "MLO", ("A", "HL"), Turn(flip_x=True, flip_y=True)),
        ("R", "MLO", ("MLO",), Turn()),
        ("L", "MLO", ("x", "y"), Turn()),
    ],
)
def test_without_a_breast_in_sight_the_header_says_how_to_hang(
    side: str, view: str, orientation: tuple[str, ...], turn: Turn
) -> None:
    assert hang(image(side, view, orientation), None) == turn


@given(x=st.floats(0, 99), y=st.floats(0, 49), flip_x=st.booleans(), flip_y=st.booleans())
def test_a_turn_undoes_itself(x: float, y: float, flip_x: bool, flip_y: bool) -> None:
    turn = Turn(flip_x, flip_y)
    assert turn.apply(*turn.apply(x, y, 100, 50), 100, 50) == pytest.approx((x, y))


PLACES = [
    (40, 600, "central, posterior depth"),
    (400, 1000, "inner, middle depth"),
    (400, 300, "outer, middle depth"),
    (740, 650, "central, anterior depth"),
]


@pytest.mark.parametrize(("x", "y", "words"), PLACES)
@pytest.mark.parametrize("wall_on_right", [False, True])
@pytest.mark.parametrize("upside_down", [False, True])
def test_a_place_is_the_same_however_the_image_is_stored(
    x: float, y: float, words: str, wall_on_right: bool, upside_down: bool
) -> None:
    orientation = ("P" if wall_on_right else "A", "L" if upside_down else "R")
    stored = image("L", "CC", orientation)
    x = COLUMNS - x - 60 if wall_on_right else x
    y = ROWS - y - 60 if upside_down else y
    mask = find_breast(breast(wall_on_right, upside_down))
    assert place(region(x, y, 60, 60), stored, mask, hang(stored, mask)) == words


def test_places_in_an_oblique_view_are_upper_and_lower() -> None:
    mask = find_breast(breast())
    oblique = replace(region(400, 1000, 60, 60), view=View.MLO)
    assert place(oblique, image(view="MLO"), mask, Turn()) == "lower, middle depth"
    assert place(replace(oblique, view=View.FB), image(view="FB"), mask, Turn()) == "middle depth"


def test_kinds_of_a_view_hang_in_the_same_order_on_both_sides(tmp_path: Path) -> None:
    kinds = [(side, kind) for side in "RL" for kind in ImageKind]
    numbers = np.random.default_rng(3).permutation(len(kinds))
    images = [
        ImageResult(replace(image(side, image_id=f"1.{number}"), kind=kind), Status.SCORED, score=0.1)
        for number, (side, kind) in zip(numbers, kinds, strict=True)
    ]
    result = ExamResult("e", "w", None, "s", "m", "model", Status.SCORED, score=0.1, images=tuple(images))
    (row,) = (row for row in ExamPictures(tmp_path, result).rows(()) if len(row.right) == 3)
    for side, pictures in (("R", row.right), ("L", row.left)):
        words = [picture.label for picture in pictures]
        assert words == [f"{side} CC", f"{side} CC synthetic 2D", f"{side} CC tomosynthesis"]
