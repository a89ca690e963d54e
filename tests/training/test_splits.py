"""Folds keep women apart and balanced; a leak, a duplicate or a changed file does not go unseen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screening.errors import ConfigError
from screening.exam import Laterality, View
from tests.support.learning import tiny_recipe
from tests.support.phantoms import synthetic_mammogram
from training.data import prepare_all
from training.datasets import Lesion, Record
from training.splits import check_no_leak, folds, manifest

LESION = Lesion(10, 20, 5, 6, malignant=True)


def make_record(
    woman: str, image: str, *, dataset: str = "a", malignant: bool | None = False, located: bool = False
) -> Record:
    return Record(
        dataset=dataset,
        woman=woman,
        exam=woman,
        image=image,
        path=Path(f"{image}.png"),
        laterality=Laterality.LEFT,
        view=View.CC,
        malignant=malignant,
        lesions=(LESION,) if located else (),
        pixel_spacing_mm=(0.1, 0.1),
    )


@st.composite
def cohorts(draw: st.DrawFn) -> list[Record]:
    women = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b"]), st.sampled_from([True, False, None]), st.booleans(), st.integers(1, 4)
            ),
            min_size=6,
            max_size=40,
        )
    )
    records = [
        make_record(f"w{n}", f"w{n}-{i}", dataset=dataset, malignant=malignant, located=located)
        for n, (dataset, malignant, located, images) in enumerate(women)
        for i in range(images)
    ]
    return draw(st.permutations(records))


@settings(max_examples=40, deadline=None)
@given(records=cohorts(), k=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_every_image_is_tested_once_and_no_woman_is_on_both_sides(records: list[Record], k: int, seed: int) -> None:
    made = folds(records, k, seed)
    assert Counter(record for fold in made for record in fold.test) == Counter(records)
    for fold in made:
        assert Counter(fold.train + fold.test) == Counter(records)
        assert not {record.group for record in fold.train} & {record.group for record in fold.test}


@settings(max_examples=40, deadline=None)
@given(records=cohorts(), k=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_a_set_to_train_on_only_is_in_every_training_and_leaves_the_other_folds_as_they_are(
    records: list[Record], k: int, seed: int
) -> None:
    added = [make_record(f"s{n}", f"s{n}", dataset="simulated", located=True) for n in range(5)]
    plain, more = folds(records, k, seed), folds([*added, *records], k, seed, frozenset({"simulated"}))
    assert [fold.test for fold in more] == [fold.test for fold in plain]
    assert [Counter(fold.train) for fold in more] == [Counter([*fold.train, *added]) for fold in plain]


@settings(max_examples=40, deadline=None)
@given(records=cohorts(), k=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_folds_differ_by_one_woman_at_most_in_every_stratum(records: list[Record], k: int, seed: int) -> None:
    def stratum(record: Record) -> tuple[str, bool, bool]:
        return record.dataset, record.malignant is True, bool(record.lesions)

    made = folds(records, k, seed)
    for wanted in {stratum(record) for record in records} | {None}:
        women = [
            len({record.group for record in fold.test if wanted is None or stratum(record) == wanted}) for fold in made
        ]
        assert max(women) - min(women) <= 1


@settings(max_examples=25, deadline=None)
@given(records=cohorts(), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_folds_depend_on_the_seed_and_not_on_the_order_of_the_records(
    records: list[Record], seed: int, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(records))
    for one, other in zip(folds(records, 3, seed), folds(shuffled, 3, seed), strict=True):
        assert set(one.test) == set(other.test)
    assert folds(records, 3, seed) == folds(records, 3, seed)


def test_another_seed_gives_other_folds() -> None:
    records = [make_record(f"w{n}", f"i{n}") for n in range(40)]
    assert set(folds(records, 4, 0)[0].test) != set(folds(records, 4, 1)[0].test)


@pytest.mark.parametrize("k", [1, 4])
def test_an_impossible_number_of_folds_is_refused(k: int) -> None:
    records = [make_record(f"w{n}", f"i{n}") for n in range(3)]
    with pytest.raises(ConfigError, match=f"{k} folds cannot be made of 3 women"):
        folds(records, k, 0)


def test_a_leak_is_refused_by_the_name_of_the_woman() -> None:
    train, test = [make_record("w1", "left"), make_record("w2", "x")], [make_record("w1", "right")]
    with pytest.raises(ConfigError, match="woman w1 of a is in training and in test"):
        check_no_leak(train, test)


def test_equal_names_in_two_datasets_are_two_women() -> None:
    check_no_leak([make_record("w1", "x", dataset="a")], [make_record("w1", "y", dataset="b")])


def test_the_same_picture_of_two_women_is_refused_whatever_the_file(tmp_path: Path) -> None:
    pixels = (synthetic_mammogram(240, 180, "L", "MLO", seed=1) // 256).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "one.png"), pixels)
    cv2.imwrite(str(tmp_path / "two.pgm"), pixels)
    cv2.imwrite(str(tmp_path / "other.png"), pixels[::-1])
    one = replace(make_record("w1", "one"), path=tmp_path / "one.png", pixel_spacing_mm=(1.0, 1.0))
    again, two = replace(one, image="again"), replace(one, woman="w2", image="two", path=tmp_path / "two.pgm")
    other = replace(one, woman="w3", image="other", path=tmp_path / "other.png")
    recipe = tiny_recipe(cache=tmp_path / "cache")
    assert len(prepare_all([one, again, other], recipe)) == 3
    with pytest.raises(ConfigError, match="The images one of a and two of a are the same, but of two women"):
        prepare_all([one, other, two], recipe)


@pytest.fixture
def stored(tmp_path: Path) -> list[Record]:
    records = []
    for n in range(4):
        path = tmp_path / f"i{n}.png"
        cv2.imwrite(str(path), np.full((4, 4), n, np.uint8))
        records.append(replace(make_record(f"w{n // 2}", f"i{n}", malignant=n == 0, located=n == 0), path=path))
    return records


def test_the_manifest_counts_women_breasts_images_and_lesions(stored: list[Record]) -> None:
    assert manifest(stored)["datasets"] == {
        "a": {
            "images": 4,
            "malignant_images": 1,
            "lesions": 1,
            "women": 2,
            "breasts": 2,
            "malignant_breasts": 1,
        }
    }


def test_the_manifest_hash_forgets_the_order_and_the_folder(stored: list[Record], tmp_path: Path) -> None:
    moved = []
    for record in stored:
        path = tmp_path / "elsewhere" / record.path.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(record.path.read_bytes())
        moved.append(replace(record, path=path))
    assert manifest(stored)["sha256"] == manifest(stored[::-1])["sha256"] == manifest(moved)["sha256"]


@pytest.mark.parametrize(
    "change",
    [
        {"malignant": None},
        {"density": "C"},
        {"lesions": None},
        {"lesions": (replace(LESION, outline=((10, 20), (15, 26), (10, 26))),)},
        {"machine": "49"},
        {"woman": "w9"},
    ],
)
def test_the_manifest_hash_changes_with_a_label(stored: list[Record], change: dict[str, object]) -> None:
    changed = [stored[1], replace(stored[0], **change), *stored[2:]]  # type: ignore[arg-type]
    assert manifest(changed)["sha256"] != manifest(stored)["sha256"]


def test_the_manifest_hash_changes_with_a_file(stored: list[Record]) -> None:
    before = manifest(stored)["sha256"]
    cv2.imwrite(str(stored[2].path), np.full((4, 4), 99, np.uint8))
    assert manifest(stored)["sha256"] != before


def test_the_manifest_hash_changes_with_a_mask_and_not_with_its_place(stored: list[Record], tmp_path: Path) -> None:
    hashes = []
    for name, grey in (("one.png", 1), ("two.png", 1), ("three.png", 2)):
        cv2.imwrite(str(tmp_path / name), np.full((4, 4), grey, np.uint8))
        lesion = replace(LESION, shape="mask", mask_path=tmp_path / name)
        hashes.append(manifest([replace(stored[0], lesions=(lesion,)), *stored[1:]])["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_manifest_names_an_image_that_has_gone(stored: list[Record]) -> None:
    stored[3].path.unlink()
    with pytest.raises(ConfigError, match=r"i3\.png"):
        manifest(stored)
