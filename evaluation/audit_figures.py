"""The figures of an audit: how many missed exams each operating point flags, at the right place, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.agreement import quadratic_weighted_kappa_statistic
from evaluation.audit_form import Readings, rating
from evaluation.bootstrap import cluster_bootstrap
from evaluation.cases import Cases, Counted
from evaluation.checks import BoolArray, IntArray
from evaluation.cohort import Cohort
from evaluation.draft import Draft, Share, settle
from evaluation.errors import MetricError
from evaluation.figure import Figure
from evaluation.intervals import Interval
from evaluation.missed import BREAST, EXAM, LESIONS, MISSED, READERS, VISIBILITIES, VISIBLE, Calls, Missed
from evaluation.protocol import Uncertainty

GROUP = "audit"
DETECTED, FLAGGED, COST, SEEN, SEEN_DETECTED, KAPPA = (
    "missed-detected",
    "missed-flagged",
    "negatives-flagged",
    "missed-visible",
    "missed-visible-detected",
    "readers-kappa",
)
"""Keys; those of figures at an operating point go on with `@` and its name."""

_Spread: TypeAlias = Callable[[BoolArray], BoolArray]

SEEN_GROUP = f"visibility: {' or '.join(VISIBLE)}"
"""The subgroup of the exams on which the cancer was visible in hindsight."""

MONTHS = (0, 6, 12, 18, 24, 36)
_EXAMS = "exams read negative before a cancer"
_UNREAD = "No missed exam has been judged: fill in form.csv and audit again with it, or add visibility to the lesions."


def audit_figures(
    cohort: Cohort, missed: Missed, found: Sequence[Calls], among: Cases, readings: Readings | None
) -> tuple[Figure, ...]:
    """All figures of an audit in the order of print; `found`: from `missed.calls`, `among`: the cohort's cases."""
    spread = _spreader(missed, among)
    visible = missed.exams["visible"]
    told, seen = spread((visible != "").to_numpy()), spread(visible.isin(VISIBLE).to_numpy())
    drafts: list[Draft] = []
    for one in found:
        drafts += _at_point(one, spread, among, told, seen)
    drafts.append(
        _draft(SEEN, "Visible in hindsight, as a minimal sign or more", Share(seen, told, _EXAMS), among, _UNREAD)
    )
    if readings is not None:
        drafts += _agreement(readings, among, cohort.protocol.uncertainty)
    for label, group in _groups(missed):
        drafts += [_detected(one, spread, among, label, spread(group)) for one in found]
    return settle(drafts, among, cohort.protocol.uncertainty)


def _spreader(missed: Missed, among: Cases) -> _Spread:
    """What puts flags of the missed exams (m,) at their rows among the cases, (n,); False elsewhere."""
    row = pd.Index(among.table["exam_id"]).get_indexer(missed.exams["exam_id"])

    def spread(flags: BoolArray) -> BoolArray:
        at_cases = np.zeros(len(among), dtype=np.bool_)
        at_cases[row[flags & (row >= 0)]] = True
        return at_cases

    return spread


def _at_point(one: Calls, spread: _Spread, among: Cases, told: BoolArray, seen: BoolArray) -> Iterator[Draft]:
    judged, detected = spread(one.judged), spread(one.detected)
    decisions = one.decisions
    yield _detected(one, spread, among)
    flagged = Share(spread(one.flagged), judged, _EXAMS)
    yield _draft(f"{FLAGGED}@{one.name}", f"Flagged anywhere at {one.name}", flagged, among, decisions.reason, one)
    both = Share(detected & seen, judged & told, _EXAMS)
    label = f"Visible in hindsight and flagged at the right place at {one.name}"
    yield _draft(f"{SEEN_DETECTED}@{one.name}", label, both, among, decisions.reason or _UNREAD, one)
    cost = Share(decisions.recalled, decisions.judged & ~among.positive, "exams without cancer")
    yield _draft(
        f"{COST}@{one.name}", f"Exams without cancer flagged at {one.name}", cost, among, decisions.reason, one
    )


def _detected(
    one: Calls, spread: _Spread, among: Cases, subgroup: str = "all", within: BoolArray | None = None
) -> Draft:
    judged = spread(one.judged) if within is None else spread(one.judged) & within
    share = Share(spread(one.detected), judged, _EXAMS)
    label = f"Flagged at the right place at {one.name}"
    return _draft(f"{DETECTED}@{one.name}", label, share, among, one.decisions.reason, one, subgroup)


