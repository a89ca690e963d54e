"""What is gathered for the objects of an exam, from headers that nobody vouches for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.uid import ImplicitVRLittleEndian

from screening.delivery.cad_sr import cad_sr
from screening.delivery.context import deliveries, prepare
from screening.delivery.headers import DeliveryError, source_header
from screening.store import ResultStore
from tests.support.deliveries import CASES, CREATED, Case, bundle, delivery, exam, rejected_instance
from tests.support.dicom import mammogram, write_dicom


def test_identity_is_the_source_s(tmp_path: Path) -> None:
    identity = delivery(tmp_path, CASES["2d"]).identity
    source = dcmread(tmp_path / "RCC.dcm", stop_before_pixels=True)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
        assert identity[keyword].value == source[keyword].value


def test_deliveries_come_from_store_and_bundle_and_one_bad_exam_costs_no_other(tmp_path: Path) -> None:
    good = exam(tmp_path / "good", CASES["2d"])
    bad = replace(exam(tmp_path / "bad", Case({}, header={"PatientID": "x" * 65})), exam_id="0.bad")
    gone = replace(exam(tmp_path / "gone", CASES["2d"]), exam_id="0.gone")
    for file in (tmp_path / "gone").iterdir():
        file.unlink()
    with ResultStore(tmp_path / "results.sqlite") as store:
        for result in (good, bad, gone):
            store.add(result)
        store.add_rejections([rejected_instance()])
        found = dict((result.exam_id, one) for result, one in deliveries(store, bundle(), CREATED))
    assert isinstance(found["0.bad"], DeliveryError)
    assert isinstance(found["0.gone"], DeliveryError)
    assert not isinstance(found[good.exam_id], DeliveryError)
    assert found[good.exam_id].rejections == (rejected_instance(),)
    assert found[good.exam_id].result == good


def test_first_operating_point_of_the_bundle_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    assert delivery(tmp_path, CASES["2d"]).point.name == "recall-3"
    assert delivery(tmp_path, CASES["2d"], "marks-2").point.name == "marks-2"


def test_marked_are_the_regions_that_reach_the_operating_point(tmp_path: Path) -> None:
    one = delivery(tmp_path, CASES["2d"], "recall-10")
    assert [region.score for region in one.marked] == [0.7, 0.7]
    assert delivery(tmp_path, CASES["empty"], "recall-10").marked == ()
    assert delivery(tmp_path, CASES["empty"]).summary.startswith("No region reaches operating point recall-3")


def test_unscored_image_whose_file_is_gone_is_told_and_the_rest_delivered(tmp_path: Path) -> None:
    result = exam(tmp_path, CASES["partly-rejected"])
    (tmp_path / "LCC.dcm").unlink()
    one = prepare(result, bundle(), CREATED)
    assert [image.image.path.name for image in one.unread] == ["LCC.dcm"]
    assert len(one.sources) == 3


@pytest.mark.parametrize("case", ["gone", "replaced"])
def test_scored_image_that_is_gone_or_replaced_is_an_error_not_a_missing_finding(tmp_path: Path, case: str) -> None:
    result = exam(tmp_path, CASES["2d"])
    if case == "gone":
        (tmp_path / "RCC.dcm").unlink()
    else:
        (tmp_path / "RCC.dcm").write_bytes((tmp_path / "LCC.dcm").read_bytes())
    with pytest.raises(DeliveryError, match="cannot be read any more"):
        prepare(result, bundle(), CREATED)


def test_images_of_different_women_are_not_delivered(tmp_path: Path) -> None:
    result = exam(tmp_path, CASES["2d"])
    dataset = dcmread(tmp_path / "RCC.dcm")
    dataset.PatientID = "woman-2"
    dataset.save_as(tmp_path / "RCC.dcm")
    with pytest.raises(DeliveryError, match="different women"):
        prepare(result, bundle(), CREATED)


def test_wrong_use_is_a_sentence(tmp_path: Path) -> None:
    result = exam(tmp_path, CASES["2d"])
    with pytest.raises(DeliveryError, match="no operating point 'recall-99'"):
        prepare(result, bundle(), CREATED, "recall-99")
    with pytest.raises(DeliveryError, match="no operating point"):
        prepare(result, bundle(()), CREATED)
    with pytest.raises(DeliveryError, match="time zone"):
        prepare(result, bundle(), datetime(2024, 2, 1))
    with pytest.raises(DeliveryError, match="not by"):
        prepare(replace(result, model_id="other-1+000000000000"), bundle(), CREATED)


def test_time_of_creation_is_told_on_the_source_s_clock(tmp_path: Path) -> None:
    one = delivery(tmp_path, replace(CASES["empty"], header={"TimezoneOffsetFromUTC": "+0530"}))
    assert one.local_time == datetime(2024, 2, 1, 4, 30, tzinfo=UTC)
    assert one.local_time.strftime("%H%M") == "1000"


@pytest.mark.parametrize(
    ("attributes", "keyword"),
    [
        ({"PatientName": "x" * 10_000}, "PatientName"),
        ({"PatientSex": "W"}, "PatientSex"),
        ({"PatientBirthDate": "31.12.1961"}, "PatientBirthDate"),
        ({"StudyDate": "20240230"}, "StudyDate"),
        ({"StudyTime": "256199"}, "StudyTime"),
        ({"AccessionNumber": "A" * 17}, "AccessionNumber"),
        ({"StudyID": "a\x1bb\nc"}, "StudyID"),
        ({"ReferringPhysicianName": "a\x00b"}, "ReferringPhysicianName"),
    ],
)
def test_invalid_attribute_is_left_empty(tmp_path: Path, attributes: dict[str, Any], keyword: str) -> None:
    exam(tmp_path, Case({}, header=attributes))
    assert source_header(tmp_path / "RCC.dcm")[keyword].value in ("", None)


TEXT = st.text(st.characters(codec="utf-8"), max_size=80)
OPTIONAL = ("PatientName", "PatientSex", "PatientAge", "StudyDate", "StudyTime", "StudyID", "AccessionNumber")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(OPTIONAL), TEXT))
def test_header_of_any_text_is_copied_valid_and_stays_the_same_woman_s(values: dict[str, str]) -> None:
    dataset = mammogram(np.zeros((8, 8), np.uint8), SpecificCharacterSet="ISO_IR 192")
    for keyword, text in values.items():
        # As a file may hold it: a text that nothing checks, in a syntax that does not tell its VR.
        dataset[keyword] = DataElement(tag_for_keyword(keyword), "UT", text)
    with TemporaryDirectory() as folder:
        header = source_header(write_dicom(Path(folder) / "a.dcm", dataset, ImplicitVRLittleEndian))
    assert (header.PatientID, header.StudyInstanceUID) == (dataset.PatientID, dataset.StudyInstanceUID)
    for element in header:
        stated = str(element.value) if element.VR == "PN" else element.value
        if element.VR != "SQ":
            DataElement(element.tag, dictionary_VR(element.tag), stated, validation_mode=config.RAISE)


def test_exam_of_two_studies_belongs_to_the_one_with_most_images(tmp_path: Path) -> None:
    result = exam(tmp_path, CASES["2d"])
    dataset = dcmread(tmp_path / "RCC.dcm")
    dataset.StudyInstanceUID, dataset.AccessionNumber = "1.2.3", "OTHER"
    dataset.save_as(tmp_path / "RCC.dcm")
    one = prepare(result, bundle(), CREATED)
    assert one.identity.AccessionNumber == "A-77"
    studies = cad_sr(one).CurrentRequestedProcedureEvidenceSequence
    assert sorted(study.StudyInstanceUID for study in studies) == ["1.2.3", "1.2.826.0.1.3680043.10.1.1"]


@pytest.mark.parametrize("offset", ["+9999", "0100", "+01:00", "-2400"])
def test_impossible_offset_from_utc_is_left_out(tmp_path: Path, offset: str) -> None:
    exam(tmp_path, Case({}, header={"TimezoneOffsetFromUTC": offset}))
    assert "TimezoneOffsetFromUTC" not in source_header(tmp_path / "RCC.dcm")


@pytest.mark.parametrize(
    "attributes",
    [
        {"PatientID": "x" * 65},
        {"PatientID": "a\\b"},
        {"PatientID": "a\x07b"},
        {"StudyInstanceUID": "1.2.03"},
        {"StudyInstanceUID": None},
        {"SeriesInstanceUID": None},
        {"SeriesInstanceUID": "1." + "2" * 70},
    ],
)
def test_invalid_identifier_is_an_error_that_does_not_quote_it(tmp_path: Path, attributes: dict[str, Any]) -> None:
    exam(tmp_path, Case({}, header=attributes))
    with pytest.raises(DeliveryError, match=r"of the source is") as caught:
        source_header(tmp_path / "RCC.dcm")
    for value in attributes.values():
        assert value is None or value not in str(caught.value)
