"""Trainings in MLflow: what was trained on what, how well it did, and the bundle as a registered model.

Where runs are kept is said in `evaluation.tracking`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from evaluation.tracking import flattened, log_intervals, metric_name, tracked_run
from training.crossval import fold_results
from training.figures import Accuracy, Measured, Study, measure, study
from training.plots import case_pictures, froc_picture, reliability_picture, roc_picture
from training.recipe import Recipe
from training.splits import manifest

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
    with tracked_run(EXPERIMENT, name, uri) as run:
        mlflow.log_params(parameters(held_out.recipe))
        data = manifest(held_out.records)
        mlflow.log_dict(data, "data.json")
        mlflow.set_tag("data_sha256", data["sha256"])
        yield run


def parameters(recipe: Recipe) -> dict[str, Any]:
    """The recipe as one level of names: `optimisation.epochs`. Data sets stand by name, without their folders."""
    content = recipe.model_dump(mode="json", exclude={"data", "cache"})
    return flattened(content | {"data": ", ".join(source.name for source in recipe.data)})


def _log_figures(figures: Iterable[Measured], prefix: str = "") -> None:
    log_intervals((prefix + metric_name(one.key), one.interval) for one in figures)


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
