"""A site's scores: how they spread over the categories, and the threshold that they give."""

from __future__ import annotations

from screening.acceptance.checks import Check, Verdict, graded
from screening.acceptance.score_statistics import ChosenPoint, NoPoint, Spread, percent

_SMALL_SHIFT, _LARGE_SHIFT = 0.1, 0.25
"""Of the population stability index: the usual rule of thumb (Siddiqi 2006)."""
_SIGNIFICANT = 0.01


def spread_check(found: Spread) -> Check:
    """Whether the bundle's categories are tenths of this site's exams."""
    unit = found.unit
    criterion = (
        f"each category holds a tenth of the {unit}s: chi-square test, p at least {_SIGNIFICANT:g}, or a population "
        f"stability index below {_SMALL_SHIFT:g} (attention below {_LARGE_SHIFT:g})"
    )
    if found.p_value is None:
        return Check("Spread of the scores", criterion, f"not tested: {found.reason}", Verdict.ATTENTION)
    numbers = f"p = {found.p_value:.2g}, stability index {found.psi:.2f} over {found.units} {unit}s"
    verdict = graded(found.psi, _SMALL_SHIFT, _LARGE_SHIFT) if found.p_value < _SIGNIFICANT else Verdict.PASS
    return Check("Spread of the scores", criterion, f"{numbers}. {spread_sentence(found)}", verdict)


def spread_sentence(found: Spread) -> str:
    """What the spread means, in plain words."""
    unit = found.unit
    top = f"{found.top_share:.1%} of the {unit}s ({found.top_low:.1%} to {found.top_high:.1%})"
    if found.top_low <= 0.1 <= found.top_high:
        return f"In the most suspicious tenth are {top}: as expected."
    more = "more" if found.top_share > 0.1 else "fewer"
    return (
        f"In the most suspicious tenth are {top}, {more} than the tenth expected: either these women differ from the "
        "reference, or the images do. Categories do not mean tenths here; use the site's own operating point."
    )


def operating_point(chosen: ChosenPoint | NoPoint) -> Check:
    """Whether a threshold could be chosen on this sample."""
    criterion = f"with 95 % confidence between half and twice the wanted {percent(chosen.wanted)} of exams are recalled"
    if isinstance(chosen, NoPoint):
        return Check("Operating point", criterion, f"none chosen: {chosen.reason}", Verdict.ATTENTION)
    return Check(
        "Operating point",
        criterion,
        f"score {chosen.threshold:.4g} recalls {chosen.recalled} of {chosen.exams} exams "
        f"({chosen.recalled / chosen.exams:.2%}; 95 % interval {chosen.rate_low:.2%} to {chosen.rate_high:.2%})",
        Verdict.PASS,
    )
