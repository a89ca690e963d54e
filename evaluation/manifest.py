"""What was evaluated, to be found again: hashes and sizes of every table, and the code's commit. No paths, no ids."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.cohort import Cohort
from evaluation.scores import Scores
from evaluation.tables import TABLES, FollowUp


def manifest(cohort: Cohort, others: Sequence[Scores], followup: Path) -> dict[str, Any]:
    """The record of an evaluation's data.

    `others`: the systems that it is compared with; `followup`: the folder that its follow-up was read from. Returns
    `systems` (name, model_ids, rows, sha256; the evaluated one first), `followup` (file, rows, sha256) and `sha256`
    over both.
    """
    return table_manifest([cohort.scores, *others], cohort.followup, followup)


def table_manifest(scores: Sequence[Scores], tables: FollowUp, followup: Path) -> dict[str, Any]:
    """The same record for systems and follow-up that were not joined; `tables` were read from the folder `followup`."""
    systems = [
        {"name": one.name, "model_ids": list(one.model_ids), "rows": len(one.exams), "sha256": one.sha256}
        for one in scores
    ]
    files = {}
    for name in TABLES:
        table = getattr(tables, name)
        for file in (followup / f"{name}.csv", followup / f"{name}.parquet"):
            if table is not None and file.is_file():
                files[file] = len(table)
    return _record(systems, files)


def box_manifest(name: str, predictions: Path, n_predictions: int, files: Mapping[Path, int]) -> dict[str, Any]:
    """The same record for a system's boxes; `files`: the tables of true boxes and volumes, with their rows."""
    system = {"name": name, "model_ids": [], "rows": n_predictions, "sha256": file_sha256(predictions)}
    return _record([system], files)


def _record(systems: list[dict[str, Any]], files: Mapping[Path, int]) -> dict[str, Any]:
    followup = [{"file": file.name, "rows": rows, "sha256": file_sha256(file)} for file, rows in files.items()]
    digests = "\n".join(str(entry["sha256"]) for entry in (*systems, *followup))
    return {"systems": systems, "followup": followup, "sha256": hashlib.sha256(digests.encode()).hexdigest()}


def file_sha256(file: Path) -> str:
    """Hex digest of a file, as `sha256sum` gives it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_commit() -> str:
    """The code's commit, with `+` where files differ from it; `unknown` outside a checkout."""
    try:
        here = Path(__file__).parent
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
