"""Training a slab network: it learns, goes on after a stop to the same weights, and starts from a mammogram network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import Tensor, nn

import training.slab_networks.batches
import training.slab_networks.fit
from screening.errors import ConfigError
from screening.model.network import Architecture, MammogramNet
from screening.model.slab_network import SlabNet
from tests.support.slab_learning import Spot, slab_recipe, slab_volume
from training.fit import Report
from training.slab_networks.batches import SlabBatch
from training.slab_networks.fit import averaged_slab_network, begin_with, fit_slabs, slab_losses, steps_done
from training.slab_networks.recipe import SlabRecipe

CPU = torch.device("cpu")
VOLUMES = [slab_volume(Spot(160, 80, 20.0)), slab_volume(Spot(120, 60, 32.0, malignant=False), seed=1)]


@pytest.fixture(autouse=True)
def small_windows_and_frequent_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.slab_networks.batches, "WINDOW", 96)
    monkeypatch.setattr(training.slab_networks.batches, "MARGIN", 16)
    monkeypatch.setattr(training.slab_networks.fit, "EVERY", 2)


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def into(curve: dict[int, dict[str, float]]) -> Report:
    return lambda figures, step: curve.update({step: figures})


def fitted(recipe: SlabRecipe, checkpoint: Path, curve: dict[int, dict[str, float]], **options: Any) -> SlabNet:
    start: MammogramNet | None = options.pop("start", None)
    return fit_slabs(VOLUMES, recipe, start, checkpoint, device=CPU, report=into(curve), **options)


def mammogram_network(channels: int = 8) -> MammogramNet:
    torch.manual_seed(7)
    return MammogramNet(Architecture(channels=channels)).eval()


def test_a_stopped_run_goes_on_to_the_same_weights_and_curve_as_an_unbroken_one(tmp_path: Path) -> None:
    recipe, start = slab_recipe(steps=5), mammogram_network()
    expected: dict[int, dict[str, float]] = {}
    whole = weights(fitted(recipe, tmp_path / "whole.pt", expected, start=start))
    assert list(expected) == [2, 4, 5]
    curve: dict[int, dict[str, float]] = {}
    fitted(recipe, tmp_path / "broken.pt", curve, start=start, max_steps=3)
    assert steps_done(tmp_path / "broken.pt") == 2
    resumed = fitted(recipe, tmp_path / "broken.pt", curve, start=start, workers=1)
    assert same(whole, weights(resumed))
    assert curve == expected


def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, checkpoint, save = slab_recipe(steps=4), tmp_path / "killed.pt", torch.save
    whole = weights(fitted(recipe, tmp_path / "whole.pt", {}))

    def killed(content: dict[str, Any], stream: BinaryIO) -> None:
        if content["step"] == 2:
            save(content, stream)
        else:
            stream.write(b"half of it")
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            fitted(recipe, checkpoint, {})
    assert steps_done(checkpoint) == 2
    assert same(whole, weights(fitted(recipe, checkpoint, {})))


def test_a_checkpoint_of_another_recipe_is_no_place_to_go_on_from(tmp_path: Path) -> None:
    fitted(slab_recipe(steps=2), tmp_path / "checkpoint.pt", {})
    with pytest.raises(ConfigError, match="another state of the recipe; give another --out"):
        fitted(slab_recipe(steps=2, normal_weight=20), tmp_path / "checkpoint.pt", {})


def test_a_checkpoint_of_other_volumes_is_no_place_to_go_on_from(tmp_path: Path) -> None:
    recipe, checkpoint = slab_recipe(steps=2), tmp_path / "checkpoint.pt"
    fitted(recipe, checkpoint, {})
    with pytest.raises(ConfigError, match="another state of the data; give another --out"):
        fit_slabs(VOLUMES[:1], recipe, None, checkpoint, device=CPU, report=into({}))


def test_a_checkpoint_gives_back_the_averaged_network(tmp_path: Path) -> None:
    recipe, checkpoint = slab_recipe(steps=3), tmp_path / "c.pt"
    assert steps_done(checkpoint) == 0
    network = fitted(recipe, checkpoint, {})
    again = averaged_slab_network(checkpoint, recipe.architecture)
    assert steps_done(checkpoint) == 3
    assert not again.training
    assert not network.training
    assert same(weights(network), weights(again))
    last = torch.load(checkpoint, weights_only=True)["network"]
    assert not torch.equal(last["local.weight"], again.local.weight)


def test_members_of_other_seeds_see_other_windows(tmp_path: Path) -> None:
    curves: list[dict[int, dict[str, float]]] = [{}, {}, {}]
    for number, (seed, curve) in enumerate(zip((1, 2, 1), curves, strict=True)):
        fitted(slab_recipe(steps=1, seed=seed), tmp_path / f"{number}.pt", curve, start=mammogram_network())
    # All that answers of malignancy comes from the start, so that its loss tells windows apart and not first weights.
    first, other, again = (curve[1]["normal"] for curve in curves)
    assert first == again != other


def test_forty_steps_lower_the_losses_of_lesions_and_of_normal_tissue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.slab_networks.fit, "EVERY", 10)
    curve: dict[int, dict[str, float]] = {}
    fitted(
        slab_recipe(steps=40, batch_size=4, normal_weight=2, backbone_rate=2e-3, head_rate=1e-2),
        tmp_path / "c.pt",
        curve,
    )
    first, last = curve[10], curve[40]
    assert last["lesions"] + last["normal"] < 0.8 * (first["lesions"] + first["normal"])
    assert last["total"] == pytest.approx(last["lesions"] + 2 * last["normal"], rel=1e-5)


@pytest.mark.parametrize("neighbours", [0, 2])
def test_before_training_a_slab_is_read_as_a_mammogram_is_and_its_neighbours_have_no_say(neighbours: int) -> None:
    start = mammogram_network()
    network = SlabNet(slab_recipe(neighbours=neighbours).architecture).eval()
    begin_with(network, start)
    slabs = torch.rand(2, 2 * neighbours + 1, 96, 64, generator=torch.manual_seed(1))
    others = torch.rand(slabs.shape, generator=torch.manual_seed(2))
    others[:, neighbours] = slabs[:, neighbours]
    with torch.no_grad():
        answers, again, moved = network(slabs), network(others), network(1 - slabs)
        own, theirs = network.backbone(slabs), start.backbone(slabs[:, neighbours, None])
    for one, other, changed in zip(answers, again, moved, strict=True):
        assert torch.equal(one, other)
        assert not torch.allclose(one, changed)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(own, theirs[:2], strict=True))


def test_a_head_of_another_width_is_learned_anew_on_the_same_backbone() -> None:
    start = mammogram_network(channels=16)
    network = SlabNet(slab_recipe().architecture)
    before = weights(network)
    begin_with(network, start)
    after = weights(network)
    assert torch.equal(before["local.weight"], after["local.weight"])
    depthwise = "backbone.blocks.0.0.conv_dw.weight"
    assert torch.equal(after[depthwise], weights(start)[depthwise])
    assert not torch.equal(after[depthwise], before[depthwise])


def test_normal_tissue_has_the_recipes_weight_and_a_shadow_counts_among_lesions() -> None:
    zeros = torch.zeros(1, 4, 4)
    dense, weight = zeros.clone(), zeros.clone()
    dense[0, 0, 0], weight[0, 0, 0], weight[0, 3, 3] = 1.0, 1.0, 0.25
    says = torch.full((1, 4, 4), -50.0)
    says[0, 0, 0], says[0, 3, 3] = 50.0, 8.0
    batch = SlabBatch(torch.full((1, 3, 32, 32), 0.5), dense, weight)
    parts = slab_losses(Answer(says), batch, slab_recipe(normal_weight=7))
    assert parts["normal"] == pytest.approx(0, abs=1e-6)
    assert float(parts["lesions"]) == pytest.approx(0.25 * 8 / 1.25, rel=1e-3)
    says[0, 1, 1] = 8.0
    parts = slab_losses(Answer(says), batch, slab_recipe(normal_weight=7))
    assert float(parts["normal"]) == pytest.approx(0.5 * 8 / 4 + 0.5 * 8 / 14, rel=1e-3)
    assert float(parts["total"]) == pytest.approx(float(parts["lesions"] + 7 * parts["normal"]), rel=1e-5)


class Answer(nn.Module):
    """A network that says the same of every slab."""

    def __init__(self, malignancy: Tensor) -> None:
        super().__init__()
        self.malignancy = malignancy

    def forward(self, slabs: Tensor) -> Tensor:
        del slabs
        return self.malignancy


def test_nothing_is_learned_of_a_neighbours_breast() -> None:
    slabs = torch.zeros(1, 3, 32, 32)
    slabs[:, 0] = 0.5  # the breast of the slab below: air in the one that is read
    batch = SlabBatch(slabs, torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
    parts = slab_losses(Answer(torch.full((1, 4, 4), 9.0)), batch, slab_recipe())
    assert parts["total"] == parts["lesions"] == parts["normal"] == 0
