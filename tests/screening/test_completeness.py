"""An exam is scored when it is complete, and in the end in any case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from screening.delivery.answers import RefusedError, UnreachableError
from screening.site import ArrivalRules
from screening.sources.completeness import Completeness, Ready
from screening.sources.inbox import Waiting

STUDY = "1.2.3"


class Clock:
    """Seconds since the exam's last instance came."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def exam(*views: str, last: float = 0.0) -> Waiting:
    return Waiting("exam", Path("exam"), ((STUDY, len(views)),), frozenset(views), len(views), 0.0, last, False)


def first_ready(
    rules: ArrivalRules, waiting: Waiting, count: Callable[[str], int | None] | None = None
) -> tuple[float, Ready]:
    """When an exam is ready, asked every half second."""
    clock = Clock()
    completeness = Completeness(rules, count, clock)
    while (ready := completeness.ready(waiting)) is None:
        clock.now += 0.5
        assert clock.now < 1000
    return clock.now, ready


RULES = ArrivalRules(quiet_s=10, patience_s=100)
FOUR = ("RCC", "LCC", "RMLO", "LMLO")


def test_without_further_knowledge_the_quiet_period_decides() -> None:
    assert first_ready(RULES, exam("RCC")) == (10.0, Ready(exam("RCC")))
    assert first_ready(RULES, exam("RCC", last=7.0))[0] == 17.0


def test_exam_of_which_the_pacs_has_more_waits_and_is_then_scored_with_a_warning() -> None:
    when, ready = first_ready(RULES, exam("RCC", "LCC"), lambda _: 4)
    assert when == 100.0
    assert ready.warning == "scored incomplete, nothing came for 100 s: the PACS has 4 mammograms, 2 came"


def test_pacs_is_asked_again_now_and_then_and_what_came_to_it_meanwhile_counts() -> None:
    answers = iter([4, 4, 2])
    when, ready = first_ready(RULES, exam("RCC", "LCC"), lambda _: next(answers))
    assert (when, ready.warning) == (30.0, "")


def test_missing_views_are_waited_for_unless_the_pacs_has_no_more() -> None:
    rules = RULES.model_copy(update={"views": FOUR})
    when, ready = first_ready(rules, exam("RCC", "LCC", "LMLO"))
    assert (when, ready.warning) == (100.0, "scored incomplete, nothing came for 100 s: no RMLO")
    assert first_ready(rules, exam(*FOUR))[0] == 10.0
    assert first_ready(rules, exam("RCC"), lambda _: 1) == (10.0, Ready(exam("RCC")))
    assert first_ready(rules, exam("RCC"), lambda _: None)[0] == 100.0


@pytest.mark.parametrize("error", [UnreachableError("pacs is down"), RefusedError("pacs refuses")])
def test_pacs_that_cannot_tell_holds_up_nobody_and_is_left_alone_for_a_minute(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def count(study: str) -> int:
        asked.append(study)
        raise error

    clock = Clock()
    completeness = Completeness(RULES, count, clock)
    clock.now = 10.0
    for number in range(200):
        one = exam("RCC")
        assert completeness.ready(one) == Ready(one), number
    assert asked == [STUDY]
    clock.now = 80.0
    completeness.ready(exam("RCC", last=60.0))
    assert len(asked) == 2
    assert str(error) in caplog.text
