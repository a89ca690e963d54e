"""Heatmaps as Parametric Maps: what the model thinks of every place in an image, in numbers.

A Parametric Map and not a fractional Segmentation: a segmentation's fractions are 8 bits deep (PS3.3 C.8.20.2), steps
of 0.004, while a calibrated probability of cancer is below that in most images of a screened population. Its pixels
are 16-bit integers and not floating point, which few viewers display: those that know parametric maps read
probabilities (Real World Value Mapping), the others show a grey picture, white from the operating point upwards where
they heed its window.

The map has the network's own cells and no interpolated ones, as `Heatmap` gives them: crop, mirroring and reduction
are undone, and each cell is some square millimetres of the source image. Pixel Measures, Plane Position and Plane
Orientation say which. A mammogram has no Frame of Reference, so a map of one brings its own: the image's plane in mm,
with the centre of the image's first pixel at (0, 0, 0) and directions after Patient Orientation. A tomosynthesis volume
has one; its map lies in the plane of the frame where the most suspicious region peaks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence, VOILUTTransformation
from highdicom.pm import RealWorldValueMapping
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import ParametricMapStorage

from screening.delivery.context import DISCLAIMER, Delivery, Source
from screening.delivery.images import new_image_object, referenced_series
from screening.delivery.objects import reference
from screening.delivery.regions import frame_numbers
from screening.dicomfile import items, numbers
from screening.result import Heatmap, Status

HIGHEST = 65535
"""Stored value of the highest probability in a map (or of the operating point's, if that is higher)."""

_PROBABILITY = Code("111047", "DCM", "Probability of cancer")
_PURPOSE = codes.DCM.SourceImageForImageProcessingOperation
_METHOD = Code("112187", "DCM", "Unspecified method of calculation")
_TYPE = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
_DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
"""First letters of Patient Orientation (PS3.3 C.7.6.1.1.1) as axes of the patient (C.7.6.2.1.1)."""

_Vector = npt.NDArray[np.float64]


def heatmaps(delivery: Delivery) -> tuple[FileDataset, ...]:
    """One Parametric Map for each scored image with a heatmap and a header that can be read, in order of the sources.

    Results that come from the store have no heatmaps: these objects are made when an exam is scored.
    """
    return tuple(
        _parametric_map(delivery, source, source.result.heatmap)
        for source in delivery.sources
        if source.result.status is Status.SCORED and source.result.heatmap is not None
    )


def _parametric_map(delivery: Delivery, source: Source, heatmap: Heatmap) -> FileDataset:
    title = "Computer heatmap: not for clinical use"
    dataset = new_image_object(delivery, "heatmap", ParametricMapStorage, "OT", title, source)
    dataset.ContentDate, dataset.ContentTime = dataset.InstanceCreationDate, dataset.InstanceCreationTime
    dataset.ContentLabel = "HEATMAP"
    dataset.ContentDescription = "Probability of cancer by a computer"
    dataset.ContentCreatorName = ""
    dataset.ContentQualification = "RESEARCH"
    dataset.ImageComments = (
        f"{DISCLAIMER}. White from operating point {delivery.point.name} (score {delivery.point.threshold:.6g}) upwards"
    )
    dataset.AcquisitionContextSequence = Sequence()
    dataset.ReferencedSeriesSequence = referenced_series(source, "ReferencedInstanceSequence")
    dataset.ImageType = _TYPE
    dataset.PixelPresentation = "MONOCHROME"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.BurnedInAnnotation = dataset.RecognizableVisualFeatures = "NO"
    # Of the source's compression, if it lost something: the map was computed from what was left (PS3.3 C.7.6.1.1.5).
    dataset.LossyImageCompression = "00"
    _add_pixels(delivery, dataset, heatmap)
    _add_plane(delivery, dataset, source, heatmap)
    _add_dimension(delivery, dataset, source)
    return dataset


def _add_pixels(delivery: Delivery, dataset: Dataset, heatmap: Heatmap) -> None:
    """Image Pixel module, and how its values become probabilities and greys."""
    threshold = delivery.point.threshold
    slope = (max(float(heatmap.values.max()), threshold) or 1.0) / HIGHEST
    stored = np.rint(heatmap.values.astype(np.float64) / slope).astype("<u2")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.NumberOfFrames = 1
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.add_new("PixelData", "OW", stored.tobytes())
    identity = Dataset()
    identity.RescaleIntercept, identity.RescaleSlope, identity.RescaleType = 0, 1, "US"
    frame_type = Dataset()
    frame_type.FrameType = _TYPE
    mapping = RealWorldValueMapping(
        lut_label="PROBABILITY",
        lut_explanation="Probability of cancer at screening prevalence",
        unit=codes.UCUM.NoUnits,
        value_range=(0, HIGHEST),
        slope=slope,
        intercept=0.0,
        quantity_definition=_PROBABILITY,
    )
    white = round(threshold / slope)
    shared = Dataset()
    shared.PixelValueTransformationSequence = Sequence([identity])
    shared.ParametricMapFrameTypeSequence = Sequence([frame_type])
    shared.RealWorldValueMappingSequence = Sequence([mapping])
    # A linear window from 0 to the operating point (PS3.3 C.11.2.1.2.1).
    shared.FrameVOILUTSequence = Sequence([VOILUTTransformation(window_center=(white + 1) / 2, window_width=white + 1)])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])


