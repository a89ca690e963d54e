"""Augmentation: repeatable, physical, and the same for image and lesion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from albumentations import CoarseDropout, Compose, GaussNoise, RandomBrightnessContrast, RandomGamma

import training.augment
from screening.exam import View
from training.augment import augmentation, augmented

ROWS, COLUMNS = 160, 96
SEEDS = range(40)
Y, X = np.mgrid[:ROWS, :COLUMNS]
BREAST = (X / (0.75 * COLUMNS)) ** 2 + ((Y - ROWS / 2) / (0.42 * ROWS)) ** 2 < 1


def breast_with_spot(row: int = 60, column: int = 30) -> tuple[np.ndarray, np.ndarray]:
    spot = (X - column) ** 2 + (Y - row) ** 2 <= 8**2
    image = np.where(BREAST, 0.3, 0).astype(np.float32)
    image[spot] = 0.9
    return image, spot.astype(np.uint8)


@pytest.mark.parametrize("view", [View.CC, View.MLO])
def test_the_same_seed_gives_the_same_image_and_another_seed_another(view: View) -> None:
    image, lesion = breast_with_spot()
    first = [augmented(image, lesion, view, seed) for seed in SEEDS]
    again = [augmented(image, lesion, view, seed) for seed in SEEDS]
    for (a, la), (b, lb) in zip(first, again, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(la, lb)
    assert len({a.tobytes() for a, _ in first}) > 0.95 * len(SEEDS)


def test_steps_happen_independently_of_each_other() -> None:
    image, lesion = breast_with_spot()
    flat = image.copy()
    flat[image > 0] = 0.3
    turned, noisy = [], []
    for seed in range(200):
        out, _ = augmented(flat, lesion, View.MLO, seed)
        inside = cv2.erode((out > 0).astype(np.uint8), np.ones((9, 9))) > 0
        turned.append(not np.array_equal(out > 0, flat > 0))
        noisy.append(np.median(np.abs(np.diff(out, axis=1))[inside[:, 1:]]) > 0)
    still = ~np.array(turned)
    assert 0.03 < still.mean() < 0.2
    # Of the few that keep their pose, as many have noise as of the others (0.4): with one draw for all, none had.
    assert 0.1 < np.array(noisy)[still].mean() < 0.75
    assert 0.3 < np.mean(noisy) < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_air_stays_exactly_0_and_breast_above(seed: int) -> None:
    image, lesion = breast_with_spot()
    out, _ = augmented(image, lesion, View.CC, seed)
    assert out.dtype == np.float32
    assert out.shape == image.shape
    assert out.max() <= 1
    assert out[out > 0].min() >= 1e-3
    # Air and breast are one part each: noise, gamma and blur made no speck of one in the other.
    assert cv2.connectedComponents((out > 0).astype(np.uint8))[0] == 2
    assert 0.4 * BREAST.sum() < np.count_nonzero(out) < 1.5 * BREAST.sum()
    assert not out[:, -1].any()


def only(monkeypatch: pytest.MonkeyPatch, *kinds: type) -> None:
    """Leave only these steps in the pipeline, with their own probabilities and ranges."""
    steps = [step for step in augmentation(View.CC).transforms if isinstance(step, kinds)]
    assert len(steps) == len(kinds)
    monkeypatch.setattr(training.augment, "augmentation", lambda view: Compose(steps))


def test_grey_values_that_8_bits_cannot_tell_apart_stay_apart() -> None:
    image = np.zeros((ROWS, COLUMNS), np.float32)
    image[BREAST] = np.linspace(0.3, 0.34, np.count_nonzero(BREAST))
    assert len(np.unique(np.round(255 * image))) < 20
    for seed in SEEDS:
        out, _ = augmented(image, BREAST.astype(np.uint8), View.CC, seed)
        assert len(np.unique(np.round(65535 * out))) > 256, seed


def test_exposure_and_grey_curves_keep_the_order_of_grey_values_and_the_air_at_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, RandomGamma, RandomBrightnessContrast)
    image = np.linspace(0, 1, ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
    image[:8] = 0
    changed = []
    for seed in SEEDS:
        out, _ = augmented(image, np.zeros((ROWS, COLUMNS), np.uint8), View.CC, seed)
        assert not out[image == 0].any()
        assert (np.diff(out.ravel()) >= 0).all(), seed
        assert len(np.unique(out)) > 0.5 * len(np.unique(image)), seed
        changed.append(not np.allclose(out, image, atol=2e-3))
    assert 0.5 < np.mean(changed) < 1


def test_a_lesions_label_grows_and_shrinks_as_the_breast_does() -> None:
    # Far enough from the border that no change of pose takes part of it away.
    away = np.hypot(X - COLUMNS / 2, Y - ROWS / 2)
    image, lesion = np.where(away <= 32, 0.5, 0).astype(np.float32), (away <= 12).astype(np.uint8)
    ratios = []
    for seed in SEEDS:
        out, label = augmented(image, lesion, View.MLO, seed)
        ratios.append(np.count_nonzero(out) / np.count_nonzero(image))
        assert np.count_nonzero(label) / np.count_nonzero(lesion) == pytest.approx(ratios[-1], rel=0.06), seed
    assert 0.85**2 * 0.97 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < 1.2**2 * 1.03


def test_cut_outs_happen_to_a_fifth_of_the_images_and_are_no_larger_than_a_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, CoarseDropout)
    image, lesion = np.full((ROWS, COLUMNS), 0.5, np.float32), np.ones((ROWS, COLUMNS), np.uint8)
    found = []
    for seed in range(200):
        out, label = augmented(image, lesion, View.CC, seed)
        assert np.array_equal(label, lesion)
        holes, _, boxes, _ = cv2.connectedComponentsWithStats((out != 0.5).astype(np.uint8))
        found.append(holes - 1)
        for _, _, width, height, area in boxes[1:]:
            assert area == width * height
            assert 0.02 * COLUMNS - 1 < width <= 0.08 * COLUMNS
            assert 0.02 * ROWS - 1 < height <= 0.06 * ROWS
    assert 0.1 < np.mean(np.array(found) > 0) < 0.3
    assert set(found) == {0, 1, 2, 3}


@pytest.mark.parametrize("view", [View.CC, View.MLO])
def test_the_lesions_label_moves_with_the_image(view: View) -> None:
    image, lesion = breast_with_spot()
    compared = 0
    for seed in SEEDS:
        out, label = augmented(image, lesion, view, seed)
        bright = cv2.GaussianBlur(out, (0, 0), 1.0)
        bright = bright > (np.median(out[out > 0]) + bright.max()) / 2
        if not label.any() or np.count_nonzero(bright) < 60:
            continue  # moved out of the image, or covered
        compared += 1
        near = cv2.dilate(label, np.ones((5, 5), np.uint8)) > 0
        assert np.count_nonzero(bright & near) > 0.97 * np.count_nonzero(bright), seed
    assert compared > 0.8 * len(SEEDS)


def test_every_lesion_keeps_its_own_number() -> None:
    image, lesion = breast_with_spot(60, 20)
    lesion[100:112, 20:32] = 7
    for seed in SEEDS:
        _, label = augmented(image, lesion, View.MLO, seed)
        assert set(np.unique(label)) <= {0, 1, 7}


def test_an_mlo_is_never_turned_upside_down_and_a_cc_half_of_the_time() -> None:
    # Far above the middle, so that no rotation or shift takes it below.
    image, lesion = breast_with_spot(28, 12)
    below = {}
    for view in (View.MLO, View.CC):
        labels = [augmented(image, lesion, view, seed)[1] for seed in SEEDS]
        below[view] = np.mean([np.nonzero(label)[0].mean() > ROWS / 2 for label in labels if label.any()])
    assert below[View.MLO] == 0
    assert 0.25 < below[View.CC] < 0.75


def test_the_chest_wall_stays_on_the_left() -> None:
    image, lesion = breast_with_spot()
    for seed in SEEDS:
        out, _ = augmented(image, lesion, View.CC, seed)
        assert np.count_nonzero(out[:, : COLUMNS // 2]) > np.count_nonzero(out[:, COLUMNS // 2 :])


def test_images_over_one_another_are_augmented_as_each_would_be_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = {
        view: Compose([step for step in augmentation(view).transforms if not isinstance(step, GaussNoise)])
        for view in (View.CC, View.MLO)
    }
    monkeypatch.setattr(training.augment, "augmentation", quiet.__getitem__)
    lesion = breast_with_spot()[1]
    rng = np.random.default_rng(1)
    stack = np.where(BREAST[..., None], rng.uniform(0.2, 0.8, (ROWS, COLUMNS, 5)), 0).astype(np.float32)
    for seed in SEEDS:
        for view in quiet:
            together, label = augmented(stack, lesion, view, seed)
            assert together.shape == stack.shape
            for number in range(5):
                alone, own_label = augmented(np.ascontiguousarray(stack[..., number]), lesion, view, seed)
                assert np.allclose(together[..., number], alone, atol=1e-6), (seed, number)
                assert np.array_equal(label, own_label)
