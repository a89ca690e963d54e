"""What to change in a site profile so that rejected mammograms are scored: only changes that were tried on the sample.

A rule is proposed where it gives a view (or a side) for rejected images, and where it agrees with the images whose
view (or side) the profile already knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydicom.uid import UID

from screening.dicomfile import open_dicom, texts
from screening.errors import ImageError
from screening.exam import Image
from screening.headers import header_keywords, read_instance
from screening.result import Reason
from screening.site import Rule, SiteProfile, SopClass
from screening.views import parse_view

_VIEWS = "XCCL|XCCM|MLO|LMO|CC|ML|LM"
_VIEW_PATTERN = rf"(?i)(?<![a-z])[LR]?(?P<value>{_VIEWS})(?![a-z])"
_SIDE_PATTERN = rf"(?i)(?<![a-z])(?P<value>LEFT|RIGHT|L|R)(?=(?:{_VIEWS})?(?![a-z]))"
_ATTRIBUTES = (
    "ViewPosition",
    "AcquisitionDeviceProcessingDescription",
    "SeriesDescription",
    "ProtocolName",
    "StudyDescription",
    "PatientID",
)
"""Where a view or a side is looked for; the last is where published sets keep it."""
_SIDE_ATTRIBUTES = ("ImageLaterality", "Laterality", *_ATTRIBUTES)
_KEYWORDS = frozenset(
    {*_SIDE_ATTRIBUTES, "Modality", "SOPClassUID", "BodyPartExamined", "Manufacturer", "ManufacturerModelName"}
    | {"Rows", "Columns"}
)
_LEAST_AGREEMENT = 0.99
"""Of a rule with what is known already; below it the rule is not proposed."""
_MOST_KNOWN = 2000
"""Images that a rule is compared with."""
_LONGEST = 1024
"""Characters of a value that are looked at."""


@dataclass(frozen=True)
class Change:
    """One key of the profile to be changed: `why` in a sentence, and how many files it takes from `reason`."""

    key: str
    why: str
    reason: Reason
    files: int


@dataclass(frozen=True)
class Suggestion:
    """`profile`: as it would be. `changes`: what was changed, in order. `admitted`: files that would be scored."""

    profile: SiteProfile
    changes: tuple[Change, ...] = ()
    admitted: int = 0

    @property
    def yaml(self) -> str:
        """The changed keys as they would stand in the profile; empty if there are none."""
        if not self.changes:
            return ""
        content = self.profile.model_dump(mode="json", exclude_unset=True)
        for sop_class in content["sop_classes"]:
            sop_class["uid"] = UID(sop_class["uid"]).keyword or sop_class["uid"]
        keys = dict.fromkeys(change.key for change in self.changes)
        return yaml.safe_dump({key: content[key] for key in keys}, sort_keys=False, allow_unicode=True, width=110)


_Header = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class _File:
    """A file of the sample as the changed profile reads it. `reason`: None once it is an image."""

    path: Path
    header: _Header
    reason: Reason | None


@dataclass(frozen=True)
class _Known:
    """An image that the profile reads already."""

    image: Image
    header: _Header


_Maker = Callable[[SiteProfile, Sequence[_File], Sequence[_Known]], tuple[SiteProfile, str] | None]


def suggest(rejected: Sequence[Path], known: Sequence[Image], profile: SiteProfile) -> Suggestion:
    """Try changes of the profile on the rejected files of a sample, and keep those that bring files further.

    `known`: the images that are read already. A file may need several changes, such as a rule for its view and one
    for its side; they are found one after the other.
    """
    files = [_File(path, _header(path), _reason(path, profile)) for path in rejected]
    if not any(file.reason in _MAKERS for file in files):
        return Suggestion(profile)
    step = max(1, len(known) // _MOST_KNOWN)
    images = [_Known(image, _header(image.path)) for image in known[::step]]
    changes: list[Change] = []
    for reason, (key, make) in _MAKERS.items():
        stuck = [file for file in files if file.reason is reason]
        made = make(profile, stuck, images) if stuck else None
        if made is None:
            continue
        changed, why = made
        moved = {file.path: replace(file, reason=_reason(file.path, changed)) for file in stuck}
        freed = sum(file.reason is not reason for file in moved.values())
        if freed:
            profile, files = changed, [moved.get(file.path, file) for file in files]
            changes.append(Change(key, why, reason, freed))
    return Suggestion(profile, tuple(changes), sum(file.reason is None for file in files))


def _reason(path: Path, profile: SiteProfile) -> Reason | None:
    try:
        with open_dicom(path, header_keywords(profile)) as file:
            outcome = read_instance(file, path, profile).outcome
    except ImageError:
        return Reason.UNREADABLE
    return None if isinstance(outcome, Image) else outcome.code


def _header(path: Path) -> _Header:
    """The texts of the attributes that rules are looked for in; none of a file that cannot be parsed."""
    found: dict[str, tuple[str, ...]] = {}
    try:
        with open_dicom(path, _KEYWORDS) as file:
            for keyword in _KEYWORDS:
                with suppress(ImageError):  # a malformed attribute says nothing
                    found[keyword] = tuple(value[:_LONGEST] for value in texts(file.dataset, keyword) if value)
    except ImageError:
        return {}
    return found


def _first(header: _Header, keyword: str) -> str:
    return next(iter(header.get(keyword, ())), "")


def _sop_classes(
    profile: SiteProfile, stuck: Sequence[_File], known: Sequence[_Known]
) -> tuple[SiteProfile, str] | None:
    """Make the SOP classes eligible whose images state the modality MG, or that they show a breast."""
    wanted: set[tuple[str, str]] = set()
    for file in stuck:
        modality, sop_class = _first(file.header, "Modality"), _first(file.header, "SOPClassUID")
        breast = modality in ("CR", "DX") and _first(file.header, "BodyPartExamined").upper() == "BREAST"
        if sop_class and (modality == "MG" or breast):
            wanted.add((sop_class, modality))
    if not wanted:
        return None
    classes = {one.uid: one for one in profile.sop_classes}
    for sop_class, modality in sorted(wanted):
        modalities = classes[sop_class].modalities if sop_class in classes else ()
        classes[sop_class] = SopClass(uid=sop_class, modalities=tuple(dict.fromkeys((*modalities, modality))))
    return profile.model_copy(update={"sop_classes": tuple(classes.values())}), (
        "their headers call them mammograms (Modality MG, or Body Part Examined BREAST); look at some before you agree"
    )


def _view(profile: SiteProfile, stuck: Sequence[_File], known: Sequence[_Known]) -> tuple[SiteProfile, str] | None:
    def meant(found: str) -> str:
        parsed = parse_view(found)
        return parsed[0].value if parsed else ""

    truth = [(one.header, one.image.view.value) for one in known]
    rule = _best_rule(_ATTRIBUTES, _VIEW_PATTERN, meant, stuck, truth)
    return None if rule is None else (profile.model_copy(update={"view": (*profile.view, rule[0])}), rule[1])


def _laterality(
    profile: SiteProfile, stuck: Sequence[_File], known: Sequence[_Known]
) -> tuple[SiteProfile, str] | None:
    truth = [(one.header, one.image.laterality.value) for one in known]
    rule = _best_rule(_SIDE_ATTRIBUTES, _SIDE_PATTERN, lambda found: found[:1].upper(), stuck, truth)
    return (
        None if rule is None else (profile.model_copy(update={"laterality": (*profile.laterality, rule[0])}), rule[1])
    )


def _best_rule(
    attributes: Sequence[str],
    pattern: str,
    meant: Callable[[str], str],
    stuck: Sequence[_File],
    truth: Sequence[tuple[_Header, str]],
) -> tuple[Rule, str] | None:
    """The attribute in which the pattern says one thing of most stuck files, and nothing wrong of known ones."""
    best: tuple[Rule, str] | None = None
    most = 0
    for attribute in attributes:
        given = [_meanings(file.header, attribute, pattern, meant) for file in stuck]
        number = sum(len(found) == 1 for found in given)
        if number <= most or any(len(found) > 1 for found in given):
            continue
        said = [(found, {true}) for header, true in truth if (found := _meanings(header, attribute, pattern, meant))]
        right = sum(found == true for found, true in said)
        if right < _LEAST_AGREEMENT * len(said):
            continue
        agreement = (
            f"the same rule is right on {right} of {len(said)} images that are known already"
            if said
            else "nothing vouches for it, as no image that is known already has it: compare some by eye"
        )
        best, most = (Rule(attribute=attribute, pattern=pattern), f"{attribute} says it; {agreement}"), number
    return best


def _meanings(header: _Header, attribute: str, pattern: str, meant: Callable[[str], str]) -> set[str]:
    """All that the pattern finds in an attribute's values: several different things mean that it tells nothing."""
    values = header.get(attribute, ())
    return {meant(match["value"]) for value in values for match in re.finditer(pattern, value)} - {""}


