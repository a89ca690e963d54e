"""The training loop: mixed precision, averaged weights, checkpoints that a killed run goes on from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from screening.errors import ConfigError
from screening.model.network import Architecture, MammogramNet
from screening.model.precision import bfloat16_pays
from training.batches import Batch, Collate, EpochOrder, Samples, load_batches
from training.cache import PreparedRecord
from training.initial_weights import load_imagenet_lite0
from training.losses import losses
from training.recipe import Recipe

# Batches come in many sizes, and oneDNN compiles each of some hundred operators for each: keep them all.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "20000")

Report = Callable[[dict[str, float], int], None]
"""Takes named figures and the epoch (from 1)."""

Validate = Callable[[nn.Module], dict[str, float]]
"""Scores the averaged network on held-out women; its figure "select" (higher is better) decides on early stopping."""


@dataclass
class Fit:
    """A run in the making: everything a checkpoint has to hold.

    `sums`: the losses, summed over the epoch's steps so far. `best_average`: the average's state when `best` was found.
    """

    network: MammogramNet
    average: AveragedModel
    optimiser: AdamW
    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    since_best: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_average: dict[str, Tensor] = field(default_factory=dict)


def fit(
    records: Sequence[PreparedRecord],
    recipe: Recipe,
    checkpoint: Path,
    *,
    device: torch.device,
    report: Report,
    validate: Validate | None = None,
    workers: int = 0,
    checkpoint_every: int = 100,
    max_steps: int | None = None,
    start: MammogramNet | None = None,
) -> MammogramNet:
    """Train on `records` and return the averaged network in evaluation mode; with `validate`, that of the best epoch.

    A checkpoint is written every `checkpoint_every` steps and after each epoch; where one lies at `checkpoint`, the
    run goes on from there and, on one machine and one thread count, ends with the same weights as an unbroken one:
    order and augmentation are functions of (seed, epoch), and the states of the dropout's generators are kept. An epoch
    may be reported twice: what a killed run did after its last checkpoint is done again.
    `max_steps` ends the run early. `start`: a network whose weights to go on from instead of the recipe's initial ones.
    """
    settings = recipe.optimisation
    state = _begin(recipe, device, start)
    if checkpoint.exists():
        _restore(state, checkpoint, device)
    repeats = {source.name: source.repeat for source in recipe.data}
    order = EpochOrder(records, settings.batch_size, recipe.negatives_per_positive, recipe.seed, repeats)
    collate = Collate(
        recipe.losses.benign_target,
        frozenset(source.name for source in recipe.data if source.places_only),
        frozenset(source.name for source in recipe.data if not source.density),
        {source.name: source.benign_target for source in recipe.data if source.benign_target is not None},
    )
    total = settings.epochs * order.steps
    samples = Samples(records, recipe.pasted_lesions)
    with training_progress() as progress:
        task = progress.add_task("", total=total, completed=state.step, loss=math.nan)
        while state.epoch < settings.epochs and not _out_of_patience(state, recipe):
            before = state.epoch * order.steps
            batches = order.batches(state.epoch)[state.step - before :]
            for batch in load_batches(samples, batches, collate, workers):
                for name, value in _step(state, batch, recipe, total, device).items():
                    state.sums[name] = state.sums.get(name, 0.0) + value
                progress.update(
                    task,
                    advance=1,
                    description=f"epoch {state.epoch + 1}/{settings.epochs}",
                    loss=state.sums["total"] / (state.step - before),
                )
                if state.step % checkpoint_every == 0:
                    _save(state, checkpoint)
                if max_steps is not None and state.step >= max_steps:
                    return _finished(state)
            figures = {f"train_{name}": value / order.steps for name, value in state.sums.items()}
            if validate is not None:
                figures |= _validated(state, validate)
            # First the report: of an epoch that a checkpoint counts as done, it would never come again.
            report(figures, state.epoch + 1)
            state.epoch, state.sums = state.epoch + 1, {}
            _save(state, checkpoint)
    if state.best_average:
        state.average.load_state_dict(state.best_average)
    return _finished(state)


def averaged_network(checkpoint: Path, recipe: Recipe) -> MammogramNet:
    """The averaged network of a checkpoint, of the best epoch if there was validation, in evaluation mode on the CPU.

    Raises `ConfigError` if there is no checkpoint.
    """
    if not checkpoint.is_file():
        raise ConfigError(f"{checkpoint}: there is no such checkpoint; train first")
    content: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = MammogramNet(Architecture(recipe.backbone, recipe.channels))
    prefix = "module."
    average: dict[str, Tensor] = content.get("best_average") or content["average"]
    network.load_state_dict({k.removeprefix(prefix): v for k, v in average.items() if k.startswith(prefix)})
    return network.eval()


def between(start: MammogramNet, end: MammogramNet, kept: float) -> MammogramNet:
    """A network with weights between those of two, in evaluation mode; `kept`: share of `start`'s."""
    network, before = deepcopy(end), start.state_dict()
    weights = network.state_dict()
    for name, weight in weights.items():
        if weight.is_floating_point():
            weights[name] = torch.lerp(weight, before[name].to(weight.device), kept)
    network.load_state_dict(weights)
    return network.eval()


