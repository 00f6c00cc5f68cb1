"""How are boxes drawn on mammograms, and how do several views hang in one picture?

Pictures that are drawn here carry a line of text that says so, and are never read as mammograms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from simfrcnn.images.png import OVERLAY_KEYWORD, encode_png
from simfrcnn.records import Box, Laterality, Outline, ViewPosition

_COLOUR = (0, 200, 255)
"""Of frames and scores, BGR."""
_OUTLINE_COLOUR = (255, 200, 0)
"""Of outlines, BGR."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP_PX = 8
_OPAQUE = 0.6
"""What a heat map of 1 hides of the picture."""


def draw_boxes(
    pixels: NDArray[np.uint8],
    boxes: Sequence[Box],
    scores: Sequence[float],
    outlines: Sequence[Outline] = (),
) -> NDArray[np.uint8]:
    """The image in grey, with a frame round every box and its score above it, and outlines.

    A frame is cut at the edges of the image, and drawn on its first and last pixels. A score is
    moved to where it fits. Scores that would be drawn over one another, as those of a whole-image
    classifier or of boxes that overlap, stand side by side; only a line of them that is wider than
    the image is cut.

    Args:
        pixels: (H, W), white = dense.
        boxes: XYXY in pixels of this image.
        scores: One for each box.
        outlines: In pixels of this image.

    Returns:
        (H, W, 3) BGR.
    """
    picture = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    width = max(1, round(max(pixels.shape) / 500))
    n_rows, n_columns = pixels.shape
    lines: list[_Line] = []
    for box, score in zip(boxes, scores, strict=True):
        left, right = (_clipped(side, n_columns) for side in box[::2])
        top, bottom = (_clipped(side, n_rows) for side in box[1::2])
        cv2.rectangle(picture, (left, top), (right, bottom), _COLOUR, width)
        line = _Line(left, max(12 * width, top - 4), (score,), width)
        lines = _with_line(lines, line, n_columns)
    for line in lines:
        place = (line.left, line.base)
        cv2.putText(picture, line.text, place, _FONT, 0.5 * width, _COLOUR, width)
    for ring in (ring for outline in outlines for ring in outline):
        # Points lie at pixel edges, the library's pixels at their own centres.
        points = np.floor(np.array(ring)).astype(np.int32)[:, None]
        cv2.polylines(picture, [points], True, _OUTLINE_COLOUR, width)
    return np.asarray(picture, dtype=np.uint8)


def _clipped(side: float, n_pixels: int) -> int:
    return min(max(round(side), 0), n_pixels - 1)


@dataclass(frozen=True)
class _Line:
    """Scores that stand side by side: where the text begins, and the width of its strokes."""

    left: int
    base: int
    scores: tuple[float, ...]
    stroke: int

    @property
    def text(self) -> str:
        return ", ".join(f"{score:.2f}" for score in self.scores)

    def moved_in(self, n_columns: int) -> _Line:
        """So that its end is within the image, or else its beginning."""
        left, _, right, _ = self.frame
        return replace(self, left=max(0, min(left, n_columns - (right - left) - self.stroke)))

    def meets(self, other: _Line) -> bool:
        """Whether the one would be drawn over the other."""
        (left, top, right, bottom), (left_2, top_2, right_2, bottom_2) = self.frame, other.frame
        return left < right_2 and left_2 < right and top < bottom_2 and top_2 < bottom

    @cached_property
    def frame(self) -> tuple[int, int, int, int]:
        (length, height), below = cv2.getTextSize(self.text, _FONT, 0.5 * self.stroke, self.stroke)
        return self.left, self.base - height, self.left + length, self.base + below


def _with_line(lines: Sequence[_Line], line: _Line, n_columns: int) -> list[_Line]:
    """The lines and another one, which takes in those that it would be drawn over."""
    line = line.moved_in(n_columns)
    met = [other for other in lines if other.meets(line)]
    if not met:
        return [*lines, line]
    apart = [other for other in lines if other not in met]
    scores = sorted((score for one in (*met, line) for score in one.scores), reverse=True)
    return _with_line(apart, replace(met[0], scores=tuple(scores)), n_columns)


def draw_heat(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image in grey, with a map over it: from clear, where it is 0, to red, where it is 1.

    The scale is the same for every image and class, so that pictures can be compared.

    Args:
        pixels: (H, W), white = dense.
        heat: (h, w) in [0, 1], over the whole image.

    Returns:
        (H, W, 3) BGR.
    """
    height, width = pixels.shape
    values = np.clip(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    colours = cv2.applyColorMap(np.rint(values * 255).astype(np.uint8), cv2.COLORMAP_JET)
    share = (_OPAQUE * values)[..., None]
    grey = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    drawn: NDArray[np.uint8] = np.rint(grey * (1 - share) + colours * share).astype(np.uint8)
    return drawn


def hung_side_by_side(
    pictures: Sequence[NDArray[np.uint8]],
    views: Sequence[tuple[Laterality | None, ViewPosition | None]],
    *,
    height_px: int = 800,
) -> NDArray[np.uint8]:
    """Views of an exam in one picture: CC, MLO, then others; the right breast left of the left one.

    Args:
        pictures: (H, W, 3) each, already turned into the standard hanging.
        views: Side and view of each; those of an unknown side come last.
        height_px: Of the whole; every picture is brought to it.

    Returns:
        (``height_px``, W, 3).
    """
    if not pictures:
        return np.zeros((height_px, height_px, 3), dtype=np.uint8)
    order = sorted(range(len(pictures)), key=lambda index: _place_in_row(*views[index]))
    row: list[NDArray[np.uint8]] = []
    for index in order:
        height, width = pictures[index].shape[:2]
        size = (max(1, round(width * height_px / height)), height_px)
        row.append(np.asarray(cv2.resize(pictures[index], size, interpolation=cv2.INTER_AREA)))
        row.append(np.zeros((height_px, _GAP_PX, 3), dtype=np.uint8))
    return np.concatenate(row[:-1], axis=1)


def as_marked_png(picture: NDArray[np.uint8]) -> bytes:
    """A PNG file of a drawn picture, marked so that `predict` never takes it for a mammogram.

    Args:
        picture: (H, W, 3) BGR, or grey (H, W).
    """
    rgb = picture[..., ::-1] if picture.ndim == 3 else picture
    return encode_png(np.ascontiguousarray(rgb), {OVERLAY_KEYWORD: "predict"})


def _place_in_row(laterality: Laterality | None, view: ViewPosition | None) -> tuple[int, int]:
    views = [ViewPosition.CC, ViewPosition.MLO, ViewPosition.OTHER, None]
    sides = [Laterality.RIGHT, Laterality.LEFT, None]
    return views.index(view), sides.index(laterality)
