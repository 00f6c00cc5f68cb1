"""Boxes of class maps, drawn by hand."""

from __future__ import annotations

import pytest
import torch

from simfrcnn.sampling.maps import box_of_map, over_image
from simfrcnn.structures import Frame

SIZE = (160, 192)  # 5 x 6 cells of 32 pixels


def drawn(*rows):
    """A map of digits."""
    return torch.tensor([[float(c) for c in row] for row in rows])


def box(cells, size=SIZE, **how):
    return box_of_map(cells, size, stride=32, **how).tolist()


def test_the_box_of_one_region_is_its_cells_borders():
    cells = drawn("000000", "000990", "009990", "000000", "000000")
    assert box(cells) == [64, 32, 160, 96]


def test_a_fifth_of_the_way_up_belongs_to_it_and_less_does_not():
    assert box(drawn("000000", "001290", "000000", "000000", "000000")) == [96, 32, 160, 64]
    # min 1, max 6: from 2 on.
    assert box(drawn("111111", "112611", "111111", "111111", "111111")) == [64, 32, 128, 64]


def test_the_largest_of_two_counts_and_the_highest_if_that_is_asked_for():
    cells = drawn("900000", "000000", "000555", "000550", "000000")
    assert box(cells) == [96, 64, 192, 128]
    assert box(cells, component="highest") == [0, 0, 32, 32]


def test_of_equal_regions_the_first_counts_and_corners_do_not_join():
    assert box(drawn("000099", "000000", "990000", "000000", "000000")) == [128, 0, 192, 32]
    assert box(drawn("000000", "090000", "009000", "000000", "000000")) == [32, 32, 64, 64]


def test_of_equal_highest_cells_the_first_counts():
    cells = drawn("000000", "000700", "000000", "770000", "000000")
    assert box(cells, component="highest") == [96, 32, 128, 64]


@pytest.mark.parametrize("value", [0.0, -3.0, float("nan")])
def test_a_constant_map_gives_the_whole_image(value):
    assert box(torch.full((5, 6), value)) == [0, 0, 192, 160]


def test_a_map_of_one_cell_gives_the_whole_image():
    assert box(torch.tensor([[3.0]]), size=(20, 30)) == [0, 0, 30, 20]


def test_the_last_cells_end_at_the_image():
    cells = drawn("00", "09")
    assert box(cells, size=(40, 50)) == [32, 32, 50, 40]


def test_cells_of_a_network_that_does_not_pad_share_the_image():
    cells = torch.zeros(8, 8)
    cells[0, 7] = 1
    assert box(cells, size=(320, 320)) == [280, 0, 320, 40]


def test_a_map_is_laid_over_the_stored_image_the_way_its_boxes_go():
    """Stored 128 x 256, cut to x in 64..192, mirrored, halved: input 64 x 64, cells of 16."""
    frame = Frame(-0.5, 96.0, 0.5, 0.0, original_height=128, original_width=256)
    maps = torch.zeros(2, 4, 4)
    maps[1, 2, 0] = 1.0
    laid = over_image(maps, (64, 64), stride=16, frame=frame, longest=256)
    assert laid.shape == (2, 128, 256)
    assert not laid[0].any()
    y, x = divmod(int(laid[1].argmax()), 256)
    box = frame.to_original(torch.tensor([[0.0, 32.0, 16.0, 48.0]]))[0].tolist()
    assert box == [160.0, 64.0, 192.0, 96.0]
    assert box[0] <= x < box[2]
    assert box[1] <= y < box[3]
    # At the centre of its cell the map has the cell's value; half a cell on, half of it.
    assert float(laid[1, 79:81, 175:177].mean()) == pytest.approx(1.0, abs=0.04)
    assert float(laid[1, 79:81, 159:161].mean()) == pytest.approx(0.5, abs=0.02)
    # Beyond the cut the outermost cells stay.
    assert float(laid[1, 80, 250]) == pytest.approx(1.0, abs=0.04)
