"""Where does a class map see its class? Boxes from the map of a whole-image classifier.

Shapes: h x w cells of one class map, H x W the network's input in pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from simfrcnn.structures import Frame

Component = Literal["largest", "highest"]

SHARE = 0.2
"""Cells that reach this share of the way from the lowest to the highest one belong to the object.

Zhou 2016 (class activation mapping).
"""
_FOUR_CONNECTED = ((0, 1, 0), (1, 1, 1), (0, 1, 0))


def box_of_map(
    cells: Tensor, size_px: tuple[int, int], *, stride: int, component: Component = "largest"
) -> Tensor:
    """The bounding box of one connected region of a class map, in input pixels.

    Cells of at least min + 0.2 (max - min) are joined where they share a side. A constant map gives
    the whole input.

    Args:
        cells: (h, w).
        size_px: (H, W).
        stride: Input pixels of a cell's side. Where so many do not cover the input, as behind
            convolutions without padding, the cells share it evenly.
        component: ``largest``, the region of most cells, of equal ones the first from the top and
            then the left; ``highest``, the one that holds the highest cell.

    Returns:
        (4,) float32, XYXY.

    Example:
        >>> import torch
        >>> cells = torch.zeros(4, 4)
        >>> cells[1, 1:3] = 1.0
        >>> box_of_map(cells, (128, 128), stride=32).tolist()
        [32.0, 32.0, 96.0, 64.0]
    """
    height, width = size_px
    values = cells.detach().cpu().double().numpy()
    low, high = values.min(), values.max()
    if not high > low:  # NaN too: its score is refused where scores are
        return torch.tensor([0.0, 0.0, float(width), float(height)])
    regions, _ = ndimage.label(values >= low + SHARE * (high - low), structure=_FOUR_CONNECTED)
    rows, columns = np.nonzero(regions == _chosen(regions, values, component))
    cell_y, cell_x = _cell_sides(cells, size_px, stride)
    return torch.tensor(
        [
            float(columns.min() * cell_x),
            float(rows.min() * cell_y),
            min(float((columns.max() + 1) * cell_x), float(width)),
            min(float((rows.max() + 1) * cell_y), float(height)),
        ]
    )


def over_image(
    maps: Tensor, size_px: tuple[int, int], *, stride: int, frame: Frame, longest: int = 128
) -> Tensor:
    """Class maps laid over the stored image, also where that was cut, scaled or mirrored.

    Between the centres of cells values are joined by straight lines; beyond the outermost ones they
    stay.

    Args:
        maps: (K, h, w), cells of the input.
        size_px: (H, W) of the input.
        stride: As in :func:`box_of_map`.
        frame: From stored to input pixels.
        longest: Cells on the longer side of the result.

    Returns:
        (K, h', w') of as many cells as the stored image is high and wide, in proportion.
    """
    factor = longest / max(frame.original_height, frame.original_width)
    n_rows = max(1, round(frame.original_height * factor))
    n_columns = max(1, round(frame.original_width * factor))
    cell_y, cell_x = _cell_sides(maps[0], size_px, stride)
    y = (torch.arange(n_rows) + 0.5) * frame.original_height / n_rows
    x = (torch.arange(n_columns) + 0.5) * frame.original_width / n_columns
    # In cells: 0 is the upper or left border of the first one, h or w that of the last.
    y = (y * frame.scale_y + frame.offset_y) / cell_y
    x = (x * frame.scale_x + frame.offset_x) / cell_x
    height, width = maps.shape[-2:]
    grid_y, grid_x = torch.meshgrid(2 * y / height - 1, 2 * x / width - 1, indexing="ij")
    laid: Tensor = functional.grid_sample(
        maps[None].cpu().float(),
        torch.stack([grid_x, grid_y], dim=-1)[None].float(),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return laid[0]


def _cell_sides(cells: Tensor, size_px: tuple[int, int], stride: int) -> tuple[float, float]:
    """Height and width of a cell in input pixels."""
    height, width = (
        float(stride) if stride * n_cells >= side else side / n_cells
        for n_cells, side in zip(cells.shape, size_px, strict=True)
    )
    return height, width


def _chosen(regions: np.ndarray, values: np.ndarray, component: Component) -> int:
    if component == "highest":
        return int(regions.flat[int(values.argmax())])
    # Regions are numbered from 1 in the order of their first cells; argmax takes the first.
    return int(np.bincount(regions.ravel())[1:].argmax()) + 1
