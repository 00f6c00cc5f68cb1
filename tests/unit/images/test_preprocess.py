"""The exact map from stored to input pixels: by hand, by marking pixels, by property."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simfrcnn.images.preprocess import to_input
from simfrcnn.settings import InputSettings

NO_CROP = InputSettings(size_px=(50, 40), crop_to_breast=False, keep_aspect=True)


def test_stretch_by_hand() -> None:
    pixels = np.zeros((100, 200), dtype=np.uint8)
    _, frame = to_input(pixels, InputSettings((50, 50), crop_to_breast=False, keep_aspect=False))
    box = torch.tensor([[20.0, 10.0, 60.0, 30.0]])
    assert frame.to_input(box).tolist() == [[5, 5, 15, 15]]


def test_keep_aspect_pads_right_and_below_with_0() -> None:
    wide, frame = to_input(np.full((100, 200), 9, dtype=np.uint8), NO_CROP)
    assert wide.shape == (50, 40)
    assert (wide[:20] == 9).all()
    assert (wide[20:] == 0).all()
    assert (frame.scale_x, frame.scale_y) == (0.2, 0.2)
    tall, _ = to_input(np.full((200, 40), 9, dtype=np.uint8), NO_CROP)
    assert (tall[:, :10] == 9).all()
    assert (tall[:, 10:] == 0).all()


def test_shrinking_averages_and_enlarging_interpolates() -> None:
    checkers = (np.indices((40, 40)).sum(axis=0) % 2 * 200).astype(np.uint8)
    shrunk, _ = to_input(checkers, InputSettings((20, 20), False, False))
    assert (shrunk == 100).all()
    step = np.array([[0, 100]], dtype=np.uint8)
    enlarged, _ = to_input(step, InputSettings((1, 4), False, False))
    assert enlarged.tolist() == [[0, 25, 75, 100]]
    mixed, _ = to_input(np.repeat(step, 2, axis=0), InputSettings((1, 4), False, False))
    assert mixed.tolist() == [[0, 25, 75, 100]]


def test_crop_finds_the_breast_and_holds_what_is_kept() -> None:
    pixels = np.zeros((200, 300), dtype=np.uint8)
    pixels[50:150, 0:100] = 180
    settings_ = InputSettings((64, 64), crop_to_breast=True, keep_aspect=False)
    _, frame = to_input(pixels, settings_)
    corners = frame.to_original(torch.tensor([[0.0, 0, 64, 64]]))[0]
    assert corners.tolist() == pytest.approx([0, 50, 100, 150], abs=12)
    keep = (250.0, 10.25, 280.5, 40.0)
    _, wider = to_input(pixels, settings_, keep=[keep])
    x1, y1, x2, y2 = wider.to_original(torch.tensor([[0.0, 0, 64, 64]]))[0].tolist()
    assert (x1, y1) == pytest.approx((0, 10))
    assert x2 == pytest.approx(281)
    assert y2 == pytest.approx(150, abs=12)


def test_a_marked_pixel_lands_where_the_frame_says() -> None:
    pixels = np.zeros((90, 60), dtype=np.uint8)
    pixels[30:36, 12:18] = 255
    image, frame = to_input(pixels, InputSettings((45, 60), False, True))
    x1, y1, x2, y2 = (
        round(v) for v in frame.to_input(torch.tensor([[12.0, 30, 18, 36]]))[0].tolist()
    )
    assert (image[y1:y2, x1:x2] == 255).all()
    assert image.sum() == 255 * (y2 - y1) * (x2 - x1)


@settings(max_examples=200)
@given(
    height=st.integers(2, 900),
    width=st.integers(2, 900),
    size=st.tuples(st.integers(32, 700), st.integers(32, 700)),
    crop=st.booleans(),
    keep_aspect=st.booleans(),
    fractions=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_round_trip_of_boxes(
    height: int,
    width: int,
    size: tuple[int, int],
    crop: bool,
    keep_aspect: bool,
    fractions: tuple[float, float, float, float],
) -> None:
    pixels = np.zeros((height, width), dtype=np.uint8)
    pixels[height // 4 : height // 2 + 1, : width // 2 + 1] = 200
    xs, ys = sorted(fractions[:2]), sorted(fractions[2:])
    box = (xs[0] * width, ys[0] * height, xs[1] * width, ys[1] * height)
    image, frame = to_input(pixels, InputSettings(size, crop, keep_aspect), keep=[box])
    assert image.shape == size
    boxes = torch.tensor([box], dtype=torch.float64)
    inside = frame.to_input(boxes)
    assert (inside >= -1e-6).all()
    assert (inside[:, [0, 2]] <= size[1] + 1e-6).all()
    assert (inside[:, [1, 3]] <= size[0] + 1e-6).all()
    assert (frame.to_original(inside) - boxes).abs().max() < 1e-3
    single = frame.to_original(frame.to_input(boxes.float()))
    assert (single - boxes).abs().max() < 1e-3
