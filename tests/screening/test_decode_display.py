"""The image as displayed: compared with pydicom's grayscale pipeline, and by what must hold of any image."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence

from screening.errors import ImageError
from screening.imaging.decode import load_display
from tests.support.dicom import mammogram, noise_image, write_dicom
from tests.support.peers import needs_package

SHAPE = (37, 53)
WHITE = 65535
VOI = ["LINEAR", "LINEAR_EXACT", "SIGMOID"]


def pydicom_display(path: Path) -> npt.NDArray[np.float64]:
    """Modality and VOI transform by pydicom, scaled to 0 … 65535 by the range that it maps to."""
    dataset = pydicom.dcmread(path)
    linear = apply_modality_lut(dataset.pixel_array, dataset)
    shown: npt.NDArray[np.float64] = apply_voi_lut(linear, dataset, prefer_lut=True).astype(np.float64)
    if "VOILUTSequence" in dataset:
        return shown / float(2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1) * WHITE
    lowest = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    low, high = (end * slope + intercept for end in (lowest, lowest + 2**dataset.BitsStored - 1))
    return (shown - low) / (high - low) * WHITE


def lookup_table(first: int, entries: npt.NDArray[np.integer], bits: int, *, packed: bool = False) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    data = entries.astype("u1" if packed else "<u2").tobytes()
    item.add_new("LUTData", "OW", data + b"\0" * (len(data) % 2))
    item.ModalityLUTType = "US"
    return item


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True), (16, False), (16, True)])
@pytest.mark.parametrize("rescale", [None, (2.0, -100.0)])
@pytest.mark.parametrize("function", VOI)
def test_window_is_shown_as_by_pydicom(
    tmp_path: Path, function: str, rescale: tuple[float, float] | None, bits: int, signed: bool, syntax: str
) -> None:
    dataset = mammogram(noise_image(*SHAPE, bits, signed=signed), bits_stored=bits, VOILUTFunction=function)
    slope, intercept = rescale or (1.0, 0.0)
    if rescale is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = rescale
    middle = 0 if signed else 1 << (bits - 1)
    dataset.WindowCenter = [slope * middle + intercept + 10.5, 0]  # only the first of several windows counts
    dataset.WindowWidth = [slope * (1 << bits) / 3, 1]
    path = write_dicom(tmp_path / "image", dataset, syntax)
    np.testing.assert_allclose(load_display(path), pydicom_display(path), atol=1.0)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
@pytest.mark.parametrize("signed", [False, True])
def test_voi_table_is_shown_as_by_pydicom_and_goes_before_the_window(tmp_path: Path, signed: bool, syntax: str) -> None:
    entries = (np.linspace(0, 1, 1000) ** 0.5 * 1023).astype(np.int64)
    dataset = mammogram(noise_image(*SHAPE, 12, signed=signed), bits_stored=12, WindowCenter=10, WindowWidth=20)
    dataset.VOILUTSequence = Sequence([lookup_table(-500 if signed else 1500, entries, 10)])
    path = write_dicom(tmp_path / "image", dataset, syntax)
    np.testing.assert_allclose(load_display(path), pydicom_display(path), atol=1.0)


def test_table_of_65536_entries_declares_0_of_them(tmp_path: Path) -> None:
    dataset = mammogram(noise_image(*SHAPE, 16), bits_stored=16)
    dataset.VOILUTSequence = Sequence([lookup_table(0, np.arange(65536), 16)])
    path = write_dicom(tmp_path / "image", dataset)
    np.testing.assert_array_equal(load_display(path), noise_image(*SHAPE, 16))


@pytest.mark.parametrize("packed", [False, True])
def test_table_of_8_bit_entries_may_be_packed_or_not(tmp_path: Path, packed: bool) -> None:
    dataset = mammogram(noise_image(*SHAPE, 8), bits_stored=8)
    dataset.VOILUTSequence = Sequence([lookup_table(0, np.arange(255)[::-1] % 256, 8, packed=packed)])
    path = write_dicom(tmp_path / "image", dataset)
    inputs = np.minimum(noise_image(*SHAPE, 8), 254).astype(np.int64)
    np.testing.assert_array_equal(load_display(path), (254 - inputs) * 257)


def test_modality_table_goes_before_the_window(tmp_path: Path) -> None:
    entries = np.arange(4096)[::-1].copy()
    dataset = mammogram(noise_image(*SHAPE, 12), bits_stored=12, WindowCenter=2048, WindowWidth=4096)
    dataset.ModalityLUTSequence = Sequence([lookup_table(0, entries, 12)])
    path = write_dicom(tmp_path / "image", dataset)
    np.testing.assert_allclose(load_display(path), (4095 - noise_image(*SHAPE, 12)) / 4095 * WHITE, atol=0.51)


def test_big_endian_header_shows_the_same_image(tmp_path: Path) -> None:
    dataset = mammogram(noise_image(*SHAPE, 12), bits_stored=12, PixelPaddingValue=0)
    dataset.VOILUTSequence = Sequence([lookup_table(0, np.arange(4096) ** 2 // 4096, 12)])
    expected = load_display(write_dicom(tmp_path / "little", dataset))
    dataset = mammogram(noise_image(*SHAPE, 12), bits_stored=12, PixelPaddingValue=0)
    table = lookup_table(0, np.arange(4096) ** 2 // 4096, 12)
    table.LUTData = np.frombuffer(table.LUTData, "<u2").astype(">u2").tobytes()
    dataset.VOILUTSequence = Sequence([table])
    shown = load_display(write_dicom(tmp_path / "big", dataset, uid.ExplicitVRBigEndian))
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("function", [*VOI, None])
def test_monochrome1_is_the_negative(tmp_path: Path, function: str | None) -> None:
    window: dict[str, Any] = (
        {} if function is None else {"WindowCenter": 2000, "WindowWidth": 2500, "VOILUTFunction": function}
    )
    pixels = noise_image(*SHAPE, 12)
    positive = load_display(write_dicom(tmp_path / "2", mammogram(pixels, bits_stored=12, **window)))
    dataset = mammogram(pixels, bits_stored=12, PhotometricInterpretation="MONOCHROME1", **window)
    negative = load_display(write_dicom(tmp_path / "1", dataset)).astype(np.int64)
    np.testing.assert_allclose(negative, WHITE - positive.astype(np.int64), atol=1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("limit", [None, 4000, 4090])
def test_padding_is_black_and_does_not_count_for_contrast(tmp_path: Path, photometric: str, limit: int | None) -> None:
    plain = noise_image(40, 60, 10) + np.uint16(100)
    framed = np.pad(plain, 5, constant_values=4090)
    framed[0, :30] = 4090 if limit is None else 4050
    dataset = mammogram(framed, bits_stored=12, PixelPaddingValue=4090, PhotometricInterpretation=photometric)
    if limit is not None:
        dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = 4095, limit - 90
    shown = load_display(write_dicom(tmp_path / "framed", dataset))
    alone = mammogram(plain, bits_stored=12, PhotometricInterpretation=photometric)
    np.testing.assert_array_equal(shown[5:-5, 5:-5], load_display(write_dicom(tmp_path / "alone", alone)))
    assert shown[0].max() == shown[:, 0].max() == 0


def test_padding_written_unsigned_for_signed_pixels_is_understood(tmp_path: Path) -> None:
    pixels = noise_image(*SHAPE, 12, signed=True)
    pixels[0] = -2000
    dataset = mammogram(pixels, bits_stored=12, PhotometricInterpretation="MONOCHROME1")
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    assert load_display(write_dicom(tmp_path / "image", dataset))[0].max() == 0


def test_image_without_window_uses_its_own_range(tmp_path: Path) -> None:
    pixels = noise_image(*SHAPE, 10) + np.uint16(700)
    shown = load_display(write_dicom(tmp_path / "image", mammogram(pixels, bits_stored=12)))
    np.testing.assert_allclose(shown, (pixels - 700.0) / 1023 * WHITE, atol=0.51)


def test_dead_pixels_do_not_decide_about_contrast(tmp_path: Path) -> None:
    pixels = noise_image(400, 600, 10) + np.uint16(700)
    expected = load_display(write_dicom(tmp_path / "whole", mammogram(pixels, bits_stored=12)))
    pixels[200, 300], pixels[300, 200] = 4095, 0
    shown = load_display(write_dicom(tmp_path / "dead", mammogram(pixels, bits_stored=12)))
    assert np.abs(shown.astype(int) - expected)[:200].max() < 0.02 * WHITE
    assert (shown[200, 300], shown[300, 200]) == (WHITE, 0)


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_window_without_width_counts_as_none(tmp_path: Path, width: float) -> None:
    pixels = noise_image(*SHAPE)
    expected = load_display(write_dicom(tmp_path / "none", mammogram(pixels, bits_stored=12)))
    dataset = mammogram(pixels, bits_stored=12, WindowCenter=1000, WindowWidth=width)
    np.testing.assert_array_equal(load_display(write_dicom(tmp_path / "image", dataset)), expected)


def test_window_of_width_1_is_a_threshold(tmp_path: Path) -> None:
    pixels = noise_image(*SHAPE)
    dataset = mammogram(pixels, bits_stored=12, WindowCenter=2000, WindowWidth=1)
    shown = load_display(write_dicom(tmp_path / "image", dataset))
    np.testing.assert_array_equal(shown, np.where(pixels > 1999, WHITE, 0))


@pytest.mark.parametrize("value", [0, 1234])
def test_constant_image_is_black(tmp_path: Path, value: int) -> None:
    dataset = mammogram(np.full(SHAPE, value, np.uint16), bits_stored=12)
    assert load_display(write_dicom(tmp_path / "image", dataset)).max() == 0


def test_image_of_nothing_but_padding_is_black(tmp_path: Path) -> None:
    dataset = mammogram(np.full(SHAPE, 5, np.uint16), bits_stored=12, PixelPaddingValue=5)
    assert load_display(write_dicom(tmp_path / "image", dataset)).max() == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    function=st.sampled_from(VOI),
    center=st.floats(-5000, 70000),
    width=st.floats(1, 70000),
    slope=st.floats(0.01, 10),
    signed=st.booleans(),
)
def test_brighter_stays_brighter(
    tmp_path: Path, function: str, center: float, width: float, slope: float, signed: bool
) -> None:
    pixels = noise_image(*SHAPE, 14, signed=signed)
    dataset = mammogram(pixels, bits_stored=14, VOILUTFunction=function)
    dataset.WindowCenter, dataset.WindowWidth = f"{center:.6g}", f"{width:.6g}"
    dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:.6g}", 3
    assume(float(dataset.WindowWidth) >= 1)
    shown = load_display(write_dicom(tmp_path / "image", dataset))
    order = np.argsort(pixels.ravel(), kind="stable")
    assert (np.diff(shown.ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, "Rescale Slope is 0"),
        ({"VOILUTSequence": Sequence([Dataset()])}, "LUT Descriptor does not have three values"),
        ({"VOILUTSequence": Sequence([lookup_table(0, np.arange(9), 17)])}, "entries of 17 bits"),
    ],
)
def test_malformed_transform_is_an_error(tmp_path: Path, attributes: dict[str, Any], sentence: str) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12, **attributes)
    path = write_dicom(tmp_path / "image", dataset)
    with pytest.raises(ImageError, match=sentence):
        load_display(path)


def test_table_with_too_few_entries_is_an_error(tmp_path: Path) -> None:
    table = lookup_table(0, np.arange(9), 12)
    table.LUTDescriptor = [500, 0, 12]
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12, VOILUTSequence=Sequence([table]))
    path = write_dicom(tmp_path / "image", dataset)
    with pytest.raises(ImageError, match="entries where it claims 500"):
        load_display(path)


@pytest.mark.parametrize("value", [b"\xff\xfe\xfd", b"much", b"nan ", b"1e999 "])
def test_malformed_window_is_an_error_that_names_it(tmp_path: Path, value: bytes) -> None:
    dataset = mammogram(noise_image(*SHAPE), bits_stored=12, WindowCenter="1234567890", WindowWidth=100)
    path = write_dicom(tmp_path / "image", dataset)
    path.write_bytes(path.read_bytes().replace(b"1234567890", value.ljust(10)))
    with pytest.raises(ImageError, match="WindowCenter"):
        load_display(path)


@needs_package("OpenREM")
def test_vendor_headers_are_displayed() -> None:
    spec = find_spec("openrem")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0], "remapp", "tests", "test_files")
    paths = sorted(folder.glob("MG-Im-*_ForPresentation.dcm"))
    assert paths
    for path in paths:
        np.testing.assert_allclose(load_display(path), pydicom_display(path), atol=1.0)
