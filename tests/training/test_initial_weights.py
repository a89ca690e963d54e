"""ImageNet's weights: every tensor of the backbone is filled, and the network computes what the published one does."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from screening.errors import ConfigError
from screening.model.network import Architecture, MammogramNet
from tests.support.peers import needs_package
from training.initial_weights import PACKAGE, load_imagenet_lite0, translate_lite0

pytestmark = needs_package(PACKAGE)

REPEATS_AND_STRIDES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""Blocks of each stage and the stride of its first (Tan and Le 2019, table 1; Lite0 keeps B0's)."""


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    file = next(Path(spec.origin).parent.rglob("*.pth"))
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def test_every_tensor_of_the_backbone_is_filled(published: dict[str, Tensor]) -> None:
    backbone = MammogramNet(Architecture()).backbone
    with torch.no_grad():
        for tensor in backbone.state_dict().values():
            tensor.fill_(7)
    load_imagenet_lite0(backbone)
    state = backbone.state_dict()
    unfilled = [name for name, tensor in state.items() if "num_batches" not in name and (tensor == 7).all()]
    assert unfilled == []
    translated = translate_lite0(published)
    assert all(translated[name].shape == tensor.shape for name, tensor in state.items())


def test_the_layer_over_the_backbone_is_filled_too(published: dict[str, Tensor]) -> None:
    network = MammogramNet(Architecture())
    load_imagenet_lite0(network.backbone, network.whole)
    state = network.whole.state_dict()
    assert torch.equal(state["0.weight"], published["_conv_head.weight"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(state[f"1.{name}"], published[f"_bn1.{name}"])


def test_the_network_computes_what_the_published_weights_say(published: dict[str, Tensor]) -> None:
    backbone = MammogramNet(Architecture()).backbone.eval()
    load_imagenet_lite0(backbone)
    torch.manual_seed(0)
    grey = torch.rand(1, 1, 96, 64) * 2 - 1
    with torch.inference_mode():
        ours = backbone(grey)[-1]
        theirs = peer(published, grey.expand(-1, 3, -1, -1))
    assert ours.shape == theirs.shape
    assert ours.std() > 0.05
    assert torch.allclose(ours, theirs, atol=1e-4)


def peer(weights: Mapping[str, Tensor], colour: Tensor) -> Tensor:
    """EfficientNet-Lite0 up to its last stage, written from its paper and straight on the published names."""

    def convolve(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        groups = x.shape[1] // kernel.shape[1]
        # "Same" padding as TensorFlow does it: what is odd goes to the right and below.
        sides = []
        for size, side in ((x.shape[3], kernel.shape[3]), (x.shape[2], kernel.shape[2])):
            total = max((-(-size // stride) - 1) * stride + side - size, 0)
            sides += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, sides), kernel, stride=stride, groups=groups)

    def normalise(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, bias = (
            weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * scale + bias

    def relu6(x: Tensor) -> Tensor:
        return x.clamp(0, 6)

    x = relu6(normalise(convolve(colour, "_conv_stem", 2), "_bn0"))
    index = 0
    for repeats, first_stride in REPEATS_AND_STRIDES:
        for repeat in range(repeats):
            block, stride, before = f"_blocks.{index}", first_stride if repeat == 0 else 1, x
            if f"{block}._expand_conv.weight" in weights:
                x = relu6(normalise(convolve(x, f"{block}._expand_conv"), f"{block}._bn0"))
            x = relu6(normalise(convolve(x, f"{block}._depthwise_conv", stride), f"{block}._bn1"))
            x = normalise(convolve(x, f"{block}._project_conv"), f"{block}._bn2")
            if stride == 1 and x.shape == before.shape:
                x = x + before
            index += 1
    return x


def test_another_backbone_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no EfficientNet-Lite0"):
        load_imagenet_lite0(nn.Sequential(nn.Conv2d(1, 4, 3)))