def _begin(recipe: Recipe, device: torch.device, start: MammogramNet | None = None) -> Fit:
    torch.manual_seed(recipe.seed)
    network = MammogramNet(Architecture(recipe.backbone, recipe.channels))
    if start is not None:
        network.load_state_dict(start.state_dict())
    elif recipe.initial_weights == "imagenet-lite0":
        load_imagenet_lite0(network.backbone, network.whole)
    settings = recipe.optimisation
    freeze_stages(network, settings.frozen_stages)
    network.backbone.set_grad_checkpointing(settings.gradient_checkpointing)  # type: ignore[operator]
    # Channels last is the layout that CPU and GPU kernels for depthwise convolutions are written for.
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaging = get_ema_multi_avg_fn(settings.average_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
    if device.type == "cpu" and in_bfloat16(recipe, device):
        depthwise_in_float32(network)
    return Fit(network, average, AdamW(_parameter_groups(network, recipe)))


def freeze_stages(network: MammogramNet, stages: int) -> None:
    """Keep the weights of the stem and of the first `stages` stages: edges look alike in photographs and mammograms.

    Their batch norms still follow the data's statistics. It also spares the costliest part of the backward pass.
    """
    if not stages:
        return
    frozen = ("conv_stem", "bn1", *(f"blocks.{stage}." for stage in range(stages)))
    for name, parameter in network.backbone.named_parameters():
        if name.startswith(frozen):
            parameter.requires_grad = False


def in_bfloat16(recipe: Recipe, device: torch.device) -> bool:
    """Whether to compute in bfloat16: where the recipe wants it and the device has it.

    Others imitate it, far more slowly than they compute in float32.
    """
    return recipe.optimisation.mixed_precision and bfloat16_pays(device)


def depthwise_in_float32(network: nn.Module) -> None:
    """Let depthwise convolutions compute in float32 under bfloat16 autocast on a CPU.

    oneDNN's bfloat16 backward pass of depthwise convolutions is slow: a training step of EfficientNet-Lite0 took
    0.15 s an image with it and 0.10 s without (two cores with AVX-512 BF16).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = partial(_float32_forward, module)  # type: ignore[method-assign]


def _float32_forward(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return type(convolution).forward(convolution, features.float())


def _parameter_groups(network: MammogramNet, recipe: Recipe) -> list[dict[str, Any]]:
    """Backbone and heads at their own rates; no weight decay on norms and biases."""
    settings = recipe.optimisation
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate = settings.backbone_rate if name.startswith(("backbone.", "whole.")) else settings.head_rate
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]


def rate_factor(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a linear rise, then half a cosine down to a hundredth."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def _step(state: Fit, batch: Batch, recipe: Recipe, total: int, device: torch.device) -> dict[str, float]:
    settings = recipe.optimisation
    state.network.train()
    for group in state.optimiser.param_groups:
        group["lr"] = group["peak"] * rate_factor(state.step, total, settings.warmup)
    batch = _to(batch, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(recipe, device)):
        output = state.network(batch.images)
    parts = losses(output, batch, recipe.losses)
    state.optimiser.zero_grad(set_to_none=True)
    parts.total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip_norm)
    state.optimiser.step()
    state.average.update_parameters(state.network)
    state.step += 1
    return {name: float(getattr(parts, name).detach()) for name in ("total", "image", "context", "dense", "density")}


def _to(batch: Batch, device: torch.device) -> Batch:
    moved = [tensor.to(device) for tensor in (batch.dense, batch.lesion_weight, batch.malignant, batch.density)]
    return Batch(batch.images.to(device, memory_format=torch.channels_last), *moved)


def _validated(state: Fit, validate: Validate) -> dict[str, float]:
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        figures = validate(_finished(state))
    if figures["select"] > state.best:
        state.best, state.since_best = figures["select"], 0
        state.best_average = deepcopy(state.average.state_dict())
    else:
        state.since_best += 1
    return figures


def _out_of_patience(state: Fit, recipe: Recipe) -> bool:
    patience = recipe.optimisation.patience
    return bool(patience) and state.since_best >= patience


def _finished(state: Fit) -> MammogramNet:
    network = state.average.module
    assert isinstance(network, MammogramNet)
    return network.eval()


def _save(state: Fit, checkpoint: Path) -> None:
    content: dict[str, Any] = {
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all(),
        "counters": [state.epoch, state.step, state.best, state.since_best],
        "sums": state.sums,
        "best_average": state.best_average,
    }
    write_checkpoint(content, checkpoint)


def write_checkpoint(content: dict[str, Any], checkpoint: Path) -> None:
    """Write a checkpoint that is complete or not there at all."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    part = checkpoint.with_suffix(".part")
    with part.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(checkpoint)


def _restore(state: Fit, checkpoint: Path, device: torch.device) -> None:
    content: dict[str, Any] = torch.load(checkpoint, map_location=device, weights_only=True)
    state.network.load_state_dict(content["network"])
    state.average.load_state_dict(content["average"])
    state.optimiser.load_state_dict(content["optimiser"])
    torch.set_rng_state(content["random"].cpu())
    torch.cuda.set_rng_state_all([one.cpu() for one in content["random_cuda"]][: torch.cuda.device_count()])
    state.epoch, state.step, state.best, state.since_best = content["counters"]
    state.sums, state.best_average = content["sums"], content["best_average"]


def training_progress() -> Progress:
    return Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
