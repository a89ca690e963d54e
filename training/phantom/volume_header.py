"""The header of a simulated volume: Breast Tomosynthesis Image (PS3.3 A.55), an enhanced multi-frame object."""

from __future__ import annotations

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from training.phantom import headers
from training.phantom.model import SimulatedImage, Style

_FRAME_TYPE = ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"]
_VOLUME = {
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "TOMOSYNTHESIS",
}


def volume_header(image: SimulatedImage, header: headers.ImageHeader, version: str) -> Dataset:
    """The whole header of a tomosynthesis volume, without its pixels. `image.frame_mm` must be known."""
    dataset = headers.common_header(image, header, version)
    organisation = headers.simulated_uid(dataset.SOPInstanceUID, "dimensions")
    dataset.update(
        headers.item(
            SOPClassUID=uid.BreastTomosynthesisImageStorage,
            ImageType=_FRAME_TYPE,
            **_VOLUME,
            ContentQualification="RESEARCH",
            NumberOfFrames=len(image.pixels),
            FrameOfReferenceUID=headers.simulated_uid(dataset.SOPInstanceUID, "frame of reference"),
            PositionReferenceIndicator="",
            ContributingSourcesSequence=[_projections(dataset, image.style)],
            XRay3DAcquisitionSequence=[_acquisition(image)],
            XRay3DReconstructionSequence=[_reconstruction(image.style, version)],
            DimensionOrganizationSequence=[headers.item(DimensionOrganizationUID=organisation)],
            DimensionIndexSequence=[
                headers.item(
                    DimensionOrganizationUID=organisation,
                    DimensionIndexPointer=0x00200032,  # Image Position (Patient)
                    FunctionalGroupPointer=0x00209113,  # Plane Position Sequence
                )
            ],
            SharedFunctionalGroupsSequence=[_shared_groups(image)],
            PerFrameFunctionalGroupsSequence=[_frame_groups(image, frame) for frame in range(len(image.pixels))],
        )
    )
    return dataset


def _projections(dataset: Dataset, style: Style) -> Dataset:
    """What the volume is made of: raw projections, which are named but not kept."""
    reference = headers.item(
        ReferencedSOPClassUID=uid.BreastProjectionXRayImageStorageForProcessing,
        ReferencedSOPInstanceUID=headers.simulated_uid(dataset.SOPInstanceUID, "projections"),
        InstanceNumber=1,
    )
    series = headers.item(
        SeriesInstanceUID=headers.simulated_uid(dataset.SOPInstanceUID, "projections", "series"),
        SeriesNumber=int(dataset.SeriesNumber) + 100,
        ReferencedInstanceSequence=[reference],
    )
    study = headers.item(StudyInstanceUID=dataset.StudyInstanceUID, ReferencedSeriesSequence=[series])
    return headers.item(
        ContributingSOPInstancesReferenceSequence=[study],
        Manufacturer=style.manufacturer,
        ManufacturerModelName=style.model_name,
        DeviceSerialNumber=dataset.DeviceSerialNumber,
        SoftwareVersions=dataset.SoftwareVersions,
        AcquisitionDateTime=dataset.ContentDate + dataset.ContentTime,
        Rows=dataset.Rows,
        Columns=dataset.Columns,
        BitsStored=dataset.BitsStored,
        LossyImageCompression="00",
        DetectorType="DIRECT",
        DetectorID="0",
        DateOfLastDetectorCalibration=dataset.StudyDate,
        TimeOfLastDetectorCalibration=dataset.StudyTime,
        DetectorElementSpacing=[style.pixel_mm, style.pixel_mm],
    )


