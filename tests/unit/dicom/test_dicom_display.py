"""Values on the way to the display against formulas written again from the standard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from simfrcnn.dicom import display as dicom_display
from simfrcnn.dicom.mammogram import Mammogram, read_mammogram
from simfrcnn.errors import DicomError
from simfrcnn.images.preprocess import to_input
from simfrcnn.images.reading import read_image
from simfrcnn.settings import InputSettings
from support.data_examples import mammogram_dataset, write_dicom

pytestmark = pytest.mark.data

CENTER, WIDTH = 2040.5, 700.25


def noisy_view() -> NDArray[np.uint16]:
    """Tissue whose values lie on both sides of a narrow window, pixel by pixel."""
    rng = np.random.default_rng(0)
    slope = np.linspace(1000, 3000, 517)[None, :] + np.linspace(-300, 300, 643)[:, None]
    return (slope + rng.normal(0, 400, (643, 517))).clip(0, 4095).astype(np.uint16)


def reference(function: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """0..255 by PS3.3 C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1, branch by branch."""
    y_min, y_max, c, w = 0.0, 255.0, CENTER, WIDTH
    if function == "SIGMOID":
        return (y_max - y_min) / (1 + np.exp(-4 * (x - c) / w)) + y_min
    if function == "LINEAR_EXACT":
        y = ((x - c) / w + 0.5) * (y_max - y_min) + y_min
        return np.where(x <= c - w / 2, y_min, np.where(x > c + w / 2, y_max, y))
    y = ((x - (c - 0.5)) / (w - 1) + 0.5) * (y_max - y_min) + y_min
    low, high = c - 0.5 - (w - 1) / 2, c - 0.5 + (w - 1) / 2
    return np.where(x <= low, y_min, np.where(x > high, y_max, y))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("size", [(160, 128), (131, 97)])
def test_a_clipping_window_equals_the_float_reference_after_resizing(
    tmp_path: Path, function: str, size: tuple[int, int]
) -> None:
    stored = noisy_view()
    tags = {"WindowCenter": CENTER, "WindowWidth": WIDTH, "VOILUTFunction": function}
    pixels = read_image(write_dicom(tmp_path / "a.dcm", stored, BitsStored=12, HighBit=11, **tags))
    ours, _ = to_input(pixels, InputSettings(size, crop_to_breast=False, keep_aspect=False))
    exact = resized(reference(function, stored.astype(np.float64)), size)
    assert np.abs(ours - exact).max() <= 1
    windowed_later = reference(function, resized(stored.astype(np.float64), size))
    assert np.abs(windowed_later - exact).max() > 10  # what windowing a small copy would show


def resized(values: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Area average, in double precision."""
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_AREA))


def test_a_voi_table_is_applied_at_full_resolution(tmp_path: Path) -> None:
    stored = noisy_view()
    entries = (np.arange(4096) % 512 * 8).astype("<u2")  # a saw: averages of values mean nothing
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 12], entries.tobytes()
    pixels = read_image(write_dicom(tmp_path / "a.dcm", stored, VOILUTSequence=[table]))
    size = (131, 97)
    ours, _ = to_input(pixels, InputSettings(size, crop_to_breast=False, keep_aspect=False))
    exact = resized(entries[stored] * (255 / 4095), size)
    assert np.abs(ours - exact).max() <= 1


def test_eight_sixteen_and_unrounded_greys_agree(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", noisy_view(), WindowCenter=CENTER, WindowWidth=WIDTH)
    mammogram = read_mammogram(path)
    assert mammogram.display.shape == (643, 517)
    exact = reference("LINEAR", noisy_view().astype(np.float64))
    np.testing.assert_allclose(mammogram.pixels, exact, atol=1e-4)
    assert np.abs(mammogram.display.as_uint8() - exact).max() <= 0.5 + 1e-6
    assert np.abs(mammogram.display.as_uint16() / 257 - exact).max() <= 0.5 / 257 + 1e-6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opencv_without_wide_tables_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type
) -> None:
    stored = noisy_view() >> (4 if dtype is np.uint8 else 0)
    display = read_mammogram(write_dicom(tmp_path / "a.dcm", stored.astype(dtype))).display
    with_opencv = display.as_uint8(), display.as_uint16()
    monkeypatch.setattr(dicom_display, "_HAS_WIDE_TABLES", False)
    np.testing.assert_array_equal(display.as_uint8(), with_opencv[0])
    np.testing.assert_array_equal(display.as_uint16(), with_opencv[1])


