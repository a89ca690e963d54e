"""Runs in MLflow: what was trained on what, how well it did, and the bundle as a registered model.

The default store is `mlruns/`: a SQLite file, and the artifacts beside it. `mlflow ui --backend-store-uri
sqlite:///mlruns/mlflow.db` shows it.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from screening.errors import ConfigError
from screening.model.bundle import LOCAL_REGISTRY
from training.crossval import fold_results
from training.figures import Accuracy, Measured, Study, measure, study
from training.plots import case_pictures, froc_picture, reliability_picture, roc_picture
from training.recipe import Recipe
from training.splits import manifest

STORE = LOCAL_REGISTRY.parent
EXPERIMENT = "screening"
BUNDLE = "bundle"
"""The run's artifact folder that holds the bundle."""


def log_crossval(held_out: Study, accuracy: Accuracy, out: Path, uri: str | None = None) -> str:
    """Log a finished cross-validation in `out`; returns the run's id. Raises `ConfigError` if MLflow cannot be reached.

    `uri`: a tracking server or store; by default `mlruns/`.
    """
    with _run(f"crossval {held_out.recipe.name}", held_out, uri) as run:
        _log_figures((*accuracy.figures, *accuracy.subgroups))
        for fold in range(held_out.recipe.folds):
            folder = out / f"fold-{fold}"
            _log_curve(folder / "curve.csv", f"fold-{fold}/")
            of_fold = study(fold_results(out, fold), held_out.records, held_out.recipe, fold)
            _log_figures(measure(of_fold).figures, f"fold-{fold}/")
        for name in ("figures.json", "calibration.yaml", "exams.csv", "images.csv", "regions.csv"):
            if (out / name).is_file():
                mlflow.log_artifact(str(out / name), "out-of-fold")
        _log_pictures(held_out, out)
        return run


def log_bundle(held_out: Study, accuracy: Accuracy, bundle: Path, out: Path, uri: str | None = None) -> str:
    """Log a training with its bundle, and register it as a model; returns `models:/NAME/VERSION`.

    `out`: the training's folder, with its `curve.csv` if it has one. Raises as `log_crossval` does.
    """
    name = held_out.recipe.name
    with _run(f"train {name}", held_out, uri) as run:
        _log_figures((*accuracy.figures, *accuracy.subgroups))
        _log_curve(out / "curve.csv", "")
        mlflow.log_artifacts(str(bundle), BUNDLE)
        client = MlflowClient()
        try:
            client.get_registered_model(name)
        except MlflowException:
            client.create_registered_model(name)
        version = client.create_model_version(name, f"{mlflow.get_artifact_uri()}/{BUNDLE}", run_id=run)
        return f"models:/{name}/{version.version}"


@contextmanager
def _run(name: str, held_out: Study, uri: str | None) -> Iterator[str]:
    """A run with the recipe, the code's commit and the data on it; yields its id."""
    try:
        mlflow.set_tracking_uri(uri or _local_store())
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            # A server keeps artifacts where it was told to; the local store keeps them beside its database.
            place = None if uri else (STORE / "artifacts").resolve().as_uri()
            # The kind of experiment decides what MLflow's page shows first: curves and models, not prompts.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            mlflow.create_experiment(EXPERIMENT, artifact_location=place, tags=kind)
        mlflow.set_experiment(EXPERIMENT)
        with mlflow.start_run(run_name=name) as run:
            mlflow.log_params(flattened(held_out.recipe))
            data = manifest(held_out.records)
            mlflow.log_dict(data, "data.json")
            mlflow.set_tags({"git_commit": git_commit(), "data_sha256": data["sha256"]})
            yield str(run.info.run_id)
    except MlflowException as error:
        raise ConfigError(
            f"MLflow at {uri or STORE} cannot be used ({error}); set --tracking-uri or --no-track"
        ) from error


def _local_store() -> str:
    STORE.mkdir(exist_ok=True)
    return f"sqlite:///{LOCAL_REGISTRY.resolve()}"


def flattened(recipe: Recipe) -> dict[str, Any]:
    """The recipe as one level of names: `optimisation.epochs`. Data sets stand by name, without their folders."""

    def flat(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in content.items():
            if isinstance(value, Mapping):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    content = recipe.model_dump(mode="json", exclude={"data", "cache"})
    content["data"] = ", ".join(source.name for source in recipe.data)
    return dict(flat(content, ""))


def git_commit() -> str:
    """The code's commit, with `+` where files differ from it; `unknown` outside a checkout."""
    try:
        here = Path(__file__).parent
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _log_figures(figures: Iterable[Measured], prefix: str = "") -> None:
    metrics: dict[str, float] = {}
    for one in figures:
        key = prefix + "".join(c if c.isalnum() or c in "-_./ " else "-" for c in one.key)
        metrics |= {key: one.interval.point, f"{key}.low": one.interval.low, f"{key}.high": one.interval.high}
    mlflow.log_metrics(metrics)


def _log_curve(file: Path, prefix: str) -> None:
    if not file.is_file():
        return
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            mlflow.log_metric(f"{prefix}{row['figure']}", float(row["value"]), step=int(row["epoch"]))


def _log_pictures(held_out: Study, out: Path) -> None:
    for name, draw in (("roc", roc_picture), ("froc", froc_picture), ("reliability", reliability_picture)):
        mlflow.log_figure(draw(held_out), f"pictures/{name}.png")
    for kind, image, picture in case_pictures(held_out, out):
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        mlflow.log_image(rgb, artifact_file=f"cases/{kind.replace(' ', '-')}/{image}.png")
