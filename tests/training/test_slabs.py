"""Slabs of volumes to learn from: the one that shows the lesion, with the lesion where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from screening.errors import ImageError
from screening.exam import ImageKind
from screening.imaging.prepare import Preparation
from tests.support.dicom import write_dicom
from tests.support.learning import volume
from tests.support.volumes import drawn_volume, tomosynthesis
from training.cache import prepare_records
from training.datasets.record import Lesion
from training.slabs import prepared_slab, with_slabs

COLUMN, ROW, FRAMES = 90, 200, 40


def lesion(frame: int | None, *, malignant: bool = True) -> Lesion:
    return Lesion(COLUMN - 12, ROW - 12, 24, 24, shape="ellipse", malignant=malignant, frame=frame)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volume") / "volume.dcm"
    return write_dicom(path, tomosynthesis(drawn_volume(FRAMES, [(COLUMN, ROW, 30)], sigma_frames=3.0)))


def test_each_lesion_has_its_slab_with_all_that_lies_in_it() -> None:
    near, far = lesion(12, malignant=False), lesion(30)
    slabs = with_slabs([volume(lesion(10), near, far)])
    assert [one.frame for one in slabs] == [10, 12, 30]
    assert [len(one.lesions or ()) for one in slabs] == [2, 2, 1]
    assert len({one.image for one in slabs}) == 3


def test_a_benign_slab_of_a_breast_with_cancer_says_nothing_of_the_breast() -> None:
    slabs = with_slabs([volume(lesion(5, malignant=False), lesion(30))])
    assert [one.malignant for one in slabs] == [None, True]


def test_a_volume_without_lesions_is_a_slab_and_one_with_unknown_places_is_left_out() -> None:
    healthy, unknown = volume(malignant=False), replace(volume(), lesions=None)
    assert with_slabs([healthy, unknown, volume(lesion(None))]) == [healthy]


def test_images_in_two_dimensions_stay_as_they_are() -> None:
    flat = replace(volume(lesion(None)), kind=ImageKind.FFDM)
    assert with_slabs([flat]) == [flat]


def test_the_slab_shows_the_lesion_and_its_label_covers_it(file: Path, tmp_path: Path) -> None:
    shown, elsewhere = (replace(volume(lesion(30), path=file), frame=frame) for frame in (30, 6))
    (one, other), problems = prepare_records([shown, elsewhere], Preparation(0.5), tmp_path)
    assert not problems
    assert one.pixels.shape == one.lesions.shape == other.pixels.shape
    place = one.lesions > 0
    assert place.any()
    gained = one.pixels.astype(np.int64) - other.pixels
    assert gained[place].mean() > 3 * max(1.0, float(np.abs(gained[~place]).mean()))


def test_volumes_without_lesions_are_learned_from_at_all_depths_and_each_always_at_the_same(file: Path) -> None:
    healthy = [replace(volume(path=file, malignant=False), image=f"v{number}") for number in range(24)]
    slabs = [prepared_slab(one, Preparation(0.5))[0].pixels for one in healthy]
    again = prepared_slab(healthy[0], Preparation(0.5))[0].pixels
    assert (slabs[0] == again).all()
    assert len({pixels.tobytes() for pixels in slabs}) >= 4


def test_a_volume_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.dcm").write_bytes(b"no volume")
    with pytest.raises(ImageError, match=r"broken\.dcm"):
        prepared_slab(volume(path=tmp_path / "broken.dcm"), Preparation(0.5))
