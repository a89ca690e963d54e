"""Pasted lesions: where they go, and what they do to pixels and truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screening.exam import View
from tests.support.learning import prepared_set
from training.augment import augmented
from training.batches import UNKNOWN, Collate, Samples
from training.cache import PreparedRecord
from training.datasets.record import Lesion
from training.pasting import Pasting

RECORDS = prepared_set()
NORMALS = [r for r in RECORDS if r.record.malignant is False and not r.record.lesions]


def image_of(prepared: PreparedRecord) -> np.ndarray:
    return prepared.pixels.astype(np.float32) / np.float32(65535)


@given(seed=st.integers(0, 2**31 - 1), index=st.integers(0, len(NORMALS) - 1))
@settings(max_examples=60, deadline=None)
def test_a_pasted_lesion_only_brightens_and_stays_in_the_breast(seed: int, index: int) -> None:
    prepared = NORMALS[index]
    before = image_of(prepared)
    after, labels, pasted = Pasting(RECORDS, 1.0)(before, prepared, seed)
    assert pasted.record.lesions
    assert (after >= before - 1e-6).all()
    assert after.max() <= 1
    assert (after[before == 0] == 0).all()
    assert labels.any()
    assert (before[labels > 0] > 0).all()
    assert after[labels > 0].mean() > before[labels > 0].mean() + 0.02


def test_the_same_seed_pastes_the_same_and_another_seed_elsewhere() -> None:
    pasting = Pasting(RECORDS, 1.0)
    found = [pasting(image_of(NORMALS[0]), NORMALS[0], seed)[0] for seed in (7, 7, 8)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_breasts_with_cancer_or_marked_lesions_are_left_as_they_are() -> None:
    pasting = Pasting(RECORDS, 1.0)
    for prepared in RECORDS:
        if prepared.record.malignant or prepared.record.lesions:
            after, labels, same = pasting(image_of(prepared), prepared, 3)
            assert same is prepared
            assert labels is prepared.lesions
            assert np.array_equal(after, image_of(prepared))


def test_about_the_stated_share_of_the_normal_images_gets_one() -> None:
    pasting = Pasting(RECORDS, 0.3)
    seeds = range(400)
    pasted = [pasting(image_of(NORMALS[0]), NORMALS[0], seed)[2] is not NORMALS[0] for seed in seeds]
    assert np.mean(pasted) == pytest.approx(0.3, abs=0.07)


def test_a_breast_with_a_pasted_lesion_teaches_its_place_and_nothing_of_the_whole() -> None:
    index = RECORDS.index(NORMALS[0])
    batch = Collate(0.4, frozenset())([Samples(RECORDS, pasted=1.0)[index, 5]])
    assert batch.malignant.tolist() == [UNKNOWN]
    assert batch.dense.max() == 1
    assert batch.lesion_weight.sum() == pytest.approx(1)
    assert (batch.dense == 0).any(), "around it, the breast is known to be normal"


def test_without_pasting_samples_are_those_of_before() -> None:
    for index in range(6):
        prepared = RECORDS[index]
        expected = augmented(image_of(prepared), prepared.lesions, View.CC, 11)
        found = Samples(RECORDS)[index, 11]
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])


def test_outlines_known_to_be_wrong_and_lesions_too_small_to_see_are_not_pasted() -> None:
    marked = next(r for r in RECORDS if r.record.lesions)

    def patches(lesion: Lesion, labels: np.ndarray) -> int:
        record = replace(marked.record, lesions=(lesion,))
        return len(Pasting([replace(marked, record=record, lesions=labels)], 1.0).patches)

    (lesion,) = marked.record.lesions or ()
    dot = np.zeros_like(marked.lesions)
    dot[50, 20] = 1
    assert patches(lesion, marked.lesions) == 1
    assert patches(replace(lesion, kind="misplaced"), marked.lesions) == 0
    assert patches(lesion, dot) == 0


def test_lesions_of_which_nobody_knows_whether_they_are_cancer_are_not_pasted() -> None:
    def unknown(one: PreparedRecord) -> PreparedRecord:
        lesions = one.record.lesions and tuple(replace(lesion, malignant=None) for lesion in one.record.lesions)
        return replace(one, record=replace(one.record, lesions=lesions))

    assert Pasting(RECORDS, 1.0).patches
    assert not Pasting([unknown(one) for one in RECORDS], 1.0).patches
