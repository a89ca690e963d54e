"""Small tomosynthesis volumes for tests: a phantom's frames with a bright lesion at a depth, stored in every way."""

from __future__ import annotations

from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.support.dicom import VIEW_CODES, code, write_dicom
from tests.support.phantoms import HEIGHT_MM, WHITE, synthetic_mammogram

ROWS, COLUMNS = 400, 300
PIXEL_MM = HEIGHT_MM / ROWS
ROOT = "1.2.826.0.1.3680043.10.2"

Pixels = npt.NDArray[Any]
Spot = tuple[float, float, float]
"""Column, row and frame of a lesion."""


def drawn_volume(
    frames: int,
    spots: Items[Spot] = (),
    *,
    laterality: str = "L",
    view: str = "CC",
    seed: int = 0,
    sigma_frames: float = 4.0,
    bits: int = 16,
) -> Pixels:
    """A phantom's volume, unsigned (frames, rows, columns); lesions of 5 mm (standard deviation) fade out of focus.

    A right breast is a left one mirrored, spots are where they are in the stored image.
    """
    base = 0.7 * synthetic_mammogram(ROWS, COLUMNS, laterality, view, seed).astype(np.float64)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    planes = [np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * 8.0**2)) for column, row, _ in spots]
    highest = (1 << bits) - 1
    stored = np.empty((frames, ROWS, COLUMNS), np.uint16 if bits > 8 else np.uint8)
    for frame in range(frames):
        shown = base.copy()
        for plane, (_, _, depth) in zip(planes, spots, strict=True):
            shown += 33_000 * plane * np.exp(-((frame - depth) ** 2) / (2 * sigma_frames**2))
        stored[frame] = np.rint(np.clip(shown, 0, WHITE) * highest / WHITE)
    return stored


def tomosynthesis(
    pixels: Pixels,
    *,
    laterality: str = "L",
    view: str = "CC",
    bits_stored: int | None = None,
    instance: int = 1,
    study: int = 1,
    positions_mm: Items[float] | None = None,
    frame_laterality: Items[str] | None = None,
    orientation: tuple[str, str] | None = None,
    **attributes: Any,
) -> Dataset:
    """A Breast Tomosynthesis Image (PS3.3 A.51) of `pixels`, (frames, rows, columns); None deletes an attribute."""
    frames = len(pixels)
    dataset = _common(pixels, study, instance, bits_stored)
    dataset.SOPClassUID = uid.BreastTomosynthesisImageStorage
    dataset.Modality = "MG"
    dataset.SeriesDescription = f"{laterality} {view} reconstruction"
    dataset.ImageType = ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"]
    dataset.NumberOfFrames = frames
    dataset.ViewCodeSequence = Sequence([_coded(*VIEW_CODES[view])])
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence()
    dataset.BreastImplantPresent = "NO"
    _acquisition(dataset)
    organisation = f"{dataset.SOPInstanceUID}.9"
    dataset.DimensionOrganizationSequence = Sequence([_item(DimensionOrganizationUID=organisation)])
    dataset.DimensionIndexSequence = Sequence(
        [
            _item(
                DimensionOrganizationUID=organisation,
                DimensionIndexPointer=0x00200032,
                FunctionalGroupPointer=0x00209113,
            )
        ]
    )
    positions = list(range(frames)) if positions_mm is None else list(positions_mm)
    groups = _shared(laterality, frame_laterality is None)
    if orientation is not None:
        groups.PatientOrientationInFrameSequence = Sequence([_item(PatientOrientation=list(orientation))])
    dataset.SharedFunctionalGroupsSequence = Sequence([groups])
    ranks = {place: rank for rank, place in enumerate(sorted(set(positions)), start=1)}
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        _own(positions[frame], ranks[positions[frame]], frame_laterality[frame] if frame_laterality else None)
        for frame in range(frames)
    )
    return _with(dataset, pixels, attributes)


def slices(
    pixels: Pixels,
    *,
    laterality: str = "L",
    view: str = "CC",
    instance: int = 1,
    study: int = 1,
    **attributes: Any,
) -> list[Dataset]:
    """The volume as a series of CT images, as older systems store it; Instance Numbers from 1."""
    found = []
    for number, frame in enumerate(pixels):
        dataset = _common(frame, study, instance, None)
        dataset.SOPClassUID = uid.CTImageStorage
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{number + 1}"
        dataset.Modality = "CT"
        dataset.BodyPartExamined = "BREAST"
        dataset.SeriesDescription = f"{laterality} {view} Tomosynthesis"
        dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber = number + 1
        dataset.AcquisitionNumber, dataset.KVP, dataset.PatientPosition = 1, 30, "HFP"
        dataset.PixelSpacing, dataset.SliceThickness = [PIXEL_MM, PIXEL_MM], 1
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
        dataset.WindowCenter, dataset.WindowWidth = 32768, 65536
        dataset.Laterality = laterality
        found.append(_with(dataset, frame, attributes))
    return found


