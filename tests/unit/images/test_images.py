"""Reading raster files, listing folders, records of single files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from simfrcnn.errors import DataError
from simfrcnn.images.finding import find_images
from simfrcnn.images.reading import load_pixels, read_image, record_of_file, records_of_files
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
    records, _ = records_of_files(find_images(tmp_path))
    assert len({record.exam_id for record in records}) == 2


def test_unreadable_files_are_raised_or_collected(tmp_path: Path) -> None:
    good = write_dicom(tmp_path / "good.dcm", GREY)
    bad = write_dicom(tmp_path / "bad.dcm", GREY, NumberOfFrames=9)
    cut = write_dicom(tmp_path / "cut.dcm", GREY, PixelData=GREY.tobytes()[:9])
    with pytest.raises(DataError, match=r"2 of 3 files.*--skip-unreadable") as caught:
        records_of_files([bad, good, cut])
    assert str(bad) in str(caught.value)
    assert str(cut) in str(caught.value)
    records, skipped = records_of_files([bad, good], skip_unreadable=True)
    assert [(record.image_id, record.path) for record in records] == [(1, good)]
    assert [path for path, _ in skipped] == [bad]
    assert "multi-frame" in skipped[0][1]
    with pytest.raises(DataError, match=r"(?s)1 of 1 files cannot be read:.*multi-frame"):
        records_of_files([bad], skip_unreadable=True)
