"""Comments inside of compressed pixels."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from screening.export.codestream import without_comments
from tests.support.dicom import encode, mammogram, noise_image, rle

SECRET = b"Musterfrau, Erika"
IMAGE = noise_image(64, 48, 12)


def with_segment(codestream: bytes, marker: bytes, registration: bytes = b"") -> bytes:
    """A comment right behind the first marker (JPEG) or the image's size (JPEG 2000)."""
    content = registration + SECRET
    segment = marker + struct.pack(">H", len(content) + 2) + content
    at = 2
    if codestream.startswith(b"\xff\x4f"):
        at += 2 + struct.unpack(">H", codestream[4:6])[0]
    return codestream[:at] + segment + codestream[at:]


@pytest.mark.parametrize(
    ("syntax", "marker", "registration"),
    [
        (uid.JPEGLosslessSV1, b"\xff\xfe", b""),
        (uid.JPEGLosslessSV1, b"\xff\xe1", b"Exif"),
        (uid.JPEGLossless, b"\xff\xe0", b"AVI1"),
        (uid.JPEGLSLossless, b"\xff\xfe", b""),
        (uid.JPEG2000Lossless, b"\xff\x64", b"\0\1"),
        (uid.HTJ2KLossless, b"\xff\x64", b"\0\1"),
    ],
)
def test_comments_are_blanked_and_pixels_and_length_stay(syntax: str, marker: bytes, registration: bytes) -> None:
    stream = with_segment(encode(IMAGE, mammogram(IMAGE, bits_stored=12), syntax), marker, registration)
    element = encapsulate([stream, stream])
    assert SECRET in element
    cleaned = without_comments(element)
    assert SECRET not in cleaned
    assert len(cleaned) == len(element)
    decode = {
        uid.JPEGLSLossless: imagecodecs.jpegls_decode,
        uid.JPEG2000Lossless: imagecodecs.jpeg2k_decode,
        uid.HTJ2KLossless: imagecodecs.jpeg2k_decode,
    }.get(uid.UID(syntax), imagecodecs.ljpeg_decode)
    for frame in generate_frames(cleaned, number_of_frames=2):
        np.testing.assert_array_equal(decode(frame), IMAGE)


def test_what_has_no_comments_stays_as_it_is() -> None:
    element = encapsulate([rle(IMAGE)])
    assert without_comments(element) == element
    assert without_comments(b"") == b""
    damaged = encapsulate([b"\xff\xd8\xff\xfe\xff\xff" + b"x" * 20])
    assert len(without_comments(damaged)) == len(damaged)
