"""The FHIR bundle: valid R4, the same findings as the structured reports, and nothing executable in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fhir.resources.R4B.bundle import Bundle
from pydicom.dataset import Dataset

from screening.delivery.cad_sr import cad_sr
from screening.delivery.context import DISCLAIMER, Delivery
from screening.delivery.fhir import LOCAL_CODES, report_bundle
from screening.delivery.fhir_file import write_report
from screening.exam import Laterality
from screening.result import Reason, Rejection, Status
from tests.support.deliveries import CASES, SHA256, VIEWS, Case, delivery, exam, rejected_instance

DCM, SCT = "http://dicom.nema.org/resources/ontology/DCM", "http://snomed.info/sct"
EXAM, BREAST, REGION = "111013", "111011", "111012"
"""DICOM's codes for certainty of impression, feature and finding."""
BREASTS = {Laterality.LEFT: "80248007", Laterality.RIGHT: "73056007"}
Resource = dict[str, Any]


def resources(bundle: Resource, kind: str) -> list[Resource]:
    """The bundle's resources of one kind."""
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def observations(bundle: Resource, code: str) -> list[Resource]:
    """Its observations with a DICOM code."""
    return [one for one in resources(bundle, "Observation") if coded(one["code"]) == (DCM, code)]


def coded(concept: Resource) -> tuple[str, str]:
    """The one code of a concept."""
    (coding,) = concept["coding"]
    return coding["system"], coding["code"]


def component(observation: Resource, system: str, code: str) -> Any:
    """The value of a component, None where there is none."""
    for one in observation.get("component", ()):
        if coded(one["code"]) == (system, code):
            return next(value for key, value in one.items() if key.startswith("value"))
    return None


