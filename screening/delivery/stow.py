"""Sending by STOW-RS (PS3.18 10.5): the objects of an exam in one request, as the bytes that their files hold.

The DICOMweb client that tests read back with would encode each object anew and drop the answer of a request that fails
in part; this one reads what the answer says of each instance (Store Instances Response, PS3.18 annex I.2).
"""

from __future__ import annotations

import json
import ssl
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from screening.delivery.answers import Answer, Outcome, RefusedError, UnreachableError, by_status
from screening.delivery.destinations import Credentials
from screening.delivery.outbox import Parcel
from screening.errors import ConfigError
from screening.site import Destination

_LONGEST_ANSWER = 4_000_000
_REFERENCED, _FAILED = "00081199", "00081198"
_INSTANCE, _FAILURE_REASON = "00081155", "00081197"
_ONE_BY_ONE = (400, 413)
"""Answers to a whole request for which one of its objects may be to blame."""
_BUSY = (408, 425, 429, 502, 503, 504, 507)
_PARTLY = (200, 202, 409)


class StowSender:
    """Sends to a DICOMweb service; `destination.url` is the address that `/studies` follows."""

    def __init__(self, destination: Destination, credentials: Credentials) -> None:
        self._name = destination.name
        self._url = destination.url.removesuffix("/studies") + "/studies"
        self._timeout = destination.timeout_s
        self._session = requests.Session()
        self._session.auth = _auth(credentials)
        self._trusted = destination.ca_file or True
        if destination.certificate_file is not None:
            self._session.cert = (
                destination.certificate_file
                if destination.key_file is None
                else (destination.certificate_file, destination.key_file)
            )

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
            self._check(status)
            yield from (Answer(uid, Outcome.LATER, f"the PACS failed on it (HTTP {status})") for uid in contents)

    def _post(self, contents: Sequence[bytes]) -> tuple[int, bytes]:
        """Status and body of the answer; raises what stands between us and an answer."""
        boundary = uuid.uuid4().hex
        try:
            # Redirects are not followed: after most of them, requests would ask with GET, and store nothing.
            with self._session.post(
                self._url,
                data=_multipart(contents, boundary),
                headers={
                    "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                    "Accept": "application/dicom+json",
                },
                timeout=self._timeout,
                verify=self._trusted,  # here and not in the session, whose own the environment may replace
                allow_redirects=False,
                stream=True,
            ) as response:
                return response.status_code, self._body(response)
        except requests.exceptions.SSLError as error:
            if _has_cause(error, ssl.SSLCertVerificationError):
                raise RefusedError(
                    f"{self._name}: its certificate cannot be trusted; check ca_file and the URL"
                ) from error
            raise UnreachableError(f"{self._name}: the TLS connection broke off") from error
        except requests.Timeout as error:
            raise UnreachableError(f"{self._name} did not answer within {self._timeout:g} s") from error
        except requests.ConnectionError as error:
            raise UnreachableError(f"{self._name} cannot be reached, or cut the connection") from error
        except requests.RequestException as error:
            raise UnreachableError(f"{self._name} gave no proper answer ({type(error).__name__})") from error
        except OSError as error:  # requests says so itself of certificate files that are missing
            raise ConfigError(f"destination {self._name}: ca_file or certificate_file cannot be read") from error

    def _body(self, response: requests.Response) -> bytes:
        """The answer's body, up to a length and within a time that a PACS needs at most."""
        deadline = time.monotonic() + self._timeout
        body = b""
        for chunk in response.iter_content(65_536):
            body += chunk
            if len(body) > _LONGEST_ANSWER:
                raise UnreachableError(f"{self._name} answers without an end")
            if time.monotonic() > deadline:
                raise UnreachableError(f"{self._name} did not end its answer within {self._timeout:g} s")
        return body

    def _check(self, status: int) -> None:
        """Raise what an answer means that is not about the objects."""
        if status in (401, 403):
            raise RefusedError(
                f"{self._name} refuses our credentials (HTTP {status}); check the variables that hold them"
            )
        if status in _BUSY:
            raise UnreachableError(f"{self._name} is busy (HTTP {status})")
        if status < 500:
            raise RefusedError(f"{self._name} has no STOW-RS service at this address (HTTP {status}); check the URL")


class _Bearer(AuthBase):
    """As an authentication and not as a header, because .netrc would replace the header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _auth(credentials: Credentials) -> AuthBase | None:
    if credentials.token:
        return _Bearer(credentials.token)
    return HTTPBasicAuth(credentials.user, credentials.password) if credentials.user else None


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
    """UIDs of the Referenced SOP Sequence, and of the Failed SOP Sequence with their reasons (DICOM JSON, PS3.18 F)."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):  # a PACS that answers nonsense has said nothing
        return set(), {}
    datasets = [one for one in (content if isinstance(content, list) else [content]) if isinstance(one, dict)]
    referenced = {_first(item, _INSTANCE) for one in datasets for item in _items(one, _REFERENCED)}
    failed = {
        _first(item, _INSTANCE): _first(item, _FAILURE_REASON) for one in datasets for item in _items(one, _FAILED)
    }
    return (
        {uid for uid in referenced if isinstance(uid, str)},
        {uid: why if isinstance(why, int) else 0x0110 for uid, why in failed.items() if isinstance(uid, str)},
    )


def _items(dataset: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return [item for item in _values(dataset, tag) if isinstance(item, dict)]


def _first(dataset: dict[str, Any], tag: str) -> object:
    values = _values(dataset, tag)
    return values[0] if values and isinstance(values[0], str | int) else None


def _values(dataset: dict[str, Any], tag: str) -> list[Any]:
    element = dataset.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    seen: list[BaseException] = [error]
    for one in seen:  # grows while it is read
        causes = (one.__cause__, one.__context__, *one.args, getattr(one, "reason", None))
        seen += [cause for cause in causes if isinstance(cause, BaseException) and cause not in seen]
    return any(isinstance(one, kind) for one in seen)
