"""Volumes prepared for learning: lesions on their pixels and at their height, what cannot be used named or left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from screening.imaging.prepare import Preparation
from screening.imaging.slabs import Slabbing
from tests.support.learning import volume
from tests.support.volumes import PIXEL_MM, drawn_volume, write_volume
from training.datasets.record import Lesion, Record
from training.slab_networks.volumes import prepare_volumes, teaches

SLABBING = Slabbing(6.0, 4.0)
SPOTS = ((90, 200, 30), (60, 110, 8))
FRAMES = 40


def lesion(column: int, row: int, frame: int | None, width: int = 24) -> Lesion:
    return Lesion(column - width / 2, row - 12, width, 24, shape="ellipse", malignant=True, frame=frame)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A volume with two lesions, one above the other's slabs."""
    path = tmp_path_factory.mktemp("volume") / "volume.dcm"
    write_volume(path, drawn_volume(FRAMES, SPOTS, sigma_frames=2.0))
    return volume(*(lesion(*spot) for spot in SPOTS), path=path)


def test_each_lesion_is_brightest_on_its_label_in_the_slab_nearest_to_its_height(
    record: Record, tmp_path: Path
) -> None:
    (made,), problems = prepare_volumes([record], Preparation(0.8), SLABBING, tmp_path)
    assert not problems
    assert made.images.shape[1:] == made.lesions.shape
    assert len(made.images) == len(made.centres_mm) > 6
    assert made.heights_mm.tolist() == [30.0, 8.0], "frames are 1 mm apart"
    assert made.halves_mm == pytest.approx([12 * PIXEL_MM] * 2)
    around = made.images[0] > 0
    for number, height in enumerate(made.heights_mm, start=1):
        place = made.lesions == number
        contrast = [image[place].mean() - image[around & (made.lesions == 0)].mean() for image in made.images]
        assert int(np.argmax(contrast)) == int(np.abs(made.centres_mm - height).argmin())
        gained = made.images[int(np.argmax(contrast))] - made.images[-1 if number == 2 else 0].astype(float)
        rows, columns = np.nonzero(place)
        bright = np.nonzero(gained > 0.5 * gained.max())
        assert (bright[0].mean(), bright[1].mean()) == pytest.approx((rows.mean(), columns.mean()), abs=1.0)


def test_a_prepared_copy_is_taken_until_lesions_or_slabs_change(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, _ = prepare_volumes([record], Preparation(0.8), SLABBING, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("training.slab_networks.volumes.load_volume", None)
        (again,), _ = prepare_volumes([record], Preparation(0.8), SLABBING, tmp_path)
    assert np.array_equal(once[0].images, again.images)
    assert np.array_equal(once[0].lesions, again.lesions)
    moved = replace(record, lesions=(lesion(90, 200, 12),))
    (other,), _ = prepare_volumes([moved], Preparation(0.8), SLABBING, tmp_path)
    assert other.heights_mm.tolist() == [12.0]
    (finer,), _ = prepare_volumes([record], Preparation(0.8), Slabbing(6.0, 2.0), tmp_path)
    assert len(finer.images) > len(once[0].images)


def test_half_a_lesions_depth_is_half_its_narrower_side(record: Record, tmp_path: Path) -> None:
    narrow = replace(record, lesions=(lesion(90, 200, 30, width=10),))
    (made,), _ = prepare_volumes([narrow], Preparation(0.8), SLABBING, tmp_path)
    assert made.halves_mm == pytest.approx([5 * PIXEL_MM])


@pytest.mark.parametrize("frame", [FRAMES, -1])
def test_a_lesion_on_a_frame_that_the_volume_lacks_and_a_broken_file_are_one_sentence_each(
    record: Record, tmp_path: Path, frame: int
) -> None:
    (tmp_path / "broken.dcm").write_bytes(b"no volume")
    broken = replace(volume(path=tmp_path / "broken.dcm", malignant=False), image="b")
    beyond = replace(record, lesions=(lesion(90, 200, frame),))
    made, problems = prepare_volumes([broken, beyond, record], Preparation(0.8), SLABBING, tmp_path / "cache")
    assert [one.record for one in made] == [record]
    assert len(problems) == 2
    assert problems[0].startswith("simulated b: ")
    assert f"frame {frame}, but the frames are 0 to 39" in problems[1]
    assert not list((tmp_path / "cache").glob("*.part"))


def test_volumes_whose_lesions_have_no_known_place_or_no_mark_teach_nothing(record: Record) -> None:
    unplaced = replace(record, lesions=(lesion(90, 200, None),))
    unmarked = replace(record, lesions=(), malignant=None)
    useless = [unplaced, unmarked, replace(unmarked, malignant=True), replace(record, lesions=None)]
    assert not any(teaches(one) for one in useless)
    assert teaches(record)
    assert teaches(replace(unmarked, malignant=False)), "normal tissue"
