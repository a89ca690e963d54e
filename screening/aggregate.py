"""Regions to breast to exam: the views of a breast support each other, and the highest region is the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from screening.exam import Image, Laterality, View


def fuse(peaks: Mapping[str, Sequence[float]], images: Sequence[Image]) -> dict[str, list[float]]:
    """Fused logits of all regions of one exam, by image id, in the order given.

    `peaks`: logits of each image's regions, highest first, at least one an image. A region's fused logit is the mean,
    over the views of its breast, of its own logit in its own view and of the highest logit of each other view (over
    the images of that view): one reading of a breast from all its projections, as the mean of views is what raises a
    classifier's accuracy (Wu et al. 2020). A breast seen in one view keeps the region's logit.
    """
    highest: dict[tuple[Laterality, View], float] = {}
    for image in images:
        key = image.laterality, image.view
        highest[key] = max(highest.get(key, float("-inf")), peaks[image.image_id][0])
    fused = {}
    for image in images:
        others = [
            logit
            for (side, view), logit in sorted(highest.items())
            if side is image.laterality and view is not image.view
        ]
        fused[image.image_id] = [(own + sum(others)) / (1 + len(others)) for own in peaks[image.image_id]]
    return fused
