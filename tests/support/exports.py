"""Results to be exported: women with rounds, in whose files identifiers are planted wherever a header can hold them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from screening.exam import Image, ImageKind, Laterality, View
from screening.result import (
    BreastResult,
    ExamResult,
    ImageResult,
    InstanceRejection,
    Reason,
    Region,
    Rejection,
    Status,
)
from screening.store import STORE_NAME, ResultStore, write_tables
from tests.support.deliveries import bundle
from tests.support.dicom import code, mammogram, write_dicom
from tests.support.peers import needs_program

needs_tesseract = needs_program("tesseract", "tesseract-ocr")

ROWS, COLUMNS = 96, 64
KEY, OTHER_KEY = b"0123456789abcdef-first-secret-of-a-site", b"fedcba9876543210-second-secret-of-a-site"

PLANTED = (
    "Musterfrau", "Erika", "Mustermaedchen", "NHS-4711-0815", "19611223", "1961-12-23", "23.12.1961", "+49 30 901820",
    "Ursula Hospital", "Klosterweg", "Operatrix", "Referrix", "ACC-99317", "ALIAS-2208", "PLATE-77", "STATION9",
    "SN-556677", "HOSPAET", "EVILWORD",
)  # fmt: skip
"""Words that must be found nowhere in an export, in any case."""


@dataclass(frozen=True)
class Round:
    """One exam of a woman: its number among all studies, and its day."""

    study: int
    day: date


ROUNDS = (Round(1, date(2020, 3, 2)), Round(2, date(2022, 3, 17)))
"""Of the first woman: 745 days apart."""


def identifying(study: int, day: date) -> dict[str, Any]:
    """Attributes of a file of the first woman, with identifiers in all kinds of places."""
    return {
        "PatientName": "Musterfrau^Erika",
        "PatientID": "NHS-4711-0815",
        "PatientBirthDate": "19611223",
        "PatientBirthName": "Mustermaedchen^Erika",
        "PatientSex": "F",
        "PatientTelephoneNumbers": "+49 30 901820",
        "PatientAddress": "Klosterweg 5, Musterstadt",
        "PatientComments": "Erika (born 23.12.1961) was called; EVILWORD",
        "OtherPatientIDsSequence": Sequence([_item(PatientID="ALIAS-2208", IssuerOfPatientID="Ursula Hospital")]),
        "InstitutionName": "St Ursula Hospital",
        "InstitutionAddress": "Klosterweg 1",
        "StationName": "STATION9",
        "OperatorsName": "Operatrix^Olga",
        "ReferringPhysicianName": "Referrix^Rita",
        "AccessionNumber": "ACC-99317",
        "StudyID": "ACC-99317",
        "StudyDate": day.strftime("%Y%m%d"),
        "StudyTime": "101523.456",
        "AcquisitionDateTime": day.strftime("%Y%m%d101601.789+0100"),
        "StudyDescription": "Screening of Erika Musterfrau",
        "SeriesDescription": "EVILWORD",
        "ImageComments": "see letter to Dr Referrix",
        "DeviceSerialNumber": "SN-556677",
        "DetectorID": "PLATE-77",
        "SoftwareVersions": ["AWS 5.1", "licensed to Ursula Hospital St Ursula Hospital"],
        "RequestAttributesSequence": Sequence([_item(RequestedProcedureID="ACC-99317", ScheduledProcedureStepID="X1")]),
        "ContributingEquipmentSequence": Sequence(
            [
                _item(
                    PurposeOfReferenceCodeSequence=Sequence([code("109101", "Acquisition Equipment", "DCM")]),
                    Manufacturer="Maker",
                    InstitutionName="St Ursula Hospital",
                    OperatorsName="Operatrix^Olga",
                    ContributionDescription="EVILWORD",
                )
            ]
        ),
        "AnatomicRegionSequence": Sequence([code("76752008", "Breast of Musterfrau")]),
        "SourceImageSequence": Sequence(
            [
                _item(
                    ReferencedSOPClassUID=uid.DigitalMammographyXRayImageStorageForProcessing,
                    ReferencedSOPInstanceUID=f"1.2.826.0.1.3680043.10.1.{study}.900",
                )
            ]
        ),
        "BurnedInAnnotation": "NO",
    }


def plant_bytes(dataset: Dataset) -> Dataset:
    """Identifiers outside of the dictionary: private elements, overlays, curves, unknown elements, after the pixels."""
    block = dataset.private_block(0x0029, "EVILWORD MAKER", create=True)
    block.add_new(0x10, "LO", "Musterfrau^Erika")
    block.add_new(0x11, "SQ", Sequence([_item(PatientName="Musterfrau^Erika")]))
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000011, "US", 8)
    dataset.add_new(0x60004000, "LT", "overlay EVILWORD")
    dataset.add_new(0x60003000, "OW", b"Musterfrau, Erika ")
    dataset.add_new(0x50003000, "OW", b"NHS-4711-0815 ")
    dataset.add_new(0x00091234, "UN", b"NHS-4711-0815 ")
    dataset.add_new(0x00189999, "UN", b"Musterfrau")
    dataset.add_new(0xFFFCFFFC, "OB", b"Musterfrau")
    dataset.PixelData += b"Musterfrau^Erika"
    return dataset


def plant_in_file(path: Path) -> None:
    """Identifiers before the dataset: in the preamble and the file meta information."""
    dataset = dcmread(path)
    dataset.preamble = b"Musterfrau^Erika".ljust(128, b"\0")
    dataset.file_meta.SourceApplicationEntityTitle = "HOSPAET"
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.826.0.1.3680043.10.1.99"
    dataset.file_meta.PrivateInformation = b"NHS-4711-0815 "
    dataset.save_as(path)


def write_results(results: Path, files: Path) -> Path:
    """A results folder with two women: the first with both `ROUNDS` and planted identifiers, the second with one exam.

    Four images each, and in the first exam a fifth with text in its pixels, a sixth that claims burnt-in text, and a
    file that was rejected. Tables as `score` writes them.
    """
    with ResultStore(results / STORE_NAME) as store:
        for one in ROUNDS:
            store.add(_exam(files, one, "NHS-4711-0815", identifying(one.study, one.day), extra=one.study == 1))
        other = {"PatientID": "B-2", "PatientName": "Beispiel^Berta", "PatientAge": "093Y", "PatientSex": "F"}
        third = Round(3, date(2021, 6, 1))
        header = {**other, "StudyDate": "20210601", "StudyTime": "090000", "BurnedInAnnotation": "NO"}
        store.add(_exam(files, third, "B-2", header, extra=False))
        spot = Rejection(Reason.SPOT, "Musterfrau's file is a spot view")
        store.add_rejections([InstanceRejection("Musterfrau/spot.dcm", study_uid(1), "1.2.3.4", Status.REJECTED, spot)])
        write_tables(store, results)
    return results


def write_followup(folder: Path) -> Path:
    """A registry's tables of the same women; with columns of its own, and free text."""
    folder.mkdir(parents=True)
    tables = {
        "exams": "exam_id,woman_id,exam_date,site,age,manufacturer,name\n"
        f"{study_uid(1)},NHS-4711-0815,2020-03-02,St Ursula Hospital,58,Hologic Inc,Erika Musterfrau\n"
        f"{study_uid(2)},NHS-4711-0815,20220317,St Ursula Hospital,60,Musterfrau,\n"
        f"{study_uid(3)},B-2,2021-06-01,Elsewhere,93,GE MEDICAL SYSTEMS,\n",
        "diagnoses": "woman_id,diagnosis_date,laterality,malignant,detection\n"
        "NHS-4711-0815,2022-04-20,L,1,Erika felt a lump\n",
        "followup": "woman_id,followed_until\nNHS-4711-0815,2024-01-01\nB-2,2024-01-01\n",
        "biopsies": "woman_id,biopsy_date,laterality,malignant\nNHS-4711-0815,2022-04-11,L,1\n",
        "lesions": "exam_id,image_id,laterality,x,y,width,height,malignant\n"
        f"{study_uid(2)},{study_uid(2)}.1,R,10,20,5,5,1\n",
        "weights": f"exam_id,weight\n{study_uid(1)},1\n{study_uid(2)},2\n{study_uid(3)},3\n",
    }
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def study_uid(study: int) -> str:
    """Study Instance UID of a study."""
    return f"1.2.826.0.1.3680043.10.1.{study}"


