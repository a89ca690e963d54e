"""One page for one exam: four views in hanging order with the regions that reach the operating point, and scores.

Where nothing is found, or an image was not scored, it says so. It names no woman and no date.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from screening.delivery.context import Delivery
from screening.errors import ImageError
from screening.exam import ImageKind, Laterality, View
from screening.imaging.mask import BreastMask, find_breast
from screening.report.figures import (
    HEADER_ROWS,
    MARK_COLOUR,
    MARKS_PER_IMAGE,
    annotated,
    outline,
    picture_paths,
    shown,
    viewed,
)
from screening.report.hanging import Turn, hang, place
from screening.result import ImageResult, Region, Status

Colour = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.uint8]
Ink = tuple[int, int, int]

NOTICE = "Computer output, to be verified by a radiologist. Not for clinical use. Not a medical device."

SIDES = Laterality.RIGHT, Laterality.LEFT
"""The right breast hangs on the left."""
VIEWS = View.CC, View.MLO
PAGE_COLUMNS = 1024
PICTURE = PAGE_COLUMNS // 2 - 3, 600
"""Columns and rows that one view may fill."""
HEADING_ROWS, GAP = 30, 6

_PAPER: Ink = (16, 18, 22)
_INK: Ink = (225, 228, 232)
_FAINT: Ink = (160, 166, 174)
_FOUND: Ink = MARK_COLOUR[::-1]
_MARGIN = 16
_TITLE, _TEXT, _SMALL = 26, 18, 14
_REGION_LINES, _REJECTION_LINES, _LINES_A_SENTENCE = 6, 8, 3


@dataclass(frozen=True)
class _Line:
    text: str
    size: int = _TEXT
    ink: Ink = _INK


@dataclass(frozen=True)
class _Hung:
    """An image with its picture: how it hangs, and the breast in it (None: not found)."""

    result: ImageResult
    preview: Grey
    breast: BreastMask | None
    turn: Turn

    @classmethod
    def of(cls, result: ImageResult, preview: Grey) -> _Hung:
        try:
            breast = find_breast(preview)
        except ImageError:
            breast = None  # only the turn and the words of place depend on it, and both can do without
        return cls(result, preview, breast, hang(result.image, breast))

    @property
    def width_mm(self) -> float:
        return self.result.image.columns * self.result.image.pixel_spacing_mm[1]

    @property
    def height_mm(self) -> float:
        return self.result.image.rows * self.result.image.pixel_spacing_mm[0]

    def turned(self, region: Region) -> Region:
        """The region in the hung image's pixels; like the region's own, counted from the edges of pixels."""
        rows, columns = self.result.image.rows, self.result.image.columns
        contour = tuple(
            (columns - x if self.turn.flip_x else x, rows - y if self.turn.flip_y else y) for x, y in outline(region)
        )
        return replace(region, contour=contour)


def summary_picture(delivery: Delivery, out: Path | None = None) -> Colour:
    """Draw the summary: uint8 (rows, `PAGE_COLUMNS`, RGB).

    Parameters
    ----------
    out
        The batch's output folder. Results that come from the store have no pixels: their pictures are the report's.
    """
    pictured = _pictured(delivery, out)
    widest = max((one.width_mm for one in pictured.values()), default=1.0)
    highest = max((one.height_mm for one in pictured.values()), default=1.0)
    # One scale for all views, so that they compare.
    scale = min(PICTURE[0] / widest, PICTURE[1] / highest)
    blocks = [_text_block([*_findings(delivery), *_regions(delivery, pictured), *_left_out(delivery, pictured)])]
    # Without a score there is nothing to place: four empty places would only make the reasons small.
    for view in VIEWS if delivery.result.status is Status.SCORED else ():
        blocks.append(np.hstack([_place(delivery, side, view, pictured, scale) for side in SIDES]))
    blocks.append(_text_block(_footer(delivery)))
    return np.ascontiguousarray(np.vstack(blocks))


def _pictured(delivery: Delivery, out: Path | None) -> dict[tuple[Laterality, View], _Hung]:
    """The image to show for each of the four views: of several the one with the highest score."""
    pictured: dict[tuple[Laterality, View], _Hung] = {}
    for result in sorted(delivery.result.images, key=lambda one: (-(one.score or 0.0), one.image.image_id)):
        where = result.image.laterality, result.image.view
        preview = _preview(delivery, result, out)
        if preview is not None and where[1] in VIEWS and where not in pictured:
            pictured[where] = _Hung.of(result, preview)
    return pictured


def _preview(delivery: Delivery, result: ImageResult, out: Path | None) -> Grey | None:
    """The whole image, grey and reduced, from the result or from the report's files; None where there is none."""
    if result.preview is not None or out is None or result.status is not Status.SCORED:
        return result.preview
    path = picture_paths(out, delivery.result.exam_id, result.image.image_id).plain
    try:
        with PillowImage.open(path) as picture:
            return np.asarray(picture.convert("L"))
    except OSError:
        return None  # its place says that there is no picture


