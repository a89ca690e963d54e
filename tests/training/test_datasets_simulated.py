"""The adapter of simulated women: what is marked, and what counts as known."""

from __future__ import annotations

from pathlib import Path

import pytest

from screening.errors import ConfigError
from screening.exam import ImageKind, Laterality, View
from tests.support.simulated_images import drawn_image, write_simulated_set
from training.datasets import Record, read_dataset
from training.datasets.pixels import read_pixels

Key = tuple[ImageKind, Laterality, View]


@pytest.fixture
def records(tmp_path: Path) -> dict[Key, Record]:
    write_simulated_set(tmp_path)
    return {(r.kind, r.laterality, r.view): r for r in read_dataset("simulated", tmp_path)}


def kinds(record: Record) -> list[str]:
    return [lesion.kind for lesion in record.lesions or ()]


def test_every_image_becomes_a_record_of_its_kind(records: dict[Key, Record]) -> None:
    assert len(records) == 12
    for (kind, laterality, view), record in records.items():
        pixels = read_pixels(record, frame=2 if kind is ImageKind.DBT else 0)
        assert pixels.shape == drawn_image(kind, laterality, view).pixels.shape[-2:]
        assert (record.age, record.density, record.manufacturer) == (55, "C", "Maker")
        assert record.pixel_spacing_mm == (0.2, 0.2)


def test_lesions_that_a_2d_image_does_not_show_are_marked_in_the_volume_only(records: dict[Key, Record]) -> None:
    left = Laterality.LEFT
    for kind in (ImageKind.FFDM, ImageKind.SYNTHETIC):
        assert kinds(records[kind, left, View.CC]) == ["spiculated mass", "cyst"]
        assert kinds(records[kind, left, View.MLO]) == ["cyst"]
    assert kinds(records[ImageKind.DBT, left, View.MLO]) == ["spiculated mass", "cyst"]


def test_boxes_are_those_of_the_table_and_volumes_have_the_frame(records: dict[Key, Record]) -> None:
    for kind, frame in ((ImageKind.FFDM, None), (ImageKind.DBT, 2)):
        cancer, cyst = records[kind, Laterality.LEFT, View.CC].lesions or ()
        assert (cancer.x, cancer.y, cancer.width, cancer.height) == (10, 20.5, 8, 9)
        assert (cancer.malignant, cancer.frame, cyst.malignant) == (True, frame, False)


def test_a_breast_is_malignant_if_any_of_its_images_shows_the_cancer_and_unknown_if_none_does(
    records: dict[Key, Record],
) -> None:
    for (_, laterality, _), record in records.items():
        assert record.malignant is (True if laterality is Laterality.LEFT else None)


def test_a_simulation_that_was_killed_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "simulation.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not complete; run the same screening simulate again"):
        read_dataset("simulated", tmp_path)


@pytest.mark.parametrize(
    ("table", "was", "becomes", "named"),
    [
        ("images", ",ffdm,", ",film,", "'film'"),
        ("images", ",0.2,", ",fine,", "pixel_mm"),
        ("lesions", "20.5", "low", "column y"),
        ("lesions", ",2.25.", ",2.26.", "which .* lacks"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, table: str, was: str, becomes: str, named: str) -> None:
    write_simulated_set(tmp_path)
    file = tmp_path / f"{table}.csv"
    file.write_text(file.read_text().replace(was, becomes))
    with pytest.raises(ConfigError, match=named):
        read_dataset("simulated", tmp_path)
