"""`screening train-slabs`: from simulated volumes to a bundle that scores one, and what it refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import training.slab_networks.train
from evaluation.calibration import Platt
from screening.configs import config_dir
from screening.errors import ConfigError
from screening.exam import Laterality
from screening.model.bundle import Bundle, load_bundle, save_bundle
from screening.model.calibration import SlabScale
from screening.model.network import Architecture, Ensemble, MammogramNet
from screening.result import Status
from screening.scoring import score
from screening.site import load_site
from screening.sources.folder import read_folder
from tests.support.bundles import calibration, card, tiny_bundle
from tests.support.learning import volume
from tests.support.slab_learning import slab_recipe
from tests.training.conftest import run
from training.calibrate import fit_line, logits
from training.recipe import DataSource
from training.slab_networks.fit import averaged_slab_network
from training.slab_networks.recipe import load_slab_recipe
from training.slab_networks.train import check_apart, fit_scale, teaching_volumes, volume_records

ARCHITECTURE = Architecture(channels=8, whole=16)
LEARNED, OTHERS = range(2), range(2, 3)
"""Numbers of the simulated women to learn from, and of those to fit the scale on."""


@dataclass(frozen=True)
class Trained:
    """Folders: of the data, of the bundle to start from, and of the results; the recipe."""

    data: Path
    start: Path
    out: Path
    recipe: Path

    def command(self, *further: object, out: Path | None = None) -> tuple[object, ...]:
        return (
            *("train-slabs", "--version", "7", "--model", self.start, "--config", self.recipe),
            *("--data-root", self.data, "--out", out or self.out, "--scorers", 1, "--no-track", *further),
        )


def part(simulated: Path, women: range, folder: Path) -> None:
    """A simulation of some of the women of another."""
    folder.mkdir(parents=True)
    (folder / "dicom").symlink_to(simulated / "dicom")
    for name in ("images.csv", "lesions.csv"):
        with (simulated / name).open(newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream)
            kept = [row for row in rows if int(row["woman_id"].rpartition("-")[2]) in women]
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, rows.fieldnames or ())
            table.writeheader()
            table.writerows(kept)


def rising(malignant: Any, logit: Any, prevalence: float) -> Platt:
    """Platt's line, turned where it falls: after three steps answers rise with cancer by chance alone."""
    line = fit_line(malignant, logit, prevalence)
    return Platt(max(abs(line.slope), 0.01), line.intercept)