def _spacing(profile: SiteProfile, stuck: Sequence[_File], known: Sequence[_Known]) -> tuple[SiteProfile, str] | None:
    """The spacing of the known images of the same equipment and size, if it is one for all."""
    by_equipment: dict[tuple[str, ...], set[float]] = {}
    for one in known:
        by_equipment.setdefault(_equipment(one.header), set()).add(round(max(one.image.pixel_spacing_mm), 4))
    found = [by_equipment.get(_equipment(file.header), set()) for file in stuck]
    values = set().union(*found)
    if len(values) != 1 or not all(found):
        return None
    spacing = profile.pixel_spacing.model_copy(update={"default_mm": values.pop()})
    return profile.model_copy(update={"pixel_spacing": spacing}), (
        "images of the same equipment and size in this sample state this spacing"
    )


def _equipment(header: _Header) -> tuple[str, ...]:
    return tuple(_first(header, keyword) for keyword in ("Manufacturer", "ManufacturerModelName", "Rows", "Columns"))


_MAKERS: Mapping[Reason, tuple[str, _Maker]] = {
    Reason.NOT_MAMMOGRAPHY: ("sop_classes", _sop_classes),
    Reason.SOP_CLASS: ("sop_classes", _sop_classes),
    Reason.UNKNOWN_VIEW: ("view", _view),
    Reason.UNKNOWN_LATERALITY: ("laterality", _laterality),
    Reason.UNKNOWN_SPACING: ("pixel_spacing", _spacing),
}
"""What may be changed for which reason, in the order in which reading a header comes upon them."""
