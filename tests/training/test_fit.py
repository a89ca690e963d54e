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
from training.batches import Samples
from training.fit import Report, averaged_network, fit, freeze_stages, rate_factor

CPU = torch.device("cpu")
GPU = torch.device("cuda")


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def quiet(figures: dict[str, float], epoch: int) -> None:
    del figures, epoch


def into(curve: dict[int, dict[str, float]]) -> Report:
    return lambda figures, epoch: curve.update({epoch: figures})


def test_fifty_steps_on_a_tiny_set_lower_the_loss(tmp_path: Path) -> None:
    curve: list[dict[str, float]] = []
    recipe = tiny_recipe(optimisation={"epochs": 10, "mixed_precision": True})
    fit(prepared_set(), recipe, tmp_path / "c.pt", device=CPU, report=lambda figures, _: curve.append(figures))
    assert torch.load(tmp_path / "c.pt", weights_only=True)["counters"][:2] == [10, 50]
    assert len(curve) == 10
    assert curve[-1]["train_total"] < 0.7 * curve[0]["train_total"]
    assert curve[-1]["train_dense"] < curve[0]["train_dense"]


@pytest.mark.parametrize("native", [False, True])
def test_only_devices_that_compute_in_bfloat16_are_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr("training.fit.bfloat16_pays", lambda _: native)
    kinds: set[torch.dtype] = set()

    def note(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            kinds.add(output.dtype)

    with nn.modules.module.register_module_forward_hook(note):
        recipe = tiny_recipe(optimisation={"mixed_precision": True})
        fit(prepared_set(), recipe, tmp_path / "c.pt", device=CPU, report=quiet, max_steps=1)
    assert kinds == {torch.bfloat16 if native else torch.float32}


@pytest.mark.parametrize("later", [False, True], ids=["first stage", "later stage"])
@pytest.mark.parametrize("steps", [4, 5, 9], ids=["within an epoch", "at its end", "in the last"])
def test_a_stopped_run_goes_on_to_the_same_weights_and_curve_as_an_unbroken_one(
    tmp_path: Path, steps: int, later: bool
) -> None:
    records, recipe = prepared_set(), tiny_recipe(pasted_lesions=0.5 if later else 0.0)
    assert bool(Samples(records, recipe.pasted_lesions).pasting.patches) == later
    start = MammogramNet(Architecture(recipe.backbone, recipe.channels)) if later else None
    expected: dict[int, dict[str, float]] = {}
    whole = fit(records, recipe, tmp_path / "whole.pt", device=CPU, report=into(expected), start=start)
    curve: dict[int, dict[str, float]] = {}
    for stop in (steps, None):
        resumed = fit(
            records,
            recipe,
            tmp_path / "broken.pt",
            device=CPU,
            report=into(curve),
            checkpoint_every=2,
            max_steps=stop,
            start=start,
        )
    assert same(weights(whole), weights(resumed))
    assert curve == expected


def test_an_epoch_that_was_stopped_at_its_report_is_reported_when_the_run_goes_on(tmp_path: Path) -> None:
    def stopped(figures: dict[str, float], epoch: int) -> None:
        raise KeyboardInterrupt

    records, recipe = prepared_set(8), tiny_recipe()
    with pytest.raises(KeyboardInterrupt):
        fit(records, recipe, tmp_path / "c.pt", device=CPU, report=stopped, checkpoint_every=1)
    curve: dict[int, dict[str, float]] = {}
    fit(records, recipe, tmp_path / "c.pt", device=CPU, report=into(curve))
    assert list(curve) == [1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_dropout_on_a_gpu_draws_after_a_stop_what_it_would_have_drawn_without(tmp_path: Path) -> None:
    states = []
    for name, stops in (("whole", (None,)), ("broken", (4, None))):
        for stop in stops:
            fit(
                prepared_set(),
                tiny_recipe(),
                tmp_path / name,
                device=GPU,
                report=quiet,
                validate=lambda _: {"select": float(torch.rand(1, device=GPU))},
                checkpoint_every=2,
                max_steps=stop,
            )
        states.append(torch.cuda.get_rng_state())
    assert torch.equal(*states)


def test_a_checkpoint_brings_back_the_state_of_every_gpus_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [torch.tensor([gpu], dtype=torch.uint8) for gpu in range(2)]
    restored: list[list[torch.Tensor]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.append)
    for _ in range(2):
        fit(prepared_set(8), tiny_recipe(), tmp_path / "c.pt", device=CPU, report=quiet)
    assert restored == [states]


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


def test_the_averaged_network_is_read_from_checkpoints_of_older_versions(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    network = fit(prepared_set(8), recipe, tmp_path / "c.pt", device=CPU, report=quiet)
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    torch.save({key: content[key] for key in ("network", "average", "optimiser", "random", "counters")}, tmp_path / "o")
    assert same(weights(network), weights(averaged_network(tmp_path / "o", recipe)))


def test_training_stops_when_validation_gets_no_better_and_gives_back_the_best(tmp_path: Path) -> None:
    epochs: list[int] = []
    judged: list[dict[str, torch.Tensor]] = []
    figures = iter([0.5, 0.6, 0.55, 0.6, 0.9])

    def validate(network: nn.Module) -> dict[str, float]:
        judged.append(weights(network))
        return {"select": next(figures)}

    recipe = tiny_recipe(optimisation={"epochs": 9, "patience": 2})
    for stop in (5, None, None):  # in the epoch after the best, then to the end, then with nothing left to do
        best = fit(
            prepared_set(8),
            recipe,
            tmp_path / "c.pt",
            device=CPU,
            report=lambda _, epoch: epochs.append(epoch),
            validate=validate,
            max_steps=stop,
        )
    assert epochs == [1, 2, 3, 4]
    assert not best.training
    assert [same(weights(best), one) for one in judged] == [False, True, False, False]
    assert same(weights(best), weights(averaged_network(tmp_path / "c.pt", recipe)))


def test_validation_leaves_the_weights_of_the_run_as_they_are(tmp_path: Path) -> None:
    judged: list[float] = []

    def validate(network: nn.Module) -> dict[str, float]:
        assert not network.training
        judged.append(float(torch.rand(1)))
        return {"select": float(len(judged))}  # the last is the best

    records, recipe = prepared_set(8), tiny_recipe()
    plain = weights(fit(records, recipe, tmp_path / "a.pt", device=CPU, report=quiet))
    watched = weights(fit(records, recipe, tmp_path / "b.pt", device=CPU, report=quiet, validate=validate))
    assert same(plain, watched)


def test_gradient_checkpointing_saves_memory_and_changes_no_weight_by_more_than_rounding(tmp_path: Path) -> None:
    saved = {False: 0, True: 0}
    found = []
    for on in saved:

        def count(tensor: torch.Tensor, on: bool = on) -> torch.Tensor:
            saved[on] += tensor.nbytes
            return tensor

        recipe = tiny_recipe(optimisation={"gradient_checkpointing": on, "epochs": 1})
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network = fit(prepared_set(8), recipe, tmp_path / f"{on}.pt", device=CPU, report=quiet, max_steps=1)
        found.append(weights(network))
    assert saved[True] < 0.7 * saved[False]
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
