"""From headers to images: what is read, what is rejected and for which reason."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from screening.dicomfile import open_dicom
from screening.exam import Image, ImageKind, Laterality, PresentationIntent, View
from screening.headers import Instance, header_keywords, read_instance
from screening.result import Reason, Rejection
from screening.site import PixelSpacing, Reject, Rule, SiteProfile, SopClass, load_site
from screening.views import ViewModifier
from tests.support.dicom import code, mammogram, noise_image, write_dicom

DEFAULT = load_site()
SHAPE = (48, 40)


def read(tmp_path: Path, dataset: Dataset, profile: SiteProfile = DEFAULT, key: bytes | None = None) -> Instance:
    path = write_dicom(tmp_path / "image", dataset)
    with open_dicom(path, header_keywords(profile)) as file:
        return read_instance(file, path, profile, key)


def image(tmp_path: Path, profile: SiteProfile = DEFAULT, **attributes: Any) -> Image:
    outcome = read(tmp_path, mammogram(noise_image(*SHAPE), bits_stored=12, **attributes), profile).outcome
    assert isinstance(outcome, Image), outcome
    return outcome


def rejection(tmp_path: Path, profile: SiteProfile = DEFAULT, **attributes: Any) -> Rejection:
    outcome = read(tmp_path, mammogram(noise_image(*SHAPE), bits_stored=12, **attributes), profile).outcome
    assert isinstance(outcome, Rejection), outcome
    return outcome


def profile_with(**changes: Any) -> SiteProfile:
    return DEFAULT.model_copy(update=changes)


def view_code(value: str, *modifiers: str) -> Sequence:
    return Sequence([code(value, "a view", modifiers=tuple(code(modifier, "a modifier") for modifier in modifiers))])


def test_standard_mammogram_is_read_whole(tmp_path: Path) -> None:
    instance = read(tmp_path, mammogram(noise_image(*SHAPE), bits_stored=12, laterality="R", view="MLO"))
    assert instance.exam_id == "1.2.826.0.1.3680043.10.1.1"
    assert instance.woman_id == "woman-1"
    assert instance.exam_date == date(2024, 1, 31)
    assert instance.manufacturer == "Maker"
    assert instance.outcome == Image(
        image_id="1.2.826.0.1.3680043.10.1.1.1",
        path=tmp_path / "image",
        laterality=Laterality.RIGHT,
        view=View.MLO,
        kind=ImageKind.FFDM,
        rows=48,
        columns=40,
        frames=1,
        pixel_spacing_mm=(0.1, 0.1),
        patient_orientation=("P", "L"),
    )


@pytest.mark.parametrize("value", ["399368009", "R-10226"])
def test_view_code_decides_before_view_position(tmp_path: Path, value: str) -> None:
    found = image(tmp_path, ViewCodeSequence=view_code(value), ViewPosition="CC")
    assert found.view is View.MLO
    assert "contradicts itself on the view" in found.warnings[0]


@pytest.mark.parametrize("missing", [{"ViewCodeSequence": None}, {"ViewCodeSequence": Sequence()}])
def test_view_position_stands_in_for_a_missing_code(tmp_path: Path, missing: dict[str, Any]) -> None:
    assert image(tmp_path, **missing, view="MLO").view is View.MLO


def test_private_view_code_is_understood_by_its_meaning(tmp_path: Path) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12, ViewPosition=None)
    dataset.ViewCodeSequence = Sequence([code("X-1", "Medio-Lateral Oblique", "99VENDOR")])
    found = read(tmp_path, dataset).outcome
    assert isinstance(found, Image)
    assert found.view is View.MLO


@pytest.mark.parametrize(
    ("base", "modifier", "view"),
    [("399368009", "399011000", View.AT), ("399162004", "399161006", View.CV), ("399162004", "399011000", View.CC)],
)
def test_axillary_tail_and_cleavage_are_views_of_their_own(
    tmp_path: Path, base: str, modifier: str, view: View
) -> None:
    assert image(tmp_path, ViewCodeSequence=view_code(base, modifier), ViewPosition=None).view is view


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ViewCodeSequence": view_code("399162004", "399163009")}, Reason.MAGNIFICATION),
        ({"ViewCodeSequence": view_code("R-10242", "R-102D6")}, Reason.MAGNIFICATION),
        ({"ViewPosition": "MCC"}, Reason.MAGNIFICATION),
        ({"ViewModifierCodeSequence": Sequence([code("399163009", "Magnification")])}, Reason.MAGNIFICATION),
        ({"EstimatedRadiographicMagnificationFactor": 1.5}, Reason.MAGNIFICATION),
        ({"ViewCodeSequence": view_code("399162004", "399055006")}, Reason.SPOT),
        ({"ViewPosition": "SCC"}, Reason.SPOT),
        ({"ViewCodeSequence": view_code("127457009")}, Reason.SPECIMEN),
        ({"ViewCodeSequence": view_code("G-8310")}, Reason.SPECIMEN),
        ({"ViewPosition": "SPECIMEN"}, Reason.SPECIMEN),
        ({"SeriesDescription": "Specimen L"}, Reason.SPECIMEN),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "STEREO_SCOUT"]}, Reason.LOCALISER),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Reason.LOCALISER),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "STEREO_MINUS"]}, Reason.BIOPSY),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PREFIRE_PLUS"]}, Reason.BIOPSY),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "POSTMARKER"]}, Reason.BIOPSY),
        ({"ProtocolName": "STEREO"}, Reason.BIOPSY),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "TOMO_PROJ", "RIGHT"]}, Reason.PROJECTION),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS"]}, Reason.TOMOSYNTHESIS),
        ({"ImageType": ["DERIVED", "PRIMARY", "POST_CONTRAST", "SUBTRACTION"]}, Reason.NOT_MAMMOGRAPHY),
        ({"QualityControlImage": "YES"}, Reason.NOT_MAMMOGRAPHY),
        ({"SOPClassUID": uid.BreastProjectionXRayImageStorageForPresentation}, Reason.PROJECTION),
        ({"SOPClassUID": uid.BreastProjectionXRayImageStorageForProcessing}, Reason.PROJECTION),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, Reason.SOP_CLASS),
        ({"SOPClassUID": uid.CTImageStorage, "Modality": "CT"}, Reason.NOT_MAMMOGRAPHY),
        ({"Modality": "DX"}, Reason.NOT_MAMMOGRAPHY),
        ({"Modality": None}, Reason.NOT_MAMMOGRAPHY),
        ({"ViewCodeSequence": None, "ViewPosition": None}, Reason.UNKNOWN_VIEW),
        ({"ViewCodeSequence": None, "ViewPosition": "FLATFIELD"}, Reason.UNKNOWN_VIEW),
        ({"ImageLaterality": None}, Reason.UNKNOWN_LATERALITY),
        ({"ImageLaterality": "B"}, Reason.UNKNOWN_LATERALITY),
        ({"ImagerPixelSpacing": None}, Reason.UNKNOWN_SPACING),
        ({"PatientID": None}, Reason.MISSING_IDENTIFIER),
        ({"PatientID": ""}, Reason.MISSING_IDENTIFIER),
        ({"StudyInstanceUID": None}, Reason.MISSING_IDENTIFIER),
    ],
)
def test_what_is_not_to_be_scored_is_rejected_with_its_reason(
    tmp_path: Path, attributes: dict[str, Any], reason: Reason
) -> None:
    assert rejection(tmp_path, **attributes).code is reason


def test_missing_instance_uid_is_rejected(tmp_path: Path) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    path = write_dicom(tmp_path / "image", dataset)
    element = b"\x08\x00\x18\x00UI\x1c\x00" + dataset.SOPInstanceUID.encode()
    assert element in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(element, b"\x08\x00\x18\x00UI\x00\x00"))
    with open_dicom(path, header_keywords(DEFAULT)) as file:
        instance = read_instance(file, path, DEFAULT)
    assert instance.outcome == Rejection(Reason.MISSING_IDENTIFIER, "the header has no SOPInstanceUID")


def test_contact_magnification_is_no_magnification_view(tmp_path: Path) -> None:
    found = image(tmp_path, EstimatedRadiographicMagnificationFactor=1.073)
    assert found.pixel_spacing_mm == pytest.approx((0.1 / 1.073, 0.1 / 1.073))


def test_unknown_magnification_written_as_0_counts_as_none(tmp_path: Path) -> None:
    assert image(tmp_path, EstimatedRadiographicMagnificationFactor=0).pixel_spacing_mm == (0.1, 0.1)


@pytest.mark.parametrize(
    ("attributes", "spacing"),
    [
        ({"ImagerPixelSpacing": [0.11, 0.066]}, (0.1, 0.06)),
        ({"ImagerPixelSpacing": [0.11, 0.066], "PixelSpacing": [0.11, 0.066]}, (0.1, 0.06)),
        ({"ImagerPixelSpacing": [0.11, 0.066], "PixelSpacing": [0.09, 0.08]}, (0.09, 0.08)),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.09, 0.08]}, (0.09, 0.08)),
        ({"ImagerPixelSpacing": [0.11, 0.066], "NominalScannedPixelSpacing": [0.05, 0.05]}, (0.1, 0.06)),
        ({"ImagerPixelSpacing": None, "NominalScannedPixelSpacing": [0.05, 0.05]}, (0.05, 0.05)),
    ],
)
def test_spacing_is_that_in_the_plane_of_the_breast(
    tmp_path: Path, attributes: dict[str, Any], spacing: tuple[float, float]
) -> None:
    found = image(tmp_path, **attributes, EstimatedRadiographicMagnificationFactor=1.1)
    assert found.pixel_spacing_mm == pytest.approx(spacing)


def test_site_may_keep_the_spacing_at_the_detector(tmp_path: Path) -> None:
    profile = profile_with(pixel_spacing=PixelSpacing(correct_magnification=False))
    assert image(tmp_path, profile, EstimatedRadiographicMagnificationFactor=1.1).pixel_spacing_mm == (0.1, 0.1)


def test_default_spacing_stands_in_only_where_the_header_states_none(tmp_path: Path) -> None:
    profile = profile_with(pixel_spacing=PixelSpacing(default_mm=0.05))
    assert image(tmp_path, profile).pixel_spacing_mm == (0.1, 0.1)
    assert image(tmp_path, profile, ImagerPixelSpacing=None).pixel_spacing_mm == (0.05, 0.05)


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D", "", "150000"]}, ImageKind.SYNTHETIC),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMO_2D"]}, ImageKind.SYNTHETIC),
        ({"SeriesDescription": "R CC C-View"}, ImageKind.SYNTHETIC),
        ({"SeriesDescription": "L MLO S-View"}, ImageKind.SYNTHETIC),
        ({"AcquisitionDeviceProcessingDescription": "INTELLIGENT2D"}, ImageKind.SYNTHETIC),
        ({"SeriesDescription": "R CC, Post View"}, ImageKind.FFDM),
        ({"ImageType": ["ORIGINAL", "PRIMARY"]}, ImageKind.FFDM),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "POST_CONTRAST", "", "LOW_ENERGY"]}, ImageKind.FFDM),
    ],
)
def test_synthetic_images_are_told_from_real_ones(tmp_path: Path, attributes: dict[str, Any], kind: ImageKind) -> None:
    assert image(tmp_path, **attributes).kind is kind


def test_raw_images_are_left_to_the_bundle_unless_the_site_rejects_them(tmp_path: Path) -> None:
    raw: dict[str, Any] = {
        "SOPClassUID": uid.DigitalMammographyXRayImageStorageForProcessing,
        "PresentationIntentType": "FOR PROCESSING",
    }
    assert image(tmp_path, **raw).intent is PresentationIntent.FOR_PROCESSING
    assert image(tmp_path, **{**raw, "PresentationIntentType": None}).intent is PresentationIntent.FOR_PROCESSING
    profile = profile_with(reject=Reject(for_processing=True))
    assert rejection(tmp_path, profile, **raw).code is Reason.FOR_PROCESSING


@pytest.mark.parametrize(
    ("attributes", "reject", "warning", "implant"),
    [
        ({"BreastImplantPresent": "YES"}, Reject(implants=True), "implant", True),
        (
            {"ViewCodeSequence": view_code("399162004", "399209000")},
            Reject(implants=True),
            "implant displaced view",
            True,
        ),
        ({"PartialView": "YES"}, Reject(partial_views=True), "partial view", False),
        (
            {"ViewCodeSequence": view_code("399162004", "399197002")},
            Reject(modifiers=(ViewModifier.ROLLED_LATERAL,)),
            "rolled lateral view",
            False,
        ),
    ],
)
def test_special_views_are_scored_with_a_warning_unless_the_site_rejects_them(
    tmp_path: Path, attributes: dict[str, Any], reject: Reject, warning: str, implant: bool
) -> None:
    found = image(tmp_path, **attributes)
    assert warning in found.warnings[0]
    assert found.implant is implant
    assert rejection(tmp_path, profile_with(reject=reject), **attributes).code is Reason.EXCLUDED_BY_SITE


def test_laterality_that_contradicts_itself_is_reported(tmp_path: Path) -> None:
    found = image(tmp_path, laterality="L", Laterality="R")
    assert found.laterality is Laterality.LEFT
    assert found.warnings == (
        "the header contradicts itself on laterality: ImageLaterality (L) was taken, not Laterality",
    )


def test_laterality_is_found_in_functional_groups(tmp_path: Path) -> None:
    anatomy, groups = Dataset(), Dataset()
    anatomy.FrameLaterality = "R"
    groups.FrameAnatomySequence = Sequence([anatomy])
    found = image(tmp_path, ImageLaterality=None, SharedFunctionalGroupsSequence=Sequence([groups]))
    assert found.laterality is Laterality.RIGHT


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"Rows": 60000}, "more than any mammogram has"),
        ({"BitsAllocated": 1}, "Bits Allocated is 1"),
        ({"BitsStored": 40}, "Bits Stored 40"),
        ({"SamplesPerPixel": 3}, "not monochrome"),
        ({"NumberOfFrames": 3}, "declares 3 frames; a mammogram has one"),
        ({"ImagerPixelSpacing": [50, 50]}, "ImagerPixelSpacing is no pair"),
        ({"ImagerPixelSpacing": [0.1]}, "ImagerPixelSpacing is no pair"),
        ({"PixelSpacing": [0.0, 0.0]}, "PixelSpacing is no pair"),
        ({"EstimatedRadiographicMagnificationFactor": 0.2}, "Magnification Factor is 0.2"),
        ({"Modality": ["MG", "CT"]}, "Modality has 2 values where one is expected"),
        ({"StudyInstanceUID": "1.2.3\\1.2.4"}, "StudyInstanceUID has 2 values"),
    ],
)
def test_implausible_header_is_rejected(tmp_path: Path, attributes: dict[str, Any], sentence: str) -> None:
    found = rejection(tmp_path, **attributes)
    assert found.code is Reason.IMPLAUSIBLE_HEADER
    assert sentence in found.sentence


@pytest.mark.parametrize(
    ("keyword", "good", "bad"),
    [
        ("StudyDate", b"20240131", b"\xff\xfe\x00\x01\xfa\xfb\xfc\xfd"),
        ("StudyDate", b"20240131", b"20241399"),
        ("StudyInstanceUID", b"1.2.826.0.1.3680043.10.1.1", b"../../../../etc/passwd...."),
        ("EstimatedRadiographicMagnificationFactor", b"1.0123", b"large!"),
        ("NumberOfFrames", b"1 ", b"1x"),
    ],
)
def test_malformed_value_is_rejected_naming_its_attribute(
    tmp_path: Path, keyword: str, good: bytes, bad: bytes
) -> None:
    dataset = mammogram(
        noise_image(*SHAPE), bits_stored=12, EstimatedRadiographicMagnificationFactor="1.0123", NumberOfFrames="1"
    )
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.4"
    path = write_dicom(tmp_path / "image", dataset)
    path.write_bytes(path.read_bytes().replace(good, bad))
    with open_dicom(path, header_keywords(DEFAULT)) as file:
        outcome = read_instance(file, path, DEFAULT).outcome
    assert isinstance(outcome, Rejection)
    assert outcome.code is Reason.IMPLAUSIBLE_HEADER
    assert keyword in outcome.sentence


def test_old_date_format_is_read(tmp_path: Path) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    path = write_dicom(tmp_path / "image", dataset)
    old = path.read_bytes().replace(b"DA\x08\x0020240131", b"DA\x0a\x002024.01.31")
    path.write_bytes(old)
    with open_dicom(path, header_keywords(DEFAULT)) as file:
        assert read_instance(file, path, DEFAULT).exam_date == date(2024, 1, 31)


def test_tiny_image_is_rejected(tmp_path: Path) -> None:
    outcome = read(tmp_path, mammogram(noise_image(1, 1), bits_stored=12)).outcome
    assert outcome == Rejection(Reason.TOO_SMALL, "the image has 1 x 1 pixels, too few for a breast")


def test_unsupported_transfer_syntax_is_rejected_before_decoding(tmp_path: Path) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    path = write_dicom(tmp_path / "image", dataset, uid.MPEG2MPML, codestreams=[b"\0" * 100])
    with open_dicom(path, header_keywords(DEFAULT)) as file:
        outcome = read_instance(file, path, DEFAULT).outcome
    assert isinstance(outcome, Rejection)
    assert outcome.code is Reason.TRANSFER_SYNTAX
    assert "MPEG2 Main Profile" in outcome.sentence


def test_rejected_image_keeps_what_is_known_of_it(tmp_path: Path) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12, ViewPosition="MCC")
    instance = read(tmp_path, dataset)
    assert isinstance(instance.outcome, Rejection)
    assert (instance.laterality, instance.view, instance.kind) == ("L", "CC", "ffdm")
    assert (instance.rows, instance.columns, instance.frames) == (48, 40, 1)
    assert instance.exam_id == dataset.StudyInstanceUID
    assert instance.image_id == dataset.SOPInstanceUID


def test_sentences_do_not_tell_who_the_woman_is(tmp_path: Path) -> None:
    profile = profile_with(
        view=(Rule(attribute="PatientID", pattern="(CC|MLO)"),),
        woman=(Rule(attribute="PatientID", pattern="^no match$"),),
    )
    for secret in ({"PatientID": "secret-123456"}, {"PatientID": "secret-CC"}):
        assert "secret" not in rejection(tmp_path, profile, **secret).sentence


def test_rules_find_everything_in_one_attribute(tmp_path: Path) -> None:
    profile = SiteProfile(
        name="odd",
        description="",
        sop_classes=(SopClass(uid=uid.SecondaryCaptureImageStorage),),
        woman=(Rule(attribute="PatientID", pattern=r"^(?P<value>\w+)/"),),
        exam=(Rule(attribute="PatientID", pattern=r"^(?P<value>\w+/\d+)/"),),
        view=(Rule(attribute="PatientID", pattern=r"(?P<value>A|B)$", values={"A": "CC", "B": "MLO"}),),
        laterality=(Rule(attribute="PatientID", pattern=r"/(?P<value>\w)/", values={"X": "L", "Y": "R"}),),
    )
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12, PatientID="w1/2020/Y/B", ViewPosition=None)
    dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    instance = read(tmp_path, dataset, profile)
    assert (instance.woman_id, instance.view, instance.laterality) == ("w1", "MLO", "R")


@pytest.mark.parametrize("text", ["../../etc", "a/b", ".hidden", "Müller", "x" * 65])
def test_exam_id_can_name_a_folder_whatever_the_header_says(tmp_path: Path, text: str) -> None:
    profile = profile_with(exam=(Rule(attribute="StudyID"),))
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.add_new("StudyID", "LO", text)
    exam_id = read(tmp_path, dataset, profile).exam_id
    assert exam_id.startswith("exam-")
    assert Path(tmp_path, exam_id).parent == tmp_path


def test_pseudonyms_hide_the_woman_and_what_exams_are_named_after(tmp_path: Path) -> None:
    key = b"a key of sixteen"
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    named_after_woman = profile_with(exam=(Rule(attribute="PatientID"),))
    plain, hidden = read(tmp_path, dataset), read(tmp_path, dataset, key=key)
    grouped = read(tmp_path, dataset, named_after_woman, key)
    assert hidden.woman_id != plain.woman_id == "woman-1"
    assert hidden.exam_id == plain.exam_id
    assert "woman-1" not in (grouped.exam_id, grouped.woman_id)
