"""Unique identifiers that follow from what an object says, so that a repeated delivery is the same object."""

from __future__ import annotations

import hashlib
import uuid

from pydicom.uid import UID

_NAMESPACE = "screening.delivery"
"""Part of every digest, lest another program that hashes the same words makes the same UID."""


def derived_uid(exam_id: str, bundle_sha256: str, kind: str, *more: str) -> UID:
    """The UID of what `kind` names (such as "cad-sr.series"), made for one exam by one bundle.

    Equal arguments always give the same UID, on any machine; others give another one. `more` tells apart what exam,
    bundle and kind do not (images that came late, another operating point). The form is 2.25 and a UUID (PS3.5 B.2)
    of version 8 (RFC 9562 section 5.8: the owner's own bits, here of SHA-256): no identifier can be read from it.
    """
    words = (_NAMESPACE, exam_id, bundle_sha256, kind, *more)
    # Each word with its length before it: ("a", "bc") and ("ab", "c") must differ.
    digest = hashlib.sha256()
    for word in words:
        encoded = word.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    bits = int.from_bytes(digest.digest()[:16], "big")
    bits = bits & ~(0xF << 76) | 8 << 76  # version
    bits = bits & ~(0x3 << 62) | 2 << 62  # variant
    return UID(f"2.25.{uuid.UUID(int=bits).int}")
