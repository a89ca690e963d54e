"""Sending reports to a FHIR R4 server: each exam's Bundle as one transaction (FHIR R4, http.html#transaction).

The server takes all of a Bundle or nothing. Every entry is a PUT under an id that follows from exam and bundle, so that
sending it again, after a lost answer too, is an update and never a second report.
"""

from __future__ import annotations

import json

from screening.delivery.answers import Outcome
from screening.delivery.web_files import FileSender

_MEDIA_TYPE = "application/fhir+json"
_NOT_TAKEN = (400, 410, 413, 422)
"""Of a server that understands what it is asked for, and finds fault with the Bundle."""
_CONFLICT = (409, 412)


class FhirSender(FileSender):
    """Sends to the FHIR server whose base address is `destination.url`."""

    def _store(self, content: bytes) -> tuple[Outcome, str]:
        status, body = self._ask("POST", self._destination.url, _MEDIA_TYPE, content)
        if status in _NOT_TAKEN:
            # What its OperationOutcome says may quote the report.
            return Outcome.NEVER, f"the FHIR server does not take the report (HTTP {status})"
        if status in _CONFLICT:
            return Outcome.LATER, f"the FHIR server is changing the same report (HTTP {status})"
        if status == 200:
            if _all_stored(body, len(json.loads(content)["entry"])):
                return Outcome.ARRIVED, ""
            return Outcome.LATER, "the FHIR server does not say that it stored all of the report (HTTP 200)"
        self._web.check(status, "FHIR")
        return Outcome.LATER, f"the FHIR server failed on it (HTTP {status})"


def _all_stored(body: bytes, count: int) -> bool:
    """Whether the answer is that to a transaction, and says of each of its `count` entries that it was done."""
    try:
        content = json.loads(body)
        statuses = [str(entry["response"]["status"]) for entry in content["entry"]]
        kind = content["type"]
    except (ValueError, LookupError, TypeError, RecursionError):  # a server that answers nonsense has said nothing
        return False
    return kind == "transaction-response" and len(statuses) == count and all(one[:1] == "2" for one in statuses)
