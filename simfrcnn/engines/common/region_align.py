"""How are regions pooled where a CPU trains in bfloat16?

torchvision's ROIAlign computes in float32 under autocast, which is right. Its gradient on a CPU
goes sample by sample and takes a sixth of a small detector's step in float32, and more of one in
bfloat16. The same gradient is two matrix products: bilinear interpolation on a grid is separable.

Shapes: N images, C channels, H x W cells, R regions, P bins a side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align

_LARGEST_PRODUCT = 2**24
"""Numbers of the largest intermediate result: 64 MB in float32."""


def align_regions(
    features: Tensor,
    regions: Tensor,
    *,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """torchvision's ``roi_align``; under autocast on a CPU with a gradient that is quicker there.

    Elsewhere it is the library's function to the last bit. The regions stay float32: in bfloat16 a
    box beyond pixel 128 would move by up to half a pixel, beyond 256 by a whole one.

    Args:
        features: (N, C, H, W).
        regions: (R, 5) float32, index of the image and XYXY in input pixels.
        output_size: Bins in height and width.
        spatial_scale: Cells per input pixel.
        sampling_ratio: Samples per bin and side; 0 takes about one per cell.
        aligned: With the half-pixel shift.

    Returns:
        (R, C, *output_size) in the precision of ``features``.
    """
    if features.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        pooled: Tensor = _Aligned.apply(
            features, regions, output_size, spatial_scale, sampling_ratio, aligned
        )
        return pooled
    plain: Tensor = roi_align(
        features, regions, output_size, spatial_scale, sampling_ratio, aligned
    )
    return plain


class _Aligned(torch.autograd.Function):
    """The library's forward pass; backward by matrix products in float32."""

    @staticmethod
    def forward(
        context: Any,
        features: Tensor,
        regions: Tensor,
        output_size: tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool,
    ) -> Tensor:
        context.save_for_backward(regions)
        context.shape, context.dtype = features.shape, features.dtype
        context.how = output_size, spatial_scale, sampling_ratio, aligned
        exact = features.float()
        pooled: Tensor = roi_align(
            exact, regions, output_size, spatial_scale, sampling_ratio, aligned
        )
        return pooled.to(features.dtype)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (regions,), (bins_y, bins_x) = context.saved_tensors, context.how[0]
        scale, sampling_ratio, aligned = context.how[1:]
        n_images, n_channels, height, width = context.shape
        ends = (regions[:, 1:].float() * scale - (0.5 if aligned else 0.0)).unbind(dim=1)
        least = 0.0 if aligned else 1.0
        weights_x = _weights(ends[0], ends[2], least, bins_x, width, sampling_ratio)
        weights_y = _weights(ends[1], ends[3], least, bins_y, height, sampling_ratio)
        of_features = gradients[0].new_zeros(
            (n_images, height, n_channels, width), dtype=torch.float32
        )
        at_once = max(1, _LARGEST_PRODUCT // (n_channels * width * bins_y))
        with torch.autocast("cpu", enabled=False):
            for image in range(n_images):
                own = torch.nonzero(regions[:, 0] == image).flatten()
                for part in torch.split(own, at_once):
                    rows = torch.matmul(  # (r, P, C, W): spread over the columns
                        gradients[0][part].float().transpose(1, 2), weights_x[part].unsqueeze(1)
                    )
                    down = weights_y[part].flatten(0, 1).T  # (H, r P): then over the rows
                    of_features[image].flatten(1).addmm_(down, rows.flatten(0, 1).flatten(1))
        return of_features.transpose(1, 2).to(context.dtype), None, None, None, None, None


def _weights(
    start: Tensor, end: Tensor, least: float, n_bins: int, n_cells: int, sampling_ratio: int
) -> Tensor:
    """(R, n_bins, n_cells): how much each cell of one axis counts in the mean of each bin.

    Args:
        start: (R,) one edge in cells.
        end: (R,) the other edge.
        least: The least length of a region, in cells.
        n_bins: P.
        n_cells: H or W.
        sampling_ratio: As for :func:`align_regions`.
    """
    bin_size = (end - start).clamp(min=least) / n_bins
    n_samples = bin_size.ceil() if sampling_ratio <= 0 else torch.full_like(start, sampling_ratio)
    number = torch.arange(int(n_samples.max()) if len(start) else 0)
    within = (number + 0.5) / n_samples.clamp(min=1)[:, None, None]  # (R, 1, samples)
    place = (
        start[:, None, None] + (torch.arange(n_bins)[:, None] + within) * bin_size[:, None, None]
    )
    counts = (number < n_samples[:, None, None]) & (place >= -1) & (place <= n_cells)
    share = counts / n_samples.clamp(min=1)[:, None, None]
    place = place.clamp(0, n_cells - 1)
    low = place.floor().long()
    above = (place - low) * share
    weights = torch.zeros(len(start), n_bins, n_cells)
    weights.scatter_add_(2, low, share - above)
    weights.scatter_add_(2, (low + 1).clamp(max=n_cells - 1), above)
    return weights
