"""One tomosynthesis volume from its file or files to slabs for the network, or to the reason why it is not scored."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from screening.errors import ImageError
from screening.exam import Image
from screening.imaging.load import PREVIEW_ROWS, LoadedImage, PreparedVolume, unscored
from screening.imaging.prepare import Cut, Preparation, Prepared, cut_out, normalised
from screening.imaging.quality import laterality_conflict
from screening.imaging.reduce import reduced
from screening.imaging.slabs import Slabbing, cut_slabs, project
from screening.imaging.volume import Frame, Volume, open_volume
from screening.result import Reason, Status


def load_volume(image: Image, preparation: Preparation, slabbing: Slabbing) -> LoadedImage:
    """Decode, check and prepare one volume. What is wrong with it becomes its rejection or failure, never an error.

    The breast is found on the middle frame and cut out of all of them. Frames are reduced one by one as they are
    decoded, so that a volume never lies in memory at full size.
    """
    try:
        with open_volume(image) as volume:
            return _load(volume, image, preparation, slabbing)
    except ImageError as error:
        return unscored(image, Status.FAILED, Reason.UNREADABLE, f"{image.path.name}: {error}")


def _load(volume: Volume, image: Image, preparation: Preparation, slabbing: Slabbing) -> LoadedImage:
    middle = volume.frame(volume.middle)
    if middle.min() == middle.max():
        return unscored(image, Status.REJECTED, Reason.CONSTANT, "all pixels of the middle frame have the same value")
    try:
        cut, conflict = _cut(middle, image, preparation)
    except ImageError as error:
        return unscored(image, Status.REJECTED, Reason.NO_BREAST, str(error))
    frames, previews = _reduced(volume, middle, cut)
    stack = volume.stack
    slabs = cut_slabs(stack.positions_mm, stack.spacing_mm, slabbing)
    try:
        projected = np.stack([project(frames, slab, slabbing.projection) for slab in slabs])
        images = normalised(projected, cut.inside, preparation)
    except ImageError as error:
        return unscored(image, Status.REJECTED, Reason.NO_BREAST, str(error))
    scale = previews.shape[2] / middle.shape[1], previews.shape[1] / middle.shape[0]
    return LoadedImage(
        image,
        Status.SCORED,
        Prepared(images[len(images) // 2], cut.inside, cut.geometry, cut.mask),
        previews.max(axis=0),
        warnings=(*image.warnings, *conflict, *stack.warnings),
        volume=PreparedVolume(slabs, images, stack.positions_mm, previews, scale),
    )


def _cut(middle: Frame, image: Image, preparation: Preparation) -> tuple[Cut, tuple[str, ...]]:
    """Where the breast is, and a warning if the header's side contradicts the pixels.

    Without a Patient Orientation that says otherwise, such a volume is taken to be turned by 180 degrees, as the
    publishers of BCS-DBT (Buda et al. 2021) found of theirs: the network sees it upright, regions stay where they are
    stored.
    """
    orientation = image.patient_orientation
    upside_down = len(orientation) == 2 and orientation[1].startswith("H")
    cut = cut_out(middle, image.pixel_spacing_mm, preparation, upside_down)
    conflict = laterality_conflict(cut, image)
    if conflict is None:
        return cut, ()
    if orientation:
        return cut, (conflict,)
    turned = cut_out(middle, image.pixel_spacing_mm, preparation, flip_y=True)
    return turned, (f"{conflict} It was read as turned by 180 degrees; check the side before acting on it.",)


def _reduced(volume: Volume, middle: Frame, cut: Cut) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """All frames as prepared pixels, uint16 (places, rows, columns), and as previews, uint8 (places, rows, columns)."""
    places = len(volume.stack.order)
    frames = np.empty((places, cut.geometry.rows, cut.geometry.columns), np.uint16)
    scale = min(1.0, PREVIEW_ROWS / middle.shape[0])
    size = (max(1, round(middle.shape[1] * scale)), max(1, round(middle.shape[0] * scale)))
    previews = np.empty((places, size[1], size[0]), np.uint8)
    low, high = np.percentile(reduced(middle, size)[::4, ::4], [0.5, 99.9])  # one grey scale for all frames
    for place, frame in enumerate(volume.frames()):
        if frame.shape != middle.shape:
            raise ImageError(f"frame {place + 1} has another size than the others; the series holds several volumes")
        frames[place] = np.rint(cut.resampled(frame))
        above = np.maximum(reduced(frame, size).astype(np.float32) - low, 0)  # the next saturates at 255
        grey = cv2.convertScaleAbs(above, alpha=255 / max(1.0, high - low))
        previews[place] = 255 - grey if cut.mask.inverted else grey
    return frames, previews
