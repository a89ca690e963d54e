"""Associations with a DIMSE peer (PS3.8): credentials, TLS, and why there is none as two errors."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation, UserIdentityNegotiation

from screening.delivery.answers import RefusedError, UnreachableError
from screening.delivery.destinations import Credentials, peer, tls_context
from screening.site import Destination

_USER_AND_PASSCODE = 2
_TRANSIENT, _ACSE = 0x02, 0x02
"""Result and source of a rejected association (PS3.8 9.3.4)."""

Contexts = Iterable[tuple[str, Sequence[str]]]
"""Presentation contexts: abstract syntax, transfer syntaxes."""


@contextmanager
def associated(
    destination: Destination,
    credentials: Credentials,
    contexts: Contexts,
    handlers: Sequence[Any] = (),
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Iterator[Association]:
    """An association that ends with the `with`.

    One without accepted contexts is given where the peer does speak to us but takes none of them. Raises
    UnreachableError, RefusedError for a peer that rejects us, ConfigError for certificates that cannot be used.
    """
    called = peer(destination)
    ae = AE(ae_title=destination.ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = destination.timeout_s
    for abstract, transfer in contexts:
        ae.add_requested_context(abstract, list(transfer))
    tls: tuple[ssl.SSLContext, str] | None = (tls_context(destination), called.host) if called.tls else None
    association = ae.associate(
        called.host,
        called.port,
        ae_title=called.ae_title,
        ext_neg=[*roles, *_identity(credentials)],
        tls_args=tls,
        evt_handlers=list(handlers),
    )
    if not association.is_established and not association.rejected_contexts:
        raise _no_association(association, destination, credentials)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _no_association(association: Association, destination: Destination, credentials: Credentials) -> Exception:
    answer = association.acceptor.primitive
    if not association.is_rejected or answer is None or _is_busy(answer, credentials):
        return UnreachableError(f"{destination.name} cannot be reached by DIMSE, or is busy")
    return RefusedError(
        f"{destination.name} rejects the association ({answer.reason_str}); check the credentials and the AE titles "
        f"{destination.ae_title} (ours) and {peer(destination).ae_title} (its own)"
    )


def _is_busy(answer: Any, credentials: Credentials) -> bool:
    """Whether a rejection (PS3.8 table 9-21) is for the moment; that of a user often pretends to be."""
    of_user = bool(credentials.user) and answer.result_source == _ACSE
    return bool(answer.result == _TRANSIENT) and not of_user


def _identity(credentials: Credentials) -> list[UserIdentityNegotiation]:
    """User and password as PS3.7 D.3.3.7 has them, or nothing."""
    if not credentials.user:
        return []
    identity = UserIdentityNegotiation()
    identity.user_identity_type = _USER_AND_PASSCODE
    identity.primary_field = credentials.user.encode()
    identity.secondary_field = credentials.password.encode()
    identity.positive_response_requested = False
    return [identity]
