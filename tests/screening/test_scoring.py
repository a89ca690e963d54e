"""score(exam, bundle): the same answer to the same picture, and every score leads to a region."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from screening.errors import ImageError
from screening.exam import Exam, Image, ImageKind, Laterality, PresentationIntent, View
from screening.imaging.load import LoadedImage, preview
from screening.imaging.prepare import Preparation, prepare
from screening.model.bundle import Bundle, load_bundle
from screening.model.network import Ensemble
from screening.model.precision import bfloat16_pays
from screening.result import ExamResult, ImageResult, Reason, Rejection, Status
from screening.scoring import answer, predict, score
from tests.support.exams import COLUMNS, ROWS, VIEWS, Spot, drawn
from tests.support.phantoms import spacing_mm, synthetic_mammogram

SAME_SCORE = 1e-4
"""A mirrored image is resampled from its other end: grey values differ by rounding, scores by less than this."""
SAME_PLACE = 1.0
"""Source pixels; regions follow cells of 11, so that a mirrored region is either the same or another."""
HALF_LOGIT = 0.1
"""bfloat16 has 8 bits of mantissa; through the network its rounding moves no peak's logit by more than this."""

Pixels = npt.NDArray[np.uint16]


def image(number: int, laterality: str, view: str) -> Image:
    return Image(
        image_id=f"1.2.{number}",
        path=Path(f"{laterality}{view}.dcm"),
        laterality=Laterality(laterality),
        view=View(view),
        kind=ImageKind.FFDM,
        rows=ROWS,
        columns=COLUMNS,
        frames=1,
        pixel_spacing_mm=spacing_mm(ROWS),
    )


def exam(*images: Image) -> Exam:
    return Exam("1.2", "woman", None, "default", "Maker", images)


def four_views() -> list[Image]:
    return [image(number, *place) for number, place in enumerate(VIEWS)]


def score_pixels(images: list[Image], bundle: Bundle, pixels: dict[str, Pixels], half: bool = False) -> ExamResult:
    """Score pixels that are at hand, as `load_image` would have read them."""

    def load(one: Image, preparation: Preparation) -> LoadedImage:
        stored = pixels[one.image_id]
        prepared = prepare(stored, one.pixel_spacing_mm, preparation)
        return LoadedImage(one, Status.SCORED, prepared, preview(stored, prepared.mask.inverted))

    return score(exam(*images), bundle, lambda one: answer(one, bundle, load=load, half=half))


def pixels_of(
    images: list[Image], draw: Callable[[Image, int], Pixels] = lambda one, seed: drawn(one.laterality, one.view, seed)
) -> dict[str, Pixels]:
    return {one.image_id: draw(one, seed) for seed, one in enumerate(images)}


@pytest.fixture(scope="module")
def result(bundle: Bundle) -> ExamResult:
    images = four_views()
    return score_pixels(images, bundle, pixels_of(images))


def places(result: ExamResult) -> dict[str, list[tuple[float, float, float, float]]]:
    return {one.image.image_id: [(r.x, r.y, r.width, r.height) for r in one.regions] for one in result.images}


# A score is a region's score


def test_every_score_is_that_of_a_region(result: ExamResult) -> None:
    regions = {region.region_id: region for region in result.regions}
    assert result.top_region_id is not None
    assert result.score == regions[result.top_region_id].score == max(breast.score for breast in result.breasts)
    for breast in result.breasts:
        assert breast.score == regions[breast.top_region_id].score
        assert breast.laterality == regions[breast.top_region_id].laterality
        of_breast = [one.score for one in result.images if one.image.laterality is breast.laterality]
        assert breast.score == max(score for score in of_breast if score is not None)
    for one in result.images:
        assert one.score == max(region.score for region in one.regions)


def test_regions_are_ranked_over_the_exam(result: ExamResult) -> None:
    assert [region.rank for region in result.regions] == list(range(1, len(result.regions) + 1))
    scores = [region.score for region in result.regions]
    assert scores == sorted(scores, reverse=True)
    assert result.regions[0].region_id == result.top_region_id
    assert len({region.region_id for region in result.regions}) == len(result.regions)


