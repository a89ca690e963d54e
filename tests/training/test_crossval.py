"""Cross-validation and the commands about it: no woman on both sides, and files that others can read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score
from torch import nn
from typer import Typer
from typer.testing import CliRunner

import evaluation.cli
import training.accuracy
import training.crossval
from screening.errors import ConfigError
from screening.model.bundle import load_bundle
from screening.model.calibration import Calibration
from screening.model.weights import pack, unpack
from tests.support.learning import tiny_recipe
from tests.training.conftest import Validated, run
from training.cache import PreparedRecord
from training.calibrate import logits
from training.crossval import (
    collect,
    fold_networks,
    fold_results,
    learning,
    made_of,
    score_records,
    train_fold,
    validation,
)
from training.data import prepare_all, read_records
from training.datasets.record import Record
from training.exams import image_id
from training.fit import Validate, averaged_network
from training.options import write_curve
from training.recipe import LossWeights, Recipe, Stage, load_recipe
from training.splits import Fold, folds


def setting(crossval: Validated) -> tuple[list[Record], Recipe]:
    recipe = load_recipe(crossval.recipe, crossval.data)
    return read_records(recipe), recipe


def test_every_image_is_scored_once_by_a_network_that_never_saw_the_woman(crossval: Validated) -> None:
    records, recipe = setting(crossval)
    seen = []
    for k, fold in enumerate(folds(records, recipe.folds, recipe.seed)):
        trained_on = {record.group for record in fold.train}
        for result in fold_results(crossval.folder, k):
            for image in result.images:
                seen.append(image.image.image_id)
                (record,) = (r for r in records if image_id(r) == image.image.image_id)
                assert record.group not in trained_on
    assert sorted(seen) == sorted(image_id(record) for record in records)


def test_a_split_that_leaks_is_refused_before_anything_is_trained(
    crossval: Validated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, recipe = setting(crossval)
    leaking = [Fold(tuple(records), tuple(records[:2]))] * 2
    monkeypatch.setattr(training.crossval, "folds", lambda *_: leaking)
    with pytest.raises(ConfigError, match="leaks"):
        train_fold(records, 0, recipe, tmp_path, torch.device("cpu"), lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_a_finished_fold_is_not_trained_again(crossval: Validated, tmp_path: Path) -> None:
    records, recipe = setting(crossval)
    (tmp_path / "fold-0").mkdir()
    (tmp_path / "fold-0" / "done").write_text(json.dumps(made_of(recipe, records)))
    train_fold(records, 0, recipe, tmp_path, torch.device("cpu"), lambda *_: pytest.fail("it was trained"))


@pytest.mark.parametrize("changed", ["recipe", "data"])
def test_what_another_recipe_or_other_data_made_is_neither_kept_nor_gone_on_from_nor_read(
    crossval: Validated, tmp_path: Path, changed: str
) -> None:
    records, recipe = setting(crossval)
    shutil.copytree(crossval.folder, tmp_path, dirs_exist_ok=True)
    if changed == "recipe":
        recipe = recipe.model_copy(update={"losses": LossWeights(image=0.5)})
    else:
        records[0] = replace(records[0], malignant=not records[0].malignant)
    refused = pytest.raises(ConfigError, match=f"before the {changed} changed; .* another --out")
    with refused:
        train_fold(records, 0, recipe, tmp_path, torch.device("cpu"), lambda *_: None)
    with refused:
        collect(recipe, tmp_path, records)
    if changed == "recipe":
        with refused:
            fold_networks(tmp_path, 0, recipe)
    (tmp_path / "fold-0" / "done").unlink()
    with refused:
        train_fold(records, 0, recipe, tmp_path, torch.device("cpu"), lambda *_: None)


def test_a_fold_that_does_not_say_what_it_was_made_of_is_refused(crossval: Validated, tmp_path: Path) -> None:
    records, recipe = setting(crossval)
    shutil.copytree(crossval.folder / "fold-0", tmp_path / "fold-0")
    (tmp_path / "fold-0" / "of.json").unlink()
    for made in (lambda done: done.write_text(""), Path.unlink):
        made(tmp_path / "fold-0" / "done")
        with pytest.raises(ConfigError, match="before the recipe and the data changed"):
            train_fold(records, 0, recipe, tmp_path, torch.device("cpu"), lambda *_: None)


def test_folders_licences_and_what_only_the_calibration_needs_change_nothing_that_networks_are_made_of(
    crossval: Validated,
) -> None:
    _, recipe = setting(crossval)
    moved = [source.model_copy(update={"root": Path("/x"), "licence": "any"}) for source in recipe.data]
    other = recipe.model_copy(update={"data": tuple(moved), "cache": Path("/y"), "prevalence": 0.1, "name": "other"})
    assert made_of(other) == made_of(recipe)
    (mias,) = recipe.data
    repeated = recipe.model_copy(update={"data": (mias.model_copy(update={"repeat": 2}),)})
    assert made_of(repeated) != made_of(recipe)


def test_weights_are_not_gone_on_from_where_all_women_trained_another_recipe(
    crossval: Validated, tmp_path: Path
) -> None:
    (tmp_path / "of.json").write_text(json.dumps({"recipe": "another", "data": "other"}))
    place = ("--config", crossval.recipe, "--data-root", crossval.data, "--no-track")
    done = run("train", *place, "--crossval", crossval.folder, "--out", tmp_path)
    assert done.exit_code == 2
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("command", ["crossval", "train", "train --crossval"])
def test_the_commands_hand_on_how_many_processes_load_batches(
    crossval: Validated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    asked: list[int] = []

    def stopped(*_: Any, workers: int, **__: Any) -> None:
        asked.append(workers)
        raise ConfigError("no more is needed")

    monkeypatch.setattr(training.crossval, "fit", stopped)
    name, *of = command.split()
    place = ("--config", crossval.recipe, "--data-root", crossval.data, *of, *([crossval.folder] if of else []))
    assert run(name, *place, "--out", tmp_path, "--workers", 3).exit_code == 2
    assert asked == [3]


def test_an_epoch_that_is_reported_again_replaces_its_row_in_the_curve(tmp_path: Path) -> None:
    report = write_curve(tmp_path / "of" / "curve.csv")
    for epoch, value in ((1, 0.5), (2, 0.4), (3, 0.3), (2, 0.25)):
        report({"train_total": value}, epoch)
    expected = "epoch,figure,value\n1,train_total,0.5\n2,train_total,0.25\n"
    assert (tmp_path / "of" / "curve.csv").read_text() == expected


def test_patience_is_judged_on_women_that_are_neither_learned_from_nor_held_out(
    crossval: Validated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, recipe = setting(crossval)
    impatient = recipe.model_copy(update={"optimisation": recipe.optimisation.model_copy(update={"patience": 1})})
    judged: list[Record] = []
    learned: list[Record] = []

    def halves(some: list[Record], count: int, seed: int, train_only: frozenset[str]) -> list[Fold]:
        return folds(some, min(count, 2), seed, train_only)  # instead of eighths, as the women are few

    def watched_validation(some: list[Record], *rest: Any) -> Validate:
        judged.extend(some)
        return validation(some, *rest)

    def watched_preparation(some: list[Record], *rest: Any) -> list[PreparedRecord]:
        learned.extend(some)
        return prepare_all(some, *rest)

    monkeypatch.setattr(training.crossval, "folds", halves)
    monkeypatch.setattr(training.crossval, "validation", watched_validation)
    monkeypatch.setattr(training.crossval, "prepare_all", watched_preparation)
    curve: list[dict[str, float]] = []
    train_fold(records, 0, impatient, tmp_path, torch.device("cpu"), lambda figures, _: curve.append(figures))
    assert 1 < len(curve) < 25
    assert all(0 <= figures["validation_auc_mias"] == figures["select"] <= 1 for figures in curve)
    held_out = {r.group for r in folds(records, 2, recipe.seed)[0].test}
    groups = [{r.group for r in some} for some in (judged, learned)]
    assert groups[0]
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & held_out


def test_each_stage_goes_on_from_the_one_before_and_all_of_them_score(crossval: Validated, tmp_path: Path) -> None:
    records, recipe = setting(crossval)
    brief = recipe.optimisation.model_copy(update={"epochs": 2})
    second = Stage(optimisation=brief.model_copy(update={"epochs": 1}), losses=LossWeights(image=0), pasted_lesions=0.5)
    staged = recipe.model_copy(update={"optimisation": brief, "then": (second,)})
    epochs: list[int] = []
    train_fold(records, 0, staged, tmp_path, torch.device("cpu"), lambda _, epoch: epochs.append(epoch))
    assert epochs == [1, 2, 3]
    first, last = fold_networks(tmp_path, 0, staged)
    alone = recipe.model_copy(update={"optimisation": brief})
    train_fold(records, 0, alone, tmp_path / "alone", torch.device("cpu"), lambda *_: None)
    (same,) = fold_networks(tmp_path / "alone", 0, alone)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    apart = [
        (a.detach() - b.detach()).norm() / a.detach().norm().clamp(min=1e-6)
        for a, b in zip(first.parameters(), last.parameters(), strict=True)
    ]
    assert 0 < float(torch.stack(apart).median()) < 0.5, "the second stage starts from the first one's weights"
    held_out = list(folds(records, recipe.folds, recipe.seed)[0].test)
    expected = list(score_records(held_out, [first, last], recipe, "fold-0", torch.device("cpu"), quiet=True))
    assert sorted(r.score or 0 for r in expected) == sorted(r.score or 0 for r in fold_results(tmp_path, 0))


def test_a_stage_that_does_not_answer_is_only_where_the_next_begins(crossval: Validated, tmp_path: Path) -> None:
    records, recipe = setting(crossval)
    brief = recipe.optimisation.model_copy(update={"epochs": 1})
    stages = tuple(Stage(optimisation=brief, answers=answers) for answers in (False, True))
    staged = recipe.model_copy(update={"optimisation": brief, "then": stages})
    train_fold(records, 0, staged, tmp_path, torch.device("cpu"), lambda *_: None)
    answering = fold_networks(tmp_path, 0, staged)
    every = [averaged_network(tmp_path / "fold-0" / f"checkpoint-{stage}.pt", staged) for stage in range(3)]
    for one, stage in zip(answering, (0, 2), strict=True):
        assert torch.equal(one.local.weight, every[stage].local.weight)
    assert not torch.equal(every[1].local.weight, every[2].local.weight)


def test_a_stage_keeps_the_stated_share_of_the_weights_that_it_began_with(crossval: Validated, tmp_path: Path) -> None:
    records, recipe = setting(crossval)
    brief = recipe.optimisation.model_copy(update={"epochs": 1})
    kept = recipe.model_copy(update={"optimisation": brief, "then": (Stage(optimisation=brief, kept=0.25),)})
    train_fold(records, 0, kept, tmp_path, torch.device("cpu"), lambda *_: None)
    start, between = fold_networks(tmp_path, 0, kept)
    end = averaged_network(tmp_path / "fold-0" / "checkpoint-1.pt", kept)
    for a, b, c in zip(start.parameters(), between.parameters(), end.parameters(), strict=True):
        torch.testing.assert_close(b, 0.25 * a + 0.75 * c)
    held_out = list(folds(records, recipe.folds, recipe.seed)[0].test)
    expected = list(score_records(held_out, [start, between], recipe, "fold-0", torch.device("cpu"), quiet=True))
    assert sorted(r.score or 0 for r in expected) == sorted(r.score or 0 for r in fold_results(tmp_path, 0))


def test_the_first_stage_has_nothing_to_keep() -> None:
    with pytest.raises(ValueError, match="first stage"):
        tiny_recipe(kept=0.5)


def test_an_unfinished_fold_has_no_results(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not finished"):
        fold_results(tmp_path, 0)


def test_the_tables_hold_calibrated_scores_of_every_breast(crossval: Validated) -> None:
    records, recipe = setting(crossval)
    exams = pd.read_csv(crossval.folder / "exams.csv", dtype={"exam_id": str})
    regions = pd.read_csv(crossval.folder / "regions.csv")
    calibration = Calibration.model_validate(yaml.safe_load((crossval.folder / "calibration.yaml").read_text()))
    assert len(exams) == len({record.exam for record in records})
    assert exams[["left_score", "right_score"]].notna().all().all()
    assert np.allclose(exams["score"], exams[["left_score", "right_score"]].max(axis=1))
    raw = {result.exam_id: result.score for result in collect(recipe, crossval.folder) if result.score is not None}
    expected = [calibration.score(float(logits(raw[exam]))) for exam in exams["exam_id"]]
    assert np.allclose(exams["score"], expected, rtol=1e-4)
    assert (exams["category"] == [calibration.category(score) for score in expected]).all()
    top = regions.set_index("region_id").loc[exams["top_region_id"], "score"].to_numpy()
    assert np.allclose(top, exams["score"])


def test_screening_evaluate_reads_the_tables(crossval: Validated, tmp_path: Path) -> None:
    records, _ = setting(crossval)
    scores = pd.read_csv(crossval.folder / "exams.csv", dtype={"exam_id": str}).set_index("exam_id")
    ill = {f"mias-{record.woman}": record.laterality.value for record in records if record.malignant}
    women = pd.DataFrame({"woman_id": list(scores.index)})  # one exam each, called as she is
    followup = {
        "exams": women.assign(exam_id=women["woman_id"], exam_date="2020-01-01"),
        "diagnoses": pd.DataFrame({"woman_id": list(ill), "laterality": list(ill.values())}).assign(
            diagnosis_date="2020-01-15", malignant=1
        ),
        "followup": women.assign(followed_until="2024-01-01"),
    }
    for name, table in followup.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    app = Typer()
    evaluation.cli.join(app)
    arguments = ("--scores", crossval.folder, "--followup", tmp_path, "--protocol", "salim-2020", "--no-track")
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    figures = pd.read_csv(tmp_path / "out" / "figures.csv")
    (found,) = figures.query("key == 'auc' and subgroup == 'all'")["point"]
    # Who has cancer is judged by the score of that breast.
    column = {"L": "left_score", "R": "right_score"}
    judged = [scores.loc[exam, column[ill[exam]] if exam in ill else "score"] for exam in scores.index]
    assert found == pytest.approx(roc_auc_score([exam in ill for exam in scores.index], judged), abs=1e-9)


@pytest.mark.parametrize("fold", [None, 1])
def test_the_document_on_accuracy_holds_the_figures_of_the_folds_or_of_one(
    crossval: Validated, tmp_path: Path, fold: int | None
) -> None:
    app = Typer()
    app.command()(training.accuracy.main)
    only = () if fold is None else ("--fold", fold)
    place = ("--config", crossval.recipe, "--data-root", crossval.data, "--crossval", crossval.folder)
    done = CliRunner().invoke(app, [str(one) for one in (*place, *only, "--docs", tmp_path / "docs" / "accuracy.md")])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "docs" / "accuracy.md").read_text()
    assert ("The network of fold 1 of 2" in text) == (fold == 1)
    assert f"--crossval out/crossval{'' if fold is None else ' --fold 1'}\n" in text
    figures = json.loads((crossval.folder / "figures.json").read_text())["figures"]
    rows = [f"| {one['figure']} | {one['data']} | {one['value']:.3f} |" for one in figures]
    assert all((row in text) == (fold is None) for row in rows)


def test_training_on_all_women_makes_a_bundle_with_the_folds_figures(crossval: Validated, tmp_path: Path) -> None:
    place = ("--config", crossval.recipe, "--data-root", crossval.data, "--no-track")
    done = run("train", *place, "--crossval", crossval.folder, "--out", tmp_path, "--version", "9.9")
    assert done.exit_code == 0, done.output
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.model_id.startswith("tiny-9.9+")
    (data,) = bundle.card.training_data
    assert (data.name, data.women, data.images) == ("mias", 12, 24)
    assert "Suckling" in data.citation
    assert any("all women" in limit for limit in bundle.card.limits)
    assert any("AUC" in figure.figure and figure.low <= figure.value <= figure.high for figure in bundle.card.figures)
    text = (crossval.folder / "calibration.yaml").read_text()
    assert bundle.calibration == Calibration.model_validate(yaml.safe_load(text))


def test_with_patience_the_card_counts_only_the_women_who_were_learned_from(
    crossval: Validated, tmp_path: Path
) -> None:
    records, recipe = setting(crossval)
    impatient = recipe.model_copy(
        update={"optimisation": recipe.optimisation.model_copy(update={"epochs": 1, "patience": 1})}
    )
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(impatient.model_dump(mode="json") | {"data": [{"name": "mias", "root": "mias"}]})
    )
    shutil.copytree(crossval.folder, tmp_path / "cv")
    for fold in range(recipe.folds):
        (tmp_path / "cv" / f"fold-{fold}" / "done").write_text(json.dumps(made_of(impatient, records)))
    place = ("--config", tmp_path / "recipe.yaml", "--data-root", crossval.data, "--no-track")
    done = run("train", *place, "--crossval", tmp_path / "cv", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    card = load_bundle(tmp_path / "out" / "bundle").card
    learned = {record.group for record in learning(records, impatient).train}
    assert card.training_data[0].women == len(learned) < 12
    assert any("seven eighths of the women" in limit for limit in card.limits)
    assert not any("all women" in limit for limit in card.limits)


def test_a_folds_bundle_holds_its_weights_and_tells_that_part_of_the_women_made_it(
    crossval: Validated, tmp_path: Path
) -> None:
    records, recipe = setting(crossval)
    place = ("--config", crossval.recipe, "--data-root", crossval.data, "--no-track")
    done = run("train", *place, "--crossval", crossval.folder, "--from-fold", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    bundle = load_bundle(tmp_path / "bundle")
    (member,) = bundle.network.members
    assert_same_weights(member, crossval, recipe, fold=1)
    (data,) = bundle.card.training_data
    fold = folds(records, recipe.folds, recipe.seed)[1]
    assert data.women == len({record.group for record in fold.train}) < 12
    assert any("one part of the women" in limit for limit in bundle.card.limits)
    tested = len({record.breast for record in fold.test})
    assert all(f"{tested} breasts" in figure.data for figure in bundle.card.figures if "AUC" in figure.figure)


def test_the_folds_answer_together_and_the_bundle_tells_that_this_was_not_measured(
    crossval: Validated, tmp_path: Path
) -> None:
    _, recipe = setting(crossval)
    place = ("--config", crossval.recipe, "--data-root", crossval.data, "--no-track")
    done = run("train", *place, "--crossval", crossval.folder, "--from-folds", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    bundle = load_bundle(tmp_path / "bundle")
    assert len(bundle.network.members) == recipe.folds
    for fold, member in enumerate(bundle.network.members):
        assert_same_weights(member, crossval, recipe, fold)
    assert bundle.card.training_data[0].women == 12
    assert any("could not be measured" in limit for limit in bundle.card.limits)


def assert_same_weights(member: nn.Module, crossval: Validated, recipe: Recipe, fold: int) -> None:
    """But for the packing in which filters are stored."""
    network = averaged_network(crossval.folder / f"fold-{fold}" / "checkpoint-0.pt", recipe)
    expected = unpack(pack(network.state_dict()))
    found = member.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0)


def test_a_data_set_is_scored_by_a_bundle_without_its_truth(crossval: Validated, tmp_path: Path) -> None:
    place = ("--config", crossval.recipe, "--data-root", crossval.data, "--no-track")
    run("train", *place, "--crossval", crossval.folder, "--from-fold", 0, "--out", tmp_path / "train")
    data = tmp_path / "mias"
    shutil.copytree(crossval.data / "mias", data)
    table = pd.read_csv(data / "lesions.csv", dtype=str, keep_default_na=False)
    table[["x", "y", "radius", "severity"]] = ""
    table["abnormality"] = "NORM"
    table.to_csv(data / "lesions.csv", index=False)
    (data / "images" / "mdb001.png").write_bytes(b"no image")
    tested = ("test", "--data", f"mias:{data}", "--model", tmp_path / "train" / "bundle", "--out", tmp_path / "out")
    done = run(*tested)
    assert done.exit_code == 0, done.output
    images = pd.read_csv(tmp_path / "out" / "images.csv").set_index("image_id")
    exams = pd.read_csv(tmp_path / "out" / "exams.csv").set_index("exam_id")
    regions = pd.read_csv(tmp_path / "out" / "regions.csv")
    assert all(any(name in image for image in images.index) for name in table["image"])
    assert images.loc["mias-mdb001", "status"] == "failed"
    assert (images.drop("mias-mdb001")["rows"] == 320).all()
    assert exams.loc["mias-1", ["left_score", "right_score"]].notna().sum() == 1
    assert (regions["x"] >= 0).all()
    assert (regions["x"] + regions["width"] <= 240.01).all()
    assert (regions["y"] + regions["height"] <= 320.01).all()
    before = (tmp_path / "out" / "exams.csv").read_bytes()
    assert run(*tested, "--workers", 1).exit_code == 0
    assert (tmp_path / "out" / "exams.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("crossval", "--fold", 7), "folds 0 to 1"),
        (("train", "--from-fold", 0), "--crossval"),
        (("train", "--crossval", "nowhere"), "not finished"),
        (("train", "--crossval", "nowhere", "--from-folds"), "not finished"),
        (("train", "--from-folds"), "--crossval"),
        (("train", "--crossval", "x", "--from-folds", "--from-fold", 1), "choose one"),
        (("test", "--data", "mias", "--out", "x"), "NAME:DIR"),
        (("test", "--data", "mars:here", "--out", "x"), "no dataset called 'mars'"),
    ],
)
def test_wrong_use_is_one_sentence(
    crossval: Validated,
    arguments: tuple[object, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    place = () if arguments[0] == "test" else ("--config", crossval.recipe, "--data-root", crossval.data)
    done = run(*arguments, *place)
    said = " ".join((done.output + capfd.readouterr().err).split())
    assert done.exit_code == 2
    assert sentence in said
