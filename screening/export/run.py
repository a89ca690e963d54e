"""The whole export: tables and instances into a folder that gets its name when it is complete."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from screening.errors import ConfigError
from screening.export.burnt_in import require_reader
from screening.export.instance import End, Outcome, Why, export_instance
from screening.export.journal import Journal
from screening.export.profile import EDITION
from screening.export.pseudonyms import Pseudonyms
from screening.export.sources import Instance, instances
from screening.export.tables import FOLLOWUP_TABLES, RESULT_TABLES, Exported, Table, csv_line, export_table
from screening.store import STORE_NAME, ResultStore, write_atomically
from screening.store.files import write_errors

HELD_BACK_NAME = "export-held-back.csv"
"""In the results folder, with the original identifiers: what was not exported, for those who may see it."""

NOTICE = (
    "Pseudonymised data remain personal data (GDPR recital 26, article 4(5)). "
    "Research only: not a medical device, not for clinical use."
)
OPTIONS = (
    "113100 Basic Application Confidentiality Profile",
    "113101 Clean Pixel Data Option (suspect images held back)",
    "113103 Clean Graphics Option",
    "113104 Clean Structured Content Option",
    "113107 Retain Longitudinal Temporal Information Modified Dates Option",
    "113108 Retain Patient Characteristics Option (sex; age, over 89 as 90)",
)
_MANIFEST = ("file", "sha256", "bytes", "status", "reason", "what", "woman_id", "exam_id", "image_id")
_Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """What to export: a results folder, into `out`, which must not be there yet or be empty.

    `followup`: folder of a registry's tables, exported alongside. `images`, `objects`: the exams' DICOM files, and
    what this software made for them. `workers`: files done side by side.
    """

    results: Path
    out: Path
    followup: Path | None = None
    images: bool = True
    objects: bool = False
    workers: int = 1


@dataclass(frozen=True)
class Summary:
    """What came of an export. `ends` adds up to all instances; `held_back` is where the originals are listed."""

    ends: dict[End, int]
    reasons: dict[tuple[End, Why], int]
    tables: dict[str, Exported]
    held_back: Path

    @property
    def total(self) -> int:
        """All instances that the results know."""
        return sum(self.ends.values())


def export(job: Job, pseudonyms: Pseudonyms, progress: _Progress = lambda done, total: None) -> Summary:
    """Export results, and with them images and registry tables, under pseudonyms.

    All is written to a hidden folder beside `job.out`, which takes that name at the end; an interrupted export is gone
    on with by the same call. Equal input, key and versions give equal bytes.

    Raises
    ------
    ConfigError
        If a folder or table is not what it should be, or Tesseract is missing.
    StoreError
        If the results cannot be read or the export cannot be written; what was done is kept for the next call.
    """
    _check(job)
    staging = job.out.absolute().with_name(f".{job.out.absolute().name}.unfinished")
    journal = Journal(staging, pseudonyms.region(f"{EDITION} {metadata.version('screening')} {_versions()}"))
    tables = dict(_tables(job, pseudonyms))
    for file, table in tables.items():
        write_atomically(staging / file, [table.content])
    with ResultStore(job.results / STORE_NAME) as store:
        known = list(instances(store, job.results, job.objects)) if job.images else []
        models = sorted({one.model_id for one in store.results()})
    outcomes = _without_duplicates(list(_export_all(known, staging, pseudonyms, journal, job.workers, progress)))
    manifest = _manifest(known, outcomes, pseudonyms)
    write_atomically(staging / "manifest.csv", [manifest])
    ends = Counter(one.end for one in outcomes)
    reasons = Counter((one.end, one.why) for one in outcomes if one.why is not None)
    summary = Summary({end: ends[end] for end in End}, dict(sorted(reasons.items())), tables, _held_back_path(job))
    write_atomically(staging / "export.json", [_record(summary, manifest, models)])
    write_atomically(summary.held_back, [_held_back(known, outcomes)])
    journal.close({"manifest.csv", "export.json", *tables, *(one.file for one in outcomes if one.file)})
    with write_errors(job.out):
        with suppress(FileNotFoundError):
            job.out.rmdir()  # empty, as was checked
        os.rename(staging, job.out)
    return summary


def _check(job: Job) -> None:
    results, out = job.results.absolute(), job.out.absolute()
    if not (results / STORE_NAME).is_file():
        raise ConfigError(
            f"{job.results} holds no results ({STORE_NAME}); name the folder that `screening score` wrote"
        )
    if out.resolve().is_relative_to(results.resolve()) or results.resolve().is_relative_to(out.resolve()):
        raise ConfigError("the export must not lie within the results, nor they within it: name another --out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{job.out} is there already; name a new folder, so that exports do not mix")
    if job.followup is not None and not job.followup.is_dir():
        raise ConfigError(f"there is no follow-up folder {job.followup}")
    if job.images:
        require_reader()


def _tables(job: Job, pseudonyms: Pseudonyms) -> Iterator[tuple[str, Exported]]:
    """The tables by the file that they become."""
    for name, columns in RESULT_TABLES.items():
        yield f"{name}.csv", _table(job.results, name, columns, pseudonyms, needed=True)[0]
    if job.followup is None:
        return
    for name, columns in FOLLOWUP_TABLES.items():
        for table in _table(job.followup, name, columns, pseudonyms, needed=False):
            yield f"followup/{name}.csv", table


def _table(folder: Path, name: str, columns: Table, pseudonyms: Pseudonyms, needed: bool) -> list[Exported]:
    found = [path for path in (folder / f"{name}.csv", folder / f"{name}.parquet") if path.is_file()]
    if len(found) > 1:
        raise ConfigError(f"{folder} holds both {found[0].name} and {found[1].name}; keep one")
    if needed and not found:
        raise ConfigError(f"{folder} holds no {name}.csv; finish the batch with `screening score --resume`")
    return [export_table(path, columns, pseudonyms) for path in found]


def _export_all(
    known: list[Instance], staging: Path, pseudonyms: Pseudonyms, journal: Journal, workers: int, progress: _Progress
) -> Iterator[Outcome]:
    """The outcome of each, in order."""

    def outcome(instance: Instance) -> tuple[str, Outcome, bool]:
        if instance.outcome is not None:
            return "", instance.outcome, False
        key = str(pseudonyms.uid("\n".join((instance.exam_id, instance.woman_id, instance.image_id, instance.file))))
        earlier = journal.outcome(key, Path(instance.file))
        if earlier is not None and earlier.end is not End.FAILED:
            return key, earlier, False
        return key, export_instance(instance.source, staging, pseudonyms), True

    pool = ThreadPoolExecutor(workers)
    try:
        for number, (instance, (key, done, new)) in enumerate(zip(known, pool.map(outcome, known), strict=True), 1):
            if new:
                journal.add(key, Path(instance.file), done)
            progress(number, len(known))
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def _without_duplicates(outcomes: list[Outcome]) -> list[Outcome]:
    """Two files of one woman with the same UIDs are one instance: the later one has not been exported."""
    seen: set[str] = set()
    unique = []
    for one in outcomes:
        twice = one.file in seen
        seen.update({one.file} - {""})
        unique.append(Outcome(End.FAILED, Why.DUPLICATE) if twice else one)
    return unique


def _manifest(known: list[Instance], outcomes: list[Outcome], pseudonyms: Pseudonyms) -> bytes:
    lines = [csv_line(_MANIFEST)]
    for one, ended in zip(known, outcomes, strict=True):
        whose = (
            pseudonyms.woman(one.woman_id) if one.woman_id else "",
            pseudonyms.exam(one.exam_id) if one.exam_id else "",
            str(pseudonyms.uid(one.image_id)) if one.image_id else "",
        )
        size = str(ended.bytes) if ended.file else ""
        lines.append(csv_line((ended.file, ended.sha256, size, ended.end, ended.why or "", one.what, *whose)))
    return "".join(lines).encode()


def _record(summary: Summary, manifest: bytes, models: list[str]) -> bytes:
    record: dict[str, Any] = {
        "notice": NOTICE,
        "profile": {"standard": f"DICOM PS3.15 {EDITION}, Basic Application Level Confidentiality Profile"},
        "options": OPTIONS,
        "models": models,
        "instances": {"total": summary.total} | {end.value.replace("-", "_"): n for end, n in summary.ends.items()},
        "reasons": [{"status": end, "code": why, "instances": n} for (end, why), n in summary.reasons.items()],
        "tables": [
            {
                "file": file,
                "rows": table.rows,
                "sha256": hashlib.sha256(table.content).hexdigest(),
                "columns_left_out": table.columns_left_out,
                "cells_emptied": table.emptied,
            }
            for file, table in summary.tables.items()
        ],
        "manifest": {"file": "manifest.csv", "sha256": hashlib.sha256(manifest).hexdigest()},
        "versions": _versions(),
    }
    return json.dumps(record, indent=2).encode() + b"\n"


def _held_back(known: list[Instance], outcomes: list[Outcome]) -> bytes:
    lines = [csv_line(("exam_id", "image_id", "file", "status", "reason"))]
    for one, ended in zip(known, outcomes, strict=True):
        if ended.why is not None:
            cells = (one.exam_id, one.image_id, one.file, ended.end, ended.why)
            lines.append(csv_line(cells, csv.QUOTE_ALL))  # paths may hold any sign
    return "".join(lines).encode("utf-8", "backslashreplace")


def _held_back_path(job: Job) -> Path:
    return job.results / HELD_BACK_NAME


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("screening", "pydicom", "dicom-anonymizer")}
