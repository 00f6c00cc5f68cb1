"""Where does a class map see its class? Boxes from the map of a whole-image classifier.

Shapes: h x w cells of one class map, H x W the network's input in pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

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
    cell_y, cell_x = (
        stride if stride * n_cells >= side else side / n_cells
        for n_cells, side in zip(values.shape, size_px, strict=True)
    )
    return torch.tensor(
        [
            float(columns.min() * cell_x),
            float(rows.min() * cell_y),
            min(float((columns.max() + 1) * cell_x), float(width)),
            min(float((rows.max() + 1) * cell_y), float(height)),
        ]
    )


def _chosen(regions: np.ndarray, values: np.ndarray, component: Component) -> int:
    if component == "highest":
        return int(regions.flat[int(values.argmax())])
    # Regions are numbered from 1 in the order of their first cells; argmax takes the first.
    return int(np.bincount(regions.ravel())[1:].argmax()) + 1
