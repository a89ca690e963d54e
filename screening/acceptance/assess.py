"""A sample judged: everything that the report, `acceptance.json` and the proposed profile are made from."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from screening.acceptance import checks, headers_met, image_checks, score_checks
from screening.acceptance.checks import Check, Verdict
from screening.acceptance.headers_met import NotScored, OddHeader, Protocol, Tally
from screening.acceptance.image_checks import Comparison
from screening.acceptance.image_reference import ImageReference
from screening.acceptance.sample import Sample, rejected_paths
from screening.acceptance.score_statistics import ChosenPoint, NoPoint, Spread, choose_point, spread
from screening.acceptance.suggest import Suggestion, suggest
from screening.errors import ConfigError
from screening.model.bundle import Bundle
from screening.model.calibration import OperatingPoint
from screening.monitoring.records import record_of
from screening.monitoring.reference import Reference, Unit, reference_of_bundle, reference_of_sample
from screening.operating_point import site_operating_point
from screening.result import Status
from screening.site import SiteProfile


@dataclass(frozen=True)
class SampleFacts:
    """Which sample it was. `digest`: SHA-256 over its SOP Instance UIDs, see `Sample.digest`."""

    files: int
    images: int
    exams: int
    scored: int
    women: int
    first: date | None
    last: date | None
    digest: str


@dataclass(frozen=True)
class PointHere:
    """What an operating point recalls of this site's scored exams."""

    point: OperatingPoint
    recalled: int
    exams: int


@dataclass(frozen=True)
class Acceptance:
    """The judgement. `wanted`: recall rate asked for. `drift`: the site's own reference, or why there is none."""

    site: str
    profile_sha256: str
    bundle: Bundle
    made: datetime
    wanted: float
    sample: SampleFacts
    checks: tuple[Check, ...]
    protocols: tuple[Protocol, ...]
    tallies: tuple[Tally, ...]
    odd: tuple[OddHeader, ...]
    not_scored: tuple[NotScored, ...]
    suggestion: Suggestion
    training: ImageReference | None
    training_note: str
    comparisons: tuple[Comparison, ...]
    warnings: tuple[tuple[str, int], ...]
    spread: Spread
    point: ChosenPoint | NoPoint
    points_here: tuple[PointHere, ...]
    seconds: tuple[float, ...]
    drift: Reference | str

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return max((check.verdict for check in self.checks), key=list(Verdict).index)

    @property
    def chosen_on(self) -> str:
        """Which exams the operating point was chosen on, in words for the profile."""
        days = {day.isoformat() for day in (self.sample.first, self.sample.last) if day}
        return f"{self.sample.scored} exams of {self.site}" + (f", {' to '.join(sorted(days))}" if days else "")


