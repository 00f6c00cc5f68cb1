"""What does a normal image teach the region proposal network?

Shapes: N normal images, A anchors of an image (all locations of all levels).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from simfrcnn.losses.precision import at_least_float32


def top_likelihood_loss(objectness_logits: Tensor, top_k: int) -> Tensor:
    """Push the K most likely anchors of every normal image to background.

    An ordinary detector samples the background of a normal image at random and almost never meets
    the few places that look like cancer; this loss looks at just those. Ranking is on the raw
    logits of all levels together, before decoding, clipping or non-maximum suppression.

    Args:
        objectness_logits: (N, A) logits of normal images only; N may be 0.
        top_k: K; clipped to A.

    Returns:
        A scalar in float32 or better, the mean of BCE(p, 0) = softplus(logit) over the top K
        anchors of an image and over images. With nothing to rank it is a zero that is still
        connected to the graph (the sum of an empty slice: multiplying by 0 would keep NaN).

    Reference:
        Zhu 2019, eq. 5.1. K = 256 there; the mean over images is ours.
    """
    logits = at_least_float32(objectness_logits)
    if logits.numel() == 0:
        return logits.sum()
    top = logits.topk(min(top_k, logits.shape[1]), dim=1).values
    return functional.softplus(top).mean()
