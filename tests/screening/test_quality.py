"""Quality warnings: each fault drawn into a good mammogram is named, and good mammograms are left alone."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screening.errors import ImageError
from screening.exam import Image, ImageKind, Laterality, View
from screening.imaging import quality
from screening.imaging.prepare import Preparation, Prepared, prepare
from screening.imaging.quality import assess, laterality_conflict
from tests.support.phantoms import CC, WHITE, Outline, spacing_mm, synthetic_mammogram

ROWS, COLUMNS = 960, 768
DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared development data are not at hand")

LARGE = Outline(centre=0.5, half_height=0.47, depth=1.2, axilla=0.0)
TALL = Outline(centre=0.5, half_height=0.6, depth=0.7, axilla=0.0)
ROUND = Outline(centre=0.5, half_height=0.48, depth=0.55, axilla=0.0)


def header(pixels: npt.NDArray[np.integer], laterality: str = "L", view: str = "CC", **more: Any) -> Image:
    """What a header would say of a phantom."""
    rows, columns = pixels.shape
    image = Image(
        image_id="1.2.3",
        path=Path("image.dcm"),
        laterality=Laterality(laterality),
        view=View(view),
        kind=ImageKind.FFDM,
        rows=rows,
        columns=columns,
        frames=1,
        pixel_spacing_mm=spacing_mm(rows),
    )
    return replace(image, **more)


def judged(pixels: npt.NDArray[np.integer], image: Image, size: float = 0.5, flip_y: bool = False) -> tuple[str, ...]:
    return assess(pixels, prepare(pixels, image.pixel_spacing_mm, Preparation(size), flip_y), image)


@cache
def drawn(laterality: str = "L", view: str = "CC", **options: Any) -> npt.NDArray[np.uint16]:
    """A phantom, drawn once; not to be written to."""
    image = synthetic_mammogram(ROWS, COLUMNS, laterality, view, **options)
    image.flags.writeable = False
    return image


def fine_image(pixels: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    spacing = spacing_mm(pixels.shape[0])
    return quality._fine_image(pixels, prepare(pixels, spacing, Preparation(0.5)), spacing)


@pytest.mark.parametrize("options", [{}, {"film": True}, {"label": "near"}, {"seed": 1}, {"noise": 600.0}])
@pytest.mark.parametrize("view", ["CC", "MLO"])
@pytest.mark.parametrize("laterality", ["L", "R"])
def test_good_image_has_no_warning(laterality: str, view: str, options: dict[str, Any]) -> None:
    pixels = drawn(laterality, view, **options)
    assert judged(pixels, header(pixels, laterality, view)) == ()


@pytest.mark.parametrize("laterality", ["L", "R"])
@pytest.mark.parametrize(
    ("outline", "edges"), [(LARGE, {"front"}), (TALL, {"upper", "lower"}), (CC, set())], ids=["large", "tall", "whole"]
)
def test_breast_cut_off_at_the_border_is_named_with_the_edge(
    laterality: str, outline: Outline, edges: set[str]
) -> None:
    pixels = drawn(laterality, outline=outline)
    warnings = [w for w in judged(pixels, header(pixels, laterality)) if "cut off" in w]
    assert {edge for edge in ("front", "upper", "lower") if any(edge in w for w in warnings)} == edges


def test_length_of_the_cut_is_in_millimetres() -> None:
    pixels = drawn(outline=TALL)
    found = prepare(pixels, spacing_mm(ROWS), Preparation(0.5))
    truth = (pixels[-1] > 0).sum() * spacing_mm(ROWS)[1]
    front, upper, lower = quality.border_contact_mm(found.mask, found.geometry, spacing_mm(ROWS))
    assert front == 0
    assert max(abs(upper - truth), abs(lower - truth)) < 4


def test_lower_edge_of_an_image_stored_upside_down_is_its_upper_edge() -> None:
    pixels = drawn(outline=Outline(centre=0.7, half_height=0.45, depth=0.6, axilla=0.0))
    straight = judged(pixels, header(pixels))
    turned = judged(np.ascontiguousarray(pixels[::-1]), header(pixels), flip_y=True)
    assert straight == turned
    assert "lower" in straight[0]


def test_mlo_runs_into_the_upper_edge_by_rights() -> None:
    pixels = drawn(view="MLO")
    found = prepare(pixels, spacing_mm(ROWS), Preparation(0.5))
    assert quality.border_contact_mm(found.mask, found.geometry, spacing_mm(ROWS))[1] > quality.BORDER_CONTACT_MM
    assert judged(pixels, header(pixels, view="MLO")) == ()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("laterality", ["L", "R"])
def test_mlo_without_pectoral_muscle_is_named(laterality: str, seed: int) -> None:
    pixels = drawn(laterality, "MLO", seed=seed, pectoral=False, outline=CC)
    image = header(pixels, laterality, "MLO")
    assert judged(pixels, image) == ("No pectoral muscle is seen in the upper corner of this MLO view.",)
    assert judged(pixels, replace(image, view=View.CC)) == ()
    muscle = drawn(laterality, "MLO", seed=seed, pectoral=True)
    assert judged(muscle, image) == ()


def test_saturated_breast_is_named_with_its_share() -> None:
    pixels = np.where(drawn() > 26_000, WHITE, drawn()).astype(np.uint16)
    share = (pixels == WHITE).sum() / (drawn() > 0).sum()
    (warning,) = [w for w in judged(pixels, header(pixels)) if "saturated" in w]
    assert int(warning.split("%")[0]) == pytest.approx(100 * share, abs=2)


def test_black_breast_is_named_and_a_negative_is_judged_as_shown() -> None:
    dark = (np.maximum(drawn(), 20_000) - 20_000) * (drawn() > 0)
    pixels = np.where((dark > 0) | (np.mgrid[:ROWS, :COLUMNS][1] > 330), dark, 0).astype(np.uint16)
    warnings = judged(pixels, header(pixels))
    assert any("black without detail" in w for w in warnings)
    assert any("black without detail" in w for w in judged(WHITE - pixels, header(pixels)))


def blurred(pixels: npt.NDArray[np.uint16], millimetres: float, axis: int) -> npt.NDArray[np.uint16]:
    """Moved evenly over a distance during the exposure."""
    length = max(1, round(millimetres / spacing_mm(pixels.shape[0])[0]))
    return cv2.blur(pixels, (length, 1) if axis else (1, length)).astype(np.uint16)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("view", ["CC", "MLO"])
def test_motion_of_two_millimetres_is_named(view: str, axis: int) -> None:
    pixels = blurred(drawn(view=view), 2.0, axis)
    (warning,) = judged(pixels, header(pixels, view=view))
    assert warning.startswith("Fine detail is missing (sharpness 0.")
    assert "motion blur" in warning


@pytest.mark.parametrize("axis", [0, 1])
def test_sharpness_falls_as_motion_grows(axis: int) -> None:
    found = [quality.sharpness(*fine_image(blurred(drawn(), distance, axis))) for distance in (0, 0.5, 1, 1.5)]
    assert all(a is not None and b is not None and a > b for a, b in pairwise(found))


def test_sharpness_does_not_depend_on_contrast() -> None:
    full, half = fine_image(drawn()), fine_image((drawn() // 2).astype(np.uint16))
    assert quality.sharpness(*half) == pytest.approx(quality.sharpness(*full), rel=0.01)


def test_sharpness_and_nipple_are_not_judged_on_coarse_images() -> None:
    moved = blurred(drawn(nipple=False, outline=ROUND), 3.0, 1)
    pixels: npt.NDArray[Any] = cv2.resize(moved, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    assert judged(pixels, header(pixels)) == ()


def test_outline_without_a_bump_asks_for_the_nipple() -> None:
    pixels = drawn(nipple=False, outline=ROUND)
    assert [w for w in judged(pixels, header(pixels)) if "nipple" in w]
    with_nipple = drawn(nipple=True, outline=ROUND)
    assert not [w for w in judged(with_nipple, header(pixels)) if "nipple" in w]


@pytest.mark.parametrize("view", ["CC", "MLO"])
def test_nipple_has_about_the_area_that_was_drawn(view: str) -> None:
    # Half a disc of 5 mm radius stands out, less what its skirt covers.
    area = quality.nipple_area_mm2(*fine_image(drawn(view=view)))
    assert area == pytest.approx(np.pi * 5**2 / 2, rel=0.3)


def with_implant() -> npt.NDArray[np.uint16]:
    pixels = drawn().copy()
    centre, axes = (round(0.1 * COLUMNS), ROWS // 2), (round(0.2 * COLUMNS), round(0.18 * ROWS))
    disc = np.zeros(pixels.shape, np.uint8)
    cv2.ellipse(disc, centre, axes, 0, 0, 360, 255, cv2.FILLED)
    return np.where(disc > 0, np.uint16(60_000), pixels)


def test_implant_that_the_header_keeps_quiet_about_is_named() -> None:
    pixels = with_implant()
    (warning,) = judged(pixels, header(pixels))
    assert warning.startswith("A bright object of ")
    assert judged(pixels, header(pixels, implant=True)) == ()


def test_bright_object_has_the_area_that_was_drawn() -> None:
    pixels = with_implant()
    found = prepare(pixels, spacing_mm(ROWS), Preparation(0.5))
    truth = (pixels == 60_000).sum() * spacing_mm(ROWS)[0] ** 2 / 100
    assert quality.bright_object_cm2(found, header(pixels)) == pytest.approx(truth, rel=0.1)


FAULTY = [
    {"outline": TALL},
    {"view": "MLO", "pectoral": False, "outline": CC},
    {"nipple": False, "outline": ROUND},
    {},
    {"view": "MLO"},
]


@pytest.mark.parametrize("options", FAULTY)
def test_judgement_does_not_depend_on_mirroring_or_the_bundles_spacing(options: dict[str, Any]) -> None:
    view = str(options.get("view", "CC"))
    pixels = drawn(**{"view": view, **options})
    straight = judged(pixels, header(pixels, "L", view))
    assert judged(np.ascontiguousarray(pixels[:, ::-1]), header(pixels, "R", view)) == straight
    for size in (0.3, 0.4, 0.7):
        assert judged(pixels, header(pixels, "L", view), size) == straight


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize("orientation", [("A", "R"), ("AL", "FR"), ("P", "L"), ("PR", "FL"), (), ("", ""), ("CC",)])
@pytest.mark.parametrize("laterality", ["L", "R"])
def test_chest_wall_is_compared_with_the_orientation_else_with_the_laterality(
    side: str, orientation: tuple[str, ...], laterality: str
) -> None:
    pixels = drawn(side)
    image = header(pixels, laterality, patient_orientation=orientation)
    found = prepare(pixels, image.pixel_spacing_mm, Preparation(0.5))
    rows = orientation[0][:1] if orientation else ""
    expected = {"A": "L", "P": "R"}.get(rows, laterality)
    conflict = laterality_conflict(found, image)
    assert (conflict is None) == (side == expected)
    if conflict:
        assert ("left" if side == "L" else "right") in conflict
        assert ("patient orientation" in conflict) == (rows in ("A", "P"))


def test_pixels_that_do_not_tell_the_side_make_no_conflict() -> None:
    pixels = drawn(outline=Outline(0.5, 0.75, 1.4, 0.0))
    for laterality in ("L", "R"):
        image = header(pixels, laterality)
        assert laterality_conflict(prepare(pixels, image.pixel_spacing_mm, Preparation(0.5)), image) is None


@given(
    st.floats(0.3, 0.7), st.floats(0.1, 0.9), st.floats(0.1, 1.4), st.floats(0.0, 1.0), st.sampled_from(list(View)),
    st.booleans(), st.sampled_from([0.2, 0.5, 1.0]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_shape_of_breast_is_judged_without_breaking(
    centre: float, half_height: float, depth: float, axilla: float, view: View, inverted: bool, size: float
) -> None:
    pixels = synthetic_mammogram(320, 256, outline=Outline(centre, half_height, depth, axilla), label="far")
    pixels = WHITE - pixels if inverted else pixels
    image = header(pixels, view=str(view), pixel_spacing_mm=(size, size))
    try:
        found = prepare(pixels, image.pixel_spacing_mm, Preparation(0.5))
    except ImageError:
        return
    warnings = assess(pixels, found, image)
    assert all(w.endswith(".") and w[0].isupper() | w[0].isdigit() for w in warnings)


def digital_image(row: dict[str, str]) -> npt.NDArray[np.uint8]:
    path = DATA / "rsna" / "images" / f"{row['patient_id']}_{row['image_id']}.jpg"
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image.astype(np.uint8, copy=False)


@cache
def judged_digital_images() -> list[tuple[str, tuple[str, ...], str | None]]:
    """(view, warnings, conflict) of a sample of digital screening images; machine 49 mirrors many of its images."""
    judged_images = []
    with (DATA / "rsna" / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["machine_id"] != "49"]
    for row in rows[::9]:
        pixels = digital_image(row)
        # The images are squashed to squares; this is what the sides of a usual detector make of a pixel.
        image = header(pixels, row["laterality"], "CC" if row["view"] == "CC" else "MLO", pixel_spacing_mm=(0.39, 0.31))
        image = replace(image, implant=row["implant"] == "1")
        found: Prepared = prepare(pixels, image.pixel_spacing_mm, Preparation(0.5))
        judged_images.append((str(image.view), assess(pixels, found, image), laterality_conflict(found, image)))
    return judged_images


@needs_data
@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("front edge", 0.02),
        ("upper edge", 0.04),
        ("lower edge", 0.05),
        ("pectoral", 0.06),
        ("nipple", 0.02),
        ("saturated", 0.01),
        ("black", 0.01),
        ("Fine detail", 0.01),
        ("bright object", 0.01),
    ],
)
def test_few_real_digital_images_are_warned_about(words: str, most: float) -> None:
    found = judged_digital_images()
    assert len(found) > 140
    assert np.mean([any(words in w for w in warnings) for _, warnings, _ in found]) <= most


@needs_data
def test_real_digital_images_seldom_contradict_their_laterality() -> None:
    assert np.mean([conflict is not None for _, _, conflict in judged_digital_images()]) <= 0.01


@needs_data
def test_muscle_is_missed_in_real_images_that_have_none() -> None:
    contrasts = []
    with (DATA / "rsna" / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["view"] == "CC" and row["implant"] == "0"]
    for row in rows[::20]:
        pixels = digital_image(row)
        image = header(pixels, row["laterality"], "MLO", pixel_spacing_mm=(0.39, 0.31))
        found = prepare(pixels, image.pixel_spacing_mm, Preparation(0.5))
        contrasts.append(quality.pectoral_contrast(found, image))
    assert np.mean(np.array(contrasts) < quality.PECTORAL_CONTRAST) > 0.6