def _acquisition(image: SimulatedImage) -> Dataset:
    """The scan (PS3.3 C.8.21.3.4): one item a projection, the tube from one end of the arc to the other."""
    style = image.style
    upright = headers.positioner_angle(image.laterality, image.view)
    angles = np.linspace(-style.sweep_degrees / 2, style.sweep_degrees / 2, style.projections)
    share = 1 / style.projections
    exposure = {
        "KVP": headers.TUBE_KV,
        "XRayTubeCurrentInmA": 1000 * headers.EXPOSURE_MAS / headers.EXPOSURE_MS,
        "FrameAcquisitionDuration": headers.EXPOSURE_MS * share,
        "ExposureTimeInms": headers.EXPOSURE_MS * share,
        "ExposureInmAs": headers.EXPOSURE_MAS * share,
        "RelativeXRayExposure": round(1000 * share),
    }
    rows, columns = image.pixels.shape[1:]
    return headers.item(
        FieldOfViewShape="RECTANGLE",
        FieldOfViewDimensionsInFloat=[rows * image.pixel_mm, columns * image.pixel_mm],
        FieldOfViewOrigin=[0.0, 0.0],
        XRayReceptorType="DIGITAL_DETECTOR",
        DistanceSourceToDetector=headers.SOURCE_TO_DETECTOR_MM,
        DistanceSourceToPatient=headers.SOURCE_TO_SUPPORT_MM,
        EstimatedRadiographicMagnificationFactor=1.0,  # the simulated beams are parallel
        AnodeTargetMaterial=headers.TARGET,
        FilterType="FLAT",
        FilterMaterial=headers.FILTER,
        FocalSpots=0.3,
        HalfValueLayer=0.5,
        DetectorTemperature=25.0,
        BodyPartThickness=round(image.thickness_mm, 1),
        CompressionForce=headers.COMPRESSION_N,
        PaddleDescription="flat",
        ExposureControlMode="AUTOMATIC",
        ExposureControlModeDescription=f"simulated; effective photon energy {style.energy_kev:g} keV",
        KVP=headers.TUBE_KV,
        ExposureInmAs=headers.EXPOSURE_MAS,
        ExposureTimeInms=headers.EXPOSURE_MS,
        XRayTubeCurrentInmA=1000 * headers.EXPOSURE_MAS / headers.EXPOSURE_MS,
        PrimaryPositionerScanArc=style.sweep_degrees,
        PrimaryPositionerScanStartAngle=upright + float(angles[0]),
        PrimaryPositionerIncrement=float(angles[1] - angles[0]) if len(angles) > 1 else 0.0,
        PerProjectionAcquisitionSequence=[
            headers.item(**exposure, PositionerPrimaryAngle=headers.decimal(upright + angle)) for angle in angles
        ],
    )


def _reconstruction(style: Style, version: str) -> Dataset:
    return headers.item(
        ReconstructionDescription=style.processing,
        ApplicationName="screening simulate",
        ApplicationVersion=version,
        ApplicationManufacturer=style.manufacturer,
        AlgorithmType="FILTER_BACK_PROJ",
        AcquisitionIndex=1,
    )


def _shared_groups(image: SimulatedImage) -> Dataset:
    assert image.frame_mm is not None
    along_rows, along_columns = headers.patient_orientation(image.laterality, image.view)
    highest = float(1 << image.style.bits)
    return headers.item(
        PixelMeasuresSequence=[
            headers.item(
                PixelSpacing=[headers.decimal(image.pixel_mm)] * 2,
                SliceThickness=headers.decimal(image.frame_mm),
                SpacingBetweenSlices=headers.decimal(image.frame_mm),
            )
        ],
        PlaneOrientationSequence=[
            headers.item(
                ImageOrientationPatient=[
                    headers.decimal(part)
                    for letters in (along_rows, along_columns)
                    for part in headers.direction(letters)
                ]
            )
        ],
        FrameAnatomySequence=[
            headers.item(FrameLaterality=image.laterality.value, AnatomicRegionSequence=[headers.breast_region()])
        ],
        FrameVOILUTSequence=[headers.item(WindowCenter=highest / 2, WindowWidth=highest, VOILUTFunction="LINEAR")],
        PixelValueTransformationSequence=[headers.item(RescaleIntercept=0.0, RescaleSlope=1.0, RescaleType="US")],
    )


def _frame_groups(image: SimulatedImage, frame: int) -> Dataset:
    return headers.item(
        FrameContentSequence=[headers.item(DimensionIndexValues=[frame + 1], FrameAcquisitionNumber=1)],
        PlanePositionSequence=[headers.item(ImagePositionPatient=_plane_position(image, frame))],
        XRay3DFrameTypeSequence=[headers.item(FrameType=_FRAME_TYPE, **_VOLUME, ReconstructionIndex=1)],
    )


def _plane_position(image: SimulatedImage, frame: int) -> list[float]:
    """Centre of a frame's first pixel, in mm; the origin is that of frame 0, and frames rise from the breast support.

    The normal of rows and columns points to the support (in both breasts), so frames lie on its negative side.
    """
    assert image.frame_mm is not None
    along_rows, along_columns = headers.patient_orientation(image.laterality, image.view)
    normal = np.cross(headers.direction(along_rows), headers.direction(along_columns))
    return [headers.decimal(part) for part in -normal * (frame * image.frame_mm)]
