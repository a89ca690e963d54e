"""Samples, their order in an epoch, and the truth that a batch carries."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from screening.imaging.geometry import Geometry
from screening.model.network import MammogramNet
from tests.support.learning import COLUMNS, ROWS, prepared_set, record
from training.batches import UNKNOWN, Collate, EpochOrder, Samples, dense_truth, load_batches
from training.cache import PreparedRecord
from training.datasets.record import Lesion

STRIDE = MammogramNet.STRIDE


def sized(number: int, rows: int, **changes: Any) -> PreparedRecord:
    pixels, labels = np.zeros((rows, 32), np.uint16), np.zeros((rows, 32), np.uint8)
    return PreparedRecord(record(number, **changes), pixels, labels, Geometry(0, 0, 32, rows, 32, rows))


def mixed(positives: int, located: int, normals: int, seed: int = 0) -> list[PreparedRecord]:
    rows = np.random.default_rng(seed).integers(32, 320, positives + located + normals)
    facts: list[dict[str, Any]] = [{"malignant": True}] * positives + [{"lesions": ()}] * located + [{}] * normals
    return [sized(i, int(r), **f) for i, (r, f) in enumerate(zip(rows, facts, strict=True))]


mixtures = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 30))


@given(mixture=mixtures, batch_size=st.integers(1, 9), seed=st.integers(0, 99), epoch=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_a_pure_function_of_seed_and_epoch(
    mixture: tuple[int, int, int], batch_size: int, seed: int, epoch: int
) -> None:
    records = mixed(*mixture)
    used = EpochOrder(records, batch_size, 1.0, seed)
    for earlier in range(epoch):
        used.batches(earlier)
    assert used.batches(epoch) == EpochOrder(records, batch_size, 1.0, seed).batches(epoch)


@given(mixture=mixtures, batch_size=st.integers(1, 9), epoch=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_cancer_and_every_image_with_places_is_in_each_epoch_once(
    mixture: tuple[int, int, int], batch_size: int, epoch: int
) -> None:
    positives, located, _ = mixture
    order = EpochOrder(mixed(*mixture), batch_size, 1.0, seed=1)
    batches = order.batches(epoch)
    indices = [index for batch in batches for index, _ in batch]
    assert len(batches) == order.steps
    assert len(indices) == len(set(indices))
    assert set(range(positives + located)) <= set(indices)
    assert all(0 < len(batch) <= batch_size for batch in batches)


def test_an_image_with_known_places_comes_as_often_as_its_set_asks() -> None:
    records = [sized(i, 64, lesions=(), dataset="mias") for i in range(3)]
    records += [sized(i, 64, malignant=True, dataset="rsna") for i in (3, 4)]
    keys = [key for batch in EpochOrder(records, 4, 1.0, 0, {"mias": 3, "rsna": 5}).batches(0) for key in batch]
    assert Counter(index for index, _ in keys) == {0: 3, 1: 3, 2: 3, 3: 1, 4: 1}
    assert len({seed for _, seed in keys}) == len(keys)


def test_epochs_differ_in_normals_and_in_augmentation() -> None:
    order = EpochOrder(mixed(10, 0, 200), 5, 1.0, seed=1)
    first, second = ({key for batch in order.batches(epoch) for key in batch} for epoch in (0, 1))
    normals = [{index for index, _ in keys if index >= 10} for keys in (first, second)]
    assert len(normals[0]) == len(normals[1]) == 10
    assert normals[0] != normals[1]
    assert not first & second


def test_normals_are_drawn_in_the_ratio_asked_for() -> None:
    for ratio in (0.5, 1.0, 3.0):
        order = EpochOrder(mixed(20, 0, 200), 1, ratio, seed=1)
        assert order.steps == 20 + round(20 * ratio)


def test_batches_of_like_sizes_need_less_padding_than_random_ones() -> None:
    records = mixed(100, 100, 200)
    sizes = np.array([r.pixels.shape[0] for r in records])

    def padding(batches: list[list[int]]) -> int:
        return sum(int(sizes[b].max() * len(b) - sizes[b].sum()) for b in batches)

    batches = [[index for index, _ in batch] for batch in EpochOrder(records, 8, 1.0, seed=1).batches(0)]
    shuffled = np.random.default_rng(0).permutation([i for b in batches for i in b]).reshape(-1, 8).tolist()
    assert padding(batches) < 0.5 * padding(shuffled)


def lesion_map(*boxes: tuple[int, int, int, int]) -> tuple[tuple[Lesion, ...], np.ndarray]:
    labels = np.zeros((ROWS, COLUMNS), np.uint8)
    for index, (x, y, width, height) in enumerate(boxes):
        labels[y : y + height, x : x + width] = index + 1
    return tuple(Lesion(*box, malignant=True) for box in boxes), labels


def test_cancer_of_unknown_place_says_nothing_about_any_place() -> None:
    target, weight = dense_truth(record(1, malignant=True), np.zeros((ROWS, COLUMNS), np.uint8), 0.4)
    assert (target == UNKNOWN).all()
    assert not weight.any()


@pytest.mark.parametrize("lesions", [None, ()])
def test_every_place_of_a_breast_without_cancer_is_normal(lesions: tuple[Lesion, ...] | None) -> None:
    target, weight = dense_truth(record(1, malignant=False, lesions=lesions), np.zeros((ROWS, COLUMNS), np.uint8), 0.4)
    assert target.shape == weight.shape == (ROWS // STRIDE, COLUMNS // STRIDE)
    assert not target.any()
    assert not weight.any()


@given(x=st.integers(0, 50), y=st.integers(0, 80), width=st.integers(1, 60), height=st.integers(1, 90))
@settings(max_examples=80, deadline=None)
def test_each_lesion_weighs_1_whatever_its_size(x: int, y: int, width: int, height: int) -> None:
    width, height = min(width, COLUMNS - x), min(height, ROWS - y)
    lesions, labels = lesion_map((x, y, width, height))
    target, weight = dense_truth(record(1, malignant=True, lesions=lesions), labels, 0.4)
    assert weight.sum() == pytest.approx(1.0)
    assert (target[weight > 0] == 1).all()
    rows, columns = np.nonzero(weight)
    assert (rows * STRIDE < y + height).all()
    assert ((rows + 1) * STRIDE > y).all()
    assert (columns * STRIDE < x + width).all()
    assert ((columns + 1) * STRIDE > x).all()


def test_two_lesions_that_share_a_cell_weigh_2_and_the_malignant_one_stays_malignant() -> None:
    _, labels = lesion_map((8, 8, 4, 8), (12, 8, 4, 8))
    for order in ((True, False), (False, True)):
        lesions = tuple(Lesion(8 + 4 * i, 8, 4, 8, malignant=malignant) for i, malignant in enumerate(order))
        target, weight = dense_truth(record(1, malignant=True, lesions=lesions), labels, 0.4)
        assert weight.sum() == pytest.approx(2.0)
        assert target[1, 1] == 1


def test_a_benign_lesion_has_its_own_target_and_its_rim_none() -> None:
    _, labels = lesion_map((8, 8, 40, 40))
    lesions = (Lesion(8, 8, 40, 40, malignant=False),)
    target, _ = dense_truth(record(1, lesions=lesions), labels, 0.4)
    assert target[3, 3] == pytest.approx(0.4)
    assert target[1, 1] == UNKNOWN
    assert target[10, 7] == 0


def test_an_outline_beside_the_lesion_teaches_nothing_within_it() -> None:
    _, labels = lesion_map((8, 8, 40, 40))
    lesions = (Lesion(8, 8, 40, 40, malignant=True, kind="misplaced"),)
    target, weight = dense_truth(record(1, malignant=True, lesions=lesions), labels, 0.4)
    assert not weight.any()
    assert (target[1:6, 1:6] == UNKNOWN).all()


def test_a_batch_is_padded_with_air_to_multiples_of_32_and_keeps_each_image() -> None:
    records = [sized(0, 40), sized(1, 75)]
    for prepared in records:
        prepared.pixels[:] = 40_000
    batch = Collate(0.4, frozenset())([Samples(records)[i, None] for i in range(2)])
    assert batch.images.shape == (2, 1, 96, 32)
    assert batch.dense.shape == batch.lesion_weight.shape == (2, 12, 4)
    assert torch.allclose(batch.images[0, 0, :40], torch.tensor(40_000 / 65535))
    assert not batch.images[0, 0, 40:].any()


def test_truth_per_image_and_density_stand_where_they_are_known() -> None:
    records = [
        sized(0, 32, malignant=True, density="A"),
        sized(1, 32, malignant=False, density="D"),
        sized(2, 32, malignant=None),
        sized(3, 32, malignant=True, dataset="cesm", lesions=()),
    ]
    records.append(sized(4, 32, dataset="simulated", density="B"))
    collate = Collate(0.4, frozenset({"cesm"}), frozenset({"simulated"}))
    batch = collate([Samples(records)[i, None] for i in range(5)])
    assert batch.malignant.tolist()[:4] == [1, 0, UNKNOWN, UNKNOWN]
    assert batch.density.tolist() == [0, 3, -1, -1, -1]


def test_benign_lesions_of_a_data_set_may_have_a_target_of_their_own() -> None:
    labels = lesion_map((8, 8, 40, 40))[1]
    found = []
    for dataset in ("mias", "simulated"):
        lesions = (Lesion(8, 8, 40, 40, malignant=False),)
        prepared = replace(sized(0, labels.shape[0], lesions=lesions, dataset=dataset), lesions=labels)
        prepared = replace(prepared, pixels=np.full(labels.shape, 40_000, np.uint16))
        batch = Collate(0.6, frozenset(), benign_targets={"simulated": 0.1})([Samples([prepared])[0, None]])
        found.append(float(batch.dense.max()))
    assert found == pytest.approx([0.6, 0.1])


def test_worker_processes_give_the_same_batches_in_the_same_order() -> None:
    records = prepared_set(12)
    order, collate = EpochOrder(records, 4, 1.0, seed=3), Collate(0.4, frozenset())
    alone, helped = (list(load_batches(Samples(records), order.batches(0), collate, n)) for n in (0, 2))
    assert len(alone) == len(helped) == order.steps
    assert all(torch.equal(a.images, b.images) for a, b in zip(alone, helped, strict=True))


def test_a_lesion_of_which_nobody_knows_teaches_neither_cancer_nor_its_absence() -> None:
    _, labels = lesion_map((8, 8, 40, 40))
    lesions = (Lesion(8, 8, 40, 40, malignant=None),)
    target, weight = dense_truth(record(1, malignant=None, lesions=lesions), labels, 0.4)
    assert not weight.any()
    assert (target[1:6, 1:6] == UNKNOWN).all()
    assert target[10, 7] == 0
