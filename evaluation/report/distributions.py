"""How scores lie by outcome, and how many cancers are found how long before their diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from evaluation.calibration import reliability_bins
from evaluation.cases import Cases, cases
from evaluation.checks import FloatArray
from evaluation.operating_points import Decisions
from evaluation.protocol import Outcome
from evaluation.report.captions import caption
from evaluation.report.pictures import ACCENT, COLOURS, FAINT, INK, Picture, canvas, styled
from evaluation.study import Evaluation

_BINS = 20
_MONTHS = (0, 3, 6, 12, 18, 24, 30, 36, 48, 60, 120, 240)


def scores_by_outcome(evaluation: Evaluation) -> Picture:
    """Scores of each outcome, measured on the scores of negative exams."""
    cohort = evaluation.cohort
    among = cases(cohort)
    title, name, negative = "Scores by outcome", "scores", ~among.positive
    if not negative.any():
        return Picture(name, title, caption(cohort), None, "There is no exam without cancer to measure scores on.")
    rank = percentile(among.score, among.score[negative], among.weight[negative])
    outcome = among.text("outcome")
    groups = {kind: (rank[own], among.weight[own]) for kind in Outcome if (own := outcome == kind).any()}
    text = caption(
        cohort,
        f"Each exam's score as its percentile among the {negative.sum():,} exams without cancer, in {_BINS} bins; "
        "bars: share of the outcome's exams in each bin. Scores that tell nothing would be level (dotted line); "
        "equal scores share their middle percentile. Shares are plain, without intervals.",
    )
    return Picture(name, title, text, _draw_scores(groups), wide=True)


def percentile(score: FloatArray, reference: FloatArray, weight: FloatArray) -> FloatArray:
    """Where scores stand among weighted reference scores: the share below plus half the share that is equal, × 100."""
    order = np.argsort(reference, kind="stable")
    total = np.append(0.0, np.cumsum(weight[order]))
    below = total[np.searchsorted(reference[order], score, side="left")]
    up_to = total[np.searchsorted(reference[order], score, side="right")]
    return np.asarray(50 * (below + up_to) / total[-1])


@styled
def _draw_scores(groups: dict[Outcome, tuple[FloatArray, FloatArray]]) -> Drawing:
    drawing = Drawing(figsize=(11.4, 2.7), layout="constrained")
    all_axes = np.atleast_1d(drawing.subplots(1, len(groups), sharex=True, sharey=True))
    edges = np.linspace(0, 100, _BINS + 1)
    for axes, (outcome, (rank, weight)) in zip(all_axes, groups.items(), strict=True):
        share = 100 * np.histogram(rank, edges, weights=weight)[0] / weight.sum()
        colour = FAINT if outcome == Outcome.NEGATIVE else ACCENT
        axes.bar(edges[:-1], share, width=np.diff(edges), align="edge", color=colour, edgecolor="white", linewidth=0.5)
        axes.axhline(100 / _BINS, color=INK, linewidth=0.8, linestyle=":")
        axes.set_title(f"{outcome} (n = {len(rank):,})", fontsize=9)
        axes.set_xlim(0, 100)
    drawing.supxlabel("percentile of the score among exams without cancer", fontsize=9)
    all_axes[0].set_ylabel("% of the outcome's exams")
    return drawing


def months_before(evaluation: Evaluation, decisions: Sequence[Decisions]) -> Picture:
    """Share of positive exams called at each operating point, by months to the diagnosis."""
    cohort = evaluation.cohort
    among = cases(cohort)
    level = cohort.protocol.uncertainty.level
    table = months_table(among, decisions, level)
    title, name = "Detection by months before diagnosis", "months"
    if table.empty:
        lack = "There is no exam with cancer." if not among.positive.any() else "No operating point can be applied."
        return Picture(name, title, caption(cohort), None, lack)
    text = caption(
        cohort,
        "Exams with cancer by months from the exam to the diagnosis, lower limit included; dots: share that the "
        "operating point calls; n: exams that it is judged on.",
        f"Bars: Wilson's {100 * level:g} % interval, exam by exam"
        + (" on Kish's effective number of exams." if among.weighted else "."),
    )
    return Picture(name, title, text, _draw_months(table))


def months_table(among: Cases, decisions: Sequence[Decisions], level: float) -> pd.DataFrame:
    """One row an operating point and range of months that has exams with cancer: point, months, n, share, low, high."""
    months = among.numbers("months_to_diagnosis")
    rows = []
    for one in decisions:
        for low, high in pairwise(_MONTHS):
            inside = among.positive & one.judged & (months >= low) & (months < high)
            if inside.any():
                found = one.found[inside]
                bins = reliability_bins(found, np.zeros(len(found)), bins=1, weight=among.weight[inside], level=level)
                rows.append((one.point.name, low, high, len(found), bins.observed[0], bins.low[0], bins.high[0]))
    return pd.DataFrame(rows, columns=["point", "from", "to", "n", "share", "low", "high"])


@styled
def _draw_months(table: pd.DataFrame) -> Drawing:
    drawing, axes = canvas("months from exam to diagnosis", "share of exams with cancer called", (5.6, 4.0))
    starts, points = sorted(set(table["from"])), list(dict.fromkeys(table["point"]))
    for number, (point, colour) in enumerate(zip(points, COLOURS * len(points), strict=False)):
        own = table[table["point"] == point]
        x = np.searchsorted(starts, own["from"]) + 0.12 * (number - (len(points) - 1) / 2)
        axes.vlines(x, own["low"], own["high"], color=colour, linewidth=1.2)
        axes.plot(x, own["share"], "o", color=colour, markersize=5, label=point)
    whole = table.groupby("from").agg({"to": "first", "n": "max"})
    axes.set_xticks(range(len(starts)), [f"{low}–{row.to}\nn = {row.n:,}" for low, row in whole.iterrows()])
    axes.set(xlim=(-0.5, len(starts) - 0.5), ylim=(-0.02, 1.02))
    drawing.legend(loc="outside upper center", ncols=3)
    return drawing
