"""FROC figures equal plain loops over thresholds, and AFROC areas equal Chakraborty's pairwise definition."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.bootstrap import cluster_bootstrap
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.froc import Denominator, FrocStatistics, Level, sensitivity_at_fp
from evaluation.hits import Lesions, Regions, centre_in_lesion, match

N_IMAGES = 12


def study(seed: int, n_images: int = N_IMAGES) -> tuple[Regions, Lesions, np.ndarray]:
    """Regions on and beside lesions, equal scores among them; images in cases of one to three; at least one target."""
    rng = np.random.default_rng(seed)
    n_lesions, n_regions = rng.integers(1, 8), rng.integers(0, 30)
    lesion_image = rng.integers(0, n_images - 1, n_lesions)  # the last image stays normal
    lesion_box = np.column_stack([rng.integers(0, 60, (n_lesions, 2)), rng.integers(5, 20, (n_lesions, 2))])
    target = rng.random(n_lesions) < 0.7
    target[0] = True
    image = rng.integers(0, n_images, n_regions)
    box = np.column_stack([rng.integers(0, 70, (n_regions, 2)), np.full((n_regions, 2), 4)])
    aimed = np.flatnonzero(rng.random(n_regions) < 0.5)
    at = rng.integers(0, n_lesions, len(aimed))
    image[aimed] = lesion_image[at]
    box[aimed, :2] = lesion_box[at, :2] + rng.integers(0, 6, (len(aimed), 2))
    regions = Regions(image, rng.integers(1, 12, n_regions) / 12, box)
    case = np.append(rng.integers(0, n_images // 2, n_images - 1), n_images)  # and so does the last case
    return regions, Lesions(lesion_image, lesion_box, rng.random(n_lesions) < 0.5, target), case


def curve_by_loop(
    regions: Regions,
    lesions: Lesions,
    weight: np.ndarray,
    case: np.ndarray,
    level: Level,
    denominator: Denominator,
    per: Literal["image", "case"],
) -> list[tuple[float, float]]:
    """(false positives per unit, sensitivity) at every threshold, by counting."""
    found = match(regions, lesions, centre_in_lesion)
    case_weight = {c: weight[case == c].mean() for c in case}
    sick_images = set(lesions.image[lesions.target])
    sick_cases = {case[i] for i in sick_images}
    inside = []
    for i in range(len(case)):
        sick = i in sick_images if per == "image" else case[i] in sick_cases
        inside.append(denominator == "all" or sick == (denominator == "with-lesion"))
    if per == "image":
        units = sum(weight[i] for i in range(len(case)) if inside[i])
    else:
        units = sum(case_weight[c] for c in {case[i] for i in range(len(case)) if inside[i]})
    points = [(0.0, 0.0)]
    for threshold in sorted(set(regions.score), reverse=True):
        false = sum(
            weight[i] if per == "image" else case_weight[case[i]]
            for i, s, fp in zip(regions.image, regions.score, found.false_positive, strict=True)
            if fp and s >= threshold and inside[i]
        )
        hit = {l for l in range(len(lesions)) if lesions.target[l] and found.lesion_score[l] >= threshold}  # noqa: E741
        if level == "lesion":
            got = sum(weight[lesions.image[l]] for l in hit)  # noqa: E741
            total = sum(weight[lesions.image[l]] for l in range(len(lesions)) if lesions.target[l])  # noqa: E741
        else:
            hit_images = {lesions.image[l] for l in hit}  # noqa: E741
            need = any if level == "case-any-view" else all
            got = sum(case_weight[c] for c in sick_cases if need(i in hit_images for i in sick_images if case[i] == c))
            total = sum(case_weight[c] for c in sick_cases)
        points.append((false / units, got / total))
    return points


LEVELS: list[Level] = ["lesion", "case-any-view", "case-all-views"]
DENOMINATORS: list[Denominator] = ["all", "with-lesion", "normal"]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 100_000),
    st.sampled_from(LEVELS),
    st.sampled_from(DENOMINATORS),
    st.sampled_from(["image", "case"]),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 50.0]),
)
def test_sensitivity_at_fp_equals_counting_at_every_threshold(
    seed: int, level: Level, denominator: Denominator, per: Literal["image", "case"], rate: float
) -> None:
    regions, lesions, case = study(seed)
    weight = np.random.default_rng(seed).random(N_IMAGES) + 0.2
    froc = FrocStatistics(regions, lesions, N_IMAGES, level=level, denominator=denominator, per=per, case=case)
    points = np.array(curve_by_loop(regions, lesions, weight, case, level, denominator, per))
    expected = points[points[:, 0] <= rate + 1e-9, 1].max()
    assert froc.sensitivity_at_fp(rate)(weight) == pytest.approx(expected, abs=1e-12)
    # np.interp takes the last of equal x, the top of a vertical step, and stays level beyond the end.
    straight = np.interp(rate + 1e-12, points[:, 0], points[:, 1])
    assert froc.sensitivity_at_fp(rate, interpolate=True)(weight) == pytest.approx(straight, abs=1e-8)
    curve = froc.curve(weight)
    np.testing.assert_allclose(np.interp(points[:, 0] + 1e-12, curve.fp_rate, curve.sensitivity), np.interp(
        points[:, 0] + 1e-12, points[:, 0], points[:, 1]), atol=1e-8)  # fmt: skip
    for threshold, false, sensitivity in zip(
        curve.threshold[1:], curve.fp_rate[1:], curve.sensitivity[1:], strict=True
    ):
        at = sorted(set(regions.score), reverse=True).index(threshold) + 1
        assert (false, sensitivity) == pytest.approx(tuple(points[at]), abs=1e-12)


def test_mean_sensitivity_is_the_mean_of_the_sensitivities() -> None:
    regions, lesions, _ = study(4)
    froc = FrocStatistics(regions, lesions, N_IMAGES)
    single = [froc.sensitivity_at_fp(rate)() for rate in (0.25, 0.5, 1, 2)]
    assert froc.mean_sensitivity_at_fp([0.25, 0.5, 1, 2])() == pytest.approx(np.mean(single))


def afroc_by_pairs(regions: Regions, lesions: Lesions, case: np.ndarray, weighted: bool, all_cases: bool) -> float:
    """Chakraborty's pairwise sum over cases and lesions, unmarked rated minus infinity."""
    found = match(regions, lesions, centre_in_lesion)
    target = [l for l in range(len(lesions)) if lesions.target[l]]  # noqa: E741
    sick = {case[lesions.image[l]] for l in target}  # noqa: E741
    counted = [c for c in set(case) if all_cases or c not in sick]
    highest = {
        c: max((s for i, s, fp in zip(regions.image, regions.score, found.false_positive, strict=True)
                if fp and case[i] == c), default=-np.inf)
        for c in counted
    }  # fmt: skip
    total = weights = 0.0
    for l in target:  # noqa: E741
        own = case[lesions.image[l]]
        share = 1 / sum(case[lesions.image[other]] == own for other in target) if weighted else 1.0
        for c in counted:
            lesion = found.lesion_score[l]
            total += share * (1.0 if lesion > highest[c] else 0.5 if lesion == highest[c] else 0.0)
            weights += share
    return total / weights


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.booleans(), st.booleans())
def test_afroc_areas_equal_the_pairwise_definition(seed: int, weighted: bool, all_cases: bool) -> None:
    regions, lesions, case = study(seed)
    area = FrocStatistics(regions, lesions, N_IMAGES, case=case).afroc_auc(weighted=weighted, all_cases=all_cases)
    assert area() == pytest.approx(afroc_by_pairs(regions, lesions, case, weighted, all_cases), abs=1e-12)


