"""What the network learns from: truth per image, truth per place, and breast density, in one sum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from screening.model.network import Output, smoothed
from training.batches import UNKNOWN, Batch
from training.recipe import LossWeights

TOP_CELLS = 4
"""The image's logit in training: mean of its highest cells. At inference it is the highest region's."""

HARD_SHARE = 0.02
"""Share of an image's normal cells, the highest-scored, that make up half of the loss on normal tissue: a false
positive is a single place, which a mean over all places would not feel."""

FINITE = -30.0
"""A logit for places outside the breast: never the highest, and still differentiable."""


@dataclass(frozen=True)
class Losses:
    """The parts (scalars) and their weighted sum."""

    total: Tensor
    image: Tensor
    context: Tensor
    dense: Tensor
    density: Tensor


def losses(output: Output, batch: Batch, weights: LossWeights) -> Losses:
    """The loss of a batch; a part that no sample of the batch has truth for is 0."""
    inside = within_breast(batch.images, (output.local.shape[-2], output.local.shape[-1]))
    image = image_loss(image_logits(output.malignancy, inside), batch.malignant)
    # The whole breast has to say by itself what it knows: beside the places it would learn nothing.
    context = image_loss(output.context, batch.malignant)
    dense = dense_loss(output.malignancy, batch.dense, batch.lesion_weight, inside, weights.normal)
    density = density_loss(output.density, batch.density)
    total = weights.image * (image + context) + weights.dense * dense + weights.density * density
    return Losses(total, image.detach(), context.detach(), dense.detach(), density.detach())


def within_breast(images: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.adaptive_avg_pool2d((images > 0).float(), size)[:, 0] > 0.25


def image_logits(malignancy: Tensor, inside: Tensor) -> Tensor:
    """Malignancy logits (N, h, w) to one an image (N,): the mean of the highest smoothed cells inside the breast."""
    cells = torch.where(inside, smoothed(malignancy), malignancy.new_tensor(FINITE)).flatten(1)
    return cells.topk(min(TOP_CELLS, cells.shape[1]), dim=1).values.mean(dim=1)


def image_loss(logits: Tensor, malignant: Tensor) -> Tensor:
    """Binary cross-entropy over the images (N,) whose truth is known."""
    known = malignant != UNKNOWN
    if not known.any():
        return logits.sum() * 0
    # A little label smoothing: a breast read as negative is not certain to be one.
    target = malignant[known] * 0.96 + 0.02
    return functional.binary_cross_entropy_with_logits(logits[known], target)


def dense_loss(
    malignancy: Tensor, target: Tensor, lesion_weight: Tensor, inside: Tensor, normal_weight: float
) -> Tensor:
    """Cross-entropy of malignancy logits (N, h, w): the mean over lesions, plus `normal_weight` times the mean over
    images of normal tissue.

    `lesion_weight` sums to 1 over each lesion. Of normal tissue, the hardest places count as much as all together;
    only images in which all lesions are marked say what is normal.
    """
    loss = functional.binary_cross_entropy_with_logits(malignancy, target.clamp(min=0), reduction="none")
    lesions = lesion_weight.sum()
    total = (loss * lesion_weight).sum() / lesions.clamp(min=1)
    return total + normal_weight * normal_loss(loss, (target == 0) & inside)


def normal_loss(loss: Tensor, normal: Tensor) -> Tensor:
    """Mean over the images that have normal tissue: of their cells' `loss` (N, h, w), the hardest counting as much as
    all together. `normal`: bool, of the same shape.
    """
    has_normal = normal.flatten(1).any(1)
    if not has_normal.any():
        return loss.sum() * 0
    cells = torch.where(normal, loss, 0.0).flatten(1)
    count = normal.flatten(1).sum(1).clamp(min=1)
    hard = torch.stack(
        [row.topk(max(4, int(HARD_SHARE * int(n)))).values.mean() for row, n in zip(cells, count, strict=True)]
    )
    return 0.5 * hard[has_normal].mean() + 0.5 * (cells.sum(1) / count)[has_normal].mean()


def density_loss(logits: Tensor, density: Tensor) -> Tensor:
    """Cross-entropy over the images (N,) with a density category, neighbours smoothed: readers differ by one."""
    known = density >= 0
    if not known.any():
        return logits.sum() * 0
    classes = torch.arange(logits.shape[1], device=logits.device)
    target = torch.exp(-1.5 * (classes[None] - density[known][:, None]).abs().float())
    return functional.cross_entropy(logits[known], target / target.sum(1, keepdim=True))
