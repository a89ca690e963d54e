"""The morning summary: what there is to do for each thing that can be the matter; no stranger's text runs in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from screening.delivery.outbox import State
from screening.monitoring.page import MorningSection
from screening.nightly.advice import ADVICE, Urgency, advice
from screening.nightly.delivering import Delivered, Destined
from screening.nightly.earlier import Known
from screening.nightly.night import Night, Stage
from screening.nightly.page import page
from screening.nightly.summary import Morning, Worked, read_last_nights, write_json
from screening.nightly.todo import Todo, todos
from screening.result import Reason
from screening.store import Counts, Ends

NOW = datetime(2026, 2, 3, 5, tzinfo=UTC)
DAY = date(2026, 2, 3)
NOTHING: dict[State, int] = dict.fromkeys(State, 0)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}{% raw %}"
NONE = Delivered(())
WELL = Worked(Night(DAY, "st-elsewhere", Stage.DONE, 1), Counts(Ends(scored=100), Ends(scored=400)))


def destined(oldest: timedelta | None = None, problem: str = "", present: bool = True, **counts: int) -> Destined:
    moment = None if oldest is None else NOW - oldest
    states = NOTHING | {State(name): number for name, number in counts.items()}
    return Destined("pacs", states, moment, problem=problem, failures={"no": 1}, present=present)


def told(worked: Worked = WELL, *destinations: Destined, last: tuple[dict[str, Any], ...] = ()) -> tuple[Todo, ...]:
    return todos([worked], Delivered(destinations), last, (), NOW)


def morning(worked: Worked = WELL, delivered: Delivered = NONE, **values: Any) -> Morning:
    filled = {
        "site": "st-elsewhere",
        "mode": "live",
        "decided_by": "Dr. A. Example",
        "model": {"id": "m", "name": "spots", "version": "1", "sha256": "ab" * 32},
        "worked": (worked,),
        "delivered": delivered,
        "last_nights": (),
        "todos": todos([worked], delivered, (), (), NOW),
        "started": NOW - timedelta(hours=2),
        "finished": NOW,
        "seconds": {"total": 7200.0},
        **values,
    }
    return Morning(**filled)


def line(new: int = 100, share: float | None = 0.01) -> dict[str, Any]:
    return {"new": new, "not_scored_share": share}


# What there is to do


def test_there_is_advice_for_every_reason_and_what_fails_is_urgent() -> None:
    assert set(ADVICE) == set(Reason)
    assert all(one.do.endswith(".") for one in ADVICE.values())
    assert all(one.do.startswith("Nothing") == (one.urgency is Urgency.NOTHING) for one in ADVICE.values())
    for failure in (Reason.UNREADABLE, Reason.NOT_FETCHED, Reason.ALL_IMAGES_FAILED):
        assert ADVICE[failure].urgency is Urgency.ACT


def test_a_reason_of_another_version_is_told_and_not_passed_over() -> None:
    assert advice("a-reason-of-2031").urgency is Urgency.ACT


def test_on_a_good_morning_there_is_nothing_to_do() -> None:
    usual = Counts(Ends(scored=100), Ends(scored=400, rejected=9), {("rejected", "duplicate"): (0, 9)})
    assert told(replace(WELL, counts=usual), destined(committed=400), last=(line(), line(), line())) == ()


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("status", ["rejected", "failed"])
def test_each_reason_is_told_as_urgently_as_it_is(reason: Reason, status: str) -> None:
    counts = Counts(Ends(scored=100), Ends(scored=400, **{status: 1}), {(status, reason.value): (0, 1)})
    found = told(replace(WELL, counts=counts))
    urgency = Urgency.ACT if status == "failed" else ADVICE[reason].urgency
    assert [one.urgency for one in found] == ([urgency] if urgency else [])
    assert all(reason.value in one.what and one.do == ADVICE[reason].do for one in found)


@pytest.mark.parametrize(
    ("destination", "urgencies", "words"),
    [
        (destined(timedelta(hours=1), queued=3), [Urgency.LOOK], "3 objects still wait"),
        (destined(timedelta(hours=30), queued=3), [Urgency.ACT], "the oldest for 30 hours"),
        (destined(failed=1), [Urgency.ACT], "turned down by pacs: no"),
        (destined(timedelta(0), "it is down", queued=1), [Urgency.ACT], "could not be sent to: it is down"),
        (destined(timedelta(days=9), present=False, queued=5), [Urgency.LOOK], "present mode does not send to"),
        (destined(sent=5, committed=7, superseded=2), [], ""),
    ],
)
def test_each_state_of_delivery_is_told_once(destination: Destined, urgencies: list[Urgency], words: str) -> None:
    found = told(WELL, destination)
    assert [one.urgency for one in found] == urgencies
    assert all(words in one.what for one in found)


@pytest.mark.parametrize(
    ("new", "without_score", "last", "words"),
    [
        (1, 0, (line(), line(), line()), "Only 1 exam found; the last nights had 100 (median)."),
        (1, 0, (line(), line()), ""),  # two nights are too few to compare with
        (51, 0, (line(), line(), line()), ""),
        (100, 6, (line(), line(), line()), "6% of exams have no score; in the last nights it was 1% (median)."),
        (100, 6, (line(share=0.04), line(share=0.04), line(share=0.04)), ""),
        (100, 6, (line(share=None), line(share=None), line(share=None)), ""),
        (0, 0, (line(), line(), line()), "No new exam was found."),
    ],
)
def test_what_is_unusual_beside_the_last_nights_is_worth_a_look(
    new: int, without_score: int, last: tuple[dict[str, Any], ...], words: str
) -> None:
    counts = Counts(Ends(scored=new - without_score, rejected=without_score), Ends(scored=4 * new))
    found = told(replace(WELL, counts=counts), last=last)
    assert [(one.what, one.urgency) for one in found] == ([(words, Urgency.LOOK)] if words else [])


def test_a_night_that_is_not_finished_is_told_and_not_compared() -> None:
    broken = replace(WELL.night, stage=Stage.BEGUN, problem="the PACS does not answer")
    (one,) = told(Worked(broken), last=(line(), line(), line()))
    assert one.urgency is Urgency.ACT
    assert "the PACS does not answer" in one.what


# The record and the page


def test_the_most_urgent_thing_makes_the_headline_and_stands_first() -> None:
    counts = Counts(
        Ends(scored=100), Ends(scored=1), {("rejected", "unknown-view"): (0, 1), ("failed", "unreadable"): (0, 2)}
    )
    record = morning(replace(WELL, counts=counts)).record()
    assert record["verdict"] == "act"
    assert record["headline"] == "1 thing to do now, 1 more to look at."
    assert [one["urgency"] for one in record["todo"]] == ["act", "look"]


def hostile_record() -> dict[str, Any]:
    """A summary with a stranger's text wherever text can come from outside."""
    night = Night(DAY, "st-elsewhere", Stage.BEGUN, 2, problem=HOSTILE)
    counts = Counts(Ends(scored=1, failed=1), Ends(scored=4, failed=1), {("failed", HOSTILE): (1, 1)})
    destination = Destined(HOSTILE, NOTHING | {State.FAILED: 1}, NOW, problem=HOSTILE, failures={HOSTILE: 1})
    delivered = Delivered((destination,), ((HOSTILE, HOSTILE),))
    section = MorningSection(HOSTILE, HOSTILE, (HOSTILE,), ((HOSTILE,),), (HOSTILE,), (HOSTILE,))
    found = Worked(night, counts, Known(2, 8), {HOSTILE: 1.0})
    model = dict.fromkeys(("id", "name", "version", "sha256"), HOSTILE)
    return morning(
        found, delivered, drift=section, model=model, decided_by=HOSTILE, again=HOSTILE, mode=HOSTILE
    ).record()


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_page_runs_no_strangers_text_and_asks_no_network() -> None:
    text = page(hostile_record())
    parser = _Elements()
    parser.feed(text)
    assert not parser.tags & {"script", "img", "iframe", "link", "object", "form"}
    assert not {name for name in parser.attributes if name.startswith("on")}
    assert not parser.attributes & {"href", "src", "action"}
    assert "{{ 7 * 7 }}" in text, "a template in a name is a name"
    assert "default-src 'none'" in text
    assert "&lt;script&gt;" in text


