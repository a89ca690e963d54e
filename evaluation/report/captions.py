"""What every caption states: protocol, cases, denominators, and how intervals were made."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from evaluation.cases import cases
from evaluation.cohort import Cohort
from evaluation.figure import Figure
from evaluation.report.pages import limits_text, method_text, value_text
from evaluation.study import Evaluation


def counted(cohort: Cohort) -> str:
    """The cases of a picture: "12,345 exams of 10,002 women, 98 with cancer"."""
    found = cases(cohort)
    return found.counted(np.ones(len(found), np.bool_)).words


def caption(cohort: Cohort, *sentences: str, cases: str = "") -> str:
    """A caption: the protocol, the cases (by default all included exams), then what is particular to the picture."""
    return " ".join((f"Protocol {cohort.protocol.name}; {cases or counted(cohort)}.", *filter(None, sentences)))


def find(evaluation: Evaluation, key: str) -> Figure | None:
    """The figure of that key over all cases."""
    return next((one for one in evaluation.figures if one.key == key and one.subgroup == "all"), None)


def told(figure: Figure | None) -> str:
    """A figure as a sentence: name, value and limits, or why it has none; empty where there is no such figure."""
    if figure is None:
        return ""
    if figure.interval is None:
        return f"{figure.label}: {figure.reason}"
    return f"{figure.label} {value_text(figure)} ({limits_text(figure)})."


def reason(figures: Iterable[Figure], group: str) -> str:
    """Why a group's curve cannot be drawn: the first reason among its figures."""
    own = [one for one in figures if one.group == group]
    if not own:
        return "The protocol and the tables at hand give no figures of this kind."
    return next((one.reason for one in own if one.reason), "There is no curve.")


def methods(figures: Iterable[Figure]) -> str:
    """How the intervals of several figures were made, each way once."""
    found = dict.fromkeys(method_text(one) for one in figures if one.interval is not None)
    return f"Intervals: {'; '.join(found)}." if found else ""
