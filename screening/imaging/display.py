"""The grayscale pipeline of PS3.3 C.11 as one table: from stored bit patterns to the picture that a reader sees.

A mammogram has at most 65,536 different stored values, so each step is computed once per value and not per pixel, and
the image is read and written once.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from screening.dicomfile import integer, items, number, numbers, text, values
from screening.errors import ImageError

WHITE = 65535
# Share of the pixels that may lie beyond either end of the range of values: some dead detector elements must not
# decide about the contrast of an image that states no window.
OUTLIERS = 1e-5

DISPLAY_KEYWORDS = frozenset(
    {
        "ModalityLUTSequence",
        "RescaleIntercept",
        "RescaleSlope",
        "VOILUTSequence",
        "WindowCenter",
        "WindowWidth",
        "VOILUTFunction",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
    }
)

_Floats = npt.NDArray[np.float64]


def display(
    raw: npt.NDArray[Any], stored: npt.NDArray[np.int32], dataset: Dataset, *, inverted: bool
) -> npt.NDArray[np.uint16]:
    """Show `raw` (rows, columns; uint8 or uint16 bit patterns) as uint16 of the same shape, black at 0.

    `stored` gives the stored value of each pattern (2**bits entries), `dataset` the transforms, `inverted` says that
    the lowest value is white (MONOCHROME1). Raises ImageError for malformed transforms.
    """
    table = display_table(raw, stored, dataset, inverted=inverted)
    return cv2.LUT(raw, table)  # type: ignore[return-value]  # as in decode


def display_table(
    raw: npt.NDArray[Any], stored: npt.NDArray[np.int32], dataset: Dataset, *, inverted: bool
) -> npt.NDArray[np.uint16]:
    """What `display` looks every bit pattern up in: uint16 (2**bits). Other frames of a volume may be shown by it."""
    padding = padding_values(dataset, stored)
    linear = modality_transform(dataset, stored)
    shown = voi_transform(dataset, linear)
    if shown is None:
        shown = _stretch(linear, _occupied(raw, padding))
    if inverted:
        shown = 1.0 - shown
    shown[padding] = 0.0
    return np.rint(shown * WHITE).astype(np.uint16)


def padding_values(dataset: Dataset, stored: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which stored values are padding: Pixel Padding Value, up to Pixel Padding Range Limit (PS3.3 C.7.5.1.1.2)."""
    value = integer(dataset, "PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, np.bool_)
    limit = integer(dataset, "PixelPaddingRangeLimit")
    first, last = sorted(_signed_like(stored, v) for v in (value, value if limit is None else limit))
    return (stored >= first) & (stored <= last)


def modality_transform(dataset: Dataset, stored: npt.NDArray[np.int32]) -> _Floats:
    """Modality LUT, or rescale slope and intercept, else the stored values themselves (PS3.3 C.11.1)."""
    sequence = items(dataset, "ModalityLUTSequence")
    if sequence:
        return _look_up(sequence[0], stored.astype(np.float64))[0]
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if slope == 0:
        raise ImageError("Rescale Slope is 0, which makes all pixels equal")
    return np.asarray(stored * (1.0 if slope is None else slope) + (intercept or 0.0), np.float64)


def voi_transform(dataset: Dataset, linear: _Floats) -> _Floats | None:
    """The first VOI LUT, else the first window, of PS3.3 C.11.2, with output in [0, 1]; None if there is no usable one.

    A window function that the standard does not know is shown as LINEAR, the standard's default.
    """
    sequence = items(dataset, "VOILUTSequence")
    if sequence:
        output, highest = _look_up(sequence[0], linear)
        return output / highest
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not centers or not widths:
        return None
    center, width = centers[0], widths[0]
    function = text(dataset, "VOILUTFunction")
    if width <= 0 or (function not in ("LINEAR_EXACT", "SIGMOID") and width < 1):
        return None
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (linear - center) / width, -700.0, 700.0))))
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1.0
    if width == 0:
        return (linear > center).astype(np.float64)
    return np.asarray(np.clip((linear - center) / width + 0.5, 0.0, 1.0))


def _look_up(item: Dataset, inputs: _Floats) -> tuple[_Floats, float]:
    """Map inputs through a LUT item, and the highest value that its outputs may have."""
    descriptor = numbers(item, "LUTDescriptor")
    if len(descriptor) != 3:
        raise ImageError("a lookup table's LUT Descriptor does not have three values")
    entries, first, bits = (int(value) for value in descriptor)
    entries &= 0xFFFF  # an unsigned number of 16 bits, whatever the sign of the pixels
    entries = entries or 1 << 16  # PS3.3 C.11.1.1.1
    if not 1 <= bits <= 16:
        raise ImageError(f"a lookup table claims entries of {bits} bits")
    table = _lut_data(item, entries)
    first = first - (1 << 16) if first >= 1 << 15 and inputs.min() < 0 else first
    index = np.clip(np.rint(inputs) - first, 0, entries - 1).astype(np.int64)
    return table[index], float(max((1 << bits) - 1, table.max()))


def _lut_data(item: Dataset, entries: int) -> _Floats:
    data = values(item, "LUTData")
    if len(data) == 1 and isinstance(data[0], bytes):
        little = item.original_encoding[1] is not False
        wide = len(data[0]) >= 2 * entries  # else two entries of 8 bits share a word
        word = ("<u2" if little else ">u2") if wide else "u1"
        data = tuple(np.frombuffer(data[0], word, count=len(data[0]) // np.dtype(word).itemsize))
    if len(data) < entries:
        raise ImageError(f"a lookup table has {len(data)} entries where it claims {entries}")
    return np.asarray(data[:entries], np.float64) % (1 << 16)


def _signed_like(stored: npt.NDArray[np.int32], value: int) -> int:
    """A padding value as the stored values count: writers mix up signed and unsigned 16 bits."""
    lowest, highest = int(stored.min()), int(stored.max())
    if value > highest and lowest < 0:
        return value - (1 << 16)
    return value + (1 << 16) if value < lowest and lowest >= 0 else value


def _occupied(raw: npt.NDArray[Any], padding: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many pixels have each bit pattern, padding left out."""
    histogram = cv2.calcHist([raw], [0], None, [padding.size], [0, padding.size]).ravel().astype(np.int64)
    histogram[padding] = 0
    return histogram


def _stretch(linear: _Floats, histogram: npt.NDArray[np.int64]) -> _Floats:
    """Stretch the range of values that the image occupies, outliers left out, to [0, 1]."""
    order = np.argsort(linear, kind="stable")
    counts = np.cumsum(histogram[order])
    tail = int(counts[-1] * OUTLIERS)
    low = linear[order[np.searchsorted(counts, tail, side="right").clip(max=order.size - 1)]]
    high = linear[order[np.searchsorted(counts, counts[-1] - tail, side="left")]]
    if high <= low:
        return np.zeros_like(linear)
    return np.asarray(np.clip((linear - low) / (high - low), 0.0, 1.0))
