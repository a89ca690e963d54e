"""Reading a multipart/related answer (RFC 2387, PS3.18 8.7.2) part by part, without holding it in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_LONGEST_HEAD = 65_536


class BrokenOffError(Exception):
    """The answer ends before its last boundary, or is no multipart answer."""


class Multipart:
    """The parts of a body that comes in `chunks`; iterating gives each part's content as chunks.

    A part has to be read to its end before the next. Raises BrokenOffError, while reading, where the body ends early.
    """

    def __init__(self, chunks: Iterable[bytes], boundary: str) -> None:
        self._chunks = iter(chunks)
        self._mark = b"\r\n--" + boundary.encode()
        self._buffer = b"\r\n"  # so that the first boundary, which may open the body, is found as the others are

    def __iter__(self) -> Iterator[Iterator[bytes]]:
        self._skip(self._mark)
        while not self._is_last():
            self._skip(b"\r\n\r\n")
            yield self._until(self._mark)

    def _is_last(self) -> bool:
        while len(self._buffer) < 2:
            self._more()
        return self._buffer.startswith(b"--")

    def _skip(self, mark: bytes) -> None:
        if sum(map(len, self._until(mark))) > _LONGEST_HEAD:
            raise BrokenOffError

    def _until(self, mark: bytes) -> Iterator[bytes]:
        """What stands before the mark, which is passed over."""
        while (end := self._buffer.find(mark)) < 0:
            keep = len(mark) - 1  # the mark may have begun
            ready, self._buffer = self._buffer[:-keep], self._buffer[-keep:]
            if ready:
                yield ready
            self._more()
        rest, self._buffer = self._buffer[:end], self._buffer[end + len(mark) :]
        yield rest

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise BrokenOffError
        self._buffer += chunk
