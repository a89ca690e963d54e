"""ROC, FROC and reliability of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import NullFormatter

from evaluation.calibration import Reliability
from evaluation.cases import cases
from evaluation.checks import FloatArray
from evaluation.cohort import Cohort
from evaluation.figure import Figure
from evaluation.froc import FrocCurve
from evaluation.operating_points import Decisions
from evaluation.report.captions import caption, find, methods, reason, told
from evaluation.report.pictures import ACCENT, COLOURS, FAINT, INK, Picture, canvas, styled, thinned
from evaluation.roc import RocCurve
from evaluation.study import Evaluation

_READERS = {"reader1": ("first reader", "s"), "reader2": ("second reader", "D"), "recalled": ("recall decision", "^")}
Points = dict[str, tuple[float, float]]

_MOST_FALSE_POSITIVES = 4.0  # per image: nobody reads more


def roc(evaluation: Evaluation, decisions: Sequence[Decisions]) -> Picture:
    """The ROC curve, with the operating points of the protocol and the readers of the same exams."""
    cohort = evaluation.cohort
    if evaluation.roc is None:
        return Picture("roc", "ROC", caption(cohort), None, reason(evaluation.figures, "discrimination"))
    area = find(evaluation, "auc")
    points, of_readers = operating(cohort, decisions), readers(cohort)
    split = any(one.point.chosen_on == "validation-split" for one in decisions)
    return Picture(
        "roc",
        "ROC",
        caption(
            cohort,
            told(area),
            methods([area] if area else []),
            "The dotted line is chance.",
            "Dots are the operating points, whose intervals stand in the table." if points else "",
            "They were chosen on half of the women and are shown as judged on the other half." if split else "",
            "Readers stand where their decisions on the same exams put them." if of_readers else "",
        ),
        _draw_roc(evaluation.roc, points, of_readers, cohort.scores.name),
    )


def operating(cohort: Cohort, decisions: Sequence[Decisions]) -> dict[str, tuple[float, float]]:
    """Share of negative and of positive exams that each operating point calls, over the exams it is judged on."""
    among = cases(cohort)
    points = {}
    for one in decisions:
        ill, well = one.judged & among.positive, one.judged & ~among.positive
        if ill.any() and well.any():
            false = np.average(one.recalled[well], weights=among.weight[well])
            points[one.point.name] = float(false), float(np.average(one.found[ill], weights=among.weight[ill]))
    return points


def readers(cohort: Cohort) -> dict[str, tuple[float, float]]:
    """Share of negative and of positive exams that each reader called, over the exams that this reader decided on."""
    among = cases(cohort)
    points = {}
    for column in _READERS:
        calls = among.numbers(column)
        ill, well = (side & ~np.isnan(calls) for side in (among.positive, ~among.positive))
        if ill.any() and well.any():
            false, true = (float(np.average(calls[side], weights=among.weight[side])) for side in (well, ill))
            points[column] = false, true
    return points


@styled
def _draw_roc(curve: RocCurve, points: Points, readers: Points, system: str) -> Drawing:
    drawing, axes = canvas("1 − specificity", "sensitivity")
    kept = thinned(curve.fpr, curve.tpr)
    axes.plot(curve.fpr[kept], curve.tpr[kept], color=ACCENT, label=system)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    for colour, (name, (false, true)) in zip(COLOURS[1:] * len(points), points.items(), strict=False):
        axes.plot(false, true, "o", color=colour, markersize=6, linestyle="", label=name)
    for column, (false, true) in readers.items():
        label, marker = _READERS[column]
        axes.plot(false, true, marker, color=INK, markersize=6, markerfacecolor="white", linestyle="", label=label)
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.02), aspect="equal")
    axes.legend(loc="lower right")
    return drawing


def froc(evaluation: Evaluation) -> Picture:
    """The FROC curve, with the rates at which the protocol reads it."""
    cohort, own = evaluation.cohort, [one for one in evaluation.figures if one.group == "localisation"]
    if evaluation.froc is None:
        return Picture("froc", "FROC", caption(cohort), None, reason(own, "localisation"))
    rules = cohort.protocol.localisation
    whole = [one for one in own if one.subgroup == "all"]
    return Picture(
        "froc",
        "FROC",
        caption(
            cohort,
            "Dots: sensitivities at the protocol's rates, with their intervals.",
            methods(whole),
            cases=next((one.denominator for one in whole), ""),
        ),
        _draw_froc(evaluation.froc, whole, rules.fp_per),
    )


@styled
def _draw_froc(curve: FrocCurve, figures: list[Figure], per: str) -> Drawing:
    drawing, axes = canvas(f"false positives per {per}", "sensitivity")
    shown = curve.fp_rate <= _MOST_FALSE_POSITIVES
    x, y = curve.fp_rate[shown], curve.sensitivity[shown]
    kept = thinned(x, y)
    axes.plot(x[kept], y[kept], color=ACCENT)
    read_at = {rate: one for one in figures if (rate := fp_rate_of(one)) is not None and one.interval}
    for rate, one in read_at.items():
        _error_bar(axes, rate, one)
    end = min(_MOST_FALSE_POSITIVES, float(curve.fp_rate[-1]))
    axes.set(xlim=(0, 1.04 * max(end, *read_at, 0.5)), ylim=(0, 1.02))
    return drawing


def fp_rate_of(figure: Figure) -> float | None:
    """The rate of false positives that a sensitivity is read at, from its key ("froc-sensitivity@fp=1")."""
    name, _, rate = figure.key.rpartition("=")
    return float(rate) if "sensitivity" in name and "fp" in name and rate.replace(".", "", 1).isdigit() else None


def _error_bar(axes: Axes, x: float, figure: Figure) -> None:
    interval = figure.interval
    assert interval is not None
    axes.vlines(x, interval.low, interval.high, color=COLOURS[1], linewidth=1.2)
    axes.plot(x, interval.point, "o", color=COLOURS[1], markersize=5)


def reliability(evaluation: Evaluation) -> Picture:
    """Observed against predicted risk."""
    cohort, bins = evaluation.cohort, evaluation.reliability
    if bins is None:
        return Picture("reliability", "Calibration", caption(cohort), None, reason(evaluation.figures, "calibration"))
    own = [one for one in evaluation.figures if one.group == "calibration" and one.subgroup == "all"]
    empty = int((bins.observed == 0).sum())
    return Picture(
        "reliability",
        "Calibration",
        caption(
            cohort,
            f"Exams in {len(bins.n)} bins of nearly equal size ({_span(bins.n)} exams each) by predicted risk; "
            "bars: Wilson's 95 % interval of the observed share; the dotted line is perfect calibration.",
            f"{empty} bins without a cancer have no dot." if empty and _logarithmic(bins) else "",
            *(told(one) for one in own),
            methods(own),
        ),
        _draw_reliability(bins),
    )


def _span(numbers: FloatArray) -> str:
    low, high = f"{numbers.min():,.0f}", f"{numbers.max():,.0f}"
    return low if low == high else f"{low} to {high}"


def _logarithmic(bins: Reliability) -> bool:
    return bool(bins.predicted.min() > 0 and bins.predicted.max() < 0.5 and bins.observed.max() > 0)


@styled
def _draw_reliability(bins: Reliability) -> Drawing:
    drawing, axes = canvas("predicted risk", "observed share with cancer")
    shown = bins.observed > 0 if _logarithmic(bins) else np.ones(len(bins.observed), bool)
    axes.vlines(bins.predicted, bins.low, bins.high, color=ACCENT, linewidth=1.2)
    axes.plot(bins.predicted[shown], bins.observed[shown], "o", color=ACCENT, markersize=5)
    if _logarithmic(bins):
        low = 0.5 * float(min(bins.predicted.min(), bins.observed[shown].min()))
        high = 2 * float(max(bins.predicted.max(), bins.high.max()))
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    else:
        low, high = 0.0, min(1.0, 1.05 * float(max(bins.predicted.max(), bins.high.max())))
        axes.set(xlim=(low, high), ylim=(low, high))
    axes.plot([low, high], [low, high], color=FAINT, linewidth=0.8, linestyle=":")
    return drawing
