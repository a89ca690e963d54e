"""One line of the log: canonical JSON whose last member is the digest of all the others.

A line is `{"…":…,"previous":"…",…,"hash":"…"}`. The digest is SHA-256 of the line's bytes without the member `hash`,
or HMAC-SHA-256 (RFC 2104) of them where a key is given. Members stand in the order of their names, without white space,
in ASCII, as RFC 8785 asks for (its own spelling of numbers excepted: Python's shortest is taken). The digest is of
bytes and not of values, so that whoever checks a log needs no JSON writer that agrees with ours.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

START = "0" * 64
"""What the first record of a log gives as the hash before it."""

PLAIN, KEYED = "sha256", "hmac-sha256"
_MEMBER = b',"hash":"'
_TAIL = len(_MEMBER) + 64 + len(b'"}')
_MEMBERS = {"event": str, "hash": str, "previous": str, "seal": str, "sequence": int, "time": str}


class NotARecordError(ValueError):
    """A line is no record of an audit log: cut off, or written by something else."""


@dataclass(frozen=True)
class Record:
    """A line as it was read. `sound`: its digest is that of its bytes (with the key that was given)."""

    content: Mapping[str, Any]
    sound: bool

    @property
    def sequence(self) -> int:
        return int(self.content["sequence"])

    @property
    def previous(self) -> str:
        return str(self.content["previous"])

    @property
    def hash(self) -> str:
        return str(self.content["hash"])

    @property
    def event(self) -> str:
        return str(self.content["event"])

    @property
    def time(self) -> str:
        return str(self.content["time"])

    @property
    def keyed(self) -> bool:
        """Whether it was sealed with a key."""
        return bool(self.content["seal"] == KEYED)


def line_of(content: Mapping[str, Any], key: bytes | None) -> tuple[bytes, str]:
    """The line of a record, without its line break, and its hash. Raises ValueError for NaN and infinities."""
    members = {**content, "seal": PLAIN if key is None else KEYED}
    body = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    digest = _digest(body, key)
    return body[:-1] + _MEMBER + digest.encode() + b'"}', digest


def record_of(line: bytes, key: bytes | None) -> Record:
    """Read a line, without its line break. Raises NotARecordError."""
    if line[-_TAIL:][: len(_MEMBER)] != _MEMBER:
        raise NotARecordError("it does not end in a hash")
    try:
        content = json.loads(line)
    except ValueError as error:
        raise NotARecordError("it is no JSON") from error
    for name, kind in _MEMBERS.items():
        if not isinstance(content.get(name), kind) or content[name] is True:
            raise NotARecordError(f"it has no proper {name}")
    expected = _digest(line[:-_TAIL] + b"}", key if content["seal"] == KEYED else None)
    return Record(content, hmac.compare_digest(expected.encode(), line[-66:-2]))


def _digest(body: bytes, key: bytes | None) -> str:
    return hashlib.sha256(body).hexdigest() if key is None else hmac.new(key, body, hashlib.sha256).hexdigest()
