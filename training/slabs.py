"""Slabs of tomosynthesis volumes to learn from, made by the very code that makes those to be scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from zlib import crc32

from screening.errors import ImageError
from screening.exam import ImageKind
from screening.imaging.load_volume import load_volume
from screening.imaging.prepare import Preparation, Prepared
from screening.imaging.slabs import Slabbing
from training.datasets.record import Lesion, Record
from training.exams import as_image

IN_SIGHT = 5
"""Frames, of 1 mm as a rule, above and below a slab's own in which a lesion is in the slab: half its 10 mm."""


def with_slabs(records: Iterable[Record]) -> list[Record]:
    """The records, with each volume replaced by slabs of it: one a lesion, or any one where there is none.

    A volume whose lesions have no place, or no frame, teaches nothing and is left out.
    """
    return [one for record in records for one in (_slabs(record) if record.kind is ImageKind.DBT else (record,))]


def _slabs(volume: Record) -> Iterator[Record]:
    lesions = volume.lesions
    if lesions is None or any(lesion.frame is None for lesion in lesions):
        return
    if not lesions:
        yield volume
    for frame in sorted({lesion.frame for lesion in lesions if lesion.frame is not None}):
        shown = tuple(one for one in lesions if one.frame is not None and abs(one.frame - frame) <= IN_SIGHT)
        yield replace(
            volume, image=f"{volume.image}.f{frame}", frame=frame, lesions=shown, malignant=_truth(volume, shown)
        )


def _truth(volume: Record, shown: Sequence[Lesion]) -> bool | None:
    """Of a breast with cancer, a slab without it is no example of either."""
    return volume.malignant if not volume.malignant or any(lesion.malignant for lesion in shown) else None


def prepared_slab(record: Record, preparation: Preparation) -> tuple[Prepared, tuple[int, int]]:
    """The slab of a volume's record, and (rows, columns) of its frames. Raises `ImageError` where it cannot be had."""
    loaded = load_volume(as_image(record), preparation, Slabbing())
    if loaded.prepared is None or loaded.volume is None:
        raise ImageError(str(loaded.rejection))
    slabs, images = loaded.volume.slabs, loaded.volume.images
    of_frame = (i for i, one in enumerate(slabs) if record.frame is not None and record.frame <= one.core_last)
    anyone = crc32(record.image.encode()) % len(slabs)  # always the same: the prepared copy is kept
    chosen = next(of_frame, anyone)
    found = loaded.prepared.mask
    rows, columns = (round(side * scale) for side, scale in zip(found.mask.shape, found.scale[::-1], strict=True))
    return replace(loaded.prepared, pixels=images[chosen]), (rows, columns)