def test_afroc_of_no_marks_at_all_is_chance() -> None:
    none = Regions([], [], [])
    froc = FrocStatistics(none, Lesions([0, 0, 1], [[0, 0, 5, 5]] * 3), 4)
    assert froc.afroc_auc()() == froc.afroc_auc(weighted=False)() == 0.5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(LEVELS))
def test_image_order_monotone_scores_and_duplicate_marks_on_lesions_change_nothing(seed: int, level: Level) -> None:
    regions, lesions, case = study(seed)

    def figures(regions: Regions, lesions: Lesions, case: np.ndarray) -> list[float]:
        froc = FrocStatistics(regions, lesions, N_IMAGES, level=level, case=case)
        one = [froc.sensitivity_at_fp(rate)() for rate in (0.1, 0.5, 1.0)]
        return [*one, froc.sensitivity_at_fp(0.3, interpolate=True)(), froc.afroc_auc()()]

    plain = figures(regions, lesions, case)
    position = np.random.default_rng(seed).permutation(N_IMAGES)  # image i moves to position[i]
    moved_case = np.empty_like(case)
    moved_case[position] = case
    moved = figures(
        Regions(position[regions.image], regions.score, regions.box),
        Lesions(position[lesions.image], lesions.box, lesions.ellipse, lesions.target),
        moved_case,
    )
    assert moved == pytest.approx(plain, abs=1e-12)
    monotone = Regions(regions.image, np.exp(3 * regions.score), regions.box)
    assert figures(monotone, lesions, case) == pytest.approx(plain, abs=1e-12)
    target_image = np.bincount(lesions.image[lesions.target], minlength=N_IMAGES)
    alone = (target_image[regions.image] == 1) & ~match(regions, lesions, centre_in_lesion).false_positive
    repeated = Regions(
        np.append(regions.image, regions.image[alone]),
        np.append(regions.score, regions.score[alone] / 2),
        np.concatenate([regions.box, regions.box[alone]]),
    )
    assert figures(repeated, lesions, case) == pytest.approx(plain, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(LEVELS))
