"""What does a normal image teach the region proposal network?

Shapes: N normal images, A anchors of an image (all locations of all levels).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from simfrcnn.losses.precision import at_least_float32


def top_likelihood_loss(
    objectness_logits: Tensor, top_k: int, weights: Tensor | None = None
) -> Tensor:
    """Push the K most likely anchors of every normal image to background.

    An ordinary detector samples the background of a normal image at random and almost never meets
    the few places that look like cancer; this loss looks at just those. Ranking is on the raw
    logits of all levels together, before decoding, clipping or non-maximum suppression.

    Args:
        objectness_logits: (N, A) logits of normal images only; N may be 0.
        top_k: K; clipped to A.
        weights: (N,) of the images, as 2 for those with a benign mass; None for 1 each.

    Returns:
        A scalar in float32 or better, the mean of BCE(p, 0) = softplus(logit) over the top K
        anchors of an image and, weighted, over N images: the sum is divided by N, not by the
        weights, so that a loss does not depend on how images are shared among processes. With
        nothing to rank it is a zero that is still connected to the graph (the sum of an empty
        slice: multiplying by 0 would keep NaN).

    Example:
        >>> import torch
        >>> logits = torch.zeros(2, 3)
        >>> loss = top_likelihood_loss(logits, 2, torch.tensor([1.0, 3.0]))
        >>> round(float(loss), 4)  # ln 2, once and three times, by two images
        1.3863

    Reference:
        Zhu 2019, eq. 5.1. K = 256 there; the mean over images is ours, and so are the weights,
        which are one reading of its outlook (finer losses for benign against negative).
    """
    logits = at_least_float32(objectness_logits)
    if logits.numel() == 0:
        return logits.sum()
    top = logits.topk(min(top_k, logits.shape[1]), dim=1).values
    costs = functional.softplus(top)
    return costs.mean() if weights is None else (costs * weights.to(costs)[:, None]).mean()
