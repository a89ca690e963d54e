"""Cross-validation by woman: one network a fold, and its answers on the women that it never saw."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.progress import track
from torch import nn

from evaluation.roc import auc
from screening.errors import ConfigError
from screening.model.bundle import Bundle, Card
from screening.model.network import Ensemble, MammogramNet
from screening.result import ExamResult
from screening.scoring import answer, score
from screening.store import ResultStore, write_atomically, write_tables
from training.calibrate import UNCALIBRATED
from training.data import prepare_all
from training.datasets.record import Record
from training.exams import as_exams, image_id
from training.export import architecture_card
from training.fit import Report, Validate, averaged_network, between, fit
from training.recipe import Recipe
from training.splits import Fold, check_no_leak, folds, manifest
from training.truth import breasts

LOG = logging.getLogger(__name__)

STORE = "out-of-fold.sqlite"
STARTED, DONE = "of.json", "done"
"""Files of a folder that is begun and finished. Each holds, as JSON, what `made_of` says of recipe and data."""


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
    sides, and where the folder holds what another recipe or other data made.
    """
    folder = out / f"fold-{fold}"
    of = made_of(recipe, records)
    if (folder / DONE).exists():
        check_made_of(folder / DONE, of)
        return
    split = folds(records, recipe.folds, recipe.seed, recipe.train_only)[fold]
    check_no_leak(split.train, split.test)
    begin(folder, of)
    networks = trained(split.train, recipe, folder, device, report, workers)
    (folder / STORE).unlink(missing_ok=True)
    with ResultStore(folder / STORE) as store:
        for result in score_records(split.test, networks, recipe, f"fold-{fold}", device):
            store.add(result)
    _write(folder / DONE, of)


def made_of(recipe: Recipe, records: Sequence[Record] | None = None) -> dict[str, str]:
    """SHA-256 of all in the recipe that networks depend on ("recipe") and, with `records`, of these ("data").

    Folders, names, licences and the prevalence do not count. Reads every image file.
    """
    aside: dict[str, Any] = {"name": True, "prevalence": True, "cache": True}
    content = recipe.model_dump(mode="json", exclude=aside | {"data": {"__all__": {"root", "licence", "citation"}}})
    of = {"recipe": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}
    return of if records is None else of | {"data": manifest(records)["sha256"]}


def begin(folder: Path, of: Mapping[str, str]) -> None:
    """Write down what is made in `folder`. Raises `ConfigError` if checkpoints of something else lie there."""
    if (folder / STARTED).exists() or (folder / checkpoint_name(0)).exists():
        check_made_of(folder / STARTED, of)
    _write(folder / STARTED, of)


def check_made_of(file: Path, of: Mapping[str, str]) -> None:
    """Raises `ConfigError` unless `file`, of the name `STARTED` or `DONE`, says the same of all that `of` names."""
    try:
        found = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        found = {}  # an older version wrote nothing
    changed = [name for name, digest in of.items() if found.get(name) != digest]
    if changed:
        raise ConfigError(
            f"{file.parent}: its networks come from before the {' and the '.join(changed)} changed; start anew with "
            "another --out, or go back to what they were made with"
        )


def _write(file: Path, of: Mapping[str, str]) -> None:
    write_atomically(file, [json.dumps(of).encode()])


def learning(records: Sequence[Record], recipe: Recipe) -> Fold:
    """Which of the records weights are learned from; with patience, an eighth of the women decides when to stop."""
    if any(stage.optimisation.patience for stage in recipe.stages):
        return folds(records, 8, recipe.seed, recipe.train_only)[0]
    return Fold(tuple(records), ())


def trained(
    records: Sequence[Record], recipe: Recipe, folder: Path, device: torch.device, report: Report, workers: int = 0
) -> list[MammogramNet]:
    """The network at the end of each stage that answers; checkpoints and curves go to `folder`, done once, kept.

    Only `learning(records, recipe).train` are learned from. `folder`: one on which `begin` was called.
    """
    split = learning(records, recipe)
    validate = validation(split.test, recipe.stages[0], device) if split.test else None  # one network answers
    prepared = prepare_all(split.train, recipe)
    networks: list[MammogramNet] = []
    epochs = 0
    for index, stage in enumerate(recipe.stages):
        start = networks[-1] if networks else None
        end = fit(
            [one for one in prepared if one.record.dataset in {source.name for source in stage.data}],
            stage,
            folder / checkpoint_name(index),
            device=device,
            report=partial(_later, report, epochs),
            validate=validate if stage.optimisation.patience else None,
            workers=workers,
            start=start,
        )
        networks.append(between(start, end, stage.kept) if start else end)
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


def collect(recipe: Recipe, out: Path, records: Sequence[Record] | None = None) -> list[ExamResult]:
    """The out-of-fold results of all folds, uncalibrated, sorted by exam. Every exam was scored by one fold.

    Raises `ConfigError` unless all are finished and made with this recipe and, if given, these records.
    """
    of = made_of(recipe, records)
    results = [result for fold in range(recipe.folds) for result in fold_results(out, fold, of)]
    return sorted(results, key=lambda result: result.exam_id)


def fold_results(out: Path, fold: int, of: Mapping[str, str] | None = None) -> list[ExamResult]:
    """The results of one fold's held-out women, uncalibrated.

    Raises `ConfigError` if the fold has none yet, or they come from something else than `of`, given by `made_of`.
    """
    with ResultStore(_finished(out, fold, of or {}) / STORE) as store:
        return list(store.results())


def _finished(out: Path, fold: int, of: Mapping[str, str]) -> Path:
    """The folder of a fold that is finished and was made of that."""
    folder = out / f"fold-{fold}"
    if not (folder / DONE).exists():
        raise ConfigError(f"{folder}: the fold is not finished; run screening crossval first")
    check_made_of(folder / DONE, of)
    return folder


def fold_networks(out: Path, fold: int, recipe: Recipe) -> list[MammogramNet]:
    """The networks of one fold, one for each stage that answers.

    Raises `ConfigError` if the fold is not finished, or was trained with another recipe.
    """
    folder = _finished(out, fold, made_of(recipe))
    return [_stage_network(folder, recipe, stage) for stage in recipe.answering]


def _stage_network(folder: Path, recipe: Recipe, stage: int) -> MammogramNet:
    """The network at the end of a stage, from its checkpoint, as `trained` returned it."""
    end, kept = averaged_network(folder / checkpoint_name(stage), recipe), recipe.stages[stage].kept
    return between(_stage_network(folder, recipe, stage - 1), end, kept) if kept else end


def finished_folds(recipe: Recipe, out: Path) -> bool:
    """Whether every fold has been trained and scored."""
    return all((out / f"fold-{fold}" / DONE).exists() for fold in range(recipe.folds))


def write_out_of_fold(results: Sequence[ExamResult], out: Path) -> None:
    """Write `exams.csv`, `images.csv` and `regions.csv` of (calibrated) out-of-fold results, as `score` does.

    The folds' networks stand in them as one model, "out-of-fold": they are measured and calibrated as one.
    """
    (out / STORE).unlink(missing_ok=True)
    with ResultStore(out / STORE) as store:
        for result in results:
            store.add(replace(result, model_id="out-of-fold"))
        write_tables(store, out)
