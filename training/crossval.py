"""Cross-validation by woman: one network a fold, and its answers on the women that it never saw."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from rich.progress import track
from torch import nn

from evaluation.roc import auc
from screening.errors import ConfigError
from screening.model.bundle import Bundle, Card
from screening.model.network import Ensemble, MammogramNet
from screening.result import ExamResult
from screening.scoring import answer, score
from screening.store import ResultStore, write_tables
from training.calibrate import UNCALIBRATED
from training.data import prepare_all
from training.datasets.record import Record
from training.exams import as_exams, image_id
from training.export import architecture_card
from training.fit import Report, Validate, averaged_network, fit
from training.recipe import Recipe
from training.splits import check_no_leak, folds
from training.truth import breasts

LOG = logging.getLogger(__name__)

STORE = "out-of-fold.sqlite"


def train_fold(
    records: Sequence[Record],
    fold: int,
    recipe: Recipe,
    out: Path,
    device: torch.device,
    report: Report,
    workers: int = 0,
) -> None:
    """Train fold `fold` (from 0) and store its answers on the held-out women in `out/fold-K/`; done once, kept.

    Goes on from a checkpoint where one lies. With a recipe that has patience, an eighth of the women to learn from is
    kept to decide when to stop; the held-out women have no part in it. Raises `ConfigError` when a woman is on both
    sides.
    """
    folder = out / f"fold-{fold}"
    if (folder / "done").exists():
        return
    split = folds(records, recipe.folds, recipe.seed, recipe.train_only)[fold]
    check_no_leak(split.train, split.test)
    networks = trained(split.train, recipe, folder, device, report, workers)
    (folder / STORE).unlink(missing_ok=True)
    with ResultStore(folder / STORE) as store:
        for result in score_records(split.test, networks, recipe, f"fold-{fold}", device):
            store.add(result)
    (folder / "done").touch()


def trained(
    records: Sequence[Record], recipe: Recipe, folder: Path, device: torch.device, report: Report, workers: int = 0
) -> list[MammogramNet]:
    """The network at the end of each stage that answers; checkpoints and curves go to `folder`, done once, kept."""
    learn, validate = records, None
    if any(stage.optimisation.patience for stage in recipe.stages):
        split = folds(records, 8, recipe.seed, recipe.train_only)[0]
        learn, validate = split.train, validation(split.test, recipe.stages[0], device)  # one network answers
    prepared = prepare_all(learn, recipe)
    networks: list[MammogramNet] = []
    epochs = 0
    for index, stage in enumerate(recipe.stages):
        networks.append(
            fit(
                [one for one in prepared if one.record.dataset in {source.name for source in stage.data}],
                stage,
                folder / checkpoint_name(index),
                device=device,
                report=partial(_later, report, epochs),
                validate=validate if stage.optimisation.patience else None,
                workers=workers,
                start=networks[-1] if networks else None,
            )
        )
        epochs += stage.optimisation.epochs
    return [networks[index] for index in recipe.answering]


def _later(report: Report, epochs: int, figures: dict[str, float], epoch: int) -> None:
    """Report an epoch of a stage that others of `epochs` in all went before."""
    report(figures, epochs + epoch)


def checkpoint_name(stage: int) -> str:
    """The checkpoint's file name for a stage, from 0."""
    return f"checkpoint-{stage}.pt"


def validation(records: Sequence[Record], recipe: Recipe, device: torch.device) -> Validate:
    """A validation by breast AUC on the records' women, the mean over data sets that hold breasts of both kinds.

    Raises `ConfigError` if there is no such set.
    """
    by_image = {image_id(record): record for record in records}
    kinds = {name: {r.malignant for r in records if r.dataset == name} for name in {r.dataset for r in records}}
    names = sorted(name for name, found in kinds.items() if {True, False} <= found)
    if not names:
        raise ConfigError("optimisation.patience: no data set holds enough breasts with and without cancer to validate")

    def validate(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, MammogramNet)
        results = list(score_records(records, [network], recipe, "validation", device, quiet=True))
        rows = {name: breasts(results, by_image, name) for name in names}
        areas = {name: auc(own.malignant, own.score) for name, own in rows.items()}
        return {f"validation_auc_{name}": area for name, area in areas.items()} | {"select": fmean(areas.values())}

    return validate


def score_records(
    records: Sequence[Record],
    networks: Sequence[MammogramNet],
    recipe: Recipe,
    model_id: str,
    device: torch.device,
    *,
    quiet: bool = False,
) -> Iterator[ExamResult]:
    """Uncalibrated results of every exam among the records, by networks that answer together.

    `quiet`: without a progress bar.
    """
    exams = as_exams(records)
    bundle = uncalibrated_bundle(networks, recipe, model_id, device)
    for exam in track(exams.exams, f"Scoring {model_id}", transient=True, disable=quiet):
        yield score(exam, bundle, lambda image: answer(image, bundle, load=exams.load))


def uncalibrated_bundle(
    networks: Sequence[MammogramNet], recipe: Recipe, model_id: str, device: torch.device
) -> Bundle:
    """Networks in a bundle's clothes, for scoring before there is a calibration."""
    card = Card.model_validate(
        {
            "name": recipe.name,
            "version": model_id,
            "architecture": architecture_card(recipe, len(networks)),
            "preparation": {"pixel_spacing_mm": recipe.pixel_spacing_mm},
            "intents": ["FOR PRESENTATION"],
            "files": {},
            "intended_use": "cross-validation",
            "limits": [],
            "licence": "",
            "training_data": [],
            "figures": [],
        }
    )
    return Bundle(card, UNCALIBRATED, Ensemble(networks, len(recipe.answering)).eval(), "", device)


def collect(recipe: Recipe, out: Path) -> list[ExamResult]:
    """The out-of-fold results of all folds, uncalibrated, sorted by exam. Every exam was scored by one fold."""
    results = [result for fold in range(recipe.folds) for result in fold_results(out, fold)]
    return sorted(results, key=lambda result: result.exam_id)


def fold_results(out: Path, fold: int) -> list[ExamResult]:
    """The results of one fold's held-out women, uncalibrated. Raises `ConfigError` if the fold has none yet."""
    store_file = out / f"fold-{fold}" / STORE
    if not (out / f"fold-{fold}" / "done").exists():
        raise ConfigError(f"{store_file.parent}: the fold is not finished; run screening crossval first")
    with ResultStore(store_file) as store:
        return list(store.results())


def fold_networks(out: Path, fold: int, recipe: Recipe) -> list[MammogramNet]:
    """The networks of one fold, one for each stage that answers. Raises `ConfigError` if the fold is not finished."""
    if not (out / f"fold-{fold}" / "done").exists():
        raise ConfigError(f"{out / f'fold-{fold}'}: the fold is not finished; run screening crossval first")
    return [averaged_network(out / f"fold-{fold}" / checkpoint_name(stage), recipe) for stage in recipe.answering]


def finished_folds(recipe: Recipe, out: Path) -> bool:
    """Whether every fold has been trained and scored."""
    return all((out / f"fold-{fold}" / "done").exists() for fold in range(recipe.folds))


def write_out_of_fold(results: Sequence[ExamResult], out: Path) -> None:
    """Write `exams.csv`, `images.csv` and `regions.csv` of (calibrated) out-of-fold results, as `score` does."""
    (out / STORE).unlink(missing_ok=True)
    with ResultStore(out / STORE) as store:
        for result in results:
            store.add(result)
        write_tables(store, out)
