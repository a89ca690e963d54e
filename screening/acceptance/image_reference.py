"""What the training images looked like: quantiles that a site's images are compared with, in a small JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from screening.acceptance.measures import NAMES
from screening.errors import BundleError

REFERENCE = "training-images.json"
"""Lies beside a bundle's other files, but is not one of those that the bundle's hash stands for: it describes the data
that the weights learned from and has no say in any score, and measuring it anew must not make another model."""

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Of the quantiles."""

SPACING = "pixel_spacing_mm"
"""Of the source image, the larger of both directions; in `ImageGroup.quantiles` beside the measures."""

_SIZE_LIMIT = 1_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageGroup(_Strict):
    """Images of one data set, or of all. `quantiles`: by measure, at `LEVELS`. `bits`: images by bits per pixel."""

    images: int = Field(ge=1)
    quantiles: dict[str, tuple[float, ...]]
    bits: dict[int, int]
    manufacturers: dict[str, int]

    @model_validator(mode="after")
    def _is_whole(self) -> ImageGroup:
        if set(self.quantiles) != {SPACING, *NAMES}:
            raise ValueError(f"quantiles must be those of {', '.join((SPACING, *NAMES))}")
        for name, values in self.quantiles.items():
            if len(values) != len(LEVELS) or list(values) != sorted(values):
                raise ValueError(f"quantiles.{name} must be {len(LEVELS)} rising numbers")
        return self


class ImageReference(_Strict):
    """`training-images.json`: the images that a model learned from, prepared at `prepared_mm` per pixel."""

    prepared_mm: float = Field(gt=0)
    all: ImageGroup
    by_set: dict[str, ImageGroup]


def image_group(
    values: Mapping[str, Sequence[float]], bits: Mapping[int, int], manufacturers: Mapping[str, int]
) -> ImageGroup:
    """The quantiles of one group of images; `values`: one number an image for `SPACING` and each of the measures."""
    return ImageGroup(
        images=len(values[SPACING]),
        quantiles={name: tuple(float(f"{q:.5g}") for q in np.quantile(values[name], LEVELS)) for name in values},
        bits=dict(sorted(bits.items())),
        manufacturers=dict(sorted(manufacturers.items())),
    )


def save_reference(reference: ImageReference, folder: Path) -> Path:
    """Write `training-images.json` into a bundle's folder: the same bytes for the same images."""
    path = folder / REFERENCE
    path.write_text(json.dumps(reference.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    return path


def load_reference(folder: Path) -> ImageReference | None:
    """The reference beside a bundle, None where it has none. Raises `BundleError` where it is malformed."""
    path = folder / REFERENCE
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise BundleError(f"{path}: is no reference of training images, it is too long; measure it again")
        return ImageReference.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise BundleError(f"{path}: {key}: {first['msg']}; measure it again (docs/train.md)") from error
