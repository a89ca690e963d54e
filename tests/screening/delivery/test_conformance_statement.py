"""The conformance statement says what the code does: its tables are compared with the code and with made objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from screening.delivery.cad_sr import cad_sr
from screening.delivery.fhir import LOCAL_CODES, report_bundle
from screening.delivery.measurement_report import measurement_report
from screening.delivery.presentation_state import LAYER, presentation_states
from screening.delivery.ups import Retrieval, workitem
from screening.delivery.worklist import COLUMNS, WORKLIST_NAME
from screening.imaging.decode import SUPPORTED_SYNTAXES
from screening.site import ObjectKind
from tests.support.deliveries import CASES, delivery

STATEMENT = (Path(__file__).parents[3] / "docs" / "conformance.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """The text below a heading, up to the next one of any level."""
    return re.split(r"^#+ ", STATEMENT.split(f"\n{heading} ", 1)[1], maxsplit=1, flags=re.M)[0]


def uids(text: str) -> set[str]:
    """All DICOM UIDs in a text."""
    return set(re.findall(r"1\.2\.840\.10008(?:\.\d+)+", text))


def datasets(dataset: Dataset) -> Iterator[Dataset]:
    """The dataset and all items in it."""
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from datasets(item)


def local_codes(node: Any) -> set[str]:
    """Codes of the project's own system in a FHIR resource."""
    if isinstance(node, list):
        return {code for one in node for code in local_codes(one)}
    if not isinstance(node, dict):
        return set()
    own = {node["code"]} if node.get("system") == LOCAL_CODES else set()
    return own | {code for one in node.values() for code in local_codes(one)}


def test_accepted_transfer_syntaxes_are_those_that_can_be_decoded() -> None:
    assert uids(section("### 4.2")) == {str(syntax) for syntax in SUPPORTED_SYNTAXES}


def test_each_kind_of_object_has_its_sop_class_in_the_statement() -> None:
    listed = uids(section("#### 3.2.1"))
    made = {
        ObjectKind.CAD_SR: uid.MammographyCADSRStorage,
        ObjectKind.MEASUREMENT_REPORT: uid.ComprehensiveSRStorage,
        ObjectKind.PRESENTATION_STATE: uid.GrayscaleSoftcopyPresentationStateStorage,
        ObjectKind.SUMMARY_IMAGE: uid.SecondaryCaptureImageStorage,
        ObjectKind.HEATMAP: uid.ParametricMapStorage,
    }
    assert set(made) == set(ObjectKind)
    assert {str(one) for one in made.values()} <= listed


@pytest.mark.parametrize("name", ["2d", "dbt"])
def test_objects_are_as_the_statement_says(tmp_path: Path, name: str) -> None:
    made = delivery(tmp_path, CASES[name])
    implementation = re.findall(r"2\.25\.\d+", section("#### 3.2.2"))
    objects = (cad_sr(made), measurement_report(made), *presentation_states(made))
    for one in objects:
        assert str(one.SOPClassUID) in uids(section("#### 3.2.1"))
        assert str(one.SeriesNumber) in section("### 7.1").split()
        assert one.Manufacturer in section("### 7.1")
        assert [one.file_meta.ImplementationClassUID] == implementation
        assert one.file_meta.TransferSyntaxUID in uids(section("#### 3.2.3"))
    assert LAYER in section("### 7.4")
    schemes = {str(one.CodingSchemeDesignator) for o in objects for one in datasets(o) if "CodeValue" in one}
    assert all(scheme.replace("RFC5646", "RFC 5646") in section("## 8") for scheme in schemes)


def test_workitem_is_as_the_statement_says(tmp_path: Path) -> None:
    told = section("### 3.4")
    dataset = workitem(delivery(tmp_path, CASES["2d"]), Retrieval(ae_title="PACS")).dataset
    for keyword in ("ProcedureStepLabel", "WorklistLabel", "ProcedureStepState", "InputReadinessState"):
        assert f"({dataset[keyword].tag.group:04X},{dataset[keyword].tag.element:04X}) | " in told
        assert dataset[keyword].value in told
    assert dataset.ScheduledWorkitemCodeSequence[0].CodeValue in told


def test_local_codes_of_fhir_are_those_that_are_listed(tmp_path: Path) -> None:
    listed = re.search(r"Local codes \(`(.+?)`\): (.+?)\.", section("## 10"), re.S)
    assert listed is not None
    assert listed[1] == LOCAL_CODES
    assert set(re.split(r",\s+", listed[2])) == local_codes(report_bundle(delivery(tmp_path, CASES["dbt"])))


def test_worklist_is_named_in_the_statement() -> None:
    told = section("## 9")
    assert WORKLIST_NAME in told
    assert all(column in told for column in COLUMNS if column not in ("exam_id", "exam_date", "notice"))
