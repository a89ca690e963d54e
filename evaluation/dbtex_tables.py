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
from evaluation.dbtex import DbtexSet
from evaluation.errors import InvalidInputError
from evaluation.hits import Lesions, Regions
from evaluation.scores import Scores
from evaluation.tables import FollowUp

_VOLUME = ["StudyUID", "View"]
_BOX = ["X", "Y", "Width", "Height"]
_SHOWN = 10  # rows that an error message names


def load_dbtex(predictions: Path, boxes: Path, labels: Path | None = None) -> DbtexSet:
    """Read the challenge's files. Without `labels` only the figures over volumes with a box can be computed.

    Raises `InvalidInputError` naming file and line for a missing column, an empty key, a value that is no number, a box
    without extent, two counts of slices or two women for one volume, a volume twice in the labels, and (where these are
    given) a box or prediction of a volume that is not in them.
    """
    predicted = _read(predictions, [*_BOX, "Z", "Depth", "Score"])
    true = _read(boxes, [*_BOX, "Slice", "VolumeSlices"])
    listed = None if labels is None else _read(labels, [])
    if listed is not None:
        _refuse(listed.duplicated(_VOLUME), str(labels), "the volume stands there twice")
        for table, path in ((true, boxes), (predicted, predictions)):
            missing = ~pd.MultiIndex.from_frame(table[_VOLUME]).isin(pd.MultiIndex.from_frame(listed[_VOLUME]))
            _refuse(pd.Series(missing, table.index), str(path), "the volume is not among the labels")
    for column in ("Width", "Height", "VolumeSlices"):
        _refuse(~(true[column] > 0), str(boxes), f"{column} is not above 0")
    for column in ("Width", "Height", "Depth"):
        _refuse(predicted[column] < 0, str(predictions), f"{column} is below 0")
    rows = pd.concat([table[["PatientID", *_VOLUME]] for table in (listed, true, predicted) if table is not None])
    volumes = rows.drop_duplicates()
    twice = volumes[volumes.duplicated(_VOLUME)]
    if len(twice):
        raise InvalidInputError(f"The study {twice['StudyUID'].iloc[0]} has two values of PatientID; keep one.")
    counts = true[[*_VOLUME, "VolumeSlices"]].drop_duplicates()
    _refuse(counts.duplicated(_VOLUME), str(boxes), "VolumeSlices differs from that of another box of the volume")
    slices = volumes.merge(counts, "left", on=_VOLUME)["VolumeSlices"]
    known = pd.MultiIndex.from_frame(volumes[_VOLUME])
    return DbtexSet(
        volumes["PatientID"].to_numpy(),
        slices.to_numpy(),
        Regions(_rows(known, predicted, _VOLUME), predicted["Score"], predicted[_BOX].to_numpy()),
        predicted["Z"] + predicted["Depth"] / 2,
        Lesions(_rows(known, true, _VOLUME), true[_BOX].to_numpy()),
        true["Slice"],
        complete=labels is not None,
    )


def dbtex_set(scores: Scores, followup: FollowUp) -> DbtexSet:
    """Our own tables: the tomosynthesis volumes of exams with follow-up, their regions, and the true lesions in them.

    A region's Z is its first frame and its Depth the number of its frames; benign lesions are boxes, too. Volumes that
    were not scored count: their lesions are missed. Raises `InvalidInputError` without tomosynthesis volumes, regions
    or lesions, and for a lesion without a frame or in a volume of unknown length.
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
    _refuse(lesions["frame"].isna(), "lesions", "the lesion has no frame, which the DBTex figures need")
    _refuse(regions["frame_first"].isna() | regions["frame_last"].isna(), "regions", "the region has no frames")
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


def _read(path: Path, numbers: list[str]) -> pd.DataFrame:
    """The table with text keys and float64 `numbers`; its index is the line in the file."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
    keys = ["PatientID", *_VOLUME]
    lacking = [column for column in [*keys, *numbers] if column not in table.columns]
    if lacking or not isinstance(table.index, pd.RangeIndex):
        cause = f"it lacks the column {', '.join(lacking)}" if lacking else "rows have more fields than its header"
        raise InvalidInputError(f"{path} is no table of the DBTex challenge: {cause}.")
    table.index = pd.RangeIndex(2, len(table) + 2)
    for column in keys:
        table[column] = table[column].str.strip()
        _refuse(table[column] == "", str(path), f"{column} is empty")
    for column in numbers:
        values = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
        _refuse(~values.between(-np.inf, np.inf, inclusive="neither"), str(path), f"{column} is no number")
        table[column] = values
    return table


def _refuse(bad: pd.Series, file: str, sentence: str) -> None:
    lines = [str(line) for line in bad.index[bad]]
    if lines:
        more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise InvalidInputError(f"{file}, line {', '.join(lines[:_SHOWN])}{more}: {sentence}.")


def _rows(known: pd.MultiIndex, table: pd.DataFrame, keys: list[str]) -> IntArray:
    return np.asarray(known.get_indexer(pd.MultiIndex.from_frame(table[keys])), dtype=np.int64)