def capture(pixels: Pixels, *, laterality: str = "L", view: str = "CC", study: int = 1, **attributes: Any) -> Dataset:
    """The volume as a multi-frame Secondary Capture, which says nothing of planes."""
    wide = pixels.dtype.itemsize > 1
    dataset = _common(pixels, study, 1, None)
    dataset.SOPClassUID = (
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage
        if wide
        else uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    )
    dataset.Modality, dataset.ConversionType = "MG", "WSD"
    dataset.SeriesDescription = f"{laterality} {view} Tomosynthesis Reconstruction"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.NumberOfFrames = len(pixels)
    dataset.FrameIncrementPointer = 0x00181065
    dataset.FrameTimeVector = [0.0] + [1.0] * (len(pixels) - 1)
    dataset.PixelSpacing, dataset.PresentationLUTShape = [PIXEL_MM, PIXEL_MM], "IDENTITY"
    dataset.Laterality, dataset.PatientOrientation = laterality, ""
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.BurnedInAnnotation = "NO"
    return _with(dataset, pixels, attributes)


def write_volume(path: Path, pixels: Pixels, syntax: str = uid.ExplicitVRLittleEndian, **attributes: Any) -> Path:
    """Write a Breast Tomosynthesis Image; `attributes` as of `tomosynthesis`."""
    return write_dicom(path, tomosynthesis(pixels, **attributes), syntax)


def write_slices(folder: Path, pixels: Pixels, **attributes: Any) -> list[Path]:
    """Write a series of CT images, one a file; file names say nothing of their order."""
    return [
        write_dicom(folder / f"{(7 * number) % 101:03d}-{number}.dcm", dataset)
        for number, dataset in enumerate(slices(pixels, **attributes))
    ]


def _common(pixels: Pixels, study: int, instance: int, bits_stored: int | None) -> Dataset:
    width = pixels.dtype.itemsize * 8
    dataset = Dataset()
    dataset.SOPInstanceUID = f"{ROOT}.{study}.{instance}"
    dataset.StudyInstanceUID, dataset.StudyID = f"{ROOT}.{study}", "1"
    dataset.SeriesInstanceUID, dataset.SeriesNumber = f"{ROOT}.{study}.0.{instance}", instance
    dataset.InstanceNumber = instance
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = f"{ROOT}.{study}.7.{instance}", ""
    dataset.PatientID, dataset.PatientName = f"woman-{study}", "Doe^Jane"
    dataset.PatientBirthDate, dataset.PatientSex = "19611223", "F"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20240131", "120000", ""
    dataset.ContentDate, dataset.ContentTime = "20240131", "120000"
    dataset.ReferringPhysicianName = ""
    dataset.Manufacturer, dataset.ManufacturerModelName = "Maker", "Model"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "1", "1"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored = width, bits_stored or width
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    return dataset


