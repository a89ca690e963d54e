"""From regions to breast and exam: how the views of a breast support each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.aggregate import fuse
from screening.exam import Image, ImageKind, Laterality, View

LOGITS = st.lists(st.floats(-20, 20), min_size=1, max_size=5).map(lambda values: sorted(values, reverse=True))
VIEWS = st.tuples(st.sampled_from(list(Laterality)), st.sampled_from([View.CC, View.MLO, View.ML]))
EXAMS = st.lists(st.tuples(VIEWS, LOGITS), min_size=1, max_size=6)


def image(number: int, laterality: Laterality, view: View, kind: ImageKind = ImageKind.FFDM) -> Image:
    return Image(f"1.2.{number}", Path("none"), laterality, view, kind, 100, 80, 1, (0.1, 0.1))


def exam(drawn: list[tuple[tuple[Laterality, View], list[float]]]) -> tuple[dict[str, list[float]], list[Image]]:
    images = [image(number, *place) for number, (place, _) in enumerate(drawn)]
    return {one.image_id: logits for one, (_, logits) in zip(images, drawn, strict=True)}, images


def test_breast_seen_in_one_view_keeps_its_logits() -> None:
    assert fuse({"1.2.0": [3.0, -1.0]}, [image(0, Laterality.LEFT, View.CC)]) == {"1.2.0": [3.0, -1.0]}


def test_regions_of_one_rank_are_averaged_over_the_views() -> None:
    peaks, images = exam([((Laterality.LEFT, View.CC), [3.0, -1.0]), ((Laterality.LEFT, View.MLO), [1.0, 0.0])])
    assert fuse(peaks, images) == {"1.2.0": [2.0, -0.5], "1.2.1": [2.0, -0.5]}


def test_a_finding_that_both_views_show_does_not_raise_the_marks_beside_it() -> None:
    left_cc, left_mlo = (Laterality.LEFT, View.CC), (Laterality.LEFT, View.MLO)
    without, images = exam([(left_cc, [-4.0, -5.0]), (left_mlo, [-3.0, -6.0])])
    with_finding = {"1.2.0": [6.0, -4.0, -5.0], "1.2.1": [5.0, -3.0, -6.0]}
    fused, beside = fuse(with_finding, images), fuse(without, images)
    assert fused == {name: [5.5, *logits] for name, logits in beside.items()}


def test_a_view_with_fewer_regions_answers_with_its_lowest() -> None:
    peaks, images = exam([((Laterality.LEFT, View.CC), [3.0, 1.0, -1.0]), ((Laterality.LEFT, View.MLO), [1.0, 0.0])])
    assert fuse(peaks, images) == {"1.2.0": [2.0, 0.5, -0.5], "1.2.1": [2.0, 0.5]}


def test_several_images_of_one_view_count_once() -> None:
    left_cc, left_mlo = (Laterality.LEFT, View.CC), (Laterality.LEFT, View.MLO)
    once, images = exam([(left_cc, [3.0]), (left_mlo, [1.0])])
    twice, more = exam([(left_cc, [3.0]), (left_mlo, [1.0]), (left_mlo, [-7.0])])
    assert fuse(once, images)["1.2.0"] == fuse(twice, more)["1.2.0"]


def test_a_volume_does_not_raise_what_the_2d_image_of_the_other_view_shows_where_that_view_has_a_2d_image() -> None:
    volumes = [image(0, Laterality.LEFT, View.CC, ImageKind.DBT), image(1, Laterality.LEFT, View.MLO, ImageKind.DBT)]
    flat = [image(2, Laterality.LEFT, View.CC), image(3, Laterality.LEFT, View.MLO, ImageKind.SYNTHETIC)]
    peaks = {"1.2.0": [5.0], "1.2.1": [1.0], "1.2.2": [-4.0], "1.2.3": [-2.0]}
    apart = fuse(peaks, volumes) | fuse(peaks, flat)
    assert fuse(peaks, [*volumes, *flat]) == apart == {"1.2.0": [3], "1.2.1": [3], "1.2.2": [-3], "1.2.3": [-3]}
    assert fuse(peaks, [volumes[0], flat[1]]) == {"1.2.0": [1.5], "1.2.3": [1.5]}, "there is nothing else to listen to"


@given(EXAMS)
def test_other_breast_has_no_say(drawn: list[tuple[tuple[Laterality, View], list[float]]]) -> None:
    peaks, images = exam(drawn)
    both = fuse(peaks, images)
    for side in Laterality:
        own = [one for one in images if one.laterality is side]
        assert fuse(peaks, own) == {one.image_id: both[one.image_id] for one in own}


@given(EXAMS, st.randoms(use_true_random=False))
def test_order_of_images_changes_nothing(
    drawn: list[tuple[tuple[Laterality, View], list[float]]], random: object
) -> None:
    peaks, images = exam(drawn)
    shuffled = list(images)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fuse(peaks, shuffled) == fuse(peaks, images)


@given(EXAMS)
def test_regions_of_an_image_keep_their_order(drawn: list[tuple[tuple[Laterality, View], list[float]]]) -> None:
    peaks, images = exam(drawn)
    for logits in fuse(peaks, images).values():
        assert logits == sorted(logits, reverse=True)


@given(EXAMS, st.data())
def test_more_suspicion_anywhere_never_lowers_anything(
    drawn: list[tuple[tuple[Laterality, View], list[float]]], data: st.DataObject
) -> None:
    peaks, images = exam(drawn)
    chosen = data.draw(st.sampled_from(images)).image_id
    raised = {**peaks, chosen: [peaks[chosen][0] + 1.5, *peaks[chosen][1:]]}
    before, after = fuse(peaks, images), fuse(raised, images)
    for image_id, logits in before.items():
        assert all(new >= old for new, old in zip(after[image_id], logits, strict=True))


@given(EXAMS)
def test_each_view_of_a_breast_tops_at_the_same_score(
    drawn: list[tuple[tuple[Laterality, View], list[float]]],
) -> None:
    """The best region of each view stands for the same finding: one breast has one score."""
    peaks, images = exam(drawn)
    fused = fuse(peaks, images)
    for side in Laterality:
        tops: dict[View, float] = {}
        for one in images:
            if one.laterality is side:
                tops[one.view] = max(tops.get(one.view, -1e9), fused[one.image_id][0])
        if tops:
            assert max(tops.values()) == pytest.approx(min(tops.values()), abs=1e-9)
