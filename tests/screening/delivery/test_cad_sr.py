"""Mammography CAD SR: true to the result, valid by independent programs, safe with hostile headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from screening.delivery.cad_sr import cad_sr
from screening.delivery.context import DISCLAIMER, Delivery
from screening.delivery.headers import DeliveryError
from screening.delivery.objects import encoded, written
from screening.exam import View
from tests.support.deliveries import CASES, FRAMES, SHA256, TOO_SMALL, Case, delivery, rejected_instance
from tests.support.sr import children, concept, evidence, named, number, texts, value, walk
from tests.support.validators import dciodvfy, dcmdump, dsrdump, needs, sr_validator

REQUIRED, OPTIONAL = "111150", "111151"
ALL = Case({"RCC": (0.7, 0.2), "RMLO": (0.7, 0.05), "LCC": (0.15,), "LMLO": (0.02,)}, dbt=True, rejected=("LMLO",))
"""A volume with a composite feature, single findings, required and optional ones, and an image that was rejected."""


def report(folder: Path, case: Case, operating_point: str = "recall-10") -> tuple[Delivery, Dataset, Path]:
    """The delivery of a case and its report, written and read back."""
    one = delivery(folder / "sources", case, operating_point, [rejected_instance()])
    path = written(cad_sr(one), folder / "objects")
    return one, dcmread(path), path


# ---- what the report says


@pytest.mark.parametrize("name", ["2d", "dbt"])
def test_outline_and_center_are_the_region_s_on_its_image_and_frames(tmp_path: Path, name: str) -> None:
    one, dataset, _ = report(tmp_path, CASES[name])
    shown = {region.region_id: region for region in one.result.regions if region.score >= 0.1}
    found = {tracked(item): item for item in named(dataset, "111059")}
    assert found.keys() == {one.region_uid(region) for region in shown.values()}
    for region in shown.values():
        item = found[one.region_uid(region)]
        (center,), (outline,) = children(item, "111010"), children(item, "111041")
        assert np.allclose(coordinates(center), [[region.x + region.width / 2, region.y + region.height / 2]])
        assert np.allclose(coordinates(outline), [*region.contour, region.contour[0]])
        frames = ([], []) if name == "2d" else ([6], [4, 5, 6, 7])
        assert selected(dataset, center) == (region.image_id, frames[0])
        assert selected(dataset, outline) == (region.image_id, frames[1])
        assert number(children(item, "111012")[0]) == pytest.approx(100 * region.score)


@pytest.mark.parametrize("point", ["recall-3", "recall-10", "marks-2"])
def test_rendering_intent_lets_a_workstation_show_what_each_operating_point_marks(tmp_path: Path, point: str) -> None:
    """By the rule of PS3.17 E.4: required ones always, optional ones up to the operating point that is set."""
    one, dataset, _ = report(tmp_path, CASES["2d"], point)
    points = one.points[one.points.index(one.point) :]
    most = [number(item) for item in named(dataset, "111072")]
    assert most == ([len(points) - 1] if len(points) > 1 else [])
    for setting, chosen in enumerate(points):
        drawn = {tracked(item) for item in named(dataset, "111059") if _is_drawn(item, setting)}
        assert drawn == {one.region_uid(r) for r in one.result.regions if r.score >= chosen.threshold}


def test_what_has_to_be_shown_is_never_below_what_need_not(tmp_path: Path) -> None:
    _, dataset, _ = report(tmp_path, Case({"RCC": (0.7,), "RMLO": (0.2,), "LCC": (0.2,)}))
    for impression in named(dataset, "111034"):
        inner = [item for item in walk(impression) if concept(item) in ("111015", "111059")]
        required = any(intent(item) == REQUIRED for item in inner)
        assert intent(impression) == (REQUIRED if required else OPTIONAL)
    (composite,) = named(dataset, "111015")
    assert intent(composite) == REQUIRED


def test_highest_regions_of_a_breast_s_views_make_one_composite_feature(tmp_path: Path) -> None:
    one, dataset, _ = report(tmp_path, CASES["2d"])
    (composite,) = named(dataset, "111015")
    inside = {tracked(item) for item in children(composite, "111059")}
    tops = [one.result.images[0].regions[0], one.result.images[2].regions[0]]
    assert inside == {one.region_uid(region) for region in tops}
    assert {region.view for region in tops} == {View.CC, View.MLO}


def test_nothing_found_is_said(tmp_path: Path) -> None:
    _, dataset, _ = report(tmp_path, CASES["empty"])
    assert summary(dataset) == "111241"
    assert "No region reaches operating point recall-10" in texts(dataset)
    assert not named(dataset, "111034")


def test_regions_below_the_chosen_point_are_no_findings_but_can_be_shown(tmp_path: Path) -> None:
    one, dataset, _ = report(tmp_path, CASES["optional-only"], "recall-3")
    assert summary(dataset) == "111241"
    assert {intent(item) for item in named(dataset, "111059")} == {OPTIONAL}
    assert len(named(dataset, "111059")) == len([r for r in one.result.regions if r.score >= 0.1])


def test_image_that_could_not_be_scored_is_a_failed_detection_with_its_reason(tmp_path: Path) -> None:
    one, dataset, _ = report(tmp_path, CASES["partly-rejected"])
    assert summary(dataset) == "111244"
    (status,) = named(dataset, "111064")
    assert value(status) == "111223"
    for heading, images in (("111063", (0, 2)), ("111025", (1, 3))):
        (section,) = named(dataset, heading)
        assert referenced(dataset, section) == {one.result.images[number].image.image_id for number in images}
    assert "Failure: too-small" in texts(named(dataset, "111025")[0])


def test_exam_that_could_not_be_scored_says_so_and_why(tmp_path: Path) -> None:
    _, dataset, _ = report(tmp_path, CASES["rejected"])
    assert summary(dataset) == "111245"
    assert [value(named(dataset, code)[0]) for code in ("111064", "111065")] == ["111224"] * 2
    assert not named(dataset, "111063")
    assert "no image is fit to be scored" in texts(dataset)


def test_instance_that_is_no_image_of_the_exam_is_named_with_its_reason(tmp_path: Path) -> None:
    _, dataset, _ = report(tmp_path, CASES["2d"])
    assert "Not processed: instance 1.2.3.4: spot-compression" in texts(dataset)


@pytest.mark.parametrize("name", list(CASES))
def test_every_report_tells_algorithm_operating_point_sources_and_who_has_the_last_word(
    tmp_path: Path, name: str
) -> None:
    one, dataset, _ = report(tmp_path, CASES[name])
    words = texts(dataset)
    for part in ("spots", "1.2", f"Bundle SHA-256: {SHA256}", "Operating point: recall-10", DISCLAIMER):
        assert part in words
    assert dataset.DeviceSerialNumber == SHA256
    assert evidence(dataset) == {image.image.image_id for image in one.result.images}
    assert dataset.VerificationFlag == "UNVERIFIED"


def test_report_is_the_source_s_patient_and_study_in_a_series_of_its_own(tmp_path: Path) -> None:
    one, dataset, _ = report(tmp_path, CASES["2d"])
    source = dcmread(one.sources[0].result.image.path, stop_before_pixels=True)
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
        assert dataset[keyword].value == source[keyword].value
    assert dataset.AccessionNumber == source.AccessionNumber
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID


# ---- writing


def test_repeated_delivery_is_the_same_file(tmp_path: Path) -> None:
    first = report(tmp_path, CASES["2d"])[2]
    content = first.read_bytes()
    assert report(tmp_path, CASES["2d"])[2] == first
    assert (
        first.read_bytes()
        == content
        == encoded(cad_sr(delivery(tmp_path / "again", CASES["2d"], "recall-10", [rejected_instance()])))
    )
    assert len(list(first.parent.iterdir())) == 1


def test_delivered_object_is_never_changed(tmp_path: Path) -> None:
    one = delivery(tmp_path, CASES["2d"])
    path = written(cad_sr(one), tmp_path / "objects")
    content = path.read_bytes()
    written(cad_sr(replace(one, created=one.created.replace(year=2025))), tmp_path / "objects")
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", ["no equipment", "value", "type", "evidence", "target"])
def test_invalid_object_is_not_written(tmp_path: Path, damage: str) -> None:
    dataset = cad_sr(delivery(tmp_path / "sources", CASES["2d"]))
    match damage:
        case "no equipment":
            del dataset.Manufacturer
        case "value":
            dataset["SeriesDescription"]._value = "x" * 65
        case "type":
            dataset["Rows"] = dcmread(tmp_path / "sources" / "RCC.dcm")["Rows"]
            dataset["Rows"]._value = "many"
        case "evidence":
            del dataset.CurrentRequestedProcedureEvidenceSequence[0]
        case "target":
            library = dataset.ContentSequence[1]
            del library.ContentSequence[2:]
    with pytest.raises(DeliveryError):
        written(dataset, tmp_path / "objects")
    assert not (tmp_path / "objects").exists()


def test_region_outside_of_its_image_s_frames_is_an_error(tmp_path: Path) -> None:
    one = delivery(tmp_path, CASES["dbt"], "recall-10")
    first = one.result.images[0]
    moved = tuple(replace(region, frame_last=FRAMES) for region in first.regions)
    broken = replace(one.result, images=(replace(first, regions=moved), *one.result.images[1:]))
    with pytest.raises(DeliveryError, match="frames that its image does not have"):
        cad_sr(replace(one, result=broken))


def test_outline_stays_within_the_image_whatever_the_contour(tmp_path: Path) -> None:
    one = delivery(tmp_path, CASES["2d"], "recall-10")
    wild = ((-5.0, -5.0), (1000.0, 3.0))  # two points enclose nothing: the box stands in
    first = one.result.images[0]
    regions = tuple(replace(region, contour=wild, x=-5.0, width=1005.0) for region in first.regions)
    result = replace(one.result, images=(replace(first, regions=regions), *one.result.images[1:]))
    for item in named(cad_sr(replace(one, result=result)), "111041"):
        points = coordinates(item)
        assert (points[0] == points[-1]).all()
        assert len(points) == 5
        assert points.min() >= 0
        assert (points.max(axis=0) <= (80, 120)).all()


# ---- hostile headers


HOSTILE: list[dict[str, Any]] = [
    {"PatientID": "../../../../etc/passwd"},
    {"PatientName": "<script>alert(1)</script>^x"},
    {"PatientName": "x" * 100_000, "StudyDescription": "y" * 100_000},
    {"SpecificCharacterSet": ["ISO 2022 IR 6", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
    {"SpecificCharacterSet": "ISO_IR 192", "PatientID": "Ж-17", "PatientName": "Müller^Zoë"},
    {"SpecificCharacterSet": "ISO_IR 999"},
    {"StudyDate": "20240230", "StudyTime": "99", "PatientBirthDate": "unknown", "PatientSex": "?"},
    {"PatientOrientation": None, "ViewCodeSequence": None, "PatientName": None},
    {"PatientID": ""},
    {"TimezoneOffsetFromUTC": "+9999"},
]


@needs("dciodvfy", "dcmdump", "dsrdump")
@pytest.mark.parametrize("header", HOSTILE, ids=lambda header: ",".join(header))
def test_hostile_header_yields_a_valid_object_named_by_its_uid(tmp_path: Path, header: dict[str, Any]) -> None:
    _, dataset, path = report(tmp_path, replace(CASES["2d"], header=header))
    assert path == tmp_path / "objects" / f"{dataset.SOPInstanceUID}.dcm"
    assert dciodvfy(path) == []
    dcmdump(path), dsrdump(path)
    for keyword in ("PatientID", "PatientName"):
        stated = header.get(keyword)
        if stated is not None and len(stated) <= 64:
            assert str(dataset[keyword].value) == stated


def test_control_characters_in_a_reason_do_not_reach_the_report(tmp_path: Path) -> None:
    one = delivery(tmp_path, CASES["rejected"])
    reason = replace(TOO_SMALL, sentence="bad\x00 \x1b[31m\udcff value")
    images = tuple(replace(image, rejection=reason) for image in one.result.images)
    hostile = replace(one, result=replace(one.result, images=images, rejection=reason))
    path = written(cad_sr(hostile), tmp_path / "objects")
    assert "\x00" not in texts(dcmread(path))
    assert "\x1b" not in texts(dcmread(path))


# ---- independent validators


@needs("dciodvfy", "dcmdump", "dsrdump")
@pytest.mark.parametrize("name", list(CASES))
def test_dcmtk_and_dicom3tools_find_nothing_wrong(tmp_path: Path, name: str) -> None:
    one, _, path = report(tmp_path, CASES[name])
    assert dciodvfy(path) == []
    assert "MammographyCADSRStorage" in dcmdump(path)
    tree = dsrdump(path)
    assert "Mammography CAD SR Document" in tree
    assert tree.count('"Single Image Finding"') == len([r for r in one.result.regions if r.score >= 0.1])


@needs("DicomSRValidator")
@pytest.mark.parametrize(
    "case",
    [ALL, *(CASES[name] for name in ("2d", "empty", "rejected", "dbt-empty", "dbt-rejected"))],
    ids=["dbt", "2d", "empty", "rejected", "dbt-empty", "dbt-rejected"],
)
def test_pixelmed_finds_the_templates_kept(tmp_path: Path, case: Case) -> None:
    assert sr_validator(report(tmp_path, case)[2]) == []


@needs("DicomSRValidator")
def test_pixelmed_would_find_a_template_broken(tmp_path: Path) -> None:
    """The proof above means something only if the validator objects to a report that is wrong."""
    dataset = cad_sr(delivery(tmp_path, CASES["2d"]))
    for item in named(dataset, "111059"):
        item.ContentSequence = [child for child in item.ContentSequence if concept(child) not in ("111010", "111056")]
    assert sr_validator(written(dataset, tmp_path / "objects"))


# ---- reading the tree


def summary(dataset: Dataset) -> str:
    (item,) = named(dataset, "111017")
    return value(item)


def tracked(item: Dataset) -> str:
    return str(children(item, "112040")[0].UID)


def intent(item: Dataset) -> str:
    return value(children(item, "111056")[0])


def coordinates(item: Dataset) -> np.ndarray:
    return np.array(item.GraphicData).reshape(-1, 2)


def target(dataset: Dataset, reference: Dataset) -> Dataset:
    first, *rest = reference.ReferencedContentItemIdentifier
    assert first == 1
    item = dataset
    for position in rest:
        item = item.ContentSequence[position - 1]
    return item


def selected(dataset: Dataset, item: Dataset) -> tuple[str, list[int]]:
    (reference,) = item.ContentSequence
    assert reference.RelationshipType == "SELECTED FROM"
    image = target(dataset, reference).ReferencedSOPSequence[0]
    frames = image.get("ReferencedFrameNumber", [])
    return image.ReferencedSOPInstanceUID, [frames] if isinstance(frames, int) else [int(frame) for frame in frames]


def referenced(dataset: Dataset, section: Dataset) -> set[str]:
    references = [item for item in walk(section) if "ReferencedContentItemIdentifier" in item]
    return {target(dataset, one).ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in references}


def _is_drawn(item: Dataset, setting: int) -> bool:
    (rule,) = children(item, "111056")
    if value(rule) == REQUIRED:
        return True
    (point,) = children(rule, "111071")
    return number(point) <= setting
