"""Packed weights: small, close to what they were, and the same network."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from screening.model.network import Architecture, Ensemble, MammogramNet
from screening.model.weights import SMALLEST, pack, unpack

shapes = st.tuples(st.integers(1, 6), st.integers(1, 8), st.sampled_from([1, 3]), st.sampled_from([1, 3]))


@given(shape=shapes, size=st.floats(1e-6, 1e4), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_a_weight_moves_at_most_half_a_step_of_its_own_filter(
    shape: tuple[int, int, int, int], size: float, seed: int
) -> None:
    filters = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    again = unpack(pack({"w": filters}))["w"]
    largest = filters.flatten(1).abs().amax(1)
    moved = (again - filters).flatten(1).abs().amax(1)
    steps = 254 if filters[0].numel() >= SMALLEST else 2048
    # Half precision has a smallest number of its own.
    assert (moved <= largest / steps * 1.01 + 2**-24).all()


def test_filters_of_zeros_norms_biases_and_counters_come_back_exactly() -> None:
    state = {
        "zeros": torch.zeros(3, 32, 1, 1),
        "bias": torch.randn(32),
        "running_var": torch.rand(8) + 1e-7,
        "counter": torch.tensor(7),
    }
    again = unpack(pack(state))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) and again[name].dtype == state[name].dtype for name in state)


def test_packing_twice_changes_nothing_more() -> None:
    once = unpack(pack({"w": torch.randn(4, 32, 3, 3)}))
    torch.testing.assert_close(unpack(pack(once))["w"], once["w"], rtol=1e-6, atol=0)


def test_the_networks_answers_hardly_move_and_its_weights_take_a_third_of_float32() -> None:
    torch.manual_seed(1)
    network = Ensemble([MammogramNet(Architecture("test_efficientnet", 32, 64))]).eval()
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.weight.data.uniform_(0.5, 1.5)
    images = torch.rand(2, 1, 96, 64)
    packed = pack(network.state_dict())
    with torch.inference_mode():
        before: Tensor = network(images).malignancy
        network.load_state_dict(unpack(packed))
        after: Tensor = network(images).malignancy
    assert (before - after).abs().max() < 0.05 * before.std()

    def size(state: dict[str, Tensor]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in state.values())

    assert size(packed) < 0.4 * size(network.state_dict())


def test_a_filter_without_its_scales_is_an_error() -> None:
    packed = pack({"w": torch.randn(4, 32)})
    del packed["w/scale"]
    with pytest.raises(KeyError):
        unpack(packed)
