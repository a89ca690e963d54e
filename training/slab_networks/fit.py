"""The training loop of a slab network: windows drawn at random, averaged weights, a checkpoint to go on from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from screening.errors import ConfigError
from screening.model.network import MammogramNet
from screening.model.slab_network import SlabArchitecture, SlabNet
from training.fit import Report, rate_factor, training_progress, write_checkpoint
from training.losses import normal_loss, within_breast
from training.slab_networks.batches import SlabBatch, SlabSamples, load_slabs
from training.slab_networks.recipe import SlabRecipe
from training.slab_networks.volumes import SlabVolume

EVERY = 100
"""Steps between checkpoints, and between reports."""


@dataclass
class _Run:
    network: SlabNet
    average: AveragedModel
    optimiser: AdamW
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)


def fit_slabs(
    volumes: Sequence[SlabVolume],
    recipe: SlabRecipe,
    start: MammogramNet | None,
    checkpoint: Path,
    *,
    device: torch.device,
    report: Report,
    workers: int = 0,
    max_steps: int | None = None,
) -> SlabNet:
    """Train on `volumes` and return the averaged network in evaluation mode.

    `start`: a network for mammograms of the same backbone, whose weights to begin with. Where a checkpoint lies at
    `checkpoint`, the run goes on from there and, on one machine and one thread count, ends with the same weights as an
    unbroken one: step n always draws the same windows. `report` takes the means over the last `EVERY` steps, and the
    step. `max_steps` ends the run early.
    """
    run, of = _begin(recipe, start, device), _made_of(recipe, volumes)
    if checkpoint.exists():
        _restore(run, checkpoint, of, device)
    samples = SlabSamples(volumes, recipe.architecture.neighbours, recipe.benign_target)
    last = min(recipe.steps, max_steps or recipe.steps)
    seeds = [_seeds(recipe, step) for step in range(run.step, last)]
    with training_progress() as progress:
        task = progress.add_task("slabs", total=recipe.steps, completed=run.step, loss=float("nan"))
        for batch in load_slabs(samples, seeds, workers):
            for name, value in _step(run, batch, recipe, device).items():
                run.sums[name] = run.sums.get(name, 0.0) + value
            done = run.step % EVERY or EVERY
            progress.update(task, advance=1, loss=run.sums["total"] / done)
            if run.step % EVERY == 0 or run.step == recipe.steps:
                report({name: value / done for name, value in run.sums.items()}, run.step)
                run.sums = {}
                _save(run, checkpoint, of)
    return finished(run.average)


def finished(average: AveragedModel) -> SlabNet:
    """The averaged network, in evaluation mode."""
    network = average.module
    assert isinstance(network, SlabNet)
    return network.eval()


def averaged_slab_network(checkpoint: Path, architecture: SlabArchitecture) -> SlabNet:
    """The averaged network of a checkpoint, in evaluation mode on the CPU."""
    content: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    average = AveragedModel(SlabNet(architecture), use_buffers=True)
    average.load_state_dict(content["average"])
    return finished(average)


def steps_done(checkpoint: Path) -> int:
    """How far a training has come; 0 without a checkpoint."""
    if not checkpoint.exists():
        return 0
    content: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return int(content["step"])


def begin_with(network: SlabNet, start: MammogramNet) -> None:
    """Take over what a network for mammograms knows: a slab is like one, and its neighbours have no say at first."""
    own, theirs = network.state_dict(), start.state_dict()
    for name, weight in own.items():
        source = theirs.get(name)
        if source is None:
            continue
        if source.shape == weight.shape:
            weight.copy_(source)
        elif name == "backbone.conv_stem.weight":
            weight.zero_()
            weight[:, weight.shape[1] // 2] = source[:, 0]


def slab_losses(network: nn.Module, batch: SlabBatch, recipe: SlabRecipe) -> dict[str, Tensor]:
    """Malignancy of lesions, of normal tissue, and their weighted sum."""
    malignancy = network(batch.slabs)
    inside = within_breast(batch.slabs[:, batch.slabs.shape[1] // 2, None], tuple(malignancy.shape[-2:]))
    off = functional.binary_cross_entropy_with_logits(malignancy, batch.dense.clamp(min=0), reduction="none")
    lesions = (off * batch.lesion_weight).sum() / batch.lesion_weight.sum().clamp(min=1)
    normal = normal_loss(off, (batch.dense == 0) & (batch.lesion_weight == 0) & inside)
    total = lesions + recipe.normal_weight * normal
    return {"total": total, "lesions": lesions.detach(), "normal": normal.detach()}


def _begin(recipe: SlabRecipe, start: MammogramNet | None, device: torch.device) -> _Run:
    torch.manual_seed(recipe.seed)
    network = SlabNet(recipe.architecture)
    if start is not None:
        begin_with(network, start)
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaging = get_ema_multi_avg_fn(recipe.average_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
    heads = [p for name, p in network.named_parameters() if not name.startswith("backbone.")]
    groups = [
        {"params": list(network.backbone.parameters()), "lr": recipe.backbone_rate, "peak": recipe.backbone_rate},
        {"params": heads, "lr": recipe.head_rate, "peak": recipe.head_rate},
    ]
    return _Run(network, average, AdamW(groups, weight_decay=recipe.weight_decay))


def _step(run: _Run, batch: SlabBatch, recipe: SlabRecipe, device: torch.device) -> dict[str, float]:
    run.network.train()
    for group in run.optimiser.param_groups:
        group["lr"] = group["peak"] * rate_factor(run.step, recipe.steps, recipe.warmup)
    slabs = batch.slabs.to(device, memory_format=torch.channels_last)
    moved = SlabBatch(slabs, batch.dense.to(device), batch.lesion_weight.to(device))
    parts = slab_losses(run.network, moved, recipe)
    run.optimiser.zero_grad(set_to_none=True)
    parts["total"].backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip_norm)
    run.optimiser.step()
    run.average.update_parameters(run.network)
    run.step += 1
    return {name: float(value.detach()) for name, value in parts.items()}


def _seeds(recipe: SlabRecipe, step: int) -> list[int]:
    rng = np.random.default_rng([recipe.seed, step])
    return [int(seed) for seed in rng.integers(0, 2**31, recipe.batch_size)]


def _made_of(recipe: SlabRecipe, volumes: Sequence[SlabVolume]) -> dict[str, str]:
    """What a checkpoint has to agree with: the recipe, and the volumes with their truth, in order."""
    told = [(one.record.dataset, one.record.image, one.record.malignant, one.record.lesions) for one in volumes]
    return {"recipe": recipe.learned_with(), "data": hashlib.sha256(repr(told).encode()).hexdigest()}


def _save(run: _Run, checkpoint: Path, of: dict[str, str]) -> None:
    content = {
        "network": run.network.state_dict(),
        "average": run.average.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "step": run.step,
        **of,
    }
    write_checkpoint(content, checkpoint)


def _restore(run: _Run, checkpoint: Path, of: dict[str, str], device: torch.device) -> None:
    content: dict[str, Any] = torch.load(checkpoint, map_location=device, weights_only=True)
    for name, own in of.items():
        if content.get(name) != own:
            raise ConfigError(
                f"{checkpoint}: was made with another state of the {name}; give another --out, or go back to that one"
            )
    run.network.load_state_dict(content["network"])
    run.average.load_state_dict(content["average"])
    run.optimiser.load_state_dict(content["optimiser"])
    run.step = content["step"]
