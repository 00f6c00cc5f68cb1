"""Which proposals of a normal image are trained on, and which meet a malignant region?

Shapes: P proposals of a normal image, F foreground regions of its positive partner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from simfrcnn.registry import look_up
from simfrcnn.settings import Partners


@torch.no_grad()
def target_scores(class_logits: Tensor, target_labels: Sequence[int]) -> Tensor:
    """How much each region looks like a target: the highest probability of a target class.

    Args:
        class_logits: (R, C) classification logits of R regions, background first.
        target_labels: Labels in 1..K of the target classes.

    Returns:
        (R,) float32 in [0, 1], without gradient.
    """
    return class_logits.float().softmax(dim=1)[:, list(target_labels)].amax(dim=1)


def top_proposals(objectness: Tensor, n_regions: int) -> Tensor:
    """The most likely proposals of a normal image: what the network itself suspects.

    Args:
        objectness: (P,) any monotone measure of objectness.
        n_regions: How many to take; clipped to P.

    Returns:
        Indices (min(P, n_regions),) by falling objectness; equal values keep their order.

    Reference:
        The MICCAI 2019 abstract of the method speaks of a sampling procedure that selects suspected
        targets; that it is this one is our decision.
    """
    return torch.argsort(objectness, descending=True, stable=True)[:n_regions]


Choice = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(F, objectness (P,), target scores (P,)) -> the two index vectors of :func:`choose_partners`."""


def _suspected(n_foreground: int, objectness: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    return _one_to_one(top_proposals(objectness, n_foreground))


def _hardest(n_foreground: int, _: Tensor, target_scores: Tensor) -> tuple[Tensor, Tensor]:
    return _one_to_one(top_proposals(target_scores, n_foreground))


def _random(n_foreground: int, objectness: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    drawn = torch.randperm(len(objectness), device=objectness.device)
    return _one_to_one(drawn[: min(n_foreground, len(objectness))])


def _all(n_foreground: int, objectness: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    n_candidates, device = len(objectness), objectness.device
    left = torch.arange(n_foreground, device=device).repeat_interleave(n_candidates)
    return left, torch.arange(n_candidates, device=device).repeat(n_foreground)


def _one_to_one(chosen: Tensor) -> tuple[Tensor, Tensor]:
    return torch.arange(len(chosen), device=chosen.device), chosen


PARTNERS: Mapping[str, Choice] = {
    "suspected": _suspected,
    "hardest": _hardest,
    "random": _random,
    "all": _all,
}
"""By ``MODEL.SIMFRCNN.SIMILARITY.PARTNERS``: a new choice is a function and a line here."""


def choose_partners(
    *, n_foreground: int, objectness: Tensor, target_scores: Tensor, partners: Partners
) -> tuple[Tensor, Tensor]:
    """Match the foreground regions of a positive image with proposals of its normal partner.

    The source takes K of them without saying which. ``suspected`` takes those with the highest
    objectness, ``hardest`` those with the highest target score of the box head, ``random`` draws
    from torch's global generator; the i-th foreground region meets the i-th chosen proposal.
    ``all`` compares every region with every proposal.

    Args:
        n_foreground: F.
        objectness: (P,) objectness of the normal image's sampled proposals.
        target_scores: (P,) target score of the same proposals in [0, 1], without gradient.
        partners: Which to choose.

    Returns:
        Two index vectors of equal length: into the F foreground regions, and into the P proposals.
        If P < F only the first P foreground regions take part (K shrinks).

    Raises:
        ConfigError: No choice is called ``partners``.
    """
    choice = look_up(PARTNERS, partners, "MODEL.SIMFRCNN.SIMILARITY.PARTNERS")
    return choice(n_foreground, objectness, target_scores)


def likeliest_targets(class_logits: Tensor, target_labels: Sequence[int]) -> Tensor:
    """The target class that each region most likely is: (R,) labels out of ``target_labels``.

    Args:
        class_logits: (R, 1 + K), background first.
        target_labels: Labels in 1..K.

    Example:
        >>> likeliest_targets(torch.tensor([[9.0, 1.0, 2.0], [0.0, 3.0, 1.0]]), [1, 2])
        tensor([2, 1])
    """
    labels = torch.tensor(list(target_labels), device=class_logits.device)
    return labels[class_logits[:, labels].argmax(dim=1)]
