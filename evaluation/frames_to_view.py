"""What a reader who follows the key frames of tomosynthesis volumes has to look at, in frames.

The question of the reading aid: how many frames must be viewed, in the order proposed, until every lesion that the
model hits has been seen? A lesion that it hits but that no key frame shows costs the whole volume, as the reader would
have to scroll for it; a lesion that it does not hit has no part, as no reading aid can lead to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation import checks
from evaluation.bootstrap import cluster_bootstrap
from evaluation.checks import FloatArray, IntArray
from evaluation.columns import ScoresError
from evaluation.dbtex import FLOOR_PX, DbtexSet, nearest_box
from evaluation.dbtex_tables import dbtex_set, floor_px
from evaluation.errors import InvalidInputError, MetricError
from evaluation.figure import Figure
from evaluation.protocol import Uncertainty
from evaluation.scores import Scores
from evaluation.statistic import SumStatistic, sparse_terms
from evaluation.tables import FollowUp
from screening.reading_aid import key_frames

IN_SIGHT = 3
"""Frames between a lesion's true frame and the one viewed in which it still counts as seen: its own middle and 3 mm up
and down at the usual distance of 1 mm. The challenge's rule, a quarter of the volume, is far too wide for looking."""

_KEY, _GROUP = "frames_to_view", "localisation"
_LABEL = "Share of a volume's frames to view, in the order proposed, to have seen every lesion that is hit"
_NO_THRESHOLD = (
    "The scores do not say from which score on key frames show a region. Give the folder that `screening score` wrote, "
    "with its batch.json."
)
_FRAMES = ["frame_first", "frame_last", "frame_peak"]


@dataclass(frozen=True)
class _Framed:
    frame_first: int
    frame_last: int
    frame_peak: int
    score: float


def frames_to_view(
    data: DbtexSet,
    frames: npt.ArrayLike,
    threshold: float,
    *,
    in_sight: int = IN_SIGHT,
    reach_px: float = FLOOR_PX,
) -> FloatArray:
    """Share of each volume's frames to view until every lesion that is hit has been seen: float64 (v,).

    What is hit is decided by `nearest_box`, with `reach_px` as its floor.

    `frames`: int (r, 3), first, last and peak frame of each prediction. Predictions below `threshold` are not shown
    and hit nothing. NaN for a volume in which no lesion is hit. Raises `InvalidInputError` for lengths that differ.
    """
    extents = np.asarray(frames)
    if extents.shape != (len(data.predictions), 3):
        raise InvalidInputError("Every prediction needs a first, a last and a peak frame.")
    threshold = float(checks.finite([threshold], "threshold")[0])
    shown = data.predictions.score >= threshold
    box = np.where(shown, nearest_box(data, floor_px=reach_px), -1)
    share = np.full(len(data.woman), np.nan)
    for volume in np.unique(data.boxes.image[box[box >= 0]]):
        own = np.flatnonzero((data.predictions.image == volume) & shown)
        rows = zip(extents[own].tolist(), data.predictions.score[own].tolist(), strict=True)
        regions = [_Framed(first, last, peak, score) for (first, last, peak), score in rows]
        order = [frame for frame, _ in key_frames(regions, threshold)]
        lesions = data.slice[np.unique(box[own][box[own] >= 0])]
        share[volume] = _viewed(order, lesions, int(data.slices[volume]), in_sight) / data.slices[volume]
    return share