@pytest.fixture(scope="module")
def trained(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One network of three steps, started from a random network for mammograms."""
    root = tmp_path_factory.mktemp("slabs")
    part(taught, LEARNED, root / "data" / "learned")
    part(taught, OTHERS, root / "data" / "calibration")
    torch.manual_seed(3)
    shape = {"backbone": ARCHITECTURE.backbone, "channels": 8, "whole": 16, "members": 1}
    save_bundle(root / "start", Ensemble([MammogramNet(ARCHITECTURE)]), calibration(), card(architecture=shape))
    content = slab_recipe(steps=3, cache=root / "cache").model_dump(mode="json")
    (root / "recipe.yaml").write_text(yaml.safe_dump(content))
    made = Trained(root / "data", root / "start", root / "out", root / "recipe.yaml")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training.slab_networks.train, "fit_line", rising)
        patched.chdir(root)
        patched.setenv("MLFLOW_TRACKING_URI", "")  # MLflow leaves there what an earlier test has set
        done = run(*made.command("--track"))
    assert done.exit_code == 0, done.output
    assert f"{made.out / 'bundle'}" in done.output.replace("\n", "")
    return made


@pytest.fixture(scope="module")
def bundle(trained: Trained) -> Bundle:
    return load_bundle(trained.out / "bundle", torch.device("cpu"))


def test_the_bundle_holds_the_averaged_network_and_its_card_names_the_volumes(trained: Trained, bundle: Bundle) -> None:
    recipe = load_slab_recipe(trained.recipe, trained.data)
    own = averaged_slab_network(trained.out / "member-0" / "checkpoint.pt", recipe.architecture).state_dict()
    assert bundle.slabs is not None
    (member,) = bundle.slabs.members
    for name, weight in member.state_dict().items():
        assert torch.allclose(weight, own[name], rtol=0.02, atol=0.02 * float(own[name].abs().max())), name
    assert bundle.card.version == "7"
    (data,) = bundle.card.training_data
    assert data.name == "simulated (volumes)"
    assert (data.women, data.images) == (len(LEARNED), 4 * len(LEARNED))
    assert any("8 volumes from simulated (volumes)" in limit for limit in bundle.card.limits)
    assert bundle.slabbing == recipe.slabbing
    assert bundle.calibration.slabs is not None
    assert bundle.calibration.slabs.fitted_on.startswith("2 breasts")


def test_the_training_stands_in_mlflow_with_its_curve_and_the_bundle_is_registered(
    trained: Trained, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(trained.out.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    mlflow.set_tracking_uri(f"sqlite:///{Path('mlruns', 'mlflow.db').resolve()}")
    (one,) = mlflow.search_runs(experiment_names=["screening"], output_format="list")
    assert one.data.params["normal_weight"] == "30.0"
    assert one.data.params["calibration.name"] == "simulated"
    assert not any("/" in value for value in one.data.params.values())
    assert {"member-0/normal", "scale_slope"} <= set(one.data.metrics)
    assert one.data.tags["model_id"] == bundle.model_id
    again = load_bundle(f"models:/{bundle.card.name}/1", torch.device("cpu"))
    assert again.model_id == bundle.model_id


def test_the_bundle_scores_a_volume_as_its_slab_network_answers(trained: Trained, bundle: Bundle) -> None:
    exam = read_folder(trained.data / "calibration" / "dicom", load_site(None)).exams[0]
    one = next(image for image in exam.images if image.frames > 1)
    exam = replace(exam, images=(one,))
    # The scale fitted after three steps may be so steep that scores round to 0 or 1.
    level = scaled(bundle, -bundle.calibration.intercept / bundle.calibration.slope)
    result = score(exam, level)
    assert result.status is Status.SCORED
    assert result.images[0].regions[0].frame_peak is not None
    assert level.calibration.slabs is not None
    lifted = scaled(bundle, level.calibration.slabs.intercept + 2.0)
    assert result.score is not None
    higher = score(exam, lifted).score
    assert higher is not None
    moved = (logits(higher) - logits(result.score)) / bundle.calibration.slope
    assert float(moved) == pytest.approx(2.0, abs=1e-3), "the network for 2D images has no say"


def scaled(bundle: Bundle, intercept: float) -> Bundle:
    """The bundle with the answers of its slab networks on a flat scale."""
    scale = SlabScale(slope=0.1, intercept=intercept, fitted_on="nothing")
    return replace(bundle, calibration=bundle.calibration.model_copy(update={"slabs": scale}))


def test_the_curve_is_written_and_a_finished_member_is_not_trained_again(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = (trained.out / "member-0" / "curve.csv").read_text().splitlines()
    assert curve[0] == "epoch,figure,value"
    assert {line.split(",")[0] for line in curve[1:]} == {"3"}
    assert {line.split(",")[1] for line in curve[1:]} == {"total", "lesions", "normal"}
    checkpoint = trained.out / "member-0" / "checkpoint.pt"
    before = checkpoint.stat().st_mtime_ns
    monkeypatch.setattr(training.slab_networks.train, "fit_slabs", None)
    monkeypatch.setattr(training.slab_networks.train, "fit_line", rising)
    done = run(*trained.command())
    assert done.exit_code == 0, done.output
    assert checkpoint.stat().st_mtime_ns == before


def test_while_another_member_is_missing_there_is_no_bundle(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load(trained.recipe.read_text()) | {"members": 2}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(content))
    two = replace(trained, recipe=tmp_path / "two.yaml")
    started: list[tuple[int, Path]] = []

    def noted(volumes: Any, recipe: Any, start: Any, checkpoint: Path, **options: Any) -> None:
        del volumes, start, options
        started.append((recipe.seed, checkpoint))

    monkeypatch.setattr(training.slab_networks.train, "fit_slabs", noted)
    done = run(*two.command("--member", 1, out=tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert started == [(content["seed"] + 1, tmp_path / "out" / "member-1" / "checkpoint.pt")]
    assert not (tmp_path / "out" / "bundle").exists()
    assert run(*two.command("--member", 2, out=tmp_path / "out")).exit_code == 2


def test_women_who_are_in_the_data_and_in_the_calibration_are_refused_before_any_training(
    trained: Trained, tmp_path: Path
) -> None:
    content = yaml.safe_load(trained.recipe.read_text())
    content["calibration"]["root"] = "learned"
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(content))
    done = run(*replace(trained, recipe=tmp_path / "same.yaml").command(out=tmp_path / "out"))
    assert done.exit_code == 2
    assert "2 of its women are in data as well" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()
    records = volume_records(DataSource(name="simulated", root=trained.data / "learned"))
    others = volume_records(DataSource(name="simulated", root=trained.data / "calibration"))
    check_apart(records, others)
    with pytest.raises(ConfigError, match="1 of its women are in data as well"):
        check_apart(records, [*others, records[0]])


def test_a_bundle_of_another_backbone_is_refused(trained: Trained, tmp_path: Path) -> None:
    other = replace(trained, start=tiny_bundle(tmp_path / "tiny"))
    done = run(*other.command(out=tmp_path / "out"))
    assert done.exit_code == 2
    assert "its networks are of test_efficientnet" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_a_set_whose_volumes_teach_nothing_is_refused(taught: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unmarked"
    part(taught, LEARNED, folder)
    rows = (folder / "images.csv").read_text(encoding="utf-8").splitlines()
    malignant = rows[0].split(",").index("malignant")
    told = [row.split(",") for row in rows[1:]]
    ill = [",".join([*row[:malignant], "1", *row[malignant + 1 :]]) for row in told]
    (folder / "images.csv").write_text("\n".join([rows[0], *ill, ""]), encoding="utf-8")
    lesions = (folder / "lesions.csv").read_text(encoding="utf-8").splitlines()[0]
    (folder / "lesions.csv").write_text(lesions + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no tomosynthesis volume whose lesions have all a place and a frame"):
        teaching_volumes(DataSource(name="simulated", root=folder))


def test_a_set_without_volumes_is_refused(taught: Path, tmp_path: Path) -> None:
    part(taught, range(0), tmp_path / "none")
    with pytest.raises(ConfigError, match="holds no tomosynthesis volumes"):
        volume_records(DataSource(name="simulated", root=tmp_path / "none"))


@pytest.mark.parametrize(
    ("change", "key"),
    [({"step": 5}, "step"), ({"steps": 0}, "steps"), ({"calibration": {"name": "simulated"}}, "calibration.root")],
)
def test_unknown_and_impossible_keys_of_a_recipe_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(slab_recipe().model_dump(mode="json") | change))
    with pytest.raises(ConfigError, match=rf"recipe\.yaml: {key}: "):
        load_slab_recipe(file)


def test_the_bundled_recipe_is_valid_and_starts_its_roots_from_the_data_root() -> None:
    recipe = load_slab_recipe(config_dir("training") / "slabs.yaml", Path("somewhere"))
    roots = [source.root for source in (*recipe.data, recipe.calibration)]
    assert all(root.parts[0] == "somewhere" for root in roots)
    assert len(set(roots)) == len(roots)


def test_on_the_fitted_scale_an_answer_means_the_same_probability_as_the_bundles_own_logit(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = load_bundle(trained.start, torch.device("cpu"))
    rng = np.random.default_rng(0)
    answers = rng.normal(0, 2, 400)
    malignant = rng.random(400) < 1 / (1 + np.exp(-(0.7 * answers + 0.4)))
    records = [
        replace(volume(malignant=bool(ill)), woman=str(number), exam=str(number), image=str(number))
        for number, ill in enumerate(malignant)
    ]

    def scored(*_: Any, **__: Any) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                breasts=[SimpleNamespace(laterality=Laterality.LEFT, score=own.calibration.score(float(answer)))],
                images=[SimpleNamespace(image=SimpleNamespace(image_id=f"simulated-{n}", laterality=Laterality.LEFT))],
            )
            for n, answer in enumerate(answers)
        ]

    monkeypatch.setattr(training.slab_networks.train, "score_dataset", scored)
    source = DataSource(name="simulated", root=tmp_path)
    scale = fit_scale(own, records, source, tmp_path, 1)
    line = fit_line(malignant, scale.slope * answers + scale.intercept, own.calibration.prevalence)
    assert (line.slope, line.intercept) == pytest.approx((own.calibration.slope, own.calibration.intercept), rel=1e-4)
    assert scale.fitted_on == f"400 breasts, {malignant.sum()} with cancer: simulated"
    fallen = [replace(one, malignant=not one.malignant) for one in records]
    with pytest.raises(ConfigError, match="do not rise with cancer"):
        fit_scale(own, fallen, source, tmp_path, 1)
