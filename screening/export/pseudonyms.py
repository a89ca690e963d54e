"""Pseudonyms, identifiers and date shifts, each derived from the original and the key alone.

Nothing is drawn at random and no table is kept: the same key gives the same pseudonyms in every export, so that later
rounds join earlier ones, and without the key nobody can tell who is who or whether two exports show the same woman.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import unicodedata
import uuid

from pydicom.uid import UID

LONGEST_SHIFT_DAYS = 1826
"""Five years: dates move by 1 to this many days into the past, so that none lies in the future."""

STANDARD_ROOT = "1.2.840.10008."
"""UIDs that the DICOM standard itself gives out (PS3.6 Annex A): classes, syntaxes, well-known instances."""


class Pseudonyms:
    """What stands for whom, under one key.

    Every value is HMAC-SHA-256 (RFC 2104) of a purpose and the original, so that values of different purposes cannot
    be compared with each other. Originals are compared without white space around them and in Unicode's normal form C,
    since registries and equipment differ in that.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Pseudonyms(key not shown)"

    def woman(self, woman_id: str) -> str:
        """A woman's pseudonym: W and 16 signs of base 32 (80 bits: a million women collide with a chance of 4e-13)."""
        return self._word("W", "woman", woman_id)

    def exam(self, exam_id: str) -> str:
        """What stands for an exam id: another UID for a UID, else E and 16 signs (a site profile's grouping)."""
        return str(self.uid(exam_id)) if UID(exam_id.strip()).is_valid else self._word("E", "exam", exam_id)

    def group(self, kind: str, name: str) -> str:
        """What stands for a site or another group, such as "site-ABCD2345"; empty for an empty name."""
        return f"{kind}-{self._word('', kind, name)[:8]}" if name.strip() else ""

    def region(self, region_id: str) -> str:
        """What stands for a region id: R and 16 signs; region ids name the image that they are in."""
        return self._word("R", "region", region_id) if region_id.strip() else ""

    def uid(self, uid: str) -> UID:
        """What stands for a UID: 2.25 and a UUID of version 8 (PS3.5 B.2, RFC 9562 5.8) of 122 bits.

        UIDs of the standard stay what they are. What is no UID at all gets one, too.
        """
        text = uid.strip(" \0")
        if text.startswith(STANDARD_ROOT):
            return UID(text)
        bits = int.from_bytes(self._digest("uid", text)[:16], "big")
        bits = bits & ~(0xF << 76) | 8 << 76
        bits = bits & ~(0x3 << 62) | 2 << 62
        return UID(f"2.25.{uuid.UUID(int=bits).int}")

    def shift_days(self, woman_id: str) -> int:
        """By how many days all dates of a woman move into the past: 1 to LONGEST_SHIFT_DAYS, each as likely."""
        return 1 + int.from_bytes(self._digest("date", woman_id)[:16], "big") % LONGEST_SHIFT_DAYS

    def _word(self, letter: str, purpose: str, original: str) -> str:
        return letter + base64.b32encode(self._digest(purpose, original)[:10]).decode("ascii")

    def _digest(self, purpose: str, original: str) -> bytes:
        text = unicodedata.normalize("NFC", original).strip(" \0\t\r\n")
        # The purpose with its length before it: ("a", "bc") and ("ab", "c") must differ.
        message = len(purpose).to_bytes(4, "big") + purpose.encode() + text.encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).digest()
