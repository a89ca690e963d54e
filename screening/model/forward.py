"""One image or volume through the networks: from prepared pixels to maps of logits and a density."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from screening.model.bundle import Bundle
from screening.model.network import MammogramNet, smoothed
from screening.model.slab_network import with_neighbours
from screening.regions import OUTSIDE


def forward(
    pixels: npt.NDArray[np.float32], bundle: Bundle, half: bool = False
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Run the network on prepared pixels (rows, columns), zero outside the breast. `half`: compute in bfloat16.

    Returns the logits, float32 (rows, columns) at the network's stride, smoothed, `OUTSIDE` beyond the breast, and the
    probabilities of the densities A to D, float32 (4,).
    """
    images = _padded(pixels[None], bundle)
    with torch.inference_mode(), torch.autocast(bundle.device.type, torch.bfloat16, enabled=half):
        output = bundle.network(images)
        logits = smoothed(output.malignancy)[0].cpu().numpy()
        density = torch.softmax(output.density[0], dim=0).cpu().numpy()
    return np.where(_inside(images, logits.shape), logits, OUTSIDE), density


@dataclass(frozen=True)
class SlabAnswers:
    """What is said of the slabs of a volume.

    `logits`: float32 (slabs, rows, columns) at the network's stride, `OUTSIDE` beyond the breast; those of a slab
    network are not smoothed, as the slabs above and below show what is one hot cell alone. `density`: float32 (4,),
    probabilities of A to D.
    """

    logits: npt.NDArray[np.float32]
    density: npt.NDArray[np.float32]


def forward_slabs(images: npt.NDArray[np.float32], bundle: Bundle, half: bool = False) -> SlabAnswers:
    """Run the networks on the slabs of a volume, float32 (slabs, rows, columns), zero outside the breast.

    Density was learned, and is defined, on projections: with a slab network it is that of the mean over all slabs.
    """
    reader, scale = bundle.for_slabs, bundle.calibration.slabs
    if bundle.slabs is None or scale is None:
        answers = [forward(image, reader, half) for image in images]
        density = np.mean([one for _, one in answers], axis=0)
        return SlabAnswers(np.stack([one for one, _ in answers]), density)
    logits = []
    for number in range(len(images)):
        seen = _padded(with_neighbours(images, [number], bundle.slabs.architecture.neighbours)[0], bundle)
        with torch.inference_mode(), torch.autocast(bundle.device.type, torch.bfloat16, enabled=half):
            malignancy = bundle.slabs(seen)
        found = scale.slope * malignancy[0].cpu().numpy() + np.float32(scale.intercept)
        middle = seen[:, seen.shape[1] // 2, None]
        logits.append(np.where(_inside(middle, found.shape), found, OUTSIDE).astype(np.float32))
    _, density = forward(images.mean(axis=0), reader, half)
    return SlabAnswers(np.stack(logits), density)


def _padded(images: npt.NDArray[np.float32], bundle: Bundle) -> Tensor:
    """Images that lie over one another, (images, rows, columns), as one input (1, images, …) with sides that fit."""
    multiple = MammogramNet.MULTIPLE
    count, rows, columns = images.shape
    padded = np.zeros((count, -(-rows // multiple) * multiple, -(-columns // multiple) * multiple), np.float32)
    padded[:, :rows, :columns] = images
    return torch.from_numpy(padded)[None].to(bundle.device, memory_format=torch.channels_last)


def _inside(images: Tensor, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Cells of a map of `shape` (rows, columns) that are breast."""
    breast = (images[0, 0] > 0).float().cpu().numpy()
    return np.asarray(cv2.resize(breast, shape[::-1], interpolation=cv2.INTER_AREA) > 0.25)
