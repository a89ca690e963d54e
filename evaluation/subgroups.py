"""The same figures in parts of the cohort: AUC, and sensitivity at the first operating point that could be applied.

Subgroups of exams (density, age, manufacturer, site, round) have their own cancers and their own negatives. Subgroups
of cancers (invasive, mode of detection) are held against all negatives. The threshold is that of the whole cohort.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.bootstrap import OverClusters
from evaluation.cases import Cases
from evaluation.checks import BoolArray
from evaluation.draft import Draft, Share
from evaluation.inputs import Inputs
from evaluation.operating_points import Decisions
from evaluation.point_figures import GROUP, counted_on
from evaluation.roc import RocStatistics

UNKNOWN = "unknown"
_AGES = (50, 60, 70)
_BANDS = ("below 50", "50-59", "60-69", "70 and over")

TextArray = npt.NDArray[np.object_]


def age_band(among: Cases) -> TextArray:
    """Ten years a band, as screening ages go."""
    age = among.numbers("age")
    bands = np.array(_BANDS, dtype=object)[np.digitize(age, _AGES)]
    return np.where(np.isnan(age), "", bands).astype(object)


def round_of(among: Cases) -> TextArray:
    """The woman's first exam in the tables, or a later one."""
    number = among.numbers("round")
    return np.select([np.isnan(number), number <= 1], ["", "first"], "later").astype(object)


def invasiveness(among: Cases) -> TextArray:
    invasive = among.numbers("invasive")
    return np.select([invasive == 1, invasive == 0], ["invasive", "in situ"], "").astype(object)


OF_EXAMS: dict[str, Callable[[Inputs], TextArray]] = {
    "density": lambda inputs: _text(inputs, "density"),
    "age": lambda inputs: age_band(inputs.cases),
    "manufacturer": lambda inputs: _text(inputs, "manufacturer"),
    "site": lambda inputs: _text(inputs, "site"),
    "round": lambda inputs: round_of(inputs.cases),
}
OF_CANCERS: dict[str, Callable[[Inputs], TextArray]] = {
    "invasiveness": lambda inputs: invasiveness(inputs.cases),
    "mode of detection": lambda inputs: inputs.cases.text("outcome"),
}


def drafts(inputs: Inputs) -> list[Draft]:
    """The figures of every subgroup; an axis that the tables do not know gives its reason."""
    return [
        *(draft for axis, values in OF_EXAMS.items() for draft in _by_exams(inputs, axis, values(inputs))),
        *(draft for axis, values in OF_CANCERS.items() for draft in _by_cancers(inputs, axis, values(inputs))),
    ]


def _text(inputs: Inputs, column: str) -> TextArray:
    """A column of the follow-up, or that of the scores where the follow-up knows it of no exam."""
    known = inputs.cases.text(column)
    if (known != "").any():
        return known
    given = inputs.cohort.scores.exams.set_index("exam_id")[column].reindex(inputs.cases.table["exam_id"])
    return np.asarray(given.astype(object).fillna("").to_numpy(), dtype=object)


def _by_exams(inputs: Inputs, axis: str, values: TextArray) -> list[Draft]:
    among = inputs.cases
    if not (values != "").any():
        return [_unknown(inputs, axis)]
    found = []
    for value, inside in _groups(values):
        name = f"{axis}: {value or UNKNOWN}"
        rows = np.flatnonzero(inside)
        per_woman = OverClusters(among.woman[rows], len(among.women), among.weight[rows])
        statistic = per_woman(RocStatistics(among.positive[rows], among.score[rows]).auc())
        found.append(Draft("auc", "AUC", "discrimination", among.counted(inside), statistic, subgroup=name))
        found += _sensitivities(inputs, inside, name, all_points=False)
    return found


def _by_cancers(inputs: Inputs, axis: str, values: TextArray) -> list[Draft]:
    """Kinds of cancers; the mode of detection at every operating point, as larsen-2022 reports it."""
    among = inputs.cases
    values = np.where(among.positive, values, "")
    if not (values != "").any():
        return [_unknown(inputs, axis)]
    kinds = [(value, inside & among.positive) for value, inside in _groups(values) if (inside & among.positive).any()]
    kind = np.zeros(len(among), dtype=np.int64)
    for number, (_, cancers) in enumerate(kinds):
        kind[cancers] = number
    roc = RocStatistics(among.positive, among.score, kind)
    found = []
    for number, (value, cancers) in enumerate(kinds):
        inside = ~among.positive | cancers
        name = f"{axis}: {value or UNKNOWN}"
        statistic = inputs.per_woman(roc.auc(number))
        found.append(Draft("auc", "AUC", "discrimination", among.counted(inside), statistic, subgroup=name))
        found += _sensitivities(inputs, inside, name, all_points=axis == "mode of detection")
    return found


def _sensitivities(inputs: Inputs, inside: BoolArray, name: str, *, all_points: bool) -> list[Draft]:
    points = [one for one in inputs.decisions if not one.reason]
    return [_sensitivity(inputs.cases, one, inside, name) for one in (points if all_points else points[:1])]


def _sensitivity(among: Cases, one: Decisions, inside: BoolArray, name: str) -> Draft:
    judged = one.judged & inside
    return Draft(
        key=f"sensitivity@{one.point.name}",
        label=f"Sensitivity at {one.point.name}",
        group=GROUP,
        counted=counted_on(one, among, inside),
        source=Share(one.found, judged & among.positive, "exams with cancer in this subgroup"),
        subgroup=name,
        threshold=one.threshold,
        note=one.note,
    )


def _unknown(inputs: Inputs, axis: str) -> Draft:
    reason = f"The {axis} is not known of any exam." if len(inputs.cases) else "No exam is included."
    return Draft("auc", "AUC", "discrimination", inputs.counted, reason, subgroup=axis)


def _groups(values: TextArray) -> list[tuple[str, BoolArray]]:
    """Each different value and where it stands, sorted, the unknown ("") last."""
    codes, found = pd.factorize(values)
    return [
        (str(found[at]), codes == at) for at in sorted(range(len(found)), key=lambda at: (found[at] == "", found[at]))
    ]