def test_every_image_has_a_region_and_every_region_its_image(result: ExamResult) -> None:
    for one in result.images:
        assert one.regions
        for region in one.regions:
            assert (region.image_id, region.laterality, region.view) == (
                one.image.image_id,
                one.image.laterality,
                one.image.view,
            )


def test_region_lies_within_its_image_and_its_box_is_around_its_contour(result: ExamResult) -> None:
    for region in result.regions:
        contour = np.array(region.contour)
        low, high = contour.min(axis=0), contour.max(axis=0)
        np.testing.assert_allclose((region.x, region.y), low, atol=1e-9)
        np.testing.assert_allclose((region.x + region.width, region.y + region.height), high, atol=1e-9)
        assert low.min() >= 0
        assert high[0] <= COLUMNS
        assert high[1] <= ROWS


def test_heatmap_peaks_at_the_images_score_within_its_top_region(result: ExamResult) -> None:
    for one in result.images:
        assert one.heatmap is not None
        assert one.score == pytest.approx(one.heatmap.values.max(), rel=1e-5)
        peak = peak_in_source(one)
        contour = np.array(one.regions[0].contour, np.float32)
        assert cv2.pointPolygonTest(contour, peak, False) >= 0


def peak_in_source(one: ImageResult) -> tuple[float, float]:
    assert one.heatmap is not None
    rows, columns = one.heatmap.values.shape
    row, column = np.unravel_index(int(one.heatmap.values.argmax()), (rows, columns))
    x = one.heatmap.x + (column + 0.5) * one.heatmap.width / columns
    y = one.heatmap.y + (row + 0.5) * one.heatmap.height / rows
    return float(np.clip(x, 0, COLUMNS)), float(np.clip(y, 0, ROWS))


def test_heatmap_is_a_probability_and_none_outside_the_breast(result: ExamResult) -> None:
    for one in result.images:
        assert one.heatmap is not None
        assert one.heatmap.values.dtype == np.float32
        assert one.heatmap.values.min() == 0
        assert one.heatmap.values.max() <= 1


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize("spot", [(70, 180), (40, 250), (100, 210)])
def test_bright_spot_is_the_top_region_of_its_breast(side: str, spot: Spot, bundle: Bundle) -> None:
    """What the small bundle was fitted to find is found where it was drawn, on either side."""
    one = image(0, side, "CC")
    found = score_pixels([one], bundle, {one.image_id: drawn(side, "CC", seed=5, spot=spot)})
    top = found.regions[0]
    column = spot[0] if side == "L" else COLUMNS - 1 - spot[0]
    assert top.x <= column <= top.x + top.width
    assert top.y <= spot[1] <= top.y + top.height


def test_category_and_density_are_the_bundles(result: ExamResult, bundle: Bundle) -> None:
    assert result.score is not None
    assert result.category == bundle.calibration.category(result.score)
    assert result.density in ("A", "B", "C", "D")
    assert result.model_id == bundle.model_id


# The same answer to the same picture


def test_order_of_images_changes_nothing(result: ExamResult, bundle: Bundle) -> None:
    images = four_views()
    pixels = pixels_of(images)
    random.Random(0).shuffle(images)
    shuffled = score_pixels(images, bundle, pixels)
    assert shuffled.regions == result.regions
    assert (shuffled.score, shuffled.top_region_id, shuffled.density) == (
        result.score,
        result.top_region_id,
        result.density,
    )
    assert shuffled.breasts == result.breasts


def test_order_of_equal_images_changes_nothing(bundle: Bundle) -> None:
    """Two copies of a picture tie in everything: their ids decide, not which was read first."""
    images = [image(number, "L", "CC") for number in range(3)]
    pixels = {one.image_id: drawn("L", "CC", seed=1) for one in images}
    answers = {score_pixels(list(order), bundle, pixels).regions for order in itertools.permutations(images)}
    assert len(answers) == 1


