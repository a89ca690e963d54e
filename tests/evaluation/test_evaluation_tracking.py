"""MLflow: an evaluation's run says on what it was made and holds every figure; two runs stand side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evaluation.export import write_tables
from evaluation.manifest import git_commit
from evaluation.protocol import load_protocol
from evaluation.report.page import draw_pictures, write_report
from evaluation.tracking import EXPERIMENT, figure_name, flattened, log_results, metric_name
from screening.errors import ConfigError
from tests.support.evaluations import HOSTILE, data_of, evaluation, figure

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a store that holds the runs of two systems; MLflow forgets it afterwards."""
    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", "")
        for seed, name in enumerate(("ours", "theirs")):
            one = evaluation(name, seed)
            out = folder / name
            tables = write_tables(one, out)
            pictures = draw_pictures(one)
            report = write_report(one, pictures, data_of(one), out)
            log_results(
                f"{name} salim-2020",
                one.cohort.protocol,
                data_of(one),
                (*one.figures, *one.comparisons),
                (*tables, report),
                {picture.name: picture.drawing for picture in pictures if picture.drawing},
            )
        yield folder
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def client(store: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{store / 'mlruns' / 'mlflow.db'}")


def runs(client: mlflow.MlflowClient) -> dict[str, mlflow.entities.Run]:
    (experiment,) = (e for e in client.search_experiments() if e.name == EXPERIMENT)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_two_evaluations_are_runs_of_one_experiment_with_the_same_metrics(
    client: mlflow.MlflowClient,
) -> None:
    found = runs(client)
    assert set(found) == {"ours salim-2020", "theirs salim-2020"}
    assert all(run.info.status == "FINISHED" for run in found.values())
    ours, theirs = (found[f"{name} salim-2020"].data for name in ("ours", "theirs"))
    assert set(ours.metrics) == set(theirs.metrics)
    assert ours.params == theirs.params


def test_every_figure_with_a_value_is_a_metric_with_its_interval(client: mlflow.MlflowClient) -> None:
    one, metrics = evaluation(), runs(client)["ours salim-2020"].data.metrics
    expected = {}
    for figure_ in (*one.figures, *one.comparisons):
        if figure_.interval is not None:
            name = figure_name(figure_)
            expected |= {name: 0.81234, f"{name}.low": 0.75, f"{name}.high": 0.86}
    assert metrics == expected
    assert {"auc", "density/C/auc"} <= set(metrics)


def test_the_run_names_protocol_model_data_and_code(client: mlflow.MlflowClient) -> None:
    data = runs(client)["ours salim-2020"].data
    assert data.tags["protocol"] == "salim-2020"
    assert data.tags["model_id"] == "ab" * 32
    assert data.tags["data_sha256"] == "23" * 32
    assert data.tags["compared_with"] == HOSTILE
    assert data.tags["git_commit"] == git_commit()
    assert data.params["protocol"] == "salim-2020"
    assert data.params["outcome.window_months"] == "12"
    assert data.params["outcome.positives"] == "screen-detected; interval"
    assert data.params["operating_points"].startswith("first-reader-specificity specificity 0.966")


def test_protocol_manifest_tables_pictures_and_report_are_artifacts(store: Path, client: mlflow.MlflowClient) -> None:
    run = runs(client)["ours salim-2020"].info.run_id
    names = {artifact.path for artifact in client.list_artifacts(run)}
    assert names == {
        "protocol.yaml", "data.json", "figures.csv", "flow.csv", "exams.csv", "notes.txt", "report.html", "pictures",
    }  # fmt: skip
    pictures = {artifact.path for artifact in client.list_artifacts(run, "pictures")}
    assert pictures == {f"pictures/{one.name}.png" for one in draw_pictures(evaluation())}
    (folder,) = (store / "mlruns" / "artifacts").glob(f"{run}/artifacts")
    protocol = yaml.safe_load((folder / "protocol.yaml").read_text(encoding="utf-8"))
    assert protocol == load_protocol("salim-2020").model_dump(mode="json")
    assert json.loads((folder / "data.json").read_text(encoding="utf-8")) == data_of(evaluation())
    assert (folder / "report.html").read_bytes() == (store / "ours" / "report.html").read_bytes()


def test_no_woman_is_named_in_what_mlflow_keeps(store: Path) -> None:
    kept = [file for file in (store / "mlruns").rglob("*") if file.is_file()]
    assert len(kept) > 20
    assert all(b"WOMAN" not in file.read_bytes() for file in kept)


def test_a_store_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match="--no-track"):
        log_results("x", load_protocol("salim-2020"), data_of(evaluation()), (), uri=f"sqlite:///{tmp_path}/file/x.db")
    mlflow.set_tracking_uri(None)


@given(st.lists(st.text(max_size=300), min_size=1, max_size=3))
def test_any_text_becomes_a_name_that_mlflow_takes(parts: list[str]) -> None:
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(metric_name(*parts) + ".high")


def test_names_of_figures_tell_subgroups_apart() -> None:
    assert figure_name(figure("sensitivity@specificity=0.966")) == "sensitivity-specificity-0.966"
    assert figure_name(figure("reader1/recall_rate")) == "reader1/recall_rate"
    assert figure_name(figure(subgroup="site: A/B")) == "site/A-B/auc"
    assert figure_name(figure(subgroup="vendor B")) == "vendor B/auc"


def test_nested_settings_become_one_level_of_names() -> None:
    assert flattened({"a": {"b": 1, "c": {"d": [2, 3]}}, "e": None}) == {"a.b": 1, "a.c.d": [2, 3], "e": None}
