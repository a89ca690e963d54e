"""When a region hits a lesion, and which lesion it then counts for.

Boxes are in source pixels of one image: x, y of the upper left corner (column, row), width and height; x grows to the
right and y downwards. Regions and lesions meet only within an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from evaluation import checks
from evaluation.checks import BoolArray, FloatArray, IntArray
from evaluation.errors import InvalidInputError

OtherLesions: TypeAlias = Literal["false-positive", "ignore"]
"""What a region is that hits no lesion of interest but another one, such as a benign lesion in a figure on cancers."""


@dataclass(frozen=True, eq=False, init=False)
class Regions:
    """Scored regions of many images; one row each.

    `image`: int64 (r,), index of the region's image. `score`: float64 (r,). `box`: float64 (r, 4) as x, y, width,
    height in pixels. Raises `InvalidInputError` for NaN, infinity, a negative size, or lengths that differ.
    """

    image: IntArray
    score: FloatArray
    box: FloatArray

    def __init__(self, image: npt.ArrayLike, score: npt.ArrayLike, box: npt.ArrayLike) -> None:
        scores = checks.finite(score, "region score")
        boxes = _boxes(box, "region", len(scores))
        if (boxes[:, 2:] < 0).any():
            raise InvalidInputError("A region has a negative width or height.")
        object.__setattr__(self, "image", _image_index(image, "region image", len(scores)))
        object.__setattr__(self, "score", scores)
        object.__setattr__(self, "box", boxes)

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True, eq=False, init=False)
class Lesions:
    """True lesions of many images; one row each.

    `image`: int64 (l,). `box`: float64 (l, 4) as x, y, width, height in pixels. `ellipse`: bool (l,), the lesion is
    the ellipse (circle) that fills the box, not the box itself. `target`: bool (l,), the lesion is one that the
    figure asks for (say, malignant); the others only decide what a region on them is. `ignored`: bool (l,), where it
    is no target, a region on it counts as nothing. Each may be one value for all.
    Raises `InvalidInputError` for NaN, a lesion without extent, or lengths that differ.
    """

    image: IntArray
    box: FloatArray
    ellipse: BoolArray
    target: BoolArray
    ignored: BoolArray

    def __init__(
        self,
        image: npt.ArrayLike,
        box: npt.ArrayLike,
        ellipse: npt.ArrayLike = False,
        target: npt.ArrayLike = True,
        ignored: npt.ArrayLike = False,
    ) -> None:
        images = _image_index(image, "lesion image", None)
        boxes = _boxes(box, "lesion", len(images))
        if (boxes[:, 2:] <= 0).any():
            raise InvalidInputError("A lesion has no width or height; give it the extent that counts as a hit.")
        object.__setattr__(self, "image", images)
        object.__setattr__(self, "box", boxes)
        for name, given in (("ellipse", ellipse), ("target", target), ("ignored", ignored)):
            spread = np.full(len(images), given) if np.ndim(given) == 0 else given
            object.__setattr__(self, name, checks.binary(spread, f"lesion {name}", length=len(images)))

    def __len__(self) -> int:
        return len(self.image)


class HitRule(Protocol):
    """Says for p pairs of a region and a lesion whether the region hits: boxes (p, 4), `ellipse` (p,) → bool (p,)."""

    def __call__(self, region: FloatArray, lesion: FloatArray, ellipse: BoolArray) -> BoolArray: ...


def centre_in_lesion(region: FloatArray, lesion: FloatArray, ellipse: BoolArray) -> BoolArray:
    """The region's centre lies in the lesion's box or ellipse, its border included."""
    offset = np.abs(_centre(region) - _centre(lesion)) / (lesion[:, 2:] / 2)
    in_box = (offset <= 1).all(axis=1)
    in_ellipse = (offset**2).sum(axis=1) <= 1
    return np.where(ellipse, in_ellipse, in_box)


@dataclass(frozen=True)
class IntersectionOverUnion:
    """The boxes' intersection over union is at least `threshold`; an ellipse counts as its box."""

    threshold: float

    def __call__(self, region: FloatArray, lesion: FloatArray, ellipse: BoolArray) -> BoolArray:
        start = np.maximum(region[:, :2], lesion[:, :2])
        end = np.minimum(region[:, :2] + region[:, 2:], lesion[:, :2] + lesion[:, 2:])
        shared = np.clip(end - start, 0, None).prod(axis=1)
        union = region[:, 2:].prod(axis=1) + lesion[:, 2:].prod(axis=1) - shared
        return np.asarray(shared >= self.threshold * union)


@dataclass(frozen=True)
class CentreDistance:
    """The centres lie no further apart than half the diagonal of the lesion's box, or `floor_px` if that is more.

    With a floor of 100 pixels this is the in-plane rule of the DBTex challenge (Konz et al., JAMA Netw Open 2023).
    """

    floor_px: float = 0.0

    def __call__(self, region: FloatArray, lesion: FloatArray, ellipse: BoolArray) -> BoolArray:
        distance = np.linalg.norm(_centre(region) - _centre(lesion), axis=1)
        half_diagonal = np.linalg.norm(lesion[:, 2:], axis=1) / 2
        return np.asarray(distance <= np.maximum(half_diagonal, self.floor_px))