def values(node: Any, key: str) -> Iterator[Any]:
    """Every value that stands under `key`, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from values(value, key)


@pytest.mark.parametrize("name", CASES)
def test_bundle_is_valid_fhir_and_comes_back_unchanged(tmp_path: Path, name: str) -> None:
    bundle = report_bundle(delivery(tmp_path, CASES[name]), "urn:oid:1.2.276.0.1")
    read = Bundle.model_validate_json(json.dumps(bundle))
    again = json.loads(read.model_dump_json())
    assert again == bundle


@pytest.mark.parametrize("name", CASES)
def test_references_meet_a_resource_of_the_bundle_and_ids_are_used_once(tmp_path: Path, name: str) -> None:
    bundle = report_bundle(delivery(tmp_path, CASES[name]))
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(urls)) == len(urls)
    assert set(values(bundle, "reference")) <= set(urls)
    for entry in bundle["entry"]:
        one = entry["resource"]
        assert entry["fullUrl"] == f"urn:uuid:{one['id']}"
        assert entry["request"] == {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}
    (report,) = resources(bundle, "DiagnosticReport")
    named = {one["reference"] for one in report["result"]}
    assert named == {f"urn:uuid:{one['id']}" for one in resources(bundle, "Observation")}


@pytest.mark.parametrize("name", ["2d", "dbt", "empty", "optional-only", "partly-rejected"])
def test_scores_are_those_of_the_result(tmp_path: Path, name: str) -> None:
    made = delivery(tmp_path, CASES[name])
    bundle = report_bundle(made)
    (one,) = observations(bundle, EXAM)
    assert one["valueQuantity"]["value"] == pytest.approx(100 * (made.result.score or 0))
    assert one["valueQuantity"]["code"] == "%"
    assert component(one, LOCAL_CODES, "category") == 9
    breasts = {coded(one["bodySite"])[1]: one for one in observations(bundle, BREAST)}
    for side in Laterality:
        found = [breast for breast in made.result.breasts if breast.laterality is side]
        one = breasts[BREASTS[side]]
        if found:
            assert one["valueQuantity"]["value"] == pytest.approx(100 * found[0].score)
            assert coded(component(one, SCT, "129715009")) == (SCT, "129718006")  # heterogeneously dense: C
        else:
            assert one["status"] == "cancelled"
            assert "valueQuantity" not in one


def findings_of(report: Dataset) -> dict[str, Dataset]:
    """Single image findings of a CAD SR by Tracking UID, read from the tree and not by the code that wrote it."""
    found = {}

    def walk(item: Dataset) -> None:
        concept = item.get("ConceptNameCodeSequence")
        if concept and concept[0].CodeValue == "111059":
            for child in item.ContentSequence:
                if child.get("ConceptNameCodeSequence") and child.ConceptNameCodeSequence[0].CodeValue == "112040":
                    found[child.UID] = item
        for child in item.get("ContentSequence", ()):
            walk(child)

    walk(report)
    return found


def child(item: Dataset, code: str) -> Dataset:
    """The child of a content item with this concept."""
    return next(
        one
        for one in item.ContentSequence
        if one.get("ConceptNameCodeSequence") and one.ConceptNameCodeSequence[0].CodeValue == code
    )


@pytest.mark.parametrize("name", CASES)
def test_regions_are_those_of_the_cad_report_with_its_certainty_intent_and_tracking_uid(
    tmp_path: Path, name: str
) -> None:
    made = delivery(tmp_path, CASES[name])
    expected = findings_of(cad_sr(made))
    found = {
        one["identifier"][0]["value"].removeprefix("urn:oid:"): one for one in observations(report_bundle(made), REGION)
    }
    assert set(found) == set(expected)
    for tracking, one in found.items():
        item = expected[tracking]
        certainty = child(item, REGION).MeasuredValueSequence[0].NumericValue
        assert one["valueQuantity"]["value"] == pytest.approx(float(certainty))
        intent = child(item, "111056").ConceptCodeSequence[0].CodeValue
        assert coded(component(one, DCM, "111056")) == (DCM, intent)


def test_region_says_breast_view_image_and_place(tmp_path: Path) -> None:
    made = delivery(tmp_path, CASES["dbt"])
    regions = {f"{region.laterality}{region.view}{region.rank}": region for region in made.result.regions}
    found = observations(report_bundle(made), REGION)
    assert found
    views = {"CC": "399162004", "MLO": "399368009"}
    for one in found:
        rank, image = component(one, LOCAL_CODES, "rank"), component(one, LOCAL_CODES, "source-image")
        (region,) = (region for region in regions.values() if region.rank == rank)
        assert image == region.image_id
        assert coded(one["bodySite"]) == (SCT, BREASTS[region.laterality])
        assert coded(component(one, DCM, "111031")) == (SCT, views[region.view])
        for side in ("x", "y", "width", "height"):
            assert component(one, LOCAL_CODES, side)["value"] == getattr(region, side)
        frames = component(one, LOCAL_CODES, "frames")
        assert (frames["low"]["value"], frames["high"]["value"]) == (4, 7)  # 3 to 6, counted from 1
        assert component(one, LOCAL_CODES, "peak-frame") == 6


def test_exam_that_was_not_scored_says_why_and_has_no_value(tmp_path: Path) -> None:
    made = delivery(tmp_path, CASES["rejected"], rejections=(rejected_instance(),))
    bundle = report_bundle(made)
    (report,) = resources(bundle, "DiagnosticReport")
    assert "Exam not scored: no-eligible-image" in report["conclusion"]
    assert "spot-compression" in report["conclusion"]
    assert coded(report["conclusionCode"][0]) == (DCM, "111245")  # no algorithms succeeded
    for one in resources(bundle, "Observation"):
        assert one["status"] == "cancelled"
        assert coded(one["dataAbsentReason"])[1] == "not-performed"
        assert "valueQuantity" not in one
    failed = replace(made, result=replace(made.result, status=Status.FAILED))
    reasons = {coded(one["dataAbsentReason"])[1] for one in resources(report_bundle(failed), "Observation")}
    assert reasons == {"error"}


def test_view_that_is_missing_in_a_breast_s_score_stands_beside_the_score(tmp_path: Path) -> None:
    made = delivery(tmp_path, Case({"LCC": (0.7,), "RCC": (0.7,), "RMLO": (0.7,)}, rejected=("LMLO",)))
    breasts = {coded(one["bodySite"])[1]: one for one in observations(report_bundle(made), BREAST)}
    left = breasts[BREASTS[Laterality.LEFT]]
    assert "valueQuantity" in left
    assert "Not processed: MLO: too-small" in left["note"][0]["text"]
    assert breasts[BREASTS[Laterality.RIGHT]]["note"] == [{"text": DISCLAIMER}]


@pytest.mark.parametrize("name", CASES)
def test_no_score_without_the_line_that_says_what_it_is(tmp_path: Path, name: str) -> None:
    bundle = report_bundle(delivery(tmp_path, CASES[name]))
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert DISCLAIMER in report["conclusion"]
    assert DISCLAIMER in report["text"]["div"]
    for one in resources(bundle, "Observation"):
        assert one["note"][-1]["text"] == DISCLAIMER
        assert DISCLAIMER in one["text"]["div"]
    for entry in bundle["entry"]:
        assert entry["resource"]["meta"]["security"][0]["code"] == "AIAST"


def test_patient_study_order_and_model_are_meant_by_their_identifiers(tmp_path: Path) -> None:
    case = replace(CASES["2d"], header={"IssuerOfPatientID": "Hospital"})
    made = delivery(tmp_path, case)
    bundle = report_bundle(made, "https://hospital.example/mrn")
    (report,) = resources(bundle, "DiagnosticReport")
    patient = report["subject"]["identifier"]
    assert (patient["system"], patient["value"]) == ("https://hospital.example/mrn", "woman-1")
    assert patient["assigner"] == {"display": "Hospital"}
    assert all(one["subject"] == report["subject"] for one in resources(bundle, "Observation"))
    study = {"system": "urn:dicom:uid", "value": f"urn:oid:{made.identity.StudyInstanceUID}"}
    assert report["imagingStudy"] == [{"type": "ImagingStudy", "identifier": study}]
    assert report["basedOn"][0]["identifier"]["value"] == "A-77"
    (device,) = resources(bundle, "Device")
    assert device["serialNumber"] == SHA256
    assert device["version"][0]["value"] == "1.2"
    (provenance,) = resources(bundle, "Provenance")
    images = {one["what"]["identifier"]["value"].removeprefix("urn:oid:") for one in provenance["entity"]}
    assert images == {one.image.image_id for one in made.result.images}
    text = json.dumps(bundle)
    assert "Doe" not in text
    assert "1961" not in text


def test_patient_without_a_number_is_told_by_the_study(tmp_path: Path) -> None:
    bundle = report_bundle(delivery(tmp_path, replace(CASES["2d"], header={"PatientID": "", "AccessionNumber": ""})))
    Bundle.model_validate(bundle)
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["subject"]["display"].startswith("Patient of study 1.2.826")
    assert "basedOn" not in report


def test_repeated_delivery_is_the_same_bundle_and_a_changed_exam_a_new_version_of_it(tmp_path: Path) -> None:
    made = delivery(tmp_path / "exam", CASES["2d"])
    path = tmp_path / "out" / "a.json"
    versions = []
    late = replace(made, result=replace(made.result, score=0.9, images=made.result.images[1:]))
    for one in (made, made, late):
        write_report(one, path)
        versions.append(path.read_bytes())
    first, same, second = versions
    assert first == same
    assert second != first
    assert list((tmp_path / "out").iterdir()) == [path]
    for kind in ("DiagnosticReport", "Device", "Provenance"):
        ids = [resources(json.loads(data), kind)[0]["id"] for data in (first, second)]
        assert ids[0] == ids[1]


def hostile(folder: Path) -> Delivery:
    """An exam whose header, reasons and model are full of what must not get through."""
    words = "<script>alert('x')</script> & \"quoted\" ]]> \x00\x1b\ud800 \u6c34"
    case = replace(CASES["partly-rejected"], header={"PatientID": "../<b>&'\"", "IssuerOfPatientID": "<i>&"})
    made = delivery(folder, case)
    result = exam(folder, case)
    images = tuple(
        replace(one, rejection=Rejection(Reason.TOO_SMALL, words)) if one.rejection else one for one in result.images
    )
    return replace(
        made,
        result=replace(result, images=images),
        algorithm=replace(made.algorithm, name=words, version=words),
        point=made.point.model_copy(update={"name": words}),
    )


def test_hostile_words_are_text_in_a_well_formed_narrative(tmp_path: Path) -> None:
    bundle = report_bundle(hostile(tmp_path / "exam"))
    Bundle.model_validate(bundle)
    divs = list(values(bundle, "div"))
    assert len(divs) == len(bundle["entry"])
    for div in divs:
        tags = {
            element.tag.removeprefix("{http://www.w3.org/1999/xhtml}") for element in ElementTree.fromstring(div).iter()
        }
        assert tags <= {"div", "p"}
    assert any("<script>" in "".join(ElementTree.fromstring(div).itertext()) for div in divs)
    path = tmp_path / "out" / "a.json"
    write_report(hostile(tmp_path / "exam"), path)
    data = path.read_bytes()
    assert data.isascii()
    for sign in ("\\u0000", "\\u001b", "\\ud800"):
        assert sign.encode() not in data


def test_every_view_of_the_exam_is_an_input(tmp_path: Path) -> None:
    (provenance,) = resources(report_bundle(delivery(tmp_path, CASES["partly-rejected"])), "Provenance")
    assert sorted(one["what"]["display"] for one in provenance["entity"]) == sorted(
        f"{side} {view}: {'rejected' if side == 'L' else 'scored'}" for side, view in VIEWS
    )
