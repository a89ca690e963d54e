"""Pieces of a CAD structured report's content tree, and its image library (PS3.16 TID 4020).

Items are made by highdicom, which checks them, and then are plain datasets: highdicom's own trees hold neither
relationships by reference nor items without a concept name, and the CAD templates ask for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    DateContentItem,
    ImageContentItem,
    NumContentItem,
    ScoordContentItem,
    TextContentItem,
    TimeContentItem,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.sr.coding import Code
from pydicom.uid import UID

from screening.delivery import codes
from screening.delivery.context import Source

CONTAINS = "CONTAINS"
HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
HAS_PROPERTIES = "HAS PROPERTIES"
INFERRED_FROM = "INFERRED FROM"
SELECTED_FROM = "SELECTED FROM"


def with_children(item: Dataset, children: Iterable[Dataset]) -> Dataset:
    """Append `children` to `item`, which is returned."""
    items = list(children)
    if items:
        item.ContentSequence = ItemSequence([*item.get("ContentSequence", ()), *items])
    return item


def container(
    name: Code, relationship: str | None, children: Iterable[Dataset], template: str | None = None
) -> Dataset:
    """A heading with `children` below; `template`: its number, for the root."""
    item = ContainerContentItem(name, False, template_id=template, relationship_type=relationship)
    return with_children(_plain(item), children)


def code(name: Code, value: Code, relationship: str) -> Dataset:
    """A coded value."""
    return _plain(CodeContentItem(name, value, relationship))


def text(name: Code, value: str, relationship: str = HAS_PROPERTIES) -> Dataset:
    """A text; control characters, which it may not have, become spaces."""
    printable = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in value)
    return _plain(TextContentItem(name, printable, relationship))


def uid(name: Code, value: UID, relationship: str) -> Dataset:
    """A unique identifier."""
    return _plain(UIDRefContentItem(name, value, relationship))


def number(name: Code, value: float, unit: Code, relationship: str = HAS_PROPERTIES) -> Dataset:
    """A number with six significant digits (Numeric Value has sixteen characters); an `int` stays whole."""
    short = value if isinstance(value, int) else float(f"{value:.6g}")
    return _plain(NumContentItem(name, short, unit, relationship_type=relationship))


def percent(name: Code, fraction: float) -> Dataset:
    """`fraction`, in [0, 1], as a percentage."""
    return number(name, 100 * fraction, codes.PERCENT)


def points(name: Code, graphic: str, coordinates: npt.NDArray[np.float64], image: Dataset) -> Dataset:
    """Spatial coordinates, (n, 2) of (column, row), selected from the image that `image` refers to."""
    item = ScoordContentItem(name, graphic, coordinates, relationship_type=HAS_PROPERTIES)
    return with_children(_plain(item), [image])


def by_reference(relationship: str, identifier: Sequence[int]) -> Dataset:
    """A relationship to an item elsewhere in the tree (PS3.3 C.17.3.2.5), by its place counted from 1 at each level."""
    item = Dataset()
    item.RelationshipType = relationship
    item.ReferencedContentItemIdentifier = list(identifier)
    return item


class ImageLibrary:
    """The images that findings and algorithms refer to by place: whole images first, then frames that findings are on.

    `position`: the place of the library's container among the children of the root, counted from 1.
    """

    def __init__(self, sources: Sequence[Source], position: int) -> None:
        self._position = position
        self._entries: dict[tuple[str, tuple[int, ...]], Source] = {}
        for source in sources:
            self.identifier(source)

    def identifier(self, source: Source, frames: tuple[int, ...] = ()) -> tuple[int, int, int]:
        """Where the entry of `source`, or of `frames` of it (counted from 1), stands; it is made if missing."""
        key = (str(source.sop_instance), frames)
        self._entries.setdefault(key, source)
        return (1, self._position, 1 + list(self._entries).index(key))

    def container(self) -> Dataset:
        """The library with all entries made so far (TID 4000 row 3)."""
        entries = (_entry(source, frames) for (_, frames), source in self._entries.items())
        return container(codes.IMAGE_LIBRARY, CONTAINS, entries)


def _entry(source: Source, frames: tuple[int, ...]) -> Dataset:
    """TID 4020: the image or frames of it, and how it was taken."""
    image, header = source.result.image, source.header
    # TID 4020 gives its images no concept name; highdicom's constructor asks for one.
    item = _plain(
        ImageContentItem(
            codes.IMAGE_LIBRARY, source.sop_class, source.sop_instance, list(frames) or None, relationship_type=CONTAINS
        )
    )
    del item.ConceptNameCodeSequence
    view = code(codes.IMAGE_VIEW, codes.VIEWS[image.view], HAS_ACQ_CONTEXT)
    if image.view in codes.VIEW_MODIFIERS:
        with_children(view, [code(codes.IMAGE_VIEW_MODIFIER, codes.VIEW_MODIFIERS[image.view], HAS_CONCEPT_MOD)])
    facts = [code(codes.IMAGE_LATERALITY, codes.BREAST_SIDES[image.laterality], HAS_ACQ_CONTEXT), view]
    if len(image.patient_orientation) == 2:
        row, column = image.patient_orientation
        facts.append(text(codes.ORIENTATION_ROW, row, HAS_ACQ_CONTEXT))
        facts.append(text(codes.ORIENTATION_COLUMN, column, HAS_ACQ_CONTEXT))
    if header.StudyDate:
        facts.append(_plain(DateContentItem(codes.STUDY_DATE, header.StudyDate, HAS_ACQ_CONTEXT)))
    if header.StudyTime:
        facts.append(_plain(TimeContentItem(codes.STUDY_TIME, header.StudyTime, HAS_ACQ_CONTEXT)))
    between_rows, between_columns = image.pixel_spacing_mm
    facts.append(number(codes.HORIZONTAL_SPACING, between_columns, codes.MILLIMETER, HAS_ACQ_CONTEXT))
    facts.append(number(codes.VERTICAL_SPACING, between_rows, codes.MILLIMETER, HAS_ACQ_CONTEXT))
    return with_children(item, facts)


def _plain(item: Dataset) -> Dataset:
    plain = Dataset()
    plain.update(item)
    return plain
