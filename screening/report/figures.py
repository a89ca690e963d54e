"""Pictures of a scored image, made while its pixels are at hand.

Three files per image under `heatmaps/EXAM/`, in the orientation in which the image is stored:

- `IMAGE.png`: for people; the mammogram with heatmap, marks, label and the line that says a computer made it,
- `IMAGE.jpg` and `IMAGE.webp`: for the report; the plain mammogram, and the heatmap alone as a transparent layer.

Volumes have their reading aid beside these (see `frames`).

Colour. A calibrated probability is small where cancers are rare (6 in 1,000 women screened), so colours follow the
probability relative to a `reference`: the exam score from which category 10 begins, or the exam's own score where that
is higher, so that weak exams stay pale and the most suspicious place of a strong one stands out. From nothing at 0,
over violet and red, to full yellow at the reference and above, linearly. Opacity grows alike, from 0 at a twenty-fifth
of the reference, so that ordinary tissue stays grey, to 45 %, so that tissue can be read under the brightest spot.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from screening.exam import Image, ImageKind, Laterality, View
from screening.report.frames import FrameFiles, write_frames
from screening.result import ExamResult, Heatmap, ImageResult, Region, Status
from screening.store import write_atomically

Grey = npt.NDArray[np.uint8]
Colour = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]

NOTICE = "Computer output: research only, not a medical device"
HEADER_ROWS = 26
"""Rows of text above the mammogram in the PNG; its column 0 is the mammogram's."""
MARK_COLOUR = (255, 225, 95)
"""BGR of the marks: far from every colour of the heatmap and from grey."""
MARKS_PER_IMAGE = 3
"""Only an image's most suspicious regions are drawn; all of them are in the tables."""

_OPACITY = 0.45
_FOOTER_ROWS = 24
_PAPER = (22, 18, 16)
_INK = (232, 228, 225)
_FAINT = (165, 156, 150)


@dataclass(frozen=True)
class PicturePaths:
    """Where an image's pictures are: `annotated` (PNG), `plain` (JPEG), `heat` (WebP)."""

    annotated: Path
    plain: Path
    heat: Path


def picture_paths(out: Path, exam_id: str, image_id: str) -> PicturePaths:
    """Return where the pictures of an image belong. Ids are made safe: they come from headers."""
    folder, name = out / "heatmaps" / _safe_name(exam_id), _safe_name(image_id)
    return PicturePaths(folder / f"{name}.png", folder / f"{name}.jpg", folder / f"{name}.webp")


def write_figures(out: Path, result: ExamResult, reference: float) -> None:
    """Write the pictures of every scored image of an exam that has a preview.

    Parameters
    ----------
    out
        The batch's output folder.
    result
        With its pixels (`preview`, `heatmap`), as scoring returns it.
    reference
        Score shown in full colour, above 0; an exam that scores higher has its own score in full colour.

    Raises
    ------
    StoreError
        If a file cannot be written.
    """
    reference = max(reference, result.score or 0.0)
    pictured = [image for image in result.images if image.status is Status.SCORED and image.preview is not None]
    # Encoding leaves the interpreter's lock alone: a thread an image takes half the time on two cores.
    with ThreadPoolExecutor(max(1, len(pictured)), thread_name_prefix="figures") as pool:
        for _ in pool.map(lambda image: _write_image(out, result.exam_id, image, reference), pictured):
            pass


def _write_image(out: Path, exam_id: str, result: ImageResult, reference: float) -> None:
    assert result.preview is not None
    paths = picture_paths(out, exam_id, result.image.image_id)
    intensity = heat_intensity(result.heatmap, result.image, result.preview.shape, reference)
    files = {
        paths.annotated: _png(annotated(result, intensity, reference)),
        paths.plain: _jpeg(result.preview),
        paths.heat: _webp(_layer(intensity)),
    }
    for path, content in files.items():
        write_atomically(path, [content], durable=False)
    if result.image.kind is ImageKind.DBT:
        write_frames(FrameFiles(paths.plain), result, intensity)


