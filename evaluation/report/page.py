"""The page of an evaluation: one HTML file without network or scripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.cohort import Cohort
from evaluation.figure import Figure
from evaluation.operating_points import operating_points
from evaluation.protocol import Protocol
from evaluation.report.captions import counted, methods
from evaluation.report.curves import froc, reliability, roc
from evaluation.report.distributions import months_before, scores_by_outcome
from evaluation.report.flow import LINE, PAD, WIDTH, diagram
from evaluation.report.forest import forest
from evaluation.report.pages import write_page
from evaluation.report.pictures import Picture
from evaluation.report.tables import grouped, headline, matrices
from evaluation.study import Evaluation
from evaluation.tables import Problem

REPORT_NAME = "report.html"
READING = "second reader"
"""The group of figures that is shown by strategies and rates."""


def draw_pictures(evaluation: Evaluation) -> tuple[Picture, ...]:
    """All pictures of an evaluation in their order on the page, each with its caption, or why it is not drawn."""
    decisions = operating_points(evaluation.cohort)
    return (
        roc(evaluation, decisions),
        froc(evaluation),
        reliability(evaluation),
        months_before(evaluation, decisions),
        scores_by_outcome(evaluation),
        forest(evaluation),
    )


def write_report(evaluation: Evaluation, pictures: Sequence[Picture], data: Mapping[str, Any], out: Path) -> Path:
    """Write `report.html` into `out`, whole or not at all; returns its path.

    `pictures`: from `draw_pictures`. `data`: the manifest of what was evaluated (`manifest.manifest`). Raises
    `StoreError` where `out` cannot be written.
    """
    cohort = evaluation.cohort
    whole = [one for one in evaluation.figures if one.subgroup == "all"]
    first = headline(whole)
    reading = [one for one in whole if one.group == READING]
    strategies, other_strategies = matrices(reading)
    return write_page(
        "evaluation.html",
        out / REPORT_NAME,
        cohort.protocol,
        data,
        system=cohort.scores.name,
        others=[system["name"] for system in data["systems"][1:]],
        model_ids=cohort.scores.model_ids,
        counted=counted(cohort),
        diagram=diagram(cohort.flow),
        flow_width=WIDTH,
        flow_line=LINE,
        flow_pad=PAD,
        headline=first,
        methods=methods(first),
        groups=grouped(one for one in whole if one.group != READING),
        strategies=strategies,
        strategy_methods=methods(reading),
        other_strategies=grouped(other_strategies),
        subgroups=grouped(one for one in evaluation.figures if one.subgroup != "all"),
        comparisons=grouped(evaluation.comparisons),
        pictures=pictures,
        notes=notes(cohort),
    )


def write_box_report(figures: Sequence[Figure], protocol: Protocol, data: Mapping[str, Any], out: Path) -> Path:
    """Write `report.html` on boxes that were found, without exams and their outcomes; otherwise as `write_report`."""
    return write_page(
        "boxes.html",
        out / REPORT_NAME,
        protocol,
        data,
        system=data["systems"][0]["name"],
        counted=figures[0].denominator,
        groups=grouped(figures),
        notes=[],
    )


def notes(cohort: Cohort) -> list[str]:
    """What has to be known of the tables. Rows with the same note are one line here; notes.txt lists them all."""
    alike: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for note in cohort.followup.notes:
        alike[note.file, note.sentence].append(note)
    return [
        *cohort.notes,
        *(
            f"{file}: {sentence} ({len(rows):,} row{'s' if len(rows) > 1 else ''}, the first in line {rows[0].line})"
            for (file, sentence), rows in alike.items()
        ),
    ]