@pytest.mark.parametrize("film", [False, True], ids=["digital", "film"])
def test_mirrored_images_have_mirrored_regions_and_the_same_score(film: bool, bundle: Bundle) -> None:
    images = four_views()
    pixels = pixels_of(
        images, lambda one, seed: synthetic_mammogram(ROWS, COLUMNS, one.laterality, one.view, seed, film=film)
    )
    straight = score_pixels(images, bundle, pixels)
    mirrored = score_pixels(images, bundle, {key: np.ascontiguousarray(p[:, ::-1]) for key, p in pixels.items()})
    assert mirrored.score == pytest.approx(straight.score, abs=SAME_SCORE)
    assert mirrored.top_region_id == straight.top_region_id
    for mine, other in zip(straight.images, mirrored.images, strict=True):
        assert other.score == pytest.approx(mine.score, abs=SAME_SCORE)
        box = mine.regions[0]
        turned = other.regions[0]
        expected = (COLUMNS - box.x - box.width, box.y, box.width, box.height)
        np.testing.assert_allclose((turned.x, turned.y, turned.width, turned.height), expected, atol=SAME_PLACE)
        assert mine.heatmap is not None
        assert other.heatmap is not None
        np.testing.assert_allclose(other.heatmap.values[:, ::-1], mine.heatmap.values, atol=SAME_SCORE)


@pytest.mark.parametrize("label", ["far", "near"])
def test_label_outside_the_breast_changes_no_score_and_no_region(label: str, bundle: Bundle) -> None:
    images = four_views()
    bare = pixels_of(images, lambda one, seed: synthetic_mammogram(ROWS, COLUMNS, one.laterality, one.view, seed))
    labelled = pixels_of(
        images, lambda one, seed: synthetic_mammogram(ROWS, COLUMNS, one.laterality, one.view, seed, label=label)
    )
    assert all((labelled[key] != bare[key]).any() for key in bare)
    assert score_pixels(images, bundle, labelled).regions == score_pixels(images, bundle, bare).regions


def test_bfloat16_stays_within_its_tolerance_of_float32(bundle: Bundle) -> None:
    for seed, (laterality, view) in enumerate(VIEWS * 2):
        prepared = prepare(drawn(laterality, view, seed), spacing_mm(ROWS), bundle.preparation)
        full, half = predict(prepared, bundle), predict(prepared, bundle, half=True)
        assert half.candidates[0].logit == pytest.approx(full.candidates[0].logit, abs=HALF_LOGIT)
        inside = full.logits > -100
        assert np.abs(half.logits - full.logits)[inside].max() < 3 * HALF_LOGIT


def test_two_runs_give_the_very_same_result(result: ExamResult, bundle: Bundle) -> None:
    images = four_views()
    again = score_pixels(images, bundle, pixels_of(images))
    assert again.regions == result.regions
    assert places(again) == places(result)


# Views support each other


def test_other_view_moves_a_breasts_score_and_leaves_the_other_breast(result: ExamResult, bundle: Bundle) -> None:
    images = four_views()
    pixels = pixels_of(images)
    pixels["1.2.3"] = drawn("L", "MLO", seed=3, spot=(70, 180))
    other = score_pixels(images, bundle, pixels)
    before, after = ({breast.laterality: breast.score for breast in one.breasts} for one in (result, other))
    assert after[Laterality.LEFT] != before[Laterality.LEFT]
    assert after[Laterality.RIGHT] == before[Laterality.RIGHT]


def test_the_heatmap_shows_each_region_with_its_own_score(result: ExamResult) -> None:
    """Regions of one rank support each other over the views; the colour at a region's peak must say the same."""
    shown = 0
    for one in result.images:
        assert one.heatmap is not None
        for region in one.regions:
            assert np.isclose(one.heatmap.values, region.score, rtol=1e-4).any(), region.region_id
            shown += 1
    assert shown > len(result.images)


# What cannot be scored


def unscored(status: Status, code: Reason) -> Callable[[Image, Preparation], LoadedImage]:
    return lambda one, _: LoadedImage(one, status, rejection=Rejection(code, f"{one.path.name}: because"))