def heat_intensity(heatmap: Heatmap | None, image: Image, shape: tuple[int, ...], reference: float) -> Grey:
    """Spread a heatmap over a reduced picture of its image.

    Parameters
    ----------
    shape
        (rows, columns) of the picture, which shows the whole of `image`.
    reference
        Probability that becomes 255.

    Returns
    -------
    uint8 (rows, columns), 0 outside the heatmap's box.
    """
    if not reference > 0:
        raise ValueError(f"the reference must be above 0, not {reference}")
    rows, columns = shape
    if heatmap is None:
        return np.zeros((rows, columns), np.uint8)
    step_x, step_y = image.columns / columns, image.rows / rows
    left, top = round(heatmap.x / step_x), round(heatmap.y / step_y)
    right = max(left + 1, round((heatmap.x + heatmap.width) / step_x))
    bottom = max(top + 1, round((heatmap.y + heatmap.height) / step_y))
    scaled = np.clip(heatmap.values * np.float32(255 / reference), 0, 255).astype(np.uint8)
    spread = cv2.resize(scaled, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
    intensity = np.zeros((rows, columns), np.uint8)
    # The box may reach beyond the image.
    x0, x1, y0, y1 = max(0, left), min(columns, right), max(0, top), min(rows, bottom)
    if x0 < x1 and y0 < y1:
        intensity[y0:y1, x0:x1] = spread[y0 - top : y1 - top, x0 - left : x1 - left]
    return intensity


def annotated(result: ImageResult, intensity: Grey, reference: float) -> Colour:
    """Draw the picture for people: uint8 (rows + text rows, columns, BGR), in the stored orientation.

    `result` must have a preview; `intensity` (rows, columns) is its heatmap from `heat_intensity`.
    """
    assert result.preview is not None
    rows, columns = result.preview.shape
    picture = _blended(result.preview, intensity)
    outlines = {region: _on_picture(region, result.image, picture.shape) for region in drawn_regions(result)}
    _draw_outlines(picture, outlines.values())
    _draw_labels(picture, outlines)
    notice = _text(NOTICE, 13, _INK)
    width = max(columns, notice.shape[1] + 16)
    borders = HEADER_ROWS, 2 * _FOOTER_ROWS, 0, width - columns
    canvas = cv2.copyMakeBorder(picture, *borders, cv2.BORDER_CONSTANT, value=_PAPER).astype(np.uint8, copy=False)
    score = _text("" if result.score is None else f"score {shown(result.score)}", 15, _INK)
    _paste(canvas, _text(viewed(result.image.laterality, result.image.view), 17, _INK), (8, 3))
    _paste(canvas, score, (width - 8 - score.shape[1], 4))
    _paste(canvas, notice, (8, HEADER_ROWS + rows + 4))
    scale = f"full colour: score {shown(reference)} and above"
    _paste(canvas, _text(scale, 13, _FAINT), (8, HEADER_ROWS + rows + _FOOTER_ROWS))
    return canvas


def viewed(laterality: Laterality, view: View) -> str:
    """Name a view as readers do: `R MLO`."""
    return f"{laterality.value} {view.value}"


def drawn_regions(result: ImageResult) -> list[Region]:
    """Return the regions of an image that pictures show, most suspicious first."""
    return sorted(result.regions, key=lambda region: region.rank)[:MARKS_PER_IMAGE]


def outline(region: Region) -> tuple[tuple[float, float], ...]:
    """Return the polygon to draw, in source pixels: the contour, or the box where there is none."""
    if len(region.contour) >= 3:
        return region.contour
    x1, y1 = region.x + region.width, region.y + region.height
    return (region.x, region.y), (x1, region.y), (x1, y1), (region.x, y1)


def shown(score: float) -> str:
    """Write a score for people."""
    return f"{score:.4f}" if score >= 0.00005 or score == 0 else "<0.0001"


def colour_stops() -> list[str]:
    """Return the heatmap's colours from 0 to the reference as CSS colours, for a legend."""
    colours, alpha = _palette()
    return [f"rgba({r},{g},{b},{alpha[i] / 255:.2f})" for i in range(0, 256, 51) for b, g, r in [colours[i].tolist()]]


def _safe_name(identifier: str) -> str:
    """Return a UID as it is, and anything that could be a path or odd on some file system as a short SHA-256."""
    if re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.-]{0,63}", identifier) and not identifier.endswith("."):
        return identifier
    return hashlib.sha256(identifier.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@cache
def _palette() -> tuple[Colour, Grey]:
    """Colours (256, BGR) and opacities (256,) by intensity. Inferno without its dark end, which would dim tissue."""
    steps = np.linspace(70, 250, 256).round().astype(np.uint8).reshape(-1, 1)
    colours = cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO).reshape(256, 3)
    alpha = (255 * _OPACITY * np.linspace(-0.04, 1, 256).clip(0)).round().astype(np.uint8)
    return colours.astype(np.uint8), alpha


def _looked_up(intensity: Grey, tables: Iterable[npt.NDArray[np.integer]]) -> Colour:
    """Look every intensity up in each table of 256 values: uint8 (rows, columns, tables)."""
    channels = [cv2.LUT(intensity, np.ascontiguousarray(table, dtype=np.uint8)) for table in tables]
    return cv2.merge(channels).astype(np.uint8, copy=False)


