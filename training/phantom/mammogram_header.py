"""The header of a simulated mammogram: Digital Mammography X-Ray Image - For Presentation (PS3.3 A.27)."""

from __future__ import annotations

from pydicom import uid
from pydicom.dataset import Dataset

from screening.exam import ImageKind
from training.phantom import headers
from training.phantom.model import SimulatedImage


def mammogram_header(image: SimulatedImage, header: headers.ImageHeader, version: str) -> Dataset:
    """The whole header of a mammogram or of a synthetic 2D image, without its pixels."""
    dataset = headers.common_header(image, header, version)
    style = image.style
    highest = 1 << style.bits
    dataset.update(
        headers.item(
            SOPClassUID=uid.DigitalMammographyXRayImageStorageForPresentation,
            PresentationIntentType="FOR PRESENTATION",
            ImageType=["DERIVED", "PRIMARY", "", *(["GENERATED_2D"] if header.kind is ImageKind.SYNTHETIC else [])],
            ImageLaterality=image.laterality.value,
            ViewPosition=image.view.value,
            PatientOrientation=list(headers.patient_orientation(image.laterality, image.view)),
            AnatomicRegionSequence=[headers.breast_region()],
            PixelIntensityRelationship="LOG",
            PixelIntensityRelationshipSign=-1,
            RescaleIntercept=0,
            RescaleSlope=1,
            RescaleType="US",
            WindowCenter=highest // 2,
            WindowWidth=highest,
            VOILUTFunction="LINEAR",
            DetectorType="DIRECT",
            ImagerPixelSpacing=[headers.decimal(image.pixel_mm)] * 2,
            PositionerType="MAMMOGRAPHIC",
            PositionerPrimaryAngle=headers.positioner_angle(image.laterality, image.view),
            PositionerPrimaryAngleDirection="CC",
            EstimatedRadiographicMagnificationFactor=1,  # the beam is parallel
            OrganExposed="BREAST",
            BodyPartThickness=round(image.thickness_mm, 1),
            CompressionForce=headers.COMPRESSION_N,
            KVP=headers.TUBE_KV,
            AnodeTargetMaterial=headers.TARGET,
            FilterMaterial=headers.FILTER,
            Exposure=round(headers.EXPOSURE_MAS),
            ExposureTime=round(headers.EXPOSURE_MS),
            ExposureControlModeDescription=f"simulated; effective photon energy {style.energy_kev:g} keV",
            AcquisitionDeviceProcessingDescription=style.processing,
        )
    )
    return dataset
