"""A data set is scored as a hospital's batch is: volumes, too, are read frame by frame."""

from __future__ import annotations

from pathlib import Path

from screening.exam import ImageKind, Laterality, View
from screening.model.bundle import load_bundle
from screening.result import Status
from tests.support.bundles import tiny_bundle
from tests.support.dicom import write_dicom
from tests.support.volumes import PIXEL_MM, drawn_volume, tomosynthesis
from training.datasets.record import Record
from training.testset import score_dataset

FRAMES, SPOT = 30, (90, 200, 22)


def test_a_volume_of_a_data_set_is_scored_through_all_its_frames(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "volume.dcm", tomosynthesis(drawn_volume(FRAMES, [SPOT], sigma_frames=3.0)))
    volume = Record(
        dataset="bcs-dbt",
        woman="w",
        exam="e",
        image="v",
        path=path,
        laterality=Laterality.LEFT,
        view=View.CC,
        malignant=True,
        lesions=(),
        pixel_spacing_mm=(PIXEL_MM, PIXEL_MM),
        kind=ImageKind.DBT,
    )
    bundle = load_bundle(tiny_bundle(tmp_path / "bundle"))
    (result,) = score_dataset([volume], bundle, tmp_path / "out")
    assert result.status is Status.SCORED
    top = result.images[0].regions[0]
    assert top.x <= SPOT[0] <= top.x + top.width
    assert top.y <= SPOT[1] <= top.y + top.height
    assert abs(top.frame_peak - SPOT[2]) <= 3
    regions = (tmp_path / "out" / "regions.csv").read_text().splitlines()
    assert "frame_peak" in regions[0]