def test_four_valued_windows_with_fractions(tmp_path: Path) -> None:
    """As some vendors write them: the window is the first of four."""
    stored = noisy_view()
    path = write_dicom(
        tmp_path / "a.dcm",
        stored,
        WindowCenter=["2040.5", "2047", "1e3", "540.25"],
        WindowWidth=["700.25", "4095", "2e2", "1.5"],
        WindowCenterWidthExplanation=["NORMAL", "HARDER", "SOFTER", "X"],
    )
    mammogram = read_mammogram(path)
    exact = reference("LINEAR", stored.astype(np.float64))
    np.testing.assert_allclose(mammogram.pixels, exact, atol=1e-4)
    assert mammogram.notes == ("4 windows: the first was taken",)


VALUES = np.array([[-2048, -1000, -1], [0, 1000, 2047]], dtype=np.int16)
WINDOW = {"WindowCenter": 0, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}
SHOWN = 255 * (VALUES / 4096 + 0.5)


def test_signed_12_of_16_bits_whatever_the_unused_bits_hold(tmp_path: Path) -> None:
    for name, codes in {
        "extended": VALUES.view(np.uint16),
        "cut": VALUES.view(np.uint16) & 0x0FFF,
        "overlay": VALUES.view(np.uint16) & 0x0FFF | 0x4000,
        "overlay of one pixel": np.where(
            VALUES == 0, np.uint16(0x4000), VALUES.view(np.uint16) & 0x0FFF
        ),
    }.items():
        tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1, **WINDOW}
        mammogram = read_mammogram(write_dicom(tmp_path / "a.dcm", codes, **tags))
        np.testing.assert_allclose(mammogram.pixels, SHOWN, atol=1e-3)
        assert bool(mammogram.notes) == name.startswith("overlay")
    assert mammogram.notes == ("bits above Bits Stored (0028,0101) are set, and were ignored",)


def test_stored_bits_below_a_higher_high_bit(tmp_path: Path) -> None:
    codes = np.array([[0, 0x123F, 0xFFF0]], dtype=np.uint16)  # 12 bits, left-aligned
    tags = {"BitsStored": 12, "HighBit": 15, "WindowCenter": 2047.5, "WindowWidth": 4095}
    mammogram = read_mammogram(
        write_dicom(tmp_path / "a.dcm", codes, VOILUTFunction="LINEAR_EXACT", **tags)
    )
    np.testing.assert_allclose(mammogram.pixels[0], [0, 0x123 / 4095 * 255, 255], atol=1e-3)
    assert any("High Bit (0028,0102) 15" in note for note in mammogram.notes)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_other_byte_orders_and_implicit_vr(tmp_path: Path, syntax: Any, dtype: type) -> None:
    stored = (np.arange(35).reshape(5, 7) * 3).astype(dtype)
    plain = read_mammogram(
        write_dicom(tmp_path / "plain.dcm", stored, WindowCenter=50, WindowWidth=80)
    )
    dataset = mammogram_dataset(stored, WindowCenter=50, WindowWidth=80)
    if syntax is ExplicitVRBigEndian:
        words = dataset.PixelData + b"\0" * (len(dataset.PixelData) % 2)
        # Words of 16 bits are swapped, also where each holds two pixels of 8 bits.
        dataset.PixelData = np.frombuffer(words, "<u2").astype(">u2").tobytes()
        dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        tmp_path / "other.dcm",
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    other = read_mammogram(tmp_path / "other.dcm")
    np.testing.assert_array_equal(other.pixels, plain.pixels)
    assert other.laterality is plain.laterality


