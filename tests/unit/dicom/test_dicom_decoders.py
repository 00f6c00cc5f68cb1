"""Compressed files: each syntax, each missing decoder, and streams that lie about their size."""

from __future__ import annotations

import contextlib
import importlib
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from simfrcnn.dicom import header as dicom_header
from simfrcnn.dicom import pixels as dicom_pixels
from simfrcnn.dicom import streams
from simfrcnn.dicom.header import read_header
from simfrcnn.dicom.mammogram import Mammogram, read_mammogram
from simfrcnn.errors import DicomError
from support.data_examples import REPOSITORY, mammogram_dataset, write_dicom

pytestmark = pytest.mark.data

SMOOTH = np.linspace(0, 250, 48 * 40).reshape(48, 40).astype(np.uint8)


def write_encapsulated(
    path: Path, stored: NDArray[Any], syntax: UID, stream: bytes, **tags: Any
) -> Path:
    dataset = mammogram_dataset(stored, **tags)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


def test_baseline_jpeg_needs_nothing_beyond_the_requirements(tmp_path: Path) -> None:
    path = write_encapsulated(tmp_path / "a.dcm", SMOOTH, JPEGBaseline8Bit, jpeg(SMOOTH))
    assert np.abs(read_mammogram(path).pixels * 250 / 255 - SMOOTH).max() <= 4


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_lossless_syntaxes_give_the_same_pixels(tmp_path: Path, syntax: UID, dtype: type) -> None:
    pytest.importorskip("openjpeg")
    stored = np.random.default_rng(0).integers(0, 4096, (64, 80)) - (2048 * (dtype is np.int16))
    tags = {"WindowCenter": 1000, "WindowWidth": 4000, "BitsStored": 12, "HighBit": 11}
    dataset = mammogram_dataset(stored.astype(dtype), **tags)
    dataset.save_as(tmp_path / "plain.dcm", enforce_file_format=True)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(tmp_path / "compressed.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(
        read_mammogram(tmp_path / "compressed.dcm").pixels,
        read_mammogram(tmp_path / "plain.dcm").pixels,
    )


def test_fragments_of_one_frame_are_joined(tmp_path: Path) -> None:
    stream = jpeg(SMOOTH)
    whole = write_encapsulated(tmp_path / "whole.dcm", SMOOTH, JPEGBaseline8Bit, stream)
    dataset = mammogram_dataset(SMOOTH)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([stream], fragments_per_frame=3)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "parts.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(
        read_mammogram(tmp_path / "parts.dcm").pixels, read_mammogram(whole).pixels
    )


# What is hidden -> the syntax that then cannot be read, and what to install.
MISSING = [
    (("libjpeg", "gdcm"), JPEGLosslessSV1, r"'\.\[gdcm\]'.* or .*'\.\[libjpeg\]'.*GPL"),
    (("libjpeg", "gdcm", "jpeg_ls"), JPEGLSLossless, r"'\.\[gdcm\]'.* or .*'\.\[libjpeg\]'.*GPL"),
    (("libjpeg",), JPEGExtended12Bit, r"pip install -e '\.\[libjpeg\]'.*GPL"),
    (("openjpeg", "PIL", "gdcm"), JPEG2000, r"pip install -e '\.\[jpeg\]'"),
    (("openjpeg",), HTJ2K, r"pip install -e '\.\[jpeg\]'"),
    (("pylibjpeg", "PIL", "gdcm"), JPEG2000, r"pip install -e '\.\[jpeg\]'"),
]


def test_a_missing_decoder_is_named_by_its_extra(tmp_path: Path) -> None:
    """In a process of its own for each, where importing the decoder's package fails."""
    for number, (_, syntax, _) in enumerate(MISSING):
        tags = {"BitsStored": 12, "HighBit": 11}
        path = tmp_path / f"{number}.dcm"
        write_encapsulated(path, SMOOTH.astype(np.uint16), syntax, b"\xff\xd8", **tags)
    code = (
        "import sys; from importlib import metadata; from pathlib import Path\n"
        "hidden, real = sys.argv[2:], metadata.entry_points\n"
        "for name in hidden: sys.modules[name] = None\n"
        "metadata.entry_points = lambda **asked: [point for point in real(**asked)"
        " if point.module.split('.')[0] not in hidden]\n"
        "from simfrcnn.dicom.mammogram import read_mammogram\n"
        "from simfrcnn.errors import DicomError\n"
        "try: read_mammogram(Path(sys.argv[1]))\n"
        "except DicomError as error: print(error)\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / f"{number}.dcm"), *hidden],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, (hidden, _, _) in enumerate(MISSING)
    ]
    answers = [process.communicate() for process in running]
    for (said, complaint), (_, syntax, message) in zip(answers, MISSING, strict=True):
        assert not complaint
        with pytest.raises(DicomError, match=rf"not installed.*{message}") as raised:
            raise DicomError(said)
        assert syntax.name in str(raised.value)


