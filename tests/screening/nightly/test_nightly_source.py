"""Which exams are a night's: relative days, a site's time zone, addresses; and a profile that says nonsense."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from screening.errors import ConfigError
from screening.nightly.source import address, days, the_day
from screening.site import Source, load_site
from screening.sources.pacs import pacs_address

NIGHT = date(2026, 3, 1)


def source(at: str = "/incoming", **values: object) -> Source:
    return Source.model_validate({"at": at, **values})


@pytest.mark.parametrize(
    ("dates", "first", "last"),
    [
        ("today", "2026-03-01", "2026-03-01"),
        ("yesterday", "2026-02-28", "2026-02-28"),
        ("last-night", "2026-02-28", "2026-03-01"),
        ("last-7-days", "2026-02-22", "2026-02-28"),
        ("last-1-days", "2026-02-28", "2026-02-28"),
    ],
)
def test_relative_days_are_those_of_the_calendar(dates: str, first: str, last: str) -> None:
    assert days(source(dates=dates), NIGHT) == (date.fromisoformat(first), date.fromisoformat(last))


@given(
    st.dates(date(1990, 1, 10), date(2100, 1, 1)), st.sampled_from(["today", "yesterday", "last-night", "last-30-days"])
)
def test_every_address_of_a_pacs_is_one_that_score_takes(night: date, dates: str) -> None:
    one = source("https://pacs.example/dicom-web", dates=dates)
    first, last = days(one, night)
    assert pacs_address(address(one, night), load_site().delivery).dates == f"{first:%Y%m%d}-{last:%Y%m%d}"


def test_a_peer_that_moves_studies_is_told_where_to() -> None:
    one = source("dicom://PACS@10.0.0.7:11112", dates="today", move_to="SCREENING:11113")
    asked = pacs_address(address(one, NIGHT), load_site().delivery)
    assert asked.move_to == ("SCREENING", 11113)
    assert asked.dates == "20260301-20260301"


def test_a_folder_may_be_named_by_the_day_of_study() -> None:
    assert address(source("/in/%Y/%m-%d"), NIGHT) == "/in/2026/02-28"
    assert address(source("/in/100%"), NIGHT) == "/in/100%"


def test_the_day_is_that_of_the_sites_time_zone() -> None:
    """Two places that never have the same date at 25 hours' distance."""
    east, west = source(timezone="Pacific/Kiritimati"), source(timezone="Pacific/Pago_Pago")
    assert the_day(None, east) > the_day(None, west)
    assert the_day(None, east) in {datetime.now(ZoneInfo("Pacific/Kiritimati")).date()}


@pytest.mark.parametrize("written", ["2026-2-3", "20260203", "2026-02-30", "tomorrow", "", "２０２６-02-03"])
def test_a_day_that_is_none_is_refused_with_a_sentence(written: str) -> None:
    with pytest.raises(ConfigError, match="write YYYY-MM-DD, today or yesterday"):
        the_day(written, source())


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"at": "https://user:secret@pacs.example/dicom-web"}, "credentials do not belong into a URL"),
        ({"at": "ftp://pacs.example"}, "write http"),
        ({"at": "https://pacs.example/dicom-web?date=20260101"}, "has no query"),
        ({"at": "/incoming", "move_to": "SCREENING:11113"}, "move_to is for dicom"),
        ({"at": "/incoming", "dates": "tonight"}, "dates"),
        ({"at": "/incoming", "timezone": "Mars/Olympus"}, "no time zone"),
        ({"at": "/incoming", "timezone": "../../etc/passwd"}, "no time zone"),
        ({"at": "/incoming/%Y-%m-%d", "dates": "last-night"}, "takes dates: today or yesterday"),
        ({"at": "/incoming", "when": "now"}, "when"),
    ],
)
def test_a_source_that_cannot_be_is_refused(values: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Source.model_validate(values)
