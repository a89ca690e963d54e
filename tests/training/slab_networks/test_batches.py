"""Windows of slabs: the truth is that of the slab in the middle, and its labels lie on the pixels."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import training.slab_networks.batches
from screening.exam import View
from tests.support.slab_learning import BREAST, BRIGHT, Spot, slab_volume
from training.batches import UNKNOWN
from training.slab_networks.batches import FAR_MM, NEAR_MM, SHADOW, STRIDE, WINDOW, SlabSamples, load_slabs, slab_truth
from training.slab_networks.volumes import SlabVolume

BENIGN = 0.15
CELLS = WINDOW // STRIDE


def without_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        training.slab_networks.batches, "augmented", lambda pixels, labels, view, seed: (pixels, labels)
    )


def cells(pixels: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Means over the network's cells."""
    size = (pixels.shape[1] // STRIDE, pixels.shape[0] // STRIDE)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("malignant", [True, False])
@pytest.mark.parametrize("half_mm", [4.0, 12.0])
def test_a_lesion_is_itself_in_its_own_slabs_unknown_in_its_blur_and_a_shadow_far_away(
    malignant: bool, half_mm: float
) -> None:
    volume = slab_volume(Spot(160, 80, 7.0, malignant, half_mm))
    own = max(NEAR_MM, half_mm / 2)
    seen = set()
    for number, centre in enumerate(volume.centres_mm):
        target, weight = slab_truth(volume, number, volume.lesions, BENIGN)
        distance = abs(7.0 - centre)
        marked, taught = target[target != 0], float(weight.sum())
        if distance <= own:
            seen.add("own")
            assert marked.max() == pytest.approx(1.0 if malignant else BENIGN)
            assert (target[weight > 0] == marked.max()).all()
            assert taught == pytest.approx(1)
        elif distance <= half_mm + FAR_MM:
            seen.add("blur")
            assert set(marked) == {UNKNOWN}
            assert taught == 0
        else:
            seen.add("far")
            assert set(marked) == {UNKNOWN}, "nothing is learned of the rim"
            assert taught == pytest.approx(SHADOW)
            assert (target[weight > 0] == 0).all()
    assert seen == {"own", "blur", "far"}


def test_of_two_lesions_a_slab_has_the_one_that_lies_in_it_and_the_shadow_of_the_other() -> None:
    volume = slab_volume(Spot(100, 60, 3.0), Spot(220, 60, 43.0, malignant=False))
    for number, mine in ((0, 1), (10, 2)):
        target, weight = slab_truth(volume, number, volume.lesions, BENIGN)
        mine_share = cells((volume.lesions == mine).astype(np.float32))
        other = cells((volume.lesions == 3 - mine).astype(np.float32)) > 0
        assert target[mine_share > 0.9].max() == pytest.approx(1.0 if mine == 1 else BENIGN)
        assert (target[other] <= 0).all()
        assert weight[other].sum() == pytest.approx(SHADOW)


def test_a_seed_gives_the_same_window_each_time_and_in_another_process() -> None:
    samples = SlabSamples([slab_volume(Spot(160, 80, 20.0)), slab_volume(seed=1)], 1, BENIGN)
    seeds = list(range(6))
    first, again = ([samples[seed] for seed in seeds] for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert len({one[0].tobytes() for one in first}) == len(seeds)
    batches = [seeds[:3], seeds[3:]]
    for workers in (0, 1):
        (loaded, _) = load_slabs(samples, batches, workers)
        assert np.array_equal(loaded.slabs.numpy(), np.stack([one[0] for one in first[:3]]))
        assert np.array_equal(loaded.dense.numpy(), np.stack([one[1] for one in first[:3]]))


def corners(rows: int, columns: int) -> SlabVolume:
    """Lesions where the breast meets the borders of its image, all in one slab."""
    at = [(16, 8), (rows - 17, 8), (rows // 2, columns - 18), (rows // 2, 4)]
    return slab_volume(*(Spot(row, column, 23.0) for row, column in at), rows=rows, columns=columns, view=View.CC)


@pytest.mark.parametrize(("rows", "columns"), [(150, 96), (310, 200), (700, 520)])
def test_windows_at_the_borders_have_their_size_and_their_labels_on_the_pixels(
    monkeypatch: pytest.MonkeyPatch, rows: int, columns: int
) -> None:
    without_augmentation(monkeypatch)
    samples = SlabSamples([corners(rows, columns)], 1, BENIGN)
    with_core = 0
    for seed in range(40):
        slabs, target, weight = samples[seed]
        assert slabs.shape == (3, WINDOW, WINDOW)
        assert target.shape == weight.shape == (CELLS, CELLS)
        bright = cells((slabs[1] > (BREAST + BRIGHT) / 2).astype(np.float32))
        if not bright.any():
            continue  # another slab, or a place without a lesion
        assert (bright[weight > 0] > 0.4).all(), seed
        assert (target[bright > 0.3] != 0).all(), seed
        assert (target[bright == 0] == 0).all(), seed
        with_core += bool(weight.any())
    assert with_core >= 8


def test_all_of_a_small_image_is_in_every_window_and_air_is_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without_augmentation(monkeypatch)
    volume = slab_volume(Spot(75, 40, 23.0), rows=150, columns=96)
    samples = SlabSamples([volume], 0, BENIGN)
    for seed in range(10):
        (slab,), *_ = samples[seed]
        assert np.count_nonzero(slab) == np.count_nonzero(volume.images[0])
        rows, columns = np.nonzero(slab)
        assert (rows.min(), columns.min()) == tuple(side.min() for side in np.nonzero(volume.images[0]))


def test_a_window_of_a_large_image_lies_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without_augmentation(monkeypatch)
    volume = corners(700, 520)
    full = np.full_like(volume.images, 30000)
    volume = SlabVolume(volume.record, full, volume.centres_mm, volume.lesions, volume.heights_mm, volume.halves_mm)
    samples = SlabSamples([volume], 0, BENIGN)
    assert all(samples[seed][0].all() for seed in range(30))


def test_augmentation_turns_labels_with_the_pixels() -> None:
    samples = SlabSamples([slab_volume(Spot(60, 50, 23.0), view=View.CC)], 1, BENIGN)
    compared = 0
    for seed in range(60):
        slabs, target, weight = samples[seed]
        shown = cells(slabs[1])
        if not (target > 0).any() or shown.max() < (BREAST + BRIGHT) / 2:
            continue  # another slab, or the next one, in which the lesion is not drawn
        compared += 1
        breast = np.median(shown[shown > 0])
        assert shown[weight > 0].mean() > 1.5 * breast, seed
    assert compared > 15


def test_the_middle_channel_is_the_slab_that_the_truth_is_of_between_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_augmentation(monkeypatch)
    volume = slab_volume(Spot(160, 80, 20.0), slabs=9)
    for number, image in enumerate(volume.images):
        image[image > 0] = 1000 * (number + 1)
    samples = SlabSamples([volume], 2, BENIGN)
    ends = set()
    for seed in range(120):
        slabs, target, _ = samples[seed]
        shown = [round(float(one.max()) * 65535 / 1000) - 1 for one in slabs]
        number = shown[2]
        assert shown == [min(max(number + offset, 0), 8) for offset in (-2, -1, 0, 1, 2)]
        ends |= {number} & {0, 8}
        if (target > 0).any():
            assert abs(20.0 - volume.centres_mm[number]) <= NEAR_MM
    assert ends == {0, 8}
