"""DICOM values on the way to the display, by hand and against pydicom; and every refusal."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import JPEG2000Lossless, RLELossless

from simfrcnn.dicom import mammogram
from simfrcnn.dicom.mammogram import DicomOptions, Mammogram, read_mammogram
from simfrcnn.errors import DicomError
from simfrcnn.records import Laterality, ViewPosition
from support.data_examples import (
    FOR_PROCESSING,
    SECRET_NAME,
    mammogram_dataset,
    write_dicom,
)

pytestmark = pytest.mark.data

RAMP = np.arange(0, 4000, 40, dtype=np.uint16).reshape(10, 10)


def read_ramp(folder: Path, **tags: Any) -> Mammogram:
    return read_mammogram(write_dicom(folder / "ramp.dcm", RAMP, **tags))


def test_the_example_in_the_documentation() -> None:
    found = doctest.testmod(mammogram, raise_on_error=False)
    assert (found.failed, found.attempted > 5) == (0, True)


def test_linear_window_by_hand(tmp_path: Path) -> None:
    stored = np.array([[0, 100, 149, 150, 199, 4000]], dtype=np.uint16)
    path = write_dicom(tmp_path / "w.dcm", stored, WindowCenter=150, WindowWidth=101)
    # PS3.3 C.11.2.1.2.1: ((x - 149.5) / 100 + 0.5) * 255 between 99.5 and 199.5
    expected = [0, 0.005 * 255, 0.495 * 255, 0.505 * 255, 0.995 * 255, 255]
    np.testing.assert_allclose(read_mammogram(path).pixels[0], expected, atol=1e-3)


def test_linear_exact_and_sigmoid_by_hand(tmp_path: Path) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    exact = read_ramp(tmp_path, **window, VOILUTFunction="LINEAR_EXACT").pixels
    np.testing.assert_allclose(exact, 255 * np.clip((RAMP - 2000.0) / 1000 + 0.5, 0, 1), atol=1e-3)
    sigmoid = read_ramp(tmp_path, **window, VOILUTFunction="SIGMOID").pixels
    np.testing.assert_allclose(sigmoid, 255 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000)), atol=1e-3)
    assert sigmoid[5, 0] == pytest.approx(127.5)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(tmp_path: Path, function: str) -> None:
    tags = {"WindowCenter": 1234, "WindowWidth": 2100, "VOILUTFunction": function}
    theirs = apply_windowing(RAMP, mammogram_dataset(RAMP, **tags))  # in 0..65535
    np.testing.assert_allclose(
        read_ramp(tmp_path, **tags).pixels, theirs * (255 / 65535), atol=1e-2
    )


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    pixels = read_ramp(
        tmp_path,
        RescaleSlope=2,
        RescaleIntercept=-1000,
        WindowCenter=3000,
        WindowWidth=6000,
        VOILUTFunction="LINEAR_EXACT",
    ).pixels
    np.testing.assert_allclose(
        pixels, 255 * np.clip((2.0 * RAMP - 1000 - 3000) / 6000 + 0.5, 0, 1), atol=1e-3
    )


def test_modality_table_and_voi_table(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    modality, voi = Dataset(), Dataset()
    modality.LUTDescriptor = [4, 0, 16]
    modality.LUTData = np.array([10, 11, 12, 13], dtype=np.uint16).tobytes()
    modality.ModalityLUTType = "US"
    voi.LUTDescriptor = [3, 11, 12]
    voi.LUTData = np.array([0, 1000, 4095], dtype=np.uint16).tobytes()
    path = write_dicom(
        tmp_path / "t.dcm", stored, ModalityLUTSequence=[modality], VOILUTSequence=[voi, voi]
    )
    mammogram = read_mammogram(path)
    # 10 lies below the first mapped value 11 and gets its entry; the table has 12 bits.
    expected = [0, 0, 1000 / 4095 * 255, 255]
    np.testing.assert_allclose(mammogram.pixels[0], expected, atol=1e-3)
    assert mammogram.notes == ("2 VOI LUTs: the first was taken",)


def test_signed_values(tmp_path: Path) -> None:
    stored = np.array([[-1000, 0, 1000]], dtype=np.int16)
    path = write_dicom(tmp_path / "s.dcm", stored, WindowCenter=0.5, WindowWidth=2001)
    np.testing.assert_allclose(read_mammogram(path).pixels[0], [0, 127.5, 255], atol=1e-3)


def test_without_voi_the_values_that_occur_fill_the_scale(tmp_path: Path) -> None:
    stored = np.array([[100, 600, 1100]], dtype=np.uint16)
    mammogram = read_mammogram(write_dicom(tmp_path / "n.dcm", stored))
    np.testing.assert_allclose(mammogram.pixels[0], [0, 127.5, 255], atol=1e-3)
    assert "smallest to largest" in mammogram.notes[0]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_polarity_is_one_decision(tmp_path: Path, photometric: str, shape: str) -> None:
    stored = np.array([[0, 4095]], dtype=np.uint16)
    mammogram = read_mammogram(
        write_dicom(
            tmp_path / "p.dcm",
            stored,
            PhotometricInterpretation=photometric,
            PresentationLUTShape=shape,
            WindowCenter=2047.5,
            WindowWidth=4095,
            VOILUTFunction="LINEAR_EXACT",
        )
    )
    inverted = photometric == "MONOCHROME1"
    assert mammogram.pixels[0].tolist() == ([255, 0] if inverted else [0, 255])
    contradiction = (shape == "INVERSE") != inverted
    assert any("contradicts" in note for note in mammogram.notes) == contradiction


def test_of_several_windows_the_first_is_taken_and_said(tmp_path: Path) -> None:
    several = read_ramp(tmp_path, WindowCenter=[500, 3000, 1, 2], WindowWidth=[800, 100, 9, 9])
    one = read_ramp(tmp_path, WindowCenter=500, WindowWidth=800)
    np.testing.assert_array_equal(several.pixels, one.pixels)
    assert several.notes == ("4 windows: the first was taken",)


def test_padding_is_black_and_does_not_stretch_the_scale(tmp_path: Path) -> None:
    stored = np.array([[4000, 100, 200, 300]], dtype=np.uint16)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 4000}
    pixels = read_mammogram(write_dicom(tmp_path / "p.dcm", stored, **tags)).pixels
    np.testing.assert_allclose(pixels[0], [0, 255, 127.5, 0], atol=1e-3)


def test_facts(tmp_path: Path) -> None:
    mammogram = read_ramp(tmp_path, Manufacturer="Maker", ManufacturerModelName="M1")
    assert mammogram.laterality is Laterality.LEFT
    assert mammogram.view_position is ViewPosition.MLO
    assert mammogram.pixel_spacing_mm == (0.07, 0.08)
    assert (mammogram.patient_id, mammogram.exam_id) == ("P7", "1.2.3.4")
    assert (mammogram.manufacturer, mammogram.model_name) == ("Maker", "M1")
    assert mammogram.pixels.dtype == np.float32


def test_facts_from_other_tags_and_absent_ones(tmp_path: Path) -> None:
    code = Dataset()
    code.CodeValue = "R-10242"
    bare = read_ramp(
        tmp_path,
        ImageLaterality=None,
        Laterality="R",
        ViewPosition=None,
        ViewCodeSequence=[code],
        ImagerPixelSpacing=None,
        PixelSpacing=[0.1, 0.1],
        PatientID=None,
    )
    assert bare.laterality is Laterality.RIGHT
    assert bare.view_position is ViewPosition.CC
    assert bare.pixel_spacing_mm == (0.1, 0.1)
    assert any("Pixel Spacing (0028,0030)" in note for note in bare.notes)
    assert bare.patient_id is None
    both = read_ramp(tmp_path, ImageLaterality="B", ViewPosition="ML", ImagerPixelSpacing=None)
    assert both.laterality is None
    assert both.view_position is ViewPosition.OTHER
    assert both.pixel_spacing_mm is None


def test_a_spacing_that_is_none_is_ignored_and_said(tmp_path: Path) -> None:
    mammogram = read_ramp(tmp_path, ImagerPixelSpacing=[0, 0.1])
    assert mammogram.pixel_spacing_mm is None
    assert any("Imager Pixel Spacing (0018,1164)" in note for note in mammogram.notes)


def test_a_window_one_value_wide_is_a_step(tmp_path: Path) -> None:
    stored = np.array([[4, 5, 6]], dtype=np.uint16)
    path = write_dicom(tmp_path / "w.dcm", stored, WindowCenter=5, WindowWidth=1)
    assert read_mammogram(path).pixels.tolist() == [[0, 255, 255]]


def test_missing_modality_is_recognised_by_sop_class(tmp_path: Path) -> None:
    assert read_ramp(tmp_path, Modality=None).pixels.shape == (10, 10)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_files_give_the_same_pixels(tmp_path: Path, syntax: str) -> None:
    pytest.importorskip("openjpeg")
    tags = {"WindowCenter": 2000, "WindowWidth": 4000}
    stored = np.random.default_rng(0).integers(0, 4096, (64, 80), dtype=np.uint16)
    plain = read_mammogram(write_dicom(tmp_path / "p.dcm", stored, **tags)).pixels
    dataset = mammogram_dataset(stored, **tags)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(tmp_path / "c.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_mammogram(tmp_path / "c.dcm").pixels, plain)


def test_a_picture_of_another_format_is_called_that(tmp_path):
    for name, remedy in [("a.jpg", ""), ("a.dcm", " name it .jpg;")]:
        (tmp_path / name).write_bytes(cv2.imencode(".jpg", np.zeros((200, 200), np.uint8))[1])
        with pytest.raises(DicomError) as caught:
            read_mammogram(tmp_path / name)
        assert str(caught.value) == (
            f"{tmp_path / name}: not a DICOM file, but a JPEG picture:{remedy} in Python, "
            "detector.detect(file) reads it"
        )


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "modality": (
        {"Modality": "CT"},
        r"Modality \(0008,0060\) is 'CT'.*any modality .*any_modality=True",
    ),
    "raw": ({"PresentationIntentType": "FOR PROCESSING"}, r"\(0008,0068\).*FOR PROCESSING"),
    "raw class": (
        {"SOPClassUID": FOR_PROCESSING},
        "--allow-for-processing; .*allow_for_processing=True",
    ),
    "frames": ({"NumberOfFrames": 2}, r"Number of Frames \(0028,0008\) is 2.*multi-frame"),
    "no pixels": ({"PixelData": None}, r"Pixel Data \(7FE0,0010\) is missing"),
    "colour": ({"PhotometricInterpretation": "RGB"}, r"\(0028,0004\) is 'RGB'.*grey"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "'PALETTE COLOR'"),
    "no photometric": ({"PhotometricInterpretation": None}, r"\(0028,0004\) is missing"),
    "samples": ({"SamplesPerPixel": 3}, r"\(0028,0002\) is 3: a colour image"),
    "no rows": ({"Rows": None}, r"Rows \(0028,0010\) is missing"),
    "truncated": ({"PixelData": RAMP.tobytes()[:-40]}, r"\(7FE0,0010\).*truncated"),
    "huge": ({"Rows": 60000, "Columns": 60000}, r"3,600,000,000 pixels, more than"),
    "window elsewhere": ({"WindowCenter": 60000, "WindowWidth": 9}, "belongs to other values"),
    "float": ({"PixelData": None, "FloatPixelData": b"\0" * 400}, r"\(7FE0,0010\) is missing"),
    "32 bits": (
        {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "PixelData": b"\0" * 400},
        r"Bits Allocated \(0028,0100\) is 32; .* 8 and 16",
    ),
    "bad modality table": (
        {"ModalityLUTSequence": [Dataset()]},
        r"Modality LUT Sequence \(0028,3000\) cannot be applied",
    ),
    "all padding": (
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 9999},
        "covers every pixel",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_file_tag_and_remedy(tmp_path: Path, name: str) -> None:
    tags, message = REFUSALS[name]
    with pytest.raises(DicomError, match=message) as caught:
        read_ramp(tmp_path, **tags)
    assert str(tmp_path / "ramp.dcm") in str(caught.value)
    assert SECRET_NAME not in str(caught.value)


def test_options_let_in_what_is_refused_by_default(tmp_path: Path) -> None:
    raw = write_dicom(tmp_path / "raw.dcm", RAMP, PresentationIntentType="FOR PROCESSING")
    mammogram = read_mammogram(raw, DicomOptions(allow_for_processing=True))
    assert (mammogram.pixels.min(), mammogram.pixels.max()) == (0, 255)
    other = write_dicom(tmp_path / "ct.dcm", RAMP, Modality="CT")
    assert read_mammogram(other, DicomOptions(any_modality=True)).pixels.shape == (10, 10)


def test_raw_values_linear_in_intensity_get_a_logarithm(tmp_path: Path) -> None:
    stored = np.array([[0, 9, 99]], dtype=np.uint16)
    tags = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LIN"}
    path = write_dicom(tmp_path / "raw.dcm", stored, **tags)
    mammogram = read_mammogram(path, DicomOptions(allow_for_processing=True))
    np.testing.assert_allclose(mammogram.pixels[0], [0, 127.5, 255], atol=1e-3)
    assert "logarithm" in mammogram.notes[0]


@pytest.mark.parametrize(
    ("intercept", "middle"),
    [
        (-8, np.log(10) / np.log(100)),  # -5, 4, 94: as far above the smallest as 0, 9, 99
        (6, np.log(19 / 10) / np.log(109 / 10)),  # 9, 18, 108: positive values stay as they are
    ],
)
def test_the_logarithm_is_of_values_from_0_on(
    tmp_path: Path, intercept: int, middle: float
) -> None:
    tags = {
        "PresentationIntentType": "FOR PROCESSING",
        "PixelIntensityRelationship": "LIN",
        "RescaleSlope": 1,
        "RescaleIntercept": intercept,
    }
    path = write_dicom(tmp_path / "raw.dcm", np.array([[3, 12, 102]], dtype=np.uint16), **tags)
    pixels = read_mammogram(path, DicomOptions(allow_for_processing=True)).pixels
    np.testing.assert_allclose(pixels[0], [0, 255 * middle, 255], atol=1e-3)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("sign", "greys"), [(1, [255, 0]), (-1, [0, 255])])
def test_raw_values_are_white_where_less_radiation_came_through(
    tmp_path: Path, photometric: str, sign: int, greys: list[int]
) -> None:
    path = write_dicom(
        tmp_path / "raw.dcm",
        np.array([[10, 90]], dtype=np.uint16),
        PresentationIntentType="FOR PROCESSING",
        PhotometricInterpretation=photometric,
        PixelIntensityRelationshipSign=sign,
    )
    mammogram = read_mammogram(path, DicomOptions(allow_for_processing=True))
    np.testing.assert_allclose(mammogram.pixels[0], greys)
    contradicts = any("Relationship Sign" in note for note in mammogram.notes)
    assert contradicts == ((sign == 1) != (photometric == "MONOCHROME1"))


@pytest.mark.parametrize(("says", "is_noted"), [("YES", True), ("NO", False)])
def test_text_burned_into_the_picture_is_noted(tmp_path: Path, says: str, is_noted: bool) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, BurnedInAnnotation=says)
    assert any("(0028,0301)" in note for note in read_mammogram(path).notes) == is_noted


def test_files_that_are_not_dicom(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("hello " * 100)
    with pytest.raises(DicomError, match=r"text\.dcm: not a DICOM file"):
        read_mammogram(tmp_path / "text.dcm")
    with pytest.raises(DicomError, match=r"gone\.dcm: no such file"):
        read_mammogram(tmp_path / "gone.dcm")
    with pytest.raises(DicomError, match="cannot be opened"):
        read_mammogram(tmp_path)


def test_a_file_cut_anywhere_is_refused_and_nothing_else_escapes(tmp_path: Path) -> None:
    content = write_dicom(tmp_path / "whole.dcm", RAMP).read_bytes()
    cut = tmp_path / "cut.dcm"
    for n_bytes in range(0, len(content), 23):
        cut.write_bytes(content[:n_bytes])
        with pytest.raises(DicomError, match=r"cut\.dcm"):
            read_mammogram(cut)


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    content = write_dicom(tmp_path / "whole.dcm", RAMP, WindowCenter=9, WindowWidth=99).read_bytes()
    rng = np.random.default_rng(0)
    damaged_path = tmp_path / "damaged.dcm"
    messages: list[str] = []
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(132, len(content) - RAMP.nbytes, size=3):
            damaged[place] = rng.integers(256)
        damaged_path.write_bytes(bytes(damaged))
        try:
            read_mammogram(damaged_path)
        except DicomError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert not [message for message in messages if SECRET_NAME in message]


def test_memory_error_is_reported_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Decoder, "as_array", no_memory)
    with pytest.raises(DicomError, match=r"ramp\.dcm.*memory"):
        read_ramp(tmp_path)


def test_files_that_end_too_early_are_not_blamed_on_a_tag(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    content = path.read_bytes()
    # Group 2, whose length is at byte 140 (PS3.10, 7.1), goes before the data set.
    start = 144 + int.from_bytes(content[140:144], "little")
    for cut, message in ((start, "empty or ends too early"), (0, r"empty \(0 bytes\)")):
        path.write_bytes(content[:cut])
        with pytest.raises(DicomError, match=message):
            read_mammogram(path)