def _draft(
    key: str,
    label: str,
    share: Share,
    among: Cases,
    reason: str,
    one: Calls | None = None,
    subgroup: str = "all",
) -> Draft:
    """A share with what it counts; `reason`: why there is none, where there is nothing to count."""
    source: Share | str = share
    if not share.among.any():
        source = reason or f"There are no {share.of}."
    return Draft(
        key=key,
        label=label,
        group=GROUP,
        counted=_counted(share, among),
        source=source,
        subgroup=subgroup,
        threshold=None if one is None else one.decisions.threshold,
        note="" if one is None else one.decisions.note,
    )


def _counted(share: Share, among: Cases) -> Counted:
    """ "12 of 34 exams read negative before a cancer, of 33 women"."""
    n, called = int(share.among.sum()), int((share.called & share.among).sum())
    women = len(np.unique(among.woman[share.among]))
    words = f"{called:,} of {n:,} {share.of}, of {women:,} women"
    if (among.weight[share.among] != 1).any():
        words += ", weighted by inverse sampling probability"
    return Counted(n, n, words)


def _groups(missed: Missed) -> Iterator[tuple[str, BoolArray]]:
    """The subgroups that hold an exam: by outcome, visibility, months to the diagnosis, and how places are judged."""
    exams = missed.exams
    for outcome in MISSED:
        yield from _group(f"outcome: {outcome}", (exams["outcome"] == outcome).to_numpy(), missed)
    for visible in VISIBILITIES:
        yield from _group(f"visibility: {visible}", (exams["visible"] == visible).to_numpy(), missed)
    yield from _group(SEEN_GROUP, exams["visible"].isin(VISIBLE).to_numpy(), missed)
    months = exams["months_to_diagnosis"]
    for start, end in zip(MONTHS, (*MONTHS[1:], np.inf), strict=True):
        name = f"months to diagnosis: {start} to {end}" if np.isfinite(end) else f"months to diagnosis: over {start}"
        yield from _group(name, ((months >= start) & (months < end)).to_numpy(), missed)
    for judged_by in (LESIONS, READERS, BREAST, EXAM):
        yield from _group(f"place judged by: {judged_by}", (exams["judged_by"] == judged_by).to_numpy(), missed)


def _group(name: str, members: BoolArray, missed: Missed) -> Iterator[tuple[str, BoolArray]]:
    if (members & missed.included).any():
        yield name, members


def _agreement(readings: Readings, among: Cases, uncertainty: Uncertainty) -> Iterator[Draft]:
    """Agreement of the two readers: on visibility by exam, and on places by region."""
    lines = readings.lines[readings.lines["exam_id"].isin(among.table["exam_id"])]
    exams = lines.drop_duplicates("exam_id")
    exams = exams[(exams["reader1"] != "") & (exams["reader2"] != "")]
    placed = lines.dropna(subset=["reader1_right_place", "reader2_right_place"])
    for of, what, cases, first, second, n in (
        ("visibility", "exams", exams, rating(exams["reader1"]), rating(exams["reader2"]), len(VISIBILITIES)),
        ("place", "regions", placed, placed["reader1_right_place"], placed["reader2_right_place"], 2),
    ):
        woman = among.woman[pd.Index(among.table["exam_id"]).get_indexer(cases["exam_id"])]
        alike = int((np.asarray(first) == np.asarray(second)).sum())
        yield Draft(
            key=f"{KAPPA}:{of}",
            label=f"Agreement of the two readers on {of}, {'quadratic weighted ' if n > 2 else ''}kappa",
            group=GROUP,
            counted=Counted(len(cases), len(cases), f"{len(cases):,} {what} judged by both readers, {alike:,} alike"),
            source=_kappa(np.asarray(first), np.asarray(second), n, woman, uncertainty),
        )


def _kappa(
    first: npt.NDArray[np.generic],
    second: npt.NDArray[np.generic],
    n_categories: int,
    woman: IntArray,
    uncertainty: Uncertainty,
) -> Interval | str:
    """Quadratic weighted kappa with its interval; with two categories that is Cohen's kappa."""
    if not len(first):
        return "Nothing on the form has been judged by both readers."
    try:
        return cluster_bootstrap(
            quadratic_weighted_kappa_statistic(first, second, n_categories),
            woman,
            seed=uncertainty.seed,
            replicates=uncertainty.replicates,
            level=uncertainty.level,
            method=uncertainty.method,
        )
    except MetricError as error:
        return str(error)
