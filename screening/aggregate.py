"""Regions to breast to exam: the views of a breast support each other, and the highest region is the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from screening.exam import Image, ImageKind, Laterality, View


def fuse(peaks: Mapping[str, Sequence[float]], images: Sequence[Image]) -> dict[str, list[float]]:
    """Fused logits of all regions of one exam, by image id, in the order given.

    `peaks`: logits of each image's regions, highest first, at least one an image. A region's fused logit is the mean,
    over the views of its breast, of its own logit in its own view and of the highest logit of each other view (over
    the images of that view): one reading of a breast from all its projections, as the mean of views is what raises a
    classifier's accuracy (Wu et al. 2020). Volumes listen to volumes and 2D images to 2D images, wherever the other
    view has one: else what only the volumes show would raise every mark on the 2D images. A breast seen in one view
    keeps the region's logit.
    """
    highest: dict[Laterality, dict[View, dict[bool, float]]] = {}
    for image in images:
        kinds = highest.setdefault(image.laterality, {}).setdefault(image.view, {})
        volume = image.kind is ImageKind.DBT
        kinds[volume] = max(kinds.get(volume, float("-inf")), peaks[image.image_id][0])
    fused = {}
    for image in images:
        volume = image.kind is ImageKind.DBT
        views = sorted(highest[image.laterality].items())
        others = [kinds.get(volume, max(kinds.values())) for view, kinds in views if view is not image.view]
        fused[image.image_id] = [(own + sum(others)) / (1 + len(others)) for own in peaks[image.image_id]]
    return fused
