"""What acceptance leaves behind: `acceptance.json`, a proposed part of the site profile, and the site's reference."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from screening.acceptance.assess import Acceptance
from screening.acceptance.score_statistics import ChosenPoint, percent
from screening.monitoring.reference import Reference, write_reference
from screening.store import write_atomically

RECORD, PROPOSAL, SITE_REFERENCE = "acceptance.json", "proposed-site.yaml", "site-reference.json"

NOTICE = "Nothing here is a medical device. Research only, not for clinical use."


def write_outputs(acceptance: Acceptance, out: Path) -> None:
    """Write the three files; the reference only where the sample is large enough. Raises `StoreError`."""
    text = json.dumps(record(acceptance), indent=2, ensure_ascii=True)
    write_atomically(out / RECORD, [text.encode(), b"\n"])
    write_atomically(out / PROPOSAL, [proposal(acceptance).encode("utf-8", "backslashreplace")])
    (out / SITE_REFERENCE).unlink(missing_ok=True)
    if isinstance(acceptance.drift, Reference):
        write_reference(out / SITE_REFERENCE, acceptance.drift)


def record(acceptance: Acceptance) -> dict[str, Any]:
    """All that the report says, as JSON-ready values; no woman, patient or exam is in it, images by UID as examples."""
    bundle = acceptance.bundle
    content = {
        "format": "screening-acceptance/1",
        "notice": NOTICE,
        "made": acceptance.made.isoformat().replace("+00:00", "Z"),
        "site": acceptance.site,
        "profile_sha256": acceptance.profile_sha256,
        "model": {"id": bundle.model_id, "sha256": bundle.sha256},
        "system": system(),
        "sample": asdict(acceptance.sample),
        "verdict": acceptance.verdict,
        "checks": [asdict(one) for one in acceptance.checks],
        "protocols": [asdict(one) for one in acceptance.protocols],
        "sources": {one.title: dict(one.counts) for one in acceptance.tallies},
        "odd_headers": [asdict(one) for one in acceptance.odd],
        "not_scored": [asdict(one) for one in acceptance.not_scored],
        "image_warnings": dict(acceptance.warnings),
        "profile_changes": [asdict(one) for one in acceptance.suggestion.changes],
        "images": [asdict(one) for one in acceptance.comparisons],
        "training_note": acceptance.training_note,
        "scores": asdict(acceptance.spread),
        "operating_point": asdict(acceptance.point),
        "points_here": [asdict(one) for one in acceptance.points_here],
        "seconds_per_exam": seconds(acceptance.seconds),
        "drift_reference": SITE_REFERENCE if isinstance(acceptance.drift, Reference) else acceptance.drift,
    }
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


def seconds(found: tuple[float, ...]) -> dict[str, float]:
    """Mean, median and 95th percentile in seconds; empty without exams."""
    if not found:
        return {}
    values = {"mean": np.mean(found), "median": np.median(found), "p95": np.quantile(found, 0.95)}
    return {name: round(float(value), 3) for name, value in values.items()}


def system() -> dict[str, str]:
    """Versions and machine, without the host's name."""
    packages = ("screening", "torch", "pydicom", "numpy")
    versions = {name: metadata.version(name) for name in packages}
    return versions | {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}


def proposal(acceptance: Acceptance) -> str:
    """Keys for the site profile: changes that admit what was rejected, and the operating point."""
    lines = [
        f"# For the profile of {acceptance.site}, from its acceptance of {acceptance.made:%Y-%m-%d}.",
        "# Replace the keys of the same name; then run screening accept again.",
        f"# {NOTICE}",
    ]
    suggestion = acceptance.suggestion
    if suggestion.changes:
        lines += ["", f"# Tried on the sample: {suggestion.admitted} of the rejected files become images."]
        lines += [f"# {change.key}: {change.files} files, {change.why}." for change in suggestion.changes]
        lines.append(suggestion.yaml.rstrip())
    lines.append("")
    point = acceptance.point
    if isinstance(point, ChosenPoint):
        content = {
            "threshold": float(f"{point.threshold:.8g}"),
            "target": f"{percent(point.wanted)} of exams recalled",
            "chosen_on": acceptance.chosen_on[:256],
            "model": acceptance.bundle.model_id,
        }
        lines.append(
            f"# Recalls {point.recalled} of {point.exams} exams; in future, with 95 % confidence, "
            f"{point.rate_low:.2%} to {point.rate_high:.2%}."
        )
        lines.append(
            yaml.safe_dump({"operating_point": content}, sort_keys=False, allow_unicode=True, width=110).rstrip()
        )
    else:
        lines.append(f"# No operating point: {point.reason}.")
    if isinstance(acceptance.drift, Reference):
        lines += ["", f"# For monitoring, with the file's path: drift_reference: {SITE_REFERENCE}"]
    return "\n".join(lines) + "\n"
