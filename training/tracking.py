"""Trainings in MLflow: what was trained on what, how well it did, and the bundle as a registered model.

Where runs are kept is said in `evaluation.tracking`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import mlflow
import torch
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from evaluation.tracking import flattened, log_intervals, metric_name, tracked_run
from screening.model.bundle import load_bundle
from training.datasets.record import Record
from training.figures import Accuracy, Measured, Study, measure, of_fold
from training.plots import case_pictures, froc_picture, reliability_picture, roc_picture
from training.recipe import Recipe
from training.slab_networks.recipe import SlabRecipe
from training.splits import manifest

EXPERIMENT = "screening"
BUNDLE = "bundle"
"""The run's artifact folder that holds the bundle."""


def log_crossval(held_out: Study, accuracy: Accuracy, out: Path, uri: str | None = None) -> str:
    """Log a finished cross-validation in `out`; returns the run's id. Raises `ConfigError` if MLflow cannot be reached.

    `uri`: a tracking server or store; by default `mlruns/`.
    """
    with _run(f"crossval {held_out.recipe.name}", held_out.recipe, held_out.records, uri) as run:
        _log_study(held_out, accuracy, out)
        for name in ("figures.json", "calibration.yaml", "exams.csv", "images.csv", "regions.csv"):
            if (out / name).is_file():
                mlflow.log_artifact(str(out / name), "out-of-fold")
        return run


def log_bundle(
    held_out: Study,
    accuracy: Accuracy,
    bundle: Path,
    out: Path,
    uri: str | None = None,
    crossval: Path | None = None,
) -> str:
    """Log a training with its bundle, and register it as a model; returns `models:/NAME/VERSION`.

    `out`: the training's folder, with its `curve.csv` if it has one. `crossval`: the folder of the folds that
    `held_out` is of, if it is another one. Raises as `log_crossval` does.
    """
    name = held_out.recipe.name
    with _run(f"train {name}", held_out.recipe, held_out.records, uri) as run:
        _log_study(held_out, accuracy, crossval or out)
        _log_curve(out / "curve.csv", "")
        return _registered(bundle, run)


def log_slabs(recipe: SlabRecipe, records: Sequence[Record], bundle: Path, out: Path, uri: str | None = None) -> str:
    """Log a training of slab networks on `records` in `out` with its bundle, and register that as a further version
    of its model; returns `models:/NAME/VERSION`. Raises as `log_crossval` does.
    """
    with _run("train slabs", recipe, records, uri) as run:
        for member in range(recipe.members):
            _log_curve(out / f"member-{member}" / "curve.csv", f"member-{member}/")
        scale = load_bundle(bundle, torch.device("cpu")).calibration.slabs
        assert scale is not None
        mlflow.log_metrics({"scale_slope": scale.slope, "scale_intercept": scale.intercept})
        return _registered(bundle, run)


def _registered(folder: Path, run: str) -> str:
    """Log a bundle to the run and register it under its card's name: `models:/NAME/VERSION`."""
    bundle = load_bundle(folder, torch.device("cpu"))
    name = bundle.card.name
    mlflow.set_tag("model_id", bundle.model_id)
    mlflow.log_artifacts(str(folder), BUNDLE)
    client = MlflowClient()
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    made = client.create_model_version(name, f"{mlflow.get_artifact_uri()}/{BUNDLE}", run_id=run)
    return f"models:/{name}/{made.version}"


@contextmanager
def _run(name: str, recipe: Recipe | SlabRecipe, records: Sequence[Record], uri: str | None) -> Iterator[str]:
    """A run with recipe, data and the code's commit on it, and by what it was made; yields its id."""
    with tracked_run(EXPERIMENT, name, uri) as run:
        mlflow.log_params(parameters(recipe))
        mlflow.log_dict(recipe.model_dump(mode="json"), "recipe.yaml")
        data = manifest(records)
        mlflow.log_dict(data, "data.json")
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        made_by = {"version": version("screening"), "device": device, "threads": torch.get_num_threads()}
        mlflow.set_tags(made_by | {"data_sha256": data["sha256"]})
        yield run


def _log_study(held_out: Study, accuracy: Accuracy, out: Path) -> None:
    """Figures and pictures of held-out women; of each fold its own figures, and its curve if that lies in `out`."""
    _log_figures((*accuracy.figures, *accuracy.subgroups))
    for fold in sorted({held_out.fold_of[group] for group in held_out.judged_in}):
        _log_figures(measure(of_fold(held_out, fold)).figures, f"fold-{fold}/")
        _log_curve(out / f"fold-{fold}" / "curve.csv", f"fold-{fold}/")
    _log_pictures(held_out, out)


def parameters(recipe: Recipe | SlabRecipe) -> dict[str, Any]:
    """The recipe as one level of names: `optimisation.epochs`. Data sets stand by name, without their folders."""
    content = recipe.model_dump(mode="json", exclude={"data": True, "cache": True, "calibration": {"root"}})
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
