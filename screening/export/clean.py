"""A DICOM dataset pseudonymised: a new one, of what the profile lets stay, with pseudonyms, other UIDs and dates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from screening.delivery.context import DISCLAIMER
from screening.export.dates import Shift
from screening.export.identifiers import Identifiers, walk
from screening.export.profile import (
    BYTE_REPRESENTATIONS,
    BYTES_KEPT,
    EDITION,
    TEXT_KEPT,
    TEXT_REPRESENTATIONS,
    Action,
    action,
)
from screening.export.pseudonyms import Pseudonyms

DUMMY = "REMOVED"
OLDEST_AGE = 89
"""Ages over this one become one group, 90: 45 CFR 164.514(b)(2)(i)(C)."""

_CODE_STRING = re.compile(r"[A-Z0-9_ ]{0,16}")
_NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *")
_UID_IN_TEXT = re.compile(r"\b[0-2](?:\.\d+){4,}")
_SEXES = ("M", "F", "O")
_CODING_SCHEMES = ("DCM", "SCT", "SRT", "UCUM", "LN", "RADLEX", "NCIt", "FMA", "UMLS", "MDC")
_CODES = ("CodeValue", "LongCodeValue", "URNCodeValue")

_TEXT_CONCEPTS = frozenset(
    {"111001", "111002", "111003", "111043", "111044", "111058", "112039", "121013", "121014", "121015"}
)
"""Concepts (DCM) of report texts that software writes: algorithm, orientation, tracking, region, device observer."""
_GRAPHIC_TEXT = re.compile(rf"\d+: score [\d.e-]+|{re.escape(DISCLAIMER)}.*", re.DOTALL)

_METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}
_METHODS_OF_REPORTS = {"113103": "Clean Graphics Option", "113104": "Clean Structured Content Option"}
"""PS3.16 CID 7050."""


@dataclass(frozen=True)
class Woman:
    """Who the images of an export are of: her id in the results, her pseudonym, and how her dates move."""

    original: str
    pseudonym: str
    shift: Shift

    @classmethod
    def of(cls, woman_id: str, pseudonyms: Pseudonyms) -> Woman:
        """The woman of a results table's `woman_id`."""
        return cls(woman_id, pseudonyms.woman(woman_id), Shift(pseudonyms.shift_days(woman_id)))


def cleaned(original: Dataset, woman: Woman, pseudonyms: Pseudonyms, known: tuple[str, ...] = ()) -> Dataset:
    """`original` by the Basic Application Level Confidentiality Profile and the options that the result names.

    PS3.15 Annex E, with Clean Pixel Data (the caller has checked them), Clean Graphics, Clean Structured Content,
    Retain Longitudinal Temporal Information with Modified Dates and, of Retain Patient Characteristics, sex and age.
    Elements that cannot be read do not stay. `known`: further identifiers to look for in what stays.
    """
    removed = [one for one in walk(original) if _identifies(one[0])]
    cleaner = _Cleaner(woman.shift, pseudonyms, Identifiers.of(removed, (woman.original, *known)))
    dataset = cleaner.dataset(original)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = f"{woman.pseudonym}^", woman.pseudonym
    dataset.PatientSex = original.get("PatientSex") if original.get("PatientSex") in _SEXES else ""
    age = _age(original)
    if age is not None:
        dataset.PatientAge = f"{min(age, OLDEST_AGE + 1):03d}Y"
    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    dataset.DeidentificationMethod = [
        f"PS3.15 {EDITION} Basic Profile, Table E.1-1",
        "Dates moved by a keyed number of days per woman",
        "UIDs and pseudonyms by HMAC-SHA-256",
    ]
    methods = _METHODS | (_METHODS_OF_REPORTS if _is_report(dataset) else {})
    dataset.DeidentificationMethodCodeSequence = Sequence(_code(*one) for one in sorted(methods.items()))
    if "PixelData" in dataset:
        dataset.BurnedInAnnotation = dataset.RecognizableVisualFeatures = "NO"
    return dataset


def identifiers_of(original: Dataset, woman: Woman) -> Identifiers:
    """The words that must stand nowhere in what is exported of `original`."""
    return Identifiers.of((one for one in walk(original) if _identifies(one[0])), (woman.original,))


