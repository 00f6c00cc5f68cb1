"""Which region of a labelled image, or of a bag of them, is taken for what its label speaks of?

The most suspicious one (the *mass of interest*). It is chosen without gradient and then learnt from
alone: the gradient of a maximum is that of its argument.

Shapes: N images of a batch, L labelled bags, R proposals of all labelled images, C = 1 + K classes,
background first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simfrcnn.label_settings import RegionRule
from simfrcnn.registry import look_up
from simfrcnn.structures import ImageTargets

logger = logging.getLogger("simfrcnn")


@dataclass(frozen=True)
class Bags:
    """The labelled images of a batch, and the L bags that they form.

    ``images`` are their places in the batch, ``bag_of`` the bag of each, 0-based; ``labels`` in
    1..K and ``weights`` are those of the bags.
    """

    images: tuple[int, ...]
    bag_of: tuple[int, ...]
    labels: tuple[int, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, targets: Sequence[ImageTargets | None]) -> Bags:
        """Those of the N images of a batch; None is an image of which nothing is known."""
        images, bag_of, labels, weights = [], [], [], []
        numbers: dict[tuple[str, int], int] = {}
        for place, one in enumerate(targets):
            if one is None or one.image_label is None:
                continue
            key = one.bag_key(place)
            if key not in numbers:
                numbers[key] = len(numbers)
                labels.append(one.image_label)
                weights.append(one.label_weight)
            images.append(place)
            bag_of.append(numbers[key])
        return cls(tuple(images), tuple(bag_of), tuple(labels), tuple(weights))

    def others(self, n_images: int) -> list[int]:
        """The places of the images that are not labelled, out of ``n_images``."""
        labelled = set(self.images)
        return [place for place in range(n_images) if place not in labelled]


NO_BAGS = Bags((), (), (), ())


def _target(probabilities: Tensor, _: Tensor, target_labels: Sequence[int]) -> Tensor:
    return probabilities[:, list(target_labels)].amax(dim=1)


def _own(probabilities: Tensor, labels: Tensor, _: Sequence[int]) -> Tensor:
    return probabilities.gather(1, labels[:, None])[:, 0]


def _discriminative(probabilities: Tensor, _: Tensor, __: Sequence[int]) -> Tensor:
    return probabilities[:, 1:].amax(dim=1)


def _abnormal(probabilities: Tensor, _: Tensor, __: Sequence[int]) -> Tensor:
    return 1 - probabilities[:, 0]


RULES: Mapping[str, Callable[[Tensor, Tensor, Sequence[int]], Tensor]] = {
    "target": _target,
    "own": _own,
    "discriminative": _discriminative,
    "abnormal": _abnormal,
}
"""From probabilities (R, C), labels (R,) and target labels, by ``MODEL.SIMFRCNN.LABELS.REGION``: a
new rule is a function and a line here."""


@torch.no_grad()
def interest(
    class_logits: Tensor, labels: Tensor, rule: RegionRule, target_labels: Sequence[int]
) -> Tensor:
    """How well each region may be what its label speaks of.

    Args:
        class_logits: (R, C).
        labels: (R,) int64 in 1..K, of the bag of each region.
        rule: For labels that are no target; those that are take the highest target score.
        target_labels: Labels in 1..K of the target classes.

    Returns:
        (R,) float32 in [0, 1], without gradient.

    Raises:
        ConfigError: No rule is called ``rule``.

    Reference:
        Shin 2019: the region of the highest value is the mass of interest. By probability; its code
        compares the raw logits of one class, which mostly means another region.
    """
    probabilities = class_logits.float().softmax(dim=1)
    by_rule = look_up(RULES, rule, "MODEL.SIMFRCNN.LABELS.REGION")
    is_target = torch.isin(labels, torch.tensor(list(target_labels), device=labels.device))
    return torch.where(
        is_target,
        _target(probabilities, labels, target_labels),
        by_rule(probabilities, labels, target_labels),
    )


@torch.no_grad()
def highest_of_bags(values: Tensor, bag_index: Tensor, n_bags: int) -> Tensor:
    """The region of the highest value in each bag: (L,) int64, -1 for a bag without a region.

    Of equal values the earlier region counts, which has the higher objectness.

    Args:
        values: (R,).
        bag_index: (R,) int64 in 0..L-1.
        n_bags: L.
    """
    chosen = torch.full((n_bags,), -1, dtype=torch.int64, device=values.device)
    for bag in range(n_bags):
        places = torch.nonzero(bag_index == bag).flatten()
        if len(places):
            chosen[bag] = places[torch.argsort(values[places], descending=True, stable=True)[0]]
    return chosen


class EmptyBags:
    """Counts the bags without a proposal, and warns of the 1st, 10th, 100th and so on."""

    def __init__(self) -> None:
        self.count = 0
        """In the trainings of this process."""
        self._next = 1

    def add(self, number: int) -> None:
        """Count those of a step."""
        self.count += number
        if number and self.count >= self._next:
            logger.warning(
                "labelled images or bags without a proposal so far: %d; such a one teaches nothing "
                "in its step. The next warning comes at ten times as many",
                self.count,
            )
            while self._next <= self.count:
                self._next *= 10


def chosen_by_image(chosen: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """The chosen regions as places in each image's own list: one or none of each.

    Args:
        chosen: (L,) places in the regions of all labelled images, -1 for none.
        counts: How many regions each labelled image has.
    """
    taken = set(chosen.tolist())
    places, start = [], 0
    for count in counts:
        own = [place - start for place in range(start, start + count) if place in taken]
        places.append(torch.tensor(own, dtype=torch.int64, device=chosen.device))
        start += count
    return places
