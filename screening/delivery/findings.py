"""What reports say of an exam, before it is put into a template: what is shown, how it hangs together, how it went.

Rules:

- Regions that reach the chosen operating point are shown ("Presentation Required"); that is CAD Operating Point 0. The
  bundle's more sensitive points count from 1: a region that only reaches one of these is "Presentation Optional" with
  its number, so that a workstation shows more on request (PS3.17 E.4). Regions that reach none are left out.
- The highest region of each view of a breast, whose scores the model fuses, belong together. That they show one lesion
  is the model's assumption.
- What is put together is required when anything in it is: rendering stops at what is optional (PS3.4 O.2.2.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.sr.coding import Code

from screening.delivery import codes
from screening.delivery.context import DISCLAIMER, Delivery, Source
from screening.exam import Laterality, View
from screening.model.calibration import OperatingPoint
from screening.result import Region, Status


@dataclass(frozen=True)
class Finding:
    """A region on its own, or those of a breast's views that the model fused, most suspicious first.

    `bins`: for each region the CAD Operating Point from which it is shown, 0 for the chosen one.
    """

    regions: tuple[Region, ...]
    bins: tuple[int, ...]

    @property
    def required(self) -> bool:
        """Whether the chosen operating point shows any of it."""
        return 0 in self.bins


def operating_bins(delivery: Delivery) -> tuple[OperatingPoint, ...]:
    """The chosen operating point and the more sensitive ones; of points with one threshold the first."""
    kept = [delivery.point]
    for point in delivery.points:
        if point.threshold < kept[-1].threshold:
            kept.append(point)
    return tuple(kept)


def findings(delivery: Delivery) -> tuple[Finding, ...]:
    """All that is shown at some operating point of `operating_bins`, most suspicious first."""
    thresholds = [point.threshold for point in operating_bins(delivery)]
    bins: dict[str, int] = {}
    for region in delivery.result.regions:
        reached = [n for n, threshold in enumerate(thresholds) if region.score >= threshold]
        if reached:
            bins[region.region_id] = reached[0]
    shown = [region for region in delivery.result.regions if region.region_id in bins]
    groups = _fused(shown)
    grouped = {region.region_id for group in groups for region in group}
    groups += [(region,) for region in shown if region.region_id not in grouped]
    groups.sort(key=lambda group: group[0].rank)
    return tuple(Finding(group, tuple(bins[region.region_id] for region in group)) for group in groups)


def scored_sources(delivery: Delivery) -> list[Source]:
    """The images that the model answered on."""
    return [source for source in delivery.sources if source.result.status is Status.SCORED]


def failed_sources(delivery: Delivery) -> dict[str, list[Source]]:
    """The other images, by the reason why they were not scored."""
    failed: dict[str, list[Source]] = {}
    for source in delivery.sources:
        if source.result.status is not Status.SCORED:
            failed.setdefault(str(source.result.rejection or source.result.status), []).append(source)
    return failed


def fused_breasts(delivery: Delivery) -> list[list[Source]]:
    """The images of each breast that was scored in several views: what the model's fusion ran on."""
    scored = scored_sources(delivery)
    breasts = ([source for source in scored if source.result.image.laterality is side] for side in Laterality)
    return [same for same in breasts if len({source.result.image.view for source in same}) > 1]


def processing_summary(delivery: Delivery) -> Code:
    """How the processing went and whether the chosen operating point marks anything (CID 6047)."""
    if not scored_sources(delivery):
        return codes.NONE_SUCCEEDED
    found = bool(delivery.marked)
    if failed_sources(delivery) or delivery.unread:
        return codes.SOME_WITH_FINDINGS if found else codes.SOME_WITHOUT_FINDINGS
    return codes.ALL_WITH_FINDINGS if found else codes.ALL_WITHOUT_FINDINGS


def rendering_intent(required: bool) -> Code:
    """Whether a workstation has to show it (CID 6034)."""
    return codes.PRESENTATION_REQUIRED if required else codes.PRESENTATION_OPTIONAL


def description(delivery: Delivery) -> str:
    """For people: the end, the density, what was not processed and why, and that a radiologist has to verify it."""
    lines = [f"{delivery.summary}. {DISCLAIMER}."]
    if delivery.result.density is not None:
        lines.append(f"Breast density, estimated: BI-RADS {delivery.result.density}.")
    for one in delivery.result.images:
        if one.status is not Status.SCORED:
            lines.append(f"Not processed: {one.image.laterality} {one.image.view}: {one.rejection or one.status}.")
    for rejected in delivery.rejections:
        lines.append(f"Not processed: instance {rejected.image_id or 'without UID'}: {rejected.rejection}.")
    return "\n".join(lines)


def algorithm_parameters(delivery: Delivery) -> tuple[str, ...]:
    """What identifies the model and how it was used (Algorithm Parameters)."""
    return (
        f"Bundle SHA-256: {delivery.algorithm.sha256}",
        f"Operating point: {meaning(delivery.point)}",
        DISCLAIMER,
    )


def meaning(point: OperatingPoint) -> str:
    """What an operating point means, in one line for people."""
    return f"{point.name}: score of at least {point.threshold:.6g} ({point.target}; chosen on {point.chosen_on})"


def tracking_label(regions: Sequence[Region]) -> str:
    """A finding's name for people, such as "Region 3"."""
    return f"Region {regions[0].rank}" if len(regions) == 1 else f"{regions[0].laterality} breast"


def _fused(regions: Iterable[Region]) -> list[tuple[Region, ...]]:
    """Of each breast of which several views show something, the highest of `regions` (by rank) in each view."""
    highest: dict[Laterality, dict[View, Region]] = {}
    for region in regions:
        highest.setdefault(region.laterality, {}).setdefault(region.view, region)
    return [tuple(by_view.values()) for by_view in highest.values() if len(by_view) > 1]
