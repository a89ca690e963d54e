"""The C-STORE listener (PS3.4 annex B): takes what a PACS sends by itself, and answers when it is safe on disk."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import ssl
from collections.abc import Iterator

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made when it is imported

from screening.delivery.destinations import tls_context
from screening.errors import ConfigError, StoreError
from screening.site import ArrivalRules, Destination, SiteProfile
from screening.sources.dimse import accepted_contexts
from screening.sources.inbox import Inbox
from screening.sources.spool import StudyError

LOG = logging.getLogger(__name__)

_SUCCESS, _PROCESSING_FAILURE, _NO_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0x0110, 0xA700, 0xC000
_NETWORK_TIMEOUT_S = 60.0
_MOST_ASSOCIATIONS = 20


@contextlib.contextmanager
def listening(profile: SiteProfile, inbox: Inbox) -> Iterator[None]:
    """Keep in the inbox what senders store, as the profile's `arrivals` say, as long as the `with` lasts.

    Raises ConfigError if the port cannot be listened on or certificates cannot be read.
    """
    rules = profile.arrivals
    ae = AE(ae_title=rules.ae_title)
    ae.require_called_aet = True
    ae.require_calling_aet = list(rules.senders)  # none: any
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _NETWORK_TIMEOUT_S
    ae.maximum_associations = _MOST_ASSOCIATIONS
    for abstract, transfer in accepted_contexts([one.uid for one in profile.sop_classes]).items():
        ae.add_supported_context(abstract, list(transfer))
    ae.add_supported_context(Verification)
    receiver = _Receiver(inbox)
    try:
        server = ae.start_server(
            ("", rules.port), block=False, ssl_context=_tls(rules), evt_handlers=[(evt.EVT_C_STORE, receiver.handle)]
        )
    except OSError as error:
        raise ConfigError(f"port {rules.port} cannot be listened on ({error.strerror}); give another") from error
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()


class _Receiver:
    """Answers C-STORE requests; pynetdicom's threads call `handle`."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def handle(self, event: Event) -> int:
        """Keep an instance as it came; the status says whether it is safe (PS3.4 table B.2-1)."""
        try:
            content = event.encoded_dataset()
            # The file meta information before the dataset is of pynetdicom, and the same for the same dataset.
            kept = self._inbox.add(content, hashlib.sha256(content).hexdigest())
        except StoreError as error:
            LOG.error("an instance could not be kept, its sender was told so: %s", error)
            return _NO_RESOURCES
        except StudyError as error:
            LOG.warning("an instance was refused: %s", error)
            return _CANNOT_UNDERSTAND
        except Exception as error:  # whatever a bad file does to the parser, it costs that instance alone
            LOG.warning("an instance was refused: its header cannot be read (%s)", type(error).__name__)
            return _PROCESSING_FAILURE
        LOG.debug("an instance came: %s", kept)
        return _SUCCESS


def _tls(rules: ArrivalRules) -> ssl.SSLContext | None:
    if rules.certificate_file is None:
        return None
    ours = Destination(
        name="arrivals",
        url="dicom-tls://ARRIVALS@localhost",
        certificate_file=rules.certificate_file,
        key_file=rules.key_file,
        ca_file=rules.ca_file,
    )
    return tls_context(ours, ssl.Purpose.CLIENT_AUTH)
