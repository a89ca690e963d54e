"""The TID 1500 report: read by highdicom as it was meant, valid by independent programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from highdicom.sr import ComprehensiveSR, srread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from screening.delivery.cad_sr import cad_sr
from screening.delivery.context import DISCLAIMER, Delivery
from screening.delivery.measurement_report import measurement_report
from screening.delivery.objects import encoded, written
from tests.support.deliveries import CASES, SHA256, Case, delivery, rejected_instance
from tests.support.sr import evidence, named, number, texts, value
from tests.support.validators import dciodvfy, dcmdump, dsrdump, needs, sr_validator

CERTAINTY = Code("111012", "DCM", "Certainty of Finding")


def report(folder: Path, case: Case, operating_point: str = "recall-10") -> tuple[Delivery, ComprehensiveSR, Path]:
    """The delivery of a case and its report, written and read back by highdicom."""
    one = delivery(folder / "sources", case, operating_point, [rejected_instance()])
    path = written(measurement_report(one), folder / "objects")
    dataset = srread(path)
    assert isinstance(dataset, ComprehensiveSR)
    return one, dataset, path


def test_highdicom_reads_planar_regions_back(tmp_path: Path) -> None:
    one, dataset, _ = report(tmp_path, CASES["2d"])
    shown = one.marked
    assert 0 < len(shown) < len(one.result.regions)
    groups = dataset.content.get_planar_roi_measurement_groups()
    assert {str(group.tracking_uid) for group in groups} == {one.region_uid(region) for region in shown}
    for region in shown:
        (group,) = dataset.content.get_planar_roi_measurement_groups(tracking_uid=one.region_uid(region))
        assert np.allclose(group.roi.value, [*region.contour, region.contour[0]])
        (source,) = group.roi.ContentSequence
        assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == region.image_id
        (certainty,) = group.get_measurements(CERTAINTY)
        assert certainty.value == pytest.approx(100 * region.score)
        (site,) = group.finding_sites
        assert site.laterality.meaning == {"L": "Left", "R": "Right"}[region.laterality]


def test_highdicom_reads_volumetric_regions_back_frame_by_frame(tmp_path: Path) -> None:
    one, dataset, _ = report(tmp_path, CASES["dbt"])
    shown = one.marked
    assert 0 < len(shown) < len(one.result.regions)
    groups = dataset.content.get_volumetric_roi_measurement_groups()
    assert {str(group.tracking_uid) for group in groups} == {one.region_uid(region) for region in shown}
    assert not dataset.content.get_planar_roi_measurement_groups()
    for region in shown:
        (group,) = dataset.content.get_volumetric_roi_measurement_groups(tracking_uid=one.region_uid(region))
        frames = [outline.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber for outline in group.roi]
        assert frames == [4, 5, 6, 7]
        for outline in group.roi:
            assert np.allclose(outline.value, [*region.contour, region.contour[0]])


def test_region_has_the_tracking_identifier_of_the_cad_report(tmp_path: Path) -> None:
    one, dataset, _ = report(tmp_path, CASES["partly-rejected"])
    cad = {item.UID for item in named(cad_sr(one), "112040")}
    regions = {str(group.tracking_uid) for group in dataset.content.get_planar_roi_measurement_groups()}
    assert regions
    assert regions <= cad


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("2d", "111242"),
        ("empty", "111241"),
        ("optional-only", "111242"),
        ("partly-rejected", "111244"),
        ("rejected", "111245"),
    ],
)
def test_exam_s_end_is_told(tmp_path: Path, name: str, summary: str) -> None:
    one, dataset, _ = report(tmp_path, CASES[name])
    (item,) = named(dataset, "111017")
    assert value(item) == summary
    assert one.summary in texts(dataset)
    scores = named(dataset, "111013")
    assert [number(item) for item in scores] == (
        [] if one.result.score is None else [pytest.approx(100 * one.result.score)]
    )
    if one.marked:  # the score says which region it comes from
        (place,) = scores[0].ContentSequence
        assert np.allclose(np.reshape(place.GraphicData, (-1, 2))[:-1], one.marked[0].contour)
        (image,) = place.ContentSequence
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == one.marked[0].image_id


@pytest.mark.parametrize("name", list(CASES))
def test_every_report_tells_algorithm_operating_point_sources_and_who_has_the_last_word(
    tmp_path: Path, name: str
) -> None:
    one, dataset, _ = report(tmp_path, CASES[name])
    words = texts(dataset)
    for part in ("spots", "1.2", f"Bundle SHA-256: {SHA256}", "Operating point: recall-10", DISCLAIMER):
        assert part in words
    assert evidence(dataset) == {image.image.image_id for image in one.result.images}
    identity = one.identity
    assert (dataset.PatientID, dataset.StudyInstanceUID) == (identity.PatientID, identity.StudyInstanceUID)
    assert dataset.SeriesInstanceUID not in {source.header.SeriesInstanceUID for source in one.sources}
    assert dataset.SeriesInstanceUID != cad_sr(one).SeriesInstanceUID


def test_repeated_delivery_has_the_same_bytes(tmp_path: Path) -> None:
    again: list[Dataset] = [measurement_report(delivery(tmp_path / name, CASES["dbt"])) for name in ("first", "second")]
    assert encoded(again[0]) == encoded(again[1])


@pytest.mark.parametrize("header", [{"PatientOrientation": None}, {"ImagerPixelSpacing": None}])
def test_header_without_geometry_still_makes_a_report(tmp_path: Path, header: dict[str, None]) -> None:
    _, dataset, _ = report(tmp_path, Case({"RCC": (0.7,)}, header=header))
    assert len(dataset.content.get_planar_roi_measurement_groups()) == 1


@needs("dciodvfy", "dcmdump", "dsrdump")
@pytest.mark.parametrize("name", list(CASES))
def test_dcmtk_and_dicom3tools_find_nothing_wrong(tmp_path: Path, name: str) -> None:
    _, _, path = report(tmp_path, CASES[name])
    assert dciodvfy(path) == []
    assert "ComprehensiveSRStorage" in dcmdump(path)
    assert "Imaging Measurement Report" in dsrdump(path)


@needs("DicomSRValidator")
@pytest.mark.parametrize("name", ["2d", "empty", "rejected", "dbt", "dbt-empty", "dbt-rejected"])
def test_pixelmed_finds_the_templates_kept(tmp_path: Path, name: str) -> None:
    assert sr_validator(report(tmp_path, CASES[name])[2], extensible=True) == []
