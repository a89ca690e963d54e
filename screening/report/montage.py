"""The key frames of an exam's volumes as the report shows them: in the order to look at, with marks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from screening.exam import ImageKind
from screening.report.figures import picture_paths, viewed
from screening.report.frames import FrameFiles, read_key_frames
from screening.report.pictures import ExamPictures, Picture, data_uri, mark
from screening.result import ExamResult, ImageResult, Status

TILES = 4
"""Key frames of a volume that the page shows; all of them are in the folder of pictures."""


@dataclass(frozen=True)
class Montage:
    """One volume's key frames. `frames`: how many it has; `chosen`: how many are to be looked at; `more`: those, from
    1, that are not shown. `depth`: the map of frames, None where it is not in the output folder.
    """

    label: str
    frames: int
    chosen: int
    tiles: tuple[Picture, ...]
    more: tuple[int, ...]
    depth: Picture | None


def montages(out: Path, result: ExamResult) -> tuple[Montage, ...]:
    """The montages of an exam's scored volumes, in the order of its images; pixels are not needed."""
    pictures = ExamPictures(out, result)
    return tuple(
        _montage(out, result.exam_id, one, pictures)
        for one in result.images
        if one.image.kind is ImageKind.DBT and one.status is Status.SCORED
    )


def _montage(out: Path, exam_id: str, result: ImageResult, pictures: ExamPictures) -> Montage:
    files = FrameFiles(picture_paths(out, exam_id, result.image.image_id).plain)
    keys = read_key_frames(files)
    tiles = [
        _tile(files.frame(frame), f"{number}. frame {frame + 1}", result, regions, pictures)
        for number, (frame, regions) in enumerate(keys[:TILES], start=1)
    ]
    depth = _tile(files.depth, "frame map", result, (), pictures)
    return Montage(
        label=viewed(result.image.laterality, result.image.view),
        frames=result.image.frames,
        chosen=len(keys),
        tiles=tuple(tile for tile in tiles if tile is not None),
        more=tuple(frame + 1 for frame, _ in keys[TILES:]),
        depth=depth,
    )


def _tile(
    path: Path, label: str, result: ImageResult, region_ids: tuple[str, ...], pictures: ExamPictures
) -> Picture | None:
    plain = data_uri(path, "image/jpeg")
    if not plain:
        return None
    image, shown = result.image, [region for region in result.regions if region.region_id in region_ids]
    turn = pictures.turn(image)
    return Picture(
        label=label,
        plain=plain,
        turn=turn,
        columns=image.columns,
        rows=image.rows,
        share=100.0,
        score=max((region.score for region in shown), default=result.score),
        marks=tuple(mark(region, image, turn) for region in shown),
    )
