"""A training run: it learns, and a killed one goes on to the very same weights."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from screening.errors import ConfigError
from screening.model.network import Architecture, MammogramNet
from tests.support.learning import prepared_set, tiny_recipe
from training.fit import averaged_network, fit, freeze_stages, rate_factor

CPU = torch.device("cpu")


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def quiet(figures: dict[str, float], epoch: int) -> None:
    del figures, epoch


def test_fifty_steps_on_a_tiny_set_lower_the_loss(tmp_path: Path) -> None:
    curve: list[dict[str, float]] = []
    recipe = tiny_recipe(optimisation={"epochs": 10, "mixed_precision": True})
    fit(prepared_set(), recipe, tmp_path / "c.pt", device=CPU, report=lambda figures, _: curve.append(figures))
    assert len(curve) == 10
    assert curve[-1]["train_total"] < 0.7 * curve[0]["train_total"]
    assert curve[-1]["train_dense"] < curve[0]["train_dense"]


@pytest.mark.parametrize("steps", [4, 5, 9], ids=["within an epoch", "at its end", "in the last"])
def test_a_stopped_run_goes_on_to_the_same_weights_as_an_unbroken_one(tmp_path: Path, steps: int) -> None:
    records, recipe = prepared_set(), tiny_recipe()
    whole = fit(records, recipe, tmp_path / "whole.pt", device=CPU, report=quiet)
    for stop in (steps, None):
        resumed = fit(
            records, recipe, tmp_path / "broken.pt", device=CPU, report=quiet, checkpoint_every=2, max_steps=stop
        )
    assert same(weights(whole), weights(resumed))


KILLED = """
import io, os, signal, sys
from pathlib import Path
import torch
from tests.support.learning import prepared_set, tiny_recipe
from training.fit import fit

written, save = [], torch.save

def killed_while_writing(content, stream):
    written.append(1)
    if len(written) < 3:
        return save(content, stream)
    whole = io.BytesIO()
    save(content, whole)
    stream.write(whole.getvalue()[: whole.tell() // 2])
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)

torch.save = killed_while_writing
torch.set_num_threads(1)
fit(prepared_set(), tiny_recipe(), Path(sys.argv[1]), device=torch.device("cpu"), report=lambda *_: None,
    checkpoint_every=2)
"""


def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(tmp_path: Path) -> None:
    records, recipe = prepared_set(), tiny_recipe()
    checkpoint = tmp_path / "killed.pt"
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(checkpoint)], cwd=root, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    before = torch.load(checkpoint, weights_only=True)["counters"][1]
    assert 0 < before < 10
    resumed = fit(records, recipe, checkpoint, device=CPU, report=quiet)
    whole = fit(records, recipe, tmp_path / "whole.pt", device=CPU, report=quiet)
    assert same(weights(whole), weights(resumed))


def test_a_checkpoint_gives_back_the_averaged_network(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    network = fit(prepared_set(), recipe, tmp_path / "c.pt", device=CPU, report=quiet)
    again = averaged_network(tmp_path / "c.pt", recipe)
    assert not again.training
    assert same(weights(network), weights(again))
    with pytest.raises(ConfigError, match="no such checkpoint"):
        averaged_network(tmp_path / "none.pt", recipe)


def test_training_stops_when_validation_gets_no_better(tmp_path: Path) -> None:
    epochs: list[int] = []
    recipe = tiny_recipe(optimisation={"epochs": 9, "patience": 2})
    figures = iter([0.5, 0.6, 0.55, 0.6, 0.9])
    fit(
        prepared_set(8),
        recipe,
        tmp_path / "c.pt",
        device=CPU,
        report=lambda _, epoch: epochs.append(epoch),
        validate=lambda _: {"select": next(figures)},
    )
    assert epochs == [1, 2, 3, 4]


def test_validation_leaves_the_weights_of_the_run_as_they_are(tmp_path: Path) -> None:
    def validate(network: nn.Module) -> dict[str, float]:
        assert not network.training
        torch.rand(7)
        return {"select": 0.0}

    records, recipe = prepared_set(8), tiny_recipe()
    plain = weights(fit(records, recipe, tmp_path / "a.pt", device=CPU, report=quiet))
    watched = weights(fit(records, recipe, tmp_path / "b.pt", device=CPU, report=quiet, validate=validate))
    assert same(plain, watched)


def test_gradient_checkpointing_changes_no_weight_by_more_than_rounding(tmp_path: Path) -> None:
    records = prepared_set(8)
    found = [
        weights(
            fit(
                records,
                tiny_recipe(optimisation={"gradient_checkpointing": on, "epochs": 1}),
                tmp_path / f"{on}.pt",
                device=CPU,
                report=quiet,
                max_steps=1,
            )
        )
        for on in (False, True)
    ]
    learned = [name for name in found[0] if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-4) for name in learned)


def test_frozen_stages_keep_their_weights_and_the_others_learn(tmp_path: Path) -> None:
    torch.manual_seed(2026)
    recipe = tiny_recipe(optimisation={"frozen_stages": 2})
    start = MammogramNet(Architecture(recipe.backbone, recipe.channels)).state_dict()
    end = fit(prepared_set(), recipe, tmp_path / "c.pt", device=CPU, report=quiet).state_dict()
    network = MammogramNet(Architecture(recipe.backbone, recipe.channels))
    freeze_stages(network, 2)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert any("blocks.1." in name for name in frozen)
    assert not any("blocks.2." in name for name in frozen)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            assert torch.equal(start[name], end[name]) == (name in frozen), name


def test_the_learning_rate_rises_then_falls_to_a_hundredth() -> None:
    rates = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=0.001)