def test_the_extras_that_are_named_exist() -> None:
    setup = (REPOSITORY / "setup.py").read_text()
    for extra in ("jpeg", "gdcm", "libjpeg"):
        assert f'"{extra}": [' in setup
        assert any(extra in extras for extras in dicom_pixels._EXTRAS.values())


def test_what_no_package_decodes_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write_encapsulated(tmp_path / "film.dcm", SMOOTH, MPEG2MPML, b"\0" * 64)
    with pytest.raises(DicomError, match=r"MPEG2.*no Python package.*Explicit VR Little Endian"):
        read_mammogram(path)


UNKNOWN = {
    "1.2.840.10008.1.2.4.110": "(JPEG XL Lossless), which cannot be decoded here: convert",
    "1.2.840.10008.1.2.4.999": "(unknown here), which cannot be decoded here: convert",
    "1.2.840.113619.5.2": "(private, GE Implicit VR with big endian pixels), which cannot be",
    "1.2.3.4.5": "(private), which cannot be decoded here: convert",
    "1.2.840.10008.5.1.4.1.1.1.2": "names no transfer syntax: the file is damaged",
    "1..x": "names no transfer syntax: the file is damaged",
}


@pytest.mark.parametrize("modality", ["MG", None])
@pytest.mark.parametrize("uid", UNKNOWN)
def test_an_unknown_transfer_syntax_is_named(tmp_path: Path, uid: str, modality: str) -> None:
    """Whatever else looks wrong in the file, because it could not be parsed."""
    path = write_encapsulated(tmp_path / "a.dcm", SMOOTH, JPEGBaseline8Bit, bytes(9))
    content = path.read_bytes()
    known = JPEGBaseline8Bit.encode().ljust(22, b"\0")
    assert content.count(known) == 1
    uid_bytes = uid.encode().ljust(len(uid) + len(uid) % 2, b"\0")
    place = content.index(known)
    assert content[place - 2 : place] == struct.pack("<H", 22)
    (length,) = struct.unpack_from("<I", content, 140)
    content = (
        content[:140]
        + struct.pack("<I", length + len(uid_bytes) - 22)
        + content[144 : place - 2]
        + struct.pack("<H", len(uid_bytes))
        + uid_bytes
        + content[place + 22 :]
    )
    if modality is None:  # from there on, another encoding
        content = content[: content.index(b"MG") - 8] + b"\xff" * 90
    path.write_bytes(content)
    with contextlib.suppress(ModuleNotFoundError):  # it names some of them in pydicom's dictionary
        importlib.import_module("pynetdicom")
    with pytest.raises(DicomError) as raised:
        read_mammogram(path)
    problem = f"is {uid} {UNKNOWN[uid]}" if UNKNOWN[uid].startswith("(") else UNKNOWN[uid]
    assert f"a.dcm: Transfer Syntax UID (0002,0010) {problem}" in str(raised.value)


def twelve_bits(last_coefficient: int) -> bytes:
    """Sequential DCT of 12 bits (SOF1) of one 8 x 8 block, grey 2048 + 512 throughout."""
    quantisation = b"\xff\xdb" + struct.pack(">HB64B", 67, 0, *[1] * 64)
    frame = b"\xff\xc1" + struct.pack(">HBHHB3B", 11, 12, 8, 8, 1, 1, 0x11, 0)
    counts = [0, 1] + [0] * 14  # one code of two bits: 00
    dc = b"\xff\xc4" + struct.pack(">HB16BB", 20, 0x00, *counts, 13)
    ac = b"\xff\xc4" + struct.pack(">HB16BB", 20, 0x10, *counts, 0)
    scan = b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0x00, 0, last_coefficient, 0)
    bits = "00" + f"{512 * 8:013b}" + "00"  # DC of category 13, end of block
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\xff\xd8" + quantisation + frame + dc + ac + scan + data + b"\xff\xd9"


def test_a_scan_header_that_ends_at_the_first_coefficient_is_mended(tmp_path: Path) -> None:
    pytest.importorskip("libjpeg")
    tags = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096}
    stored = np.zeros((8, 8), np.uint16)
    wrong, right = (
        read_mammogram(
            write_encapsulated(
                tmp_path / f"{last}.dcm", stored, JPEGExtended12Bit, twelve_bits(last), **tags
            )
        )
        for last in (0, 63)
    )
    assert right.notes == ()
    assert right.display.codes.tolist() == [[2560] * 8] * 8
    np.testing.assert_array_equal(wrong.display.codes, right.display.codes)
    assert "scan header ends at coefficient 0" in wrong.notes[0]


