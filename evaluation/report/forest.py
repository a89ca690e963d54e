"""Forest plot: a figure overall and in every subgroup, with its intervals."""

from __future__ import annotations

from collections import Counter

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from evaluation.figure import Figure
from evaluation.report.captions import caption, methods
from evaluation.report.pictures import ACCENT, FAINT, INK, Picture, styled
from evaluation.study import Evaluation

_PANELS = 3


def forest(evaluation: Evaluation) -> Picture:
    """The first figures that most subgroups have, beside their value over all cases."""
    cohort = evaluation.cohort
    often = Counter(one.key for one in evaluation.figures if one.subgroup != "all")
    keys = [key for key, number in often.items() if number >= max(often.values()) / 2][:_PANELS]
    if not keys:
        lack = "The tables at hand tell no subgroups (density, age, manufacturer, site, mode of detection, round)."
        return Picture("subgroups", "Subgroups", caption(cohort), None, lack, wide=True)
    panels = [[one for one in evaluation.figures if one.key == key] for key in keys]
    text = caption(
        cohort,
        "Beside each subgroup: cases / positives of the first figure. The line is the value over all cases; a cross "
        "stands where the figure cannot be computed, the table of subgroups says why.",
        methods(one for panel in panels for one in panel if one.subgroup == "all"),
    )
    return Picture("subgroups", "Subgroups", text, _draw(panels), wide=True)


@styled
def _draw(panels: list[list[Figure]]) -> Drawing:
    rows = list(dict.fromkeys(one.subgroup for panel in panels for one in panel))
    drawing = Drawing(figsize=(11.4, 0.9 + 0.26 * len(rows)), layout="constrained")
    all_axes: list[Axes] = list(np.atleast_1d(drawing.subplots(1, len(panels), sharey=True)))
    counts = {one.subgroup: one for panel in reversed(panels) for one in panel}
    for axes, panel in zip(all_axes, panels, strict=True):
        for one in panel:
            _row(axes, rows.index(one.subgroup), one)
        whole = next((one.interval for one in panel if one.subgroup == "all" and one.interval), None)
        if whole is not None:
            axes.axvline(whole.point, color=FAINT, linewidth=0.8, zorder=0)
        axes.set_title(panel[0].label, fontsize=9)
    labels = [f"{row}  {counts[row].n:,} / {counts[row].n_positive:,}" for row in rows]
    all_axes[0].set_yticks(range(len(rows)), labels)
    all_axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return drawing


def _row(axes: Axes, y: int, figure: Figure) -> None:
    made = figure.interval
    if made is None:
        axes.plot(0.02, y, "x", color=FAINT, markersize=5, transform=axes.get_yaxis_transform())
        return
    colour = INK if figure.subgroup == "all" else ACCENT
    axes.hlines(y, made.low * figure.per, made.high * figure.per, color=colour, linewidth=1.2)
    axes.plot(made.point * figure.per, y, "s", color=colour, markersize=5)