def assess(
    root: Path,
    sample: Sample,
    profile: SiteProfile,
    bundle: Bundle,
    training: ImageReference | None,
    *,
    wanted: float,
    night_exams: int,
) -> Acceptance:
    """Judge a sample that was read from `root`. `wanted`: recall rate in (0, 0.5]. `night_exams`: of the busiest night.

    Raises `ConfigError` where the profile's operating point is not one of this bundle.
    """
    results, scored = sample.results, sample.scored
    training, training_note = _fitting(training, bundle)
    lost = headers_met.not_scored(sample.scan.rejections, results)
    measured = [image for result in results for image in result.images if image.image.image_id in sample.measures]
    measures = list(sample.measures.values())
    comparisons = image_checks.compare(measures, training.all) if training else ()
    of_bundle = reference_of_bundle(bundle.calibration, bundle.model_id)
    groups = [
        [breast.score for breast in result.breasts] if of_bundle.unit is Unit.BREAST else [result.score or 0.0]
        for result in scored
    ]
    found = spread(groups, of_bundle)
    point = choose_point([result.score or 0.0 for result in scored], wanted)
    unexpected = sum(one.files for one in lost if not one.expected)
    used = {image.image.image_id for image in measured}
    bits = Counter(one.bits for one in sample.facts if one.image_id in used)
    makers = {one.manufacturer for one in sample.facts if one.image_id in used}
    spacings = [max(image.image.pixel_spacing_mm) for image in measured]
    judged = (
        checks.sample_size(results, wanted),
        checks.headers_usable(unexpected, unexpected + len(measured)),
        checks.exams_scored(results),
        checks.views_complete(results),
        checks.contradictions(results),
        checks.sides(results),
        checks.quality(results),
        image_checks.manufacturers(makers, training),
        image_checks.spacing(spacings, training, bundle.card.preparation.pixel_spacing_mm),
        image_checks.bit_depth(bits, training),
        *(image_checks.resembles(one) for one in comparisons),
        *(() if comparisons else (image_checks.no_comparison(training_note or "no image was scored"),)),
        score_checks.spread_check(found),
        score_checks.operating_point(point),
        checks.repeatability(sample.repeated, len(sample.unequal)),
        checks.speed(sample.seconds, night_exams),
    )
    return Acceptance(
        site=profile.name,
        profile_sha256=hashlib.sha256(profile.model_dump_json().encode()).hexdigest(),
        bundle=bundle,
        made=datetime.now(UTC).replace(microsecond=0),
        wanted=wanted,
        sample=_facts(sample),
        checks=judged,
        protocols=headers_met.protocols(sample.facts),
        tallies=headers_met.tallies(sample.facts),
        odd=headers_met.odd_headers(sample.facts),
        not_scored=lost,
        suggestion=suggest(
            rejected_paths(root, sample.scan.rejections),
            [image for exam in sample.scan.exams for image in exam.images],
            profile,
        ),
        training=training,
        training_note=training_note,
        comparisons=comparisons,
        warnings=_warnings(sample),
        spread=found,
        point=point,
        points_here=_points_here(sample, profile, bundle),
        seconds=sample.seconds,
        drift=_drift(sample, profile, bundle, point),
    )


def _fitting(training: ImageReference | None, bundle: Bundle) -> tuple[ImageReference | None, str]:
    """The reference, if it is of this bundle's training data; else why it is not used."""
    make = "python -m training.image_reference makes it"
    if training is None:
        return None, f"the bundle comes without a reference of its training images ({make})"
    card = bundle.card
    if training.prepared_mm != card.preparation.pixel_spacing_mm:
        return None, f"the bundle's reference of training images was measured at another pixel spacing ({make} anew)"
    if {one.name for one in card.training_data} != set(training.by_set):
        return None, f"the bundle's reference of training images is of other data than its card names ({make} anew)"
    return training, ""


def _facts(sample: Sample) -> SampleFacts:
    days = [result.exam_date for result in sample.results if result.exam_date is not None]
    return SampleFacts(
        files=sample.scan.instances,
        images=len(sample.measures),
        exams=len(sample.results),
        scored=len(sample.scored),
        women=len({result.woman_id for result in sample.results}),
        first=min(days, default=None),
        last=max(days, default=None),
        digest=sample.digest,
    )


def _warnings(sample: Sample) -> tuple[tuple[str, int], ...]:
    """Warnings on images and how many have each; numbers in them are left out, so that alike ones count together."""
    kinds = Counter(
        " ".join("…" if any(c.isdigit() for c in word) else word for word in text.split())
        for result in sample.results
        for image in result.images
        for text in {*image.image.warnings, *image.warnings}
    )
    return tuple(kinds.most_common())


def _points_here(sample: Sample, profile: SiteProfile, bundle: Bundle) -> tuple[PointHere, ...]:
    points: list[OperatingPoint] = list(bundle.calibration.operating_points)
    present = site_operating_point(profile.operating_point, bundle.calibration, bundle.model_id)
    if present is not None and present not in points:
        points.append(present)
    scores = [result.score or 0.0 for result in sample.scored]
    return tuple(PointHere(one, sum(score >= one.threshold for score in scores), len(scores)) for one in points)


def _drift(sample: Sample, profile: SiteProfile, bundle: Bundle, point: ChosenPoint | NoPoint) -> Reference | str:
    """The reference that monitoring compares later nights of this site with."""
    threshold = point.threshold if isinstance(point, ChosenPoint) else None
    facts = _facts(sample)
    try:
        return reference_of_sample(
            [record_of(result) for result in sample.results if result.status in (Status.SCORED, Status.REJECTED)],
            profile.name,
            bundle.model_id,
            f"acceptance sample of {facts.exams} exams, SHA-256 {facts.digest[:16]}",
            threshold,
        )
    except ConfigError as error:
        return str(error)
