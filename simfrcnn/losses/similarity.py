"""How are malignant regions and suspected ones of normal images pushed apart?

Shapes: R sampled regions of a batch, D features (2048 for a ResNet-101 C4 head), C = 1 + K classes
with background first, K foreground regions of one positive image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from simfrcnn.losses.precision import at_least_float32
from simfrcnn.registry import look_up
from simfrcnn.sampling.proposals import choose_partners, target_scores
from simfrcnn.settings import SimilaritySettings


def cosine_costs(positive: Tensor, normal: Tensor, margin: float) -> Tensor:
    """Cosine embedding loss with target -1: the i-th positive vector meets the i-th normal one.

    The published formula takes the norm of a difference of cosines and is not well formed; what its
    text says it does is this.

    Args:
        positive: (P, D) vectors of foreground regions of positive images.
        normal: (P, D) vectors of their partners in normal images.
        margin: Cosines below it cost nothing.

    Returns:
        (P,) max(0, cos - margin), in float32 or better.

    Reference:
        Zhu 2019, eq. 5.3, whose loss is the mean over the K comparisons of a pair of images.
    """
    cosine = functional.cosine_similarity(
        at_least_float32(positive), at_least_float32(normal), dim=1
    )
    return (cosine - margin).clamp(min=0)


def contrastive_costs(
    first: Tensor, second: Tensor, *, same_kind: bool, margin: float, normalise: bool
) -> Tensor:
    """Contrastive loss: vectors of two kinds at least a margin apart, those of one kind together.

    Args:
        first: (P, D) vectors.
        second: (P, D) vectors; the i-th meets the i-th of ``first``.
        same_kind: Whether the two of a comparison are of one kind (Y = 0) or of two (Y = 1).
        margin: m; a Euclidean distance, at most 2 between vectors of length 1.
        normalise: Divide every vector by its length first. The source does not say; raw vectors
            can satisfy any margin by growing.

    Returns:
        (P,) (1 - Y) D^2 / 2 + Y max(0, m - D)^2 / 2, in float32 or better.

    Reference:
        Zhu 2019, eq. 5.5-5.6, after Hadsell 2006. Of equal vectors of two kinds the gradient is 0,
        where a plain square root would give NaN.
    """
    first, second = at_least_float32(first), at_least_float32(second)
    if normalise:
        first, second = functional.normalize(first, dim=1), functional.normalize(second, dim=1)
    distance = torch.linalg.vector_norm(first - second, dim=1)
    violation: Tensor = distance if same_kind else (margin - distance).clamp(min=0)
    return violation.square() / 2


def _cosine(positive: Tensor, normal: Tensor, settings: SimilaritySettings) -> Tensor:
    return cosine_costs(positive, normal, settings.margin)


def _contrastive(positive: Tensor, normal: Tensor, settings: SimilaritySettings) -> Tensor:
    return contrastive_costs(
        positive,
        normal,
        same_kind=False,
        margin=settings.distance_margin,
        normalise=settings.normalise_vectors,
    )


SIMILARITY_LOSSES: Mapping[str, Callable[[Tensor, Tensor, SimilaritySettings], Tensor] | None] = {
    "cosine": _cosine,
    "contrastive": _contrastive,
    "none": None,
}
"""What a positive-normal comparison costs, by ``MODEL.SIMFRCNN.SIMILARITY.LOSS``: a new loss is a
function and a line here. None compares nothing."""


def similarity_loss(
    *,
    features: Tensor,
    labels: Tensor,
    image_index: Tensor,
    objectness: Tensor,
    class_logits: Tensor,
    is_partner: Sequence[bool],
    target_labels: Sequence[int],
    settings: SimilaritySettings,
) -> Tensor:
    """Similarity loss of a batch of pairs, from the regions that the ROI head has sampled.

    The i-th positive image of the batch meets the i-th partner; images that have none take no part.
    A partner offers all its sampled regions or, where it carries boxes of other classes
    (pseudo-boxes of suspected regions, benign masses), the regions of these alone. The loss of a
    pair is a mean over its comparisons, that of the batch a mean over its pairs (a pair in which no
    foreground region was sampled counts as 0).

    With ``same_kind_pairs`` each pair is also compared with the next one of the batch (the last
    with the first): malignant regions with malignant ones and suspected with suspected ones, at
    most K of each. A batch of one pair has none.

    Args:
        features: (R, D) vectors that the box predictor sees.
        labels: (R,) int64, 0 background, 1..K classes.
        image_index: (R,) int64, the image of each region, 0-based in the batch.
        objectness: (R,) anything that ranks the regions of one image as the RPN does.
        class_logits: (R, C) classification logits, background first.
        is_partner: For each image of the batch, whether it is the normal one of its pair; see
            :func:`are_partners`.
        target_labels: Labels in 1..K of the target classes: their regions are pushed away from
            normal ones, and their score makes a region suspicious (for ``hardest``).
        settings: Kind, margins and choice of partners; the weight is applied by the caller.

    Returns:
        A scalar in float32 or better, a connected zero if there is nothing to compare.

    Raises:
        ConfigError: No loss is called ``settings.kind``.
    """
    costs_of_kind = look_up(SIMILARITY_LOSSES, settings.kind, "MODEL.SIMFRCNN.SIMILARITY.LOSS")
    nothing = at_least_float32(features[:0]).sum()
    if costs_of_kind is None:
        return nothing
    scores = target_scores(class_logits, target_labels)
    is_target = torch.isin(labels, torch.tensor(list(target_labels), device=labels.device))
    compared = []
    for positive_image, normal_image in _pairs_of(is_partner):
        foreground = torch.nonzero((image_index == positive_image) & is_target).flatten()
        candidates = _candidates(labels, image_index == normal_image)
        left, right = choose_partners(
            n_foreground=len(foreground),
            objectness=objectness[candidates],
            target_scores=scores[candidates],
            partners=settings.partners,
        )
        compared.append(_Compared(features, foreground, candidates, left, right))
    costs = [
        _mean(
            torch.cat(
                [costs_of_kind(*one.vectors(), settings), *one.same_kind_costs(following, settings)]
            )
        )
        for one, following in zip(compared, [*compared[1:], *compared[:1]], strict=True)
    ]
    return torch.stack(costs).mean() if costs else nothing


@dataclass(frozen=True)
class _Compared:
    """The regions of one pair of images that meet: ``foreground[left]`` and ``candidates[right]``.

    ``foreground`` (F,) and ``candidates`` (P,) index ``features``.
    """

    features: Tensor
    foreground: Tensor
    candidates: Tensor
    left: Tensor
    right: Tensor

    def vectors(self) -> tuple[Tensor, Tensor]:
        """(P, D) of positive images and of their partners in normal ones; the i-th two meet."""
        return (
            self.features[self.foreground[self.left]],
            self.features[self.candidates[self.right]],
        )

    def same_kind_costs(self, other: _Compared, settings: SimilaritySettings) -> list[Tensor]:
        """The costs of positive-positive and normal-normal comparisons with another pair."""
        if not settings.same_kind_pairs or other is self:
            return []
        return [
            contrastive_costs(
                ours[: len(theirs)],
                theirs[: len(ours)],
                same_kind=True,
                margin=settings.distance_margin,
                normalise=settings.normalise_vectors,
            )
            for ours, theirs in zip(self._kinds(), other._kinds(), strict=True)
        ]

    def _kinds(self) -> tuple[Tensor, Tensor]:
        """Vectors of the foreground, and of as many of the partners chosen for it."""
        partners = list(dict.fromkeys(self.right.tolist()))[: len(self.foreground)]
        return self.features[self.foreground], self.features[self.candidates[partners]]


def _mean(costs: Tensor) -> Tensor:
    """The mean; of nothing a zero that is still connected to the graph."""
    return costs.mean() if len(costs) else costs.sum()


def are_partners(
    classes: Sequence[Tensor], is_normal: Sequence[bool], target_labels: Sequence[int]
) -> tuple[bool, ...]:
    """Whether each image of a batch is the normal one of its pair.

    It is if it trains as a normal image, or if it carries boxes and none is of a target class: a
    normal image with pseudo-boxes or with boxed benign masses.

    Args:
        classes: For each image the (B,) labels of its boxes, in 1..K.
        is_normal: For each image whether it trains as a normal one.
        target_labels: Labels in 1..K of the target classes.

    Example:
        >>> boxes = [torch.tensor([1]), torch.tensor([2, 2]), torch.tensor([], dtype=torch.int64)]
        >>> are_partners(boxes, [False, False, True], target_labels=[1])
        (False, True, True)
    """
    targets = set(target_labels)
    return tuple(
        normal or (len(of_image) > 0 and targets.isdisjoint(of_image.tolist()))
        for of_image, normal in zip(classes, is_normal, strict=True)
    )


def _candidates(labels: Tensor, of_image: Tensor) -> Tensor:
    """The regions of a partner that may meet a malignant one: its foreground, if it has any."""
    foreground = torch.nonzero(of_image & (labels > 0)).flatten()
    return foreground if len(foreground) else torch.nonzero(of_image).flatten()


def _pairs_of(is_partner: Sequence[bool]) -> list[tuple[int, int]]:
    positives = [index for index, partner in enumerate(is_partner) if not partner]
    partners = [index for index, partner in enumerate(is_partner) if partner]
    return list(zip(positives, partners, strict=False))
