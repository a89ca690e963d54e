"""The drift figures of the nights, for the morning summary."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from screening.errors import ConfigError
from screening.monitoring.drift import Settings
from screening.monitoring.nights import site_drift
from screening.monitoring.page import MorningSection, morning_section
from screening.monitoring.records import EXAMS, read_records
from screening.nightly.night import nights
from screening.site import SiteProfile

if TYPE_CHECKING:  # the bundle's module loads torch
    from screening.model.bundle import Bundle


def drift_section(out: Path, profile: SiteProfile, bundle: Bundle, day: date) -> MorningSection:
    """The site's exams of the last year, of this model, beside their reference; or why there are no figures."""
    settings = Settings()
    first = day - timedelta(weeks=settings.weeks)
    folders = [night.folder(out) for night in nights(out) if night.site == profile.name and first <= night.day <= day]
    try:
        records = read_records(folder for folder in folders if (folder / EXAMS).is_file())
        return morning_section(site_drift(records, profile, bundle, settings=settings, today=day))
    except ConfigError as error:
        return MorningSection("Drift", f"no figures: {error}", (), (), (), (f"There are no drift figures: {error}.",))
