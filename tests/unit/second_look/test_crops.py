"""Squares and their pixels: by hand, against a slow twin, mirrored, beyond the picture."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from simfrcnn.errors import DataError
from simfrcnn.second_look.crops import (
    cut,
    least_sides,
    normalised,
    picture_of,
    squares_around,
    turned,
)
from simfrcnn.structures import Frame
from support.examples import positives


def test_squares_have_the_side_of_the_box_but_not_less_than_the_least() -> None:
    boxes = torch.tensor([[10.0, 20.0, 30.0, 30.0]])
    assert squares_around(boxes, context=1.5, least=(5.0, 5.0)).tolist() == [[5, 10, 35, 40]]
    assert squares_around(boxes, context=1.5, least=(50.0, 40.0)).tolist() == [[-5, 5, 45, 45]]


def test_the_least_side_is_in_mm_where_the_spacing_is_known() -> None:
    assert least_sides((0.5, 0.25), min_mm=24, size=64) == (96, 48)  # (row, column) spacing
    assert least_sides(None, min_mm=24, size=64) == (64, 64)


def test_whole_pixels_are_cut_as_they_are() -> None:
    pixels = torch.randint(0, 256, (20, 30), dtype=torch.uint8)
    found = cut(pixels, torch.tensor([[4.0, 3.0, 12.0, 11.0]]), 8)
    torch.testing.assert_close(found[0], pixels[3:11, 4:12].float())


def test_reducing_means_over_pixels_and_enlarging_interpolates() -> None:
    row = torch.tensor([0.0, 8.0, 16.0, 80.0, 160.0, 0.0]).expand(6, -1)
    reduced = cut(row, torch.tensor([[0.0, 0.0, 6.0, 6.0]]), 3)[0, 1]
    # Weights of .25, .75, .75, .25, halved; the first reaches beyond the edge, where there is 0.
    assert reduced.tolist() == pytest.approx([5, 0.5 * (2 + 12 + 60 + 40), 0.5 * (20 + 120 + 0)])
    enlarged = cut(row, torch.tensor([[1.0, 1.0, 3.0, 3.0]]), 4)[0, 1]
    assert enlarged.tolist() == pytest.approx([6, 10, 14, 32])


def slowly_cut(pixels: Tensor, square: list[float], size: int) -> Tensor:
    """Pixel by pixel."""
    height, width = pixels.shape
    x1, y1, x2, y2 = square
    across, down = (x2 - x1) / size, (y2 - y1) / size
    out = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size):
        for j in range(size):
            total = weights = 0.0
            cx, cy = x1 + (j + 0.5) * across, y1 + (i + 0.5) * down
            for y in range(-40, height + 40):
                wy = max(0.0, 1 - abs(y + 0.5 - cy) / max(down, 1))
                for x in range(-40, width + 40) if wy else ():
                    weight = wy * max(0.0, 1 - abs(x + 0.5 - cx) / max(across, 1))
                    weights += weight
                    if 0 <= y < height and 0 <= x < width:
                        total += weight * float(pixels[y, x])
            out[i, j] = total / weights
    return out


@pytest.mark.parametrize(
    "square",
    [[2.3, 1.7, 11.9, 15.2], [-6.5, 3.0, 9.5, 19.0], [8.1, 9.9, 10.6, 12.3], [15.0, 10.0, 35, 30]],
)
def test_squares_are_those_of_a_slow_twin(square: list[float]) -> None:
    pixels = torch.randint(0, 256, (17, 21), dtype=torch.uint8)
    found = cut(pixels, torch.tensor([square]), 5)[0]
    torch.testing.assert_close(found, slowly_cut(pixels, square, 5).float(), rtol=1e-5, atol=1e-3)


def test_a_square_far_larger_than_the_picture_costs_no_more_than_the_picture() -> None:
    """With weights for each pixel of its side this one would take 80 GB."""
    pixels = torch.full((17, 21), 100, dtype=torch.uint8)
    side = 1e9
    found = cut(pixels, torch.tensor([[-side / 4, -side / 2, 3 * side / 4, side / 2]]), 5)[0]
    step = side / 5  # the picture is a dot at a quarter of the width, half of the height
    down = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    across = torch.tensor([0.25, 0.75, 0.0, 0.0, 0.0])  # by distance from .5, 1.5 steps
    expected = 100 * 17 * 21 * torch.outer(down, across) / step**2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-18)


def test_beyond_the_picture_is_black() -> None:
    pixels = torch.full((10, 10), 200, dtype=torch.uint8)
    outside = torch.tensor([[40.0, 0.0, 50.0, 10.0], [0.0, -90.0, 10.0, -80.0]])
    assert cut(pixels, outside, 4).abs().sum() == 0
    half = cut(pixels, torch.tensor([[0.0, 5.0, 10.0, 15.0]]), 10)[0]
    assert half[:5].tolist() == [[200] * 10] * 5
    assert half[5:].abs().sum() == 0


def test_a_mirrored_picture_gives_mirrored_squares() -> None:
    pixels = torch.randint(0, 256, (40, 30), dtype=torch.uint8)
    square, mirrored = (
        torch.tensor([[3.2, 5.1, 19.7, 21.6]]),
        torch.tensor([[10.3, 5.1, 26.8, 21.6]]),
    )
    one = cut(pixels, square, 8)
    torch.testing.assert_close(cut(pixels.flip(1), mirrored, 8).flip(2), one, rtol=0, atol=1e-3)


def test_squares_are_normalised_one_by_one() -> None:
    squares = torch.stack([torch.arange(16.0).reshape(4, 4), torch.full((4, 4), 90.0)])
    done = normalised(squares)
    assert float(done[0].mean()) == pytest.approx(0, abs=1e-6)
    assert float(done[0].square().mean()) == pytest.approx(1)
    assert float(done[0, 0, 0]) == pytest.approx(-7.5 / 21.25**0.5)
    assert done[1].abs().sum() == 0
    faint = normalised(torch.tensor([[[10.0, 10.0], [10.0, 10.2]]]))  # noise is not blown up
    assert float(faint.max()) == pytest.approx(0.15, abs=1e-5)


def test_the_eight_positions_of_a_square() -> None:
    square = torch.arange(9.0).reshape(1, 3, 3)
    positions = turned(square.expand(8, -1, -1), torch.arange(8))
    assert len({tuple(each.flatten().tolist()) for each in positions}) == 8
    assert torch.equal(positions[0], square[0])
    assert positions[1, 0].tolist() == [2, 1, 0]
    assert positions[2, 0].tolist() == [6, 7, 8]
    assert positions[4, 0].tolist() == [0, 3, 6]


def test_a_sample_shows_its_stored_pixels_or_its_input() -> None:
    (plain,) = positives(1)
    record = dataclasses.replace(plain.record, pixel_spacing_mm=(0.4, 0.2))
    sample = dataclasses.replace(plain, record=record, frame=Frame(-0.5, 128, 0.25, 0, 512, 256))
    picture = picture_of(sample, "input")
    assert torch.equal(picture.pixels, sample.image[0])
    assert picture.spacing_mm == (1.6, 0.4)
    assert picture.frame.to_input(torch.tensor([[1.0, 2, 3, 4]])).tolist() == [[1, 2, 3, 4]]
    with pytest.raises(DataError, match=r"image1\.png was loaded without .*SOURCE to input"):
        picture_of(sample, "native")
