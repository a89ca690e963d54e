"""What somebody has to do in the morning, most urgent first; nothing, on a good one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from screening.delivery.outbox import State
from screening.nightly.advice import Urgency, advice
from screening.nightly.delivering import Delivered, Destined
from screening.result import Status

if TYPE_CHECKING:
    from screening.nightly.summary import Worked

_OLD = timedelta(hours=24)
_FEW, _ENOUGH_NIGHTS = 0.5, 3
_MANY_NOT_SCORED = 2.0
_AT_LEAST = 0.05
"""A share of exams without score is worth a look from here on, where it is also twice the last nights'."""


@dataclass(frozen=True)
class Todo:
    """One thing to do: how urgent, what is the matter, and what to do about it."""

    urgency: Urgency
    what: str
    do: str


def todos(
    worked: Sequence[Worked],
    delivered: Delivered,
    last_nights: Sequence[Mapping[str, Any]],
    drift: Sequence[str],
    now: datetime,
) -> tuple[Todo, ...]:
    """Everything there is to do after a run.

    Parameters
    ----------
    worked
        What the run did: tonight first, then earlier nights.
    last_nights
        Lines of earlier summaries (`read_last_nights`).
    drift
        Sentences of the drift figures that say what to look at.
    """
    found = [todo for one in worked for todo in _of_night(one)]
    found += _compared(worked[0], last_nights)
    found += [todo for one in delivered.destinations for todo in _of_destination(one, now)]
    if delivered.problems:
        number = len({exam for exam, _ in delivered.problems})
        what = f"{_exams(number)} without all of their DICOM objects: they could not be made, or are outdated."
        found.append(Todo(Urgency.ACT, what, "See why below; the scores are in the tables. Report what is unforeseen."))
    found += [
        Todo(Urgency.LOOK, sentence, "See the section on drift below, and the page on monitoring.")
        for sentence in drift
    ]
    return tuple(sorted(found, key=lambda one: -one.urgency))


def _of_night(worked: Worked) -> list[Todo]:
    found = []
    day = worked.night.day.isoformat()
    if worked.problem:
        do = "Remove the cause. The next night takes this one up again; or run it again now."
        found.append(Todo(Urgency.ACT, f"The night of {day} is not finished: {worked.problem}.", do))
    for (status, code), (exams, instances) in worked.counts.reasons.items():
        known = advice(code)
        urgency = max(known.urgency, Urgency.ACT if status == Status.FAILED else Urgency.NOTHING)
        if urgency is Urgency.NOTHING:
            continue
        parts = [_exams(exams)] if exams else []
        parts += [f"{instances} file{'s' if instances != 1 else ''}"] if instances else []
        found.append(Todo(urgency, f"{' and '.join(parts)} of {day} {status}: {code}.", known.do))
    return found


def _compared(tonight: Worked, last_nights: Sequence[Mapping[str, Any]]) -> list[Todo]:
    """What is unusual beside the last nights; nothing is said of a night that is not finished."""
    if tonight.problem:
        return []
    exams = tonight.counts.exams
    before = [line["new"] for line in last_nights if line["new"]]
    if not exams.total:
        what = "No new exam was found."
        do = "Nothing, if there was no screening on that day; otherwise see that exams reach the source."
        return [Todo(Urgency.LOOK, what, do)]
    found = []
    if len(before) >= _ENOUGH_NIGHTS and exams.total < _FEW * median(before):
        what = f"Only {_exams(exams.total)} found; the last nights had {median(before):.0f} (median)."
        found.append(Todo(Urgency.LOOK, what, "See that all machines send to the source."))
    shares = [line["not_scored_share"] for line in last_nights if line["not_scored_share"] is not None]
    ended = exams.scored + exams.rejected + exams.failed
    share = (exams.rejected + exams.failed) / ended if ended else 0.0
    if len(shares) >= _ENOUGH_NIGHTS and share >= max(_AT_LEAST, _MANY_NOT_SCORED * median(shares)):
        what = f"{share:.0%} of exams have no score; in the last nights it was {median(shares):.0%} (median)."
        found.append(Todo(Urgency.LOOK, what, "See the reasons below: a new machine or software sends other headers."))
    return found


def _of_destination(one: Destined, now: datetime) -> list[Todo]:
    waiting, failed = one.counts[State.QUEUED], one.counts[State.FAILED]
    if not one.present:
        what = f"{waiting + failed} objects for {one.name}, which the site's present mode does not send to."
        return [Todo(Urgency.LOOK, what, "They stay in the outbox. Nothing, if the mode was changed on purpose.")]
    found = []
    if one.problem:
        do = "See that the PACS answers and accepts this machine. What waits is sent by the next night."
        found.append(Todo(Urgency.ACT, f"{one.name} could not be sent to: {one.problem}.", do))
    if failed:
        reasons = "; ".join(sorted(one.failures or {}))
        do = "Have the PACS accept them, then run the night again, once with --retry-failed."
        found.append(Todo(Urgency.ACT, f"{failed} objects were turned down by {one.name}: {reasons}.", do))
    if one.oldest is not None and now - one.oldest > _OLD:
        hours = (now - one.oldest).total_seconds() / 3600
        do = "If the PACS is back, start the night again now; otherwise tell the readers that results are missing."
        found.append(Todo(Urgency.ACT, f"{waiting} objects wait for {one.name}, the oldest for {hours:.0f} hours.", do))
    elif waiting and not one.problem:
        what = f"{waiting} objects still wait for {one.name}."
        found.append(Todo(Urgency.LOOK, what, "The next night sends them; start it again to send them now."))
    return found


def _exams(number: int) -> str:
    return f"{number} exam{'s' if number != 1 else ''}"
