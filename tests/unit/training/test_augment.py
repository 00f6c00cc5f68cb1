"""Flips: pixels and coordinates together, and a pure function of the generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simfrcnn.images.preprocess import flip, to_input
from simfrcnn.settings import AugmentationSettings, InputSettings
from simfrcnn.training.augment import draw_flips

PIXELS = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
INPUT = to_input(PIXELS, InputSettings((24, 30), crop_to_breast=False, keep_aspect=True))


def test_horizontal_flip_by_hand() -> None:
    image, frame = flip(*INPUT, horizontal=True, vertical=False)
    np.testing.assert_array_equal(image, INPUT[0][:, ::-1])
    # scale 2: x 1..3 -> 2..6, of 30 px -> 24..28
    assert frame.to_input(torch.tensor([[1.0, 2, 3, 5]])).tolist() == [[24, 4, 28, 10]]


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
def test_the_content_of_a_box_stays_its_content(horizontal: bool, vertical: bool) -> None:
    box = torch.tensor([[2.0, 3, 7, 11]])
    image, frame = flip(*INPUT, horizontal=horizontal, vertical=vertical)

    def content(picture: np.ndarray, boxes: torch.Tensor) -> np.ndarray:
        x1, y1, x2, y2 = boxes[0].int().tolist()
        return np.sort(picture[y1:y2, x1:x2], axis=None)

    before = content(INPUT[0], INPUT[1].to_input(box))
    np.testing.assert_array_equal(content(image, frame.to_input(box)), before)


@settings(max_examples=100)
@given(
    box=st.tuples(st.floats(0, 10), st.floats(0, 12), st.floats(0, 10), st.floats(0, 12)),
    horizontal=st.booleans(),
    vertical=st.booleans(),
)
def test_round_trip_with_flips(
    box: tuple[float, float, float, float], horizontal: bool, vertical: bool
) -> None:
    x, y = sorted((box[0], box[2])), sorted((box[1], box[3]))
    boxes = torch.tensor([[x[0], y[0], x[1], y[1]]])
    _, frame = flip(*INPUT, horizontal=horizontal, vertical=vertical)
    inside = frame.to_input(boxes)
    assert (inside[:, :2] <= inside[:, 2:]).all()
    assert (frame.to_original(inside) - boxes).abs().max() < 1e-3
    _, again = flip(INPUT[0], frame, horizontal=horizontal, vertical=vertical)
    assert again == INPUT[1]


def test_draws_follow_the_generator_and_the_probabilities() -> None:
    both = AugmentationSettings(1.0, 0.0)
    assert draw_flips(both, np.random.default_rng(0)) == (True, False)
    settings_ = AugmentationSettings(0.5, 0.25)
    draws = [draw_flips(settings_, np.random.default_rng([3, n])) for n in range(2000)]
    again = [draw_flips(settings_, np.random.default_rng([3, n])) for n in range(2000)]
    assert draws == again
    horizontal, vertical = np.mean(draws, axis=0)
    assert horizontal == pytest.approx(0.5, abs=0.05)
    assert vertical == pytest.approx(0.25, abs=0.05)
