"""A data set is scored as a hospital's batch is: volumes, too, are read frame by frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.hits import centre_in_lesion, match
from screening.model.bundle import load_bundle
from screening.result import ExamResult, ImageResult, Region, Status
from tests.support.bundles import tiny_bundle
from tests.support.dicom import write_dicom
from tests.support.learning import record, volume, write_mias
from tests.support.volumes import drawn_volume, tomosynthesis
from tests.training.conftest import run
from training.datasets.record import Lesion
from training.exams import as_image
from training.testset import score_dataset
from training.truth import localised

FRAMES, SPOT = 30, (90, 200, 22)


def test_a_volume_of_a_data_set_is_scored_through_all_its_frames(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "volume.dcm", tomosynthesis(drawn_volume(FRAMES, [SPOT], sigma_frames=3.0)))
    bundle = load_bundle(tiny_bundle(tmp_path / "bundle"))
    (result,) = score_dataset([volume(path=path)], bundle, tmp_path / "out")
    assert result.status is Status.SCORED
    top = result.images[0].regions[0]
    assert top.x <= SPOT[0] <= top.x + top.width
    assert top.y <= SPOT[1] <= top.y + top.height
    assert abs(top.frame_peak - SPOT[2]) <= 3
    regions = (tmp_path / "out" / "regions.csv").read_text().splitlines()
    assert "frame_peak" in regions[0]


@pytest.mark.parametrize("malignant_only", [True, False])
def test_a_mark_on_a_lesion_of_which_nobody_knows_counts_nowhere_in_figures_on_cancers(malignant_only: bool) -> None:
    truths, shown = (True, False, None), (10.0, 110.0, 210.0, 310.0)
    lesions = tuple(Lesion(x, 10, 40, 40, malignant=truth) for x, truth in zip(shown[:3], truths, strict=True))
    known = record(1, malignant=True, lesions=lesions)
    image = as_image(known)
    regions = tuple(
        Region(f"r{x}", image.image_id, image.laterality, image.view, x, 10, 40, 40, (), 0.5, 1) for x in shown
    )
    images = (ImageResult(image, Status.SCORED, None, 0.5, regions),)
    result = ExamResult("e", "w", None, "", "", "model", Status.SCORED, images=images)
    found = localised([result], {image.image_id: known}, known.dataset, malignant_only)
    matches = match(found.regions, found.lesions, centre_in_lesion)
    if malignant_only:
        assert found.lesions.target.tolist() == [True, False, False]
        assert matches.false_positive.tolist() == [False, True, False, True]
        assert matches.lesion_region.tolist() == [0, -1, -1]
    else:
        assert found.lesions.target.all()
        assert matches.false_positive.tolist() == [False, False, False, True]
        assert matches.lesion_region.tolist() == [0, 1, 2]


def test_women_kept_back_without_truth_are_scored(tmp_path: Path) -> None:
    root = write_mias(tmp_path / "mias", women=2)
    lines = (root / "lesions.csv").read_text().splitlines()
    (root / "lesions.csv").write_text("\n".join(",".join(line.split(",")[:4]) for line in lines))
    bundle = tiny_bundle(tmp_path / "bundle")
    done = run("test", "--data", f"mias:{root}", "--model", bundle, "--out", tmp_path / "out", "--workers", 1)
    assert done.exit_code == 0, done.output
    exams = (tmp_path / "out" / "exams.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in exams] == ["exam_id", "mias-1", "mias-2"]
