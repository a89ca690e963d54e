"""Pictures of a study: ROC, FROC and reliability, and its best and worst cases with their heatmaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.calibration import reliability_bins
from evaluation.froc import FrocStatistics
from evaluation.roc import auc, roc_curve
from screening.errors import ConfigError
from screening.model.bundle import Bundle
from screening.report.figures import Colour, annotated, heat_intensity
from screening.result import ExamResult
from screening.scoring import answer, score
from training.calibrate import screening_weights
from training.crossval import fold_networks, uncalibrated_bundle
from training.exams import as_exams
from training.figures import Study, age_and_machine, calibrate, held_out_probability, main_dataset
from training.truth import Breasts, localised

Kind = Literal["cancer found", "cancer missed", "false alarm"]
CASES: tuple[Kind, ...] = ("cancer found", "cancer missed", "false alarm")


def roc_picture(study: Study) -> Figure:
    """ROC curves of the breasts of every data set that has both kinds, and of age and machine alone."""
    figure, axes = _axes("share of breasts without cancer that are called", "share of breasts with cancer found")
    for source in study.recipe.data:
        own = study.breasts(source.name)
        if len(set(own.malignant.tolist())) < 2:
            continue
        curves = {source.name: own.score}
        if source.name == main_dataset(study):
            curves["age and machine alone"] = age_and_machine(study, own)
        for label, scores in curves.items():
            curve = roc_curve(own.malignant, scores)
            axes.plot(curve.fpr, curve.tpr, label=f"{label}, AUC {auc(own.malignant, scores):.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set(title="ROC, breasts, out of fold", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="lower right")
    return figure


def froc_picture(study: Study) -> Figure:
    """FROC curves for malignant lesions, and for all where some are benign."""
    figure, axes = _axes("false positives per image (all images)", "share of lesions found (centre in lesion)")
    for source in study.recipe.data:
        for kind in ("malignant", "any"):
            found = localised(study.results, study.by_image, source.name, malignant_only=kind == "malignant")
            if not found.lesions.target.any() or (kind == "any" and not _has_benign(study, source.name)):
                continue
            curve = FrocStatistics(found.regions, found.lesions, found.n_images).curve()
            axes.plot(curve.fp_rate, curve.sensitivity, label=f"{source.name}, {kind} lesions")
    axes.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    axes.set(title="FROC, out of fold", xlim=(0, 4), ylim=(0, 1))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    return figure


def _has_benign(study: Study, dataset: str) -> bool:
    lesions = (lesion for r in study.records if r.dataset == dataset for lesion in r.lesions or ())
    return any(lesion.malignant is False for lesion in lesions)


def reliability_picture(study: Study) -> Figure:
    """Observed against predicted risk of the main data set's breasts, both at screening prevalence."""
    name = main_dataset(study)
    own = study.breasts(name)
    prevalence = study.recipe.prevalence
    bins = reliability_bins(
        own.malignant, held_out_probability(study, own), weight=screening_weights(own.malignant, prevalence)
    )
    figure, axes = _axes("predicted probability of cancer", f"observed share, weighted to {prevalence:.1%}")
    axes.errorbar(
        bins.predicted,
        bins.observed,
        # An end of the interval may lie on the other side of 0 or 1 by rounding.
        yerr=np.maximum([bins.observed - bins.low, bins.high - bins.observed], 0),
        fmt="o",
        capsize=3,
        label=f"{name}, tenths of the breasts",
    )
    line = [float(bins.predicted.min()), float(bins.predicted.max())]
    axes.plot(line, line, color="grey", linewidth=0.8, linestyle=":", label="perfect")
    axes.set(title="Reliability, held-out folds", xscale="log", yscale="log")
    axes.set_ylim(bottom=prevalence / 100)  # a tenth without cancers lies below the picture
    axes.legend(loc="upper left")
    return figure


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def case_pictures(study: Study, checkpoints: Path, each: int = 3) -> Iterator[tuple[Kind, str, Colour]]:
    """Pictures of the clearest cases: (kind, image id, uint8 (rows, columns, BGR)), `each` of every kind.

    The exams are scored again, by the network of their own fold (in `checkpoints/fold-K/`), as heatmaps are not kept.
    Nothing comes of a fold without a checkpoint.
    """
    calibration = calibrate(study)
    reference = calibration.category_thresholds[-1]
    by_woman = {(record.dataset, record.woman): record for record in study.records}
    for kind in CASES:
        for group in extreme_women(study.breasts(main_dataset(study)), kind, each):
            fold = study.fold_of[by_woman[group].group]
            try:
                networks = fold_networks(checkpoints, fold, study.recipe)
            except ConfigError:
                continue
            plain = uncalibrated_bundle(networks, study.recipe, f"fold-{fold}", torch.device("cpu"))
            bundle = Bundle(plain.card, calibration, plain.network, plain.sha256, plain.device)
            exams = as_exams([record for record in study.records if record.group == group])
            for exam in exams.exams:
                result = score(exam, bundle, lambda image: answer(image, bundle, load=exams.load))  # noqa: B023
                yield from _top_picture(kind, result, reference)


def extreme_women(rows: Breasts, kind: Kind, count: int) -> list[tuple[str, str]]:
    """Women (dataset, woman) with the `count` breasts that are most of a kind: cancers scored highest or lowest, and
    breasts without cancer scored highest.
    """
    wanted = np.flatnonzero(rows.malignant == (kind != "false alarm"))
    order = wanted[np.argsort(rows.score[wanted], kind="stable")]
    chosen: Sequence[int] = (order if kind == "cancer missed" else order[::-1])[:count].tolist()
    return [rows.record[i].group for i in chosen]


def _top_picture(kind: Kind, result: ExamResult, reference: float) -> Iterator[tuple[Kind, str, Colour]]:
    """The image with the exam's highest region."""
    for image in result.images:
        if image.preview is not None and any(region.region_id == result.top_region_id for region in image.regions):
            intensity = heat_intensity(image.heatmap, image.image, image.preview.shape, reference)
            yield kind, image.image.image_id, annotated(image, intensity, reference)