def read_table(folder: Path, stored: NDArray[Any], **table: Any) -> Mammogram:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", table["descriptor"])
    item.add_new("LUTData", table.get("vr", "OW"), table["data"])
    tags = table.get("tags", {})
    return read_mammogram(write_dicom(folder / "t.dcm", stored, VOILUTSequence=[item], **tags))


def test_tables_of_bytes_words_and_numbers(tmp_path: Path) -> None:
    stored = np.array([[0, 5, 6, 7, 9]], dtype=np.uint16)
    expected = np.array([[10, 10, 20, 250, 250]])
    as_bytes = {"descriptor": [3, 5, 8], "data": bytes([10, 20, 250, 0])}
    np.testing.assert_allclose(read_table(tmp_path, stored, **as_bytes).pixels, expected)
    as_words = {"descriptor": [3, 5, 8], "data": np.array([10, 20, 250], "<u2").tobytes()}
    np.testing.assert_allclose(read_table(tmp_path, stored, **as_words).pixels, expected)
    as_numbers = {"descriptor": [3, 5, 8], "data": [10, 20, 250], "vr": "US"}
    np.testing.assert_allclose(read_table(tmp_path, stored, **as_numbers).pixels, expected)


def test_a_table_of_65536_entries_and_one_that_begins_below_0(tmp_path: Path) -> None:
    everything = np.arange(65536, dtype="<u2").tobytes()
    stored = np.array([[0, 30000, 65535]], dtype=np.uint16)
    mammogram = read_table(tmp_path, stored, descriptor=[0, 0, 16], data=everything)
    np.testing.assert_allclose(mammogram.pixels[0], [0, 30000 / 257, 255], atol=1e-3)
    signed = np.array([[-3, -2, 1]], dtype=np.int16)
    few = np.array([0, 51, 102, 153, 255], dtype="<u2").tobytes()
    mammogram = read_table(tmp_path, signed, descriptor=[5, 65534, 8], data=few)  # -2
    np.testing.assert_allclose(mammogram.pixels[0], [0, 0, 153], atol=1e-3)
    lowest = np.array([[-32768, -32767, 5]], dtype=np.int16)
    mammogram = read_table(tmp_path, lowest, descriptor=[5, 32768, 8], data=few)  # -32768
    np.testing.assert_allclose(mammogram.pixels[0], [0, 51, 255], atol=1e-3)
    # One that begins above 0 does so, and of unsigned values none begins below.
    for stored, first in (
        (np.array([[-3, 2, 5]], dtype=np.int16), 1),
        (np.array([[39999, 40001, 40004]], dtype=np.uint16), 40000),
    ):
        mammogram = read_table(tmp_path, stored, descriptor=[5, first, 8], data=few)
        np.testing.assert_allclose(mammogram.pixels[0], [0, 51, 255], atol=1e-3)


