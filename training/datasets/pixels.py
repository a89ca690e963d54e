"""Pixels of a record's image: PNG, JPEG and PGM as stored, DICOM as displayed, always on a dark background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from screening.errors import ImageError
from screening.imaging.mask import looks_inverted
from training.datasets.record import Lesion, Record

Pixels = NDArray[np.unsignedinteger[Any]]

_DICOM_SUFFIXES = {".dcm", ".dicom", ""}


def read_pixels(record: Record, frame: int = 0) -> Pixels:
    """The record's image as uint8 or uint16 of shape (rows, columns), with a dark background.

    `frame` is the slice of a tomosynthesis volume. A negative is told by `screening.imaging.mask.looks_inverted`, which
    errs on none of 2,490 RSNA images that were looked through by eye, 393 of them negatives. Raises `ImageError` where
    the file cannot be decoded.
    """
    image = _decode(record.path, frame)
    return invert(image) if looks_inverted(image) else image


def lesion_mask(lesion: Lesion, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where the lesion is in an image of `shape` (rows, columns) as published: bool of that shape.

    A pixel belongs to a box or an ellipse if its centre does. Raises `ImageError` if the lesion's mask file cannot be
    decoded or has another shape.
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    x, y = columns + 0.5 - lesion.x, rows + 0.5 - lesion.y
    inside = (x >= 0) & (x <= lesion.width) & (y >= 0) & (y <= lesion.height)
    if lesion.shape == "ellipse":
        u, v = 2 * x / max(lesion.width, 1e-6) - 1, 2 * y / max(lesion.height, 1e-6) - 1
        return np.asarray(inside & (u**2 + v**2 <= 1))
    if lesion.shape == "polygon":
        drawn = np.zeros(shape, np.uint8)
        cv2.fillPoly(drawn, [np.round(np.array(lesion.outline) - 0.5).astype(np.int32)], 1)
        return drawn.astype(np.bool_)
    if lesion.shape == "mask" and lesion.mask_path is not None:
        labels = _decode(lesion.mask_path, 0)
        if labels.shape != shape:
            raise ImageError(f"The lesion's mask is {labels.shape} pixels, but the image is {shape}.")
        return np.asarray(inside & (labels > 0))
    return np.asarray(inside)


def _decode(path: Path, frame: int) -> Pixels:
    if path.suffix.lower() in _DICOM_SUFFIXES:
        from screening.imaging.decode import load_display

        return load_display(path, frame)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ImageError("The image cannot be decoded as PNG, JPEG or PGM; it may be damaged.")
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if grey.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"The image has pixels of type {grey.dtype}, where 8 or 16 bit unsigned is expected.")
    return np.asarray(grey)


def invert(image: Pixels) -> Pixels:
    """The negative within the image's own range of values, of the same shape and dtype."""
    low, high = image.min(), image.max()
    return np.asarray(high - image + low)
