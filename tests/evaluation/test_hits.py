"""Hit rules at their borders, and matching by score against a plain loop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.errors import InvalidInputError
from evaluation.hits import (
    CentreDistance,
    HitRule,
    IntersectionOverUnion,
    Lesions,
    Matches,
    OtherLesions,
    Regions,
    centre_in_lesion,
    hit_rule,
    match,
)

RULES = [centre_in_lesion, IntersectionOverUnion(0.1), CentreDistance(), CentreDistance(8)]


def hits(rule: HitRule, region: npt.ArrayLike, lesion: npt.ArrayLike, ellipse: bool = False) -> bool:
    return bool(rule(np.asarray([region], float), np.asarray([lesion], float), np.array([ellipse]))[0])


def mirrored(box: np.ndarray) -> np.ndarray:
    return np.array([100 - box[0] - box[2], *box[1:]])


def scene(seed: int, n_images: int = 5) -> tuple[Regions, Lesions]:
    """A few crowded images: overlapping lesions, regions on several of them, equal scores, duplicates."""
    rng = np.random.default_rng(seed)
    n_lesions, n_regions = rng.integers(0, 8), rng.integers(0, 25)
    lesion_box = np.column_stack([rng.integers(0, 30, (n_lesions, 2)), rng.integers(4, 20, (n_lesions, 2))])
    region_box = np.column_stack([rng.integers(0, 40, (n_regions, 2)), rng.integers(0, 16, (n_regions, 2))])
    if n_regions > 2:
        region_box[0] = region_box[1]
    return (
        Regions(rng.integers(0, n_images, n_regions), rng.integers(1, 9, n_regions) / 10, region_box),
        Lesions(
            rng.integers(0, n_images, n_lesions), lesion_box, rng.random(n_lesions) < 0.5, rng.random(n_lesions) < 0.7
        ),
    )


def match_by_loop(regions: Regions, lesions: Lesions, rule: HitRule, others: OtherLesions) -> Matches:
    """The rule of `match`, word by word."""
    lesion_score = np.full(len(lesions), -np.inf)
    lesion_region = np.full(len(lesions), -1)
    false_positive = np.zeros(len(regions), dtype=bool)
    for r in sorted(range(len(regions)), key=lambda r: (-regions.score[r], *regions.box[r], r)):
        touched = [
            l
            for l in range(len(lesions))  # noqa: E741
            if lesions.image[l] == regions.image[r]
            and hits(rule, regions.box[r], lesions.box[l], bool(lesions.ellipse[l]))
        ]
        targets = [l for l in touched if lesions.target[l]]  # noqa: E741
        if not targets:
            false_positive[r] = not touched or others == "false-positive"
            continue
        centre = regions.box[r, :2] + regions.box[r, 2:] / 2
        free = [l for l in targets if lesion_region[l] < 0]  # noqa: E741
        if free:
            distance = {l: np.linalg.norm(lesions.box[l, :2] + lesions.box[l, 2:] / 2 - centre) for l in free}  # noqa: E741
            nearest = min(free, key=lambda l: (distance[l], *lesions.box[l], l))  # noqa: E741
            lesion_region[nearest], lesion_score[nearest] = r, regions.score[r]
    return Matches(lesion_score, lesion_region, false_positive)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(RULES), st.sampled_from(["false-positive", "ignore"]))
def test_matching_equals_a_loop_over_regions_by_score(seed: int, rule: HitRule, others: OtherLesions) -> None:
    regions, lesions = scene(seed)
    expected, found = match_by_loop(regions, lesions, rule, others), match(regions, lesions, rule, others=others)
    np.testing.assert_array_equal(found.lesion_score, expected.lesion_score)
    np.testing.assert_array_equal(found.false_positive, expected.false_positive)
    hit = found.lesion_region >= 0
    np.testing.assert_array_equal(regions.score[found.lesion_region[hit]], found.lesion_score[hit])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(RULES))
def test_order_of_regions_and_lesions_does_not_matter(seed: int, rule: HitRule) -> None:
    regions, lesions = scene(seed)
    rng = np.random.default_rng(seed)
    r, l = rng.permutation(len(regions)), rng.permutation(len(lesions))  # noqa: E741
    found = match(regions, lesions, rule)
    shuffled = match(
        Regions(regions.image[r], regions.score[r], regions.box[r]),
        Lesions(lesions.image[l], lesions.box[l], lesions.ellipse[l], lesions.target[l]),
        rule,
    )
    np.testing.assert_array_equal(shuffled.lesion_score, found.lesion_score[l])
    np.testing.assert_array_equal(shuffled.false_positive, found.false_positive[r])


@pytest.mark.parametrize("rule", RULES)
def test_a_region_equal_to_the_lesion_hits_under_every_rule(rule: HitRule) -> None:
    assert hits(rule, [3, 4, 10, 20], [3, 4, 10, 20])
    assert hits(rule, [3, 4, 10, 20], [3, 4, 10, 20], ellipse=True)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(-500, 500), st.booleans())
def test_rules_do_not_depend_on_where_in_the_image_they_are_or_on_mirroring(
    rule: HitRule, seed: int, shift: float, ellipse: bool
) -> None:
    rng = np.random.default_rng(seed)
    region, lesion = rng.random(4) * 20 + 1, rng.random(4) * 20 + 1
    here = hits(rule, region, lesion, ellipse)
    move = np.array([round(shift), 7, 0, 0])
    assert hits(rule, region + move, lesion + move, ellipse) == here
    assert hits(rule, mirrored(region), mirrored(lesion), ellipse) == here


def test_centre_in_lesion_includes_the_border_and_cuts_the_corners_of_an_ellipse() -> None:
    assert hits(centre_in_lesion, [20, 10, 0, 0], [10, 10, 10, 10])
    assert not hits(centre_in_lesion, [20.01, 10, 0, 0], [10, 10, 10, 10])
    assert not hits(centre_in_lesion, [20, 10, 0, 0], [10, 10, 10, 10], ellipse=True)
    assert hits(centre_in_lesion, [20, 15, 0, 0], [10, 10, 10, 10], ellipse=True)
    assert hits(centre_in_lesion, [0, 0, 30, 30], [10, 10, 10, 10], ellipse=True)


def test_iou_counts_exactly_its_threshold_and_never_boxes_that_only_touch() -> None:
    rule = IntersectionOverUnion(0.1)
    assert hits(rule, [0, 0, 10, 1], [0, 0, 1, 1])
    assert not hits(rule, [0, 0, 10.1, 1], [0, 0, 1, 1])
    assert not hits(rule, [0, 0, 10, 10], [10, 0, 10, 10])
    assert not hits(rule, [5, 5, 0, 0], [0, 0, 10, 10])


def test_centre_distance_is_half_the_diagonal_or_the_floor() -> None:
    lesion = [0, 0, 6, 8]
    assert hits(CentreDistance(), [8, 4, 0, 0], lesion)
    assert not hits(CentreDistance(), [8.01, 4, 0, 0], lesion)
    assert hits(CentreDistance(100), [103, 4, 0, 0], lesion)
    assert not hits(CentreDistance(100), [103.1, 4, 0, 0], lesion)


def test_several_regions_on_one_lesion_are_one_hit_and_no_false_positive() -> None:
    regions = Regions([0, 0, 0], [0.3, 0.9, 0.5], [[4, 4, 2, 2], [3, 3, 2, 2], [5, 5, 2, 2]])
    found = match(regions, Lesions([0], [[0, 0, 10, 10]]), centre_in_lesion)
    assert found.lesion_score.tolist() == [0.9]
    assert found.lesion_region.tolist() == [1]
    assert not found.false_positive.any()


def test_a_region_on_two_lesions_counts_for_the_nearest_and_leaves_the_other_to_the_next() -> None:
    lesions = Lesions([0, 0], [[0, 0, 10, 10], [5, 0, 10, 10]])
    one = Regions([0], [0.9], [[6, 4, 2, 2]])
    assert match(one, lesions, centre_in_lesion).lesion_score.tolist() == [0.9, -np.inf]
    two = Regions([0, 0], [0.9, 0.4], [[6, 4, 2, 2], [6, 4, 2, 2]])
    assert match(two, lesions, centre_in_lesion).lesion_score.tolist() == [0.9, 0.4]


def test_a_mark_on_a_benign_lesion_is_a_false_positive_unless_ignored() -> None:
    regions = Regions([0, 0], [0.9, 0.8], [[4, 4, 2, 2], [40, 40, 2, 2]])
    lesions = Lesions([0], [[0, 0, 10, 10]], target=False)
    assert match(regions, lesions, centre_in_lesion).false_positive.tolist() == [True, True]
    assert match(regions, lesions, centre_in_lesion, others="ignore").false_positive.tolist() == [False, True]


def test_images_are_kept_apart() -> None:
    found = match(Regions([1], [0.9], [[4, 4, 2, 2]]), Lesions([0], [[0, 0, 10, 10]]), centre_in_lesion)
    assert found.false_positive.tolist() == [True]
    assert found.lesion_region.tolist() == [-1]


def test_rules_are_found_by_name() -> None:
    assert hit_rule("centre-in-lesion") is centre_in_lesion
    assert hit_rule("iou-0.1") == IntersectionOverUnion(0.1)
    assert hit_rule("centre-distance", floor_px=100) == CentreDistance(100)
    for name in ("iou-", "iou-0", "iou-2", "overlap"):
        with pytest.raises(InvalidInputError, match="no hit rule"):
            hit_rule(name)
    with pytest.raises(InvalidInputError, match="number of pixels"):
        hit_rule("centre-distance", floor_px=-1)


def test_boxes_and_indices_without_meaning_are_refused_with_a_sentence() -> None:
    with pytest.raises(InvalidInputError, match=r"shape \(1, 4\)"):
        Regions([0], [0.5], [[1, 2, 3]])
    with pytest.raises(InvalidInputError, match="NaN"):
        Regions([0], [0.5], [[1, 2, np.nan, 3]])
    with pytest.raises(InvalidInputError, match="negative width"):
        Regions([0], [0.5], [[1, 2, -3, 3]])
    with pytest.raises(InvalidInputError, match="region score holds 1 NaN"):
        Regions([0], [np.nan], [[1, 2, 3, 3]])
    with pytest.raises(InvalidInputError, match="region image has 2 values"):
        Regions([0, 0], [0.5], [[1, 2, 3, 3]])
    with pytest.raises(InvalidInputError, match="lesion image must be whole"):
        Lesions([0.5], [[1, 2, 3, 3]])
    with pytest.raises(InvalidInputError, match="no width or height"):
        Lesions([0], [[1, 2, 0, 3]])
    with pytest.raises(InvalidInputError, match="lesion target must be 0 or 1"):
        Lesions([0], [[1, 2, 3, 3]], target=[2])
