"""The Native DICOM Model, in which some DICOMweb services answer, as the DICOM JSON Model (PS3.18 F) that is read here.

PS3.19 A.1: `DicomAttribute` elements hold `Value` elements, or `Item` elements of a sequence.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

_NUMBERS = ("US", "UL", "SS", "SL", "IS")


class NotNativeXmlError(Exception):
    """The text is no Native DICOM Model."""


def dicom_json(body: bytes) -> dict[str, Any]:
    """The dataset that the text describes: attributes by tag, with "vr" and "Value"; what is malformed is left out.

    A document type is refused, as an answer has no use for entities. Raises NotNativeXmlError.
    """
    if b"<!" in body.replace(b"<!--", b""):
        raise NotNativeXmlError
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise NotNativeXmlError from error
    if _name(root) != "NativeDicomModel":
        raise NotNativeXmlError
    return _dataset(root)


def _dataset(element: ElementTree.Element) -> dict[str, Any]:
    attributes = (child for child in element if _name(child) == "DicomAttribute")
    return {one.get("tag", "").upper(): _attribute(one) for one in attributes}


def _attribute(element: ElementTree.Element) -> dict[str, Any]:
    vr = element.get("vr", "")
    children = sorted(element, key=lambda child: int(number) if (number := child.get("number", "")).isdecimal() else 0)
    values = [
        _dataset(child) if _name(child) == "Item" else _value(child.text or "", vr)
        for child in children
        if _name(child) in ("Item", "Value")
    ]
    return {"vr": vr, "Value": values}


def _value(text: str, vr: str) -> str | int:
    text = text.strip()
    return int(text) if vr in _NUMBERS and text.isdecimal() and len(text) < 20 else text


def _name(element: ElementTree.Element) -> str:
    """The element's name without its namespace, which not every service writes."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
