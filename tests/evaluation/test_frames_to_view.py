"""How many frames a reader views who follows the key frames: by hand, and by the tables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.dbtex import DbtexSet
from evaluation.errors import InvalidInputError
from evaluation.frames_to_view import frames_to_view, frames_to_view_figure
from evaluation.hits import Lesions, Regions
from evaluation.protocol import Uncertainty

Prediction = tuple[int, float, float, float, int, int, int]
"""Volume, x, y, score, first, last and peak frame."""


def data(
    predictions: list[Prediction], lesions: list[tuple[int, float, float, int]], volumes: int = 1, frames: int = 60
) -> tuple[DbtexSet, np.ndarray[Any, Any]]:
    """Volumes of `frames` frames, boxes of 100 pixels about (x, y); lesions: volume, x, y, frame."""
    p, q = np.array(predictions, float).reshape(-1, 7), np.array(lesions, float).reshape(-1, 4)
    regions = Regions(p[:, 0].astype(int), p[:, 3], np.column_stack([p[:, 1:3] - 50, np.full((len(p), 2), 100.0)]))
    boxes = Lesions(q[:, 0].astype(int), np.column_stack([q[:, 1:3] - 50, np.full((len(q), 2), 100.0)]))
    women = [f"w{volume}" for volume in range(volumes)]
    extents = p[:, 4:].astype(int)
    middle = extents[:, 0] + (extents[:, 1] - extents[:, 0] + 1) / 2
    return DbtexSet(women, np.full(volumes, float(frames)), regions, middle, boxes, q[:, 3]), extents


def share(predictions: list[Prediction], lesions: list[tuple[int, float, float, int]], threshold: float = 0.1) -> float:
    found, frames = data(predictions, lesions)
    (value,) = frames_to_view(found, frames, threshold)
    return float(value)


LESION = (0, 500.0, 500.0, 30)


def test_lesion_on_the_first_key_frame_costs_one_frame() -> None:
    assert share([(0, 500, 500, 0.9, 25, 35, 30)], [LESION]) == 1 / 60


def test_more_suspicious_regions_elsewhere_are_viewed_before() -> None:
    others: list[Prediction] = [(0, 1500, 900, 0.95, 5, 9, 7), (0, 1500, 1900, 0.93, 45, 55, 50)]
    assert share([*others, (0, 500, 500, 0.9, 25, 35, 30)], [LESION]) == 3 / 60


def test_every_lesion_that_is_hit_must_be_seen() -> None:
    predictions: list[Prediction] = [(0, 500, 500, 0.9, 25, 35, 30), (0, 1500, 900, 0.5, 5, 9, 7)]
    assert share(predictions, [LESION, (0, 1500, 900, 8)]) == 2 / 60


def test_two_lesions_in_one_frame_cost_one_frame() -> None:
    predictions: list[Prediction] = [(0, 500, 500, 0.9, 25, 35, 30), (0, 1500, 900, 0.5, 26, 36, 31)]
    assert share(predictions, [LESION, (0, 1500, 900, 31)]) == 1 / 60


def test_lesion_that_is_hit_but_out_of_sight_costs_the_whole_volume() -> None:
    assert share([(0, 500, 500, 0.9, 30, 45, 38)], [LESION]) == 1.0


@pytest.mark.parametrize(
    "predictions", [[], [(0, 500.0, 500.0, 0.05, 25, 35, 30)], [(0, 1900.0, 500.0, 0.9, 25, 35, 30)]]
)
def test_lesion_that_is_not_hit_has_no_part(predictions: list[Prediction]) -> None:
    assert np.isnan(share(predictions, [LESION]))


def test_frames_of_another_number_than_predictions_are_refused() -> None:
    found, _ = data([(0, 500, 500, 0.9, 25, 35, 30)], [LESION])
    with pytest.raises(InvalidInputError, match="first, a last and a peak frame"):
        frames_to_view(found, np.zeros((2, 3), int), 0.1)


def tables() -> tuple[Any, Any]:
    """Three volumes: hit at once, hit second, missed; and a 2D image."""
    ids = ["a", "b", "c", "flat"]
    images = pd.DataFrame({"image_id": ids, "exam_id": ["e1", "e2", "e3", "e3"], "kind": ["dbt"] * 3 + ["ffdm"]})
    images["frames"] = [50.0, 40.0, 50.0, 1.0]
    regions = pd.DataFrame(
        [
            ("a", 450.0, 450.0, 0.9, 18.0, 22.0, 20.0),
            ("b", 1450.0, 450.0, 0.9, 3.0, 7.0, 5.0),
            ("b", 450.0, 450.0, 0.8, 28.0, 32.0, 30.0),
            ("c", 1450.0, 450.0, 0.9, 3.0, 7.0, 5.0),
            ("flat", 1450.0, 450.0, 0.9, 0.0, 0.0, 0.0),
        ],
        columns=["image_id", "x", "y", "score", "frame_first", "frame_last", "frame_peak"],
    ).assign(width=100.0, height=100.0)
    lesions = pd.DataFrame({"image_id": ["a", "b", "c"], "x": 450.0, "y": 450.0, "width": 100.0, "height": 100.0})
    lesions["frame"] = [20.0, 30.0, 30.0]
    exams = pd.DataFrame({"exam_id": ["e1", "e2", "e3"], "woman_id": ["w1", "w2", "w3"]})
    return SimpleNamespace(images=images, regions=regions), SimpleNamespace(exams=exams, lesions=lesions)


def test_figure_is_the_mean_share_over_volumes_with_a_hit_with_an_interval() -> None:
    figure = frames_to_view_figure(*tables(), 0.5, Uncertainty())
    assert figure.interval is not None
    assert figure.interval.point == pytest.approx((1 / 50 + 2 / 40) / 2)
    assert figure.interval.low <= figure.interval.point <= figure.interval.high
    assert figure.n == 2
    assert "2 volumes with a lesion that is hit" in figure.denominator
    assert "of 3 volumes with a lesion" in figure.denominator


def test_in_coarse_pixels_a_region_beyond_ten_millimetres_is_no_hit() -> None:
    """A hundred pixels of the challenge are 10 mm; of half a millimetre they would be half a breast."""
    scores, followup = tables()
    scores.regions["x"] -= 90.0
    far = frames_to_view_figure(scores, followup, 0.5, Uncertainty())
    scores.images["pixel_spacing_mm"] = [0.5, 0.5, 0.5, np.nan]
    near = frames_to_view_figure(scores, followup, 0.5, Uncertainty())
    assert far.n == 2
    assert near.n == 0


def test_figure_without_a_hit_says_why_there_is_none() -> None:
    figure = frames_to_view_figure(*tables(), 0.95, Uncertainty())
    assert figure.interval is None
    assert figure.reason


def test_regions_without_peak_frames_are_refused_with_a_sentence() -> None:
    scores, followup = tables()
    scores.regions["frame_peak"] = np.nan
    with pytest.raises(InvalidInputError, match="frame_peak"):
        frames_to_view_figure(scores, followup, 0.5, Uncertainty())
