"""Sending by STOW-RS (PS3.18 10.5): the objects of an exam in one request, as the bytes that their files hold.

The DICOMweb client that tests read back with would encode each object anew and drop the answer of a request that fails
in part; this one reads what the answer says of each instance (Store Instances Response, PS3.18 annex I.2).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence

from screening.delivery.answers import Answer, Outcome, by_status
from screening.delivery.destinations import Credentials
from screening.delivery.native_xml import NotNativeXmlError, dicom_json
from screening.delivery.outbox import Parcel
from screening.delivery.web import WebSession, first, items
from screening.site import Destination

_REFERENCED, _FAILED = "00081199", "00081198"
_INSTANCE, _FAILURE_REASON = "00081155", "00081197"
_ONE_BY_ONE = (400, 413)
"""Answers to a whole request for which one of its objects may be to blame."""
_PARTLY = (200, 202, 409)
_ACCEPT = "application/dicom+json, application/dicom+xml;q=0.5"
"""A service that has only XML need not answer with an error (PS3.18 10.5.3)."""


class StowSender:
    """Sends to a DICOMweb service; `destination.url` is the address that `/studies` follows."""

    def __init__(self, destination: Destination, credentials: Credentials) -> None:
        self._url = destination.url.removesuffix("/studies") + "/studies"
        self._web = WebSession(destination, credentials)

    def send(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """Store the objects in one request; see `Sender`. Objects whose file is gone are answered and left out."""
        contents: dict[str, bytes] = {}
        for parcel in parcels:
            try:
                contents[parcel.sop_instance_uid] = parcel.path.read_bytes()
            except OSError as error:
                yield Answer(parcel.sop_instance_uid, Outcome.LATER, f"its file cannot be read ({error.strerror})")
        if contents:
            yield from self._store(contents)

    def commit(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """DICOMweb's answer is all there is: storage commitment is not asked for."""
        for parcel in parcels:
            yield Answer(parcel.sop_instance_uid, Outcome.NOT_OFFERED)

    def _store(self, contents: dict[str, bytes]) -> Iterator[Answer]:
        status, body = self._post(list(contents.values()))
        if status in _ONE_BY_ONE and len(contents) > 1:
            for uid, content in contents.items():
                yield from self._store({uid: content})
        elif status in _ONE_BY_ONE:
            yield from (Answer(uid, Outcome.NEVER, f"the PACS does not take it (HTTP {status})") for uid in contents)
        elif status in _PARTLY:
            yield from _by_instance(contents, status, body)
        else:
            self._web.check(status, "STOW-RS")
            yield from (Answer(uid, Outcome.LATER, f"the PACS failed on it (HTTP {status})") for uid in contents)

    def _post(self, contents: Sequence[bytes]) -> tuple[int, bytes]:
        """Status and body of the answer; raises what stands between us and an answer."""
        boundary = uuid.uuid4().hex
        with self._web.ask(
            "POST",
            self._url,
            data=_multipart(contents, boundary),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": _ACCEPT,
            },
        ) as response:
            return response.status_code, self._web.body(response)


def _multipart(contents: Sequence[bytes], boundary: str) -> bytes:
    """A multipart/related body (RFC 2387) of DICOM files."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + content + b"\r\n" for content in contents) + f"--{boundary}--\r\n".encode()


def _by_instance(uids: Iterable[str], status: int, body: bytes) -> Iterator[Answer]:
    """What the answer says of each instance. One that it does not name has not arrived as far as anybody knows."""
    referenced, failed = _response(body)
    for uid in uids:
        if uid in failed:
            yield by_status(uid, failed[uid])
        elif uid in referenced and status != 409:
            yield Answer(uid, Outcome.ARRIVED)
        else:
            yield Answer(uid, Outcome.LATER, f"the PACS does not say that it stored it (HTTP {status})")


def _response(body: bytes) -> tuple[set[str], dict[str, int]]:
    """UIDs of the Referenced SOP Sequence, and of the Failed SOP Sequence with their reasons; in JSON or XML."""
    try:
        content = dicom_json(body) if body.lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(b"<") else json.loads(body)
    except (ValueError, RecursionError, NotNativeXmlError):  # a PACS that answers nonsense has said nothing
        return set(), {}
    datasets = [one for one in (content if isinstance(content, list) else [content]) if isinstance(one, dict)]
    referenced = {first(item, _INSTANCE) for one in datasets for item in items(one, _REFERENCED)}
    failed = {first(item, _INSTANCE): first(item, _FAILURE_REASON) for one in datasets for item in items(one, _FAILED)}
    return (
        {uid for uid in referenced if isinstance(uid, str)},
        {uid: why if isinstance(why, int) else 0x0110 for uid, why in failed.items() if isinstance(uid, str)},
    )