def _blended(preview: Grey, intensity: Grey) -> Colour:
    """Lay the heatmap's colours over the grey preview: uint8 (rows, columns, BGR)."""
    colours, alpha = _palette()
    laid = _looked_up(intensity, (colours.astype(np.int32) * alpha[:, None] // 255).T)
    seen = cv2.multiply(preview, cv2.LUT(intensity, (255 - alpha).astype(np.uint8)), scale=1 / 255)
    return cv2.add(cv2.cvtColor(seen, cv2.COLOR_GRAY2BGR), laid).astype(np.uint8, copy=False)


def _layer(intensity: Grey) -> Colour:
    """Return the heatmap alone, at a third of the size: uint8 (rows, columns, RGBA)."""
    colours, alpha = _palette()
    rows, columns = intensity.shape
    small = cv2.resize(intensity, (max(1, columns // 3), max(1, rows // 3)), interpolation=cv2.INTER_AREA)
    return _looked_up(small.astype(np.uint8, copy=False), (*colours.T[::-1], alpha))


def _on_picture(region: Region, image: Image, shape: tuple[int, ...]) -> Points:
    """Map a region's outline from source to picture: float64 (points, 2), (column, row), pixel `i` centred on `i`."""
    scale = np.array([shape[1] / image.columns, shape[0] / image.rows])
    points: Points = (np.asarray(outline(region), dtype=np.float64) + 0.5) * scale - 0.5
    return points


def _draw_outlines(picture: Colour, outlines: Iterable[Points]) -> None:
    """Draw thin closed lines, dark-rimmed to be seen on white tissue too, with sub-pixel accuracy."""
    for points in outlines:
        polygon = (points * 16).round().astype(np.int32)
        for colour, thickness in (((0, 0, 0), 3), (MARK_COLOUR, 1)):
            cv2.polylines(
                picture, [polygon], isClosed=True, color=colour, thickness=thickness, lineType=cv2.LINE_AA, shift=4
            )


def _draw_labels(picture: Colour, outlines: Mapping[Region, Points]) -> None:
    """Write rank and score beside each outline, apart from each other."""
    taken: list[Box] = []
    for region, points in outlines.items():
        label = _text(f"{region.rank}: {shown(region.score)}", 13, MARK_COLOUR, (0, 0, 0), margin=3)
        box = _label_box(points, label.shape, picture.shape, taken)
        taken.append(box)
        _paste(picture, label, (round(box[0]), round(box[1])))


def _label_box(points: Points, label: tuple[int, ...], picture: tuple[int, ...], taken: list[Box]) -> Box:
    """Place a label above, below, right or left of an outline: the first that is inside and free, else above."""
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    height, width = label[:2]
    most_x, most_y = max(0.0, picture[1] - width), max(0.0, picture[0] - height)
    x, y = min(max(left, 0.0), most_x), min(max(top, 0.0), most_y)
    for corner in ((x, top - height - 4), (x, bottom + 4), (right + 4, y), (left - width - 4, y)):
        box = (*corner, corner[0] + width, corner[1] + height)
        inside = 0 <= corner[0] <= most_x and 0 <= corner[1] <= most_y
        if inside and not any(_overlap(box, other) for other in taken):
            return box
    y = min(max(top - height - 4, 0.0), most_y)
    return x, y, x + width, y + height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@lru_cache(maxsize=64)
def _text(
    text: str, size: int, ink: tuple[int, int, int], paper: tuple[int, int, int] = _PAPER, margin: int = 0
) -> Colour:
    """Set a line of ASCII text: uint8 (rows, columns, BGR), not to be written to."""
    font = _font(size)
    width = round(font.getlength(text)) + 2 * margin
    line = PillowImage.new("RGB", (max(1, width), size + 5), paper[::-1])
    ImageDraw.Draw(line).text((margin, 1), text, ink[::-1], font)
    return np.asarray(line)[:, :, ::-1]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that comes with Pillow (ASCII only), so that pictures are the same on every machine."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _paste(canvas: Colour, patch: Colour, corner: tuple[int, int]) -> None:
    """Copy a patch into a canvas at (column, row), as far as it is inside."""
    x, y = corner
    place = canvas[y : y + patch.shape[0], x : x + patch.shape[1]]
    place[:] = patch[: place.shape[0], : place.shape[1]]


def _png(pixels: Colour) -> bytes:
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    return cv2.imencode(".png", pixels, options)[1].tobytes()


def _jpeg(pixels: Grey) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def _webp(pixels: Colour) -> bytes:
    # Pillow, because OpenCV cannot be told to spend less time on it.
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "WEBP", quality=70, method=0)
    return file.getvalue()
