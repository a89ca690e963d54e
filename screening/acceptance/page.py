"""The report of an acceptance: one HTML file without network or scripts, made to be printed and signed."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from screening.acceptance.assess import Acceptance
from screening.acceptance.charts import bars, boxes
from screening.acceptance.checks import NIGHT_HOURS, Verdict
from screening.acceptance.outputs import NOTICE, PROPOSAL, SITE_REFERENCE, proposal, seconds, system
from screening.acceptance.score_checks import spread_sentence
from screening.acceptance.score_statistics import ChosenPoint
from screening.monitoring.reference import Reference
from screening.store import write_atomically

PAGE = "acceptance.html"

_MOST_PROTOCOLS = 40
_CONCLUSION = {
    Verdict.PASS: "Every check passes.",
    Verdict.ATTENTION: "No check fails. Whoever signs says, for each check that wants attention, why it may stay so.",
    Verdict.FAIL: "At least one check fails. The system should not read this site's exams as it is set up now.",
}


def write_page(acceptance: Acceptance, out: Path) -> None:
    """Write `acceptance.html` into `out`, whole or not at all. Raises `StoreError` if that is not possible."""
    verdicts = Counter(check.verdict for check in acceptance.checks)
    page = _environment().get_template("acceptance.html")
    text = page.render(
        found=acceptance,
        card=acceptance.bundle.card,
        calibration=acceptance.bundle.calibration,
        system=system(),
        notice=NOTICE,
        conclusion=_CONCLUSION[acceptance.verdict],
        counts=[(verdict.value, verdicts[verdict]) for verdict in Verdict],
        protocols=acceptance.protocols[:_MOST_PROTOCOLS],
        more_protocols=max(0, len(acceptance.protocols) - _MOST_PROTOCOLS),
        charts=[
            (one, Markup(boxes(one, acceptance.training)))  # made of numbers and of escaped names
            for one in acceptance.comparisons
            if acceptance.training is not None
        ],
        bars=Markup(bars(acceptance.spread)),
        spread_sentence=spread_sentence(acceptance.spread) if acceptance.spread.units else "",
        chosen=acceptance.point if isinstance(acceptance.point, ChosenPoint) else None,
        refused="" if isinstance(acceptance.point, ChosenPoint) else acceptance.point.reason,
        proposal=proposal(acceptance),
        proposal_name=PROPOSAL,
        drift=SITE_REFERENCE if isinstance(acceptance.drift, Reference) else "",
        no_drift="" if isinstance(acceptance.drift, Reference) else acceptance.drift,
        seconds=seconds(acceptance.seconds),
        night_hours=NIGHT_HOURS,
    )
    write_atomically(out / PAGE, [text.encode("utf-8", "backslashreplace")])


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("screening.acceptance"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
