"""The reading aid of a volume on disk: its key frames, and the map of the most suspicious frame at each place.

Beside the pictures that every image has:

- `IMAGE.frames.json`: the key frames in the order to look at (0-based), each with the regions that it shows,
- `IMAGE.frame-NNNN.jpg`: these frames, plain (0-based),
- `IMAGE.frames.png`: for programs; 16-bit grey, the number (from 1) of each place's most suspicious frame, 0 for none;
  it covers the heatmap's box, which the JSON file states,
- `IMAGE.depth.jpg`: the same for people; hue is the frame, strength the suspicion.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from screening.result import Heatmap, ImageResult
from screening.store import write_atomically

TILE_ROWS = 640
"""Height of a key frame's picture."""

_FAINTEST, _STRONGEST = 0.2, 0.65


@dataclass(frozen=True)
class FrameFiles:
    """Where the reading aid of one image is. `plain`: the image's plain picture, whose name the others extend."""

    plain: Path

    @property
    def record(self) -> Path:
        return self.plain.with_suffix(".frames.json")

    @property
    def numbers(self) -> Path:
        return self.plain.with_suffix(".frames.png")

    @property
    def depth(self) -> Path:
        return self.plain.with_suffix(".depth.jpg")

    def frame(self, frame: int) -> Path:
        return self.plain.with_suffix(f".frame-{frame:04d}.jpg")


def write_frames(files: FrameFiles, result: ImageResult, intensity: npt.NDArray[np.uint8]) -> None:
    """Write the reading aid of a scored volume.

    `result`: with its pixels, as scoring returns it. `intensity`: uint8 (rows, columns), its heatmap spread over its
    preview. Raises `StoreError` if a file cannot be written.
    """
    heatmap = result.heatmap
    if heatmap is None or heatmap.frames is None or result.preview is None:
        return
    contents: dict[Path, bytes] = {
        files.numbers: cv2.imencode(".png", (heatmap.frames + 1).astype(np.uint16))[1].tobytes(),
        files.depth: _jpeg(depth_picture(result, heatmap, intensity)),
    }
    for key in result.key_frames:
        if key.preview is not None:
            scale = min(1.0, TILE_ROWS / key.preview.shape[0])
            size = (max(1, round(key.preview.shape[1] * scale)), max(1, round(key.preview.shape[0] * scale)))
            shown = cv2.resize(key.preview, size, interpolation=cv2.INTER_AREA)
            contents[files.frame(key.frame)] = _jpeg(shown.astype(np.uint8, copy=False))
    for path, content in contents.items():
        write_atomically(path, [content], durable=False)
    record = json.dumps(_record(result, heatmap), indent=1, ensure_ascii=True)
    write_atomically(files.record, [record.encode(), b"\n"], durable=False)


def read_key_frames(files: FrameFiles) -> list[tuple[int, tuple[str, ...]]]:
    """The key frames that `write_frames` wrote, each with the ids of its regions; none where there is no file."""
    try:
        record = json.loads(files.record.read_bytes())
    except (OSError, ValueError):
        return []
    return [(int(key["frame"]), tuple(map(str, key["regions"]))) for key in record["key_frames"]]


def depth_picture(result: ImageResult, heatmap: Heatmap, intensity: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The map of frames over the preview: uint8 (rows, columns, BGR), hue from the first frame (violet) to the last."""
    assert result.preview is not None and heatmap.frames is not None
    rows, columns = result.preview.shape
    frames = _spread(heatmap, heatmap.frames, result, (rows, columns))
    last = max(1, result.image.frames - 1)
    hue = np.clip(frames.astype(np.float32) * (255 / last), 0, 255).astype(np.uint8)
    colours = cv2.applyColorMap(hue, cv2.COLORMAP_VIRIDIS).astype(np.float32)
    alpha = np.where(frames < 0, 0, _FAINTEST + (_STRONGEST - _FAINTEST) * intensity / 255).astype(np.float32)[
        ..., None
    ]
    grey = result.preview[..., None].astype(np.float32)
    picture = np.ascontiguousarray((grey * (1 - alpha) + colours * alpha).round().astype(np.uint8))
    by_id = {region.region_id: region for region in result.regions}
    for key in result.key_frames:
        region = by_id[key.region_ids[0]]
        x = (region.x + region.width / 2) * columns / result.image.columns
        y = (region.y + region.height / 2) * rows / result.image.rows
        for colour, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            cv2.putText(
                picture, str(key.frame + 1), (round(x) - 14, round(y) + 8), cv2.FONT_HERSHEY_SIMPLEX, 0.8, colour, width
            )
    return picture


def hue_stops() -> list[str]:
    """The colours from the first frame to the last as CSS colours, for a legend."""
    stops = cv2.applyColorMap(np.arange(0, 256, 51, dtype=np.uint8).reshape(-1, 1), cv2.COLORMAP_VIRIDIS)
    return [f"rgb({r},{g},{b})" for b, g, r in stops.reshape(-1, 3).tolist()]


def _spread(
    heatmap: Heatmap, values: npt.NDArray[np.int16], result: ImageResult, shape: tuple[int, int]
) -> npt.NDArray[np.int16]:
    """Spread values over the heatmap's box in a picture of the image, -1 beside it."""
    rows, columns = shape
    x = ((np.arange(columns) + 0.5) * result.image.columns / columns - heatmap.x) * values.shape[1] / heatmap.width
    y = ((np.arange(rows) + 0.5) * result.image.rows / rows - heatmap.y) * values.shape[0] / heatmap.height
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    within = ((row >= 0) & (row < values.shape[0]))[:, None] & ((column >= 0) & (column < values.shape[1]))[None]
    spread = values[row.clip(0, values.shape[0] - 1)][:, column.clip(0, values.shape[1] - 1)]
    return np.where(within, spread, np.int16(-1))


def _record(result: ImageResult, heatmap: Heatmap) -> dict[str, Any]:
    return {
        "frames": result.image.frames,
        "key_frames": [{"frame": key.frame, "regions": list(key.region_ids)} for key in result.key_frames],
        "box": {"x": heatmap.x, "y": heatmap.y, "width": heatmap.width, "height": heatmap.height},
        "notice": "Computer output: research only, not a medical device",
    }


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes()
