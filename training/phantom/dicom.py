"""Writing a simulated image as a DICOM file, pixels compressed without loss."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import JPEGLSLosslessEncoder
from pydicom.uid import JPEGLSLossless

from screening.exam import Laterality
from training.phantom.headers import ImageHeader
from training.phantom.mammogram_header import mammogram_header
from training.phantom.model import SimulatedImage
from training.phantom.volume_header import volume_header

Pixels = npt.NDArray[np.uint16]


def write_image(image: SimulatedImage, header: ImageHeader, path: Path) -> None:
    """Write a mammogram, a synthetic 2D image or a volume to `path`; equal arguments write equal bytes.

    A right breast is written mirrored, as right breasts hang. The pixels are compressed with JPEG-LS: near JPEG 2000
    in size at a third of its time. Raises `ValueError` for a pixel that exceeds the style's bits.
    """
    if int(image.pixels.max()) >> image.style.bits:
        raise ValueError(f"a pixel of {int(image.pixels.max())} does not fit into {image.style.bits} bits")
    write_header = mammogram_header if image.pixels.ndim == 2 else volume_header
    dataset = write_header(image, header, version("screening"))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = encapsulate(_encoded(written_pixels(image), image.style.bits))
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)


def written_pixels(image: SimulatedImage) -> Pixels:
    """The pixels as the file holds them: those of a right breast mirrored."""
    return image.pixels[..., ::-1] if image.laterality is Laterality.RIGHT else image.pixels


def _encoded(pixels: Pixels, bits: int) -> list[bytes]:
    frames = pixels if pixels.ndim == 3 else pixels[None]
    rows, columns = frames.shape[1:]
    return [
        JPEGLSLosslessEncoder.encode(
            np.ascontiguousarray(frame, dtype="<u2").tobytes(),
            rows=rows,
            columns=columns,
            number_of_frames=1,
            samples_per_pixel=1,
            photometric_interpretation="MONOCHROME2",
            bits_allocated=16,
            bits_stored=bits,
            pixel_representation=0,
        )
        for frame in frames
    ]
