"""Opening one DICOM file without trusting it: bounded reads, lazy inflation, values checked as they are taken.

A hostile or damaged file must cost neither memory nor a stack trace. So nothing is read that the file does not hold,
a deflated dataset is inflated only as far as it is read, the number of reads before the pixels is bounded (which
bounds the objects that nested sequences make), and every malformed value becomes an `ImageError` with a sentence.
"""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeVar, cast

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from screening.errors import ImageError

# pydicom's own validation quotes the offending value in a warning, and such values may identify a woman. What is used
# of a header is validated here, without quoting identifiers.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

PREAMBLE_BYTES = 132
PIXEL_DATA = 0x7FE00010
_FIRST_PIXEL_TAG = 0x7FE00008
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, PIXEL_DATA})  # float, double float, integer
UNDEFINED_LENGTH = 0xFFFFFFFF
MAX_INFLATED_HEADER = 32 << 20
MAX_INFLATED = 4 << 30
"""Bytes that a deflated file may take on disk; a volume of 120 frames of 2457 x 1996 in 16 bits has 1.2e9."""
_INFLATE_STEP = 1 << 16
_INFLATED_IN_MEMORY = 8 << 20
"""More than headers have; a mammogram's pixels are tens of MB, a volume's hundreds."""


_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Limits:
    """What a file may cost to parse: bytes of one wanted element, and reads, which bound the objects made."""

    element_bytes: int
    reads: int


# The largest elements wanted of an image are lookup tables of 65,536 entries (128 KiB each); its header takes some
# hundreds of reads, and that of a tomosynthesis some ten thousands.
HEADER_LIMITS = Limits(element_bytes=1 << 20, reads=300_000)
# A DICOMDIR holds some 500 bytes in 30 reads for each of its files.
DIRECTORY_LIMITS = Limits(element_bytes=64 << 20, reads=6_000_000)


class NotDicomError(ImageError):
    """The file is something else than DICOM."""


class RefusedError(ImageError):
    """The file would cost more memory to read than any mammogram does; it was not read further."""


@dataclass(frozen=True)
class PixelElement:
    """Where the pixel data element's value is: `length` is None for encapsulated data of undefined length."""

    tag: int
    vr: str
    offset: int
    length: int | None


class _Bounded(io.RawIOBase):
    """A file-like view whose reads never take more memory than the file fills, and whose number is bounded."""

    def __init__(self, file: BinaryIO, size: int, reads: int) -> None:
        self._file = file
        self._size = size
        self._reads_left = reads

    def read(self, count: int = -1) -> bytes:
        self._count_read()
        available = max(self._size - self._file.tell(), 0)
        return self._file.read(available if count < 0 else min(count, available))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def holds(self, end: int) -> bool:
        """Whether the data reach position `end`."""
        return end <= self._size

    def _count_read(self) -> None:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise RefusedError("the header has more elements than any mammogram's; it was not read further")


class _Inflated(_Bounded):
    """A deflated dataset (PS3.5 A.5), inflated only as far as it is read; positions count inflated bytes.

    What is large lies in a temporary file without a name: a deflated volume is a gigabyte, and is read frame by frame.
    """

    def __init__(self, file: BinaryIO, reads: int) -> None:
        super().__init__(file, MAX_INFLATED_HEADER, reads)
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._data = SpooledTemporaryFile(_INFLATED_IN_MEMORY)  # noqa: SIM115 - closed with this one
        self._inflated = 0
        self._position = 0

    def close(self) -> None:
        self._data.close()
        super().close()

    def read(self, count: int = -1) -> bytes:
        self._count_read()
        start = self._position
        end = self._size if count < 0 else start + count
        if end > self._size:
            raise RefusedError("the deflated header is larger than any mammogram's; it was not read further")
        self._inflate(end)
        self._data.seek(start)
        data = self._data.read(max(end - start, 0))
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def holds(self, end: int) -> bool:
        if end > MAX_INFLATED:
            raise RefusedError("the deflated data are larger than any volume's; send it in another transfer syntax")
        self._size = max(self._size, end)  # whoever asks has checked that an image of this size is plausible
        self._inflate(end)
        return self._inflated >= end

    def _inflate(self, end: int) -> None:
        try:
            while self._inflated < end and not self._inflater.eof:
                compressed = self._inflater.unconsumed_tail or self._file.read(_INFLATE_STEP)
                inflated = self._inflater.decompress(compressed, 16 * _INFLATE_STEP)
                if not inflated and not compressed:
                    return
                self._data.seek(self._inflated)
                self._inflated += self._data.write(inflated)
        except zlib.error as error:
            raise ImageError("the deflated data are corrupt; send the image again") from error


