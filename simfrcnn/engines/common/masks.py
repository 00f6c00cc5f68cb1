"""How does what a mask head says of a box become a mask of the stored image?

Shapes: D detections of an image, m x m the grid that the head lays over a box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simfrcnn.outlines import Rle, rle_of_window
from simfrcnn.structures import Frame

FloatArray = NDArray[np.float32]

INSIDE = 0.5
"""From which probability on a pixel lies inside."""


def masks_of(
    grids: Tensor, boxes: Tensor, scores: Tensor, frame: Frame, *, min_score: float
) -> tuple[Rle | None, ...]:
    """The masks of detections in original pixels, made and packed one at a time.

    Args:
        grids: (D, m, m) probabilities that a point of a box lies inside.
        boxes: (D, 4) in input pixels.
        scores: (D,)
        frame: Of the image.
        min_score: Below it no mask is made, and the entry is None.
    """
    corners = boxes.detach().double().cpu()
    return tuple(
        pasted(grid.float().cpu().numpy(), box.tolist(), frame) if score >= min_score else None
        for grid, box, score in zip(grids.detach(), corners, scores.tolist(), strict=True)
    )


def pasted(grid: FloatArray, box: Sequence[float], frame: Frame) -> Rle:
    """One mask: the grid, bilinear between the centres of its cells, where it is at least .5.

    Args:
        grid: (m, m) probabilities.
        box: In input pixels.
        frame: Of the image.
    """
    x1, y1, x2, y2 = box
    columns, left = _weights(
        x1, x2, frame.scale_x, frame.offset_x, frame.original_width, grid.shape[1]
    )
    rows, top = _weights(
        y1, y2, frame.scale_y, frame.offset_y, frame.original_height, grid.shape[0]
    )
    inside = rows @ grid @ columns.T >= INSIDE
    return rle_of_window(inside, (left, top), frame.original_height, frame.original_width)


def _weights(
    start: float, end: float, scale: float, offset: float, n_pixels: int, n_cells: int
) -> tuple[FloatArray, int]:
    """On one axis: how much each cell says of each pixel that the box covers, and the first one.

    Pixels beyond the centre of the outermost cells fade to 0, as in the library's paste.
    """
    low, high = sorted((side - offset) / scale for side in (start, end))
    first = max(0, math.floor(low))
    last = max(first, min(n_pixels, math.ceil(high)))
    centres = np.arange(first, last, dtype=np.float64) + 0.5
    places = (centres - low) / max(high - low, np.finfo(np.float64).tiny) * n_cells - 0.5
    cells = np.arange(n_cells)
    weights = np.clip(1 - np.abs(places[:, None] - cells), 0, None).astype(np.float32)
    return (weights if scale > 0 else weights[:, ::-1]), first
