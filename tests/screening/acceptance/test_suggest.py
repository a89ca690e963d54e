"""Changes of a site profile are proposed only where the sample bears them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from screening.acceptance.facts import ODD, read_facts
from screening.acceptance.headers_met import ADVICE, HIDDEN, odd_headers, tallies
from screening.acceptance.image_checks import manufacturers
from screening.acceptance.image_reference import load_reference
from screening.acceptance.sample import rejected_paths
from screening.acceptance.suggest import Suggestion, suggest
from screening.errors import BundleError
from screening.result import Reason
from screening.site import load_site
from screening.sources.folder import read_folder
from tests.support.dicom import mammogram, noise_image, write_dicom
from tests.support.site_samples import phantom_reference

PIXELS = noise_image(40, 40).astype(np.uint16)
SIDES = (("L", "CC"), ("R", "CC"), ("L", "MLO"), ("R", "MLO"))
NO_VIEW: dict[str, Any] = {"ViewPosition": None, "ViewCodeSequence": None}


def write(folder: Path, study: int, describe: str, **attributes: Any) -> None:
    """Four headers whose series description is `describe`, with {side}, {view}; "CC" and "L" are the real ones."""
    for number, (side, view) in enumerate(SIDES, start=1):
        description = describe.format(side=side, view=view, Side={"L": "Left", "R": "Right"}[side])
        dataset = mammogram(
            PIXELS,
            laterality=side,
            view=view,
            instance=number,
            study=study,
            SeriesDescription=description,
            **attributes,
        )
        write_dicom(folder / f"{study}-{number}.dcm", dataset)


def suggestion(folder: Path) -> Suggestion:
    profile = load_site()
    scan = read_folder(folder, profile)
    known = [image for exam in scan.exams for image in exam.images]
    return suggest(rejected_paths(folder, scan.rejections), known, profile)


@pytest.mark.parametrize("describe", ["{side}{view}", "{Side} {view}", "SCREEN_{side}_{view}_2D", "{view} {side}"])
def test_view_and_side_in_words_are_found_in_many_spellings(tmp_path: Path, describe: str) -> None:
    write(tmp_path, 1, describe, ImageLaterality=None, **NO_VIEW)
    found = suggestion(tmp_path)
    assert found.admitted == 4
    assert {change.key for change in found.changes} == {"view", "laterality"}
    read = [image for exam in read_folder(tmp_path, found.profile).exams for image in exam.images]
    assert {(image.laterality.value, image.view.value) for image in read} == set(SIDES)


def test_rule_that_contradicts_known_images_is_not_proposed(tmp_path: Path) -> None:
    write(tmp_path, 1, "protocol CC", **NO_VIEW)  # always CC, whatever the view
    write(tmp_path, 2, "protocol CC")
    found = suggestion(tmp_path)
    assert found.changes == ()
    assert found.yaml == ""


def test_text_with_both_sides_tells_none(tmp_path: Path) -> None:
    write(tmp_path, 1, "LEFT and RIGHT {view}", ImageLaterality=None)
    assert suggestion(tmp_path).changes == ()


def test_spacing_is_taken_from_images_of_the_same_equipment(tmp_path: Path) -> None:
    write(tmp_path, 1, "x", ManufacturerModelName="One")
    write(tmp_path, 2, "x", ManufacturerModelName="One", ImagerPixelSpacing=None)
    found = suggestion(tmp_path)
    assert found.profile.pixel_spacing.default_mm == pytest.approx(0.1)
    assert found.admitted == 4
    write(tmp_path, 3, "x", ManufacturerModelName="Another", ImagerPixelSpacing=None)
    assert suggestion(tmp_path).changes == ()


def test_radiographs_of_other_parts_are_not_made_eligible(tmp_path: Path) -> None:
    from pydicom import uid

    attributes = {"SOPClassUID": uid.ComputedRadiographyImageStorage, "Modality": "CR"}
    write(tmp_path, 1, "x", BodyPartExamined="CHEST", **attributes)
    assert suggestion(tmp_path).changes == ()
    write(tmp_path, 2, "x", BodyPartExamined="BREAST", **attributes)
    (tmp_path / "a").mkdir()
    found = suggestion(tmp_path)
    assert [change.key for change in found.changes] == ["sop_classes"]
    assert "ComputedRadiographyImageStorage" in found.yaml


def test_every_reason_has_its_advice() -> None:
    assert set(ADVICE) == set(Reason)


@pytest.mark.parametrize(
    ("code", "attributes"),
    [
        ("no-software", {}),
        ("no-orientation", {"PatientOrientation": None}),
        ("no-view-code", {"ViewCodeSequence": None}),
        ("no-intent", {"PresentationIntentType": None}),
        ("lossy", {"LossyImageCompression": "01"}),
        ("burned-in", {"BurnedInAnnotation": "YES"}),
        ("implant", {"BreastImplantPresent": "YES"}),
        ("partial", {"PartialView": "YES"}),
        ("no-date", {"StudyDate": None}),
    ],
)
def test_oddity_is_found_where_it_is_and_only_there(tmp_path: Path, code: str, attributes: dict[str, Any]) -> None:
    whole = {"ManufacturerModelName": "One", "SoftwareVersions": "1", "WindowCenter": 1, "WindowWidth": 2}
    write(tmp_path, 1, "x", **{**whole, **({"SoftwareVersions": ""} if code == "no-software" else attributes)})
    facts = read_facts(sorted(tmp_path.iterdir()), load_site())
    assert [one.sentence for one in odd_headers(facts)] == [ODD[code].sentence]
    assert odd_headers(facts)[0].files == 4


def test_free_text_is_shown_only_where_three_women_share_it(tmp_path: Path) -> None:
    for study in (1, 2, 3):
        write(tmp_path, study, "Screening", PatientID=f"w{study}")
    write(tmp_path, 4, "Doe Jane", PatientID="w4")
    facts = read_facts(sorted(tmp_path.iterdir()), load_site())
    shown = dict(tallies(facts)[-1].counts)
    assert shown == {"Screening": 12, HIDDEN: 4}


def test_manufacturer_is_known_whatever_its_legal_form(tmp_path: Path) -> None:
    reference = phantom_reference(tmp_path, images=2)
    assert manufacturers({"MAKER GmbH"}, reference).verdict == "pass"
    check = manufacturers({"MAKER GmbH", "Other", ""}, reference)
    assert check.verdict == "attention"
    assert "Other, not stated" in check.finding


@pytest.mark.parametrize("content", ["", "[]", '{"prepared_mm": 0.5}', '{"prepared_mm": NaN}'])
def test_malformed_reference_is_refused_with_its_place(tmp_path: Path, content: str) -> None:
    (tmp_path / "training-images.json").write_text(content)
    with pytest.raises(BundleError, match=r"training-images.json: .*measure it again"):
        load_reference(tmp_path)
