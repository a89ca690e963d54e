"""Runs in MLflow: where they are kept, what every run carries, and an evaluation as a run.

The default store is `mlruns/`: a SQLite file, and the artifacts beside it. `mlflow ui --backend-store-uri
sqlite:///mlruns/mlflow.db` shows it; training and evaluation log to it alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import yaml
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from evaluation.figure import Figure
from evaluation.intervals import Interval
from evaluation.manifest import git_commit
from evaluation.protocol import Protocol
from screening.errors import ConfigError
from screening.registry import LOCAL_REGISTRY

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

STORE = LOCAL_REGISTRY.parent
EXPERIMENT = "evaluation"
_LONGEST_NAME = 240  # MLflow allows 250 characters, and ".high" is still to come


@contextmanager
def tracked_run(experiment: str, name: str, uri: str | None = None) -> Iterator[str]:
    """A run with the code's commit on it; yields its id. `uri`: a tracking server or store, by default `mlruns/`.

    Raises `ConfigError` where MLflow cannot be reached, or refuses what is logged inside.
    """
    try:
        mlflow.set_tracking_uri(uri or _local_store())
        if mlflow.get_experiment_by_name(experiment) is None:
            # A server keeps artifacts where it was told to; the local store keeps them beside its database.
            place = None if uri else (STORE / "artifacts").resolve().as_uri()
            # The kind of experiment decides what MLflow's page shows first: curves and models, not prompts.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            mlflow.create_experiment(experiment, artifact_location=place, tags=kind)
        mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name=name) as run:
            mlflow.set_tag("git_commit", git_commit())
            yield str(run.info.run_id)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        cause = " ".join(str(error).split())
        raise ConfigError(
            f"MLflow at {uri or STORE} cannot be used ({cause}); set --tracking-uri or --no-track"
        ) from error


def _local_store() -> str:
    STORE.mkdir(exist_ok=True)
    return f"sqlite:///{LOCAL_REGISTRY.resolve()}"


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of names: `outcome.window_months`."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def metric_name(*parts: str) -> str:
    """A name that MLflow takes, one part behind the other: MLflow's page puts metrics of one beginning together."""
    return "/".join(_safe(part)[: _LONGEST_NAME // len(parts)] for part in parts)


def _safe(part: str) -> str:
    text = "".join(c if c.isalnum() or c in "-_. " else "-" for c in part)
    return text if text.strip(".") else "-"  # a name must not read as a path


def log_intervals(intervals: Iterable[tuple[str, Interval]]) -> None:
    """Log figures by their metric names: `name`, and its limits `name.low` and `name.high`."""
    metrics: dict[str, float] = {}
    for name, interval in intervals:
        metrics |= {name: interval.point, f"{name}.low": interval.low, f"{name}.high": interval.high}
    mlflow.log_metrics(metrics)


def figure_name(figure: Figure) -> str:
    """A figure's metric name: its key, behind its subgroup if it is not about all: `density/C/auc`."""
    group = () if figure.subgroup == "all" else figure.subgroup.split(": ", 1)
    return metric_name(*group, *figure.key.split("/"))


def log_results(
    name: str,
    protocol: Protocol,
    data: Mapping[str, Any],
    figures: Iterable[Figure],
    files: Iterable[Path] = (),
    pictures: Mapping[str, Drawing] | None = None,
    uri: str | None = None,
) -> str:
    """Log an evaluation or an audit as a run; returns the run's id. Raises `ConfigError` as `tracked_run` does.

    `data`: the manifest (`manifest.manifest`) of what was evaluated. `files`: tables and pages, logged as they are.
    `pictures`: by name, logged as PNG. The protocol's parameters are the run's, and all of it lies there as YAML.
    """
    with tracked_run(EXPERIMENT, name, uri) as run:
        content = protocol.model_dump(mode="json")
        told = {key: content[key] for key in content if key not in ("name", "source", "description", "choices")}
        mlflow.log_params({key: _text(value) for key, value in flattened({"protocol": protocol.name} | told).items()})
        mlflow.log_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), "protocol.yaml")
        mlflow.log_dict(dict(data), "data.json")
        systems = data["systems"]
        mlflow.set_tags(
            {
                "protocol": protocol.name,
                "system": systems[0]["name"],
                "compared_with": ", ".join(system["name"] for system in systems[1:]),
                "model_id": ", ".join(systems[0]["model_ids"]),
                "data_sha256": data["sha256"],
            }
        )
        log_intervals((figure_name(one), one.interval) for one in figures if one.interval is not None)
        for file in files:
            mlflow.log_artifact(str(file))
        for picture, drawing in (pictures or {}).items():
            mlflow.log_figure(drawing, f"pictures/{picture}.png")
        return run


def _text(value: Any) -> str:
    """A parameter for people: operating points by name and target, other lists by their members."""
    if isinstance(value, Mapping):
        return " ".join(str(part) for part in value.values() if part is not None)
    return "; ".join(_text(one) for one in value) if isinstance(value, list | tuple) else str(value)
