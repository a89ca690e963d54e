"""The FHIR report of an exam as a file: valid, and with what an earlier result had said marked as withdrawn.

Each exam has one file, and each resource one id, which a new result of the exam changes. Where the new result has fewer
regions, or is another model's, resources of the earlier one would stay on a FHIR server as if they still held; they are
put again as "entered-in-error".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from screening.delivery.context import Delivery
from screening.delivery.fhir import entry, report_bundle
from screening.delivery.headers import DeliveryError
from screening.store.files import write_atomically

KIND = "fhir-report"

_WITHDRAWN = "Withdrawn: the exam was scored again, and a newer result says otherwise."
_IDENTIFYING = ("resourceType", "id", "meta", "identifier", "category", "code", "subject")
_TAKEN_BACK = ("DiagnosticReport", "Observation")
"""What says something of the woman; who made it and of what (Device, Provenance) remains true."""


def write_report(
    delivery: Delivery, path: Path, patient_system: str | None = None, earlier: Iterable[Path] = ()
) -> None:
    """Validate the exam's Bundle (see `report_bundle`) and write it to `path` as JSON in ASCII, whole or not at all.

    Parameters
    ----------
    earlier
        Files of earlier results of the exam, beside `path` itself; those that are gone or damaged cannot be withdrawn.

    Raises
    ------
    DeliveryError
        If it is no valid FHIR R4.
    StoreError
        If it cannot be written.
    """
    bundle = report_bundle(delivery, patient_system)
    present = {one["fullUrl"] for one in bundle["entry"]}
    before = {one["id"]: one for file in (*earlier, path) for one in _resources(file)}
    bundle["entry"] += [entry(_withdrawn(one)) for one in before.values() if f"urn:uuid:{one['id']}" not in present]
    _check(bundle)
    write_atomically(path, [json.dumps(bundle, indent=1, allow_nan=False).encode(), b"\n"])


def _check(bundle: dict[str, Any]) -> None:
    # It takes a moment to import, which other commands should not wait for. Its R4B is R4 in all types used here.
    from fhir.resources.R4B.bundle import Bundle

    try:
        Bundle.model_validate(bundle)
    except ValidationError as error:
        # Its own message would quote what is wrong, which may identify a woman.
        places = sorted({".".join(map(str, detail["loc"])) for detail in error.errors(include_input=False)})
        raise DeliveryError(f"the FHIR report is not valid at {', '.join(places[:3])}") from error


def _resources(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_bytes())["entry"]
        return [one["resource"] for one in entries if one["resource"]["resourceType"] in _TAKEN_BACK]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _withdrawn(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource without what it said. Its references are gone too: they would meet nothing in this Bundle."""
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{_WITHDRAWN}</p></div>'
    return {
        **{key: resource[key] for key in _IDENTIFYING if key in resource},
        "text": {"status": "generated", "div": div},
        "status": "entered-in-error",
    }
