"""Which exams are a night's: the site's source, with days that are told relative to the night's."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from screening.errors import ConfigError
from screening.site import SiteProfile, Source
from screening.sources.pacs import is_pacs


def the_day(written: str | None, source: Source) -> date:
    """The day of a night: "YYYY-MM-DD", "today" or "yesterday", by the clock of the site's time zone.

    Raises ConfigError for anything else.
    """
    today = datetime.now(ZoneInfo(source.timezone) if source.timezone else None).date()
    if written in (None, "today"):
        return today
    if written == "yesterday":
        return today - timedelta(days=1)
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", written or "", re.ASCII):
            raise ValueError
        return date.fromisoformat(written or "")
    except ValueError as error:
        raise ConfigError(f"--date: {written!r} is no day; write YYYY-MM-DD, today or yesterday") from error


def days(source: Source, night: date) -> tuple[date, date]:
    """The first and the last day of study that `source.dates` means on the day `night`."""
    yesterday = night - timedelta(days=1)
    match source.dates:
        case "today":
            return night, night
        case "yesterday":
            return yesterday, yesterday
        case "last-night":
            return yesterday, night
    number = int(source.dates.split("-")[1])  # last-N-days, as the profile has checked
    return night - timedelta(days=number), yesterday


def address(source: Source, night: date) -> str:
    """What `screening score` would be given as SOURCE: a folder, or the address of a PACS with the days."""
    first, last = days(source, night)
    if is_pacs(source.at):
        move_to = f"&move_to={source.move_to}" if source.move_to else ""
        return f"{source.at}?date={first:%Y%m%d}-{last:%Y%m%d}{move_to}"
    return re.sub("%[Ymd]", lambda found: first.strftime(found[0]), source.at)


def source_of(profile: SiteProfile) -> Source:
    """The profile's source. Raises ConfigError if there is none."""
    if profile.source is None:
        raise ConfigError(
            f"site profile {profile.name} has no source, so that a night does not know where exams are; "
            "add source with at: FOLDER, https://HOST/PATH or dicom://AE_TITLE@HOST:PORT"
        )
    return profile.source


def by_day(source: Source) -> bool:
    """Whether the source is another one each day, so that a night can be had again later as it was."""
    return is_pacs(source.at) or re.search("%[Ymd]", source.at) is not None
