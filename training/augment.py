"""Augmentation of 16-bit mammograms as physics allows: pose, exposure, vendor-like grey curves, noise, covered labels.

No left-right mirroring: prepared breasts all have their chest wall on the left, and the model never sees another. A
CC view may be turned upside down (medial and lateral change places); an MLO may not, its pectoral muscle lies on top.
"""

from __future__ import annotations

import albumentations as A
import numpy as np
import numpy.typing as npt

from screening.exam import View


def augmentation(view: View) -> A.Compose:
    """The pipeline for a view. Takes `image` float32 (rows, columns, 1) in [0, 1] and `mask` uint8 (rows, columns)."""
    return A.Compose(
        [
            A.VerticalFlip(p=0.5 if view is View.CC else 0.0),
            A.Affine(
                scale=(0.85, 1.2),
                rotate=(-12, 12),
                shear={"x": (-4, 4), "y": (-4, 4)},
                translate_percent={"x": (-0.04, 0.04), "y": (-0.08, 0.08)},
                p=0.9,
            ),
            A.RandomGamma(gamma_limit=(65, 155), p=0.6),
            A.RandomBrightnessContrast(brightness_limit=0.08, contrast_limit=0.2, p=0.5),
            A.OneOf([A.GaussianBlur(sigma_limit=(0.3, 0.9), p=1.0), A.Sharpen(alpha=(0.1, 0.4), p=1.0)], p=0.25),
            A.GaussNoise(std_range=(0.005, 0.025), p=0.4),
            A.CoarseDropout(
                num_holes_range=(1, 3), hole_height_range=(0.02, 0.06), hole_width_range=(0.02, 0.08), p=0.2
            ),
        ]
    )


def augmented(
    pixels: npt.NDArray[np.float32], lesions: npt.NDArray[np.uint8], view: View, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Augment an image in [0, 1] and its lesion labels, (rows, columns), alike; the same seed gives the same result.

    Several images that lie over one another, (rows, columns, images), are augmented alike but for their noise.
    Air stays exactly 0, since the network tells the breast from its surroundings by that.
    """
    pipeline = augmentation(view)
    pipeline.set_random_seed(seed)
    # One seed for all would let every step draw the same number: either all of them happen, or none.
    for step, own in zip(pipeline.transforms, np.random.default_rng(seed).integers(2**31, size=99), strict=False):
        step.set_random_seed(int(own))
    stacked = pixels.reshape(*lesions.shape, -1)
    air = (stacked[..., stacked.shape[-1] // 2] <= 0).astype(np.uint8)
    out = pipeline(image=stacked, masks=[lesions, 1 - air])
    inside = out["masks"][1] > 0
    image = np.where(inside[..., None], np.clip(out["image"], 1e-3, 1.0), 0)
    return image.astype(np.float32).reshape(pixels.shape), out["masks"][0]
