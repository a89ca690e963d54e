"""Small DICOM files for tests: standard mammography objects around a given array, in any transfer syntax.

The encoders here are never those that the project decodes with, where another is at hand; where the same library does
both, the tests compare with DCMTK, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence

VIEW_CODES = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}


def noise_image(rows: int, columns: int, bits: int = 12, *, signed: bool = False, seed: int = 0) -> npt.NDArray[Any]:
    """Smooth structure plus noise that reaches both ends of the range: (rows, columns), 8 or 16 bit integers."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    highest = (1 << bits) - 1
    values = highest * (0.5 + 0.35 * np.sin(x / 7.0) * np.cos(y / 5.0)) + rng.normal(0, highest / 20, (rows, columns))
    image = np.clip(np.rint(values), 0, highest).astype(np.int64)
    image.flat[0], image.flat[-1] = 0, highest
    if signed:
        image -= 1 << (bits - 1)
    width = 8 if bits <= 8 else 16
    stored: npt.NDArray[Any] = image.astype(f"{'i' if signed else 'u'}{width // 8}")
    return stored


def mammogram(
    pixels: npt.NDArray[Any],
    *,
    bits_stored: int | None = None,
    laterality: str = "L",
    view: str = "CC",
    instance: int = 1,
    study: int = 1,
    **attributes: Any,
) -> Dataset:
    """A For Presentation mammogram of `pixels`, ([frames,] rows, columns); None deletes an attribute."""
    width = pixels.dtype.itemsize * 8
    dataset = Dataset()
    dataset.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.10.1.{study}.{instance}"
    dataset.StudyInstanceUID = f"1.2.826.0.1.3680043.10.1.{study}"
    dataset.SeriesInstanceUID = f"1.2.826.0.1.3680043.10.1.{study}.0"
    dataset.PatientID = "woman-1"
    dataset.PatientName = "Doe^Jane"
    dataset.StudyDate = "20240131"
    dataset.Modality = "MG"
    dataset.Manufacturer = "Maker"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageType = ["DERIVED", "PRIMARY", ""]
    dataset.ImageLaterality = laterality
    dataset.ViewPosition = view
    if view in VIEW_CODES:
        dataset.ViewCodeSequence = Sequence([code(*VIEW_CODES[view])])
    dataset.PatientOrientation = ["A", "R"] if laterality == "L" else ["P", "L"]
    dataset.ImagerPixelSpacing = [0.1, 0.1]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.BitsAllocated = width
    dataset.BitsStored = bits_stored or width
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    return dataset


def code(value: str, meaning: str, scheme: str = "SCT", modifiers: tuple[Dataset, ...] = ()) -> Dataset:
    """One item of a code sequence, with the modifiers that a view code may have."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    if modifiers:
        item.ViewModifierCodeSequence = Sequence(modifiers)
    return item


def write_dicom(
    path: Path,
    dataset: Dataset,
    syntax: str = uid.ExplicitVRLittleEndian,
    *,
    codestreams: list[bytes] | None = None,
    fragments: int = 1,
    offset_table: bool = True,
    extended: bool = False,
) -> Path:
    """Write a `mammogram` in a transfer syntax; `codestreams` replaces the encoded frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = uid.UID(syntax)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    word = "OW" if dataset.BitsAllocated > 8 else "OB"
    if syntax.is_encapsulated or codestreams is not None:
        frames = codestreams if codestreams is not None else [encode(f, dataset, syntax) for f in _frames(dataset)]
        if extended:
            encoded, table, lengths = encapsulate_extended(frames)
            dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encoded, table, lengths
        else:
            dataset.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=offset_table)
        dataset["PixelData"].is_undefined_length = True
        word = "OB"
    elif not syntax.is_little_endian and dataset.BitsAllocated > 8:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset["PixelData"].VR = word
    dataset.save_as(path, enforce_file_format=True)
    return path


def _frames(dataset: Dataset) -> npt.NDArray[Any]:
    kind = "i" if dataset.PixelRepresentation else "u"
    array = np.frombuffer(dataset.PixelData, f"<{kind}{dataset.BitsAllocated // 8}")
    return array.reshape(-1, dataset.Rows, dataset.Columns)


def encode(frame: npt.NDArray[Any], dataset: Dataset, syntax: str) -> bytes:
    """One frame's codestream in a compressed transfer syntax."""
    bits = int(dataset.BitsStored)
    unsigned = frame.view(f"u{frame.dtype.itemsize}") & np.array((1 << bits) - 1, f"u{frame.dtype.itemsize}")
    match syntax:
        case uid.RLELossless:
            return rle(frame)
        case uid.JPEGBaseline8Bit:
            return bytes(imagecodecs.jpeg8_encode(unsigned, level=95))
        case uid.JPEGExtended12Bit:
            return bytes(imagecodecs.jpeg8_encode(unsigned, level=95, bitspersample=12))
        case uid.JPEGLossless:
            return bytes(imagecodecs.jpeg8_encode(unsigned, lossless=True, predictor=6, bitspersample=bits))
        case uid.JPEGLosslessSV1:
            return bytes(imagecodecs.ljpeg_encode(unsigned, bitspersample=bits))
        case uid.JPEGLSLossless:
            return bytes(imagecodecs.jpegls_encode(unsigned))
        case uid.JPEGLSNearLossless:
            return bytes(imagecodecs.jpegls_encode(unsigned, level=2))
        case uid.JPEG2000Lossless:
            return bytes(imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True, bitspersample=bits))
        case uid.JPEG2000:
            return bytes(
                imagecodecs.jpeg2k_encode(frame, level=85, codecformat="J2K", reversible=False, bitspersample=bits)
            )
        case uid.HTJ2KLossless | uid.HTJ2KLosslessRPCL:
            return bytes(imagecodecs.htj2k_encode(frame, reversible=True))
        case uid.HTJ2K:
            return bytes(
                imagecodecs.htj2k_encode(frame, level=5e-4 * 2.0 ** (bits - 8 * frame.itemsize), reversible=False)
            )
    raise ValueError(syntax)


def rle(frame: npt.NDArray[Any]) -> bytes:
    """RLE Lossless (PS3.5 Annex G), written from the standard: literal runs of rows, repeated bytes as runs."""
    width = frame.dtype.itemsize
    planes = frame.astype(frame.dtype.newbyteorder(">")).view(np.uint8).reshape(*frame.shape, width)
    segments = [b"".join(_pack_bits(bytes(row)) for row in planes[..., plane]) for plane in range(width)]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    header = np.zeros(16, "<u4")
    header[0] = width
    header[1 : width + 1] = 64 + np.cumsum([0, *(len(segment) for segment in segments[:-1])])
    return header.tobytes() + b"".join(segments)


def _pack_bits(row: bytes) -> bytes:
    packed, position = bytearray(), 0
    while position < len(row):
        run = 1
        while run < 128 and row[position : position + 1] * (run + 1) == row[position : position + run + 1]:
            run += 1
        if run > 1:
            packed += bytes((257 - run, row[position]))
        else:
            while run < 128 and position + run < len(row) and row[position + run] != row[position + run - 1]:
                run += 1
            packed += bytes((run - 1,)) + row[position : position + run]
        position += run
    return bytes(packed)
