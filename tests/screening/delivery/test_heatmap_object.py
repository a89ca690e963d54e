from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import highdicom as hd
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from screening.delivery.context import Delivery
from screening.delivery.heatmap_object import heatmaps
from screening.delivery.objects import encoded, written
from screening.result import Heatmap, ImageResult, Status
from tests.support.deliveries import CASES, FRAMES, SHA256, delivery
from tests.support.validators import dciodvfy, dcmdump, needs

BOX = (7.5, 11.0, 60.0, 88.0)
"""x, y, width, height in source pixels: cells of 10 by 8 pixels."""


def values(seed: int = 0) -> npt.NDArray[np.float32]:
    """Probabilities as they are in screening: most below 0.005, one at 0.7."""
    rng = np.random.default_rng(seed)
    probabilities = rng.uniform(0, 0.005, (11, 6)).astype(np.float32)
    probabilities[3, 2] = 0.7
    return probabilities


def heated(delivered: Delivery, heat: npt.NDArray[np.float32] | None = None) -> Delivery:
    """The delivery with a heatmap of every scored image."""

    def with_heatmap(number: int, one: ImageResult) -> ImageResult:
        probabilities = values(number) if heat is None else heat
        return replace(one, heatmap=Heatmap(probabilities, *BOX)) if one.status is Status.SCORED else one

    sources = tuple(replace(one, result=with_heatmap(n, one.result)) for n, one in enumerate(delivered.sources))
    images = tuple(source.result for source in sources)
    return replace(delivered, sources=sources, result=replace(delivered.result, images=images))


def read_back(delivered: Delivery, folder: Path) -> list[hd.pm.ParametricMap]:
    paths = [written(one, folder / "out") for one in heatmaps(delivered)]
    return [hd.pm.ParametricMap.from_dataset(dcmread(path)) for path in paths]


def test_probabilities_come_back(tmp_path: Path) -> None:
    delivered = heated(delivery(tmp_path, CASES["2d"]))
    maps = read_back(delivered, tmp_path)
    assert len(maps) == 4
    for number, one in enumerate(maps):
        read = one.get_frame(1, apply_real_world_transform=True)
        np.testing.assert_allclose(read, values(number), atol=1e-5)


def test_small_probabilities_keep_their_differences(tmp_path: Path) -> None:
    """As in the map of an ordinary image, all below any operating point."""
    heat = values()[:3] / np.float32(100)
    delivered = heated(delivery(tmp_path, CASES["2d"]), heat)
    point = delivered.point.model_copy(update={"threshold": 1e-4})
    (read, *_) = read_back(replace(delivered, point=point), tmp_path)
    np.testing.assert_allclose(read.get_frame(1, apply_real_world_transform=True), heat, atol=1e-8)


def test_viewers_show_black_to_white_up_to_the_operating_point(tmp_path: Path) -> None:
    delivered = heated(delivery(tmp_path, CASES["2d"]))
    shown = read_back(delivered, tmp_path)[0].get_frame(
        1, apply_real_world_transform=False, apply_voi_transform=True, voi_output_range=(0.0, 1.0)
    )
    expected = np.minimum(values(0) / delivered.point.threshold, 1)
    np.testing.assert_allclose(shown, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("orientation", "along", "down"),
    [
        (("A", "R"), (0, -1, 0), (-1, 0, 0)),
        (("P", "FL"), (0, 1, 0), (0, 0, -1)),
        ((), (1, 0, 0), (0, 1, 0)),
        (("A", "P"), (1, 0, 0), (0, 1, 0)),
    ],
)
def test_cells_lie_on_the_source_pixels_that_they_cover(
    tmp_path: Path, orientation: tuple[str, ...], along: tuple[int, ...], down: tuple[int, ...]
) -> None:
    delivered = heated(delivery(tmp_path, CASES["2d"]))
    source = delivered.sources[0]
    image = replace(source.result.image, patient_orientation=orientation, pixel_spacing_mm=(0.07, 0.09))
    turned = replace(delivered, sources=(replace(source, result=replace(source.result, image=image)),))
    (read,) = read_back(turned, tmp_path)
    to_plane = hd.spatial.PixelToReferenceTransformer(**geometry(read))
    # The source's plane: its own first pixel at the origin.
    from_plane = hd.spatial.ReferenceToPixelTransformer((0, 0, 0), (*along, *down), (0.07, 0.09), round_output=False)
    rows, columns = np.indices((read.Rows, read.Columns))
    cells = np.stack([columns.ravel(), rows.ravel()], axis=1)
    x, y, width, height = BOX
    centres = (cells + 0.5) * (width / 6, height / 11) + (x, y)
    # Our coordinates count from a pixel's edge, DICOM's transform from its centre.
    np.testing.assert_allclose(from_plane(to_plane(cells))[:, :2] + 0.5, centres, atol=1e-6)


