"""Comments and application data inside compressed pixels: a place where software writes names, too.

They are overwritten with blanks in place, so that lengths, offsets and pixels stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator

# JPEG and JPEG-LS (ITU-T T.81 B.1.1.3, T.87): what decoders need of application data stays: JFIF, colour transforms.
_COMMENT, _SCAN, _END = 0xFE, 0xDA, 0xD9
_APPLICATION = range(0xE0, 0xF0)
_NEEDED = {0xE0: b"JFIF", 0xE8: b"mrfx", 0xEE: b"Adobe"}
_NO_LENGTH = (*range(0xD0, 0xD9), 0x01)
# JPEG 2000 (ITU-T T.800 Annex A)
_J2K_COMMENT, _J2K_TILE, _J2K_DATA, _J2K_END = 0xFF64, 0xFF90, 0xFF93, 0xFFD9
_ITEM = b"\xfe\xff\x00\xe0"


def without_comments(encapsulated: bytes) -> bytes:
    """Encapsulated pixel data (PS3.5 A.4) with the comments of every JPEG, JPEG-LS or JPEG 2000 codestream blanked.

    What is no such codestream (RLE, the offset table) stays as it is.
    """
    data = bytearray(encapsulated)
    for start, end in _fragments(data):
        if data[start : start + 2] == b"\xff\xd8":
            spans = _jpeg(data, start + 2, end)
        elif data[start : start + 2] == b"\xff\x4f":
            spans = _jpeg2000(data, start + 2, end)
        else:
            continue
        for first, last in spans:
            data[first:last] = b" " * (last - first)
    return bytes(data)


def _fragments(data: bytearray) -> Iterator[tuple[int, int]]:
    at = 0
    while data[at : at + 4] == _ITEM:
        start = at + 8
        at = start + int.from_bytes(data[at + 4 : at + 8], "little")
        yield start, min(at, len(data))


def _jpeg(data: bytearray, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Where comments and application data are, up to the first scan."""
    while at + 4 <= end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1  # fill bytes
            continue
        if marker in (_SCAN, _END):
            return
        if marker in _NO_LENGTH:
            at += 2
            continue
        last = min(at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"), end)
        needed = _NEEDED.get(marker)
        if marker == _COMMENT or (
            marker in _APPLICATION and (needed is None or not data[at + 4 : last].startswith(needed))
        ):
            yield at + 4, last
        at = max(last, at + 4)


def _jpeg2000(data: bytearray, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Where comments are, in the main header and in those of the tile-parts."""
    tile = None
    while at + 4 <= end:
        marker = int.from_bytes(data[at : at + 2], "big")
        if marker == _J2K_END:
            return
        if marker == _J2K_DATA:
            if tile is None or tile <= at:
                return  # the last tile-part goes on to the end
            at, tile = tile, None
            continue
        last = min(at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"), end)
        if marker == _J2K_TILE:
            tile = at + int.from_bytes(data[at + 6 : at + 10], "big")
        elif marker == _J2K_COMMENT:
            yield at + 6, last  # after the registration value
        at = max(last, at + 4)