@dataclass(frozen=True)
class _Cleaner:
    shift: Shift
    pseudonyms: Pseudonyms
    identifiers: Identifiers

    def dataset(self, original: Dataset) -> Dataset:
        new = Dataset()
        for tag in original.keys():  # noqa: SIM118 - iterating a Dataset converts elements, which may raise
            try:
                element = original[tag]
                kept = self._element(element, original)
            except Exception:  # pydicom answers malformed values with almost any exception: what is not understood goes
                continue
            if kept is not None:
                new.add(kept)
        return new

    def _element(self, element: DataElement, parent: Dataset) -> DataElement | None:
        tag, kind = element.tag, element.VR
        what = action(tag)
        moments: dict[str, Callable[[str], str]] = {"DA": self.shift.da, "TM": self.shift.tm, "DT": self.shift.dt}
        if tag.is_private or kind not in _dictionary_representations(tag):
            return None
        if kind in moments and "Birth" not in element.keyword:
            return DataElement(tag, kind, _each(element.value, moments[kind]))
        if what is Action.REMOVE:
            return None
        if what is Action.EMPTY:
            return DataElement(tag, kind, Sequence() if kind == "SQ" else "")
        if what is Action.REPLACE:
            return self._replaced(element)
        return self._kept(element, parent)

    def _replaced(self, element: DataElement) -> DataElement | None:
        if element.keyword == "UnformattedTextValue" and _GRAPHIC_TEXT.fullmatch(str(element.value)):
            return DataElement(element.tag, element.VR, self._text(str(element.value)))
        if element.VR in TEXT_REPRESENTATIONS or element.VR == "CS":
            return DataElement(element.tag, element.VR, DUMMY)
        if element.VR == "UI":
            return DataElement(element.tag, "UI", _each(element.value, self.pseudonyms.uid))
        # An item that says nothing would be less valid than none; of bytes there is no dummy.
        return DataElement(element.tag, "SQ", Sequence()) if element.VR == "SQ" else None

    def _kept(self, element: DataElement, parent: Dataset) -> DataElement | None:
        tag, kind, value = element.tag, element.VR, element.value
        if kind == "SQ":
            return DataElement(tag, kind, Sequence(self.dataset(item) for item in value or ()))
        if kind == "UI":
            whole = "CodingScheme" in element.keyword  # such a UID names a terminology
            return DataElement(tag, kind, value if whole else _each(value, self.pseudonyms.uid))
        if kind in BYTE_REPRESENTATIONS:
            return element if element.keyword in BYTES_KEPT else None
        if kind in ("IS", "DS"):
            return element if all(_NUMBER.fullmatch(str(one)) for one in _values(value)) else None
        if kind == "CS":
            return self._code_string(element)
        if kind in TEXT_REPRESENTATIONS:
            return self._kept_text(element, parent)
        return element

    def _code_string(self, element: DataElement) -> DataElement | None:
        values = [str(one) for one in _values(element.value)]
        valid = all(_CODE_STRING.fullmatch(one) and not self.identifiers.stand_in(one) for one in values)
        return element if valid else None

    def _kept_text(self, element: DataElement, parent: Dataset) -> DataElement | None:
        if element.keyword not in TEXT_KEPT:
            return DataElement(element.tag, element.VR, "")  # type 2 attributes have to be there
        if element.keyword == "TextValue" and _concept(parent) not in _TEXT_CONCEPTS:
            return DataElement(element.tag, element.VR, DUMMY)
        if element.keyword in _CODES and parent.get("CodingSchemeDesignator") in _CODING_SCHEMES:
            return element
        return DataElement(element.tag, element.VR, _each(element.value, self._text))

    def _text(self, text: str) -> str:
        if self.identifiers.stand_in(text):
            return DUMMY
        return _UID_IN_TEXT.sub(lambda found: str(self.pseudonyms.uid(found[0])), text)


_CHARACTERISTICS = frozenset({"PatientSex", "PatientAge"})


def _identifies(keyword: str) -> bool:
    """Whether an attribute's value is of those that the profile takes away (private ones have no keyword)."""
    tag = tag_for_keyword(keyword) if keyword else None
    if tag is None:
        return True
    return action(BaseTag(tag)) is not Action.KEEP and keyword not in _CHARACTERISTICS


def _dictionary_representations(tag: BaseTag) -> list[str]:
    try:
        return dictionary_VR(tag).split(" or ")
    except KeyError:
        return []


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list) else [value]


def _each(value: Any, change: Callable[[str], Any]) -> Any:
    """Each value changed, as text; a single one stays single, and none stays none."""
    changed = [change(str(one)) if str(one) else "" for one in _values(value)]
    return changed if len(changed) > 1 else (changed[0] if changed else "")


def _concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence") or ()
    return str(names[0].get("CodeValue", "")) if names and names[0].get("CodingSchemeDesignator") == "DCM" else ""


def _is_report(dataset: Dataset) -> bool:
    return "ContentSequence" in dataset or "GraphicAnnotationSequence" in dataset


def _age(original: Dataset) -> int | None:
    """Full years at the exam, as the header says or from the birth date; None where it does not tell."""
    stated = re.fullmatch(r"(\d{3})Y", str(original.get("PatientAge", "")).strip())
    if stated:
        return int(stated[1])
    days = [re.fullmatch(r"(\d{4})(\d{4})", str(original.get(one, ""))) for one in ("PatientBirthDate", "StudyDate")]
    if days[0] is None or days[1] is None:
        return None
    years = int(days[1][1]) - int(days[0][1]) - (days[1][2] < days[0][2])
    return years if 0 <= years < 150 else None


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
