"""What does an image teach of which only the label is known?

Shapes: L labelled bags of a batch, M of them with a region, C = 1 + K classes, background first.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from simfrcnn.losses.precision import at_least_float32


def label_loss(class_logits: Tensor, labels: Tensor, weights: Tensor, *, n_bags: int) -> Tensor:
    """Cross entropy of the one region of each bag that was chosen for its label.

    A bag without a region adds 0 and still counts in L, so that a loss does not depend on how
    images are shared among processes.

    Args:
        class_logits: (M, C) logits of the chosen regions.
        labels: (M,) int64 in 1..K, of their bags.
        weights: (M,) of their bags.
        n_bags: L, at least M.

    Returns:
        A scalar in float32 or better, (1 / L) sum of w_i * -log p_i(label_i); a connected zero of
        no bags.

    Reference:
        Shin 2019 (IEEE TMI, arXiv 1710.03778), the loss L_ws. Its code weights by class, with 0
        for normal images.
    """
    costs = functional.cross_entropy(at_least_float32(class_logits), labels, reduction="none")
    return (weights.to(costs) * costs).sum() / max(n_bags, 1)
