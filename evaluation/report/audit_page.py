"""The page of an audit: one HTML file without network or scripts, and without any woman's identifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.audit import AUDIT, CANDIDATES, FORM, Audit, write_audit_tables
from evaluation.audit_figures import COST, DETECTED, FLAGGED, KAPPA, SEEN, SEEN_DETECTED
from evaluation.missed import Calls
from evaluation.protocol import Outcome
from evaluation.report.audit_films import NO_PICTURE, Films, Hanging
from evaluation.report.captions import methods
from evaluation.report.flow import LINE, PAD, WIDTH, diagram
from evaluation.report.pages import write_page
from evaluation.report.rounds import Chart, chart

REPORT_NAME = "report.html"
PICTURE_LIMIT = 100
"""At most this many candidates have a section of their own, the highest scores first (eight pictures take 0.6 MB)."""

_LINES = 500  # missed exams in the page's list
_REGION_LINES = 8
_AT_POINTS = {
    DETECTED: "Flagged at the right place",
    FLAGGED: "Flagged anywhere",
    SEEN_DETECTED: "Visible in hindsight and flagged at the right place",
    COST: "Exams without cancer flagged",
}
"""Columns of the table of operating points."""
_FOUND = {
    Outcome.INTERVAL: "between rounds",
    Outcome.NEXT_ROUND: "at the next round",
    Outcome.LATER_CANCER: "after the next round",
}
_SIDES = {"L": "left", "R": "right", "B": "both", "": "unknown"}


@dataclass(frozen=True)
class _Line:
    """A missed exam in the list; `marks` says of each operating point "right", "flagged", "no" or "unjudged"."""

    exam_id: str
    date: str
    found: str
    months: str
    side: str
    visible: str
    score: str
    marks: tuple[str, ...]
    note: str
    anchor: str


@dataclass(frozen=True)
class _RegionLine:
    """A marked region of a missed exam."""

    number: str
    view: str
    box: str
    score: str
    right_place: str
    marked_at: str


@dataclass(frozen=True, eq=False)
class _Section:
    """A candidate: the missed exam beside the exam, or the diagnosis, at which the cancer was found."""

    line: _Line
    judged_by: str
    invasive: str
    right_at: tuple[str, ...]
    flagged_at: tuple[str, ...]
    missed: tuple[Hanging, ...]
    found: tuple[Hanging, ...]
    found_exam_id: str
    found_date: str
    found_score: str
    regions: tuple[_RegionLine, ...]
    more_regions: int
    chart: Chart | None


def write_audit(audit: Audit, data: Mapping[str, Any], out: Path, results: Path | None = None) -> list[Path]:
    """Write an audit's tables (`audit.write_audit_tables`) and its page into `out`; returns their paths, the page last.

    `data`: the manifest of what was audited (`manifest.manifest`). `results`: the folder that `screening score` wrote,
    whose pictures the page then shows. Raises `StoreError` where `out` cannot be written.
    """
    return [*write_audit_tables(audit, out), write_audit_page(audit, data, out, results)]


def write_audit_page(audit: Audit, data: Mapping[str, Any], out: Path, results: Path | None = None) -> Path:
    """Write `report.html` into `out`, whole or not at all; returns its path. Parameters as in `write_audit`."""
    cohort = audit.cohort
    order = _order(audit)
    flagged = np.any([one.flagged for one in audit.calls], axis=0) if audit.calls else np.zeros(len(order), np.bool_)
    candidates = [row for row in order if flagged[row]]
    pictured = candidates[:PICTURE_LIMIT]
    anchors = {row: f"candidate-{number}" for number, row in enumerate(pictured, start=1)}
    lines = {row: _line(audit, row, anchors.get(row, "")) for row in order}
    found = {(one.key, one.subgroup): one for one in audit.figures}
    groups = dict.fromkeys(one.subgroup for one in audit.figures if one.subgroup != "all")
    return write_page(
        "audit.html",
        out / REPORT_NAME,
        cohort.protocol,
        data,
        system=cohort.scores.name,
        model_ids=cohort.scores.model_ids,
        counted=_counted(audit),
        diagram=diagram(cohort.flow),
        flow_width=WIDTH,
        flow_line=LINE,
        flow_pad=PAD,
        points=[one.name for one in audit.calls],
        columns=list(_AT_POINTS.values()),
        at_points=[(one, [found[f"{key}@{one.name}", "all"] for key in _AT_POINTS]) for one in audit.calls],
        by_group=[(group, [found.get((f"{DETECTED}@{one.name}", group)) for one in audit.calls]) for group in groups],
        overall=[one for one in audit.figures if one.key.startswith((SEEN, KAPPA)) and "@" not in one.key],
        methods=methods(audit.figures),
        readings=audit.readings,
        to_judge=audit.form["exam_id"].nunique(),
        files=(AUDIT, CANDIDATES, FORM),
        lines=list(lines.values())[:_LINES],
        more_lines=max(0, len(lines) - _LINES),
        n_candidates=len(candidates),
        # A generator: the page is written candidate by candidate.
        sections=_sections(audit, lines, pictured, results),
        n_sections=len(pictured),
        no_picture=NO_PICTURE,
        notes=[*audit.notes, *cohort.notes],
    )


def _counted(audit: Audit) -> str:
    exams = audit.missed.exams[audit.missed.included]
    kinds = ", ".join(f"{count:,} {outcome}" for outcome, count in exams["outcome"].value_counts().items())
    women = exams["woman_id"].nunique()
    text = f"{_number(len(exams), 'exam')} of {_number(women, 'woman', 'women')} read negative before a cancer"
    return f"{text} ({kinds})" if kinds else text


def _line(audit: Audit, row: int, anchor: str) -> _Line:
    exam = audit.missed.exams.iloc[row]
    return _Line(
        exam_id=exam["exam_id"],
        date=_day(exam["exam_date"]),
        found=_FOUND[exam["outcome"]],
        months=f"{exam['months_to_diagnosis']:.1f}",
        side=_SIDES[exam["cancer_side"]],
        visible=exam["visible"].replace("_", " "),
        score=_score(exam["exam_score"]),
        marks=tuple(_mark(one, row) for one in audit.calls),
        note=exam["excluded_because"],
        anchor=anchor,
    )


def _mark(one: Calls, row: int) -> str:
    if not one.judged[row]:
        return "unjudged"
    return "right" if one.detected[row] else "flagged" if one.flagged[row] else "no"


def _order(audit: Audit) -> list[int]:
    """Rows of the missed exams, the highest scores of the breast with the cancer first."""
    score = audit.missed.exams["score"].fillna(-np.inf).to_numpy(dtype=np.float64)
    return [int(row) for row in np.argsort(-score, kind="stable")]


def _sections(
    audit: Audit, lines: Mapping[int, _Line], rows: Sequence[int], results: Path | None
) -> Iterator[_Section]:
    """The candidates of those rows with their films and charts."""
    table, exams = audit.cohort.exams, audit.missed.exams.iloc[list(rows)]
    films = Films(audit.cohort, {*exams["exam_id"], *exams["found_exam_id"]}, results)
    of_woman = dict(iter(table[table["woman_id"].isin(exams["woman_id"])].groupby("woman_id", sort=False)))
    for row, (_, exam) in zip(rows, exams.iterrows(), strict=True):
        rounds = of_woman[exam["woman_id"]]
        found = rounds[rounds["exam_id"] == exam["found_exam_id"]]
        limits = {one.name: float(one.limit[row]) for one in audit.calls if one.judged[row]}
        lowest = min((limit for limit in limits.values() if not np.isnan(limit)), default=np.inf)
        regions = _region_lines(audit, row)
        yield _Section(
            line=lines[row],
            judged_by=exam["judged_by"],
            invasive={1.0: "invasive", 0.0: "in situ"}.get(exam["invasive"], ""),
            right_at=tuple(one.name for one in audit.calls if one.detected[row]),
            flagged_at=tuple(one.name for one in audit.calls if one.flagged[row]),
            missed=films.hang(exam["exam_id"], lowest),
            found=films.hang(exam["found_exam_id"], lowest),
            found_exam_id=exam["found_exam_id"],
            found_date=_day(found["exam_date"].iloc[0]) if len(found) else "",
            found_score=_score(found["exam_score"].iloc[0]) if len(found) else "",
            regions=regions[:_REGION_LINES],
            more_regions=max(0, len(regions) - _REGION_LINES),
            chart=chart(rounds, exam["exam_id"], exam["found_exam_id"], exam["diagnosis_date"], limits),
        )


def _region_lines(audit: Audit, row: int) -> tuple[_RegionLine, ...]:
    """The regions of a missed exam that any operating point marks, the highest first."""
    regions = audit.missed.regions
    own = regions[regions["row"] == row]
    lines = []
    region: Any
    for region in own.itertuples():
        marked = [one.name for one in audit.calls if one.flagged[row] and region.score >= one.limit[row]]
        if marked:
            lines.append(
                _RegionLine(
                    number="" if np.isnan(region.rank) else f"{region.rank:.0f}",
                    view=f"{region.laterality} {region.view}".strip(),
                    box=f"{region.x:.0f}, {region.y:.0f}, {region.width:.0f} × {region.height:.0f}",
                    score=_score(region.score),
                    right_place={1.0: "yes", 0.0: "no"}.get(region.right_place, "not judged"),
                    marked_at=", ".join(marked),
                )
            )
    return tuple(lines)


def _number(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def _day(date: pd.Timestamp) -> str:
    return "unknown" if pd.isna(date) else str(date.date())


def _score(score: float) -> str:
    return "" if pd.isna(score) else f"{score:.4g}"
