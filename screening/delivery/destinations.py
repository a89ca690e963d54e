"""A destination of the site profile, ready to be spoken to: address in its parts, credentials, TLS."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from screening.delivery.outbox import OUTBOX_NAME
from screening.delivery.sending import Sender
from screening.errors import ConfigError
from screening.site import DeliveryRules, Destination, Mode, Service

_DIMSE_PORTS = {"dicom": 11112, "dicom-tls": 2762}
"""As registered with IANA."""

_OWN_VARIABLES = {
    "user_env": "SCREENING_PACS_USER",
    "password_env": "SCREENING_PACS_PASSWORD",
    "token_env": "SCREENING_PACS_TOKEN",
}
"""Where the credentials are for an address that no profile has; each is used if it is set."""


@dataclass(frozen=True)
class Credentials:
    """User and password, or a bearer token, or nothing; never shown."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Peer:
    """A DIMSE peer: where it listens, and its AE title."""

    host: str
    port: int
    ae_title: str
    tls: bool


def credentials(destination: Destination) -> Credentials:
    """Read the credentials from the environment variables that the destination names.

    Raises ConfigError, naming the variable, if one is not set: a PACS must not be asked without.
    """
    return Credentials(*(_secret(destination, name) for name in _OWN_VARIABLES))


def peer(destination: Destination) -> Peer:
    """The parts of a `dicom:` or `dicom-tls:` URL."""
    parts = urlsplit(destination.url)
    port = parts.port or _DIMSE_PORTS[parts.scheme]
    return Peer(parts.hostname or "", port, parts.username or "", tls=parts.scheme == "dicom-tls")


def tls_context(destination: Destination, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> ssl.SSLContext:
    """TLS with the destination's certificates. `purpose`: CLIENT_AUTH where the peer calls us; it must show its own.

    Raises ConfigError if a file cannot be read.
    """
    try:
        context = ssl.create_default_context(purpose, cafile=destination.ca_file)
        if destination.certificate_file is not None:
            context.load_cert_chain(destination.certificate_file, destination.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"destination {destination.name}: ca_file, certificate_file or key_file cannot be used "
            f"({error.strerror or error}); check them"
        ) from error
    if purpose is ssl.Purpose.CLIENT_AUTH:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def sender_for(destination: Destination) -> Sender:
    """What sends to this destination, by its service and URL. Raises ConfigError as `credentials`."""
    if destination.service is Service.FHIR:
        from screening.delivery.fhir_rest import FhirSender

        return FhirSender(destination, credentials(destination))
    if destination.service is Service.UPS:
        from screening.delivery.ups_rs import UpsSender

        return UpsSender(destination, credentials(destination))
    if destination.url.startswith("http"):
        from screening.delivery.stow import StowSender

        return StowSender(destination, credentials(destination))
    # DIMSE takes a moment to import; DICOMweb should not wait for it.
    from screening.delivery.cstore import CStoreSender

    return CStoreSender(destination, credentials(destination))


def chosen(rules: DeliveryRules, to: str | None) -> tuple[Destination, ...]:
    """Where to send: what the mode says, or the destination named `to`, or the URL `to`.

    Raises ConfigError for a malformed URL, and for a live destination while the site is in shadow mode: nobody must go
    live by a slip of the command line.
    """
    if to is None:
        return rules.destinations
    known = [one for one in (*rules.live, *rules.shadow) if to.rstrip("/") in (one.name, one.url)]
    if any(one in rules.live for one in known) and rules.mode is not Mode.LIVE:
        raise ConfigError(f"{to} is a live destination, and the site is in shadow mode; go live in the site profile")
    return (known[0],) if known else (unlisted(to, "--to"),)


def unlisted(url: str, argument: str) -> Destination:
    """A destination that no profile has, with the credentials of our own variables.

    Raises ConfigError, naming the command's `argument`, for a malformed URL.
    """
    named = {key: variable for key, variable in _OWN_VARIABLES.items() if os.environ.get(variable)}
    if url.startswith("dicom"):
        named.pop("token_env", None)
    try:
        return Destination.model_validate({"name": url.rstrip("/")[:256], "url": url, **named})
    except ValidationError as error:
        sentences = (detail["msg"].removeprefix("Value error, ") for detail in error.errors())
        raise ConfigError(f"{argument}: {'; '.join(sentences)}") from error


def _secret(destination: Destination, key: str) -> str:
    variable: str | None = getattr(destination, key)
    if variable is None:
        return ""
    value = os.environ.get(variable, "")
    if not value:
        raise ConfigError(
            f"destination {destination.name}: {key} names the environment variable {variable}, which is not set; set it"
        )
    return value


def outbox_path(rules: DeliveryRules, results: Path) -> Path:
    """The site's outbox, or that of the results folder."""
    return results / OUTBOX_NAME if rules.outbox is None else Path(rules.outbox)
