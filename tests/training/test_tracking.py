"""MLflow: a run says what was trained on what and how well it did, and its bundle can be scored with."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from evaluation.manifest import git_commit
from screening.cli import app
from screening.model.bundle import load_bundle
from tests.support.exams import write_exam
from tests.support.learning import record, tiny_recipe
from tests.support.orthanc import free_port
from tests.training.conftest import Validated, run
from training.plots import extreme_women
from training.recipe import load_recipe
from training.tracking import EXPERIMENT, parameters
from training.truth import Breasts

mlflow = pytest.importorskip("mlflow")

PICTURES = {"roc.png", "froc.png", "reliability.png"}
CASES = {"cancer-found", "cancer-missed", "false-alarm"}


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


def train(crossval: Validated, out: Path, *options: object) -> Path:
    """`screening train` without a cross-validation, its one fold trained already; returns the bundle's folder."""
    shutil.copytree(crossval.folder / "fold-0", out / "fold-0")
    done = run("train", "--config", crossval.recipe, "--data-root", crossval.data, "--out", out, *options)
    assert done.exit_code == 0, done.output
    return out / "bundle"


def score(tmp_path: Path, model: str) -> tuple[int, str, Path]:
    """`screening score` on one exam: exit code, output, results."""
    write_exam(tmp_path / "exams", 1, (("L", "CC"),))
    arguments = ["score", tmp_path / "exams", "--out", tmp_path / "scored", "--model", model, "--workers", 0]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, " ".join((done.stdout + done.stderr).split()), tmp_path / "scored"


def model_id(results: Path) -> str:
    (row,) = csv.DictReader((results / "exams.csv").read_text().splitlines())
    return row["model_id"]


@pytest.fixture(scope="module")
def store(crossval: Validated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder whose store holds a cross-validation and two trainings; MLflow forgets it afterwards.

    `from-fold` was made of the cross-validation, `plain` without one.
    """
    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", "")
        place = ("--config", crossval.recipe, "--data-root", crossval.data)
        for arguments in (
            ("crossval", *place, "--out", crossval.folder),
            ("train", *place, "--crossval", crossval.folder, "--from-fold", 0, "--out", folder / "from-fold"),
        ):
            done = run(*arguments)
            assert done.exit_code == 0, done.output
        train(crossval, folder / "plain")
        yield folder
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def client(store: Path) -> Any:
    return mlflow.MlflowClient(f"sqlite:///{store / 'mlruns' / 'mlflow.db'}")


def logged(client: Any, version: int | None = None) -> Any:
    """The run of the cross-validation, or that which made a version of the model."""
    if version is not None:
        return client.get_run(client.get_model_version("tiny", str(version)).run_id)
    (experiment,) = (e for e in client.search_experiments() if e.name == EXPERIMENT)
    (found,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'crossval tiny'")
    return found


def names(client: Any, made: Any, folder: str) -> set[str]:
    return {artifact.path.removeprefix(f"{folder}/") for artifact in client.list_artifacts(made.info.run_id, folder)}


def test_every_run_says_what_it_was_made_of_and_by(store: Path, client: Any, crossval: Validated) -> None:
    recipe = load_recipe(crossval.recipe, crossval.data)
    for made in (logged(client), logged(client, 1), logged(client, 2)):
        assert made.info.status == "FINISHED"
        assert made.data.params == {key: str(value) for key, value in parameters(recipe).items()}
        tags = made.data.tags
        assert len(tags["data_sha256"]) == 64
        assert tags["git_commit"] == git_commit()
        assert (tags["version"], tags["threads"]) == (version("screening"), "1")
        assert tags["device"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU")
        whole = mlflow.artifacts.download_artifacts(run_id=made.info.run_id, artifact_path="recipe.yaml")
        assert load_recipe(Path(whole)) == recipe
    assert (store / "mlruns" / "artifacts").is_dir()


def test_a_cross_validation_shows_every_fold(client: Any) -> None:
    made = logged(client)
    for key in ("mias-breast-auc", "fold-0/mias-breast-auc", "fold-1/mias-breast-auc"):
        low, point, high = (made.data.metrics[f"{key}{end}"] for end in (".low", "", ".high"))
        assert low <= point <= high
    curve = client.get_metric_history(made.info.run_id, "fold-1/train_total")
    assert [point.step for point in curve] == list(range(1, 26))
    assert names(client, made, "pictures") == PICTURES
    assert names(client, made, "cases") == CASES


def test_a_training_without_cross_validation_shows_its_held_out_women_too(client: Any) -> None:
    made = logged(client, 2)
    curve = client.get_metric_history(made.info.run_id, "fold-0/train_total")
    assert [point.step for point in curve] == list(range(1, 26))
    metrics = made.data.metrics
    assert metrics["fold-0/mias-breast-auc"] == metrics["mias-breast-auc"]
    assert not any(name.startswith("fold-1/") for name in metrics)
    assert names(client, made, "pictures") == PICTURES
    assert names(client, made, "cases") <= CASES
    assert "cancer-found" in names(client, made, "cases")


def test_a_training_from_a_cross_validation_shows_its_held_out_women(client: Any) -> None:
    made = logged(client, 1)
    assert made.data.metrics["fold-0/mias-breast-auc"] == logged(client).data.metrics["fold-0/mias-breast-auc"]
    assert names(client, made, "pictures") == PICTURES


def test_a_registered_bundle_scores_by_its_name(store: Path, client: Any, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(None)  # as in a new process: training has told MLflow in this one
    for number, folder in ((1, "from-fold"), (2, "plain")):
        code, said, results = score(tmp_path, f"models:/tiny/{number}")
        assert code == 0, said
        expected = load_bundle(store / folder / "bundle").model_id
        assert model_id(results) == expected == logged(client, number).data.tags["model_id"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a tracking server with nothing in it."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/kept"]
    without_jobs = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=without_jobs, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with suppress(OSError), urlopen(f"{url}/health"):
                break
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def test_a_bundle_on_a_tracking_server_scores_where_the_environment_names_the_server(
    crossval: Validated, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    bundle = train(crossval, tmp_path / "train", "--tracking-uri", server)
    mlflow.set_tracking_uri(None)  # as in a new process: training has told MLflow in this one
    code, said, _ = score(tmp_path, "models:/tiny/1")
    assert code == 2
    assert "MLflow's registry does not have it" in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    code, said, results = score(tmp_path, "models:/tiny/1")
    assert code == 0, said
    assert model_id(results) == load_bundle(bundle).model_id