def test_a_modality_table_may_be_anything_but_monotone(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [4, 0, 16], "US"
    item.LUTData = np.array([300, 100, 200, 100], "<u2").tobytes()
    stored = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    mammogram = read_mammogram(write_dicom(tmp_path / "m.dcm", stored, ModalityLUTSequence=[item]))
    np.testing.assert_allclose(mammogram.pixels[0], [255, 0, 127.5, 0], atol=1e-3)


NO_TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "short": (
        {"descriptor": [3, 0, 8], "data": b"\1\2"},
        "states 3 entries, its data hold 1",
    ),
    "half of 16 bits": (
        {"descriptor": [4, 0, 16], "data": bytes([1, 2, 3, 4])},
        "states 4 entries, its data hold 2",
    ),
    "half of 12 bits": (
        {"descriptor": [4, 0, 12], "data": bytes([1, 2, 3, 4])},
        "states 4 entries, its data hold 2",
    ),
    "too bright": (
        {"descriptor": [2, 0, 8], "data": np.array([1, 256], "<u2").tobytes()},
        "does not hold entries of 8 bits",
    ),
    "32 bits": ({"descriptor": [2, 0, 32], "data": bytes(4)}, "entries of 32 bits"),
    "short descriptor": ({"descriptor": [2, 0], "data": bytes(4)}, "cannot be applied"),
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_a_table_that_is_none_gives_way_to_the_window_then_to_the_range(
    tmp_path: Path, name: str
) -> None:
    table, problem = NO_TABLES[name]
    stored = np.array([[10, 20, 30]], dtype=np.uint16)
    alone = read_table(tmp_path, stored, **table)
    np.testing.assert_allclose(alone.pixels, [[0, 127.5, 255]])
    assert "VOI LUT Sequence (0028,3010)" in alone.notes[0]
    assert problem in alone.notes[0]
    assert "smallest to largest" in alone.notes[1]
    window = {"WindowCenter": 20, "WindowWidth": 40, "VOILUTFunction": "LINEAR_EXACT"}
    windowed = read_table(tmp_path, stored, tags=window, **table)
    np.testing.assert_allclose(windowed.pixels, [[63.75, 127.5, 191.25]])
    assert problem in windowed.notes[0]
    assert len(windowed.notes) == 1


def test_of_several_tables_the_first_that_is_one(tmp_path: Path) -> None:
    good = Dataset()
    good.LUTDescriptor, good.LUTData = [2, 0, 8], bytes([51, 204])
    stored = np.array([[0, 1]], dtype=np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, VOILUTSequence=[Dataset(), good])
    mammogram = read_mammogram(path)
    np.testing.assert_allclose(mammogram.pixels, [[51, 204]])
    assert "2 VOI LUTs: number 2 was taken" in mammogram.notes


def test_a_table_that_uses_fewer_bits_than_it_states_is_noted(tmp_path: Path) -> None:
    stored = np.array([[0, 1]], dtype=np.uint16)
    data = np.array([0, 4095], "<u2").tobytes()
    mammogram = read_table(tmp_path, stored, descriptor=[2, 0, 16], data=data)
    np.testing.assert_allclose(mammogram.pixels, [[0, 4095 / 257]], atol=1e-4)
    assert "states entries of 16 bits and uses 12" in mammogram.notes[0]
    assert read_table(tmp_path, stored, descriptor=[2, 0, 12], data=data).notes == ()


RANGE = [0, 127.5, 255]
PASSED_OVER: dict[str, tuple[dict[str, Any], list[float], str]] = {
    "width 0": ({"WindowCenter": 5, "WindowWidth": 0}, RANGE, "Window Width (0028,1051) is 0"),
    "narrow": ({"WindowCenter": 5, "WindowWidth": 0.5}, RANGE, "at least 1 wide"),
    "center alone": ({"WindowCenter": 5}, RANGE, "Window Center (0028,1050) and Window Width"),
    "width alone": ({"WindowWidth": 5}, RANGE, "differ in number of values"),
    "first narrow": (
        {"WindowCenter": [5, 20.5], "WindowWidth": [0, 41]},
        [63.75, 127.5, 191.25],
        "2 windows: number 2 was taken",
    ),
    "two centers, one width": (
        {"WindowCenter": [20.5, 99], "WindowWidth": 41},
        [63.75, 127.5, 191.25],
        "differ in number of values",
    ),
    "function for each": (
        {
            "WindowCenter": [20, 99],
            "WindowWidth": [40, 99],
            "VOILUTFunction": ["LINEAR_EXACT", "SIGMOID"],
        },
        [63.75, 127.5, 191.25],
        "VOI LUT Function (0028,1056) has 2 values",
    ),
    "unknown function": (
        {"WindowCenter": 20.5, "WindowWidth": 41, "VOILUTFunction": "CUBIC"},
        [63.75, 127.5, 191.25],
        "is 'CUBIC', none of LINEAR, LINEAR_EXACT, SIGMOID: LINEAR was taken",
    ),
    "blank, then good": (
        {"WindowCenter": [60000, 20.5], "WindowWidth": [9, 41]},
        [63.75, 127.5, 191.25],
        "shows every pixel of this image alike",
    ),
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_windows_that_cannot_be_applied_are_passed_over(tmp_path: Path, name: str) -> None:
    tags, expected, note = PASSED_OVER[name]
    stored = np.array([[10, 20, 30]], dtype=np.uint16)
    mammogram = read_mammogram(write_dicom(tmp_path / "a.dcm", stored, **tags))
    np.testing.assert_allclose(mammogram.pixels, [expected], atol=1e-4)
    assert note in "; ".join(mammogram.notes)


def test_a_window_that_is_no_number_is_passed_over(tmp_path: Path) -> None:
    stored = np.array([[10, 20, 30]], dtype=np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, WindowCenter="77", WindowWidth="41")
    content, center = path.read_bytes(), b"\x50\x10DS\x02\x0077"
    assert content.count(center) == 1
    path.write_bytes(content.replace(center, center.replace(b"77", b"a ")))
    mammogram = read_mammogram(path)
    np.testing.assert_allclose(mammogram.pixels, [RANGE])
    assert "Window Center (0028,1050) is malformed; it was passed over" in mammogram.notes


@pytest.mark.parametrize("word", ["monochrome1", "Monochrome 1", "MONOCHROME1 ", "MONOCHROME_1"])
def test_photometric_words_as_files_write_them(tmp_path: Path, word: str) -> None:
    stored = np.array([[10, 20, 30]], dtype=np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, PhotometricInterpretation=word)
    np.testing.assert_allclose(read_mammogram(path).pixels, [[255, 127.5, 0]])


def test_window_rescale_and_side_in_functional_groups(tmp_path: Path) -> None:
    window, values, anatomy, spacing = Dataset(), Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 100, 400, "LINEAR_EXACT"
    values.RescaleSlope, values.RescaleIntercept = 2, -100
    anatomy.FrameLaterality = "R"
    spacing.PixelSpacing = [0.1, 0.2]
    shared, first = Dataset(), Dataset()
    shared.PixelValueTransformationSequence = [values]
    shared.FrameAnatomySequence = [anatomy]
    first.FrameVOILUTSequence, first.PixelMeasuresSequence = [window], [spacing]
    stored = np.array([[0, 50, 100, 150, 200]], dtype=np.uint16)
    mammogram = read_mammogram(
        write_dicom(
            tmp_path / "e.dcm",
            stored,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.13.1.3",
            Modality=None,
            ImageLaterality=None,
            ImagerPixelSpacing=None,
            NumberOfFrames=1,
            SharedFunctionalGroupsSequence=[shared],
            PerFrameFunctionalGroupsSequence=[first],
        )
    )
    np.testing.assert_allclose(mammogram.pixels[0], [0, 63.75, 127.5, 191.25, 255], atol=1e-3)
    assert mammogram.laterality is not None
    assert mammogram.laterality.value == "R"
    assert mammogram.pixel_spacing_mm == (0.1, 0.2)


def test_padding_is_found_with_either_sign(tmp_path: Path) -> None:
    stored = np.array([[-2000, 0, 500, 1000]], dtype=np.int16)
    dataset = mammogram_dataset(stored)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    dataset.save_as(tmp_path / "p.dcm", enforce_file_format=True)
    pixels = read_mammogram(tmp_path / "p.dcm").pixels
    np.testing.assert_allclose(pixels[0], [0, 0, 127.5, 255], atol=1e-3)


REFUSED = {
    "high bit": ({"BitsStored": 12, "HighBit": 10}, r"High Bit \(0028,0102\) is 10.*must be 11"),
    "high bit beyond": ({"BitsStored": 12, "HighBit": 16}, r"High Bit \(0028,0102\) is 16.*be 11"),
    "bits stored": ({"BitsStored": 17}, r"Bits Stored \(0028,0101\) is 17"),
    "sign": ({"PixelRepresentation": 2}, r"Pixel Representation \(0028,0103\)"),
    "slope 0": ({"RescaleSlope": 0, "RescaleIntercept": 1}, r"Rescale Slope \(0028,1053\) is 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_contradictions_are_refused(tmp_path: Path, name: str) -> None:
    tags, message = REFUSED[name]
    with pytest.raises(DicomError, match=message):
        read_mammogram(write_dicom(tmp_path / "r.dcm", noisy_view(), **tags))