def with_text(text: str) -> npt.NDArray[np.uint8]:
    """A mammogram-like image of 300 x 360 pixels, uint8, with `text` burnt into its dark side."""
    y, x = np.mgrid[:300, :360]
    breast = np.exp(-((x / 110.0) ** 2) - ((y - 170) / 110.0) ** 2)
    image = (200 * breast + np.random.default_rng(1).normal(0, 1, breast.shape)).clip(0, 220).astype(np.uint8)
    cv2.putText(image, text, (120, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 240, 2)
    return image


def _exam(files: Path, one: Round, woman_id: str, header: dict[str, Any], extra: bool) -> ExamResult:
    images = []
    for number, (side, view) in enumerate((("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO")), start=1):
        pixels = np.full((ROWS, COLUMNS), number, np.uint16)
        dataset = mammogram(pixels, laterality=side, view=view, instance=number, study=one.study, **header)
        if "PatientBirthName" in header:
            plant_bytes(dataset)
        images.append(_image(files, dataset, side, view))
    if extra:
        unsaid = {keyword: value for keyword, value in header.items() if keyword != "BurnedInAnnotation"}
        stamped = mammogram(with_text("Musterfrau"), instance=5, study=one.study, **unsaid)
        images.append(_image(files, stamped, "L", "CC"))
        claimed = mammogram(
            np.zeros((ROWS, COLUMNS), np.uint8), instance=6, study=one.study, **{**header, "BurnedInAnnotation": "YES"}
        )
        images.append(_image(files, claimed, "L", "CC"))
    top = images[0].regions[0]
    return ExamResult(
        exam_id=study_uid(one.study),
        woman_id=woman_id,
        exam_date=one.day,
        site="St Ursula Hospital",
        manufacturer="Maker",
        model_id=bundle().model_id,
        status=Status.SCORED,
        score=top.score,
        category=5,
        top_region_id=top.region_id,
        breasts=(BreastResult(Laterality.RIGHT, top.score, top.region_id, None),),
        images=tuple(images),
    )


def _image(files: Path, dataset: Dataset, side: str, view: str) -> ImageResult:
    image_id = str(dataset.SOPInstanceUID)
    path = write_dicom(files / "Musterfrau" / f"{image_id}.dcm", dataset)
    plant_in_file(path)
    image = Image(
        image_id=image_id,
        path=path,
        laterality=Laterality(side),
        view=View(view),
        kind=ImageKind.FFDM,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        frames=1,
        pixel_spacing_mm=(0.1, 0.1),
    )
    region = Region(
        region_id=f"{image_id}.r1",
        image_id=image_id,
        laterality=image.laterality,
        view=image.view,
        x=10.0,
        y=20.0,
        width=5.0,
        height=5.0,
        contour=((10.0, 20.0), (15.0, 20.0), (15.0, 25.0), (10.0, 25.0)),
        score=0.25,
        rank=1,
    )
    return ImageResult(image, Status.SCORED, score=0.25, regions=(region,))


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
