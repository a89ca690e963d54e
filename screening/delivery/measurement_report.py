"""Imaging Measurement Report (PS3.16 TID 1500) as Comprehensive SR, for viewers that read no mammography CAD.

One group is for each region that reaches the chosen operating point: a planar region of interest (TID 1410), or a
volumetric one (TID 1411) with the outline on each of its frames. Those that only the CAD SR's more sensitive operating
points show are not in it, because viewers draw all that is, whatever its rendering intent. A last group is for the
exam: how it ended, its score and density (TID 1501).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    CoordinatesForMeasurement,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageRegion,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset, FileDataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code
from pydicom.uid import ComprehensiveSRStorage

from screening.delivery import codes
from screening.delivery.context import Delivery, Source
from screening.delivery.findings import (
    algorithm_parameters,
    description,
    processing_summary,
    rendering_intent,
    tracking_label,
)
from screening.delivery.objects import MANUFACTURER, new_report
from screening.delivery.regions import closed_outline, frame_numbers
from screening.result import Region

KIND = "measurement-report"
TITLE = "Regions: to be verified by a radiologist; not for clinical use"

_Group = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)


def measurement_report(delivery: Delivery) -> FileDataset:
    """The measurement report of one exam: scored, without findings, in part or wholly not processed.

    Raises `DeliveryError` when a region does not lie in its image.
    """
    by_image = {str(source.sop_instance): source for source in delivery.sources}
    groups: list[_Group] = [_region(delivery, region, by_image[region.image_id]) for region in delivery.marked]
    groups.append(_exam(delivery, by_image))  # after the regions, because viewers open the first group's image
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(delivery)),
        procedure_reported=codes.IMAGING_PROCEDURE,
        imaging_measurements=groups,
        title=codes.MEASUREMENT_REPORT,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept.from_code(codes.ENGLISH)
        ),
        referenced_images=[_library_image(source) for source in delivery.sources],
    )
    return new_report(delivery, KIND, ComprehensiveSRStorage, TITLE, content[0])


def _observer(delivery: Delivery) -> ObserverContext:
    """TID 1002 and 1004: the bundle is the device that observed."""
    device = DeviceObserverIdentifyingAttributes(
        uid=delivery.other_uid("device"),
        name=delivery.algorithm.name,
        manufacturer_name=MANUFACTURER,
        model_name=f"{delivery.algorithm.name} {delivery.algorithm.version}",
        serial_number=delivery.algorithm.sha256,
    )
    return ObserverContext(dictionary.DCM.Device, device)


def _algorithm(delivery: Delivery, *parameters: str) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        delivery.algorithm.name, delivery.algorithm.version, [*algorithm_parameters(delivery), *parameters]
    )


def _exam(delivery: Delivery, by_image: Mapping[str, Source]) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501: the exam as a whole, with the images that it was made of.

    Its score is inferred from the most suspicious region. OHIF fails on a group that has no place in any image.
    """
    evaluations = [QualitativeEvaluation(codes.FINDINGS_SUMMARY, processing_summary(delivery))]
    density = codes.DENSITIES.get(delivery.result.density or "")
    if density is not None:
        evaluations.append(QualitativeEvaluation(codes.BREAST_COMPOSITION, density))
    places = [
        CoordinatesForMeasurement("POLYLINE", *_place(region, by_image[region.image_id]))
        for region in delivery.marked[:1]
    ]
    score = delivery.result.score
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(delivery.other_uid("exam"), "Exam"),
        algorithm_id=_algorithm(delivery, description(delivery)),
        measurements=None if score is None else [_percent(codes.CERTAINTY_OF_IMPRESSION, score, places)],
        qualitative_evaluations=evaluations,
        source_images=[
            SourceImageForMeasurementGroup(source.sop_class, source.sop_instance) for source in delivery.sources
        ],
    )


def _region(delivery: Delivery, region: Region, source: Source) -> _Group:
    """TID 1410, or TID 1411 where the region extends over frames."""
    _, frames = frame_numbers(source, region)
    tracking = TrackingIdentifier(delivery.region_uid(region), tracking_label((region,)))
    sites = [FindingSite(codes.BREAST, laterality=codes.SIDES[region.laterality])]
    score = [_percent(codes.CERTAINTY_OF_FINDING, region.score)]
    intent = [QualitativeEvaluation(codes.RENDERING_INTENT, rendering_intent(required=True))]
    if len(frames) > 1:
        return VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking,
            referenced_regions=[_outline(region, source, (frame,)) for frame in frames],
            finding_type=codes.SELECTED_REGION,
            algorithm_id=_algorithm(delivery),
            finding_sites=sites,
            measurements=score,
            qualitative_evaluations=intent,
        )
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking,
        referenced_region=_outline(region, source, frames),
        finding_type=codes.SELECTED_REGION,
        algorithm_id=_algorithm(delivery),
        finding_sites=sites,
        measurements=score,
        qualitative_evaluations=intent,
    )


def _outline(region: Region, source: Source, frames: tuple[int, ...]) -> ImageRegion:
    image = SourceImageForRegion(source.sop_class, source.sop_instance, list(frames) or None)
    return ImageRegion("POLYLINE", closed_outline(region, source.result.image), image)


def _place(region: Region, source: Source) -> tuple[npt.NDArray[np.float64], SourceImageForRegion]:
    """The outline, on the frame where the region is most suspicious."""
    peak, _ = frame_numbers(source, region)
    image = SourceImageForRegion(source.sop_class, source.sop_instance, list(peak) or None)
    return closed_outline(region, source.result.image), image


def _percent(name: Code, fraction: float, places: Sequence[CoordinatesForMeasurement] = ()) -> Measurement:
    return Measurement(name, float(f"{100 * fraction:.6g}"), codes.PERCENT, referenced_coordinates=list(places) or None)


def _library_image(source: Source) -> Dataset:
    """What TID 1602 tells of an image; how it lies and its spacing only where its header says how it lies."""
    image = source.result.image
    entry = Dataset()
    entry.SOPClassUID, entry.SOPInstanceUID = source.sop_class, source.sop_instance
    entry.Rows, entry.Columns = image.rows, image.columns
    entry.Modality = "MG" if len(image.patient_orientation) == 2 else "OT"
    entry.PatientOrientation = list(image.patient_orientation)
    entry.ImagerPixelSpacing = [float(f"{spacing:.6g}") for spacing in image.pixel_spacing_mm]
    return entry
