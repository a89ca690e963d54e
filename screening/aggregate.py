"""Regions to breast to exam: the views of a breast support each other, and the highest region is the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from screening.exam import Image, ImageKind, Laterality, View


def fuse(peaks: Mapping[str, Sequence[float]], images: Sequence[Image]) -> dict[str, list[float]]:
    """Fused logits of all regions of one exam, by image id, in the order given.

    `peaks`: logits of each image's regions, highest first, at least one an image. The fused logit of an image's highest
    region is the mean, over the views of its breast, of its own logit in its own view and of the highest logit of each
    other view (over the images of that view): one reading of a breast from all its projections, as the mean of views is
    what raises a classifier's accuracy (Wu et al. 2020). The second-highest regions of the views support one another in
    the same way, and so on: one finding that all views show must not raise the marks on normal tissue beside it. A view
    with fewer regions answers with its lowest. Volumes listen to volumes and 2D images to 2D images, wherever the other
    view has one: else what only the volumes show would raise the marks on the 2D images. A breast seen in one view
    keeps the region's logit.
    """
    views: dict[Laterality, dict[View, dict[bool, list[float]]]] = {}
    for image in images:
        kinds = views.setdefault(image.laterality, {}).setdefault(image.view, {})
        volume = image.kind is ImageKind.DBT
        kinds[volume] = _higher(kinds.get(volume, []), peaks[image.image_id])
    fused = {}
    for image in images:
        others = [
            kinds.get(image.kind is ImageKind.DBT) or next(iter(kinds.values()))
            for view, kinds in sorted(views[image.laterality].items())
            if view is not image.view
        ]
        fused[image.image_id] = [
            (own + sum(other[min(rank, len(other) - 1)] for other in others)) / (1 + len(others))
            for rank, own in enumerate(peaks[image.image_id])
        ]
    return fused


def _higher(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Of each rank the higher of two logits, as far as the longer of the lists goes."""
    return [max(pair) for pair in zip_longest(one, other, fillvalue=float("-inf"))]