def test_the_page_says_that_nothing_is_a_medical_device() -> None:
    for record in (hostile_record(), morning().record()):
        assert "Not a medical device, not for clinical use" in page(record)
        assert "not a medical device" in record["notice"]


def test_the_page_tells_every_thing_to_do_and_every_count() -> None:
    counts = Counts(Ends(71, 3, 5, 7), Ends(711, 13, 17, 19), {("failed", "unreadable"): (5, 17)})
    record = morning(replace(WELL, counts=counts, known=Known(11, 23))).record()
    text = re.sub(r"<[^>]+>", " ", page(record))
    for one in record["todo"]:
        assert one["do"] in text
    for number in (97, 71, 3, 5, 7, 11, 783, 711, 13, 17, 19, 23):
        assert re.search(rf"(?<!\d){number}(?!\d)", text), number


def test_earlier_summaries_are_compared_and_what_is_none_of_ours_is_passed_over(tmp_path: Path) -> None:
    for number in range(1, 12):
        night = replace(WELL, night=replace(WELL.night, day=date(2026, 1, number)))
        write_json(morning(night).record(), tmp_path / f"2026-01-{number:02d}")
    (tmp_path / "2026-01-11" / "summary.json").write_text("{")
    (tmp_path / "2026-01-10" / "summary.json").write_text('{"format": 1, "site": "another"}')
    (tmp_path / "notes").mkdir()
    found = read_last_nights(tmp_path, "st-elsewhere", date(2026, 1, 12))
    assert [one["day"] for one in found] == [f"2026-01-{number:02d}" for number in range(9, 2, -1)]
    assert all(one["found"] == 100 for one in found)
    assert [one["day"] for one in read_last_nights(tmp_path, "st-elsewhere", date(2026, 1, 2))] == ["2026-01-01"]


def test_the_record_is_json_without_nan() -> None:
    empty = Worked(Night(DAY, "st-elsewhere", Stage.DONE, 1))
    assert json.loads(json.dumps(morning(empty).record(), allow_nan=False))["nights"][0]["seconds_per_exam"] is None
