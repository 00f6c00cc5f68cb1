"""What does an image teach of which is known, class by class, whether it shows a finding?

Classes do not exclude each other, so each has a sigmoid of its own.

Shapes: N images, K classes, h x w cells of a class map.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from simfrcnn.classifier_settings import SHARPNESS, Pool
from simfrcnn.losses.precision import at_least_float32


def pooled(maps: Tensor, pool: Pool, *, top_share: float = 0.05) -> Tensor:
    """One logit a class from its map.

    Args:
        maps: (N, K, h, w).
        pool: ``avg``, the mean; ``max``; ``lse``, (1/r) log mean exp(r m) with r = 5; ``top``, the
            mean of the ceil(top_share h w) highest cells.
        top_share: Of ``top``, in (0, 1].

    Returns:
        (N, K), in float32 or better.

    Example:
        >>> import torch
        >>> cells = torch.tensor([[[[0.0, 4.0], [1.0, 3.0]]]])
        >>> [float(pooled(cells, pool, top_share=0.5)) for pool in ("avg", "max", "top")]
        [2.0, 4.0, 3.5]
    """
    cells = at_least_float32(maps).flatten(2)
    n_cells = cells.shape[2]
    if pool == "avg":
        return cells.mean(dim=2)
    if pool == "max":
        return cells.amax(dim=2)
    if pool == "lse":
        return (torch.logsumexp(SHARPNESS * cells, dim=2) - math.log(n_cells)) / SHARPNESS
    # 0.07 x 100 is 7.000000000000001 in floating point: the share is meant, not its last bit.
    n_highest = min(n_cells, max(1, math.ceil(top_share * n_cells - 1e-9)))
    return cells.topk(n_highest, dim=2).values.mean(dim=2)


def multilabel_loss(logits: Tensor, present: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Binary cross entropy over the classes of which an image is known to show them or not.

    Unknown ones are left out, not counted as absent: they neither cost nor teach.

    Args:
        logits: (N, K).
        present: (N, K), 1 where an image shows a finding of the class, 0 where it does not, NaN
            where that is not known.
        smoothing: e; y becomes y (1 - e) + e / 2.

    Returns:
        A scalar in float32 or better, the mean over what is known; a connected zero of nothing.

    Reference:
        Rajpurkar 2017 (CheXNet) for the loss; Cohen 2021 (torchxrayvision) leaves out unknowns.
    """
    is_known = ~present.isnan()
    known = present[is_known].to(logits.device)
    truth = known * (1 - smoothing) + smoothing / 2
    found = at_least_float32(logits)[is_known.to(logits.device)]
    costs = functional.binary_cross_entropy_with_logits(found, truth.to(found), reduction="sum")
    return costs / max(len(known), 1)
