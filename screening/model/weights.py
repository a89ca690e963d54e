"""How a bundle keeps its weights: large filters in 8 bits, small ones in half precision, the rest as they are.

One scale for each filter of a layer (symmetric, rounded to nearest) keeps the answers of convolutional networks
practically unchanged (Krishnamoorthi 2018, arXiv:1806.08342, section 3). Only storage is small: the network computes
with the weights unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = "/scale"
"""What is added to a packed filter's name for the tensor of its scales, float32 (filters,)."""

SMALLEST = 16
"""Weights a filter from which on 8 bits pay: depthwise filters are few, and each of their weights counts."""

STEPS = 127


def pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are stored; `unpack` is the way back."""
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim > 1 and tensor[0].numel() >= SMALLEST and torch.isfinite(tensor).all():
            scale = tensor.detach().flatten(1).abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / STEPS
            packed[name] = torch.round(tensor.detach() / _along(scale, tensor)).to(torch.int8).contiguous()
            packed[name + SCALE] = scale.contiguous()
        else:
            packed[name] = (tensor.half() if tensor.ndim > 1 else tensor).contiguous()
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float32 as a network takes them. Raises `KeyError` where the scales of a filter are missing."""
    state: dict[str, Tensor] = {}
    for name, tensor in packed.items():
        if name.endswith(SCALE):
            continue
        if tensor.dtype is torch.int8:
            state[name] = tensor.float() * _along(packed[name + SCALE], tensor)
        else:
            state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def _along(scale: Tensor, filters: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (filters.ndim - 1))
