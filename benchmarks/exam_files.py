"""A four-view exam as a hospital sends it: 3328 × 2560 pixels, 14 bits in 16, JPEG 2000 lossless."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import uid

from tests.support.dicom import mammogram, write_dicom
from tests.support.phantoms import HEIGHT_MM, Outline, synthetic_mammogram

VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
BITS = 14
# Large breasts, which fill the detector, with noise of 0.6 % of the range: files of 6 to 7 MB, from 17 MB raw. Less of
# either decodes faster, which lowers the floor that scoring is compared with.
_OUTLINES = {
    "CC": Outline(centre=0.5, half_height=0.47, depth=0.85, axilla=0.0),
    "MLO": Outline(centre=0.58, half_height=0.38, depth=0.85, axilla=0.6),
}
_NOISE = 400.0


def write_exam(folder: Path, rows: int = 3328, columns: int = 2560, seed: int = 0) -> list[Path]:
    """Write the four views of one exam; returns the files. The same arguments give the same pixels."""
    files = []
    for number, (laterality, view) in enumerate(VIEWS, start=1):
        shown = synthetic_mammogram(
            rows, columns, laterality, view, seed + number, noise=_NOISE, outline=_OUTLINES[view]
        )
        pixels = (shown >> (16 - BITS)).astype(np.uint16)
        dataset = mammogram(
            pixels,
            bits_stored=BITS,
            laterality=laterality,
            view=view,
            instance=number,
            ImagerPixelSpacing=[HEIGHT_MM / rows] * 2,
            WindowCenter=1 << (BITS - 1),
            WindowWidth=1 << BITS,
        )
        codestream = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", reversible=True, bitspersample=BITS))
        files.append(
            write_dicom(folder / f"{laterality}{view}.dcm", dataset, uid.JPEG2000Lossless, codestreams=[codestream])
        )
    return files