def test_a_progressive_scan_of_one_coefficient_is_left_alone() -> None:
    progressive = twelve_bits(0).replace(b"\xff\xc1", b"\xff\xc2")
    assert streams.mended(progressive, JPEGExtended12Bit) is None
    assert streams.mended(twelve_bits(63), JPEGExtended12Bit) is None


def decoded_as(
    monkeypatch: pytest.MonkeyPatch, folder: Path, syntax: UID, values: NDArray[Any], **tags: Any
) -> Mammogram:
    """A compressed file of which a decoder makes these values; 12 bits, shown as they are."""
    window = {"WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}
    stored = {"BitsStored": 12, "HighBit": 11} | window | tags
    path = write_encapsulated(folder / "a.dcm", values, syntax, bytes(9), **stored)
    monkeypatch.setattr(dicom_pixels, "_look_at_stream", lambda *_: None)
    monkeypatch.setattr(dicom_pixels, "_decoded", lambda *_: values)
    return read_mammogram(path)


@pytest.mark.parametrize("syntax", [JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit])
def test_values_beyond_bits_stored_are_clamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: UID
) -> None:
    values = np.array([[0, 4095, 4096, 5000, 65535]], dtype=np.uint16)
    mammogram = decoded_as(monkeypatch, tmp_path, syntax, values)
    assert mammogram.display.as_uint8().tolist() == [[0, 255, 255, 255, 255]]
    assert mammogram.notes == (
        "values beyond the 12 bits of Bits Stored (0028,0101) were set to the nearest that it can "
        "hold",
    )


def test_signed_values_beyond_bits_stored_are_clamped_at_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = {"WindowCenter": 0, "WindowWidth": 4096}
    values = np.array([[-3000, -2048, 0, 2047, 2100]], dtype=np.int16)
    pixels = decoded_as(monkeypatch, tmp_path, JPEG2000, values, **window).pixels
    np.testing.assert_allclose(pixels, [[0, 0, 127.5, 254.94, 254.94]], atol=0.01)
    # Without a single negative value, the upper half are those that lost their sign.
    values = np.array([[0, 2047, 2048, 4095]], dtype=np.int16)
    pixels = decoded_as(monkeypatch, tmp_path, JPEG2000, values, **window).pixels
    np.testing.assert_allclose(pixels, [[127.5, 254.94, 0, 127.44]], atol=0.01)


def test_clamped_values_are_rescaled_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.array([[0, 2000, 4095, 5000]], dtype=np.uint16)
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    pixels = decoded_as(monkeypatch, tmp_path, JPEG2000, values, **tags).pixels
    np.testing.assert_allclose(pixels, [[255, 2095 / 4095 * 255, 0, 0]], atol=0.01)


def test_an_overlay_in_the_unused_bits_is_not_clamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.array([[0, 0x1000, 0x1000 | 2000, 4095]], dtype=np.uint16)
    path = tmp_path / "a.dcm"
    tags = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2047.5, "WindowWidth": 4095}
    dataset = mammogram_dataset(values, VOILUTFunction="LINEAR_EXACT", **tags)
    dataset.add_new((0x6000, 0x0100), "US", 16)
    dataset.add_new((0x6000, 0x0102), "US", 12)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([bytes(9)])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    monkeypatch.setattr(dicom_pixels, "_look_at_stream", lambda *_: None)
    monkeypatch.setattr(dicom_pixels, "_decoded", lambda *_: values)
    pixels = read_mammogram(path).pixels
    np.testing.assert_allclose(pixels, [[0, 0, 2000 / 4095 * 255, 255]], atol=0.01)


def jpeg_2000(**changes: int) -> bytes:
    """SOC and SIZ only, which is all that is looked at before a decoder runs."""
    size = {"columns": 40, "rows": 48, "left": 0, "top": 0, "components": 1} | changes
    siz = struct.pack(
        ">HHH8IH3B",
        0xFF51,
        41,
        0,
        *(size[name] for name in ("columns", "rows", "left", "top", "columns", "rows")),
        *(0, 0, size["components"], 7, 1, 1),
    )
    return b"\xff\x4f" + siz + bytes(200)


