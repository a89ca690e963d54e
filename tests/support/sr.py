"""Reading a structured report's tree: items by the code of their concept, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset


def walk(item: Dataset) -> Iterator[Dataset]:
    """All items below `item`, in order."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from walk(child)


def concept(item: Dataset) -> str:
    """Code value of the item's concept name, "" where it has none."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def named(dataset: Dataset, code: str) -> list[Dataset]:
    """All items below `dataset` with the concept `code`."""
    return [item for item in walk(dataset) if concept(item) == code]


def children(item: Dataset, code: str) -> list[Dataset]:
    """The items right below `item` with the concept `code`."""
    return [child for child in item.ContentSequence if concept(child) == code]


def value(item: Dataset) -> str:
    """Code value of a coded item."""
    return str(item.ConceptCodeSequence[0].CodeValue)


def number(item: Dataset) -> float:
    """Value of a numeric item."""
    return float(item.MeasuredValueSequence[0].NumericValue)


def texts(dataset: Dataset) -> str:
    """All texts, one a line."""
    return "\n".join(item.TextValue for item in walk(dataset) if "TextValue" in item)


def evidence(dataset: Dataset) -> set[str]:
    """SOP Instance UIDs that the report lists as its evidence."""
    return {
        str(item.ReferencedSOPInstanceUID)
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
