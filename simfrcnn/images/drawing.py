"""How are boxes drawn on mammograms, and how do several views hang in one picture?

Pictures that are drawn here carry a line of text that says so, and are never read as mammograms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

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
    moved to where it fits. Scores that would stand at one place, as those of a whole-image
    classifier, stand side by side; only a line of them that is wider than the image is cut.

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
    scores_at: dict[tuple[int, int], list[float]] = defaultdict(list)
    for box, score in zip(boxes, scores, strict=True):
        left, right = (_clipped(side, n_columns) for side in box[::2])
        top, bottom = (_clipped(side, n_rows) for side in box[1::2])
        cv2.rectangle(picture, (left, top), (right, bottom), _COLOUR, width)
        scores_at[left, max(12 * width, top - 4)].append(score)
    for place, own in _moved_in(scores_at, n_columns, width).items():
        cv2.putText(picture, _text(own), place, _FONT, 0.5 * width, _COLOUR, width)
    for ring in (ring for outline in outlines for ring in outline):
        # Points lie at pixel edges, the library's pixels at their own centres.
        points = np.floor(np.array(ring)).astype(np.int32)[:, None]
        cv2.polylines(picture, [points], True, _OUTLINE_COLOUR, width)
    return np.asarray(picture, dtype=np.uint8)


def _clipped(side: float, n_pixels: int) -> int:
    return min(max(round(side), 0), n_pixels - 1)


def _text(scores: Sequence[float]) -> str:
    return ", ".join(f"{score:.2f}" for score in scores)


def _moved_in(
    scores_at: Mapping[tuple[int, int], list[float]], n_columns: int, width: int
) -> Mapping[tuple[int, int], list[float]]:
    """Places at which the scores fit into the image; those that meet there share one."""
    moved: dict[tuple[int, int], list[float]] = defaultdict(list)
    for (left, base), own in scores_at.items():
        (text_width, _), _ = cv2.getTextSize(_text(own), _FONT, 0.5 * width, width)
        moved[max(0, min(left, n_columns - text_width - width)), base] += own
    if len(moved) == len(scores_at):
        return moved
    return _moved_in(moved, n_columns, width)  # a shared text is longer, and may not fit


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