def frames_to_view_figure(
    scores: Scores, followup: FollowUp, threshold: float, uncertainty: Uncertainty, *, in_sight: int = IN_SIGHT
) -> Figure:
    """Mean share of the frames, over volumes with a lesion that is hit, with a bootstrap interval over women.

    A hit lies within 10 mm of the lesion, or within half its box's diagonal (`floor_px`). Errors as of `dbtex_set`;
    regions without a peak frame are refused with `InvalidInputError`.
    """
    data = dbtex_set(scores, followup)
    extents = _region_frames(scores, followup)
    share = frames_to_view(data, extents, threshold, in_sight=in_sight, reach_px=floor_px(scores))
    counted = np.flatnonzero(~np.isnan(share))
    rows = np.repeat([0, 1], len(counted))
    values = np.concatenate([share[counted], np.ones(len(counted))])
    terms = sparse_terms(rows, np.tile(counted, 2), (2, len(share)), values)
    statistic = SumStatistic(terms, _ratio, "No lesion in a tomosynthesis volume is hit at this threshold.")
    interval, reason = None, ""
    try:
        interval = cluster_bootstrap(
            statistic,
            data.woman,
            seed=uncertainty.seed,
            replicates=uncertainty.replicates,
            level=uncertainty.level,
            method=uncertainty.method,
        )
    except MetricError as error:
        reason = str(error)
    return Figure(
        key=_KEY,
        label=_LABEL,
        group=_GROUP,
        interval=interval,
        n=len(counted),
        n_positive=len(counted),
        denominator=f"{len(counted):,} volumes with a lesion that is hit, of {len(np.unique(data.woman[counted])):,} "
        f"women; of {int(data.with_box.sum()):,} volumes with a lesion",
        reason=reason,
        threshold=threshold,
        note=f"A lesion is seen within {in_sight} frames of its own; one that no key frame shows costs all frames.",
    )


def reading_aid_figures(scores: Scores, followup: FollowUp, uncertainty: Uncertainty) -> tuple[Figure, ...]:
    """The figure where lesions are marked in tomosynthesis volumes that were read, and none otherwise.

    Regions are shown from the threshold that the scores' own folder states (`Scores.key_frame_threshold`); what the
    tables lack is the figure's reason.
    """
    marked = _marked_volumes(scores, followup)
    if not marked:
        return ()
    if scores.key_frame_threshold is None:
        return (_without(marked, _NO_THRESHOLD),)
    try:
        return (frames_to_view_figure(scores, followup, scores.key_frame_threshold, uncertainty),)
    except (MetricError, ScoresError) as error:
        return (_without(marked, str(error)),)


def _marked_volumes(scores: Scores, followup: FollowUp) -> int:
    """How many volumes of exams with follow-up have a lesion in the follow-up's table."""
    images, lesions = scores.images, followup.lesions
    if images is None or lesions is None:
        return 0
    volumes = images[(images["kind"] == "dbt") & images["exam_id"].isin(followup.exams["exam_id"])]
    return int(volumes["image_id"].isin(lesions["image_id"]).sum())


def _without(marked: int, reason: str) -> Figure:
    return Figure(_KEY, _LABEL, _GROUP, None, 0, 0, f"{marked:,} volumes with a lesion", reason)


def _viewed(order: list[int], lesions: FloatArray, frames: int, in_sight: int) -> int:
    """How many frames are viewed until every lesion was in sight; all where one never is."""
    needed = 0
    for lesion in lesions:
        place = next((n for n, frame in enumerate(order, start=1) if abs(frame - lesion) <= in_sight), frames)
        needed = max(needed, place)
    return min(needed, frames)


def _region_frames(scores: Scores, followup: FollowUp) -> IntArray:
    """First, last and peak frames of the regions of `dbtex_set`, in its order."""
    images, regions = scores.images, scores.regions
    assert images is not None and regions is not None  # or `dbtex_set` would have refused them
    if "frame_peak" not in regions or regions["frame_peak"].isna().all():
        raise InvalidInputError("The frames to view need the regions' peak frames; add the column frame_peak.")
    exams = pd.Index(followup.exams["exam_id"])
    volumes = images[(images["kind"] == "dbt") & images["exam_id"].isin(exams)]
    kept = regions[regions["image_id"].isin(volumes["image_id"])]
    if kept[_FRAMES].isna().any(axis=None):
        raise InvalidInputError("The frames to view need a peak frame for every region of a volume.")
    return np.asarray(kept[_FRAMES], dtype=np.int64)


def _ratio(sums: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(sums[1] > 0, sums[0] / sums[1], np.nan))
