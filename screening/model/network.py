"""The network: a timm backbone, a dense malignancy head and a density head.

The malignancy logit of a place is the sum of what the place itself looks like (`local`) and of what the whole breast
looks like (`context`, one number an image). So the image's evidence raises all its regions alike, and the image's
score stays the score of a region: nothing is scored that cannot be pointed at. Learning places from image labels
through pooling follows multiple-instance learning (Ilse et al. 2018; for mammograms Shen et al. 2021, GMIC).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

DENSITIES = ("A", "B", "C", "D")
"""BI-RADS breast composition categories, 5th edition, in the order of the density head's outputs."""


@dataclass(frozen=True)
class Architecture:
    """What a bundle's weights are shaped for.

    `backbone`: a timm model name; `channels`: width of the dense head; `whole`: features of the breast as a whole.
    """

    backbone: str = "tf_efficientnet_lite0"
    channels: int = 64
    whole: int = 1280


@dataclass(frozen=True)
class Output:
    """What the network says of a batch.

    `local`: (N, rows/8, columns/8) logits. `context`: (N,) logits. `density`: (N, 4) logits, A to D.
    """

    local: Tensor
    context: Tensor
    density: Tensor

    @property
    def malignancy(self) -> Tensor:
        """Malignancy logits, (N, rows/8, columns/8)."""
        return self.local + self.context[:, None, None]


class MammogramNet(nn.Module):
    """One-channel mammograms (N, 1, rows, columns) in [0, 1], sides multiples of 32, to an `Output`.

    The dense head joins features of strides 8, 16 and 32 from the top down (Lin et al. 2017) and answers at stride 8.
    """

    STRIDE = 8
    MULTIPLE = 32

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            architecture.backbone, pretrained=False, features_only=True, out_indices=(2, 3, 4), in_chans=1
        )
        widths: list[int] = self.backbone.feature_info.channels()  # type: ignore[union-attr, operator]  # timm's own
        channels = architecture.channels
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.smooth = joined(channels)
        self.local = nn.Conv2d(channels, 1, 1)
        whole = architecture.whole
        self.whole = nn.Sequential(
            nn.Conv2d(widths[-1], whole, 1, bias=False), nn.BatchNorm2d(whole, eps=1e-3), nn.ReLU6(inplace=True)
        )
        self.dropout = nn.Dropout(0.5)
        self.context = nn.Linear(whole, 1)
        self.density = nn.Linear(whole, len(DENSITIES))
        # Malignant places are rare: start from their odds, so that the first steps don't shake the backbone.
        nn.init.constant_(self.local.bias, -4.0)  # type: ignore[arg-type]  # a 1×1 convolution with a bias
        for linear in (self.context, self.density):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, images: Tensor) -> Output:
        inside = (images > 0).float()
        fine, middle, coarse = self.backbone((images - 0.5) / 0.5)
        merged = self.laterals[2](coarse)
        for lateral, features in ((self.laterals[1], middle), (self.laterals[0], fine)):
            merged = functional.interpolate(merged, size=features.shape[-2:], mode="nearest") + lateral(features)
        local = self.local(self.smooth(merged))[:, 0].float()
        pooled = self.dropout(_pool(self.whole(coarse).float(), inside))
        return Output(local, self.context(pooled)[:, 0].float(), self.density(pooled).float())


def joined(channels: int) -> nn.Sequential:
    """What a dense head makes of features that were joined from several strides: a separable 3×3 convolution."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class Ensemble(nn.Module):
    """Networks of one architecture that answer together: the mean of their logits, place by place.

    The folds of a cross-validation make one: each member learned from other women, and what only one of them sees
    counts less (Lakshminarayanan et al. 2017). Where training has `stages`, the members are those of the first fold in
    the order of the stages, then those of the next. Density is answered by the last stage's alone: the ones before it
    stopped when cancer against no cancer was learned, which is too early for density.
    """

    def __init__(self, members: Sequence[MammogramNet], stages: int = 1) -> None:
        super().__init__()
        if len(members) % stages:
            raise ValueError(f"{len(members)} networks are not those of {stages} stages each")
        self.members = nn.ModuleList(members)
        self.stages = stages

    def forward(self, images: Tensor) -> Output:
        outputs: list[Output] = [member(images) for member in self.members]
        return Output(
            torch.stack([output.local for output in outputs]).mean(0),
            torch.stack([output.context for output in outputs]).mean(0),
            torch.stack([output.density for output in outputs[self.stages - 1 :: self.stages]]).mean(0),
        )

    def last_stage(self) -> Ensemble:
        """The networks of the last stage, by themselves."""
        members: list[MammogramNet] = list(self.members)  # type: ignore[arg-type]  # a ModuleList forgets of what
        return Ensemble(members[self.stages - 1 :: self.stages])


def _pool(features: Tensor, inside: Tensor) -> Tensor:
    """Generalised mean (p = 3) of non-negative features (N, C, h, w) over the breast: (N, C).

    Between the mean, which a small lesion hardly moves, and the maximum, which learns from one place only
    (Radenović et al. 2018).
    """
    weight = functional.adaptive_avg_pool2d(inside, (features.shape[-2], features.shape[-1]))
    cubes = (features.clamp(min=1e-3) ** 3 * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp(min=1e-3)
    return cubes.clamp(min=1e-9) ** (1 / 3)


def smoothed(malignancy: Tensor) -> Tensor:
    """Average logits (N, h, w) over 3×3 cells, edges replicated: one hot cell alone makes no region."""
    padded = functional.pad(malignancy[:, None], (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(padded, 3, stride=1)[:, 0]
