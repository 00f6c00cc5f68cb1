"""Where the frames and scores of an exam's picture stand when its films are turned."""

import dataclasses

import cv2
import numpy as np
import pytest

from simfrcnn.dicom.mammogram import STRICT, read_mammogram
from simfrcnn.dicom.view import AS_STORED, Flips
from simfrcnn.exam import Detection, ExamResult, ImageResult
from simfrcnn.images.hanging import hung_picture, must_mirror, source_picture
from simfrcnn.images.reading import record_and_greys
from simfrcnn.outlines import rle_of_box
from simfrcnn.records import Laterality
from simfrcnn.service.web_pixels import film_pixels
from support.data_examples import write_dicom
from support.results import phantom_films

SHAPE = (200, 120)
BOX = (10.0, 60.0, 50.0, 90.0)


def image(box, flips, pixels=None, **facts):
    found = (Detection(box, 0.87, "malignant", **facts),)
    pixels = np.zeros(SHAPE, np.uint8) if pixels is None else pixels
    view = ImageResult("f", 1, *pixels.shape, found, ("malignant",), pixels=pixels, flips=flips)
    return dataclasses.replace(view, laterality=Laterality.RIGHT)


def sheet(view):
    return ExamResult("exam", "patient", 0.87, None, (view,)).draw(height_px=view.height)


@pytest.mark.parametrize(
    ("flips", "there"),
    [
        (Flips(horizontal=True, is_stated=True), (70.0, 60.0, 110.0, 90.0)),
        (Flips(vertical=True, is_stated=True), (10.0, 110.0, 50.0, 140.0)),
        (Flips(True, True, is_stated=True), (70.0, 110.0, 110.0, 140.0)),
    ],
)
def test_a_turned_film_has_frame_and_score_as_if_it_had_been_stored_so(flips, there):
    """The digits above all: 0.87 in a mirror is no number that anybody can read."""
    assert (sheet(image(BOX, flips)) == sheet(image(there, AS_STORED))).all()
    assert sheet(image(BOX, flips)).any()


def test_a_mask_is_turned_with_its_film():
    picture = sheet(
        image(BOX, Flips(horizontal=True, is_stated=True), mask=rle_of_box(BOX, *SHAPE))
    )
    edges = np.argwhere((picture == (255, 200, 0)).all(axis=2))
    assert edges.min(axis=0).tolist() == [60, 70]
    assert edges.max(axis=0).tolist() == [90, 110]


def test_a_film_that_does_not_say_how_it_lies_hangs_with_its_chest_wall_outside(tmp_path):
    """As in the report: a right breast whose chest wall is stored at the left is mirrored."""
    film = read_mammogram(phantom_films(tmp_path)[2])
    assert film.laterality is Laterality.RIGHT
    hung = film.display.flips.turned(film.display.as_uint8())
    there = (hung.shape[1] - BOX[2], BOX[1], hung.shape[1] - BOX[0], BOX[3])
    wrong = image(BOX, AS_STORED, np.ascontiguousarray(hung[:, ::-1]))
    assert (sheet(wrong) == sheet(image(there, AS_STORED, hung))).all()
    assert (wrong.draw() == image(there, AS_STORED, hung).draw()).mean() < 0.9


@pytest.mark.parametrize(
    ("height", "width", "slope", "is_mirrored"), [(1600, 1000, 369, True), (2047, 1537, 476, False)]
)
def test_a_breast_whose_side_is_just_clear_hangs_alike_everywhere(
    tmp_path, height, width, slope, is_mirrored
):
    """At full size its side would be judged otherwise than at that of the report."""
    pixels = np.full((height, width), 5, np.uint8)
    top, bottom, tip = height // 5, height * 4 // 5, width * 2 // 3
    corners = [[0, top], [tip, top + slope // 2], [tip, bottom - slope // 2], [0, bottom]]
    cv2.fillConvexPoly(pixels, np.array(corners), 150)
    window = {"WindowCenter": 128, "WindowWidth": 256}  # values are greys
    path = write_dicom(tmp_path / "film.dcm", pixels, ImageLaterality="R", **window)
    record, greys = record_and_greys(path, 0, STRICT)
    assert record.laterality is Laterality.RIGHT
    assert must_mirror(greys.as_uint8(), Laterality.RIGHT) is not is_mirrored
    assert hung_picture(record).is_mirrored is is_mirrored
    assert source_picture(record).is_mirrored is is_mirrored
    assert film_pixels(path, STRICT).flips.horizontal is is_mirrored
    there = (width - BOX[2], BOX[1], width - BOX[0], BOX[3]) if is_mirrored else BOX
    drawn = image(BOX, greys.flips, greys.as_uint8()).draw(hung=True)
    hung = Flips(horizontal=is_mirrored).turned(greys.as_uint8())
    assert (drawn == image(there, AS_STORED, hung).draw()).all()
