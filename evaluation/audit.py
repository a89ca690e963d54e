"""The audit of missed cancers: which exams that were read negative before a cancer would the model have flagged?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.audit_figures import audit_figures
from evaluation.audit_form import Readings, blank_form, form_text, holds_answers, read_form
from evaluation.cases import cases
from evaluation.cohort import Cohort
from evaluation.export import write_figures
from evaluation.figure import Figure
from evaluation.missed import BREAST, EXAM, LESIONS, READERS, Calls, Missed, calls, missed_exams
from evaluation.operating_points import decide, marks_of
from screening.store import write_atomically

_LOG = logging.getLogger(__name__)

AUDIT, CANDIDATES, FORM = "audit.csv", "candidates.csv", "form.csv"

_EXAM_COLUMNS = [
    "exam_id", "exam_date", "outcome", "months_to_diagnosis", "cancer_side", "invasive", "found_exam_id", "visible",
    "judged_by", "excluded_because", "exam_score", "category", "left_score", "right_score",
]  # fmt: skip
_REGION_COLUMNS = [
    "exam_id", "region_id", "image_id", "laterality", "view", "x", "y", "width", "height", "frame_first", "frame_last",
    "score", "right_place",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    `missed`: the missed exams and their regions; `calls`: what each operating point makes of them. `figures`: in the
    order of print, all of the group "audit". `form`: for readers, empty. `readings`: the form that was read, if one
    was. `notes`: sentences to know about.
    """

    cohort: Cohort
    missed: Missed
    calls: tuple[Calls, ...]
    figures: tuple[Figure, ...]
    form: pd.DataFrame
    readings: Readings | None
    notes: tuple[str, ...]


def audit(cohort: Cohort, form: Path | None = None) -> Audit:
    """Audit a cohort under its protocol; `form`: the form of an earlier audit of the same results, filled in.

    Raises `AuditError` for a protocol without exams before a cancer, `FormError` for a form with errors. What cannot
    be computed (no missed exam, no regions, nothing judged) is a figure with its reason.
    """
    among = cases(cohort)
    decisions = decide(cohort, among, marks_of(cohort))
    missed = missed_exams(cohort)
    lowest = _lowest(calls(missed, decisions, among))
    blank = blank_form(missed, lowest)
    readings = None
    if form is not None:
        readings = read_form(form, missed, lowest)
        missed = missed_exams(cohort, readings.consensus)
    found = calls(missed, decisions, among)
    figures = audit_figures(cohort, missed, found, among, readings)
    return Audit(cohort, missed, found, figures, blank, readings, tuple(_notes(cohort, missed, readings)))


def _lowest(found: tuple[Calls, ...]) -> float:
    """The lowest score from which any operating point takes a region for a mark; ∞ where none takes any."""
    limits = [float(one.limit[~np.isnan(one.limit)].min(initial=np.inf)) for one in found]
    return min(limits, default=np.inf)


def write_audit_tables(audit: Audit, out: Path) -> list[Path]:
    """Write audit.csv, candidates.csv, figures.csv and form.csv into `out`; returns their paths.

    A form.csv that is there already and holds answers of readers is left as it is. No table has a woman's identifier.
    Raises `StoreError` where `out` cannot be written.
    """
    tables = {AUDIT: audit_table(audit).to_csv(index=False), CANDIDATES: candidates(audit).to_csv(index=False)}
    if (out / FORM).exists() and holds_answers(out / FORM):
        _LOG.warning("%s holds answers of readers and was left as it is", out / FORM)
    else:
        tables[FORM] = form_text(audit.form)
    for name, text in tables.items():
        write_atomically(out / name, [text.encode("utf-8", "backslashreplace")], durable=False)
    return [out / AUDIT, out / CANDIDATES, write_figures(audit.figures, out), out / FORM]


def audit_table(audit: Audit) -> pd.DataFrame:
    """One row a missed exam and operating point, exams without score included.

    `flagged` and `right_place` (flagged there) are 1, 0, or NA where the point says nothing of the exam.
    """
    exams = audit.missed.exams
    parts = []
    for one in audit.calls:
        told = exams[_EXAM_COLUMNS].assign(operating_point=one.name, threshold=one.decisions.threshold)
        for name, said in (("flagged", one.flagged), ("right_place", one.detected)):
            told[name] = pd.array(said.astype(np.int64), dtype="Int64")
            told.loc[~one.judged, name] = pd.NA
        parts.append(told.assign(exam=np.arange(len(exams))))
    if not parts:
        return exams[_EXAM_COLUMNS]
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values("exam", kind="stable", ignore_index=True).drop(columns="exam")


def candidates(audit: Audit) -> pd.DataFrame:
    """One row a region of a flagged exam that reaches the threshold of an operating point: `marked_at` names them."""
    regions = audit.missed.regions
    row = regions["row"].to_numpy(dtype=np.int64)
    score = regions["score"].to_numpy(dtype=np.float64)
    marked = np.full(len(regions), "", dtype=object)
    for one in audit.calls:
        here = one.flagged[row] & (score >= one.limit[row])
        marked[here] = [f"{before};{one.name}".lstrip(";") for before in marked[here]]
    kept = np.array([bool(names) for names in marked], dtype=np.bool_)
    return regions.reindex(columns=_REGION_COLUMNS).assign(marked_at=marked)[kept].reset_index(drop=True)


def _notes(cohort: Cohort, missed: Missed, readings: Readings | None) -> Iterator[str]:
    exams = missed.exams[missed.included]
    unscored = len(missed.exams) - len(exams)
    if unscored:
        yield f"{unscored:,} of {len(missed.exams):,} missed exams are in no figure; audit.csv says why"
    words = {
        LESIONS: "by the lesions that the follow-up marks on them",
        READERS: "by the readers of the form",
        BREAST: "by the breast that had the cancer",
        EXAM: "by nothing: any flag counts, as the cancer's side or the scores of the breasts are not known",
    }
    counts = exams["judged_by"].value_counts()
    told = [f"{counts[by]:,} {text}" for by, text in words.items() if by in counts.index]
    if told:
        yield f"the right place of missed exams is judged {'; '.join(told)}"
    if cohort.scores.regions is not None and not missed.one_scale:
        yield (
            "the scores of exams are not the highest of their regions; where a threshold is one on exams, every region "
            "of a flagged exam counts as a mark"
        )
    if readings is not None and readings.n_judged < readings.n_exams:
        yield (
            f"{readings.n_exams - readings.n_judged:,} of {readings.n_exams:,} exams on the form have no consensus yet "
            "on their visibility and on the place of every region, and count as if they were not on it"
        )
