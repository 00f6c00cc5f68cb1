"""Which flips does a training sample get, and what do they do to pixels and coordinates?

Shapes: h x w the network's input.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from simfrcnn.settings import AugmentationSettings
from simfrcnn.structures import Frame

Grey = TypeVar("Grey", np.uint8, np.uint16)


def draw_flips(settings: AugmentationSettings, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether to flip horizontally and vertically: always two draws, so streams stay aligned."""
    horizontal, vertical = rng.random(2)
    return bool(horizontal < settings.horizontal_flip), bool(vertical < settings.vertical_flip)


def flip(
    image: NDArray[Grey], frame: Frame, *, horizontal: bool, vertical: bool
) -> tuple[NDArray[Grey], Frame]:
    """Mirror an input image (h, w) and its frame: a flip is a negative scale.

    Box edges are half open, so edge x goes to w - x; nothing is off by one.
    """
    height, width = image.shape
    if horizontal:
        image = image[:, ::-1]
        frame = dataclasses.replace(frame, scale_x=-frame.scale_x, offset_x=width - frame.offset_x)
    if vertical:
        image = image[::-1]
        frame = dataclasses.replace(frame, scale_y=-frame.scale_y, offset_y=height - frame.offset_y)
    return np.ascontiguousarray(image), frame
