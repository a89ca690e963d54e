"""What becomes of each DICOM attribute: PS3.15 Table E.1-1, and what this export is stricter about.

The table comes from the library `dicom-anonymizer`, which keeps it by edition of the standard. Its own function to
apply the table visits the top level of a dataset alone and draws UIDs at random; so the table is applied here, to every
level, with keyed UIDs and dates. Two rules beyond the table make new and unknown attributes safe: what the dictionary
does not know goes, and of text and bytes that the table does not name only what is listed here stays.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import cache

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector  # type: ignore[import-untyped]  # it has no types
from pydicom.datadict import dictionary_has_tag, keyword_for_tag
from pydicom.tag import BaseTag

EDITION = "2026c"
"""Edition of PS3.15 whose table is applied."""


class Action(Enum):
    """What to do with an attribute, by the letters of PS3.15 Table E.1-1a."""

    REMOVE = auto()
    """X."""
    EMPTY = auto()
    """Z; and X/Z, so that what an IOD requires is there."""
    REPLACE = auto()
    """D; and Z/D, X/D, X/Z/D: a dummy value is valid whichever the IOD asks for."""
    KEEP = auto()
    """Not named in the table, or named for the UIDs in it (U, X/Z/U*), which are replaced wherever they stand."""


_LETTERS = {
    "D_TAGS": Action.REPLACE,
    "Z_D_TAGS": Action.REPLACE,
    "X_D_TAGS": Action.REPLACE,
    "X_Z_D_TAGS": Action.REPLACE,
    "Z_TAGS": Action.EMPTY,
    "X_Z_TAGS": Action.EMPTY,
    "X_TAGS": Action.REMOVE,
    "U_TAGS": Action.KEEP,
    "X_Z_U_STAR_TAGS": Action.KEEP,
}

_CLEANED_INSIDE = frozenset({"ContentSequence", "GraphicAnnotationSequence"})
"""D in the basic profile; C under the options Clean Structured Content and Clean Graphics: see `clean`."""

_REPEATING_GROUPS = range(0x5000, 0x6100)
"""Curves (50xx) and overlays (60xx): burnt-in text of old equipment; without data, the rest of a group is invalid."""

TEXT_REPRESENTATIONS = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
BYTE_REPRESENTATIONS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})

TEXT_KEPT = frozenset(
    {
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "CodeValue",
        "LongCodeValue",
        "URNCodeValue",
        "CodeMeaning",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "MappingResourceName",
        "WindowCenterWidthExplanation",
        "LUTExplanation",
        "LUTLabel",
        "RescaleType",
        "ModalityLUTType",
        "AcquisitionDeviceProcessingCode",
        "FilterType",
        "PositionReferenceIndicator",
        "DimensionDescriptionLabel",
        "AlgorithmName",
        "AlgorithmVersion",
        "TrackingID",
        "TextValue",
    }
)
"""Text that the table does not name and that may stay: what equipment and software, not people, write."""

BYTES_KEPT = frozenset(
    {
        "PixelData",
        "FloatPixelData",
        "DoubleFloatPixelData",
        "LUTData",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
        "BluePaletteColorLookupTableData",
    }
)


@cache
def action(tag: BaseTag) -> Action:
    """What becomes of the attribute `tag`, dates and UIDs apart: these are told by their value representation."""
    if tag.is_private or tag.group in _REPEATING_GROUPS or not dictionary_has_tag(tag):
        return Action.REMOVE
    if keyword_for_tag(tag) in _CLEANED_INSIDE:
        return Action.KEEP
    return _table().get(int(tag), Action.KEEP)


@cache
def _table() -> dict[int, Action]:
    lists = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    return {
        group << 16 | element: letter
        for name, letter in _LETTERS.items()
        for group, element, *mask in lists[name]
        if not mask  # a mask means a repeating group, and these are removed as a whole
    }