def _place(
    delivery: Delivery, side: Laterality, view: View, pictured: dict[tuple[Laterality, View], _Hung], scale: float
) -> Colour:
    """One view's place: (rows, half of `PAGE_COLUMNS`, RGB); chest walls towards the middle of the page."""
    block = PillowImage.new("RGB", (PAGE_COLUMNS // 2, HEADING_ROWS + PICTURE[1] + GAP), _PAPER)
    draw = ImageDraw.Draw(block)
    hung = pictured.get((side, view))
    title = viewed(side, view) + ("" if hung is None else f"   score {shown(hung.result.score or 0.0)}")
    draw.text((_MARGIN, 4), title, _INK, _font(_TEXT))
    if hung is None:
        note = "\n".join(_wrapped(_absence(delivery, side, view), _TEXT, block.width - 4 * _MARGIN)[:8])
        draw.multiline_text((2 * _MARGIN, HEADING_ROWS + PICTURE[1] // 3), note, _FAINT, _font(_TEXT))
    else:
        picture = PillowImage.fromarray(_drawn(hung, delivery.marked, scale))
        x = block.width - GAP // 2 - picture.width if side is Laterality.RIGHT else GAP // 2
        block.paste(picture, (x, HEADING_ROWS))
    return np.asarray(block)


def _drawn(hung: _Hung, marked: tuple[Region, ...], scale: float) -> Colour:
    """The hung picture with its marked regions: (rows, columns, RGB), `scale` pixels a mm."""
    columns, rows = max(1, round(hung.width_mm * scale)), max(1, round(hung.height_mm * scale))
    turned = hung.preview[:: -1 if hung.turn.flip_y else 1, :: -1 if hung.turn.flip_x else 1]
    preview = cv2.resize(np.ascontiguousarray(turned), (columns, rows), interpolation=cv2.INTER_AREA)
    image = hung.result.image
    regions = tuple(hung.turned(region) for region in marked if region.image_id == image.image_id)
    result = replace(hung.result, preview=preview.astype(np.uint8, copy=False), regions=regions)
    canvas = annotated(result, np.zeros((rows, columns), np.uint8), 1.0)
    return canvas[HEADER_ROWS : HEADER_ROWS + rows, :columns, ::-1]


def _absence(delivery: Delivery, side: Laterality, view: View) -> str:
    """Why a place has no picture."""
    scored = [one for one in delivery.result.images if (one.image.laterality, one.image.view) == (side, view)]
    for one in scored:
        if one.status is Status.SCORED:
            return f"score {shown(one.score or 0.0)}; no picture at hand"
    reasons = dict(_reasons(delivery))
    return f"not scored: {reasons[viewed(side, view)]}" if viewed(side, view) in reasons else "not in this exam"


def _findings(delivery: Delivery) -> Iterator[_Line]:
    """What the exam came to, as a radiologist reads it first."""
    result, point = delivery.result, delivery.point
    if result.status is not Status.SCORED or result.score is None:
        yield _Line("This exam was not scored", _TITLE, _FOUND)
        yield _Line("It says nothing of the breasts: read it as if there were no computer output.")
        return
    yield _Line(f"Computer output: exam score {shown(result.score)}, category {result.category} of 10", _TITLE)
    yield _Line("Category 10 is the most suspicious tenth of a screened population.", _SMALL, _FAINT)
    threshold = f"operating point {point.name} (score {shown(point.threshold)} or above)"
    count = len(delivery.marked)
    if count:
        yield _Line(f"{count} region{'s' * (count > 1)} at {threshold}", ink=_FOUND)
    else:
        among = " in the images that were scored" if any(True for _ in _reasons(delivery)) else ""
        yield _Line(f"Nothing found{among}: no region at {threshold}")
    names = {Laterality.RIGHT: "Right", Laterality.LEFT: "Left"}
    breasts = sorted(result.breasts, key=lambda breast: SIDES.index(breast.laterality))
    yield _Line(
        "; ".join(
            f"{names[one.laterality]} breast: score {shown(one.score)}"
            + (f", density {one.density}" if one.density else "")
            for one in breasts
        ),
        ink=_FAINT,
    )


def _regions(delivery: Delivery, pictured: dict[tuple[Laterality, View], _Hung]) -> Iterator[_Line]:
    """The marked regions, most suspicious first: where, how large, how suspicious."""
    hung = {one.result.image.image_id: one for one in pictured.values()}
    images = {one.image.image_id: one.image for one in delivery.result.images}
    for region in delivery.marked[:_REGION_LINES]:
        image = images[region.image_id]
        words = [f"{region.rank}: {viewed(region.laterality, region.view)}"]
        one = hung.get(region.image_id)
        if one is not None and one.breast is not None:
            words.append(place(region, image, one.breast, one.turn))
        if image.kind is ImageKind.DBT:
            words.append(f"slices {region.frame_first + 1} to {region.frame_last + 1}")
        row_mm, column_mm = image.pixel_spacing_mm
        words.append(f"{region.width * column_mm:.0f} x {region.height * row_mm:.0f} mm")
        yield _Line(f"{', '.join(words)}: score {shown(region.score)}")
    if len(delivery.marked) > _REGION_LINES:
        yield _Line(f"and {len(delivery.marked) - _REGION_LINES} more", ink=_FAINT)
    counts = Counter(region.image_id for region in delivery.marked)
    if counts and max(counts.values()) > MARKS_PER_IMAGE:
        yield _Line(f"Drawn are the {MARKS_PER_IMAGE} most suspicious of an image.", ink=_FAINT)


def _left_out(delivery: Delivery, pictured: dict[tuple[Laterality, View], _Hung]) -> Iterator[_Line]:
    """What the pictures do not show: further images, and those that were not scored, each with its reason."""
    seen = {one.result.image.image_id for one in pictured.values()}
    others = [
        f"{viewed(one.image.laterality, one.image.view)} {shown(one.score)}"
        for one in delivery.result.images
        if one.image.image_id not in seen and one.score is not None
    ]
    if others:
        yield _Line(f"Scored, not pictured: {', '.join(others)}", ink=_FAINT)
    reasons = Counter(_reasons(delivery))
    for (name, sentence), count in list(reasons.items())[:_REJECTION_LINES]:
        times = f" ({count} images)" if count > 1 else ""
        yield _Line(f"Not scored: {name}{times}: {sentence}", ink=_FOUND)
    if len(reasons) > _REJECTION_LINES:
        yield _Line(f"and {len(reasons) - _REJECTION_LINES} more that were not scored", ink=_FOUND)


def _reasons(delivery: Delivery) -> Iterator[tuple[str, str]]:
    """View and reason of every image that was not scored."""
    for one in delivery.result.images:
        if one.rejection is not None:
            # A file may bear a woman's name.
            sentence = one.rejection.sentence.removeprefix(f"{one.image.path.name}: ")
            yield viewed(one.image.laterality, one.image.view), sentence
    for rejected in delivery.rejections:
        name = f"{rejected.laterality} {rejected.view}".strip() or "image of unknown view"
        yield name, rejected.rejection.sentence


def _footer(delivery: Delivery) -> list[_Line]:
    algorithm, point = delivery.algorithm, delivery.point
    return [
        _Line(NOTICE),
        _Line(f"{algorithm.name} {algorithm.version}; operating point {point.name}: {point.target}", _SMALL, _FAINT),
        _Line(f"Bundle {algorithm.sha256}", _SMALL, _FAINT),
    ]


def _text_block(lines: Iterable[_Line]) -> Colour:
    """Set lines, wrapped to the page: (rows, `PAGE_COLUMNS`, RGB)."""
    rows = [
        replace(line, text=part)
        for line in lines
        for part in _wrapped(line.text, line.size, PAGE_COLUMNS - 2 * _MARGIN)[:_LINES_A_SENTENCE]
    ]
    block = PillowImage.new("RGB", (PAGE_COLUMNS, _MARGIN + sum(map(_height, rows))), _PAPER)
    draw, y = ImageDraw.Draw(block), _MARGIN // 2
    for row in rows:
        draw.text((_MARGIN, y), row.text, row.ink, _font(row.size))
        y += _height(row)
    return np.asarray(block)


def _height(line: _Line) -> int:
    return round(1.4 * line.size)


def _wrapped(text: str, size: int, width: float) -> list[str]:
    """Break text into lines of at most `width` pixels or so. The font has ASCII; other signs become question marks."""
    plain = "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in text)
    return textwrap.wrap(plain[:2000], max(1, int(width / _font(size).getlength("n"))))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow, so that pictures are the same on every machine."""
    return ImageFont.load_default(size)
