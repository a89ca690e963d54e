"""Moving dates by whole days, and coarsening times of day: PS3.15 E.3.6, with modified dates.

All dates of a woman move by the same number of days, so that the days between her exams, biopsies and diagnosis are
what they were. Times of day are cut to the hour: to the second, they would name an exam in any hospital's records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

_DA = re.compile(r"(\d{4})(?:\.(\d\d)\.(\d\d)|(\d\d)(\d\d))")
_TM = re.compile(r"(\d\d)(:?\d\d(:?\d\d(\.\d{1,6})?)?)?")
_DT = re.compile(r"(\d{8})(\d\d)?(\d\d(\d\d(\.\d{1,6})?)?)?([+-]\d{4})?")
_LAST_HOUR = 23


@dataclass(frozen=True)
class Shift:
    """A move of `days` into the past."""

    days: int

    def moved(self, day: date) -> date:
        """The day that stands for `day`; raises OverflowError where the calendar ends."""
        return day - timedelta(days=self.days)

    def da(self, text: str) -> str:
        """A DICOM date (also as ACR-NEMA wrote it), moved; "" for what is no date, as it cannot be moved."""
        found = _DA.fullmatch(text.strip(" \0"))
        if found is None:
            return ""
        year, *rest = (int(part) for part in found.groups() if part is not None)
        try:
            return self.moved(date(year, *rest)).strftime("%Y%m%d").rjust(8, "0")
        except (ValueError, OverflowError):
            return ""

    def tm(self, text: str) -> str:
        """A DICOM time, cut to the hour; "" for what is no time."""
        found = _TM.fullmatch(text.strip(" \0"))
        return f"{found[1]}0000" if found and int(found[1]) <= _LAST_HOUR else ""

    def dt(self, text: str) -> str:
        """A DICOM date and time, moved and cut to the hour, without offset from UTC; "" for less than a whole day."""
        found = _DT.fullmatch(text.strip(" \0"))
        if found is None:
            return ""
        day = self.da(found[1])
        if not day or found[2] is None:
            return day
        hour = self.tm(found[2])
        return day + hour if hour else ""
