"""Mammography CAD SR (PS3.3 A.35.5): findings by the templates of PS3.16 TID 4000 and its subordinates.

What is shown from which operating point on, and what makes a composite feature, is told in `findings`. A finding is a
"Selected region": the model says how suspicious a place is, not whether it is a mass or calcifications.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.sr.coding import Code
from pydicom.uid import MammographyCADSRStorage

from screening.delivery import codes
from screening.delivery.context import DISCLAIMER, Delivery, Source
from screening.delivery.findings import (
    Finding,
    algorithm_parameters,
    description,
    failed_sources,
    findings,
    fused_breasts,
    meaning,
    operating_bins,
    processing_summary,
    rendering_intent,
    scored_sources,
    tracking_label,
)
from screening.delivery.objects import new_report
from screening.delivery.regions import center, closed_outline, frame_numbers
from screening.delivery.sr_tree import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    HAS_PROPERTIES,
    INFERRED_FROM,
    SELECTED_FROM,
    ImageLibrary,
    by_reference,
    code,
    container,
    number,
    percent,
    points,
    text,
    uid,
    with_children,
)
from screening.result import Region

KIND = "cad-sr"
TITLE = "CAD: to be verified by a radiologist; not for clinical use"

_LIBRARY_POSITION = 2
"""Of the image library among the root's items: the language comes before it."""


def cad_sr(delivery: Delivery) -> FileDataset:
    """The Mammography CAD SR of one exam: scored, without findings, in part or wholly not processed.

    Raises `DeliveryError` when a region does not lie in its image.
    """
    root = container(codes.MAMMOGRAPHY_CAD_REPORT, None, _Report(delivery).items(), template="4000")
    return new_report(delivery, KIND, MammographyCADSRStorage, TITLE, root)


