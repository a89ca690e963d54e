"""A tomosynthesis volume as a stream of frames: one multi-frame file, or a series of single-frame files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from screening.dicomfile import items, open_dicom, values
from screening.errors import ImageError
from screening.exam import Image
from screening.imaging.decode import PIXEL_KEYWORDS, FrameReader, PixelFormat
from screening.imaging.display import DISPLAY_KEYWORDS, display_table
from screening.imaging.functional_groups import GROUP_KEYWORDS, frame_headers
from screening.imaging.stack import PLANE_KEYWORDS, Stack, stack
from screening.result import Region

_KEYWORDS = PIXEL_KEYWORDS | PLANE_KEYWORDS | GROUP_KEYWORDS

Frame = npt.NDArray[np.uint16]


class _Source(Protocol):
    """Where stored frames come from. `headers`: one a frame, as a single-frame image has it."""

    headers: Sequence[Dataset]

    def raw(self, frame: int) -> tuple[npt.NDArray[Any], PixelFormat]: ...


class _MultiFrame:
    def __init__(self, reader: FrameReader, pixel_format: PixelFormat, headers: Sequence[Dataset]) -> None:
        self._reader, self._format, self.headers = reader, pixel_format, headers

    def raw(self, frame: int) -> tuple[npt.NDArray[Any], PixelFormat]:
        return self._reader.raw(frame), self._format


class _Series:
    """Single-frame files; each is opened when its frame is wanted."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.headers: Sequence[Dataset] = [_header(path) for path in paths]

    def raw(self, frame: int) -> tuple[npt.NDArray[Any], PixelFormat]:
        with open_dicom(self._paths[frame], PIXEL_KEYWORDS) as file:
            pixel_format = PixelFormat.of(file.dataset)
            return FrameReader(file, pixel_format).raw(0), pixel_format


class Volume:
    """An open volume. `stack`: where its places are; frames are read when they are asked for, and not kept."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._tables: dict[tuple[object, ...], npt.NDArray[np.uint16]] = {}
        self.stack: Stack = stack(source.headers)

    @property
    def middle(self) -> int:
        """The place halfway up, where a compressed breast is widest."""
        return len(self.stack.order) // 2

    def frame(self, place: int) -> Frame:
        """The frame at a place as displayed: (rows, columns) uint16, 0 black to 65535 white.

        Each frame has the transforms that its own header states. Frames without a window share the one that the first
        frame asked for gave rise to, so that they stay comparable: ask for the middle one first. Raises `ImageError`,
        which names the frame (from 1).
        """
        stored = self.stack.order[place]
        try:
            raw, pixel_format = self._source.raw(stored)
            key = (pixel_format, *_transforms(self._source.headers[stored]))
            table = self._tables.get(key)
            if table is None:
                header = self._source.headers[stored]
                table = display_table(raw, pixel_format.stored_values(), header, inverted=pixel_format.inverted)
                self._tables[key] = table
        except ImageError as error:
            raise ImageError(f"frame {stored + 1} of {len(self.stack.order)}: {error}") from error
        return cv2.LUT(raw, table)  # type: ignore[return-value]  # of the table's type, which OpenCV does not tell

    def frames(self) -> Iterator[Frame]:
        """All frames in order of place. While one is used, the next is decoded: three are in memory at most."""
        with ThreadPoolExecutor(1, thread_name_prefix="frames") as pool:
            coming: Future[Frame] = pool.submit(self.frame, 0)
            for place in range(1, len(self.stack.order) + 1):
                shown = coming.result()
                if place < len(self.stack.order):
                    coming = pool.submit(self.frame, place)
                yield shown


@contextmanager
def open_volume(image: Image) -> Iterator[Volume]:
    """Open the file or the files of a volume. Raises `ImageError` where they do not make one."""
    if image.slices:
        yield Volume(_Series(image.slices))
        return
    with open_dicom(image.path, _KEYWORDS) as file:
        pixel_format = PixelFormat.of(file.dataset)
        headers = frame_headers(file.dataset, pixel_format.frames)
        yield Volume(_MultiFrame(FrameReader(file, pixel_format), pixel_format, headers))


def stored_order(image: Image) -> tuple[int, ...]:
    """The stored frame (0-based) at each place of a volume, in which regions count; reads no pixels.

    Of a volume that is stored as a series, these are its files, which are in order. Raises `ImageError`.
    """
    with open_dicom(image.path, _KEYWORDS) as file:
        frames = PixelFormat.of(file.dataset).frames
        if frames == 1:
            return tuple(range(image.frames))
        if frames != image.frames:
            raise ImageError(f"the file has {frames} frames by now, but {image.frames} were scored; score it again")
        return stack(frame_headers(file.dataset, frames)).order


def stored_run(order: Sequence[int], region: Region) -> tuple[int, int]:
    """First and last of a region's stored frames (0-based) that follow one another around its peak.

    That is all of them, unless frames are stored out of order: for formats that know but one range of frames.
    """
    frames = set(order[region.frame_first : region.frame_last + 1])
    first = last = order[region.frame_peak]
    while first - 1 in frames:
        first -= 1
    while last + 1 in frames:
        last += 1
    return first, last


def _header(path: Path) -> Dataset:
    with open_dicom(path, _KEYWORDS) as file:
        return frame_headers(file.dataset, 1)[0]


def _transforms(header: Dataset) -> Iterator[object]:
    """What the display of a frame depends on, to be compared: numbers by value, tables by identity."""
    for keyword in sorted(DISPLAY_KEYWORDS):
        if keyword.endswith("Sequence"):
            yield tuple(id(item) for item in items(header, keyword))
        else:
            yield values(header, keyword)
