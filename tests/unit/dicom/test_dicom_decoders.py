"""Compressed files: each syntax, each missing decoder, and streams that lie about their size."""

from __future__ import annotations

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
from simfrcnn.dicom.header import read_header
from simfrcnn.dicom.mammogram import read_mammogram
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
    dataset = mammogram_dataset(SMOOTH)
    dataset.file_meta.TransferSyntaxUID = UID("1.2.3.4.5")
    dataset.save_as(
        tmp_path / "own.dcm", implicit_vr=False, little_endian=True, enforce_file_format=True
    )
    with pytest.raises(DicomError, match="names no transfer syntax"):
        read_mammogram(tmp_path / "own.dcm")


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