def test_weights_of_one_equal_none_and_whole_weights_equal_copies_of_the_case(seed: int, level: Level) -> None:
    regions, lesions, case = study(seed)
    counts = np.random.default_rng(seed).integers(1, 4, case.max() + 1)
    weight = counts[case]

    def figures(regions: Regions, lesions: Lesions, case: np.ndarray, weight: np.ndarray | None) -> list[float]:
        froc = FrocStatistics(regions, lesions, len(case), level=level, case=case, per="case")
        return [froc.sensitivity_at_fp(0.5)(weight), froc.sensitivity_at_fp(1.5)(weight), froc.afroc_auc()(weight)]

    assert figures(regions, lesions, case, None) == figures(regions, lesions, case, np.ones(N_IMAGES))
    images = [(i, copy) for i in range(N_IMAGES) for copy in range(weight[i])]
    first = {pair: row for row, pair in enumerate(images)}

    def copied(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.repeat(np.arange(len(image)), weight[image])
        copy = np.concatenate([np.arange(weight[i]) for i in image]) if len(image) else np.zeros(0, int)
        return rows, np.array([first[pair] for pair in zip(image[rows], copy, strict=True)], dtype=int)

    r, region_image = copied(regions.image)
    l, lesion_image = copied(lesions.image)  # noqa: E741
    copies = figures(
        Regions(region_image, regions.score[r], regions.box[r]),
        Lesions(lesion_image, lesions.box[l], lesions.ellipse[l], lesions.target[l]),
        np.array([case[i] * 10 + copy for i, copy in images]),
        None,
    )
    assert figures(regions, lesions, case, weight) == pytest.approx(copies, abs=1e-12)


def test_bootstrap_over_women_equals_weighting_images_by_hand() -> None:
    regions, lesions, case = study(21)
    figure = FrocStatistics(regions, lesions, N_IMAGES).sensitivity_at_fp(1.0)
    fast = cluster_bootstrap(figure, case, seed=4, replicates=200, max_not_computable=0.5)
    slow = cluster_bootstrap(lambda weight: figure(weight), case, seed=4, replicates=200, max_not_computable=0.5)
    assert fast == slow
    by_hand = [
        sensitivity_at_fp(regions, lesions, N_IMAGES, 1.0, weight)
        for weight in _counts(case, 4, 200)
        if weight[lesions.image[lesions.target]].any()
    ]
    assert (fast.low, fast.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])), abs=1e-12)
    assert fast.not_computable == 200 - len(by_hand)


def _counts(case: np.ndarray, seed: int, replicates: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    women = np.unique(case)
    drawn = [generator.integers(0, len(women), len(women)) for _ in range(replicates)]
    return [np.array([(women[d] == c).sum() for c in case]) for d in drawn]


def test_without_regions_nothing_is_found() -> None:
    none = Regions([], [], [])
    lesions = Lesions([0], [[0, 0, 5, 5]])
    assert sensitivity_at_fp(none, lesions, 3) == 0.0
    curve = FrocStatistics(none, lesions, 3).curve()
    assert (curve.fp_rate.tolist(), curve.sensitivity.tolist()) == ([0.0], [0.0])


def test_without_lesions_or_images_in_the_denominator_the_figure_is_refused() -> None:
    regions = Regions([0], [0.5], [[0, 0, 5, 5]])
    with pytest.raises(NotComputableError, match="needs a lesion"):
        sensitivity_at_fp(regions, Lesions([], []), 3)
    with pytest.raises(NotComputableError, match="needs a lesion"):
        FrocStatistics(regions, Lesions([], []), 3).curve()
    with pytest.raises(NotComputableError, match="AFROC"):
        FrocStatistics(regions, Lesions([], []), 3).afroc_auc()()
    with pytest.raises(NotComputableError, match="counted over"):
        FrocStatistics(regions, Lesions([0], [[0, 0, 5, 5]]), 1, denominator="normal").sensitivity_at_fp()()


def test_options_without_meaning_are_refused_with_a_sentence() -> None:
    regions, lesions, _ = study(1)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"level": "breast"}, "no level"),
        ({"denominator": "some"}, "no denominator"),
        ({"per": "woman"}, "per image or per case"),
        ({"case": [1, 2]}, "case has 2 values"),
        ({"others": "skip"}, "'skip'"),
    ]
    for options, sentence in bad:
        with pytest.raises(InvalidInputError, match=sentence):
            FrocStatistics(regions, lesions, N_IMAGES, **options)
    with pytest.raises(InvalidInputError, match="only 1 images"):
        FrocStatistics(regions, lesions, 1)
    for rates in ([], [-1.0], [np.nan]):
        with pytest.raises(InvalidInputError, match="finite numbers"):
            FrocStatistics(regions, lesions, N_IMAGES).mean_sensitivity_at_fp(rates)