def hit_rule(name: str, *, floor_px: float = 0.0) -> HitRule:
    """The rule of that name: `centre-in-lesion`, `iou-THRESHOLD` (such as `iou-0.1`), or `centre-distance`.

    `floor_px` belongs to `centre-distance`. Raises `InvalidInputError` for any other name.
    """
    if name == "centre-in-lesion":
        return centre_in_lesion
    if name == "centre-distance":
        if not 0 <= floor_px < np.inf:
            raise InvalidInputError(f"The floor of centre-distance must be a number of pixels, not {floor_px}.")
        return CentreDistance(floor_px)
    if name.startswith("iou-"):
        try:
            threshold = float(name.removeprefix("iou-"))
        except ValueError:
            threshold = np.nan
        if 0 < threshold <= 1:
            return IntersectionOverUnion(threshold)
    raise InvalidInputError(
        f"There is no hit rule {name!r}; use centre-in-lesion, iou-0.1 (or another share), or centre-distance."
    )


@dataclass(frozen=True, eq=False)
class Matches:
    """What regions and lesions are to each other.

    `lesion_score`: float64 (l,), score of the region that counts as the lesion's hit; -∞ if none, and for lesions
    that are not targets. `lesion_region`: int64 (l,), that region's row, or -1. `false_positive`: bool (r,).
    """

    lesion_score: FloatArray
    lesion_region: IntArray
    false_positive: BoolArray


def match(regions: Regions, lesions: Lesions, rule: HitRule, *, others: OtherLesions = "false-positive") -> Matches:
    """Match regions to target lesions by score, highest first.

    In the order of their scores, each region counts for one lesion that it hits and that has no hit yet, the nearest
    one (by centres). A region whose lesions all have a hit already is a repeat: neither a hit nor a false positive.
    A region that hits nothing is a false positive. One that hits only lesions which are no targets is a false
    positive by default: for a figure on cancers a mark on a benign lesion leads to a needless work-up. With `others`
    = `ignore` it counts as nothing, as LUNA16 treats findings that are not nodules (Setio et al., Med Image Anal
    2017;42:1). Regions of equal score are taken by position, so the order of rows never matters.
    """
    if others not in ("false-positive", "ignore"):
        raise InvalidInputError(f"A region on another lesion is a false-positive or ignored, not {others!r}.")
    region, lesion = pairs(regions, lesions)
    hit = rule(regions.box[region], lesions.box[lesion], lesions.ellipse[lesion])
    region, lesion = region[hit], lesion[hit]
    on_target = lesions.target[lesion]
    false_positive = np.ones(len(regions), dtype=np.bool_)
    false_positive[region if others == "ignore" else region[on_target | lesions.ignored[lesion]]] = False
    lesion_region = _assign(regions, lesions, region[on_target], lesion[on_target])
    score = np.full(len(lesions), -np.inf)
    found = lesion_region >= 0
    score[found] = regions.score[lesion_region[found]]
    return Matches(score, lesion_region, false_positive)


def pairs(regions: Regions, lesions: Lesions) -> tuple[IntArray, IntArray]:
    """Rows of every region and lesion that share an image: two arrays of shape (p,), by region, then lesion."""
    by_image = np.argsort(lesions.image, kind="stable")
    images = lesions.image[by_image]
    first = np.searchsorted(images, regions.image, side="left")
    count = np.searchsorted(images, regions.image, side="right") - first
    region = np.repeat(np.arange(len(regions)), count)
    within = np.arange(len(region)) - np.repeat(np.cumsum(count) - count, count)
    return region, by_image[np.repeat(first, count) + within]


def _assign(regions: Regions, lesions: Lesions, region: IntArray, lesion: IntArray) -> IntArray:
    """The region that counts for each lesion, -1 for none, from the pairs (region, lesion) that hit."""
    x, y, width, height = regions.box[region].T
    distance = np.linalg.norm(_centre(regions.box[region]) - _centre(lesions.box[lesion]), axis=1)
    lesion_x, lesion_y, lesion_width, lesion_height = lesions.box[lesion].T
    # Highest score first, one region's pairs together and its nearest lesion first; the rest only breaks ties.
    order = np.lexsort(
        (lesion_height, lesion_width, lesion_y, lesion_x, distance, region, height, width, y, x, -regions.score[region])
    )
    assigned = np.full(len(lesions), -1, dtype=np.int64)
    choices = np.bincount(region, minlength=len(regions))
    disputed = np.zeros(len(lesions), dtype=np.bool_)
    disputed[np.isin(lesions.image, regions.image[region[choices[region] > 1]])] = True
    # Where no region of an image hits two lesions, a lesion's hit is simply its first region.
    plain = order[~disputed[lesion[order]]]
    first_lesion, first = np.unique(lesion[plain], return_index=True)
    assigned[first_lesion] = region[plain[first]]
    used: set[int] = set()
    for pair in order[disputed[lesion[order]]]:
        if int(region[pair]) not in used and assigned[lesion[pair]] < 0:
            assigned[lesion[pair]] = region[pair]
            used.add(int(region[pair]))
    return assigned


def _centre(box: FloatArray) -> FloatArray:
    return box[:, :2] + box[:, 2:] / 2


def _image_index(values: npt.ArrayLike, name: str, length: int | None) -> IntArray:
    return checks.whole(values, name, below=np.iinfo(np.int32).max, length=length)


def _boxes(values: npt.ArrayLike, name: str, length: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64).reshape(-1, 4) if np.size(values) == 0 else np.asarray(values, float)
    if array.shape != (length, 4):
        raise InvalidInputError(
            f"{name} box must have the shape ({length}, 4): x, y, width, height; not {array.shape}."
        )
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{name} box holds NaN or an infinite value.")
    return array