def geometry(read: Dataset) -> dict[str, Any]:
    shared, frame = read.SharedFunctionalGroupsSequence[0], read.PerFrameFunctionalGroupsSequence[0]
    return {
        "image_position": tuple(frame.PlanePositionSequence[0].ImagePositionPatient),
        "image_orientation": tuple(shared.PlaneOrientationSequence[0].ImageOrientationPatient),
        "pixel_spacing": tuple(shared.PixelMeasuresSequence[0].PixelSpacing),
    }


def test_a_volumes_map_lies_in_the_frame_of_its_most_suspicious_region(tmp_path: Path) -> None:
    delivered = heated(delivery(tmp_path, CASES["dbt"]))
    read = read_back(delivered, tmp_path)[0]
    assert read.FrameOfReferenceUID == "1.2.826.0.1.3680043.10.1.77"
    x, y, width, height = BOX
    # Rows run along y and columns along x, with pixels of 0.1 mm; the peak is on the sixth frame.
    expected = (10 + 0.1 * (y + height / 22 - 0.5), 20 + 0.1 * (x + width / 12 - 0.5), 5)
    assert geometry(read)["image_position"] == pytest.approx(expected)
    derivation = read.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    assert derivation.SourceImageSequence[0].ReferencedFrameNumber == 6


def test_each_map_refers_to_its_source_and_a_mammograms_has_a_frame_of_reference_of_its_own(tmp_path: Path) -> None:
    delivered = heated(delivery(tmp_path, CASES["partly-rejected"]))
    maps = read_back(delivered, tmp_path)
    scored = [source for source in delivered.sources if source.result.status is Status.SCORED]
    for read, source in zip(maps, scored, strict=True):
        (series,) = read.ReferencedSeriesSequence
        (instance,) = series.ReferencedInstanceSequence
        assert series.SeriesInstanceUID == source.header.SeriesInstanceUID
        assert instance.ReferencedSOPInstanceUID == source.sop_instance
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID"):
            assert read[keyword] == source.header[keyword]
    assert len({read.FrameOfReferenceUID for read in maps}) == len(maps)
    assert len({read.SeriesInstanceUID for read in maps}) == 1


def test_made_again_maps_are_the_same(tmp_path: Path) -> None:
    one, other = (heatmaps(heated(delivery(tmp_path, CASES["2d"]))) for _ in range(2))
    assert [encoded(each) for each in one] == [encoded(each) for each in other]


def test_without_heatmaps_there_are_no_maps(tmp_path: Path) -> None:
    assert heatmaps(delivery(tmp_path, CASES["2d"])) == ()
    assert heatmaps(heated(delivery(tmp_path, CASES["rejected"]))) == ()


def test_a_map_of_nothing_is_black(tmp_path: Path) -> None:
    delivered = heated(delivery(tmp_path, CASES["2d"]), np.zeros((2, 3), np.float32))
    point = delivered.point.model_copy(update={"threshold": 0.0})
    (read, *_) = read_back(replace(delivered, point=point), tmp_path)
    assert not read.get_frame(1, apply_real_world_transform=True).any()


@needs("dcmdump", "dciodvfy")
@pytest.mark.parametrize("case", CASES)
def test_validators_find_nothing_and_dcmtk_shows_it(tmp_path: Path, case: str) -> None:
    delivered = heated(delivery(tmp_path, CASES[case]))
    made = heatmaps(delivered)
    assert len(made) == [one.status for one in delivered.result.images].count(Status.SCORED)
    for one in made:
        path = written(one, tmp_path / "out")
        assert dciodvfy(path) == []
        assert SHA256 in dcmdump(path)
        subprocess.run(["dcmj2pnm", "+Wm", str(path), str(tmp_path / "shown.pgm")], check=True)
        shown = cv2.imread(str(tmp_path / "shown.pgm"), cv2.IMREAD_UNCHANGED)
        assert shown is not None
        assert shown.argmax() == 3 * shown.shape[1] + 2


@needs("dciodvfy")
@pytest.mark.filterwarnings("ignore")
def test_hostile_headers_do_not_stop_the_maps(tmp_path: Path) -> None:
    header = {
        "PatientName": "<script>alert(1)</script>^" + "A" * 300,
        "PatientID": "../../etc/passwd",
        "FrameOfReferenceUID": "not a uid",
        "SharedFunctionalGroupsSequence": Sequence([Dataset()]),
        "PerFrameFunctionalGroupsSequence": Sequence(Dataset() for _ in range(FRAMES)),
        "PatientOrientation": ["Q\u00e9", "<b>"],
    }
    for one in heatmaps(heated(delivery(tmp_path, replace(CASES["dbt"], header=header)))):
        path = written(one, tmp_path / "out")
        assert path.name == f"{one.SOPInstanceUID}.dcm"
        assert dciodvfy(path) == []
