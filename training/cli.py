"""The commands `screening train`, `crossval` and `test`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluation.cli import Track, TrackingUri
from screening.cli import SOME_FAILED, Model, one_sentence
from screening.configs import config_dir
from screening.errors import ConfigError
from screening.options import Half
from training.options import Config, DataRoot, Out, Threads, Workers, write_curve
from training.phantom.cli import join as join_phantom
from training.slab_networks.cli import join as join_slabs

if TYPE_CHECKING:
    import torch

    from training.datasets.record import Record
    from training.figures import Accuracy
    from training.recipe import Recipe

LOG = logging.getLogger(__name__)


def join(app: typer.Typer) -> None:
    """Add this package's commands to the application."""
    app.command("train")(train_command)
    app.command("crossval")(crossval_command)
    app.command("test")(testset_command)
    join_slabs(app)
    join_phantom(app)


def crossval_command(
    config: Config = "bundled",
    data_root: DataRoot = Path("."),
    out: Out = Path("out/crossval"),
    fold: Annotated[
        int | None, typer.Option("--fold", min=0, help="Train only this fold (from 0); run several side by side.")
    ] = None,
    threads: Threads = 1,
    workers: Workers = 0,
    track: Track = True,
    tracking_uri: TrackingUri = None,
) -> None:
    """Train one network a fold, score the women that it never saw, and measure all folds together.

    When every fold is done, --out holds exams.csv, images.csv, regions.csv (calibrated, out of fold),
    calibration.yaml and figures.json.
    """
    with one_sentence():
        import torch

        from training.crossval import finished_folds, train_fold
        from training.data import read_records

        torch.set_num_threads(threads)
        recipe = read_recipe(config, data_root)
        if fold is not None and fold >= recipe.folds:
            raise ConfigError(f"--fold: the recipe has folds 0 to {recipe.folds - 1}")
        records = read_records(recipe)
        for k in range(recipe.folds) if fold is None else (fold,):
            train_fold(records, k, recipe, out, _device(), write_curve(out / f"fold-{k}" / "curve.csv"), workers)
        if finished_folds(recipe, out):
            _conclude(recipe, records, out, track, tracking_uri)


