"""Reports of storage commitment (PS3.4 J.3.3): N-EVENT-REPORT on our association, or on one that the peer opens."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined] # made when it is imported

from screening.delivery.destinations import Peer, tls_context
from screening.errors import ConfigError
from screening.site import Destination

_SUCCESS, _PROCESSING_FAILURE, _NO_SUCH_ARGUMENT = 0x0000, 0x0110, 0x0114


class Reports:
    """What is reported of one transaction; pynetdicom's threads call `handle`, the sender waits."""

    def __init__(self, transaction: str) -> None:
        self._transaction = transaction
        self._arrived = threading.Event()
        self._committed: frozenset[str] = frozenset()
        self._failed: dict[str, int] = {}

    def handle(self, event: Event) -> tuple[int, Dataset | None]:
        """Take an N-EVENT-REPORT; that of another transaction, which nobody waits for any more, is turned down."""
        report = event.event_information
        if str(report.get("TransactionUID", "")) != self._transaction:
            return _NO_SUCH_ARGUMENT, None
        self._committed = frozenset(
            str(one.ReferencedSOPInstanceUID) for one in report.get("ReferencedSOPSequence", ())
        )
        self._failed = {
            str(one.ReferencedSOPInstanceUID): int(one.get("FailureReason", _PROCESSING_FAILURE))
            for one in report.get("FailedSOPSequence", ())
        }
        self._arrived.set()
        return _SUCCESS, None

    def wait(self, seconds: float) -> tuple[frozenset[str], dict[str, int]]:
        """UIDs of what is committed, and of what is not with the reasons; both empty if no report comes in time."""
        self._arrived.wait(seconds)
        return self._committed, self._failed


@contextlib.contextmanager
def listening(destination: Destination, peer: Peer, reports: Reports) -> Iterator[None]:
    """Listen on the destination's `commitment_port`, if it has one, for this peer's reports and nothing else.

    Raises ConfigError if the port cannot be listened on.
    """
    if destination.commitment_port is None:
        yield
        return
    ae = AE(ae_title=destination.ae_title)
    ae.require_called_aet = True
    ae.require_calling_aet = [peer.ae_title]
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = destination.timeout_s
    # The peer is the provider of the service, though it is the one that calls: it proposes the roles the other way.
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    context = tls_context(destination, ssl.Purpose.CLIENT_AUTH) if peer.tls else None
    try:
        server = ae.start_server(
            ("", destination.commitment_port),
            block=False,
            ssl_context=context,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports.handle)],
        )
    except OSError as error:
        raise ConfigError(
            f"destination {destination.name}: commitment_port {destination.commitment_port} cannot be listened on "
            f"({error.strerror})"
        ) from error
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()
