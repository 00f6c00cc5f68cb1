"""How are malignant regions and suspected ones of normal images pushed apart?

Shapes: R sampled regions of a batch, D features (2048 for a ResNet-101 C4 head), C = 1 + K classes
with background first, K foreground regions of one positive image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from simfrcnn.losses.precision import at_least_float32
from simfrcnn.sampling.proposals import choose_partners
from simfrcnn.settings import SimilaritySettings


def cosine_similarity_loss(positive: Tensor, normal: Tensor, margin: float) -> Tensor:
    """Cosine embedding loss with target -1: the i-th positive vector meets the i-th normal one.

    The published formula takes the norm of a difference of cosines and is not well formed; what its
    text says it does is this.

    Args:
        positive: (K, D) vectors of foreground regions of positive images.
        normal: (K, D) vectors of their partners in normal images.
        margin: Cosines below it cost nothing.

    Returns:
        A scalar in float32 or better, the mean of max(0, cos - margin); a connected zero if K is 0.

    Reference:
        Zhu 2019, eq. 5.3.
    """
    cosine = functional.cosine_similarity(
        at_least_float32(positive), at_least_float32(normal), dim=1
    )
    cost = (cosine - margin).clamp(min=0)
    return cost.mean() if len(cost) else cost.sum()


def similarity_loss(
    *,
    features: Tensor,
    labels: Tensor,
    image_index: Tensor,
    objectness: Tensor,
    class_logits: Tensor,
    is_normal: Sequence[bool],
    target_labels: Sequence[int],
    settings: SimilaritySettings,
) -> Tensor:
    """Similarity loss of a batch of pairs, from the regions that the ROI head has sampled.

    The i-th positive image of the batch is the partner of the i-th normal one; images without a
    partner take no part. The loss of a pair is a mean over its comparisons, that of the batch a
    mean over its pairs (a pair in which no foreground region was sampled counts as 0).

    Args:
        features: (R, D) vectors that the box predictor sees.
        labels: (R,) int64, 0 background, 1..K classes.
        image_index: (R,) int64, the image of each region, 0-based in the batch.
        objectness: (R,) anything that ranks the regions of one image as the RPN does.
        class_logits: (R, C) classification logits, background first.
        is_normal: For each image of the batch, whether it is trained as a normal one.
        target_labels: Labels in 1..K whose score makes a region suspicious (for ``hardest``).
        settings: Kind, margin and choice of partners; the weight is applied by the caller.

    Returns:
        A scalar in float32 or better, a connected zero if there is nothing to compare.
    """
    nothing = at_least_float32(features[:0]).sum()
    if settings.kind == "none":
        return nothing
    target_scores = class_logits.detach().float().softmax(dim=1)[:, list(target_labels)].amax(dim=1)
    costs = []
    for positive_image, normal_image in _pairs_of(is_normal):
        foreground = torch.nonzero((image_index == positive_image) & (labels > 0)).flatten()
        candidates = torch.nonzero(image_index == normal_image).flatten()
        left, right = choose_partners(
            n_foreground=len(foreground),
            objectness=objectness[candidates],
            target_scores=target_scores[candidates],
            partners=settings.partners,
        )
        costs.append(
            cosine_similarity_loss(
                features[foreground[left]], features[candidates[right]], settings.margin
            )
        )
    return torch.stack(costs).mean() if costs else nothing


def _pairs_of(is_normal: Sequence[bool]) -> list[tuple[int, int]]:
    positives = [index for index, normal in enumerate(is_normal) if not normal]
    normals = [index for index, normal in enumerate(is_normal) if normal]
    return list(zip(positives, normals, strict=False))
