"""Where is the box of an annotation, in pixels of its image?

Annotations have a `bbox` (x, y, width, height), an outline (`segmentation`: polygons, or a mask as
run lengths), or both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from simfrcnn import outlines
from simfrcnn.data.sources.coco.documents import Drawn, Picture
from simfrcnn.errors import AnnotationError
from simfrcnn.records import Box, Outline

UNITS = {
    "pixels": "x, y of the upper left corner, width, height in pixels",
    "fractions": "the same as fractions of the image",
    "centres": "centre x, centre y, width, height as fractions of the image (YOLO)",
}
"""What four numbers of a bbox can mean -> in words."""


def are_fractions(pictures: Sequence[Picture]) -> bool:
    """Whether all boxes lie within 0..1: smaller than a pixel, they are no pixels."""
    boxes = [numbers for p in pictures for d in p.drawn if (numbers := _numbers(d))]
    return bool(boxes) and all(min(b) >= 0 and max(b) <= 1 for b in boxes)


def box_of(drawn: Drawn, height: int, width: int, units: str) -> Box | str:
    """The box of an annotation, clipped to its image, or why it has none."""
    found = _stated(drawn, height, width, units) or _outlined(drawn, height, width)
    if isinstance(found, str):
        return found
    x1, y1, x2, y2 = found
    if x2 - x1 <= 0 or y2 - y1 <= 0:
        return "has no area"
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if box[0] >= box[2] or box[1] >= box[3]:
        return f"lies outside of its image, which is {width} wide and {height} high"
    return box


def outline_of(
    drawn: Drawn, box: Box, height: int, width: int, units: str
) -> tuple[Outline, str | None]:
    """The outline of an annotation, mended where it crosses itself or leaves its image.

    Returns:
        The outline, or an empty one and why it is not taken; both are empty where nothing is drawn.
    """
    value = drawn.entry.get("segmentation")
    if not value or value == [[]]:
        return (), None
    if units != "pixels":
        return (), "is not in pixels"
    try:
        read = outlines.read_segmentation(value, height, width).outline
    except AnnotationError as error:
        return (), str(error)
    outline = outlines.clean(read, height, width)
    if not outline:
        return (), "has no area inside its image"
    return (outline, None) if outlines.fits(outline, box) else ((), "does not fit its box")


def leaves(drawn: Drawn, height: int, width: int, units: str) -> bool:
    """Whether a stated box leaves its image by more than rounding."""
    box = _stated(drawn, height, width, units)
    if box is None:
        return False
    slack = 1e-2
    outside = min(box[:2]) < -slack or box[2] > width + slack or box[3] > height + slack
    return bool(outside)


def is_crowd(drawn: Drawn) -> bool:
    """Whether the annotation says that it is of a crowd, as tools say of each mask."""
    return drawn.entry.get("iscrowd") in (1, "1", True)


def _numbers(drawn: Drawn) -> tuple[float, float, float, float] | None:
    values = drawn.entry.get("bbox")
    if not isinstance(values, list) or len(values) != 4:
        return None
    try:
        x, y, width, height = (float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return (x, y, width, height) if all(map(math.isfinite, (x, y, width, height))) else None


def _stated(drawn: Drawn, height: int, width: int, units: str) -> Box | None:
    numbers = _numbers(drawn)
    if numbers is None or numbers[2:] == (0.0, 0.0):
        return None
    x, y, w, h = numbers
    if units == "pixels":
        return x, y, x + w, y + h
    if units == "centres":
        x, y = x - w / 2, y - h / 2
    return x * width, y * height, (x + w) * width, (y + h) * height


def _outlined(drawn: Drawn, height: int, width: int) -> Box | str:
    """The box round polygons or a mask."""
    outline: Any = drawn.entry.get("segmentation")
    if not outline:
        return "has neither a bbox of four numbers nor an outline"
    try:
        if isinstance(outline, dict):
            return _of_mask(outline, height, width)
        points = [np.asarray(part, float).reshape(-1, 2) for part in outline]
        x, y = np.concatenate(points).T
    except (ValueError, TypeError, OverflowError) as error:
        return f"has an outline that is not understood ({type(error).__name__})"
    if not len(x) or not np.isfinite([x, y]).all():
        return "has an outline without a point, or with one that is no number"
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _of_mask(outline: dict[str, Any], height: int, width: int) -> Box | str:
    try:
        mask = outlines.Rle.from_json(outline)
    except ValueError as error:
        return f"has a mask that cannot be read: {error}"
    if (mask.height, mask.width) != (height, width):
        return f"has a mask of size {outline['size']}, its image is [{height}, {width}]"
    return mask.box
