"""The images of an exam as they hang in an audit's page: picture and heatmap where the results folder has them, the
regions that reach a threshold, and the lesions where they are known."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image as PillowImage

from evaluation.cohort import Cohort
from screening.errors import ImageError
from screening.imaging.mask import Side, find_breast
from screening.report import picture_paths
from screening.report.hanging import Turn

NO_PICTURE = "Where the results folder has no picture, regions are drawn on the image's outline, as it is stored."

_VIEWS = ("CC", "MLO")
_REGIONS = 3  # of an image that are drawn; candidates.csv has all


@dataclass(frozen=True)
class Mark:
    """A box over a film: SVG points in hung source pixels, and where its number stands, in percent of the film.

    `kind`: "region", or "lesion" for the follow-up's truth. The number stands on the box or, at the upper edge,
    `below` it.
    """

    kind: str
    number: str
    title: str
    points: str
    left: float
    top: float
    below: bool


@dataclass(frozen=True)
class Film:
    """An image. `plain`, `heat`: data URIs, "" where there is no picture. `rows`, `columns`: source pixels; 0 where
    they are unknown, and then there is only the `note`. `share`: width in percent, so that an exam has one scale.
    """

    label: str
    note: str
    score: str = ""
    plain: str = ""
    heat: str = ""
    turn: Turn = field(default_factory=Turn)
    rows: int = 0
    columns: int = 0
    share: float = 100.0
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Hanging:
    """A row of films: the right breast's on the left, the left breast's on the right."""

    right: tuple[Film, ...]
    left: tuple[Film, ...]


class Films:
    """The films of the exams of a cohort.

    Parameters
    ----------
    cohort
        Its scores' tables `images` and `regions` say what there is to hang; without `images` nothing is.
    exam_ids
        The exams that will be asked for.
    results
        The folder that `screening score` wrote, for its pictures; None for outlines only.
    """

    def __init__(self, cohort: Cohort, exam_ids: Iterable[str], results: Path | None) -> None:
        wanted = set(exam_ids)
        self._results = results
        self._images = _of(cohort.scores.images, wanted)
        self._regions = _of(cohort.scores.regions, wanted)
        lesions = cohort.followup.lesions
        self._lesions = _of(None if lesions is None else lesions[lesions["malignant"] == 1], wanted)

    def hang(self, exam_id: str, lowest: float) -> tuple[Hanging, ...]:
        """Films in hanging order: CC, MLO, other views. Regions with a score of `lowest` or more are drawn."""
        images = self._images.get(exam_id)
        if images is None:
            return ()
        regions, lesions = self._regions.get(exam_id), self._lesions.get(exam_id)
        width = images["columns"] * images["pixel_spacing_mm"].fillna(1)
        shares = (100 * width / width.max()).fillna(100)
        films: dict[tuple[int, str], list[Film]] = {}
        for line, image in images.assign(share=shares).sort_values(["view", "image_id"]).iterrows():
            own = [_on(table, image["image_id"]) for table in (regions, lesions)]
            film = self._film(exam_id, image, _drawn(own[0], lowest), own[1], float(shares.at[line]))
            row = _VIEWS.index(image["view"]) if image["view"] in _VIEWS else len(_VIEWS)
            films.setdefault((row, "L" if image["laterality"] == "L" else "R"), []).append(film)
        rows = sorted({row for row, _ in films})
        return tuple(Hanging(tuple(films.get((row, "R"), ())), tuple(films.get((row, "L"), ()))) for row in rows)

    def _film(self, exam_id: str, image: pd.Series, regions: pd.DataFrame, lesions: pd.DataFrame, share: float) -> Film:
        label = f"{image['laterality']} {image['view']}".strip() or "view unknown"
        if image["status"] not in ("scored", ""):
            return Film(label, f"not scored: {image['reason'] or image['status']}")
        if not (image["rows"] > 0 and image["columns"] > 0):
            return Film(label, "the scores do not tell the image's size")
        plain = heat = b""
        if self._results is not None:
            paths = picture_paths(self._results, exam_id, image["image_id"])
            plain, heat = _bytes(paths.plain), _bytes(paths.heat)
        turn = _turn(plain, image["laterality"]) if plain else Turn()
        size = int(image["columns"]), int(image["rows"])
        marks = [
            _mark("lesion", "", f"Lesion: {one.visible!s}" if one.visible else "Lesion", one, turn, size)
            for one in lesions.itertuples()
        ]
        marks += [
            _mark("region", _number(one), f"Region {_number(one)}: score {one.score:.4g}", one, turn, size)
            for one in regions.itertuples()
        ]
        return Film(
            label=label,
            note="" if plain else NO_PICTURE,
            score="" if np.isnan(image["score"]) else f"{image['score']:.4g}",
            plain=_uri(plain, "image/jpeg"),
            heat=_uri(heat, "image/webp"),
            turn=turn,
            rows=size[1],
            columns=size[0],
            share=share,
            marks=tuple(marks),
        )


def _of(table: pd.DataFrame | None, wanted: set[str]) -> dict[str, pd.DataFrame]:
    """A table's rows of the wanted exams, by exam."""
    if table is None:
        return {}
    return {str(exam): rows for exam, rows in table[table["exam_id"].isin(wanted)].groupby("exam_id", sort=False)}


def _on(table: pd.DataFrame | None, image_id: str) -> pd.DataFrame:
    """The rows on an image, none where there is no table."""
    return pd.DataFrame() if table is None else table[table["image_id"] == image_id]


def _drawn(regions: pd.DataFrame, lowest: float) -> pd.DataFrame:
    if not len(regions):
        return regions
    return regions[regions["score"] >= lowest].nlargest(_REGIONS, "score")


def _number(region: Any) -> str:
    """The region's rank within the exam; systems without ranks have no numbers."""
    return "" if np.isnan(region.rank) else f"{region.rank:.0f}"


def _mark(kind: str, number: str, title: str, box: Any, turn: Turn, size: tuple[int, int]) -> Mark:
    columns, rows = size
    # Pixel i covers i to i + 1, and SVG counts from its edge: a box's far edge is where the next pixel would begin.
    corners = [
        turn.apply(x - 0.5, y - 0.5, columns, rows)
        for x in (box.x, box.x + box.width)
        for y in (box.y, box.y + box.height)
    ]
    x1, x2 = (function(x + 0.5 for x, _ in corners) for function in (min, max))
    y1, y2 = (function(y + 0.5 for _, y in corners) for function in (min, max))
    below = y1 < 0.05 * rows
    return Mark(
        kind=kind,
        number=number,
        title=title,
        points=f"{x1:.1f},{y1:.1f} {x2:.1f},{y1:.1f} {x2:.1f},{y2:.1f} {x1:.1f},{y2:.1f}",
        left=min(max(50 * (x1 + x2) / columns, 2.5), 97.5),
        top=100 * (y2 if below else y1) / rows,
        below=below,
    )


def _turn(plain: bytes, laterality: str) -> Turn:
    """What puts the chest walls back to back in the middle; the wall is seen in the picture."""
    try:
        picture = np.asarray(PillowImage.open(io.BytesIO(plain)).convert("L"))
        wall_on_right = find_breast(picture).chest_wall is Side.RIGHT
    except (OSError, ImageError):
        return Turn()  # the picture hangs as it is stored
    return Turn(flip_x=wall_on_right != (laterality == "R"))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}" if content else ""
