"""Reading raster files, listing folders, records of single files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from simfrcnn.errors import DataError
from simfrcnn.images.finding import find_images
from simfrcnn.images.reading import (
    load_pixels,
    read_greys,
    read_image,
    record_of_file,
)
from simfrcnn.records import Laterality, Supervision, ViewPosition
from support.data_examples import SECRET_NAME, make_record, write_dicom

GREY = np.random.default_rng(0).integers(0, 256, (24, 30), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif", ".PNG"])
def test_lossless_8_bit_files_are_taken_as_they_are(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), GREY)
    np.testing.assert_array_equal(read_image(path), GREY)


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), smooth)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif"])
@pytest.mark.parametrize(
    ("largest", "full"), [(200, 255), (900, 1023), (4000, 4095), (5000, 16383)]
)
def test_16_bit_files_are_scaled_by_their_bits(
    tmp_path: Path, suffix: str, largest: int, full: int
) -> None:
    values = np.linspace(0, largest, 24 * 30).reshape(24, 30).astype(np.uint16)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), values)
    expected = np.rint(values * 255.0 / full)
    assert np.abs(read_image(path) - expected).max() <= 1
    assert read_image(path).max() == round(largest * 255 / full)


def test_equal_channels_are_grey_others_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.stack([GREY] * 3, axis=-1))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), GREY)
    cv2.imwrite(str(tmp_path / "colour.png"), np.stack([GREY, GREY, 255 - GREY], axis=-1))
    with pytest.raises(DataError, match=r"colour\.png: is a colour image"):
        read_image(tmp_path / "colour.png")
    cv2.imwrite(str(tmp_path / "alpha.png"), np.stack([GREY] * 4, axis=-1))
    with pytest.raises(DataError, match=r"alpha\.png: has transparent pixels"):
        read_image(tmp_path / "alpha.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".pgm", ".tif"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half{suffix}"
    cv2.imwrite(str(path), GREY)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"half.*truncated"):
        read_image(path)


@pytest.mark.parametrize("n_more", [1, 64, 5000])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_bytes_after_a_whole_picture_are_ignored(tmp_path: Path, suffix: str, n_more: int) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), GREY)
    expected = read_image(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * n_more)
    np.testing.assert_array_equal(read_image(path), expected)
    # The end of something else is not the end of this picture.
    path.write_bytes(whole[:-30] + whole)
    with pytest.raises(DataError, match="truncated"):
        read_image(path)


def test_a_jpeg_with_a_thumbnail_cut_off_behind_it_is_refused(tmp_path: Path) -> None:
    """The thumbnail in the header has an end of its own."""
    whole = cv2.imencode(".jpg", GREY)[1].tobytes()
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(whole) + 2) + whole
    path = tmp_path / "a.jpg"
    path.write_bytes(whole[:2] + thumbnail + whole[2:])
    assert read_image(path).shape == GREY.shape
    path.write_bytes(whole[:2] + thumbnail + whole[2:-20])
    with pytest.raises(DataError, match="truncated"):
        read_image(path)


def test_a_progressive_jpeg_with_restart_markers_is_whole(tmp_path: Path) -> None:
    settings = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    path = tmp_path / "a.jpg"
    path.write_bytes(cv2.imencode(".jpg", GREY, settings)[1].tobytes() + b"more")
    assert read_image(path).shape == GREY.shape


def as_tiff(n_bits: int, data: bytes, size: tuple[int, int], *further: tuple[int, int]) -> bytes:
    """One strip of unpacked or packed samples, little endian; further are (tag, value)."""
    height, width = size
    numbers = {256: width, 257: height, 258: n_bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    numbers |= {279: len(data), **dict(further)}
    data += b"\0" * (len(data) % 2)
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(numbers.items())]
    end = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + end


def as_pgm(values: list[int], white: int) -> bytes:
    order = ">u1" if white < 256 else ">u2"
    return f"P5\n# made\n{len(values)} 1\n{white}\n".encode() + np.array(values, order).tobytes()


def with_sbit(values: list[int], n_bits: int) -> bytes:
    png = cv2.imencode(".png", np.array([values], np.uint16))[1].tobytes()
    body = b"sBIT" + bytes([n_bits])
    chunk = struct.pack(">I", 1) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]


STATED = {
    "pgm 12 bits": (".pgm", as_pgm([0, 900, 1000], 4095), [0, 56, 62]),
    "pgm of 1000": (".pgm", as_pgm([0, 500, 1000], 1000), [0, 128, 255]),
    "pgm 8 bits of 100": (".pgm", as_pgm([0, 20, 100], 100), [0, 51, 255]),
    "pgm text": (".pgm", b"P2 3 1 1000 0 500 1000\n", [0, 128, 255]),
    "pgm text 8 bits": (".pgm", b"P2 3 1 100 0 20 100\n", [0, 51, 255]),
    "pgm that states nothing": (".pgm", as_pgm([0, 900, 1000], 65535), [0, 224, 249]),
    "png left-aligned": (".png", with_sbit([0, 100 << 4, 1000 << 4], 12), [0, 6, 62]),
    "png replicated": (".png", with_sbit([0, 0x1231, 0x4564], 12), [0, 18, 69]),
    "png as they are": (".png", with_sbit([0, 901, 1001], 12), [0, 56, 62]),
    "tiff of 4095": (
        ".tif",
        as_tiff(16, np.array([0, 900, 1000], "<u2").tobytes(), (1, 3), (281, 4095)),
        [0, 56, 62],
    ),
    "tiff that says what is the largest": (
        ".tif",
        as_tiff(16, np.array([0, 900, 3000], "<u2").tobytes(), (1, 3), (281, 3000)),
        [0, 56, 187],
    ),
    "tiff of 12 bits": (
        ".tif",
        as_tiff(12, bytes([0x00, 0x03, 0x84, 0x3E, 0x80, 0x00]), (1, 4)),
        [0, 56, 62, 0],
    ),
}


@pytest.mark.parametrize("name", STATED)
def test_the_maximum_that_a_file_states_is_white(tmp_path: Path, name: str) -> None:
    suffix, content, expected = STATED[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert read_image(path).tolist() == [expected]
    sixteen = read_greys(path).as_uint16() / 257
    assert np.abs(sixteen - np.array([expected])).max() <= 0.5


def test_a_value_above_the_stated_maximum_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(as_pgm([0, 1001], 1000))
    with pytest.raises(DataError, match=r"a\.pgm: holds the value 1001, its header states 1000"):
        read_image(tmp_path / "a.pgm")


def test_other_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match=r"text\.png: not a readable"):
        read_image(tmp_path / "text.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.png: not a readable"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(DataError, match=r"gone\.png: cannot be opened"):
        read_image(tmp_path / "gone.png")
    cv2.imwrite(str(tmp_path / "float.tif"), GREY.astype(np.float32))
    with pytest.raises(DataError, match=r"float\.tif: has float32 samples"):
        read_image(tmp_path / "float.tif")
    page = Image.fromarray(GREY)
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(DataError, match=r"pages\.tif: holds 2 pages"):
        read_image(tmp_path / "pages.tif")


def test_a_16_bit_negative_tiff_is_refused(tmp_path: Path) -> None:
    values = GREY.astype(np.uint16) * 257
    Image.fromarray(values).save(tmp_path / "negative.tif", tiffinfo={262: 0})
    with pytest.raises(DataError, match=r"negative\.tif.*WhiteIsZero"):
        read_image(tmp_path / "negative.tif")
    Image.fromarray(values).save(tmp_path / "positive.tif", tiffinfo={262: 1})
    np.testing.assert_array_equal(read_image(tmp_path / "positive.tif"), GREY)


def test_dicom_is_rounded_to_8_bits(tmp_path: Path) -> None:
    stored = np.array([[0, 1000, 2000]], dtype=np.uint16)
    assert read_image(write_dicom(tmp_path / "a.dcm", stored)).tolist() == [[0, 128, 255]]


def test_another_size_than_the_record_is_an_error(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), GREY)
    record = make_record(7, path=tmp_path / "a.png", height=24, width=30)
    np.testing.assert_array_equal(load_pixels(record), GREY)
    wrong = make_record(7, path=tmp_path / "a.png", height=30, width=24)
    with pytest.raises(DataError, match=r"a\.png.*24 x 30.*image 7.*30 x 24"):
        load_pixels(wrong)


def test_find_images_in_nested_folders(tmp_path: Path) -> None:
    deep = tmp_path / "patient" / "study"
    deep.mkdir(parents=True)
    for name in ("b.dcm", "IM0001", "1.2.840.99"):
        write_dicom(deep / name, GREY)
    cv2.imwrite(str(tmp_path / "a.png"), GREY)
    for other in ("notes.txt", ".hidden.png", "DICOMDIR", "c.csv"):
        (tmp_path / other).write_bytes(b"\0" * 128 + b"DICM" if other == "DICOMDIR" else b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_images(tmp_path) == [
        tmp_path / "a.png",
        deep / "1.2.840.99",
        deep / "IM0001",
        deep / "b.dcm",
    ]


def test_find_images_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone does not exist"):
        find_images(tmp_path / "gone")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="holds no image"):
        find_images(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        find_images(tmp_path / "a.txt")


def test_record_of_a_dicom_file(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, Manufacturer="Maker")
    record = record_of_file(path, 5)
    assert (record.image_id, record.height, record.width) == (5, 24, 30)
    assert (record.patient_id, record.exam_id) == ("P7", "1.2.3.4")
    assert record.laterality is Laterality.LEFT
    assert record.view_position is ViewPosition.MLO
    assert record.supervision is Supervision.UNLABELLED
    assert record.attributes["manufacturer"] == "Maker"
    assert SECRET_NAME not in repr(record)


def test_records_without_identity_do_not_merge(tmp_path: Path) -> None:
    nameless = {"PatientID": None, "StudyInstanceUID": None}
    first = record_of_file(write_dicom(tmp_path / "a.dcm", GREY, **nameless), 1)
    second = record_of_file(write_dicom(tmp_path / "b.dcm", GREY, **nameless), 2)
    assert first.patient_id == first.exam_id
    assert first.exam_id != second.exam_id
    cv2.imwrite(str(tmp_path / "film7.png"), GREY)
    film = record_of_file(tmp_path / "film7.png", 3)
    assert film.patient_id == film.exam_id
    assert film.patient_id.startswith("film7-")


def test_films_of_one_name_in_two_folders_are_two_exams(tmp_path: Path) -> None:
    for folder, picture in (("a", GREY), ("b", 255 - GREY)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "lcc.png"), picture)
    records = [record_of_file(path, n) for n, path in enumerate(find_images(tmp_path), 1)]
    assert len({record.exam_id for record in records}) == 2
