"""One image from its file to the network's input, or to the reason why it is not scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from screening.errors import ImageError
from screening.exam import Image
from screening.imaging.decode import load_display
from screening.imaging.prepare import Preparation, Prepared, prepare
from screening.imaging.quality import assess, laterality_conflict
from screening.imaging.reduce import reduced
from screening.imaging.slabs import Slab
from screening.result import Reason, Rejection, Status

PREVIEW_ROWS = 1000
"""Height of the picture of an image that the report shows."""


@dataclass(frozen=True)
class PreparedVolume:
    """A volume as the network reads it. `slabs`: where each is; `images`: float32 (slabs, rows, columns), as of
    `Prepared`, all on one scale. `positions_mm`: of each place (see `Stack`).
    `previews`: uint8 (places, rows, columns), every frame as displayed, reduced, in source orientation;
    `preview_scale`: their pixels per source pixel, (column, row).
    """

    slabs: tuple[Slab, ...]
    images: npt.NDArray[np.float32]
    positions_mm: tuple[float, ...]
    previews: npt.NDArray[np.uint8]
    preview_scale: tuple[float, float]


@dataclass(frozen=True)
class LoadedImage:
    """An image ready to be scored (`prepared` and `preview` are set), or not (`rejection` says why).

    Of a volume, `prepared` is its middle slab, and `preview` the maximum of its frames.
    """

    image: Image
    status: Status
    prepared: Prepared | None = None
    preview: npt.NDArray[np.uint8] | None = None
    rejection: Rejection | None = None
    warnings: tuple[str, ...] = ()
    volume: PreparedVolume | None = None


def load_image(image: Image, preparation: Preparation) -> LoadedImage:
    """Decode, check and prepare one image. What is wrong with it becomes its rejection or failure, never an error."""
    try:
        pixels = load_display(image.path, threads=1)  # several images are loaded at once
    except ImageError as error:
        return unscored(image, Status.FAILED, Reason.UNREADABLE, f"{image.path.name}: {error}")
    if pixels.min() == pixels.max():
        return unscored(image, Status.REJECTED, Reason.CONSTANT, "all pixels have the same value")
    try:
        upside_down = len(image.patient_orientation) == 2 and image.patient_orientation[1].startswith("H")
        prepared = prepare(pixels, image.pixel_spacing_mm, preparation, flip_y=upside_down)
    except ImageError as error:
        return unscored(image, Status.REJECTED, Reason.NO_BREAST, str(error))
    conflict = laterality_conflict(prepared, image)
    warnings = (*image.warnings, *([conflict] if conflict else []), *assess(pixels, prepared, image))
    return LoadedImage(image, Status.SCORED, prepared, preview(pixels, prepared.mask.inverted), None, warnings)


def unscored(image: Image, status: Status, code: Reason, sentence: str) -> LoadedImage:
    """An image that ends here, with its reason."""
    return LoadedImage(image, status, rejection=Rejection(code, sentence), warnings=image.warnings)


def preview(pixels: npt.NDArray[np.integer], inverted: bool) -> npt.NDArray[np.uint8]:
    """The whole image (rows, columns) as a small grey picture, uint8, dark background, in source orientation."""
    scale = min(1.0, PREVIEW_ROWS / pixels.shape[0])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = reduced(pixels, size)
    low, high = np.percentile(small[::4, ::4], [0.5, 99.9])
    grey: npt.NDArray[np.uint8] = np.clip(
        (small.astype(np.float32) - low) * (255 / max(1.0, high - low)), 0, 255
    ).astype(np.uint8)
    return 255 - grey if inverted else grey
