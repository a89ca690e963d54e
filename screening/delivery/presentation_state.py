"""Grayscale Softcopy Presentation States: the marked regions over the source images, on a layer to be switched off.

One object for each scored image, all in one series. One for the whole exam would be legal, but displayed area and
grayscale transforms would need an item for each image in it, annotations would, too, and viewers that take the first
item for all images are common; with one image in each object there is nothing to mistake.

PIXEL units (PS3.3 C.10.5) put 0\\0 at the outer corner of the image's first pixel and Columns\\Rows at that of its
last, column first: a region's own coordinates. (Only the Displayed Area counts pixels from 1.)
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from math import isclose
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from highdicom.pr import GraphicLayer, GraphicObject, TextObject
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from screening.delivery.context import DISCLAIMER, Delivery, Source
from screening.delivery.images import new_image_object, referenced_series
from screening.delivery.objects import reference
from screening.delivery.regions import closed_outline, frame_numbers
from screening.dicomfile import items, number, numbers, text, values
from screening.report.figures import MARK_COLOUR, shown
from screening.result import Region, Status

LAYER = "COMPUTER_MARKS"
"""The one layer that everything is on: a score is never seen without the line that says what it is."""

_COLOUR = CIELabColor.from_rgb(*MARK_COLOUR[::-1])
_WHITE = 0xFFFF
_NOTICE_BOX = 0.02, 0.93, 0.98, 0.99
"""Left, top, right, bottom of the notice as shares of the displayed area."""
_LABEL_SHARE = 0.24, 0.025
"""Width and height of a region's label as shares of the image's columns and rows."""


def presentation_states(delivery: Delivery) -> tuple[FileDataset, ...]:
    """One presentation state for each scored image whose header can be read, in the order of `delivery.sources`.

    An image without a marked region gets one that says so, lest it be taken for one that was not looked at. Images
    that were not scored get none: there is nothing to draw, and summary image and structured report give the reason.
    """
    scored = (source for source in delivery.sources if source.result.status is Status.SCORED)
    return tuple(_presentation_state(delivery, source) for source in scored)


def _presentation_state(delivery: Delivery, source: Source) -> FileDataset:
    title = "Computer marks"
    dataset = new_image_object(
        delivery, "presentation-state", GrayscaleSoftcopyPresentationStateStorage, "PR", title, source
    )
    regions = [region for region in delivery.marked if region.image_id == source.result.image.image_id]
    # Presentation State Identification and Relationship (PS3.3 C.11.10, C.11.11)
    dataset.ContentLabel = LAYER
    dataset.ContentDescription = f"{len(regions)} at operating point {delivery.point.name}"[:64]
    dataset.ContentCreatorName = ""
    dataset.PresentationCreationDate = dataset.InstanceCreationDate
    dataset.PresentationCreationTime = dataset.InstanceCreationTime
    dataset.ReferencedSeriesSequence = referenced_series(source, "ReferencedImageSequence")
    dataset.DisplayedAreaSelectionSequence = Sequence([_displayed_area(source)])
    layer = GraphicLayer(LAYER, 1, "Regions with scores, found by a computer", display_color=_COLOUR)
    layer.GraphicLayerRecommendedDisplayGrayscaleValue = _WHITE
    dataset.GraphicLayerSequence = Sequence([layer])
    marks = [_mark(delivery, source, region) for region in regions]
    dataset.GraphicAnnotationSequence = Sequence([*marks, _notice(delivery, source, regions)])
    dataset.update(_modality_lut(source.header))
    voi = _voi_luts(source)
    if voi:
        dataset.SoftcopyVOILUTSequence = Sequence(voi)
    # The pipeline of a presentation state does not look at the source's photometric interpretation (PS3.4 N.2).
    white_is_low = source.header.get("PhotometricInterpretation") == "MONOCHROME1"
    dataset.PresentationLUTShape = "INVERSE" if white_is_low else "IDENTITY"
    return dataset


def _displayed_area(source: Source) -> Dataset:
    """The whole image, as large as the screen allows (PS3.3 C.10.4)."""
    image = source.result.image
    row_mm, column_mm = image.pixel_spacing_mm
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [image.columns, image.rows]
    area.PresentationSizeMode = "SCALE TO FIT"
    square = isclose(row_mm, column_mm, rel_tol=1e-3)
    area.PresentationPixelAspectRatio = [1, 1] if square else [round(row_mm * 1e4), round(column_mm * 1e4)]
    return area


def _mark(delivery: Delivery, source: Source, region: Region) -> Dataset:
    """A region's closed outline, and its rank and score beside it."""
    points = closed_outline(region, source.result.image)
    label, uid = f"Region {region.rank}", delivery.other_uid("region", region.region_id)
    line = GraphicObject("POLYLINE", points, "PIXEL", tracking_id=label, tracking_uid=uid)
    score = TextObject(
        f"{region.rank}: score {shown(region.score)}",
        "PIXEL",
        bounding_box=_label_box(source, points),
        text_justification="LEFT",
        tracking_id=label,
        tracking_uid=uid,
    )
    _, frames = frame_numbers(source, region)
    return _annotation(source, [line], [score], frames)


