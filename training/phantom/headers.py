"""What the DICOM header of a simulated image says of the woman, the exam, the machine and the view.

Everything follows from the arguments: no clock, no random UID, so that equal images make equal files. What a real
machine measures and the simulation has no counterpart of (tube current, compression force, temperature) is a constant
that is typical of screening.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from screening.exam import ImageKind, Laterality, View
from training.phantom.model import SimulatedImage

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:screening:simulated")
_TIME = "090000"
_VIEW_CODES = {View.CC: ("399162004", "cranio-caudal"), View.MLO: ("399368009", "medio-lateral oblique")}
_KIND_NAMES = {ImageKind.FFDM: "", ImageKind.SYNTHETIC: " Synthesized 2D", ImageKind.DBT: " Tomosynthesis"}

MLO_DEGREES = 45.0
"""Tilt of the machine for an oblique view."""
SOURCE_TO_DETECTOR_MM = 650.0
SOURCE_TO_SUPPORT_MM = 630.0
TUBE_KV = 29.0
EXPOSURE_MAS = 60.0
EXPOSURE_MS = 1000.0
COMPRESSION_N = 100.0
TARGET, FILTER = "TUNGSTEN", "RHODIUM"

# Directions of the body in DICOM's patient frame, in which x grows to her left, y to her back and z to her head
# (PS3.3 C.7.6.2.1.1); by the letters of Patient Orientation.
_DIRECTIONS = {
    "R": (-1.0, 0.0, 0.0),
    "L": (1.0, 0.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "F": (0.0, 0.0, -1.0),
    "H": (0.0, 0.0, 1.0),
}


def simulated_uid(*words: str | int) -> UID:
    """The UID of what `words` name: 2.25 and a name-based UUID (PS3.5 B.2), always the same for equal words."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, words))).int}")


@dataclass(frozen=True)
class ExamHeader:
    """What the images of an exam share: whose it is, the round (from 0), the day, her age in years on it."""

    woman_id: str
    round_number: int
    exam_date: date
    age: float

    @property
    def exam_id(self) -> str:
        """Study Instance UID."""
        return simulated_uid(self.woman_id, self.round_number)

    def image_id(self, kind: ImageKind, laterality: Laterality, view: View) -> str:
        """SOP Instance UID of one image of the exam."""
        return simulated_uid(self.woman_id, self.round_number, kind, laterality, view)


@dataclass(frozen=True)
class ImageHeader:
    """One image of an exam: how it was made, and its place among the exam's images, from 1."""

    exam: ExamHeader
    kind: ImageKind
    number: int

    def image_id(self, image: SimulatedImage) -> str:
        """SOP Instance UID."""
        return self.exam.image_id(self.kind, image.laterality, image.view)


def item(**attributes: Any) -> Dataset:
    """A dataset, or an item of a sequence, of these attributes; a list of datasets becomes a sequence."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        nested = isinstance(value, list) and all(isinstance(entry, Dataset) for entry in value)
        setattr(dataset, keyword, Sequence(value) if nested else value)
    return dataset


def code(value: str, meaning: str) -> Dataset:
    """An item of a code sequence, from SNOMED CT."""
    return item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)


def breast_region() -> Dataset:
    """The code of the breast as an anatomic region."""
    return code("76752008", "Breast")


def view_code(view: View) -> Dataset:
    """The code of a projection (CID 4014), without modifiers."""
    coded = code(*_VIEW_CODES[view])
    coded.ViewModifierCodeSequence = Sequence()
    return coded


def decimal(value: float) -> float:
    """A number that its decimal string (16 characters, PS3.5 6.2) holds in full; no negative zero."""
    return round(float(value), 8) + 0.0


def patient_orientation(laterality: Laterality, view: View) -> tuple[str, str]:
    """Where the image's rows and columns lead to, for a breast that hangs as written (PS3.3 C.7.6.1.1.1).

    A left breast has the chest wall at the left border. A view from above has the outer side at the upper border, an
    oblique one the armpit.
    """
    left = laterality is Laterality.LEFT
    inwards = "R" if left else "L"
    return "A" if left else "P", inwards if view is View.CC else f"F{inwards}"


def direction(letters: str) -> tuple[float, float, float]:
    """The unit vector in the patient frame that letters of Patient Orientation stand for; two are halfway."""
    x, y, z = (sum(axis) for axis in zip(*(_DIRECTIONS[letter] for letter in letters), strict=True))
    length = float(x * x + y * y + z * z) ** 0.5
    return x / length, y / length, z / length


def positioner_angle(laterality: Laterality, view: View) -> float:
    """Tilt of the machine in degrees, positive to the woman's left (PS3.3 C.8.11.7, direction CC).

    The tube of an oblique view stands over the breast's inner side.
    """
    if view is View.CC:
        return 0.0
    return MLO_DEGREES if laterality is Laterality.RIGHT else -MLO_DEGREES


def common_header(image: SimulatedImage, header: ImageHeader, version: str) -> Dataset:
    """What mammogram and volume have in common: patient, study, series, equipment, image and pixel format.

    `version`: of the software that made the image. The pixels themselves are not in it.
    """
    day = header.exam.exam_date.strftime("%Y%m%d")
    image_id = header.image_id(image)
    style = image.style
    return item(
        SOPInstanceUID=image_id,
        StudyInstanceUID=header.exam.exam_id,
        SeriesInstanceUID=simulated_uid(image_id, "series"),
        StudyID=str(header.exam.round_number + 1),
        SeriesNumber=header.number,
        InstanceNumber=1,
        AccessionNumber=f"{header.exam.woman_id}-{header.exam.round_number}"[-16:],
        StudyDescription="Simulated screening",
        SeriesDescription=f"{image.laterality} {image.view}{_KIND_NAMES[header.kind]}",
        StudyDate=day,
        SeriesDate=day,
        ContentDate=day,
        StudyTime=_TIME,
        SeriesTime=_TIME,
        ContentTime=_TIME,
        PatientName=f"SIMULATED^{header.exam.woman_id}",
        PatientID=header.exam.woman_id,
        PatientBirthDate="",
        PatientSex="F",
        PatientAge=f"{int(header.exam.age):03d}Y",
        PatientComments="Simulated: no such person exists.",
        ReferringPhysicianName="",
        Modality="MG",
        BodyPartExamined="BREAST",
        Manufacturer=style.manufacturer,
        ManufacturerModelName=style.model_name,
        DeviceSerialNumber="0",
        SoftwareVersions=version,
        ImageComments="Simulated image. Not for clinical use.",
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        PresentationLUTShape="IDENTITY",
        BreastImplantPresent="NO",
        PartialView="NO",
        ViewCodeSequence=[view_code(image.view)],
        AcquisitionContextSequence=Sequence(),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=image.pixels.shape[-2],
        Columns=image.pixels.shape[-1],
        BitsAllocated=16,
        BitsStored=style.bits,
        HighBit=style.bits - 1,
        PixelRepresentation=0,
    )
