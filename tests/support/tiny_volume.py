"""A tiny but real Breast Tomosynthesis Image (PS3.3 A.55), with all the modules that validators ask for."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from tests.support.dicom import VIEW_CODES, code, mammogram

SLICE_MM = 1.0
_NOT_OF_A_VOLUME = (
    "ImagerPixelSpacing",
    "ImageLaterality",
    "PatientOrientation",
    "PresentationIntentType",
    "ViewPosition",
)
_IMAGE_TYPE = ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"]


def tiny_volume(pixels: npt.NDArray[Any], *, laterality: str, view: str, instance: int, **attributes: Any) -> Dataset:
    """A reconstructed volume of `pixels`, (frames, rows, columns), uint8 or uint16, with pixels of 0.1 mm.

    Frames lie `SLICE_MM` apart along the patient's z, rows run along y and columns along x, whatever the view: nothing
    here depends on it.
    """
    dataset = mammogram(pixels, laterality=laterality, view=view, instance=instance, **{**_modules(view), **attributes})
    for keyword in _NOT_OF_A_VOLUME:
        delattr(dataset, keyword)
    dataset.SharedFunctionalGroupsSequence = Sequence([_shared(laterality, int(dataset.BitsStored))])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(_frame(number) for number in range(len(pixels)))
    return dataset


def _modules(view: str) -> dict[str, Any]:
    organization = "1.2.826.0.1.3680043.10.1.78"
    position = _item(
        DimensionOrganizationUID=organization,
        DimensionIndexPointer=Tag("ImagePositionPatient"),
        FunctionalGroupPointer=Tag("PlanePositionSequence"),
    )
    view_code = code(*VIEW_CODES[view])
    view_code.ViewModifierCodeSequence = Sequence()
    return {
        "SOPClassUID": uid.BreastTomosynthesisImageStorage,
        "ImageType": _IMAGE_TYPE,
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.10.1.77",
        "PositionReferenceIndicator": "",
        "DimensionOrganizationSequence": Sequence([_item(DimensionOrganizationUID=organization)]),
        "DimensionIndexSequence": Sequence([position]),
        "DimensionOrganizationType": "3D",
        "AcquisitionContextSequence": Sequence(),
        "ContentDate": "20240131",
        "ContentTime": "101500",
        "InstanceNumber": 1,
        "ManufacturerModelName": "Volume",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "PresentationLUTShape": "IDENTITY",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
        "ContentQualification": "RESEARCH",
        "BreastImplantPresent": "NO",
        "ViewCodeSequence": Sequence([view_code]),
        "XRay3DAcquisitionSequence": Sequence([_acquisition()]),
        "XRay3DReconstructionSequence": Sequence([_reconstruction()]),
    }


def _acquisition() -> Dataset:
    projection = _item(
        PositionerPrimaryAngle=0.0,
        ExposureTimeInms=100.0,
        XRayTubeCurrentInmA=100.0,
        ExposureInmAs=60.0,
        RelativeXRayExposure=1,
    )
    return _item(
        KVP="28",
        ExposureInmAs=60.0,
        ExposureTimeInms=100.0,
        XRayTubeCurrentInmA=100.0,
        FocalSpots=0.3,
        AnodeTargetMaterial="TUNGSTEN",
        BodyPartThickness=50.0,
        CompressionForce=100.0,
        DistanceSourceToDetector=700.0,
        DistanceSourceToPatient=650.0,
        EstimatedRadiographicMagnificationFactor=1.08,
        FieldOfViewShape="RECTANGLE",
        FieldOfViewOrigin=[0.0, 0.0],
        FieldOfViewDimensionsInFloat=[240.0, 300.0],
        XRayReceptorType="DIGITAL_DETECTOR",
        FilterType="STRIP",
        FilterMaterial="ALUMINUM",
        FilterThicknessMinimum=0.5,
        FilterThicknessMaximum=0.5,
        Grid="NONE",
        ExposureControlMode="AUTOMATIC",
        ExposureControlModeDescription="by thickness",
        HalfValueLayer=0.5,
        DetectorTemperature=25.0,
        PaddleDescription="flat",
        PerProjectionAcquisitionSequence=Sequence([projection]),
    )


def _reconstruction() -> Dataset:
    return _item(
        ReconstructionDescription="Filtered back projection",
        ApplicationName="Volume",
        ApplicationVersion="1",
        ApplicationManufacturer="Maker",
        AlgorithmType="FILTER_BACK_PROJ",
        AcquisitionIndex=1,
    )


def _shared(laterality: str, bits: int) -> Dataset:
    measures = _item(PixelSpacing=[0.1, 0.1], SliceThickness=SLICE_MM, SpacingBetweenSlices=SLICE_MM)
    anatomy = _item(FrameLaterality=laterality, AnatomicRegionSequence=Sequence([code("76752008", "Breast")]))
    return _item(
        PixelMeasuresSequence=Sequence([measures]),
        PlaneOrientationSequence=Sequence([_item(ImageOrientationPatient=[0, 1, 0, 1, 0, 0])]),
        FrameAnatomySequence=Sequence([anatomy]),
        PixelValueTransformationSequence=Sequence([_item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US")]),
        FrameVOILUTSequence=Sequence([_item(WindowCenter=1 << (bits - 1), WindowWidth=1 << bits)]),
    )


def _frame(number: int) -> Dataset:
    kind = _item(
        FrameType=_IMAGE_TYPE,
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ReconstructionIndex=1,
    )
    return _item(
        FrameContentSequence=Sequence([_item(DimensionIndexValues=[number + 1], FrameAcquisitionNumber=1)]),
        PlanePositionSequence=Sequence([_item(ImagePositionPatient=[10, 20, SLICE_MM * number])]),
        XRay3DFrameTypeSequence=Sequence([kind]),
    )


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
