"""Figures before their intervals: collected first, so that all of them are resampled together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluation.bootstrap import cluster_bootstrap_each
from evaluation.cases import Cases, Counted
from evaluation.checks import BoolArray
from evaluation.errors import MetricError, NotComputableError
from evaluation.figure import Figure
from evaluation.intervals import Interval
from evaluation.protocol import Uncertainty
from evaluation.rates import Cells, Rate, difference, rate, rate_intervals
from evaluation.statistic import SumStatistic


@dataclass(frozen=True, eq=False)
class Share:
    """A proportion: of the exams `among`, those `called`, or called minus those that `minus` (another test) calls.

    Arrays of shape (n,) over the cases. `of` says in words what `among` are ("exams with cancer").
    """

    called: BoolArray
    among: BoolArray
    of: str
    minus: BoolArray | None = None


@dataclass(frozen=True, eq=False)
class Draft:
    """A figure without its interval; what it is made of is one of:

    a `statistic` over the women, a `share` of the cases, an `interval` that is known already, or the `reason` why there
    is none. The other fields are those of `Figure`.
    """

    key: str
    label: str
    group: str
    counted: Counted
    source: SumStatistic | Share | Interval | str = field(repr=False)
    subgroup: str = "all"
    threshold: float | None = None
    note: str = ""
    benchmark: str = ""


def attempt(make: Callable[[], SumStatistic]) -> SumStatistic | str:
    """What `make` gives, or the sentence that says why it cannot."""
    try:
        return make()
    except MetricError as error:
        return str(error)


def settle(drafts: Sequence[Draft], cases: Cases, uncertainty: Uncertainty) -> tuple[Figure, ...]:
    """The figures with their intervals, in the order of the drafts.

    Statistics are resampled together, women by women. Shares get the interval that `rates.rate_intervals` gives rates:
    the protocol's interval for plain proportions (differences: Newcombe's paired interval) where no two of the cases
    share a woman and all weigh 1, else the bootstrap of the same draws.
    """
    sources = [draft.source for draft in drafts]
    names = [_name(draft) for draft in drafts]
    known = dict(zip(names, sources, strict=True))
    found = _shares({name: one for name, one in known.items() if isinstance(one, Share)}, cases, uncertainty)
    found |= _bootstrap(
        {name: one for name, one in known.items() if isinstance(one, SumStatistic)}, len(cases.women), uncertainty
    )
    return tuple(
        _figure(draft, source if isinstance(source, Interval | str) else found[name])
        for draft, name, source in zip(drafts, names, sources, strict=True)
    )


def _name(draft: Draft) -> str:
    """How a sentence calls the figure."""
    return f"figure {draft.key!r}" + ("" if draft.subgroup == "all" else f" ({draft.subgroup})")


def _shares(shares: dict[str, Share], cases: Cases, uncertainty: Uncertainty) -> dict[str, Interval | str]:
    if not shares:
        return {}
    columns: dict[str, BoolArray] = {}
    for name, one in shares.items():
        columns |= {f"{name} among": one.among, f"{name} called": one.called}
        if one.minus is not None:
            columns[f"{name} minus"] = one.minus
    cells = Cells.of(columns)

    def as_rate(name: str, test: str, of: str) -> Rate:
        return rate(cells.columns[f"{name} {test}"], cells.columns[f"{name} among"], f"There are no {of}.")

    rates = {}
    for name, one in shares.items():
        rates[name] = as_rate(name, "called", one.of)
        if one.minus is not None:
            rates[name] = difference(rates[name], as_rate(name, "minus", one.of))
    return rate_intervals(cells, rates, cases.woman, cases.weight, uncertainty)


def _bootstrap(
    statistics: dict[str, SumStatistic], n_women: int, uncertainty: Uncertainty
) -> dict[str, Interval | str]:
    if not statistics:
        return {}
    try:
        found = cluster_bootstrap_each(
            statistics,
            np.arange(n_women),
            seed=uncertainty.seed,
            replicates=uncertainty.replicates,
            level=uncertainty.level,
            method=uncertainty.method,
        )
    except NotComputableError as error:  # fewer than two women
        return dict.fromkeys(statistics, str(error))
    return {name: one if isinstance(one, Interval) else str(one) for name, one in found.items()}


def _figure(draft: Draft, source: Interval | str) -> Figure:
    return Figure(
        key=draft.key,
        label=draft.label,
        group=draft.group,
        interval=source if isinstance(source, Interval) else None,
        n=draft.counted.n,
        n_positive=draft.counted.n_positive,
        denominator=draft.counted.words,
        reason=source if isinstance(source, str) else "",
        subgroup=draft.subgroup,
        threshold=draft.threshold,
        benchmark=draft.benchmark,
        note=draft.note,
    )