def _add_plane(delivery: Delivery, dataset: Dataset, source: Source, heatmap: Heatmap) -> None:
    """Where the cells lie: Frame of Reference, Pixel Measures, Plane Position and Orientation (PS3.3 C.7.6.16.2)."""
    image = source.result.image
    row_mm, column_mm = image.pixel_spacing_mm
    width, height = heatmap.width / dataset.Columns, heatmap.height / dataset.Rows
    top = min(source.result.regions, key=lambda region: region.rank, default=None)
    peak = frame_numbers(source, top)[0] if top else ()
    frame = peak[0] if peak else 1
    plane = _plane(source.header, frame)
    if plane is not None:
        dataset.FrameOfReferenceUID = source.header.FrameOfReferenceUID
        origin, along_row, down_column = plane
    else:
        dataset.FrameOfReferenceUID = delivery.other_uid("heatmap.frame-of-reference", image.image_id)
        origin, (along_row, down_column) = np.zeros(3), _nominal(image.patient_orientation)
    dataset.PositionReferenceIndicator = ""
    # The first cell's centre, from that of the source's first pixel.
    x, y = heatmap.x + width / 2 - 0.5, heatmap.y + height / 2 - 0.5
    corner = origin + x * column_mm * along_row + y * row_mm * down_column
    shared = dataset.SharedFunctionalGroupsSequence[0]
    # The map has no thickness of its own; that it stands for the whole breast would be as wrong as any other number.
    spacing = (height * row_mm, width * column_mm)
    shared.PixelMeasuresSequence = PixelMeasuresSequence(pixel_spacing=spacing, slice_thickness=1.0)
    shared.PlaneOrientationSequence = PlaneOrientationSequence("PATIENT", (*along_row, *down_column))
    per_frame = Dataset()
    per_frame.PlanePositionSequence = PlanePositionSequence("PATIENT", corner)
    per_frame.DerivationImageSequence = Sequence([_derivation(source, frame)])
    dataset.PerFrameFunctionalGroupsSequence = Sequence([per_frame])


def _plane(header: Dataset, frame: int) -> tuple[_Vector, _Vector, _Vector] | None:
    """Position, direction along rows and down columns of a volume's frame (from 1); None where it does not say."""
    if not header.get("FrameOfReferenceUID"):
        return None
    places = [*items(header, "PerFrameFunctionalGroupsSequence")[frame - 1 : frame]]
    places += items(header, "SharedFunctionalGroupsSequence")[:1]
    position = [
        numbers(one, "ImagePositionPatient") for place in places for one in items(place, "PlanePositionSequence")
    ]
    orientation = [
        numbers(one, "ImageOrientationPatient") for place in places for one in items(place, "PlaneOrientationSequence")
    ]
    if not position or not orientation or len(position[0]) != 3 or len(orientation[0]) != 6:
        return None
    return np.array(position[0]), np.array(orientation[0][:3]), np.array(orientation[0][3:])


def _nominal(patient_orientation: tuple[str, ...]) -> tuple[_Vector, _Vector]:
    """Directions along rows and down columns after Patient Orientation; of an oblique view, the nearest axes."""
    along, down = ([*(_DIRECTIONS.get(word[:1]) for word in patient_orientation), None, None])[:2]
    if along is None or down is None or np.dot(along, down) != 0:
        along, down = (1, 0, 0), (0, 1, 0)
    return np.array(along, dtype=np.float64), np.array(down, dtype=np.float64)


def _derivation(source: Source, frame: int) -> Dataset:
    """Derivation Image macro (PS3.3 C.7.6.16.2.6)."""
    origin = reference(source, [frame] if source.multi_frame else ())
    origin.PurposeOfReferenceCodeSequence = Sequence([_item(_PURPOSE)])
    derivation = Dataset()
    derivation.SourceImageSequence = Sequence([origin])
    derivation.DerivationCodeSequence = Sequence([_item(_METHOD)])
    return derivation


def _add_dimension(delivery: Delivery, dataset: Dataset, source: Source) -> None:
    """Multi-frame Dimension module: the plane's position, though there is but one (PS3.3 C.7.6.17)."""
    organization = Dataset()
    organization.DimensionOrganizationUID = delivery.other_uid("heatmap.dimension", str(source.sop_instance))
    index = Dataset()
    index.DimensionOrganizationUID = organization.DimensionOrganizationUID
    index.DimensionIndexPointer = Tag("ImagePositionPatient")
    index.FunctionalGroupPointer = Tag("PlanePositionSequence")
    content = Dataset()
    content.DimensionIndexValues = [1]
    dataset.DimensionOrganizationSequence = Sequence([organization])
    dataset.DimensionIndexSequence = Sequence([index])
    dataset.PerFrameFunctionalGroupsSequence[0].FrameContentSequence = Sequence([content])


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
