"""The network that reads the slabs of a tomosynthesis volume: where each looks malignant.

A slab is read with its neighbours above and below: out of its plane a finding is blurred, and a single slab does not
say where the plane is (networks that see a slice among its neighbours: Roth et al. 2014, arXiv:1406.2639).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from screening.model.network import joined

Pixel = TypeVar("Pixel", np.float32, np.uint16)


@dataclass(frozen=True)
class SlabArchitecture:
    """What a slab network's weights are shaped for.

    `backbone`: a timm EfficientNet, of which the first `stages` are used; `channels`: width of the dense head;
    `neighbours`: slabs seen above and below the one that is read.
    """

    backbone: str = "tf_efficientnet_lite0"
    stages: int = 5
    channels: int = 64
    neighbours: int = 2

    @property
    def inputs(self) -> int:
        """Slabs that are seen at once."""
        return 2 * self.neighbours + 1


class SlabNet(nn.Module):
    """Slabs with their neighbours (N, inputs, rows, columns) in [0, 1], sides multiples of 16, to malignancy logits.

    The dense head joins features of strides 8 and 16 (Lin et al. 2017). The answer is (N, rows/8, columns/8).
    """

    def __init__(self, architecture: SlabArchitecture) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            architecture.backbone,
            pretrained=False,
            features_only=True,
            out_indices=(2, 3),
            in_chans=architecture.inputs,
        )
        self.backbone.blocks = self.backbone.blocks[: architecture.stages]  # type: ignore[index]  # timm's own
        fine, coarse = self.backbone.feature_info.channels()  # type: ignore[union-attr, operator]  # timm's own
        channels = architecture.channels
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in (fine, coarse))
        self.smooth = joined(channels)
        self.local = nn.Conv2d(channels, 1, 1)
        # Malignant places are rare: start from their odds, so that the first steps don't shake the backbone.
        nn.init.constant_(self.local.bias, -4.0)  # type: ignore[arg-type]  # a 1×1 convolution with a bias

    def forward(self, slabs: Tensor) -> Tensor:
        fine, coarse = self.backbone((slabs - 0.5) / 0.5)
        lifted = functional.interpolate(self.laterals[1](coarse), size=fine.shape[-2:], mode="nearest")
        logits: Tensor = self.local(self.smooth(lifted + self.laterals[0](fine)))
        return logits[:, 0].float()


class SlabEnsemble(nn.Module):
    """Slab networks that answer together: the mean of their maps, place by place."""

    def __init__(self, members: Sequence[SlabNet], architecture: SlabArchitecture) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.architecture = architecture

    def forward(self, slabs: Tensor) -> Tensor:
        return torch.stack([member(slabs) for member in self.members]).mean(0)


def with_neighbours(images: npt.NDArray[Pixel], numbers: Sequence[int], neighbours: int) -> npt.NDArray[Pixel]:
    """The slabs `numbers` of a volume's `images`, (slabs, rows, columns), each with its neighbours.

    (numbers, 2 neighbours + 1, rows, columns); beyond either end the last slab stands again.
    """
    offsets = np.arange(-neighbours, neighbours + 1)
    return images[np.clip(np.asarray(numbers)[:, None] + offsets, 0, len(images) - 1)]