def test_image_that_failed_keeps_its_reason_and_the_exam_is_scored_on_the_others(bundle: Bundle) -> None:
    good, bad = image(0, "L", "CC"), image(1, "L", "MLO")
    alone = score_pixels([good], bundle, pixels_of([good]))

    def load(one: Image, preparation: Preparation) -> LoadedImage:
        if one == bad:
            return unscored(Status.FAILED, Reason.UNREADABLE)(one, preparation)
        pixels = pixels_of([good])[one.image_id]
        prepared = prepare(pixels, one.pixel_spacing_mm, preparation)
        return LoadedImage(one, Status.SCORED, prepared, preview(pixels, prepared.mask.inverted))

    both = score(exam(good, bad), bundle, lambda one: answer(one, bundle, load=load))
    assert both.status is Status.SCORED
    assert both.score == alone.score
    (failed,) = (one for one in both.images if one.image == bad)
    assert failed.status is Status.FAILED
    assert str(failed.rejection) == "unreadable: LMLO.dcm: because"
    assert failed.score is None
    assert not failed.regions


@pytest.mark.parametrize(
    ("image_status", "image_code", "status", "code"),
    [
        (Status.FAILED, Reason.UNREADABLE, Status.FAILED, Reason.ALL_IMAGES_FAILED),
        (Status.REJECTED, Reason.CONSTANT, Status.REJECTED, Reason.NO_ELIGIBLE_IMAGE),
    ],
)
def test_exam_without_a_usable_image_says_why(
    image_status: Status, image_code: Reason, status: Status, code: Reason, bundle: Bundle
) -> None:
    load = unscored(image_status, image_code)
    found = score(exam(*four_views()), bundle, lambda one: answer(one, bundle, load=load))
    assert found.status is status
    assert found.score is None
    assert found.top_region_id is None
    assert found.rejection is not None
    assert found.rejection.code is code
    assert "RCC.dcm: because" in found.rejection.sentence
    assert all(one.status is image_status for one in found.images)


def test_raw_image_is_rejected_unless_the_bundle_was_trained_on_such(bundle: Bundle) -> None:
    raw = replace(image(0, "L", "CC"), intent=PresentationIntent.FOR_PROCESSING)
    found = answer(raw, bundle, load=lambda *_: pytest.fail("its pixels were read"))
    assert found.prediction is None
    assert found.loaded.status is Status.REJECTED
    assert found.loaded.rejection is not None
    assert found.loaded.rejection.code is Reason.FOR_PROCESSING
    taught = replace(bundle, card=bundle.card.model_copy(update={"intents": tuple(PresentationIntent)}))
    assert score_pixels([raw], taught, pixels_of([raw])).status is Status.SCORED


def test_breast_that_cannot_be_prepared_is_an_image_error(bundle: Bundle) -> None:
    with pytest.raises(ImageError):
        prepare(np.zeros((ROWS, COLUMNS), np.uint16), spacing_mm(ROWS), bundle.preparation)


# Where it computes


@pytest.mark.parametrize(("available", "kind"), [(True, "cuda"), (False, "cpu")])
def test_graphics_card_is_used_when_there_is_one(
    available: bool, kind: str, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []

    def to(network: Ensemble, *, device: torch.device, memory_format: torch.memory_format) -> Ensemble:
        moved.append(device.type)
        return network

    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(Ensemble, "to", to)
    assert load_bundle(bundle_folder).device.type == kind
    assert moved == [kind]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
def test_graphics_card_gives_the_processors_scores(bundle_folder: Path) -> None:
    images = four_views()
    pixels = pixels_of(images)
    on_card, on_processor = (load_bundle(bundle_folder, torch.device(name)) for name in ("cuda", "cpu"))
    ours, theirs = score_pixels(images, on_card, pixels), score_pixels(images, on_processor, pixels)
    assert ours.score == pytest.approx(theirs.score, abs=1e-3)
    assert ours.top_region_id == theirs.top_region_id


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_is_chosen_where_the_hardware_has_it(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: supported and not including_emulation
    )
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    assert bfloat16_pays(torch.device("cuda")) is supported
    assert bfloat16_pays(torch.device("cpu")) is supported
