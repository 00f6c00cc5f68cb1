"""Small pictures that hang as a radiologist hangs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from simfrcnn.errors import DataError
from simfrcnn.images.hanging import (
    SIDE_PX,
    hung_picture,
    hung_pictures,
    must_mirror,
    source_pictures,
)
from simfrcnn.records import ImageRecord, Laterality
from simfrcnn.settings import InputSettings
from simfrcnn.training.loading import load_sample
from support.data_examples import write_dicom
from support.evaluation_examples import image


def breast(*, wall: str, height: int = 240, width: int = 160) -> np.ndarray:
    """Half an ellipse, its flat side, the chest wall, at the edge of the picture."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 9, size=(height, width)).astype(np.uint8)
    shape = np.zeros_like(pixels)
    cv2.ellipse(shape, (0, height // 2), (width * 2 // 3, height // 3), 0, 0, 360, 1, -1)
    pixels += shape * random.integers(110, 210, size=(height, width)).astype(np.uint8)
    return pixels if wall == "left" else np.ascontiguousarray(pixels[:, ::-1])


def stored(folder: Path, pixels: np.ndarray, laterality: Laterality | None) -> ImageRecord:
    path = folder / "view.png"
    cv2.imwrite(str(path), pixels)
    height, width = pixels.shape
    return replace(image(1, "A"), path=path, height=height, width=width, laterality=laterality)


@pytest.mark.parametrize(
    ("wall", "laterality", "expected"),
    [
        ("left", Laterality.LEFT, False),
        ("right", Laterality.RIGHT, False),
        ("left", Laterality.RIGHT, True),
        ("right", Laterality.LEFT, True),
        ("left", None, False),
    ],
)
def test_the_chest_wall_of_a_right_breast_is_at_the_right(
    tmp_path: Path, wall: str, laterality: Laterality | None, expected: bool
) -> None:
    picture = hung_picture(stored(tmp_path, breast(wall=wall), laterality))
    assert picture.is_mirrored is expected
    shown = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_GRAYSCALE)
    is_wall_at_left = shown[:, :80].mean() > shown[:, 80:].mean()
    assert is_wall_at_left == ((wall == "left") is not expected)


MARK = (30, 60, 44, 74)
"""A white square above the middle of :func:`breast`, as XYXY of the picture that hangs right."""
STORED_AS = {
    "right": (["A", "F"], False, False),
    "mirrored": (["P", "F"], True, False),
    "upside down": (["A", "H"], False, True),
    "rotated": (["P", "H"], True, True),
}


@pytest.mark.parametrize("name", STORED_AS)
def test_a_page_hangs_a_view_as_the_network_sees_it(tmp_path: Path, name: str) -> None:
    orientation, is_mirrored, is_upside_down = STORED_AS[name]
    hung = breast(wall="left")
    x1, y1, x2, y2 = MARK
    hung[y1:y2, x1:x2] = 255
    flipped = hung[:: -1 if is_upside_down else 1, :: -1 if is_mirrored else 1]
    path = write_dicom(
        tmp_path / "a.dcm",
        np.ascontiguousarray(flipped),
        PatientOrientation=orientation,
        WindowCenter=127.5,
        WindowWidth=255,
        VOILUTFunction="LINEAR_EXACT",
    )
    record = replace(image(1, "A"), path=path, height=240, width=160, laterality=Laterality.LEFT)
    picture = hung_picture(record)
    assert (picture.is_mirrored, picture.is_upside_down) == (is_mirrored, is_upside_down)
    shown = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_GRAYSCALE)
    settings = InputSettings((240, 160), crop_to_breast=False)
    seen = load_sample(record, input_settings=settings, classes=(), training=False)
    assert np.abs(shown - seen.image[0].numpy()).mean() < 6  # JPEG, and noise
    assert shown[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].min() > 235


@pytest.mark.parametrize("wall", ["left", "right"])
def test_a_source_picture_is_every_stored_pixel_and_hangs_as_the_small_one(
    tmp_path: Path, wall: str
) -> None:
    pixels = breast(wall=wall, height=1500, width=900)
    record = stored(tmp_path, pixels, Laterality.RIGHT)
    (picture,) = source_pictures([record])
    small = hung_picture(record)
    assert picture.media_type == "image/png"
    assert (picture.is_mirrored, picture.is_upside_down) == (wall == "left", False)
    assert (picture.is_mirrored, picture.is_upside_down) == (
        small.is_mirrored,
        small.is_upside_down,
    )
    shown = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(shown, pixels[:, ::-1] if wall == "left" else pixels)


def test_what_a_file_says_of_how_it_lies_goes_before_its_pixels(tmp_path: Path) -> None:
    """A wrong laterality, perhaps: the network's input is not mirrored either."""
    pixels = breast(wall="right")
    stated = write_dicom(tmp_path / "a.dcm", pixels, PatientOrientation=["A", "F"])
    silent = write_dicom(tmp_path / "b.dcm", pixels)
    for path, expected in ((stated, False), (silent, True)):
        record = replace(
            image(1, "A"), path=path, height=240, width=160, laterality=Laterality.LEFT
        )
        assert hung_picture(record).is_mirrored is expected


def test_a_breast_that_is_not_clear_stays_as_it_is() -> None:
    assert not must_mirror(np.zeros((50, 40), np.uint8), Laterality.RIGHT)
    square = np.zeros((200, 200), np.uint8)
    square[50:150, 50:150] = 200
    assert not must_mirror(square, Laterality.RIGHT)


def test_pictures_are_small_and_in_order(tmp_path: Path) -> None:
    large = stored(tmp_path, breast(wall="left", height=1500, width=900), Laterality.LEFT)
    for name in ("second", "third"):
        (tmp_path / name).mkdir()
    small = stored(tmp_path / "second", breast(wall="left"), Laterality.LEFT)
    half = breast(wall="left", height=SIDE_PX * 3 // 4, width=300)
    pictures = list(
        hung_pictures([large, small, stored(tmp_path / "third", half, Laterality.LEFT)])
    )
    shapes = [
        cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_UNCHANGED).shape
        for picture in pictures
    ]
    # None is enlarged.
    assert shapes == [(SIDE_PX, SIDE_PX * 900 // 1500), (240, 160), half.shape]
    assert [picture.media_type for picture in pictures] == ["image/jpeg"] * 3
    assert list(hung_pictures([])) == []


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    record = replace(image(1, "A"), path=tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"nowhere\.png"):
        list(hung_pictures([record]))
