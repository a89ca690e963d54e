"""Losses: what is not known teaches nothing, and a small lesion teaches as much as a large one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from screening.model.network import Output
from training.batches import UNKNOWN, Batch
from training.losses import dense_loss, density_loss, image_logits, image_loss, losses
from training.recipe import LossWeights

ROWS, COLUMNS = 12, 8


def a_batch(number: int = 1, **parts: Tensor) -> Batch:
    """Breasts that fill their images, and of which nothing is known."""
    content = {
        "images": torch.full((number, 1, 8 * ROWS, 8 * COLUMNS), 0.5),
        "dense": torch.full((number, ROWS, COLUMNS), UNKNOWN),
        "lesion_weight": torch.zeros(number, ROWS, COLUMNS),
        "malignant": torch.full((number,), UNKNOWN),
        "density": torch.full((number,), -1),
    }
    return Batch(**(content | parts))


def an_output(number: int = 1) -> Output:
    torch.manual_seed(0)
    return Output(
        torch.randn(number, ROWS, COLUMNS, requires_grad=True),
        torch.randn(number, requires_grad=True),
        torch.randn(number, 4, requires_grad=True),
    )


def gradient(of: Tensor, by: Tensor) -> Tensor:
    return torch.autograd.grad(of, by, retain_graph=True, allow_unused=True)[0]


def test_a_batch_of_which_nothing_is_known_moves_nothing() -> None:
    output = an_output(2)
    found = losses(output, a_batch(2), LossWeights())
    assert found.total.item() == 0
    for tensor in (output.local, output.context, output.density):
        assert not gradient(found.total, tensor).any()


def test_places_without_truth_give_no_gradient() -> None:
    output = an_output()
    target = torch.zeros(1, ROWS, COLUMNS)
    target[:, :, 4:] = UNKNOWN
    inside = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    moved = gradient(dense_loss(output.local, target, torch.zeros_like(target), inside, 1.0), output.local)
    assert not moved[:, :, 4:].any()
    assert (moved[:, :, :4] > 0).all()


def test_places_outside_the_breast_give_no_gradient() -> None:
    output, batch = an_output(), a_batch(dense=torch.zeros(1, ROWS, COLUMNS), malignant=torch.tensor([1.0]))
    batch.images[..., 32:] = 0
    moved = gradient(losses(output, batch, LossWeights()).total, output.local)
    # The image's logit averages 3×3 cells, so a cell beside the breast has a part in it, but none further away.
    assert not moved[:, :, 5:].any()
    assert moved[:, :, :4].any()


@pytest.mark.parametrize("side", [2, 3, 6])
def test_a_small_lesion_teaches_as_much_as_a_large_one(side: int) -> None:
    local = torch.zeros(1, ROWS, COLUMNS, requires_grad=True)
    target = torch.full((1, ROWS, COLUMNS), UNKNOWN)
    weight = torch.zeros(1, ROWS, COLUMNS)
    small, large = (0, 0, 0), (0, slice(4, 4 + side), slice(1, 1 + side))
    for place, cells in ((small, 1), (large, side**2)):
        target[place] = 1.0
        weight[place] = 1 / cells
    moved = gradient(dense_loss(local, target, weight, torch.ones(1, ROWS, COLUMNS, dtype=torch.bool), 1.0), local)
    assert moved[small].item() == pytest.approx(moved[large].sum().item())
    assert moved[small].item() < 0


def test_normal_tissue_teaches_as_much_as_its_weight_says() -> None:
    output = an_output()
    target, weight = torch.zeros(1, ROWS, COLUMNS), torch.zeros(1, ROWS, COLUMNS)
    target[0, 1, 1] = weight[0, 1, 1] = 1.0
    once, often = (losses(output, a_batch(dense=target, lesion_weight=weight), LossWeights(normal=n)) for n in (1, 20))
    lesion = functional.softplus(-output.malignancy[0, 1, 1])
    assert (often.dense - lesion).item() == pytest.approx(20 * (once.dense - lesion).item(), rel=1e-4)


def test_the_hardest_normal_places_teach_most() -> None:
    local = torch.full((1, ROWS, COLUMNS), -4.0)
    local[0, 3, 3] = 2.0
    local.requires_grad_()
    target = torch.zeros(1, ROWS, COLUMNS)
    moved = gradient(
        dense_loss(local, target, torch.zeros_like(target), torch.ones(1, ROWS, COLUMNS, dtype=torch.bool), 1.0), local
    )
    others = moved.sum() - moved[0, 3, 3]
    assert moved[0, 3, 3] > 5 * others


def test_an_image_of_unknown_truth_moves_neither_its_context_nor_its_places() -> None:
    output = an_output(2)
    batch = a_batch(2, malignant=torch.tensor([1.0, UNKNOWN]))
    total = losses(output, batch, LossWeights()).total
    for tensor in (output.local, output.context):
        moved = gradient(total, tensor)
        assert moved[0].any()
        assert not moved[1].any()


def test_truth_per_image_raises_or_lowers_its_highest_place_and_its_context() -> None:
    for truth, sign in ((1.0, -1), (0.0, 1)):
        output = an_output()
        total = losses(output, a_batch(malignant=torch.tensor([truth])), LossWeights()).total
        assert (gradient(total, output.context) * sign > 0).all()
        assert (gradient(total, output.local) * sign >= 0).all()


def test_the_images_logit_ignores_what_lies_outside_the_breast() -> None:
    malignancy = torch.full((1, ROWS, COLUMNS), -3.0)
    malignancy[0, 0, 7] = 50.0
    inside = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    inside[:, :, 4:] = False
    assert image_logits(malignancy, inside).item() == pytest.approx(-3.0)


def test_the_image_loss_is_least_at_the_truth() -> None:
    logits = torch.tensor([3.0, -3.0])
    right = image_loss(logits, torch.tensor([1.0, 0.0]))
    assert right < image_loss(logits, torch.tensor([0.0, 0.0])) < image_loss(logits, torch.tensor([0.0, 1.0]))


def test_density_learns_from_labelled_images_only_and_forgives_a_neighbour_most() -> None:
    logits = an_output(2).density
    moved = gradient(density_loss(logits, torch.tensor([2, -1])), logits)
    assert moved[0].any()
    assert not moved[1].any()
    wrong = [density_loss(5 * torch.eye(4)[[said]], torch.tensor([1])).item() for said in range(4)]
    assert wrong[1] < min(wrong[0], wrong[2])
    assert max(wrong[0], wrong[2]) < wrong[3]
