"""The BCS-DBT tables of the DBTex challenge, or our own tables, as the set that `dbtex` scores.

Predictions: PatientID, StudyUID, View, X, Width, Y, Height, Z, Depth, Score. Boxes: PatientID, StudyUID, View, Slice,
X, Y, Width, Height, VolumeSlices. Labels, the list of all volumes: PatientID, StudyUID, View. Other columns are left
alone. A volume is one view of a study; pixels and slices count from 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.checks import IntArray
from evaluation.columns import ScoresError, read_table, typed
from evaluation.dbtex import FLOOR_PX, DbtexSet
from evaluation.errors import InvalidInputError
from evaluation.hits import Lesions, Regions
from evaluation.scores import Scores
from evaluation.tables import Column, FollowUp, Problem

CHALLENGE_PIXEL_MM = 0.1
"""About the pixel of the challenge's volumes (Hologic's reconstructions): its 100 pixels of reach are 10 mm."""

_VOLUME = ["StudyUID", "View"]
_BOX = ["X", "Y", "Width", "Height"]
_NUMBER, _SIZE = Column("number"), Column("size")

_LABELS = dict.fromkeys(("PatientID", *_VOLUME), Column("id"))
_BOXES = (
    _LABELS | dict.fromkeys(("X", "Y", "Slice"), _NUMBER) | dict.fromkeys(("Width", "Height", "VolumeSlices"), _SIZE)
)
_PREDICTIONS = _LABELS | dict.fromkeys((*_BOX, "Z", "Depth", "Score"), _NUMBER)


def load_dbtex(predictions: Path, boxes: Path, labels: Path | None = None) -> DbtexSet:
    """Read the challenge's files. Without `labels` only the figures over volumes with a box can be computed.

    Raises `ScoresError` for a file that cannot be read or lacks a column, and naming every row for an empty key, a
    value that is no number, a box without extent, two counts of slices or two women for one volume, a volume twice in
    the labels, and (where these are given) a box or prediction of a volume that is not in them.
    """
    errors: list[Problem] = []
    predicted = typed(read_table(predictions, _PREDICTIONS), _PREDICTIONS, errors)
    true = typed(read_table(boxes, _BOXES), _BOXES, errors)
    listed = None if labels is None else typed(read_table(labels, _LABELS), _LABELS, errors)
    tables = [(boxes.name, true), (predictions.name, predicted)]
    if labels is not None and listed is not None:
        tables.insert(0, (labels.name, listed))
    for column in ("Width", "Height", "Depth"):
        _note(errors, predictions.name, predicted[column] < 0, f"{column} is below 0")
    volumes = pd.concat([table[["PatientID", *_VOLUME]] for _, table in tables]).drop_duplicates(_VOLUME)
    known = pd.MultiIndex.from_frame(volumes[_VOLUME])
    counts = true[[*_VOLUME, "VolumeSlices"]].drop_duplicates()
    several = counts.duplicated(_VOLUME)
    _note(errors, boxes.name, several, "VolumeSlices differs from that of another box of the volume")
    for name, table in tables:
        other = volumes["PatientID"].to_numpy()[_rows(known, table)] != table["PatientID"]
        _note(errors, name, other, "PatientID is not that of another row of the volume")
    if listed is not None:
        _check_labels(listed, tables, errors)
    if errors:
        raise ScoresError(f"The tables of the challenge have {len(errors)} errors in their rows:", tuple(errors))
    return DbtexSet(
        volumes["PatientID"].to_numpy(),
        volumes.merge(counts, "left", on=_VOLUME)["VolumeSlices"].to_numpy(),
        Regions(_rows(known, predicted), predicted["Score"], predicted[_BOX].to_numpy()),
        predicted["Z"] + predicted["Depth"] / 2,
        Lesions(_rows(known, true), true[_BOX].to_numpy()),
        true["Slice"],
        complete=labels is not None,
    )


def dbtex_set(scores: Scores, followup: FollowUp) -> DbtexSet:
    """Our own tables: the tomosynthesis volumes of exams with follow-up, their regions, and the true lesions in them.

    A region's Z is its first frame and its Depth the number of its frames; benign lesions are boxes, too. Volumes that
    were not scored count: their lesions are missed. Raises `InvalidInputError` without tomosynthesis volumes, regions
    or lesions, or for a lesion in a volume of unknown length; `ScoresError` naming lesions and regions without frames.
    """
    images, regions, lesions = scores.images, scores.regions, followup.lesions
    if images is None or regions is None:
        raise InvalidInputError("The DBTex figures need the tables of images and of regions; give images and regions.")
    if lesions is None:
        raise InvalidInputError("The DBTex figures need the true lesions; add the table lesions to the follow-up.")
    woman = followup.exams.set_index("exam_id")["woman_id"]
    volumes = images[(images["kind"] == "dbt") & images["exam_id"].isin(woman.index)]
    if not len(volumes):
        raise InvalidInputError("The DBTex figures need tomosynthesis volumes: images of the kind dbt with follow-up.")
    known = pd.Index(volumes["image_id"])
    regions, lesions = regions[regions["image_id"].isin(known)], lesions[lesions["image_id"].isin(known)]
    errors: list[Problem] = []
    _note(errors, "lesions", lesions["frame"].isna(), "the lesion has no frame")
    _note(errors, "regions", regions[["frame_first", "frame_last"]].isna().any(axis=1), "the region has no frames")
    if errors:
        raise ScoresError("The DBTex figures need frames in tomosynthesis volumes:", tuple(errors))
    depth = regions["frame_last"] - regions["frame_first"] + 1
    box = ["x", "y", "width", "height"]
    return DbtexSet(
        woman.loc[volumes["exam_id"]].to_numpy(),
        volumes["frames"].to_numpy(),
        Regions(known.get_indexer(pd.Index(regions["image_id"])), regions["score"], regions[box].to_numpy()),
        regions["frame_first"] + depth / 2,
        Lesions(known.get_indexer(pd.Index(lesions["image_id"])), lesions[box].to_numpy()),
        lesions["frame"],
    )


def floor_px(scores: Scores) -> float:
    """The challenge's least reach in the plane, in pixels of the volumes scored: 10 mm, at most its 100 pixels.

    The largest pixel counts. Where no volume states one, the challenge's own 100 pixels.
    """
    images = scores.images
    if images is None or "pixel_spacing_mm" not in images:
        return FLOOR_PX
    known = images.loc[images["kind"] == "dbt", "pixel_spacing_mm"].dropna()
    return FLOOR_PX if known.empty else min(FLOOR_PX, FLOOR_PX * CHALLENGE_PIXEL_MM / float(known.max()))


def _check_labels(listed: pd.DataFrame, tables: list[tuple[str, pd.DataFrame]], errors: list[Problem]) -> None:
    """Every volume is among the labels, once."""
    known = pd.MultiIndex.from_frame(listed[_VOLUME].drop_duplicates())
    for name, table in tables:
        if table is listed:
            _note(errors, name, table.duplicated(_VOLUME), "the volume stands there twice")
        else:
            _note(errors, name, pd.Series(_rows(known, table) < 0, table.index), "the volume is not among the labels")


def _note(errors: list[Problem], file: str, bad: pd.Series, sentence: str) -> None:
    errors.extend(Problem(file, int(line), sentence) for line in bad.index[bad])


def _rows(known: pd.MultiIndex, table: pd.DataFrame) -> IntArray:
    """The row of each row's volume among the known ones, -1 for none."""
    return np.asarray(known.get_indexer(pd.MultiIndex.from_frame(table[_VOLUME])), dtype=np.int64)
