"""Speaking HTTP to a DICOMweb service: one session with credentials and TLS, and what may go wrong as two errors."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from screening.delivery.answers import RefusedError, UnreachableError
from screening.delivery.destinations import Credentials
from screening.errors import ConfigError
from screening.site import Destination

_LONGEST_ANSWER = 4_000_000
_CHUNK = 65_536
_SLOWEST = 10_000
"""Bytes a second; a mammogram would take an hour."""
_BUSY = (408, 425, 429, 502, 503, 504, 507)


class WebSession:
    """Requests to one destination."""

    def __init__(self, destination: Destination, credentials: Credentials) -> None:
        self._name = destination.name
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

    @contextmanager
    def ask(self, method: str, url: str, **options: Any) -> Iterator[requests.Response]:
        """The answer, its body still to be read within the `with`; raises what stands between us and an answer.

        Raises UnreachableError, RefusedError for a certificate that cannot be trusted, ConfigError for files of
        certificates that cannot be read.
        """
        try:
            # Redirects are not followed: after most of them, requests would ask with GET, and store nothing.
            with self._session.request(
                method,
                url,
                timeout=self._timeout,
                verify=self._trusted,  # here and not in the session, whose own the environment may replace
                allow_redirects=False,
                stream=True,
                **options,
            ) as response:
                yield response
        except requests.exceptions.SSLError as error:
            if _has_cause(error, ssl.SSLCertVerificationError):
                raise RefusedError(
                    f"{self._name}: its certificate cannot be trusted; check ca_file and the URL"
                ) from error
            raise UnreachableError(f"{self._name}: the TLS connection broke off") from error
        except requests.Timeout as error:
            raise UnreachableError(f"{self._name} did not answer within {self._timeout:g} s") from error
        except urllib3.exceptions.TimeoutError as error:  # urllib3 says so itself of a body
            raise UnreachableError(f"{self._name} did not go on within {self._timeout:g} s") from error
        except (requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
            raise UnreachableError(f"{self._name} cannot be reached, or cut the connection") from error
        except requests.RequestException as error:
            raise UnreachableError(f"{self._name} gave no proper answer ({type(error).__name__})") from error
        except OSError as error:  # requests says so itself of certificate files that are missing
            raise ConfigError(f"destination {self._name}: ca_file or certificate_file cannot be read") from error

    def chunks(self, response: requests.Response) -> Iterator[bytes]:
        """The answer's body as it arrives. Raises UnreachableError if it comes so slowly that others would wait."""
        began, size = time.monotonic(), 0
        while chunk := response.raw.read1(_CHUNK, decode_content=True):  # others wait until a whole chunk is there
            yield chunk
            size += len(chunk)
            seconds = time.monotonic() - began
            if seconds > self._timeout and size < _SLOWEST * seconds:
                raise UnreachableError(f"{self._name} sends too slowly")

    def body(self, response: requests.Response) -> bytes:
        """The answer's body, up to a length and within a time that a PACS needs at most."""
        deadline = time.monotonic() + self._timeout
        body = b""
        for chunk in self.chunks(response):
            body += chunk
            if len(body) > _LONGEST_ANSWER:
                raise UnreachableError(f"{self._name} answers without an end")
            if time.monotonic() > deadline:
                raise UnreachableError(f"{self._name} did not end its answer within {self._timeout:g} s")
        return body

    def check(self, status: int, service: str) -> None:
        """Raise what an answer that is no success means, if it is not about the objects."""
        if status in (401, 403):
            raise RefusedError(
                f"{self._name} refuses our credentials (HTTP {status}); check the variables that hold them"
            )
        if status in _BUSY:
            raise UnreachableError(f"{self._name} is busy (HTTP {status})")
        if status < 500:
            raise RefusedError(f"{self._name} has no {service} service at this address (HTTP {status}); check the URL")


def items(dataset: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    """The items of a sequence in DICOM JSON (PS3.18 F), whatever stands there."""
    return [item for item in values(dataset, tag) if isinstance(item, dict)]


def first(dataset: dict[str, Any], tag: str) -> str | int | None:
    """The first value of an attribute in DICOM JSON, if it is a text or a whole number."""
    found = values(dataset, tag)
    return found[0] if found and isinstance(found[0], str | int) else None


def values(dataset: dict[str, Any], tag: str) -> list[Any]:
    """The values of an attribute in DICOM JSON, none where it is absent or malformed."""
    element = dataset.get(tag)
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


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


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    seen: list[BaseException] = [error]
    for one in seen:  # grows while it is read
        causes = (one.__cause__, one.__context__, *one.args, getattr(one, "reason", None))
        seen += [cause for cause in causes if isinstance(cause, BaseException) and cause not in seen]
    return any(isinstance(one, kind) for one in seen)