def _acquisition(dataset: Dataset) -> None:
    """What the modules of acquisition and reconstruction ask for (PS3.3 C.8.21), as a device would write it."""
    dataset.SeriesDate, dataset.SeriesTime = "20240131", "120000"
    dataset.AcquisitionDateTime, dataset.AcquisitionContextSequence = "20240131120000", Sequence()
    dataset.BodyPartExamined, dataset.ImageComments = "BREAST", "phantom"
    dataset.PixelPresentation, dataset.VolumetricProperties = "MONOCHROME", "VOLUME"
    dataset.VolumeBasedCalculationTechnique, dataset.PresentationLUTShape = "TOMOSYNTHESIS", "IDENTITY"
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"
    dataset.ContentQualification = "RESEARCH"
    dataset.BreastImplantPresent, dataset.PartialView = "NO", "NO"
    reference = _item(
        ReferencedSOPClassUID=uid.BreastProjectionXRayImageStorageForProcessing,
        ReferencedSOPInstanceUID=f"{dataset.SOPInstanceUID}.8",
        InstanceNumber=1,
    )
    series = _item(
        SeriesInstanceUID=f"{dataset.SeriesInstanceUID}.8",
        SeriesNumber=8,
        ReferencedInstanceSequence=Sequence([reference]),
    )
    study = _item(StudyInstanceUID=dataset.StudyInstanceUID, ReferencedSeriesSequence=Sequence([series]))
    detector = {
        "DetectorType": "DIRECT",
        "DetectorID": "1",
        "DateOfLastDetectorCalibration": "20240101",
        "TimeOfLastDetectorCalibration": "120000",
        "DetectorElementSpacing": [0.07, 0.07],
    }
    dataset.ContributingSourcesSequence = Sequence(
        [
            _item(
                ContributingSOPInstancesReferenceSequence=Sequence([study]),
                Manufacturer="Maker",
                ManufacturerModelName="Model",
                DeviceSerialNumber="1",
                SoftwareVersions="1",
                AcquisitionDateTime="20240131120000",
                Rows=dataset.Rows,
                Columns=dataset.Columns,
                BitsStored=dataset.BitsStored,
                LossyImageCompression="00",
                **detector,
            )
        ]
    )
    exposure = {
        "KVP": 30.0,
        "XRayTubeCurrentInmA": 100.0,
        "FrameAcquisitionDuration": 50.0,
        "ExposureTimeInms": 50.0,
        "ExposureInmAs": 5.0,
        "RelativeXRayExposure": 100,
    }
    acquisition = {
        "FieldOfViewShape": "RECTANGLE",
        "XRayReceptorType": "DIGITAL_DETECTOR",
        "DistanceSourceToDetector": 700.0,
        "DistanceSourceToPatient": 660.0,
        "EstimatedRadiographicMagnificationFactor": 1.06,
        "AnodeTargetMaterial": "TUNGSTEN",
        "BodyPartThickness": 50.0,
        "ExposureControlMode": "AUTOMATIC",
        "ExposureControlModeDescription": "phantom",
        "HalfValueLayer": 0.5,
        "FocalSpots": 0.3,
        "DetectorTemperature": 25.0,
        "FilterType": "FLAT",
        "FilterMaterial": "ALUMINUM",
        "CompressionForce": 100.0,
        "PaddleDescription": "flat",
        "KVP": 30.0,
        "ExposureInmAs": 50.0,
        "ExposureTimeInms": 1000.0,
        "XRayTubeCurrentInmA": 100.0,
        "PositionerType": "MAMMOGRAPHIC",
        "PrimaryPositionerScanArc": 15.0,
        "PrimaryPositionerScanStartAngle": -7.5,
        "PrimaryPositionerIncrement": 1.0,
        "FieldOfViewDimensionsInFloat": [240.0, 180.0],
        "FieldOfViewOrigin": [0.0, 0.0],
        "PerProjectionAcquisitionSequence": Sequence([_item(**exposure, PositionerPrimaryAngle=0.0)]),
    }
    dataset.XRay3DAcquisitionSequence = Sequence([_item(**acquisition)])
    dataset.XRay3DReconstructionSequence = Sequence(
        [
            _item(
                ReconstructionDescription="shift and add",
                ApplicationName="phantom",
                ApplicationVersion="1",
                ApplicationManufacturer="Maker",
                AlgorithmType="FILTER_BACK_PROJ",
                AcquisitionIndex=1,
            )
        ]
    )


def _shared(laterality: str, with_side: bool) -> Dataset:
    groups = Dataset()
    groups.PixelMeasuresSequence = Sequence(
        [_item(PixelSpacing=[PIXEL_MM, PIXEL_MM], SliceThickness=1.0, SpacingBetweenSlices=1.0)]
    )
    groups.PlaneOrientationSequence = Sequence([_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])
    if with_side:
        groups.FrameAnatomySequence = Sequence([_anatomy(laterality)])
    groups.FrameVOILUTSequence = Sequence([_item(WindowCenter=32768.0, WindowWidth=65536.0)])
    groups.PixelValueTransformationSequence = Sequence(
        [_item(RescaleIntercept=0.0, RescaleSlope=1.0, RescaleType="US")]
    )
    return groups


def _own(position_mm: float, rank: int, laterality: str | None) -> Dataset:
    groups = Dataset()
    groups.FrameContentSequence = Sequence([_item(DimensionIndexValues=[rank], FrameAcquisitionNumber=1)])
    groups.PlanePositionSequence = Sequence([_item(ImagePositionPatient=[0, 0, position_mm])])
    groups.XRay3DFrameTypeSequence = Sequence(
        [
            _item(
                FrameType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"],
                PixelPresentation="MONOCHROME",
                VolumetricProperties="VOLUME",
                VolumeBasedCalculationTechnique="TOMOSYNTHESIS",
                ReconstructionIndex=1,
            )
        ]
    )
    if laterality is not None:
        groups.FrameAnatomySequence = Sequence([_anatomy(laterality)])
    return groups


def _anatomy(laterality: str) -> Dataset:
    return _item(FrameLaterality=laterality, AnatomicRegionSequence=Sequence([_coded("76752008", "Breast")]))


def _coded(value: str, meaning: str) -> Dataset:
    return code(value, meaning)


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _with(dataset: Dataset, pixels: Pixels, attributes: dict[str, Any]) -> Dataset:
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    return dataset
