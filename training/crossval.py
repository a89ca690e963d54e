"""Cross-validation by woman: one network a fold, and its answers on the women that it never saw."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.progress import track

from screening.errors import ConfigError
from screening.model.bundle import Bundle, Card
from screening.model.network import MammogramNet
from screening.result import ExamResult
from screening.scoring import answer, score
from screening.store import ResultStore, write_tables
from training.calibrate import UNCALIBRATED
from training.data import prepare_all
from training.datasets.record import Record
from training.exams import as_exams
from training.fit import Report, fit
from training.recipe import Recipe
from training.splits import check_no_leak, folds

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

    Goes on from a checkpoint where one lies. Raises `ConfigError` when a woman is on both sides.
    """
    folder = out / f"fold-{fold}"
    if (folder / "done").exists():
        return
    split = folds(records, recipe.folds, recipe.seed)[fold]
    check_no_leak(split.train, split.test)
    prepared = prepare_all(split.train, recipe)
    network = fit(prepared, recipe, folder / "checkpoint.pt", device=device, report=report, workers=workers)
    (folder / STORE).unlink(missing_ok=True)
    with ResultStore(folder / STORE) as store:
        for result in score_records(split.test, network, recipe, f"fold-{fold}", device):
            store.add(result)
    (folder / "done").touch()


def score_records(
    records: Sequence[Record], network: MammogramNet, recipe: Recipe, model_id: str, device: torch.device
) -> Iterator[ExamResult]:
    """Uncalibrated results of every exam among the records."""
    exams = as_exams(records)
    bundle = uncalibrated_bundle(network, recipe, model_id, device)
    for exam in track(exams.exams, f"Scoring {model_id}", transient=True):
        yield score(exam, bundle, lambda image: answer(image, bundle, load=exams.load))


def uncalibrated_bundle(network: MammogramNet, recipe: Recipe, model_id: str, device: torch.device) -> Bundle:
    """A network in a bundle's clothes, for scoring before there is a calibration."""
    card = Card.model_validate(
        {
            "name": recipe.name,
            "version": model_id,
            "architecture": {"backbone": recipe.backbone, "channels": recipe.channels},
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
    return Bundle(card, UNCALIBRATED, network.eval(), "", device)


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
