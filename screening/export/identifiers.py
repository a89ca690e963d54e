"""The words that say who a woman is, gathered from her own headers to find them wherever else they stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_NAME_SEPARATORS = re.compile(r"[\^=\s,\\]+")
_SHORTEST_NAME, _SHORTEST_ID, _SHORTEST_IN_BYTES = 3, 4, 6
_IDS = frozenset({"LO", "SH", "ST", "UC"})
_WHOSE = re.compile(
    "Patient|Accession|StudyID|Admission|Episode|Institution|Address|Telephone|Order|ProcedureID|StepID|Locator|"
    "Insurance|Person"
)
_BIRTH_FORMATS = ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y")


@dataclass(frozen=True)
class Identifiers:
    """Words to look for, in lower case."""

    words: frozenset[str]

    @classmethod
    def of(cls, removed: Iterable[tuple[str, str, object]], known: Iterable[str] = ()) -> Identifiers:
        """From (keyword, value representation, value) of attributes that do not stay; `known`: ids from elsewhere.

        Names by their parts, birth dates as people write them, numbers and addresses of people, visits and institutions
        as a whole. Descriptions and comments are not looked for: their words are those of every code.
        """
        found = {one.strip().lower() for one in known}
        for keyword, representation, value in removed:
            for one in value if isinstance(value, MultiValue | list) else [value]:
                text = str(one).strip(" \0").lower()
                if representation == "PN":
                    found.update(part for part in _NAME_SEPARATORS.split(text) if len(part) >= _SHORTEST_NAME)
                elif "BirthDate" in keyword:
                    found.update(_birth_dates(text))
                elif representation in _IDS and len(text) >= _SHORTEST_ID and _WHOSE.search(keyword):
                    found.add(text)
        return cls(frozenset(one for one in found if len(one) >= _SHORTEST_NAME and one != "removed"))

    def stand_in(self, text: str) -> bool:
        """Whether one of them stands in `text` as a word or several, whatever the case."""
        lowered = text.lower()
        return any(
            one in lowered and re.search(rf"(?<![^\W_]){re.escape(one)}(?![^\W_])", lowered) for one in self.words
        )

    def stand_in_bytes(self, content: bytes) -> bool:
        """Whether one of them, of six signs or more and not of digits alone, stands in `content` in a usual case.

        Digits alone are left out: among the digits of UIDs and in compressed pixels every number turns up.
        """
        for one in self.words:
            if len(one) >= _SHORTEST_IN_BYTES and not one.isdigit():
                for form in {one, one.upper(), one.title(), one.capitalize()}:
                    if form.encode() in content or form.encode("utf-16-le") in content:
                        return True
        return False


def walk(dataset: Dataset) -> Iterator[tuple[str, str, object]]:
    """(keyword, value representation, value) of every attribute on every level that can be read; not of sequences."""
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset converts elements, which may raise
        try:
            element = dataset[tag]
            value, items = element.value, element.value if element.VR == "SQ" else ()
        except Exception:  # pydicom answers malformed values with almost any exception; such an element does not stay
            continue
        if element.VR == "SQ":
            for item in items or ():
                yield from walk(item)
        else:
            yield element.keyword, element.VR, value


def _birth_dates(text: str) -> Iterator[str]:
    try:
        day = datetime.strptime(text.replace(".", ""), "%Y%m%d")
    except ValueError:
        return
    yield from (day.strftime(form) for form in _BIRTH_FORMATS)
