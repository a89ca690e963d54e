"""The pictures of one exam as they hang in the report, read back from disk."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from screening.errors import ImageError
from screening.exam import Image, ImageKind, Laterality, View
from screening.imaging.mask import BreastMask, find_breast
from screening.report.figures import drawn_regions, outline, picture_paths, shown, viewed
from screening.report.hanging import ROWS, Turn, hang, place
from screening.result import ExamResult, ImageResult, InstanceRejection, Region

_KINDS = {ImageKind.FFDM: "", ImageKind.SYNTHETIC: " synthetic 2D", ImageKind.DBT: " tomosynthesis"}


@dataclass(frozen=True)
class Mark:
    """A region over its picture: its polygon in hung source pixels, and where its number stands, in percent.

    The number stands on the outline's highest point or, at the picture's upper edge, `below` its lowest.
    """

    rank: int
    title: str
    points: str
    left: float
    top: float
    below: bool


@dataclass(frozen=True)
class Picture:
    """One picture of the hanging; without `plain` (a data URI) there is only the `note` to show.

    `columns`, `rows`: source pixels. `share`: width in percent of its place, so that all pictures of an exam have one
    scale. `heat`: data URI of the layer above, or empty. `prior`: the date of an earlier exam that it is of, or empty.
    """

    label: str
    note: str = ""
    plain: str = ""
    heat: str = ""
    turn: Turn = field(default_factory=Turn)
    columns: int = 0
    rows: int = 0
    width_mm: float = 0.0
    share: float = 100.0
    score: float | None = None
    marks: tuple[Mark, ...] = ()
    prior: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the hanging: the right breast's pictures, which hang on the left, and the left breast's."""

    right: tuple[Picture, ...]
    left: tuple[Picture, ...]


class ExamPictures:
    """One exam's pictures and places.

    Parameters
    ----------
    out
        The batch's output folder, with the pictures that `write_figures` made; one that is missing becomes a note.
    result
        The exam; pixels are not needed.
    """

    def __init__(self, out: Path, result: ExamResult) -> None:
        self._out = out
        self._result = result
        self._images = {one.image.image_id: one.image for one in result.images}
        self._breasts: dict[str, BreastMask | None] = {}

    def rows(self, rejections: Iterable[InstanceRejection], priors: Iterable[ExamPictures] = ()) -> tuple[Row, ...]:
        """Return the pictures in hanging order: CC above MLO above other views, each right breast on the left.

        `rejections` are those of this exam: a view that was rejected says so in its place. Pictures of `priors`, the
        same woman's earlier exams, stand after those of this exam in the place of their view.
        """
        reasons = {(one.laterality, one.view): one.rejection.sentence for one in rejections}
        pictures = self._pictures()
        for prior in priors:
            date = prior._result.exam_date
            dated = date.isoformat() if date else "unknown date"
            pictures += [(image, replace(one, prior=dated)) for image, one in prior._pictures() if one.plain]
        widest = max((picture.width_mm for _, picture in pictures), default=0.0)
        rows = []
        for views in ROWS:
            sides = []
            for side in (Laterality.RIGHT, Laterality.LEFT):
                found = [
                    replace(picture, share=100 * picture.width_mm / widest) if picture.plain else picture
                    for image, picture in pictures
                    if image.laterality is side and image.view in views
                ]
                if all(picture.prior for picture in found) and len(views) == 1:
                    sentence = reasons.get((side.value, views[0].value))
                    note = f"not scored: {sentence}" if sentence else "not in this exam"
                    found = [Picture(viewed(side, views[0]), note), *found]
                sides.append(tuple(found))
            if any(sides):
                rows.append(Row(*sides))
        return tuple(rows)

    def place(self, region: Region) -> str:
        """Say where a region is: its view, roughly where in the breast, and a volume's frames, counted from 1."""
        image = self._images[region.image_id]
        words = viewed(region.laterality, region.view)
        breast = self._breast(region.image_id)
        if breast is not None:
            words += f": {place(region, image, breast, hang(image, breast))}"
        if image.kind is ImageKind.DBT:
            words += f", frames {region.frame_first + 1} to {region.frame_last + 1}, most in {region.frame_peak + 1}"
        return words

    def size_mm(self, region: Region) -> tuple[float, float]:
        """Return a region's (width, height) in mm."""
        row_mm, column_mm = self._images[region.image_id].pixel_spacing_mm
        return region.width * column_mm, region.height * row_mm

    def turn(self, image: Image) -> Turn:
        """What turns an image of the exam as it hangs."""
        return hang(image, self._breast(image.image_id))

    def _pictures(self) -> list[tuple[Image, Picture]]:
        """Pictures by view, then by kind, so that of either breast the same kinds hang side by side."""

        def hanging_order(image: Image) -> tuple[int, int, str]:
            return list(View).index(image.view), list(ImageKind).index(image.kind), image.image_id

        ordered = sorted(self._result.images, key=lambda one: hanging_order(one.image))
        return [(one.image, self._picture(one)) for one in ordered]

    def _picture(self, result: ImageResult) -> Picture:
        image = result.image
        label = f"{viewed(image.laterality, image.view)}{_KINDS[image.kind]}"
        if result.rejection is not None:
            return Picture(label, f"not scored: {result.rejection.sentence}")
        paths = picture_paths(self._out, self._result.exam_id, image.image_id)
        plain = data_uri(paths.plain, "image/jpeg")
        if not plain:
            return Picture(label, f"score {shown(result.score or 0.0)}; the picture is not in the output folder")
        turn = self.turn(image)
        return Picture(
            label=label,
            plain=plain,
            heat=data_uri(paths.heat, "image/webp"),
            turn=turn,
            columns=image.columns,
            rows=image.rows,
            width_mm=image.columns * image.pixel_spacing_mm[1],
            score=result.score,
            marks=tuple(mark(region, image, turn) for region in drawn_regions(result)),
        )

    def _breast(self, image_id: str) -> BreastMask | None:
        """Find the breast in an image's plain picture; None where there is no picture or no breast in it."""
        if image_id not in self._breasts:
            path = picture_paths(self._out, self._result.exam_id, image_id).plain
            try:
                pixels = PillowImage.open(path)
                self._breasts[image_id] = find_breast(np.asarray(pixels.convert("L")))
            except (OSError, ImageError):
                # Only the words of place and the turn depend on it, and both can do without.
                self._breasts[image_id] = None
        return self._breasts[image_id]


def mark(region: Region, image: Image, turn: Turn) -> Mark:
    """A region as it is drawn over the picture of its image."""
    points = [turn.apply(x, y, image.columns, image.rows) for x, y in outline(region)]
    below = min(y for _, y in points) < 0.04 * image.rows
    x, y = (max if below else min)(points, key=lambda point: point[1])
    return Mark(
        rank=region.rank,
        title=f"Region {region.rank}: score {shown(region.score)}",
        # SVG counts from the corner of a pixel, regions from its centre.
        points=" ".join(f"{a + 0.5:.1f},{b + 0.5:.1f}" for a, b in points),
        left=min(max(100 * x / image.columns, 2.5), 97.5),
        top=100 * y / image.rows,
        below=below,
    )


def data_uri(path: Path, media_type: str) -> str:
    """Return a file as a data URI, or nothing if it is not there."""
    try:
        content = path.read_bytes()
    except OSError:
        return ""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}" if content else ""
