"""Sending by DIMSE: C-STORE (PS3.4 annex B), and storage commitment where the peer offers it (PS3.4 annex J)."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined] # made when it is imported

from screening.delivery.answers import Answer, Outcome, RefusedError, UnreachableError, by_status
from screening.delivery.commitment import Reports, listening
from screening.delivery.destinations import Credentials, peer, tls_context
from screening.delivery.outbox import Parcel
from screening.site import Destination

_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Well-known SOP instance of the Storage Commitment Push Model."""
_REQUEST_COMMITMENT = 1
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_USER_AND_PASSCODE = 2
_TRANSIENT, _ACSE = 0x02, 0x02
"""Result and source of a rejected association (PS3.8 9.3.4)."""


class CStoreSender:
    """Sends to a DIMSE peer, one association for each exam."""

    def __init__(self, destination: Destination, credentials: Credentials) -> None:
        self._destination = destination
        self._credentials = credentials
        self._name = destination.name
        self._peer = peer(destination)
        self._tls = tls_context(destination) if self._peer.tls else None

    def send(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """Store the objects one after the other; see `Sender`. Objects whose file is gone are answered and left out."""
        readable: list[tuple[str, Dataset]] = []
        for parcel in parcels:
            try:
                readable.append((parcel.sop_instance_uid, dcmread(parcel.path)))
            except OSError as error:
                yield Answer(parcel.sop_instance_uid, Outcome.LATER, f"its file cannot be read ({error.strerror})")
            except InvalidDicomError:
                yield Answer(parcel.sop_instance_uid, Outcome.NEVER, "its file is no DICOM file any more")
        if readable:
            with self._association({dataset.SOPClassUID for _, dataset in readable}) as association:
                for uid, dataset in readable:
                    yield self._store(association, uid, dataset) if association.accepted_contexts else _unwanted(uid)

    def commit(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """Ask for commitment and wait, as long as for any answer, for the report; see `Sender`.

        The report comes on the same association, or on one that the peer opens to `commitment_port`. If it does not
        come in time, nothing is yielded, and the next run asks again.
        """
        if not self._destination.commitment or not parcels:
            yield from (Answer(parcel.sop_instance_uid, Outcome.NOT_OFFERED) for parcel in parcels)
            return
        transaction = str(generate_uid(prefix=None))
        reports = Reports(transaction)
        with (
            listening(self._destination, self._peer, reports),
            self._association({StorageCommitmentPushModel}, reports) as association,
        ):
            if not association.accepted_contexts:
                yield from (Answer(parcel.sop_instance_uid, Outcome.NOT_OFFERED) for parcel in parcels)
                return
            status, _ = association.send_n_action(
                _request(transaction, parcels),
                _REQUEST_COMMITMENT,
                StorageCommitmentPushModel,
                _COMMITMENT_INSTANCE,
            )
            if "Status" not in status:
                raise UnreachableError(f"{self._name} did not answer the request for commitment")
            if status.Status != 0:
                raise RefusedError(f"{self._name} refuses the request for commitment (status 0x{status.Status:04X})")
            committed, failed = reports.wait(self._destination.timeout_s)
        for parcel in parcels:
            uid = parcel.sop_instance_uid
            if uid in failed:
                # Whatever the reason, it is not safe there: it is sent again.
                yield Answer(uid, Outcome.LATER, by_status(uid, failed[uid]).sentence or "not committed")
            elif uid in committed:
                yield Answer(uid, Outcome.COMMITTED)

    def _store(self, association: Association, uid: str, dataset: Dataset) -> Answer:
        try:
            status = association.send_c_store(dataset)
        except ValueError:  # pynetdicom's word for a context that was not accepted, or that does not fit
            return _unwanted(uid)
        except RuntimeError as error:  # and for an association that has ended
            raise UnreachableError(f"{self._name} ended the association") from error
        if "Status" not in status:
            raise UnreachableError(
                f"{self._name} did not answer within {self._destination.timeout_s:g} s, or broke off"
            )
        return by_status(uid, status.Status)

    @contextlib.contextmanager
    def _association(self, sop_classes: Iterable[str], reports: Reports | None = None) -> Iterator[Association]:
        """An association for these SOP classes; raises if there is none."""
        ae = AE(ae_title=self._destination.ae_title)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self._destination.timeout_s
        for uid in sorted(sop_classes):
            ae.add_requested_context(uid, _SYNTAXES)
        tls: tuple[ssl.SSLContext, str] | None = None if self._tls is None else (self._tls, self._peer.host)
        association = ae.associate(
            self._peer.host,
            self._peer.port,
            ae_title=self._peer.ae_title,
            ext_neg=self._identity(),
            tls_args=tls,
            evt_handlers=[] if reports is None else [(evt.EVT_N_EVENT_REPORT, reports.handle)],
        )
        if not association.is_established:
            if association.rejected_contexts:
                # The peer does speak to us but accepts none of the SOP classes; pynetdicom aborts then.
                yield association
                return
            raise self._no_association(association)
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def _no_association(self, association: Association) -> Exception:
        answer = association.acceptor.primitive
        if not association.is_rejected or answer is None or self._is_busy(answer):
            return UnreachableError(f"{self._name} cannot be reached by DIMSE, or is busy")
        return RefusedError(
            f"{self._name} rejects the association ({answer.reason_str}); check the credentials and the AE titles "
            f"{self._destination.ae_title} (ours) and {self._peer.ae_title} (its own)"
        )

    def _is_busy(self, answer: Any) -> bool:
        """Whether a rejection (PS3.8 table 9-21) is for the moment; that of a user often pretends to be."""
        of_user = bool(self._credentials.user) and answer.result_source == _ACSE
        return bool(answer.result == _TRANSIENT) and not of_user

    def _identity(self) -> Any:
        """A list of user and password as PS3.7 D.3.3.7 has them, or nothing."""
        if not self._credentials.user:
            return None
        identity = UserIdentityNegotiation()
        identity.user_identity_type = _USER_AND_PASSCODE
        identity.primary_field = self._credentials.user.encode()
        identity.secondary_field = self._credentials.password.encode()
        identity.positive_response_requested = False
        return [identity]


def _unwanted(uid: str) -> Answer:
    return Answer(uid, Outcome.NEVER, "the PACS does not accept its SOP class or transfer syntax")


def _request(transaction: str, parcels: Iterable[Parcel]) -> Dataset:
    """Action Information of a request for commitment (PS3.4 J.3.2.1.1)."""
    request = Dataset()
    request.TransactionUID = transaction
    items = []
    for parcel in parcels:
        item = Dataset()
        item.ReferencedSOPClassUID = parcel.sop_class_uid
        item.ReferencedSOPInstanceUID = parcel.sop_instance_uid
        items.append(item)
    request.ReferencedSOPSequence = Items(items)
    return request
