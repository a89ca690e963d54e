"""MLflow: a run says what was trained on what and how well it did, and its bundle can be scored with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evaluation.manifest import git_commit
from tests.support.learning import record, tiny_recipe
from tests.training.conftest import Validated, run
from training.plots import extreme_women
from training.recipe import load_recipe
from training.tracking import EXPERIMENT, parameters
from training.truth import Breasts

mlflow = pytest.importorskip("mlflow")


def test_a_recipe_is_flattened_to_names_and_leaves_out_folders() -> None:
    params = parameters(tiny_recipe())
    assert params["optimisation.epochs"] == 2
    assert params["losses.dense"] == 1.0
    assert params["data"] == "mias"
    assert not any("/" in str(value) for value in params.values())


def test_the_commit_is_a_hash_or_unknown() -> None:
    commit = git_commit().removesuffix("+")
    assert commit == "unknown" or (len(commit) == 40 and int(commit, 16))


def test_extreme_women_are_those_whom_the_model_got_most_right_and_most_wrong() -> None:
    rows = Breasts(
        np.array(list("abcd")),
        np.array([1, 1, 0, 0]),
        np.array([0.9, 0.1, 0.8, 0.2]),
        tuple(record(i) for i in range(4)),
    )
    assert extreme_women(rows, "cancer found", 1) == [("rsna", "0")]
    assert extreme_women(rows, "cancer missed", 1) == [("rsna", "1")]
    assert extreme_women(rows, "false alarm", 1) == [("rsna", "2")]


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder without a store; MLflow, which remembers the last one, forgets it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    yield tmp_path
    mlflow.set_tracking_uri(None)


def test_runs_and_bundle_are_in_the_store_and_the_bundle_comes_back(crossval: Validated, own_store: Path) -> None:
    from screening.model.bundle import load_bundle

    tmp_path = own_store
    place = ("--config", crossval.recipe, "--data-root", crossval.data)
    measured = run("crossval", *place, "--out", crossval.folder)
    assert measured.exit_code == 0, measured.output
    trained = run("train", *place, "--crossval", crossval.folder, "--from-fold", 0, "--out", tmp_path / "train")
    assert trained.exit_code == 0, trained.output

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == EXPERIMENT)
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"crossval tiny", "train tiny"}
    assert all(r.info.status == "FINISHED" for r in runs.values())
    logged = runs["crossval tiny"]
    recipe = load_recipe(crossval.recipe, crossval.data)
    assert logged.data.params == {key: str(value) for key, value in parameters(recipe).items()}
    assert len(logged.data.tags["data_sha256"]) == 64
    assert logged.data.tags["git_commit"] == git_commit()
    for key in ("mias-breast-auc", "fold-0/mias-breast-auc", "fold-1/mias-breast-auc"):
        low, point, high = (logged.data.metrics[f"{key}{end}"] for end in (".low", "", ".high"))
        assert low <= point <= high
    curve = client.get_metric_history(logged.info.run_id, "fold-1/train_total")
    assert [point.step for point in curve] == list(range(1, 26))
    pictures = {a.path for a in client.list_artifacts(logged.info.run_id, "pictures")}
    assert pictures == {f"pictures/{name}.png" for name in ("roc", "froc", "reliability")}
    cases = {a.path for a in client.list_artifacts(logged.info.run_id, "cases")}
    assert cases == {f"cases/{kind}" for kind in ("cancer-found", "cancer-missed", "false-alarm")}
    assert (tmp_path / "mlruns" / "artifacts").is_dir()

    direct, registered = load_bundle(tmp_path / "train" / "bundle"), load_bundle("models:/tiny/1")
    assert registered.sha256 == direct.sha256
