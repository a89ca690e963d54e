"""What a night has to score: the exams of the source for its days, without what earlier nights have done."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from screening.errors import ScreeningError
from screening.nightly.earlier import Known, without_known
from screening.nightly.logs import Steps
from screening.nightly.night import Night
from screening.nightly.source import address, by_day, source_of
from screening.site import SiteProfile
from screening.sources.folder import FolderScan, read_folder
from screening.sources.pacs import fetch_source, is_pacs, rejections


@dataclass(frozen=True)
class Selection:
    """What was selected, and what was not because an earlier night did it. `where`: the source as `score` takes it."""

    scan: FolderScan
    known: Known
    where: str
    fetched: dict[str, int]


def select(night: Night, profile: SiteProfile, out: Path, others: Iterable[Path], steps: Steps) -> Selection:
    """The exams of a night.

    Parameters
    ----------
    others
        Folders of the site's other nights.

    Raises
    ------
    ConfigError
        If the profile has no source, or credentials are missing.
    ScreeningError
        If the source cannot be reached.
    StoreError
        If the night's folder cannot be written, or another night's results cannot be read.
    """
    source = source_of(profile)
    where = address(source, night.day)
    if not is_pacs(where):
        scan = _read_folder(Path(where), by_day(source), profile, steps)
        return Selection(*without_known(scan, others), where, {})
    with steps.step("Fetching studies") as step:
        fetched, spool = fetch_source(where, profile, night.folder(out), keep=True, on_progress=step)
    scan, known = without_known(_read_folder(spool, False, profile, steps), others)
    missing = rejections(fetched.failures, profile)
    counts = {"found": fetched.found, "fetched": fetched.fetched, "failed": len(fetched.failures)}
    return Selection(replace(scan, rejections=scan.rejections + missing), known, where, counts)


def _read_folder(folder: Path, one_of_many: bool, profile: SiteProfile, steps: Steps) -> FolderScan:
    """Read headers. The folder of one day may be missing: nothing was put there; a site's only folder may not."""
    if not folder.exists():
        if one_of_many and _above(folder).is_dir():
            return FolderScan((), (), 0)
        raise ScreeningError(f"the source {folder} is not there; is the share mounted, and its name right?")
    with steps.step("Reading headers") as step:
        return read_folder(folder, profile, step)


def _above(folder: Path) -> Path:
    """The lowest folder above that is not named by a day, month or year."""
    while re.search(r"\d", folder.name) and folder.parent != folder:
        folder = folder.parent
    return folder