class _Report:
    """Builds the tree of one delivery."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._library = ImageLibrary(delivery.sources, _LIBRARY_POSITION)
        self._by_image = {str(source.sop_instance): source for source in delivery.sources}

    def items(self) -> list[Dataset]:
        """Children of the root container (TID 4000)."""
        language = code(codes.LANGUAGE, codes.ENGLISH, HAS_CONCEPT_MOD)
        summary = self._summary()
        library = self._library.container()  # after the summary, which adds the frames that it needs
        return [language, library, summary, self._detections(), self._analyses()]

    def _summary(self) -> Dataset:
        """TID 4001: how it went and what was found; impressions hang below."""
        item = code(codes.FINDINGS_SUMMARY, processing_summary(self._delivery), CONTAINS)
        children = [text(codes.IMPRESSION_DESCRIPTION, description(self._delivery))]
        if self._delivery.result.score is not None:
            children.append(percent(codes.CERTAINTY_OF_IMPRESSION, self._delivery.result.score))
        children += [*self._algorithm(), *self._parameters()]
        children += [self._impression(finding) for finding in findings(self._delivery)]
        return with_children(item, children)

    def _impression(self, finding: Finding) -> Dataset:
        """TID 4003."""
        if len(finding.regions) > 1:
            inner = self._composite(finding)
        else:
            inner = self._finding(finding.regions[0], finding.bins[0], CONTAINS)
        return container(codes.INDIVIDUAL_IMPRESSION, INFERRED_FROM, [_intent(finding.required), inner])

    def _composite(self, finding: Finding) -> Dataset:
        """TID 4004 with 4005; the certainty is the fused score, which the regions share."""
        return with_children(
            code(codes.COMPOSITE_FEATURE, codes.SELECTED_REGION, CONTAINS),
            [
                _intent(finding.required),
                *self._tracking(finding.regions),
                code(codes.COMPOSITE_TYPE, codes.RELATED_SPATIALLY, HAS_PROPERTIES),
                code(codes.SCOPE_OF_FEATURE, codes.ON_MULTIPLE_IMAGES, HAS_PROPERTIES),
                *self._algorithm(),
                percent(codes.CERTAINTY_OF_FEATURE, finding.regions[0].score),
                *(
                    self._finding(region, shown_from, INFERRED_FROM)
                    for region, shown_from in zip(finding.regions, finding.bins, strict=True)
                ),
            ],
        )

    def _finding(self, region: Region, shown_from: int, relationship: str) -> Dataset:
        """TID 4006 with 4013 and 4021: one region in one image."""
        source = self._by_image[region.image_id]
        image = source.result.image
        peak, extent = frame_numbers(source, region)
        intent = _intent(shown_from == 0)
        if shown_from > 0:
            with_children(intent, [number(codes.OPERATING_POINT, shown_from, codes.FROM_ONE)])
        return with_children(
            code(codes.SINGLE_IMAGE_FINDING, codes.SELECTED_REGION, relationship),
            [
                intent,
                *self._tracking((region,)),
                *self._algorithm(),
                percent(codes.CERTAINTY_OF_FINDING, region.score),
                points(codes.CENTER, "POINT", np.array([center(region, image)]), self._selected(source, peak)),
                points(codes.OUTLINE, "POLYLINE", closed_outline(region, image), self._selected(source, extent)),
                text(codes.REGION_DESCRIPTION, _words(region)),
            ],
        )

    def _selected(self, source: Source, frames: tuple[int, ...]) -> Dataset:
        return by_reference(SELECTED_FROM, self._library.identifier(source, frames))

    def _tracking(self, regions: tuple[Region, ...]) -> list[Dataset]:
        """TID 4108: the same region has the same identifier in every object."""
        return [
            text(codes.TRACKING_IDENTIFIER, tracking_label(regions), HAS_OBS_CONTEXT),
            uid(codes.TRACKING_UID, self._delivery.region_uid(*regions), HAS_OBS_CONTEXT),
        ]

    def _algorithm(self) -> list[Dataset]:
        """TID 4019; its parameters are in the summary and with what was performed, not in every finding."""
        algorithm = self._delivery.algorithm
        return [text(codes.ALGORITHM_NAME, algorithm.name), text(codes.ALGORITHM_VERSION, algorithm.version)]

    def _parameters(self, *more: str) -> list[Dataset]:
        """TID 4019 row 3."""
        return [text(codes.ALGORITHM_PARAMETERS, line) for line in (*algorithm_parameters(self._delivery), *more)]

    def _detections(self) -> Dataset:
        """TID 4015 with 4017 and 4023.

        What the CAD operating points mean stands in Algorithm Parameters: the table that TID 4023 offers for it (row 3)
        is a container below a code, which the IOD does not allow (PS3.3 A.35.5.3.1.3).
        """
        bins = operating_bins(self._delivery)
        succeeded = []
        if scored := scored_sources(self._delivery):
            words = [f"CAD Operating Point {n}: {meaning(point)}" for n, point in enumerate(bins)]
            step = self._step(codes.DETECTION_PERFORMED, codes.SELECTED_REGION, scored, *words)
            if len(bins) > 1:
                most = number(codes.MAXIMUM_OPERATING_POINT, len(bins) - 1, codes.ARBITRARY)
                with_children(step, [most, number(codes.RECOMMENDED_OPERATING_POINT, 0, codes.FROM_ZERO)])
            succeeded.append(step)
        failed = self._failed(codes.DETECTION_PERFORMED, codes.SELECTED_REGION)
        parts = ((codes.SUCCESSFUL_DETECTIONS, succeeded), (codes.FAILED_DETECTIONS, failed))
        return _performed(codes.SUMMARY_OF_DETECTIONS, parts)

    def _analyses(self) -> Dataset:
        """TID 4016 with 4018: the exam's score, and the fusion of each breast's views."""
        succeeded = []
        if scored := scored_sources(self._delivery):
            succeeded.append(self._step(codes.ANALYSIS_PERFORMED, codes.OVERALL_ANALYSIS, scored))
            for breast in fused_breasts(self._delivery):
                succeeded.append(self._step(codes.ANALYSIS_PERFORMED, codes.COLLOCATION_ANALYSIS, breast))
        failed = self._failed(codes.ANALYSIS_PERFORMED, codes.OVERALL_ANALYSIS)
        return _performed(
            codes.SUMMARY_OF_ANALYSES, ((codes.SUCCESSFUL_ANALYSES, succeeded), (codes.FAILED_ANALYSES, failed))
        )

    def _failed(self, name: Code, value: Code) -> list[Dataset]:
        """What did not run on the images that were not scored, by the reason."""
        failed = failed_sources(self._delivery)
        return [self._step(name, value, images, f"Failure: {why}") for why, images in failed.items()]

    def _step(self, name: Code, value: Code, images: Iterable[Source], *parameters: str) -> Dataset:
        """TID 4017 or 4018: one algorithm and the images on which it ran."""
        references = [by_reference(HAS_PROPERTIES, self._library.identifier(image)) for image in images]
        facts = [*self._algorithm(), *self._parameters(*parameters)]
        return with_children(code(name, value, CONTAINS), [*facts, *references])


def _performed(name: Code, parts: tuple[tuple[Code, list[Dataset]], tuple[Code, list[Dataset]]]) -> Dataset:
    """A summary of detections or analyses: what succeeded, then what failed (TID 4000 rows 6 and 8)."""
    (_, succeeded), (_, failed) = parts
    status = codes.FAILED if not succeeded else codes.PARTIALLY_SUCCEEDED if failed else codes.SUCCEEDED
    groups = [container(heading, INFERRED_FROM, steps) for heading, steps in parts if steps]
    return with_children(code(name, status, CONTAINS), groups)


def _intent(required: bool) -> Dataset:
    return code(codes.RENDERING_INTENT, rendering_intent(required), HAS_CONCEPT_MOD)


def _words(region: Region) -> str:
    return f"Suspicious region, rank {region.rank} in the exam, score {region.score:.4g}. {DISCLAIMER}."
