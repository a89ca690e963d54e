"""One image through the network: from prepared pixels to a map of logits and a density."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch

from screening.model.bundle import Bundle
from screening.model.network import MammogramNet, smoothed
from screening.regions import OUTSIDE


def forward(
    pixels: npt.NDArray[np.float32], bundle: Bundle, half: bool = False
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Run the network on prepared pixels (rows, columns), zero outside the breast. `half`: compute in bfloat16.

    Returns the logits, float32 (rows, columns) at the network's stride, smoothed, `OUTSIDE` beyond the breast, and the
    probabilities of the densities A to D, float32 (4,).
    """
    rows, columns = pixels.shape
    multiple = MammogramNet.MULTIPLE
    padded = np.zeros((-(-rows // multiple) * multiple, -(-columns // multiple) * multiple), np.float32)
    padded[:rows, :columns] = pixels
    images = torch.from_numpy(padded)[None, None].to(bundle.device, memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast(bundle.device.type, torch.bfloat16, enabled=half):
        output = bundle.network(images)
        logits = smoothed(output.malignancy)[0].cpu().numpy()
        density = torch.softmax(output.density[0], dim=0).cpu().numpy()
    inside = cv2.resize((padded > 0).astype(np.float32), logits.shape[::-1], interpolation=cv2.INTER_AREA) > 0.25
    return np.where(inside, logits, OUTSIDE), density
