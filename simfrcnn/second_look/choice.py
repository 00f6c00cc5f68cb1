"""Which regions of a training step get a second look?

Of positive images what is malignant; of the others what the detector itself *suspects*. That is the
heart of the matter: with random places of normal images in place of suspected ones a prototype
learnt little. :mod:`~simfrcnn.second_look.places` draws such places, as a control.

Shapes: R sampled regions of an image, B its boxes, n chosen regions. Boxes in input pixels. Labels:
0 is background, 1..K the classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from simfrcnn.structures import ImageTargets

N_SUSPECTED = 5
"""Places of a normal image that count as suspected, at most."""
SAME_PLACE_IOU = 0.5
"""Of regions that overlap more, the most suspected one counts."""
_SHIFT = 0.1
_LOG_SCALE = 0.15


@dataclass(frozen=True)
class Regions:
    """What the box head made of the sampled regions of an image, without gradient.

    ``boxes`` (R, 4) as it refines them; ``labels`` (R,) as they were trained; ``suspicion`` (R,) in
    [0, 1], the highest probability of a target class.
    """

    boxes: Tensor
    labels: Tensor
    suspicion: Tensor

    def cpu(self) -> Regions:
        """The same on the CPU, where regions are chosen and squares are cut."""
        return Regions(self.boxes.cpu().float(), self.labels.cpu(), self.suspicion.cpu().float())

    def finite(self) -> Regions:
        """Those with finite boxes and suspicion: no other has a place, or a chance to be drawn.

        Where a detector diverges there are others; its own losses say so.
        """
        known = are_finite(self.boxes) & self.suspicion.isfinite()
        return Regions(self.boxes[known], self.labels[known], self.suspicion[known])


def is_positive(targets: ImageTargets, target_labels: Collection[int]) -> bool:
    """Whether an image has a box of a target class."""
    return any(label in target_labels for label in targets.labels.tolist())


def choose_regions(
    regions: Regions, targets: ImageTargets, *, target_labels: Collection[int], n_regions: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the regions of one image, with replacement, from torch's global generator.

    Of a positive image: evenly from its boxes and the sampled regions that were trained as
    foreground. Of any other: from the places that the detector suspects most (see
    :func:`suspected`), in proportion to suspicion. Labels stay as they are: where a normal image
    carries boxes of another class, these are learnt as that class. Regions whose box or suspicion
    is not finite are left out.

    Args:
        regions: On the CPU.
        targets: The boxes (B, 4) and labels (B,) of the image.
        target_labels: Labels in 1..K of the target classes.
        n_regions: n.

    Returns:
        Boxes (n, 4), labels (n,) and suspicion (n,), which is 1 of a box; nothing where there is
        nothing to draw from.
    """
    regions = regions.finite()
    if is_positive(targets, target_labels):
        own, found = targets.boxes.cpu().float(), regions.labels > 0
        boxes = torch.cat([own, regions.boxes[found]])
        labels = torch.cat([targets.labels.cpu(), regions.labels[found]])
        suspicion = torch.cat([torch.ones(len(own)), regions.suspicion[found]])
        weights = torch.ones(len(boxes))
    else:
        places = suspected(regions.boxes, regions.suspicion)
        boxes, labels = regions.boxes[places], regions.labels[places]
        suspicion = weights = regions.suspicion[places]
    has_side = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, labels, suspicion = boxes[has_side], labels[has_side], suspicion[has_side]
    weights = weights[has_side]
    if not len(boxes):
        return boxes, labels, suspicion
    drawn = torch.multinomial(weights.clamp(min=1e-6), n_regions, replacement=True)
    return boxes[drawn], labels[drawn], suspicion[drawn]


def are_finite(boxes: Tensor) -> Tensor:
    """Which boxes (n, 4) have a place: (n,)."""
    return boxes.isfinite().all(dim=1)


def suspected(boxes: Tensor, suspicion: Tensor) -> Tensor:
    """The most suspected places of an image: indices (at most :data:`N_SUSPECTED`), most first.

    Of regions that overlap, the most suspected one stands for the place; of equal ones the first.

    Args:
        boxes: (R, 4).
        suspicion: (R,).
    """
    left = torch.argsort(suspicion, descending=True, stable=True)
    chosen: list[int] = []
    while len(left) and len(chosen) < N_SUSPECTED:
        best = int(left[0])
        chosen.append(best)
        left = left[1:][_iou_with(boxes[best], boxes[left[1:]]) <= SAME_PLACE_IOU]
    return torch.tensor(chosen, dtype=torch.int64)


def jittered(boxes: Tensor) -> Tensor:
    """Boxes (n, 4) moved by up to a tenth of their sides, and scaled by up to exp(.15)."""
    sides, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    centres = centres + sides * _SHIFT * (2 * torch.rand(len(boxes), 2) - 1)
    halves = sides / 2 * torch.exp(_LOG_SCALE * (2 * torch.rand(len(boxes), 1) - 1))
    return torch.cat([centres - halves, centres + halves], dim=1)


def _iou_with(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of one box (4,) with others (n, 4): (n,)."""
    common = torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])
    shared = common.clamp(min=0).prod(dim=1)
    areas = (others[:, 2:] - others[:, :2]).prod(dim=1) + (box[2:] - box[:2]).prod()
    return shared / (areas - shared).clamp(min=1e-9)
