"""`python -m training.accuracy`: print the figures of a finished cross-validation and write them as a document."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from screening.cli import one_sentence
from training.cli import print_figures, read_recipe
from training.crossval import collect, fold_results, made_of
from training.data import read_records
from training.figures import FEWEST, REPLICATES, Accuracy, Measured, Study, measure, shown_range, study
from training.options import Config, DataRoot
from training.pages import keep_blocks
from training.recipe import Recipe
from training.splits import manifest


def main(
    config: Config = "bundled",
    data_root: DataRoot = Path("."),
    crossval: Annotated[Path, typer.Option("--crossval", help="Finished cross-validation.")] = Path("out/crossval"),
    fold: Annotated[
        int | None, typer.Option("--fold", min=0, help="Only the women held out by this fold, as for its bundle.")
    ] = None,
    docs: Annotated[Path, typer.Option("--docs", help="Document to write.")] = Path("docs/accuracy.md"),
) -> None:
    """Print the out-of-fold figures and write them to a document."""
    with one_sentence():
        recipe = read_recipe(config, data_root)
        records = read_records(recipe)
        if fold is None:
            results = collect(recipe, crossval, records)
        else:
            results = fold_results(crossval, fold, made_of(recipe, records))
        held_out = study(results, records, recipe, fold)
        accuracy = measure(held_out)
        print_figures(accuracy)
        docs.parent.mkdir(parents=True, exist_ok=True)
        old = docs.read_text(encoding="utf-8") if docs.exists() else ""
        docs.write_text(keep_blocks(old, document(held_out, accuracy, config, fold)), encoding="utf-8")


def document(held_out: Study, accuracy: Accuracy, config: str, fold: int | None = None) -> str:
    """The figures as Markdown, with what they rest on; `fold`: they are of its held-out women only."""
    recipe = held_out.recipe
    data = manifest(held_out.records)
    missed = [one for one in accuracy.figures if one.passed is False]
    lines = [
        "# Accuracy",
        "",
        f"{_networks(recipe, fold)} (folds by woman, stratified by data set, cancer and marked lesions; seed "
        f"{recipe.seed}). One recipe, `{config}`, gives all figures. "
        f"Intervals: 95 %, percentile bootstrap over women, {REPLICATES:,} replicates. Operating thresholds are read "
        "off the curves of the same women, so a figure at 1 false positive per image describes the curve.",
        "",
        "Research only: not a medical device, not for clinical use. The sets are small and enriched with cancers. What "
        "was tried, and what the women had been looked at for before: [trials.md](trials.md).",
        "",
        "## Figures",
        "",
        *_table(
            ("figure", "measured on", "value", "95 % interval", "floor", "aim", ""),
            (_row(one) for one in accuracy.figures),
        ),
        "",
        *_verdict(missed),
        *(f"- {note}" for note in accuracy.notes),
        "",
        f"{_calibrated_on(fold)} (Platt), its prior then shifted from the data's share of cancers to "
        f"{recipe.prevalence:.1%}; the figures weight the breasts to that share.",
        "Age and machine alone tell much about cancer in the set rsna, because of how it was sampled: that baseline "
        "stands beside the model, and the difference is paired on the same breasts.",
        "",
        "## Subgroups",
        "",
        f"AUC of the breasts, or of the images of one view, where at least {FEWEST} of them have cancer and {FEWEST} "
        "do not. An image is judged by its breast's truth, and its score already holds what the breast's other views "
        "add, as in use: these rows do not say what one view alone would be worth.",
        "",
        *_table(
            ("subgroup", "measured on", "AUC", "95 % interval"),
            (
                (one.title.partition(", ")[2], one.data, f"{one.interval.point:.3f}", _interval(one))
                for one in accuracy.subgroups
            ),
        ),
        "",
        "## Data",
        "",
        *_table(
            ("data set", "women", "images", "breasts", "breasts with cancer", "lesions"),
            (
                (name, *(str(c[k]) for k in ("women", "images", "breasts", "malignant_breasts", "lesions")))
                for name, c in data["datasets"].items()
            ),
        ),
        "",
        f"SHA-256 over labels and files: `{data['sha256']}`",
        "",
        "## Again",
        "",
        "```",
        *_commands(config, fold),
        "```",
        "",
        f"Figures computed on {platform.machine()}, {platform.system()}, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}. Networks trained on other hardware or with other library versions differ in "
        "the last digits of their weights, and so a little in their figures.",
        "",
    ]
    return "\n".join(lines)


def _networks(recipe: Recipe, fold: int | None) -> str:
    if fold is None:
        return f"Out of fold: {recipe.folds} networks, each scoring women that it never saw"
    return f"The network of fold {fold} of {recipe.folds}, on the women that it never saw"


def _calibrated_on(fold: int | None) -> str:
    if fold is None:
        return "The calibration of each fold's breasts was fitted on the other folds"
    return "The calibration was fitted on four fifths of the held-out women and judged on the last, in turn"


def _commands(config: str, fold: int | None) -> Iterator[str]:
    only = "" if fold is None else f" --fold {fold}"
    yield f"screening crossval --config {config} --data-root DATA --out out/crossval{only}"
    yield f"python -m training.accuracy --config {config} --data-root DATA --crossval out/crossval{only}"


def _row(one: Measured) -> tuple[str, ...]:
    target = one.target
    floor, aim = (shown_range(target.floor), shown_range(target.aim)) if target else ("", "")
    verdict = {None: "", True: "passed", False: "**missed**"}[one.passed]
    return one.title, one.data, f"{one.interval.point:.3f}", _interval(one), floor, aim, verdict


def _interval(one: Measured) -> str:
    return f"{one.interval.low:.3f} to {one.interval.high:.3f}"


def _verdict(missed: Sequence[Measured]) -> Iterator[str]:
    if not missed:
        yield "Every floor is met."
    for one in missed:
        yield f"- **Missed:** {one.title}, {one.data.partition(':')[0]}: {one.interval.point:.3f}."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