LYING = {
    "jpeg": (JPEGBaseline8Bit, jpeg(np.zeros((96, 40), np.uint8)), "holds 96 x 40 pixels of 1"),
    "colour": (JPEGBaseline8Bit, jpeg(np.zeros((48, 40, 3), np.uint8)), "48 x 40 pixels of 3"),
    "huge": (JPEG2000, jpeg_2000(rows=2**32 - 1), "holds 4294967295 x 40 pixels"),
    "components": (JPEG2000, jpeg_2000(components=16384), "16384 component"),
    "offset": (JPEG2000, jpeg_2000(left=8, top=8), "holds 40 x 32 pixels"),
    "no size": (JPEGBaseline8Bit, b"\xff\xd8" + bytes(300), "refused by every decoder"),
    "cut": (JPEGBaseline8Bit, jpeg(SMOOTH)[:40], "refused by every decoder"),
    "marker": (JPEGBaseline8Bit, jpeg(SMOOTH).replace(b"\xff\xc4", b"\0\xc4"), "every decoder"),
    "no frame": (JPEGBaseline8Bit, jpeg(SMOOTH).replace(b"\xff\xc0", b"\xff\xfe"), "every decoder"),
    "no stream": (JPEG2000, bytes(2), "refused by every decoder"),
}


@pytest.mark.parametrize("name", LYING)
def test_streams_that_state_another_size_never_reach_a_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    syntax, stream, message = LYING[name]
    path = write_encapsulated(tmp_path / "lie.dcm", SMOOTH, syntax, stream)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.as_array", None)
    with pytest.raises(DicomError, match=rf"Pixel Data \(7FE0,0010\).*{message}"):
        read_mammogram(path)


def test_packages_that_fall_over_damaged_streams_are_not_asked() -> None:
    """GDCM aborts on some 8-bit JPEG, the RLE package panics: seen by fuzzing."""
    known = ("gdcm", "pillow", "pydicom", "pyjpegls", "pylibjpeg")
    asked = {
        syntax: dicom_pixels._packages(Mock(UID=syntax, is_native=False, available_plugins=known))
        for syntax in (RLELossless, JPEGBaseline8Bit, JPEG2000, JPEGLosslessSV1)
    }
    assert asked == {
        RLELossless: ("pydicom",),
        JPEGBaseline8Bit: ("pylibjpeg", "pillow"),
        JPEG2000: ("pylibjpeg", "pillow"),
        JPEGLosslessSV1: ("pylibjpeg", "pyjpegls", "gdcm"),
    }


def test_a_stream_far_too_short_for_its_size_is_refused(tmp_path: Path) -> None:
    large = np.zeros((8000, 8000), np.uint8)
    stream = jpeg_2000(rows=8000, columns=8000)
    path = write_encapsulated(tmp_path / "short.dcm", large, JPEG2000, stream)
    with pytest.raises(DicomError, match="8000 x 8000 pixels: the file is truncated"):
        read_mammogram(path)


def test_a_deflated_file_that_grows_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = mammogram_dataset(SMOOTH)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "good.dcm", enforce_file_format=True)
    assert read_mammogram(tmp_path / "good.dcm").pixels.shape == SMOOTH.shape
    content = (tmp_path / "good.dcm").read_bytes()
    begin = 132 + 12 + pydicom.dcmread(tmp_path / "good.dcm").file_meta[0x00020000].value
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(bytes(2**24)) + packer.flush()
    assert len(bomb) < 2**15
    (tmp_path / "bomb.dcm").write_bytes(content[:begin] + bomb)
    monkeypatch.setattr(dicom_header, "MAX_FILE_BYTES", 2**22)
    with pytest.raises(DicomError, match=r"bomb\.dcm: the deflated data set is larger"):
        read_mammogram(tmp_path / "bomb.dcm")


def test_of_a_very_large_file_only_the_header_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tomosynthesis of gigabytes is refused for what it is, without reading it."""
    monkeypatch.setattr(dicom_header, "MAX_FILE_BYTES", 2000)
    frames = write_dicom(tmp_path / "tomo.dcm", SMOOTH, NumberOfFrames=60)
    with pytest.raises(DicomError, match=r"is 60: .*tomosynthesis.*2-D view"):
        read_mammogram(frames)
    with pytest.raises(DicomError, match="in a file of more than"):
        read_mammogram(write_dicom(tmp_path / "large.dcm", SMOOTH))


def test_a_header_is_read_without_its_pixels(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", SMOOTH)
    assert not read_header(path).has("PixelData")
    assert read_header(path).whole_number("Rows") == 48
    assert read_header(path, with_pixels=True).has("PixelData")


def test_a_length_of_four_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    content = bytearray(write_dicom(tmp_path / "a.dcm", SMOOTH).read_bytes())
    place = content.rindex(b"\xe0\x7f\x10\x00O") + 8
    content[place : place + 4] = struct.pack("<I", 2**32 - 2)
    (tmp_path / "a.dcm").write_bytes(bytes(content))
    # Beyond what is there, padding is ignored; what matters is that nothing makes room for it.
    assert read_mammogram(tmp_path / "a.dcm").pixels.shape == SMOOTH.shape
