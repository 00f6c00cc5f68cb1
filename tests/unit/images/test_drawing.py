"""What drawn pictures show, and how several views hang in one."""

import cv2
import numpy as np

from simfrcnn.images.drawing import as_marked_png, draw_boxes, hung_side_by_side
from simfrcnn.images.png import OVERLAY_KEYWORD, text_of
from simfrcnn.records import Laterality, ViewPosition


def test_a_frame_is_drawn_and_the_image_stays_grey_elsewhere():
    pixels = np.full((120, 100), 77, dtype=np.uint8)
    picture = draw_boxes(pixels, [(10.0, 20.0, 30.0, 50.0)], [0.9])
    is_coloured = (picture != 77).any(axis=2)
    assert is_coloured[20:51, 10].all()
    assert is_coloured[50, 10:31].all()
    assert not is_coloured[22:49, 12:29].any()
    assert not is_coloured[52:].any()
    assert (pixels == 77).all()
    assert (draw_boxes(pixels, [], []) == 77).all()


def test_a_frame_and_its_score_at_the_far_edges_are_whole():
    """Else a finding at the chest wall of a right breast has half a frame and half a score."""
    pixels = np.full((120, 100), 77, dtype=np.uint8)
    is_coloured = (draw_boxes(pixels, [(95.0, 60.0, 100.0, 120.0)], [0.87]) != 77).any(axis=2)
    assert is_coloured[60:, 99].all()
    assert is_coloured[119, 95:].all()
    in_the_middle = (draw_boxes(pixels, [(20.0, 60.0, 25.0, 80.0)], [0.87]) != 77).any(axis=2)
    assert is_coloured[:58].sum() == in_the_middle[:58].sum() > 50


def coloured(boxes, scores):
    picture = draw_boxes(np.full((120, 100), 77, dtype=np.uint8), boxes, scores)
    return (picture != 77).any(axis=2)


def test_scores_that_are_moved_to_one_place_stand_side_by_side():
    """One over the other, neither could be read."""
    boxes = [(90.0, 60.0, 97.0, 80.0), (92.0, 60.0, 99.0, 80.0)]
    both = coloured(boxes, [0.87, 0.31])[:58]
    assert (both == coloured(boxes[:1] * 2, [0.87, 0.31])[:58]).all()
    in_the_middle = coloured([(5.0, 60.0, 20.0, 80.0)] * 2, [0.87, 0.31])[:58]
    assert both.sum() == in_the_middle.sum() > 100  # whole


def test_a_line_of_scores_that_is_moved_onto_another_score_takes_it_in():
    """Two scores at the right edge become one text, which then begins where the third one does."""
    (text_width, _), _ = cv2.getTextSize("0.87, 0.31", cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    start = float(100 - text_width - 1)
    boxes = [(90.0, 60.0, 99.0, 80.0)] * 2 + [(start, 60.0, 99.0, 80.0)]
    at_once = coloured([(0.0, 60.0, 99.0, 80.0)] * 3, [0.87, 0.31, 0.5])[:58]
    assert (coloured(boxes, [0.87, 0.31, 0.5])[:58] == at_once).all()


def test_scores_of_boxes_that_overlap_stand_side_by_side_and_others_where_they_are():
    near, far = (5.0, 60.0, 60.0, 80.0), (5.0, 90.0, 60.0, 110.0)
    overlapping = coloured([near, (12.0, 64.0, 60.0, 80.0)], [0.87, 0.31])[:58]
    assert (overlapping == coloured([near, near], [0.87, 0.31])[:58]).all()
    assert (overlapping == coloured([near, near], [0.31, 0.87])[:58]).all()  # the higher one first
    apart = coloured([near, far], [0.87, 0.31])
    assert (apart == coloured([near], [0.87]) | coloured([far], [0.31])).all()


def test_a_box_beyond_the_near_edges_is_drawn_at_them():
    inside = coloured([(0.0, 0.0, 30.0, 50.0)], [0.9])
    assert (coloured([(-5.0, -7.0, 30.0, 50.0)], [0.9]) == inside).all()
    assert inside[:51, 0].all()
    assert inside[0, :31].all()


def test_views_hang_in_pairs_with_the_right_breast_at_the_left():
    views = [
        (Laterality.LEFT, ViewPosition.MLO),
        (None, None),
        (Laterality.LEFT, ViewPosition.CC),
        (Laterality.RIGHT, ViewPosition.MLO),
        (Laterality.RIGHT, ViewPosition.CC),
    ]
    pictures = [np.full((40, 20, 3), 10 * (n + 1), np.uint8) for n in range(5)]
    row = hung_side_by_side(pictures, views, height_px=80)
    assert row.shape == (80, 5 * 40 + 4 * 8, 3)
    assert row[40, 20::48, 0].tolist() == [50, 30, 40, 10, 20]
    assert hung_side_by_side([], [], height_px=80).shape == (80, 80, 3)


def test_a_drawn_picture_says_that_it_was_drawn():
    content = as_marked_png(np.zeros((4, 5, 3), np.uint8))
    assert text_of(content, OVERLAY_KEYWORD) == "predict"
