"""This software's own objects in an export: references resolve, reports stay valid, nobody is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from screening.delivery.cad_sr import cad_sr
from screening.delivery.context import prepare
from screening.delivery.measurement_report import measurement_report
from screening.delivery.objects import written
from screening.delivery.presentation_state import presentation_states
from screening.export.clean import Woman, cleaned
from screening.export.instance import End, Why
from screening.export.pseudonyms import Pseudonyms
from screening.export.run import Job, Summary, export
from screening.report.figures import picture_paths
from screening.store import STORE_NAME, ResultStore, write_tables
from tests.support.deliveries import CASES, CREATED, bundle, exam, rejected_instance
from tests.support.dicom import mammogram, noise_image
from tests.support.exports import KEY, needs_tesseract
from tests.support.validators import dciodvfy, dcmdump, dsrdump, needs, sr_validator

OURS = Pseudonyms(KEY)
IDENTITY = {
    "BurnedInAnnotation": "NO",
    "PatientName": "Musterfrau^Erika",
    "StudyDescription": "Screening",
    "OperatorsName": "Region^One",  # a name that is a word of the objects: these have to stay valid
}


@dataclass(frozen=True)
class Exported:
    copies: tuple[Path, ...]
    summary: Summary

    def of_class(self, sop_class: str) -> list[Path]:
        return [path for path in self.copies if dcmread(path).SOPClassUID == sop_class]


@pytest.fixture(scope="module", params=["2d", "dbt"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("objects")
    result = exam(folder / "files", replace(CASES[request.param], header=IDENTITY))
    results = folder / "results"
    with ResultStore(results / STORE_NAME) as store:
        store.add(result)
        write_tables(store, results)
    delivery = prepare(result, bundle(), CREATED, rejections=[rejected_instance()])
    objects = results / "dicom" / picture_paths(results, result.exam_id, "").annotated.parent.name
    for made in (cad_sr(delivery), measurement_report(delivery), *presentation_states(delivery)):
        written(made, objects)
    stray = results / "dicom" / "no-exam"
    stray.mkdir()
    (stray / "1.2.3.dcm").write_bytes(b"")
    summary = export(Job(results, folder / "out", objects=True), OURS)
    return Exported(tuple(sorted((folder / "out" / "dicom").rglob("*.dcm"))), summary)


@needs_tesseract
def test_objects_come_along_and_those_of_no_exam_are_held_back(exported: Exported) -> None:
    assert exported.summary.ends[End.FAILED] == 0
    assert exported.summary.reasons == {(End.HELD_BACK, Why.NOT_OF_AN_EXAM): 1}
    assert len(exported.copies) == exported.summary.ends[End.EXPORTED] >= 7
    assert exported.of_class(uid.MammographyCADSRStorage)
    assert exported.of_class(uid.GrayscaleSoftcopyPresentationStateStorage)


@needs_tesseract
def test_every_reference_of_reports_and_presentation_states_points_to_an_exported_image(exported: Exported) -> None:
    headers = [dcmread(path) for path in exported.copies]
    images = {header.SOPInstanceUID for header in headers if "PixelData" in header}
    series = {header.SeriesInstanceUID for header in headers if "PixelData" in header}
    others = [header for header in headers if "PixelData" not in header]
    assert len(images) == 4
    for header in others:
        found = set(values(header, "ReferencedSOPInstanceUID"))
        # What was rejected is named by its own UID, remapped, in the CAD report alone.
        assert found & images
        assert found <= images | {OURS.uid("1.2.3.4")}
        nested = set(values(header, "SeriesInstanceUID")) - {header.SeriesInstanceUID}
        assert nested <= series
        assert header.StudyInstanceUID == headers[0].StudyInstanceUID
        assert header.PatientID == OURS.woman("woman-1")


@needs_tesseract
@needs("dciodvfy", "dsrdump")
def test_reports_and_presentation_states_are_valid_still(exported: Exported) -> None:
    for path in exported.of_class(uid.GrayscaleSoftcopyPresentationStateStorage):
        assert dciodvfy(path) == []
    reports = [path for path in exported.copies if "ContentSequence" in dcmread(path)]
    assert len(reports) == 2
    for path in reports:
        assert dciodvfy(path) == []
        dsrdump(path)


@needs_tesseract
@needs("DicomSRValidator")
@pytest.mark.parametrize("exported", ["2d"], indirect=True)  # the program takes its time
def test_the_cad_report_still_follows_its_templates(exported: Exported) -> None:
    assert sr_validator(exported.of_class(uid.MammographyCADSRStorage)[0]) == []


@needs_tesseract
@needs("dcmdump")
def test_no_name_id_or_original_uid_is_left_in_an_object(exported: Exported) -> None:
    words = ("musterfrau", "erika", "woman-1", "19611223", "a-77", "referrer", "1.2.826.0.1.3680043.10.1", "2.3.4]")
    for path in exported.copies:
        text = dcmdump(path).lower()
        assert [word for word in words if word in text] == []


@needs_tesseract
def test_regions_scores_and_dates_of_a_report_are_kept(exported: Exported) -> None:
    report = dcmread(exported.of_class(uid.MammographyCADSRStorage)[0])
    assert list(values(report, "GraphicData"))
    assert list(values(report, "NumericValue"))
    moved = CREATED.date() - timedelta(days=OURS.shift_days("woman-1"))
    assert report.ContentDate == moved.strftime("%Y%m%d")
    codes = {item.CodeValue for item in report.DeidentificationMethodCodeSequence}
    assert {"113103", "113104"} <= codes


def test_free_text_of_a_report_and_names_in_codes_do_not_stay() -> None:
    report = Dataset()
    report.PatientName = "Musterfrau^Erika"
    report.ContentSequence = [
        item("121106", "Comment", "the sister of Beispiel"),
        item("111001", "Algorithm", "for Erika"),
    ]
    copy = cleaned(report, Woman.of("W", OURS), OURS)
    assert [one.TextValue for one in copy.ContentSequence] == ["REMOVED", "REMOVED"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"PatientID": "../../../etc/passwd"},
        {"PatientName": "<script>alert(1)</script>^" + "x" * 70_000},
        {"SeriesDescription": "A" * 1_000_000, "PatientComments": "B" * 1_000_000},
        {"ImageComments": "; rm -rf ~"},
    ],
)
def test_malicious_headers_never_get_into_names_or_out(attributes: dict[str, str]) -> None:
    original = mammogram(noise_image(8, 8), **attributes)
    woman = Woman.of(str(original.PatientID), OURS)
    copy = cleaned(original, woman, OURS)
    assert woman.pseudonym.isalnum()
    assert len(str(copy)) < 10_000
    for value in attributes.values():
        assert value[:9] not in str(copy)


def item(code: str, meaning: str, text: str) -> Dataset:
    name, content = Dataset(), Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = code, "DCM", meaning
    content.ValueType, content.ConceptNameCodeSequence, content.TextValue = "TEXT", [name], text
    return content


def values(dataset: Dataset, keyword: str) -> Iterator[str]:
    """Every value of an attribute on every level."""
    for element in dataset:
        if element.keyword == keyword:
            yield element.value
        if element.VR == "SQ":
            for one in element.value:
                yield from values(one, keyword)