def _notice(delivery: Delivery, source: Source, regions: Items[Region]) -> Dataset:
    """At the display's lower edge: what was found, by which model, and that a radiologist has to verify it."""
    algorithm, image = delivery.algorithm, source.result
    found = f"{len(regions)} region{'s' * (len(regions) != 1)}" if regions else "No region"
    lines = (
        f"{DISCLAIMER}.",
        f"{found} at or above operating point {delivery.point.name} (score {shown(delivery.point.threshold)}); "
        f"image score {shown(image.score or 0.0)}",
        f"{algorithm.name} {algorithm.version}, bundle {algorithm.sha256}",
    )
    text = TextObject(
        "\r\n".join(line[:300] for line in lines),
        "DISPLAY",
        bounding_box=_NOTICE_BOX,
        text_justification="LEFT",
    )
    return _annotation(source, [], [text], ())


def _annotation(source: Source, lines: list[Dataset], texts: list[Dataset], frames: Items[int]) -> Dataset:
    """One item of the Graphic Annotation Sequence (PS3.3 C.10.5), on the given frames (from 1) or on all."""
    item = Dataset()
    item.ReferencedImageSequence = Sequence([reference(source, frames)])
    item.GraphicLayer = LAYER
    item.TextObjectSequence = Sequence(texts)
    if lines:
        item.GraphicObjectSequence = Sequence(lines)
    return item


def _label_box(source: Source, points: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a label above the outline or, where the image ends there, below it."""
    image = source.result.image
    width, height = _LABEL_SHARE[0] * image.columns, _LABEL_SHARE[1] * image.rows
    (left, top), (_, bottom) = points.min(axis=0), points.max(axis=0)
    above = top - 1.25 * height
    upper = above if above >= 0 else min(bottom + 0.25 * height, image.rows - height)
    x = min(left, image.columns - width)
    return float(x), float(upper), float(x + width), float(upper + height)


def _modality_lut(header: Dataset) -> Dataset:
    """The source's Modality LUT module (PS3.3 C.11.1), of a volume that of all its frames; empty where it has none."""
    places = [*_shared(header, "PixelValueTransformationSequence"), header]
    module = Dataset()
    for place in places:
        slope, intercept = number(place, "RescaleSlope"), number(place, "RescaleIntercept")
        tables = [table for table in map(_table, items(place, "ModalityLUTSequence")[:1]) if table is not None]
        if tables:
            tables[0].ModalityLUTType = text(items(place, "ModalityLUTSequence")[0], "ModalityLUTType") or "US"
            module.ModalityLUTSequence = Sequence(tables)
            return module
        if slope and intercept is not None:
            module.RescaleIntercept, module.RescaleSlope = place.RescaleIntercept, place.RescaleSlope
            module.RescaleType = text(place, "RescaleType") or "US"
            return module
    return module


def _voi_luts(source: Source) -> list[Dataset]:
    """Items of the Softcopy VOI LUT Sequence (PS3.3 C.11.8): what the source itself is displayed with first."""
    header = source.header
    for place in (header, *_shared(header, "FrameVOILUTSequence")):
        item = _voi_lut(place)
        if item is not None:
            return [item]
    found: dict[tuple[str, ...], tuple[Dataset, list[int]]] = {}
    for frame, groups in enumerate(items(header, "PerFrameFunctionalGroupsSequence"), start=1):
        for item in filter(None, map(_voi_lut, items(groups, "FrameVOILUTSequence")[:1])):
            found.setdefault(tuple(str(element.value) for element in item), (item, []))[1].append(frame)
    for item, frames in found.values():
        if len(frames) < source.frames:
            item.ReferencedImageSequence = Sequence([reference(source, frames)])
    return [item for item, _ in found.values()]


def _voi_lut(place: Dataset) -> Dataset | None:
    """The first VOI LUT, else the first window, as our own display takes them (see `imaging.display`)."""
    item = Dataset()
    for table in filter(None, map(_table, items(place, "VOILUTSequence")[:1])):
        item.VOILUTSequence = Sequence([table])
        return item
    centers, widths = values(place, "WindowCenter"), values(place, "WindowWidth")
    function = text(place, "VOILUTFunction")
    exact = function in ("LINEAR_EXACT", "SIGMOID")
    if not centers or not widths or widths[0] <= 0 or (widths[0] < 1 and not exact):
        return None
    item.WindowCenter, item.WindowWidth = centers[0], widths[0]
    if exact:
        item.VOILUTFunction = function
    return item


def _table(source: Dataset) -> Dataset | None:
    """A lookup table written anew (PS3.3 C.11.1.1), so that it does not depend on the source's encoding."""
    descriptor = [int(value) for value in numbers(source, "LUTDescriptor")]
    if len(descriptor) != 3:
        return None
    entries, first, bits = descriptor[0] & 0xFFFF, descriptor[1], descriptor[2]
    data: Any = values(source, "LUTData")
    content = data[0] if len(data) == 1 and isinstance(data[0], bytes) else np.asarray(data).astype("<u2").tobytes()
    if not 8 <= bits <= 16 or len(content) < (entries or 0x10000):
        return None
    table = Dataset()
    signed = first < 0
    # The number of entries is unsigned, whatever the sign of what is looked up.
    entries -= 0x10000 if signed and entries > 0x7FFF else 0
    table.add_new("LUTDescriptor", "SS" if signed else "US", [entries, first, bits])
    table.add_new("LUTData", "OW", content + b"\0" * (len(content) % 2))
    return table


def _shared(header: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The item of one functional group macro that holds for all frames of a volume, if there is one."""
    groups = items(header, "SharedFunctionalGroupsSequence")[:1]
    return tuple(item for group in groups for item in items(group, keyword)[:1])
