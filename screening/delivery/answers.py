"""What a PACS may answer to an object that is sent to it, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one object."""

    ARRIVED = "arrived"
    COMMITTED = "committed"
    NOT_OFFERED = "commitment not offered"
    LATER = "try again later"
    NEVER = "never"


@dataclass(frozen=True)
class Answer:
    """One object's outcome; `sentence` says why it was not taken, without identifiers."""

    sop_instance_uid: str
    outcome: Outcome
    sentence: str = ""


class UnreachableError(Exception):
    """The PACS can take nothing at the moment: down, cut off, too slow, overloaded. Worth another try later.

    What was being sent may have arrived or not; to send the same SOP instances again does no harm.
    """


class RefusedError(Exception):
    """The PACS takes nothing from us as things are (credentials, AE title, address, certificate): somebody must act.

    Trying again and again would only lock an account.
    """


_BY_STATUS = {
    0x0000: (Outcome.ARRIVED, ""),
    0x0110: (Outcome.LATER, "processing failure"),
    0x0111: (Outcome.ARRIVED, "it was there already"),
    0x0112: (Outcome.LATER, "the PACS does not have it any more"),
    0x0122: (Outcome.NEVER, "the PACS does not support its SOP class"),
    0x0124: (Outcome.NEVER, "not authorised for this object"),
    0x0131: (Outcome.LATER, "the PACS could not commit to it"),
    0x0213: (Outcome.LATER, "the PACS has no resources left"),
}
_BY_RANGE = (
    (0xA700, 0xA7FF, Outcome.LATER, "the PACS has no resources left"),
    (0xA900, 0xA9FF, Outcome.NEVER, "the PACS says that it does not match its SOP class"),
    (0xB000, 0xBFFF, Outcome.ARRIVED, "stored with changes"),
    (0xC000, 0xCFFF, Outcome.NEVER, "the PACS cannot understand it"),
)


def by_status(sop_instance_uid: str, status: int) -> Answer:
    """What a C-STORE status, or a Failure Reason of STOW-RS or storage commitment, means for an object.

    PS3.4 table B.2-1, PS3.7 annex C and PS3.3 C.14.1.1. Warnings count as stored. A duplicate SOP instance is the same
    object, because its UID follows from its content. What no table tells is tried again.
    """
    outcome, words = _BY_STATUS.get(status, (Outcome.LATER, "the PACS gives an unknown reason"))
    for first, last, in_range, explained in _BY_RANGE:
        if first <= status <= last:
            outcome, words = in_range, explained
    return Answer(sop_instance_uid, outcome, f"{words} (status 0x{status:04X})" if words else "")
