"""Creating workitems on a worklist server by UPS-RS (PS3.18 11), or bringing them up to date where they are there.

A workitem's UID follows from the exam, so that creating it again is a conflict and never a second workitem. One that is
still to be done gets the new priority and inputs; one that a reader has taken is left alone.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from screening.delivery.answers import Outcome, RefusedError
from screening.delivery.ups import CHANGEABLE, UID_TAG
from screening.delivery.web import first
from screening.delivery.web_files import FileSender

_MEDIA_TYPE = "application/dicom+json"
_NO_SERVICE = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
_NOT_TAKEN = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class UpsSender(FileSender):
    """Sends to the server at `destination.url`: what stands before `/workitems`."""

    def _store(self, content: bytes) -> tuple[Outcome, str]:
        """Create the workitem (PS3.18 11.4), or update it (11.6) if it is there and still to be done."""
        item = json.loads(content)
        uid = str(first(item, UID_TAG))
        attributes = {tag: value for tag, value in item.items() if tag != UID_TAG}  # not in a request (11.4.1.4)
        status, _ = self._send(f"?{self._destination.workitem_query.format(uid)}", attributes)
        if status == HTTPStatus.CONFLICT:
            return self._update(uid, attributes)
        if status in _NO_SERVICE:
            raise RefusedError(
                f"{self._destination.name} has no UPS-RS service at this address (HTTP {status}); check the URL, not "
                "every PACS offers it"
            )
        return self._outcome(status, "create")

    def _update(self, uid: str, attributes: dict[str, Any]) -> tuple[Outcome, str]:
        status, body = self._ask("GET", f"{self._destination.url}/workitems/{uid}", _MEDIA_TYPE)
        if status in _GONE:  # servers may stop showing what is done
            return Outcome.ARRIVED, "the workitem was there and is done"
        if not 200 <= status < 300:
            return self._outcome(status, "show")
        state = _state(body)
        if state is None:
            return Outcome.LATER, "the workitem is there, but the server's answer on it cannot be read"
        if state != "SCHEDULED":
            return Outcome.ARRIVED, "a reader has the workitem; it is left as it is"
        changes = {tag: attributes[tag] for tag in CHANGEABLE}
        status, _ = self._send(f"/{uid}", changes)
        return self._outcome(status, "update")

    def _send(self, rest: str, attributes: dict[str, Any]) -> tuple[int, bytes]:
        return self._ask(
            "POST", f"{self._destination.url}/workitems{rest}", _MEDIA_TYPE, json.dumps([attributes]).encode()
        )

    def _outcome(self, status: int, verb: str) -> tuple[Outcome, str]:
        if 200 <= status < 300:
            return Outcome.ARRIVED, ""
        if status in _NOT_TAKEN:
            return Outcome.NEVER, f"the server does not {verb} the workitem (HTTP {status})"
        if status not in (*_GONE, HTTPStatus.CONFLICT):  # of one workitem: somebody else changes it at this moment
            self._web.check(status, "UPS-RS")
        return Outcome.LATER, f"the server failed to {verb} the workitem (HTTP {status})"


def _state(body: bytes) -> str | None:
    """Procedure Step State of the workitem that a server shows; None where that cannot be read."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    item = content[0] if isinstance(content, list) and content else content
    state = first(item, "00741000") if isinstance(item, dict) else None
    return state if isinstance(state, str) else None
