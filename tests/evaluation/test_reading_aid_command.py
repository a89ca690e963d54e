"""`screening evaluate` on tomosynthesis: the challenge's figures and the frames to view, from our own tables."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from evaluation.cli import join
from evaluation.columns import ScoresError
from evaluation.protocol import load_protocol
from evaluation.scores import load_scores

WOMEN = 6
BOX = {"x": 450, "y": 450, "width": 100, "height": 100}


def call(*arguments: str | Path) -> Result:
    app = typer.Typer()
    join(app)
    return CliRunner().invoke(app, [str(one) for one in arguments])


def write_results(folder: Path, threshold: float | None = 0.5) -> Path:
    """One volume of 50 frames a woman; the even ones' lesion is found, on the second key frame."""
    folder.mkdir()
    exams = [{"exam_id": f"1.{w}", "woman_id": f"w{w}", "status": "scored", "score": 0.9} for w in range(WOMEN)]
    images = [
        {"exam_id": f"1.{w}", "image_id": f"1.{w}.1", "laterality": "L", "view": "CC", "kind": "dbt", "frames": 50}
        for w in range(WOMEN)
    ]
    regions = []
    for w in range(WOMEN):
        elsewhere = {"x": 1500, "score": 0.9, "frame_first": 3, "frame_last": 7, "frame_peak": 5}
        regions.append({"exam_id": f"1.{w}", "image_id": f"1.{w}.1"} | BOX | elsewhere)
        if w % 2 == 0:
            there = {"score": 0.6, "frame_first": 26, "frame_last": 34, "frame_peak": 30}
            regions.append({"exam_id": f"1.{w}", "image_id": f"1.{w}.1"} | BOX | there)
    for name, rows in (("exams", exams), ("images", images), ("regions", regions)):
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    if threshold is not None:
        (folder / "batch.json").write_text(json.dumps({"key_frame_threshold": threshold}), encoding="utf-8")
    return folder


@pytest.fixture
def followup(tmp_path: Path) -> Path:
    folder = tmp_path / "followup"
    folder.mkdir()
    women = [f"w{w}" for w in range(WOMEN)]
    exams = [f"1.{w}" for w in range(WOMEN)]
    lesions = pd.DataFrame({"exam_id": exams, "image_id": [f"{exam}.1" for exam in exams]})
    tables = {
        "exams": pd.DataFrame({"exam_id": exams, "woman_id": women, "exam_date": "2020-01-01", "recalled": 1}),
        "diagnoses": pd.DataFrame(
            {"woman_id": women[:4], "diagnosis_date": "2020-01-20", "laterality": "L", "malignant": 1}
        ),
        "followup": pd.DataFrame({"woman_id": women, "followed_until": "2024-01-01"}),
        "lesions": lesions.assign(laterality="L", frame=31, malignant=1, **BOX),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


def evaluate(scores: Path, followup: Path, protocol: str | Path, out: Path) -> pd.DataFrame:
    result = call(
        "evaluate", "--scores", scores, "--followup", followup, "--protocol", protocol, "--out", out, "--no-track"
    )
    assert result.exit_code == 0, result.output
    assert (out / "report.html").is_file()
    return pd.read_csv(out / "figures.csv", keep_default_na=False).set_index("key")


def test_our_own_folder_is_judged_by_the_challenges_rules_and_by_the_frames_to_view(
    followup: Path, tmp_path: Path
) -> None:
    found = evaluate(write_results(tmp_path / "scores"), followup, "dbtex", tmp_path / "out")
    assert float(found.loc["dbtex_sensitivity@fp=1", "point"]) == 0.5  # each volume has one region elsewhere
    aid = found.loc["frames_to_view"]
    assert float(aid["point"]) == pytest.approx(2 / 50)
    assert float(aid["threshold"]) == 0.5


def test_regions_below_the_threshold_of_the_results_are_no_key_frames(followup: Path, tmp_path: Path) -> None:
    found = evaluate(write_results(tmp_path / "scores", 0.7), followup, "dbtex", tmp_path / "out")
    assert found.loc["frames_to_view", "point"] == ""
    assert "No lesion in a tomosynthesis volume is hit" in found.loc["frames_to_view", "reason"]


def test_protocols_of_exams_give_the_frames_to_view_as_well(followup: Path, tmp_path: Path) -> None:
    quick = load_protocol("salim-2020").model_dump(mode="json")
    quick["uncertainty"]["replicates"] = 20
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(quick), encoding="utf-8")
    found = evaluate(write_results(tmp_path / "scores"), followup, tmp_path / "quick.yaml", tmp_path / "out")
    assert float(found.loc["frames_to_view", "point"]) == pytest.approx(2 / 50)


def test_tables_of_another_system_say_what_is_missing_for_the_frames_to_view(followup: Path, tmp_path: Path) -> None:
    found = evaluate(write_results(tmp_path / "scores", None), followup, "dbtex", tmp_path / "out")
    assert "batch.json" in found.loc["frames_to_view", "reason"]


def test_mammograms_have_no_frames_to_view(followup: Path, tmp_path: Path) -> None:
    scores = write_results(tmp_path / "scores")
    images = pd.read_csv(scores / "images.csv", dtype=str)
    images.assign(kind="ffdm").to_csv(scores / "images.csv", index=False)
    found = evaluate(scores, followup, "salim-2020", tmp_path / "out")
    assert "frames_to_view" not in found.index


def test_damaged_record_of_a_batch_is_named(tmp_path: Path) -> None:
    scores = write_results(tmp_path / "scores")
    (scores / "batch.json").write_text("{", encoding="utf-8")
    with pytest.raises(ScoresError, match=r"batch\.json"):
        load_scores(scores)
