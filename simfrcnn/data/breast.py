"""Where in the picture is the breast?

Digitised film has white labels, bright borders and a background that is not 0, so the breast is
found as the largest connected bright region, never as "everything above 0".
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from simfrcnn.records import Box

_WORKING_SIZE_PX = 256
_LEVEL_FRACTION = 0.6
_MARGIN = 0.02


def breast_box(pixels: NDArray[np.uint8]) -> Box:
    """The box round the largest connected bright region, in pixels of the image.

    The level is Otsu's on square-root grey values, lowered to 0.6 of it: Otsu separates gland from
    fat as readily as breast from air, and a skin line that is cut off may carry a finding. The
    region is looked for in a copy of at most 256 px, opened to cut labels that touch the breast; a
    margin of 2% of the longer side is added. A picture of a single value is its own box.

    Args:
        pixels: (H, W) uint8, white = dense.

    Returns:
        Whole numbers, inside the image.

    Reference:
        Otsu (1979), "A threshold selection method from gray-level histograms".
    """
    height, width = pixels.shape
    shrink = min(1.0, _WORKING_SIZE_PX / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    stretched = np.sqrt(small.astype(np.float32) / 255)
    roots = cv2.convertScaleAbs(stretched, alpha=255)
    otsu, _ = cv2.threshold(roots, 0, 255, cv2.THRESH_OTSU)
    bright = (roots > _LEVEL_FRACTION * otsu).astype(np.uint8)
    bright = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    n_regions, _, regions, _ = cv2.connectedComponentsWithStats(bright, connectivity=4)
    if n_regions < 2 or otsu == 0:
        return 0.0, 0.0, float(width), float(height)
    x, y, w, h = regions[1 + int(np.argmax(regions[1:, cv2.CC_STAT_AREA])), :4].tolist()
    scale_x, scale_y = width / size[0], height / size[1]
    margin = _MARGIN * max(height, width)
    return (
        float(max(0, int(x * scale_x - margin))),
        float(max(0, int(y * scale_y - margin))),
        float(min(width, int(np.ceil((x + w) * scale_x + margin)))),
        float(min(height, int(np.ceil((y + h) * scale_y + margin)))),
    )