@dataclass(frozen=True)
class DicomFile:
    """An open DICOM file: the wanted elements before the pixels, and access to the bytes behind them."""

    meta: Dataset
    dataset: Dataset
    transfer_syntax: UID
    pixels: PixelElement | None
    _source: _Bounded

    def holds(self, end: int) -> bool:
        """Whether the data go on to position `end` (as counted by `PixelElement.offset`)."""
        return self._source.holds(end)

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`; raises ImageError where the file ends before."""
        if not self.holds(offset + count):
            raise ImageError("the pixel data are truncated: the file ends before they do; send the image again")
        self._source.seek(offset)
        return self._source.read(count)


@contextmanager
def open_dicom(path: Path, keywords: Collection[str], limits: Limits = HEADER_LIMITS) -> Iterator[DicomFile]:
    """Open `path` and read, of what stands before the pixel data, the elements `keywords`.

    Raises `NotDicomError` for a file without the prefix of PS3.10 7.1, `RefusedError` for one whose header is nested
    too deep or too large, and `ImageError` for one that is empty, truncated or otherwise not to be parsed.
    """
    try:
        with open(path, "rb") as file:
            found = _read(file, os.fstat(file.fileno()).st_size, keywords, limits)
            with closing(found._source):
                yield found
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror or type(error).__name__}") from error


def _read(file: BinaryIO, size: int, keywords: Collection[str], limits: Limits) -> DicomFile:
    if size == 0:
        raise ImageError("the file is empty; send the image again")
    if file.read(PREAMBLE_BYTES)[128:] != b"DICM":
        raise NotDicomError("is not a DICOM file")
    source = _Bounded(file, size, limits.reads)
    meta = _parse(source, ExplicitVRLittleEndian, None, lambda tag, vr, length: tag >> 16 != 2)
    syntax = UID(text(meta, "TransferSyntaxUID"), pydicom.config.IGNORE)
    if syntax == DeflatedExplicitVRLittleEndian:
        source = _Inflated(file, limits.reads)
    tags: list[BaseTag | int] = [int(tag) for tag in map(tag_for_keyword, keywords) if tag is not None]
    pixels: PixelElement | None = None

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal pixels
        if tag in _PIXEL_TAGS:
            pixels = PixelElement(int(tag), vr or "OW", source.tell(), None if length == UNDEFINED_LENGTH else length)
        elif UNDEFINED_LENGTH > length > limits.element_bytes and tag in tags:
            raise RefusedError(f"the header element {tag} claims {length} bytes, more than any mammogram's")
        return int(tag) >= _FIRST_PIXEL_TAG

    dataset = _parse(source, syntax, tags, stop)
    return DicomFile(meta, dataset, syntax, pixels, source)


def _parse(
    source: _Bounded,
    syntax: str,
    tags: list[BaseTag | int] | None,
    stop: Callable[[BaseTag, str | None, int], bool],
) -> Dataset:
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    try:
        return read_dataset(cast(BinaryIO, source), implicit, little, stop_when=stop, specific_tags=tags)
    except Exception as error:  # pydicom answers malformed bytes with almost any exception; this isolates the file
        # What stops it between two items, Ctrl-C included, it hides behind an OSError.
        cause = error.__context__ if isinstance(error, OSError) and error.__context__ else error
        if isinstance(cause, ImageError) or not isinstance(cause, Exception):
            raise cause from None
        if isinstance(cause, RecursionError):
            raise RefusedError("the header's sequences are nested too deep to be a mammogram's") from error
        raise ImageError(f"the header cannot be parsed ({type(cause).__name__}); send the image again") from error


def values(dataset: Dataset, keyword: str) -> tuple[Any, ...]:
    """All values of an element, none where it is absent or empty; raises ImageError where they do not parse."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return ()
    try:
        value = dataset[tag].value
    except Exception as error:  # pydicom converts on access and answers malformed bytes with almost any exception
        raise ImageError(f"{keyword} is malformed ({type(error).__name__})") from error
    if value is None or value == "" or value == b"":
        return ()
    return tuple(value) if isinstance(value, pydicom.multival.MultiValue | list | tuple) else (value,)


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a text element, stripped of padding; empty values keep their place."""
    found = values(dataset, keyword)
    if any(isinstance(value, bytes | Dataset) for value in found):
        raise ImageError(f"{keyword} is malformed: it holds bytes where text is expected")
    return tuple(str(value).strip(" \0\r\n\t") for value in found)


def text(dataset: Dataset, keyword: str) -> str:
    """The one value of a text element, "" where absent; raises ImageError where there are several."""
    return _single(texts(dataset, keyword), keyword, "")


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The values of a numeric element; raises ImageError for text that is no finite number."""
    found = []
    for value in values(dataset, keyword):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ImageError(f"{keyword} is malformed: it is not a number") from error
        if not math.isfinite(number):
            raise ImageError(f"{keyword} is malformed: it is not a finite number")
        found.append(number)
    return tuple(found)


def number(dataset: Dataset, keyword: str) -> float | None:
    """The one value of a numeric element, None where absent."""
    return _single(numbers(dataset, keyword), keyword, None)


def integer(dataset: Dataset, keyword: str) -> int | None:
    """The one value of an integer element, None where absent."""
    found = number(dataset, keyword)
    if found is not None and found != int(found):
        raise ImageError(f"{keyword} is malformed: it is not a whole number")
    return None if found is None else int(found)


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence, none where it is absent or empty."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return ()
    try:
        value = dataset[tag].value
    except Exception as error:  # see `values`
        raise ImageError(f"{keyword} is malformed ({type(error).__name__})") from error
    if value is not None and not isinstance(value, pydicom.Sequence):
        raise ImageError(f"{keyword} is malformed: it is not a sequence")
    return tuple(value or ())


def _single(found: tuple[_Value, ...], keyword: str, absent: _Value) -> _Value:
    if len(found) > 1:
        raise ImageError(f"{keyword} has {len(found)} values where one is expected")
    return found[0] if found else absent
