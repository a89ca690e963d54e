"""The figures on simulated women, on a programme's tables: 2D and volumes of the same exams, volumes the better."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.cohort import join
from evaluation.followup import POSITIVE
from evaluation.protocol import load_protocol
from evaluation.scores import Scores, check_scores
from evaluation.tables import FollowUp, check_followup
from screening.errors import ConfigError
from screening.exam import ImageKind
from tests.support.batches import bare_exam
from tests.support.programme import Programme, simulate
from training.datasets.simulated import LESION_COLUMNS
from training.simulated_figures import (
    EXAMS,
    Row,
    _commands,
    _missed,
    check_unseen,
    document,
    measure,
    read_simulation,
)
from training.simulated_scores import only

SIMULATION = {"programme": {"women": 300, "seed": 7, "rounds": 2, "pixel_mm": 0.2, "cancer_share": 0.3}}


@dataclass(frozen=True)
class Women:
    programme: Programme
    arms: dict[str, Scores]
    followup: FollowUp
    rows: list[Row]

    def row(self, beginning: str) -> Row:
        return next(row for row in self.rows if row.title.startswith(beginning))


def model(*learned: str) -> Any:
    """A bundle as far as it matters here, with what it learned from."""
    data = tuple(SimpleNamespace(name=name) for name in ("rsna", *learned))
    return SimpleNamespace(model_id="lite0-1.0+abc", card=SimpleNamespace(training_data=data), slabs=None)


def point(row: Row) -> float:
    assert row.figure.interval is not None, row.figure.reason
    return row.figure.interval.point


@pytest.fixture(scope="module")
def women() -> Women:
    programme = simulate(300, 2, 5, cancers_a_year=0.03)
    tables = programme.followup
    lesions = tables["lesions"].assign(frame=np.nan)
    in_volumes = lesions.assign(image_id=lesions["image_id"] + ".v", frame=25)
    followup = check_followup(tables | {"lesions": pd.concat([lesions, in_volumes])})
    flat = check_scores(programme.scores, "2D")
    volumes = replace(check_scores(_volumes(programme), "DBT"), key_frame_threshold=0.0)
    arms = {"2D": flat, "DBT": volumes}
    return Women(programme, arms, followup, measure(arms, followup))


def _volumes(programme: Programme) -> dict[str, pd.DataFrame]:
    """The same scores as of volumes of 50 frames; exams with a lesion score half-way up to 1."""
    exams, images, regions = (programme.scores[name].copy() for name in ("exams", "images", "regions"))
    ill = exams["exam_id"].isin(programme.followup["lesions"]["exam_id"])
    for name in ("score", "left_score", "right_score"):
        exams[name] = exams[name].mask(ill, (1 + exams[name]) / 2)
    images = images.assign(image_id=images["image_id"] + ".v", kind="dbt", frames=50, pixel_spacing_mm=0.2)
    frames = {"frame_first": 20, "frame_last": 30, "frame_peak": 25}
    regions = regions.assign(image_id=regions["image_id"] + ".v", **frames)
    return {"exams": exams, "images": images, "regions": regions}


@pytest.mark.parametrize(("arm", "title"), [("DBT", "AUC of exams by DBT"), ("2D", "AUC of exams by 2D")])
def test_auc_of_each_arm_is_that_of_scikit_learn(women: Women, arm: str, title: str) -> None:
    exams = join(women.arms[arm], women.followup, load_protocol(EXAMS)).exams
    exams = exams[exams["included"]]
    expected = roc_auc_score(exams["role"] == POSITIVE, exams["score"])
    assert point(women.row(title)) == pytest.approx(expected, abs=1e-9)


def test_difference_is_paired_and_passes_only_with_its_whole_interval(women: Women) -> None:
    row = women.row("AUC of exams, DBT minus 2D")
    expected = point(women.row("AUC of exams by DBT")) - point(women.row("AUC of exams by 2D"))
    assert point(row) == pytest.approx(expected, abs=1e-9)
    made = row.figure.interval
    assert made is not None
    assert made.low > 0
    assert row.passed
    assert not replace(row, figure=replace(row.figure, interval=replace(made, low=-0.01))).passed


def test_passed_exams_with_a_visible_cancer_are_those_of_the_truth(women: Women) -> None:
    truth = women.programme.truth
    visible = truth["missed"] & truth["visible"].isin(["false_negative", "minimal_sign"]) & truth["scored"]
    row = women.row("exams that readers passed though their cancer was visible, found in place by 2D")
    assert 0 < row.figure.n <= visible.sum()  # the truth's window is that of all cancers, the protocol's 27 months
    assert row.figure.threshold is not None
    found = (truth["lesion_score"] >= row.figure.threshold)[visible].mean()
    assert point(row) == pytest.approx(found, abs=0.15)


def test_missed_cancers_are_left_out_of_the_primary_figure_and_counted_in_the_next(women: Women) -> None:
    assert women.followup.lesions is not None
    in_volumes = women.followup.lesions["frame"].notna()
    missed = women.followup.lesions["visible"].fillna("") != ""
    first, second = women.row("DBTex primary figure"), women.row("the same, with the cancers that readers missed")
    boxes = [int(row.figure.denominator.split(" boxes")[0].replace(",", "")) for row in (first, second)]
    assert boxes[1] - boxes[0] == _on_scored_images(women, in_volumes & missed) > 0
    assert boxes[0] == _on_scored_images(women, in_volumes & ~missed) > 0


def _on_scored_images(women: Women, chosen: pd.Series) -> int:
    images, lesions = women.arms["DBT"].images, women.followup.lesions
    assert images is not None
    assert lesions is not None
    return int(lesions.loc[chosen, "image_id"].isin(images["image_id"]).sum())


def test_reach_in_the_plane_is_the_challenges_in_millimetres(women: Women) -> None:
    assert "within 10 mm" in women.row("DBTex primary figure").title
    assert "100 pixels, which here are 20 mm" in women.row("the same, lesions found at the exam").title


def test_frames_to_view_have_their_row(women: Women) -> None:
    assert 0 < point(women.row("share of a volume's frames")) <= 1


def test_document_says_that_the_women_do_not_exist_and_what_was_missed(women: Women) -> None:
    text = document(women.rows, SIMULATION, model(), ["screening simulate"])
    assert "learned from no simulated women" in text
    assert "learned from other women" in document(women.rows, SIMULATION, model("simulated"), [])
    assert "None of these women exists" in text
    assert "seed 7" in text
    assert text.count("\n| ") == len(women.rows) + 2
    for row in women.rows:
        assert (f"- Missed: {row.title}." in text) == (row.passed is False)


def test_commands_to_measure_again_name_the_women_that_the_model_learned_from() -> None:
    """Without them a model that learned from simulated women is refused (`check_unseen`)."""
    programme = {"women": 3, "rounds": 1, "seed": 9, "pixel_mm": 0.4}
    for learned in (False, True):
        *_, measuring = _commands(programme, learned)
        assert ("--trained-on" in measuring) == learned


def test_document_says_whether_volumes_are_read_by_networks_of_their_own(women: Women) -> None:
    one, own = model(), model("simulated (volumes)")
    own.slabs = object()
    texts = [document(women.rows, SIMULATION, bundle, []) for bundle in (one, own)]
    assert ["read by networks of their own" in text for text in texts] == [False, True]
    assert ["read the slabs of volumes, too" in text for text in texts] == [True, False]
    assert "learned from other women" in texts[1]


def learned_from(women: list[str], folder: Path) -> Path:
    """A simulation of these women, which no registry knows: one volume each."""
    images = pd.DataFrame({"image_id": women, "exam_id": women, "woman_id": women, "kind": "dbt"})
    facts: dict[str, Any] = {"file": "a.dcm", "laterality": "L", "view": "CC", "manufacturer": "", "machine": ""}
    folder.mkdir()
    images.assign(**facts, pixel_mm=0.8, age=60, density="B", malignant=0).to_csv(folder / "images.csv", index=False)
    pd.DataFrame(columns=LESION_COLUMNS).to_csv(folder / "lesions.csv", index=False)
    return folder


@pytest.mark.parametrize("name", ["simulated", "simulated (volumes)"])
def test_women_that_the_model_learned_from_are_refused(women: Women, tmp_path: Path, name: str) -> None:
    someone = str(women.followup.exams["woman_id"].iloc[0])
    seen, other = (learned_from([one], tmp_path / one) for one in (someone, "another"))
    with pytest.raises(ConfigError, match=r"1 of the women are in .* learned from"):
        check_unseen(women.followup, model(name), [other, seen])
    check_unseen(women.followup, model(name), [other])
    check_unseen(women.followup, model(), [])
    with pytest.raises(ConfigError, match="--trained-on"):
        check_unseen(women.followup, model(name), [])


@pytest.mark.parametrize("content", [None, "{", "[]", '{"programme": {}}'])
def test_folder_without_a_simulation_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "simulation.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="no simulation"):
        read_simulation(tmp_path)


def test_simulation_without_tables_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "simulation.json").write_text(json.dumps(SIMULATION), encoding="utf-8")
    with pytest.raises(ConfigError, match="not finished"):
        read_simulation(tmp_path)


def test_an_arm_sees_one_kind_of_image() -> None:
    exam = bare_exam(Path("image.dcm"), 1)
    volume = replace(exam.images[0], image_id="1.9", kind=ImageKind.DBT)
    both = replace(exam, images=(*exam.images, volume))
    assert only(both, ImageKind.DBT).images == (volume,)
    assert only(both, ImageKind.FFDM).images == exam.images


def test_programme_without_passed_cancers_says_so(women: Women) -> None:
    lesions = women.programme.followup["lesions"].assign(visible="occult")
    followup = check_followup(women.programme.followup | {"lesions": lesions})
    (row,) = _missed(women.arms["2D"], followup)
    assert row.figure.interval is None
    assert "no exam" in row.figure.reason
    assert row.verdict == "not measured"
