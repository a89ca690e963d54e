"""From a DICOM file to its stored integers, or to the image as displayed: every transfer syntax that mammography uses.

Frames are cut out of the file and given to the fastest well-kept decoder, after the size that the codestream itself
declares has been compared with the header, so that no decoder allocates what the header did not announce.

Measured on one 3328 x 2560 image of 12 bits (two cores, best of five): RLE 8 ms; JPEG lossless 40 ms with
libjpeg-turbo 3, 67 with liblj92, 88 with jpegsof3; JPEG extended 30 ms; JPEG-LS 63 ms with CharLS; JPEG 2000 lossless
215 ms with OpenJPEG on two threads, 399 on one; HTJ2K 54 ms with OpenJPEG on two threads. OpenJPH decodes HTJ2K in
25 ms, but its binding swallows the decoder's errors and returns a black rest of the image, so it is not used. What
comes on top of a decoder (cutting out the frame, one table look-up per pixel) is 10 to 15 ms.

No codestream of DICOM has a checksum: damage that leaves it well-formed decodes to wrong pixels, unnoticed.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

from screening.dicomfile import PIXEL_DATA, DicomFile, integer, open_dicom, text, values
from screening.errors import ImageError
from screening.imaging.display import DISPLAY_KEYWORDS, display
from screening.imaging.functional_groups import GROUP_KEYWORDS, frame_headers

MAX_SIDE = 20_000
MAX_PIXELS = 100_000_000

PIXEL_KEYWORDS = frozenset(
    {
        "Rows",
        "Columns",
        "NumberOfFrames",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "ExtendedOffsetTable",
        *DISPLAY_KEYWORDS,
    }
)

_Raw = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
_ITEM = 0xFFFEE000
_SEQUENCE_END = 0xFFFEE0DD


@dataclass(frozen=True)
class PixelFormat:
    """How the stored pixels are laid out (PS3.3 C.7.6.3): plausible, or it could not have been made."""

    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    inverted: bool

    @classmethod
    def of(cls, dataset: Dataset) -> PixelFormat:
        """The format that a header declares; raises ImageError for what no mammogram can have."""
        rows, columns = _required(dataset, "Rows"), _required(dataset, "Columns")
        if rows < 1 or columns < 1:
            raise ImageError(f"the header declares {rows} x {columns} pixels")
        if max(rows, columns) > MAX_SIDE or rows * columns > MAX_PIXELS:
            raise ImageError(f"the header declares {rows} x {columns} pixels, more than any mammogram has")
        frames = integer(dataset, "NumberOfFrames")
        if frames is not None and frames < 1:
            raise ImageError(f"the header declares {frames} frames")
        samples = integer(dataset, "SamplesPerPixel")
        photometric = text(dataset, "PhotometricInterpretation")
        if samples not in (None, 1) or photometric not in ("MONOCHROME1", "MONOCHROME2"):
            raise ImageError("the image is not monochrome (Photometric Interpretation, Samples per Pixel)")
        allocated, stored = _required(dataset, "BitsAllocated"), _required(dataset, "BitsStored")
        high_bit = integer(dataset, "HighBit")
        high_bit = stored - 1 if high_bit is None else high_bit
        if allocated not in (8, 16):
            raise ImageError(f"Bits Allocated is {allocated}; a mammogram has 8 or 16 (PS3.3 C.8.11.3)")
        if not 1 <= stored <= high_bit + 1 <= allocated:
            raise ImageError(f"Bits Stored {stored} and High Bit {high_bit} do not fit into {allocated} bits")
        signed = _required(dataset, "PixelRepresentation")
        if signed not in (0, 1):
            raise ImageError(f"Pixel Representation is {signed}; it must be 0 or 1")
        return cls(rows, columns, frames or 1, allocated, stored, high_bit, signed == 1, photometric == "MONOCHROME1")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        return self.rows * self.columns * self.bits_allocated // 8

    def stored_values(self) -> npt.NDArray[np.int32]:
        """The stored integer that each of the 2**bits_allocated bit patterns means: masked, shifted, signed."""
        patterns = np.arange(1 << self.bits_allocated, dtype=np.int32)
        stored = (patterns >> (self.high_bit + 1 - self.bits_stored)) & ((1 << self.bits_stored) - 1)
        if self.signed:
            stored[stored >= 1 << (self.bits_stored - 1)] -= 1 << self.bits_stored
        return stored


def decode_stored(path: Path, frame: int = 0) -> npt.NDArray[np.uint16] | npt.NDArray[np.int16]:
    """The stored integers of one frame (0-based), exactly as put in: (rows, columns), uint16, or int16 where signed.

    Bits outside of Bits Stored (old overlays, padding) are masked away. Raises `ImageError`.
    """
    with open_dicom(path, PIXEL_KEYWORDS) as file:
        pixel_format = PixelFormat.of(file.dataset)
        raw = FrameReader(file, pixel_format).raw(frame, threads=2)
    table = pixel_format.stored_values().astype(np.int16 if pixel_format.signed else np.uint16)
    return cv2.LUT(raw, table)  # type: ignore[return-value]  # of the table's type, which OpenCV does not tell


def load_display(path: Path, frame: int = 0, *, threads: int = 2) -> npt.NDArray[np.uint16]:
    """One frame (0-based) as displayed: (rows, columns) uint16, 0 (black, as the background is) to 65535 (white).

    The grayscale pipeline of PS3.3 C.11 in one table look-up: modality LUT or rescale, the first VOI transform (VOI
    LUT, else window; else the image's range of values), inversion for MONOCHROME1, padding black. `threads` is for the
    one decoder that can use several (JPEG 2000). Raises `ImageError`, with a sentence on what is wrong.
    """
    with open_dicom(path, PIXEL_KEYWORDS | GROUP_KEYWORDS) as file:
        pixel_format = PixelFormat.of(file.dataset)
        raw = FrameReader(file, pixel_format).raw(frame, threads)
        header = frame_headers(file.dataset, pixel_format.frames)[frame]
        return display(raw, pixel_format.stored_values(), header, inverted=pixel_format.inverted)


def check_pixel_data(file: DicomFile, pixel_format: PixelFormat) -> None:
    """Raise ImageError where the pixel data cannot hold the image that the header declares; reads no pixels."""
    pixels = file.pixels
    if pixels is None:
        raise ImageError("the file has no pixel data, or ends before them; send the image again")
    if pixels.tag != PIXEL_DATA:
        raise ImageError("the pixel data are floating point numbers; a mammogram's are integers")
    if file.transfer_syntax.is_encapsulated:
        if not file.holds(pixels.offset + (pixels.length or 8)):
            raise ImageError("the pixel data are truncated: the file ends before they do; send the image again")
        return
    expected = pixel_format.frame_bytes * pixel_format.frames
    if pixels.length not in (expected, expected + expected % 2):
        raise ImageError(
            f"the pixel data have {'no stated' if pixels.length is None else pixels.length} bytes "
            f"where rows x columns x frames x bits need {expected}; send the image again"
        )
    if not file.holds(pixels.offset + expected):
        raise ImageError("the pixel data are truncated: the file ends before they do; send the image again")


class FrameReader:
    """The frames of an open file, decoded one at a time: a volume never lies in memory as a whole.

    Raises `ImageError` for pixel data that cannot hold the frames that the header declares, as far as that can be told
    without reading them.
    """

    def __init__(self, file: DicomFile, pixel_format: PixelFormat) -> None:
        if file.transfer_syntax not in SUPPORTED_SYNTAXES:
            raise ImageError(f"the transfer syntax {file.transfer_syntax.name} is not supported")
        check_pixel_data(file, pixel_format)
        self._file, self._format = file, pixel_format
        self._codec = _CODECS.get(file.transfer_syntax)
        self._places: list[list[tuple[int, int]]] | None = None

    def raw(self, frame: int, threads: int = 1) -> _Raw:
        """The bit patterns of one frame (0-based) as unsigned integers of Bits Allocated: (rows, columns)."""
        if not 0 <= frame < self._format.frames:
            raise ImageError(f"frame {frame} is asked for, but the image has {self._format.frames}")
        if self._codec is None:
            return _native_frame(self._file, self._format, frame)
        if self._places is None:
            self._places = _frame_places(self._file, self._format.frames)
        encoded = b"".join(self._file.read(offset, length) for offset, length in self._places[frame])
        try:
            raw = self._codec(encoded, self._format, threads)
        except ImageError:
            raise
        except Exception as error:  # each codec has exceptions of its own; a corrupt codestream fails this image alone
            raise ImageError(
                f"the compressed pixel data are corrupt ({type(error).__name__}); send the image again"
            ) from error
        if raw.shape != (self._format.rows, self._format.columns):
            raise ImageError("the compressed pixel data decode to another size than the header declares")
        return _as_patterns(raw, self._format.bits_allocated)


def _as_patterns(raw: npt.NDArray[Any], bits_allocated: int) -> _Raw:
    """Decoded integers as unsigned bit patterns of the allocated width (sign bits extended)."""
    if raw.dtype.kind not in "iu" or raw.dtype.itemsize * 8 > bits_allocated:
        raise ImageError(f"the compressed pixel data hold {raw.dtype}, more than the {bits_allocated} bits allocated")
    if bits_allocated == 8:
        return raw.view(np.uint8)
    return raw.astype(np.int16).view(np.uint16) if raw.dtype == np.int8 else raw.astype(np.uint16, copy=False)


def _native_frame(file: DicomFile, pixel_format: PixelFormat, frame: int) -> _Raw:
    assert file.pixels is not None
    size, shape = pixel_format.frame_bytes, (pixel_format.rows, pixel_format.columns)
    little = file.transfer_syntax.is_little_endian
    if pixel_format.bits_allocated == 16:
        data = file.read(file.pixels.offset + frame * size, size)
        return np.frombuffer(data, dtype="<u2" if little else ">u2").reshape(shape).astype(np.uint16, copy=False)
    if little or file.pixels.vr != "OW":
        return np.frombuffer(file.read(file.pixels.offset + frame * size, size), dtype=np.uint8).reshape(shape)
    # Bytes in big endian words change places in pairs (PS3.5 8.1.1), and a pair may span two frames.
    start = frame * size // 2 * 2
    words = file.read(file.pixels.offset + start, (frame * size + size - start + 1) // 2 * 2)
    swapped = np.frombuffer(words, dtype=">u2").astype("<u2").view(np.uint8)
    return swapped[frame * size - start :][:size].reshape(shape)


def _frame_places(file: DicomFile, frames: int) -> list[list[tuple[int, int]]]:
    """(position, length) of the fragments of every frame, which are joined to its codestream (PS3.5 A.4)."""
    table, fragments = _fragments(file)
    if not fragments:
        raise ImageError("the compressed pixel data are empty; send the image again")
    if frames == 1:
        return [fragments]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    starts = _offset_table(file.dataset) or table
    first = fragments[0][0] - 8
    bounds = [start + first for start in starts]
    if len(bounds) != frames or not set(bounds) <= {offset - 8 for offset, _ in fragments} or bounds[0] != first:
        raise ImageError("the offset table does not say where the frames begin; send the image again")
    after: list[int | None] = [*bounds[1:], None]
    return [
        [(o, n) for o, n in fragments if o - 8 >= start and (end is None or o - 8 < end)]
        for start, end in zip(bounds, after, strict=True)
    ]


def _fragments(file: DicomFile) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """The basic offset table, and (position, length) of every fragment."""
    assert file.pixels is not None
    position = file.pixels.offset
    end = None if file.pixels.length is None else position + file.pixels.length
    found: list[tuple[int, int]] = []
    while (end is None or position < end) and file.holds(position + 8):
        group, element, length = struct.unpack("<HHL", file.read(position, 8))
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM:
            raise ImageError("the compressed pixel data are no sequence of fragments; send the image again")
        if not file.holds(position + 8 + length):
            raise ImageError("the pixel data are truncated: the file ends before they do; send the image again")
        found.append((position + 8, length))
        position += 8 + length
    if not found:
        return (), []
    offset, length = found[0]
    table = file.read(offset, min(length, 4 * len(found)))
    if table.startswith((b"\xff\xd8\xff", b"\xff\x4f\xff")):
        return (), found  # the writer left out the offset table: this is a codestream already
    return struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4]), found[1:]


def _offset_table(dataset: Dataset) -> tuple[int, ...]:
    """The Extended Offset Table (PS3.3 C.7.6.3.1.8), empty where absent."""
    table = values(dataset, "ExtendedOffsetTable")
    data = table[0] if table else b""
    return struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8]) if isinstance(data, bytes) else ()


def _decode_rle(data: bytes, pixel_format: PixelFormat, threads: int) -> npt.NDArray[Any]:
    """RLE Lossless (PS3.5 Annex G): one segment for each byte of the pixels, the most significant first."""
    segments = pixel_format.bits_allocated // 8
    header = struct.unpack("<16L", data[:64])
    if header[0] != segments:
        raise ImageError(f"the RLE data have {header[0]} segments where {segments} are needed; send the image again")
    offsets = (*header[1 : segments + 1], len(data))
    if offsets[0] < 64 or any(a > b for a, b in itertools.pairwise(offsets)):
        raise ImageError("the RLE segments overlap or end after the data; send the image again")
    out = bytearray(pixel_format.frame_bytes)
    decoded = imagecodecs.dicomrle_decode(data, f"<u{segments}", out=out)
    if len(decoded) != len(out):
        raise ImageError("the RLE data decode to another size than the header declares; send the image again")
    return np.frombuffer(out, f"<u{segments}").reshape(pixel_format.rows, pixel_format.columns)


def _decode_jpeg(data: bytes, pixel_format: PixelFormat, threads: int) -> npt.NDArray[Any]:
    _check_size(_jpeg_size(data), pixel_format)
    _check_end(data)
    return imagecodecs.jpeg8_decode(data)


def _decode_jpegls(data: bytes, pixel_format: PixelFormat, threads: int) -> npt.NDArray[Any]:
    _check_size(_jpeg_size(data), pixel_format)
    _check_end(data)
    return imagecodecs.jpegls_decode(data)


def _decode_jpeg2000(data: bytes, pixel_format: PixelFormat, threads: int) -> npt.NDArray[Any]:
    _check_size(_jpeg2000_size(data), pixel_format)
    _check_end(data)
    return imagecodecs.jpeg2k_decode(data, numthreads=threads)


_CODECS: dict[str, Callable[[bytes, PixelFormat, int], npt.NDArray[Any]]] = {
    uid.RLELossless: _decode_rle,
    uid.JPEGBaseline8Bit: _decode_jpeg,
    uid.JPEGExtended12Bit: _decode_jpeg,
    uid.JPEGLossless: _decode_jpeg,
    uid.JPEGLosslessSV1: _decode_jpeg,
    uid.JPEGLSLossless: _decode_jpegls,
    uid.JPEGLSNearLossless: _decode_jpegls,
    uid.JPEG2000Lossless: _decode_jpeg2000,
    uid.JPEG2000: _decode_jpeg2000,
    uid.HTJ2KLossless: _decode_jpeg2000,
    uid.HTJ2KLosslessRPCL: _decode_jpeg2000,
    uid.HTJ2K: _decode_jpeg2000,
}

SUPPORTED_SYNTAXES = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
        *_CODECS,
    }
)


def _jpeg_size(data: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a JPEG or JPEG-LS codestream, from its frame header (ITU-T T.81 B.2.2)."""
    position = data.find(b"\xff\xd8") + 2
    while position >= 2 and position + 9 <= len(data):
        marker, length = struct.unpack(">HH", data[position : position + 4])
        if (0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC)) or marker == 0xFFF7:
            rows, columns, components = struct.unpack(">HHB", data[position + 5 : position + 10])
            return rows, columns, components
        if marker < 0xFFC0:
            break
        position += 1 if marker == 0xFFFF else 2 + length
    raise ImageError("the compressed pixel data have no JPEG frame header; send the image again")


