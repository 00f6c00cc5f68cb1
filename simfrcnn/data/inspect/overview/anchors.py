"""Which anchors suit the boxes of a training set?

Anchors are every size with every aspect ratio, so the two are found apart: k-means on the logarithm
of the root of the area, and on that of height / width. The logarithm, because an anchor twice as
large as the box is as bad as one half as large.

Shapes: B boxes, A anchors.

Reference:
    Redmon, Farhadi (2017), "YOLO9000", section 2: anchors by k-means on training boxes (there on
    width and height together, by IoU).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_SIZES, N_RATIOS = 5, 3
N_LEVELS = 5
"""Levels p2 to p6 of a feature pyramid, each twice as coarse as the one before."""
_FINEST_SIZES_PX = range(8, 33)
"""Tried for p2 (stride 4): less would be lost between its anchors' centres, 32 is the usual."""
MATCH_IOU = 0.7
"""An anchor is positive from this overlap on (MODEL.RPN.IOU_THRESHOLDS)."""


@dataclass(frozen=True)
class Anchors:
    """``sizes`` are roots of areas in input pixels, by level; ``ratios`` are height / width."""

    sizes: tuple[tuple[int, ...], ...]
    ratios: tuple[float, ...]

    @property
    def all_sizes(self) -> tuple[int, ...]:
        """The sizes of all levels."""
        return tuple(size for level in self.sizes for size in level)


@dataclass(frozen=True)
class Coverage:
    """How well anchors fit boxes, each box with the best anchor centred on it.

    ``mean_iou`` is the mean of the best IoU, ``matched_share`` the share of boxes whose best IoU is
    at least 0.7. Both are upper bounds: anchors lie on a grid, not upon the boxes.
    """

    mean_iou: float
    matched_share: float


def suggest_c4(sides_px: NDArray[np.float64]) -> Anchors:
    """Anchors of a detector with one feature map: the centres of k-means.

    Args:
        sides_px: (B, 2) width and height of the training boxes.
    """
    sizes = np.unique(np.rint(_centres(np.sqrt(sides_px.prod(axis=1)), N_SIZES)))
    return Anchors((tuple(int(size) for size in sizes),), suggest_ratios(sides_px))


def suggest_fpn(sides_px: NDArray[np.float64]) -> Anchors:
    """Anchors of a feature pyramid: one size a level, each twice the one before.

    The finest is the one whose series fits the boxes best, because a level's anchors must grow with
    its stride; free sizes would put small anchors on coarse grids.

    Args:
        sides_px: (B, 2) width and height of the training boxes.
    """
    ratios = suggest_ratios(sides_px)
    series = [_pyramid(finest, ratios) for finest in _FINEST_SIZES_PX]
    return max(series, key=lambda anchors: coverage(sides_px, anchors).mean_iou)


def suggest_ratios(sides_px: NDArray[np.float64]) -> tuple[float, ...]:
    """Aspect ratios, height / width: the centres of k-means.

    Args:
        sides_px: (B, 2) width and height of the training boxes.
    """
    ratios = _centres(sides_px[:, 1] / sides_px[:, 0], N_RATIOS)
    return tuple(float(ratio) for ratio in np.unique(ratios.round(2)))


def coverage(sides_px: NDArray[np.float64], anchors: Anchors) -> Coverage:
    """How well anchors fit boxes of these sides (B, 2)."""
    best = best_iou(sides_px, anchors)
    return Coverage(float(best.mean()), float((best >= MATCH_IOU).mean()))


def best_iou(sides_px: NDArray[np.float64], anchors: Anchors) -> NDArray[np.float64]:
    """IoU (B,) of each box with the anchor that fits it best, with a common centre."""
    size = np.repeat(np.array(anchors.all_sizes, dtype=np.float64), len(anchors.ratios))
    ratio = np.tile(np.array(anchors.ratios), len(anchors.all_sizes))
    sides = np.stack([size / np.sqrt(ratio), size * np.sqrt(ratio)], axis=1)  # (A, 2)
    shared = np.minimum(sides_px[:, None], sides[None]).prod(axis=2)
    areas = sides_px.prod(axis=1)[:, None] + sides.prod(axis=1)[None]
    best: NDArray[np.float64] = (shared / (areas - shared)).max(axis=1)
    return best


def _pyramid(finest: int, ratios: tuple[float, ...]) -> Anchors:
    return Anchors(tuple((finest * 2**level,) for level in range(N_LEVELS)), ratios)


def _centres(values: NDArray[np.float64], n_centres: int) -> NDArray[np.float64]:
    """At most that many centres of positive values, by k-means on their logarithm, rising."""
    from sklearn.cluster import KMeans  # a second to import, and only needed here

    logarithms = np.log(values)[:, None]
    n_different = len(np.unique(logarithms.round(9)))
    means = KMeans(min(n_centres, n_different), n_init=10, random_state=0).fit(logarithms)
    centres: NDArray[np.float64] = np.sort(np.exp(means.cluster_centers_[:, 0]))
    return centres
