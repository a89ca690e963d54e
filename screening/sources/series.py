"""Slices that are stored one a file, joined to the volume that they are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from screening.exam import Image
from screening.headers import Instance
from screening.imaging.stack import missing_frames

Member = tuple[Instance, Image]


def join_slices(members: list[Member]) -> list[Member]:
    """One exam's images, with the slices of each series joined to one volume; everything else stays as it is.

    Slices of one series, side, view and size make a volume, in the order of their positions along the normal of their
    plane, or of their Instance Numbers where not all positions are known. The volume goes by its first slice's UID.
    """
    whole: list[Member] = []
    series: dict[tuple[object, ...], list[Member]] = defaultdict(list)
    for instance, image in members:
        if instance.slice_place is None:
            whole.append((instance, image))
        else:
            key = (instance.slice_place.series_id, image.laterality, image.view, image.rows, image.columns)
            series[key].append((instance, image))
    return whole + [_joined(slices) for slices in series.values()]


def _joined(slices: list[Member]) -> Member:
    positioned = all(instance.slice_place and instance.slice_place.position_mm is not None for instance, _ in slices)
    ordered = sorted(slices, key=lambda member: _place(member, positioned))
    if positioned and len(ordered) > 1 and _number(ordered[0]) > _number(ordered[-1]):
        ordered.reverse()  # as they are numbered, which is how viewers count them
    instance, first = ordered[0]
    warnings = dict.fromkeys(warning for _, image in ordered for warning in image.warnings)
    if not positioned:  # else the planes themselves tell, when they are read
        warnings |= dict.fromkeys(missing_frames([_number(member) for member in ordered], "Instance Numbers"))
    volume = replace(
        first, frames=len(ordered), slices=tuple(image.path for _, image in ordered), warnings=tuple(warnings)
    )
    return replace(instance, frames=len(ordered), outcome=volume), volume


def _place(member: Member, positioned: bool) -> tuple[float, int, str]:
    place = member[0].slice_place
    assert place is not None
    return (place.position_mm or 0.0) if positioned else 0.0, place.number, member[1].image_id


def _number(member: Member) -> int:
    assert member[0].slice_place is not None
    return member[0].slice_place.number