def _jpeg2000_size(data: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a JPEG 2000 codestream, from its SIZ segment (ITU-T T.800 A.5.1)."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # at 0, or behind the boxes of a JP2 header
    if start < 0 or start + 42 > len(data):
        raise ImageError("the compressed pixel data have no JPEG 2000 header; send the image again")
    x_size, y_size, x_offset, y_offset = struct.unpack(">4L", data[start + 8 : start + 24])
    (components,) = struct.unpack(">H", data[start + 40 : start + 42])
    return y_size - y_offset, x_size - x_offset, components


def _check_size(declared: tuple[int, int, int], pixel_format: PixelFormat) -> None:
    rows, columns, components = declared
    if (rows, columns, components) != (pixel_format.rows, pixel_format.columns, 1):
        raise ImageError(
            f"the compressed pixel data hold {rows} x {columns} pixels of {components} components, "
            f"the header declares {pixel_format.rows} x {pixel_format.columns} of one"
        )


def _check_end(data: bytes) -> None:
    """Decoders fill a codestream that was cut off with grey; its end marker tells (EOI and EOC are both FFD9)."""
    if b"\xff\xd9" not in data[-16:]:
        raise ImageError("the compressed pixel data are truncated: their end marker is missing; send the image again")


def _required(dataset: Dataset, keyword: str) -> int:
    value = integer(dataset, keyword)
    if value is None:
        raise ImageError(f"the header has no {keyword}")
    return value