def _conclude(recipe: Recipe, records: Sequence[Record], out: Path, track: bool, uri: str | None) -> None:
    """Measure and calibrate the finished folds; write, print and log what came out."""
    import yaml

    from screening.model.bundle import CALIBRATION
    from training.calibrate import recalibrated
    from training.crossval import collect, write_out_of_fold
    from training.figures import calibrate, measure, study, write_figures

    results = collect(recipe, out, records)
    held_out = study(results, records, recipe)
    calibration = calibrate(held_out)
    accuracy = measure(held_out)
    write_out_of_fold(recalibrated(results, calibration), out)
    text = yaml.safe_dump(calibration.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    (out / CALIBRATION).write_text(text, encoding="utf-8")
    write_figures(accuracy, out / "figures.json")
    print_figures(accuracy)
    if track:
        from training.tracking import log_crossval

        log_crossval(held_out, accuracy, out, uri)


def train_command(
    config: Config = "bundled",
    data_root: DataRoot = Path("."),
    out: Out = Path("out/train"),
    crossval: Annotated[
        Path | None,
        typer.Option(
            "--crossval",
            help="Finished cross-validation of this recipe, which gives the calibration and the figures. Without it, "
            "the women of fold 0 are held back from training, and give them.",
        ),
    ] = None,
    from_fold: Annotated[
        int | None,
        typer.Option("--from-fold", min=0, help="Train nothing: take the network of this fold of --crossval."),
    ] = None,
    from_folds: Annotated[
        bool,
        typer.Option("--from-folds", help="Train nothing: the networks of all folds of --crossval answer together."),
    ] = False,
    version: Annotated[str, typer.Option("--version", help="The bundle's version.")] = "0.1.0",
    threads: Threads = 1,
    workers: Workers = 0,
    track: Track = True,
    tracking_uri: TrackingUri = None,
) -> None:
    """Train a model and write its bundle to --out/bundle: weights, card and calibration."""
    with one_sentence():
        import torch

        from training.crossval import (
            begin,
            collect,
            fold_networks,
            fold_results,
            learning,
            made_of,
            train_fold,
            trained,
        )
        from training.data import read_records
        from training.export import make_bundle
        from training.figures import calibrate, measure, study
        from training.splits import folds

        torch.set_num_threads(threads)
        recipe = read_recipe(config, data_root)
        records = read_records(recipe)
        if (from_fold is not None or from_folds) and crossval is None:
            raise ConfigError("--from-fold, --from-folds: say with --crossval which cross-validation is meant")
        if from_fold is not None and from_folds:
            raise ConfigError("--from-fold, --from-folds: choose one of them")
        if crossval is None:
            train_fold(records, 0, recipe, out, _device(), write_curve(out / "fold-0" / "curve.csv"), workers)
            crossval, from_fold = out, 0
        parts = [fold.train for fold in folds(records, recipe.folds, recipe.seed, recipe.train_only)]
        if from_fold is not None:
            held_out = study(fold_results(crossval, from_fold, made_of(recipe, records)), records, recipe, from_fold)
            members = fold_networks(crossval, from_fold, recipe)
            parts, limit = [parts[from_fold]], ONE_FOLD
        else:
            held_out = study(collect(recipe, crossval, records), records, recipe)
            if from_folds:
                members = [n for fold in range(recipe.folds) for n in fold_networks(crossval, fold, recipe)]
                limit = ALL_FOLDS
            else:
                begin(out, made_of(recipe, records))
                members = trained(records, recipe, out, _device(), write_curve(out / "curve.csv"), workers)
                parts, limit = [tuple(records)], ALL_WOMEN
        # Each record once, though several folds learned from it.
        learned = list(dict.fromkeys(one for part in parts for one in learning(part, recipe).train))
        who = STOPPED_BY if learning(records, recipe).test else "all women of the data sets"
        limits = [limit.format(folds=recipe.folds, who=who)]
        accuracy = measure(held_out)
        bundle = out / "bundle"
        make_bundle(
            members,
            recipe,
            calibrate(held_out),
            accuracy.cards(),
            learned,
            bundle,
            version=version,
            limits=[*limits, *accuracy.notes],
        )
        LOG.info("bundle: %s", bundle)
        if track:
            from training.tracking import log_bundle

            log_bundle(held_out, accuracy, bundle, out, tracking_uri, crossval)


def print_figures(accuracy: Accuracy) -> None:
    """Print the figures with their targets, and what has to be known about them."""
    from rich.console import Console

    from training.figures import rich_table

    console = Console()
    # Into a file or a pipe the table keeps its lines whole.
    console = console if console.is_terminal else Console(width=200)
    console.print(rich_table(accuracy))
    for note in accuracy.notes:
        console.print(note)


ALL_WOMEN = (
    "The weights learned from {who}. Figures and calibration are those of the same recipe in cross-validation: {folds} "
    "networks, each judged on women that it never saw."
)
STOPPED_BY = "seven eighths of the women of the data sets; the others decided when to stop"
ALL_FOLDS = (
    "{folds} networks answer together; each learned from other women, and every woman of the data sets was seen by "
    "some. Figures and calibration are those of the single networks in cross-validation, each judged on women that it "
    "never saw; what they gain by answering together could not be measured on these data."
)
ONE_FOLD = (
    "The weights learned from one part of the women. Figures, calibration, categories and operating points come only "
    "from the other, held-out women; the calibration's own figures from fitting it on four fifths of them and judging "
    "it on the last."
)


def testset_command(
    data: Annotated[
        str, typer.Option("--data", help="NAME:DIR, a dataset adapter and the folder in its publisher's layout.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; earlier ones in it are replaced.")],
    model: Model = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Exams scored at once.")] = os.cpu_count() or 1,
    half: Half = None,
) -> None:
    """Score a data set with a bundle: exams.csv, images.csv and regions.csv under --out.

    Exit code 0: every exam is scored or rejected with its reason. 1: some failed, the rest is done. 2: wrong use.
    """
    with one_sentence():
        name, separator, folder = data.partition(":")
        if not separator or not folder:
            raise ConfigError(f"--data: {data!r} is not NAME:DIR, such as rsna:/data/rsna")

        from screening.model.bundle import load_bundle
        from screening.model.precision import bfloat16_pays
        from screening.result import Status
        from training.datasets import read_dataset
        from training.testset import score_dataset

        records = read_dataset(name, Path(folder), truth=False)
        bundle = load_bundle(model)
        use_half = bfloat16_pays(bundle.device) if half is None else half
        results = score_dataset(records, bundle, out, workers=workers, half=use_half)
        failed = sum(result.status is Status.FAILED for result in results)
        typer.echo(f"{len(results)} exams, {failed} failed; tables in {out}")
    raise typer.Exit(SOME_FAILED if failed else 0)


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def read_recipe(config: str, data_root: Path) -> Recipe:
    """The recipe in a file, or the bundled one of that name."""
    from training.recipe import load_recipe

    bundled = config_dir("training") / f"{config}.yaml"
    return load_recipe(bundled if bundled.is_file() else Path(config), data_root)
