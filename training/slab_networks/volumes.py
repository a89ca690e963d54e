"""Whole volumes prepared for learning: all slabs on one scale, and where each lesion lies in them.

Slabs are made by the very code that makes those to be scored, and kept in a cache as prepared images are.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from screening.errors import ImageError
from screening.imaging.load_volume import load_volume
from screening.imaging.prepare import Preparation
from screening.imaging.slabs import Slabbing
from training.cache import lesion_labels
from training.datasets.record import Lesion, Record
from training.exams import as_image

_VERSION = "1"


@dataclass(frozen=True)
class SlabVolume:
    """A volume's record with its slabs.

    `images`: uint16 (slabs, rows, columns), 65535 = 1.0. `centres_mm`: height of each slab's middle. `lesions`: uint8
    (rows, columns), 0 or 1 + index into `record.lesions`. `heights_mm`, `halves_mm`: of each lesion's middle, and half
    its extent in depth.
    """

    record: Record
    images: npt.NDArray[np.uint16]
    centres_mm: npt.NDArray[np.float64]
    lesions: npt.NDArray[np.uint8]
    heights_mm: npt.NDArray[np.float64]
    halves_mm: npt.NDArray[np.float64]


def prepare_volumes(
    records: Sequence[Record], preparation: Preparation, slabbing: Slabbing, folder: Path
) -> tuple[list[SlabVolume], list[str]]:
    """Prepare volumes of which all lesions are known and placed (`teaches`), from the cache where it can.

    Returns them in order, and a sentence for each volume that could not be prepared (it is left out).
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepared, problems = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(_copy, records, repeat(preparation), repeat(slabbing), repeat(folder))
        for record, result in track(
            zip(records, results, strict=True), "Preparing volumes", total=len(records), transient=True
        ):
            if isinstance(result, str):
                problems.append(f"{record.dataset} {record.image}: {result}")
            else:
                prepared.append(_load(record, result))
    return prepared, problems


def teaches(record: Record) -> bool:
    """Whether each lesion has a place and a frame, and no cancer is there that nobody marked."""
    if record.lesions is None or (record.malignant is not False and not record.lesions):
        return False
    return all(lesion.frame is not None for lesion in record.lesions)


def _copy(record: Record, preparation: Preparation, slabbing: Slabbing, folder: Path) -> Path | str:
    """The path of the volume's prepared copy, made if need be; or a sentence saying why there is none."""
    stat = record.path.stat()
    facts = (_VERSION, preparation, slabbing, record.path.name, stat.st_size, stat.st_mtime_ns, record.lesions)
    file = folder / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.npz"
    if file.exists():
        return file
    try:
        content = _prepared(record, preparation, slabbing)
    except ImageError as error:
        return str(error)
    part = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, **content)  # type: ignore[arg-type]  # numpy's stubs take the names for options
    part.replace(file)
    return file


def _prepared(record: Record, preparation: Preparation, slabbing: Slabbing) -> dict[str, npt.NDArray[np.generic]]:
    loaded = load_volume(as_image(record), preparation, slabbing)
    if loaded.prepared is None or loaded.volume is None:
        raise ImageError(str(loaded.rejection))
    volume, found = loaded.volume, loaded.prepared.mask
    rows, columns = (round(side * scale) for side, scale in zip(found.mask.shape, found.scale[::-1], strict=True))
    lesions = record.lesions or ()
    return {
        "images": np.round(volume.images * 65535).astype(np.uint16),
        "centres_mm": np.array([slab.centre_mm for slab in volume.slabs]),
        "lesions": lesion_labels(lesions, (rows, columns), loaded.prepared.geometry),
        "heights_mm": np.array([_height_mm(lesion, volume.positions_mm) for lesion in lesions]),
        "halves_mm": np.array([_half_mm(lesion, record) for lesion in lesions]),
    }


def _height_mm(lesion: Lesion, positions_mm: Sequence[float]) -> float:
    """Height of a lesion's middle: that of its frame. Raises `ImageError` where the volume has no such frame."""
    frame = lesion.frame or 0
    if not 0 <= frame < len(positions_mm):
        raise ImageError(f"a lesion is marked on frame {frame}, but the frames are 0 to {len(positions_mm) - 1}")
    return positions_mm[frame]


def _half_mm(lesion: Lesion, record: Record) -> float:
    """Half a lesion's depth: no publisher says it, so it is as deep as it is narrow."""
    rows_mm, columns_mm = record.pixel_spacing_mm
    return min(lesion.height * rows_mm, lesion.width * columns_mm) / 2


def _load(record: Record, file: Path) -> SlabVolume:
    with np.load(file, allow_pickle=False) as content:
        return SlabVolume(record, **{name: content[name] for name in content.files})
