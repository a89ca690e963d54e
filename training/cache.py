"""Prepared copies of the images, so that an epoch costs the network and not the decoding.

One file an image, named by a digest of everything that it depends on; a changed image, preparation or code version
makes a new file, and a half-written file never gets its name.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from screening.errors import ImageError
from screening.exam import ImageKind
from screening.imaging.geometry import Geometry
from screening.imaging.prepare import Preparation, Prepared, prepare
from training.datasets.pixels import lesion_mask, read_pixels
from training.datasets.record import Lesion, Record
from training.slabs import prepared_slab

_VERSION = "4"
"""Raised whenever preparation changes, so that old copies are not taken."""


@dataclass(frozen=True)
class PreparedRecord:
    """A record with its prepared image.

    `pixels`: uint16 (rows, columns), 65535 = 1.0. `lesions`: uint8 (rows, columns), 0 outside, otherwise 1 + index
    into `record.lesions`.
    """

    record: Record
    pixels: npt.NDArray[np.uint16]
    lesions: npt.NDArray[np.uint8]
    geometry: Geometry


def prepare_records(
    records: list[Record], preparation: Preparation, folder: Path
) -> tuple[list[PreparedRecord], list[str]]:
    """Prepare every record, from the cache where it holds the copy.

    Returns the prepared records in order, and a sentence for each image that could not be prepared (it is left out).
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepared, problems = [], []
    # Threads: decoding, resampling and compression leave the interpreter's lock alone, and a forked process would hang
    # on OpenCV's threads, which do not survive the fork.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(_prepared_copy, records, repeat(preparation), repeat(folder))
        for record, result in track(
            zip(records, results, strict=True), "Preparing images", total=len(records), transient=True
        ):
            if isinstance(result, str):
                problems.append(f"{record.dataset} {record.image}: {result}")
            else:
                prepared.append(_load(record, result))
    return prepared, problems


def _prepared_copy(record: Record, preparation: Preparation, folder: Path) -> Path | str:
    """The path of the record's prepared copy, made if need be; or a sentence saying why there is none."""
    file = folder / f"{_digest(record, preparation)}.npz"
    if file.exists():
        return file
    try:
        done, shape = _prepared(record, preparation)
    except ImageError as error:
        return str(error)
    g = done.geometry
    part = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    with part.open("wb") as stream:
        np.savez_compressed(
            stream,
            pixels=np.round(done.pixels * 65535).astype(np.uint16),
            lesions=lesion_labels(record.lesions or (), shape, g),
            geometry=np.array([g.x0, g.y0, g.width, g.height, g.columns, g.rows, g.flip_x, g.flip_y]),
        )
    part.replace(file)
    return file


def _prepared(record: Record, preparation: Preparation) -> tuple[Prepared, tuple[int, int]]:
    """The prepared image, and (rows, columns) of the published one."""
    if record.kind is ImageKind.DBT:
        return prepared_slab(record, preparation)
    pixels = read_pixels(record)
    return prepare(pixels, record.pixel_spacing_mm, preparation), (pixels.shape[0], pixels.shape[1])


def _digest(record: Record, preparation: Preparation) -> str:
    masks = sorted({lesion.mask_path for lesion in record.lesions or () if lesion.mask_path})
    facts = (
        _VERSION,
        preparation,
        *_file_facts(record.path),
        record.lesions,
        record.pixel_spacing_mm,
        *((record.frame,) if record.kind is ImageKind.DBT else ()),
        *(fact for mask in masks for fact in _file_facts(mask)),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _file_facts(path: Path) -> tuple[str, int, int]:
    """What changes when a file does: name, size in bytes, time in ns."""
    stat = path.stat()
    return path.name, stat.st_size, stat.st_mtime_ns


def _load(record: Record, file: Path) -> PreparedRecord:
    with np.load(file, allow_pickle=False) as content:
        x0, y0, width, height, columns, rows, flip_x, flip_y = (int(v) for v in content["geometry"])
        geometry = Geometry(x0, y0, width, height, columns, rows, bool(flip_x), bool(flip_y))
        return PreparedRecord(record, content["pixels"], content["lesions"], geometry)


def lesion_labels(lesions: tuple[Lesion, ...], shape: tuple[int, int], geometry: Geometry) -> npt.NDArray[np.uint8]:
    """Draw lesions of a source image of `shape` into prepared coordinates: uint8 (rows, columns), 1 + index."""
    labels = np.zeros((geometry.rows, geometry.columns), np.uint8)
    # The largest first, so that a small lesion on a large one is not covered.
    for index in sorted(range(len(lesions)), key=lambda i: -lesions[i].width * lesions[i].height):
        source = lesion_mask(lesions[index], shape).astype(np.uint8) * 255
        crop = source[geometry.y0 : geometry.y0 + geometry.height, geometry.x0 : geometry.x0 + geometry.width]
        small = cv2.resize(crop, (geometry.columns, geometry.rows), interpolation=cv2.INTER_AREA)
        small = small[:, ::-1] if geometry.flip_x else small
        small = small[::-1] if geometry.flip_y else small
        if small.max() > 0:
            # A lesion smaller than a prepared pixel still fills the one it lies in most.
            labels[small > min(127.0, 0.5 * float(small.max()))] = index + 1
    return labels
