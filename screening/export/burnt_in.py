"""Looking for text in pixels, by the OCR engine Tesseract: the check of the Clean Pixel Data option (PS3.15 E.3.1).

A mammogram's markers (R CC, L MLO) pass. Whatever else is read with some certainty makes an image suspect; an image is
never cleaned by painting over. Tesseract was made for paper: what it cannot find is said in docs/export.md.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

from screening.errors import ConfigError, ImageError
from screening.exam import ImageKind, View
from screening.imaging.decode import load_display

_PROGRAM = "tesseract"
_SECONDS = 120.0
_LONG_SIDE = 2400
"""Pixels: letters of 3 mm on a mammogram of 30 cm are then 24 high, of which Tesseract wants about 20."""
_FRAMES_LOOKED_AT = 5
_CERTAIN, _VERY_CERTAIN = 60.0, 80.0
"""Tesseract's confidence in per cent: breast tissue gives words of two or three letters up to about 55."""

_MAMMOGRAPHY = (
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.BreastTomosynthesisImageStorage,
)
_VIEWS = "|".join(view.value for view in View)
_MARKER = re.compile(rf"(?:[LR]|LEFT|RIGHT)?(?:{_VIEWS})?(?:ID|S|M|CV|RL|RM|RI|RS|TAN)?|MAG|SPOT|IMPLANT|LT|RT")
"""View markers as films and equipment print them (ACR mammography quality control manual: side, view, modifier)."""

_Grey = npt.NDArray[np.uint8]


def needs_check(header: Dataset, kind: ImageKind | None) -> bool:
    """Whether the pixels of an image must be looked at.

    Those of mammography equipment that says Burned In Annotation NO need not; secondary captures, synthetic images,
    other classes and those without the statement do. `kind` is None where the image is none of an exam.
    """
    stated = str(header.get("BurnedInAnnotation", "")).strip()
    return stated != "NO" or header.get("SOPClassUID") not in _MAMMOGRAPHY or kind is ImageKind.SYNTHETIC


def require_reader() -> None:
    """Raise `ConfigError` where Tesseract is not installed: without it no such image could be exported."""
    if shutil.which(_PROGRAM) is None:
        raise ConfigError(
            "the check for text in pixels needs the program tesseract: install it (Debian: tesseract-ocr), or export "
            "tables only with --no-images"
        )


def text_suspected(path: Path, frames: int) -> bool:
    """Whether a word that is no view marker can be read in the pixels of an image, upright or turned.

    Several frames are looked at through each other (the brightest of first, last and some between). The word
    itself is not returned: it may be a name. Raises `ImageError` where pixels cannot be decoded or read.
    """
    chosen = sorted({round(at) for at in np.linspace(0, frames - 1, min(frames, _FRAMES_LOOKED_AT))})
    grey: _Grey | None = None
    for frame in chosen:
        shown = _reduced(load_display(path, frame))
        grey = shown if grey is None else np.maximum(grey, shown)
    if grey is None:
        raise ImageError("the image has no frames")
    return any(is_suspect(word, certainty) for word, certainty in _read_all(grey))


def is_suspect(word: str, certainty: float) -> bool:
    """Whether a word, read with a certainty of 0 to 100, may say who somebody is: three signs or more, or a number."""
    signs = re.sub(r"[\W_]", "", word).upper()
    if _MARKER.fullmatch(signs):
        return False
    if len(signs) >= 3:
        return certainty >= _CERTAIN
    return len(signs) == 2 and signs.isdigit() and certainty >= _VERY_CERTAIN


def _read_all(grey: _Grey) -> Iterator[tuple[str, float]]:
    """All words: of the image as it is, and of its fine bright strokes (letters on tissue), enlarged and turned.

    Each finds letters that the others miss.
    """
    strokes = _strokes(grey)
    large: _Grey = np.asarray(cv2.resize(strokes, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC), np.uint8)
    yield from _read(255 - grey)
    yield from _read(255 - strokes)
    for quarter in range(4):
        yield from _read(255 - np.rot90(large, quarter))


def _strokes(grey: _Grey) -> _Grey:
    """What is brighter than its surroundings and finer than 25 pixels, stretched to the whole range."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (25, 25))
    fine = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, kernel).astype(np.float32)
    brightest = max(60.0, float(np.percentile(fine, 99.9)))
    stretched: _Grey = np.clip(fine * (255 / brightest), 0, 255).astype(np.uint8)
    return stretched


def _reduced(shown: npt.NDArray[np.uint16]) -> _Grey:
    grey = (shown >> 8).astype(np.uint8)
    scale = min(1.0, _LONG_SIDE / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _read(paper: _Grey) -> Iterator[tuple[str, float]]:
    """Words and certainties that Tesseract reads, dark on light; it gets the pixels by a pipe, never by a file."""
    _, encoded = cv2.imencode(".pgm", np.ascontiguousarray(paper))
    try:
        done = subprocess.run(
            [_PROGRAM, "stdin", "stdout", "--psm", "11", "tsv"],
            input=encoded.tobytes(),
            capture_output=True,
            timeout=_SECONDS,
            check=True,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ImageError(f"the check for text in the pixels failed ({type(error).__name__})") from error
    for row in csv.DictReader(
        io.StringIO(done.stdout.decode("utf-8", "replace")), delimiter="\t", quoting=csv.QUOTE_NONE
    ):
        if row.get("text", "").strip():
            yield row["text"], float(row["conf"])
