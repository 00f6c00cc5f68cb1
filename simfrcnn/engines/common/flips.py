"""What does a detector find in an image and in its mirror images together?

Test-time augmentation: each image is looked at in several flips, and the boxes that lie on each
other become one, at their mean place and with their mean score. It costs a detection for each
flip.

Shapes: D detections of an image.

Reference:
    The mean box is that of Solovyev 2021 (weighted boxes fusion), the mean score that of
    :func:`simfrcnn.combine` by union.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from simfrcnn.config import FLIPS
from simfrcnn.engines.common.boxes import iou
from simfrcnn.structures import OF_SECOND_LOOK, Detections, Frame, Sample

Detect = Callable[[nn.Module, Sequence[Sample]], list[Detections]]

SAME_IOU = 0.5
"""Boxes of one class that overlap by this much are one."""


def in_flips(cfg: Any, detect: Detect) -> Detect:
    """An engine's ``detect``, or what calls it for each flip of ``TEST.FLIPS`` and joins the boxes.

    Args:
        cfg: The config that the model is run under.
        detect: The engine's.
    """
    flips = FLIPS[cfg.TEST.FLIPS]
    if len(flips) == 1:
        return detect
    n_most, min_score = cfg.TEST.DETECTIONS_PER_IMAGE, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST

    def detect_in_flips(model: nn.Module, samples: Sequence[Sample]) -> list[Detections]:
        found = [detect(model, [flipped(one, *flip) for one in samples]) for flip in flips]
        return [
            joined(of_image, min_score=min_score, n_most=n_most)
            for of_image in zip(*found, strict=True)
        ]

    return detect_in_flips


def flips_of(cfg: Any) -> dict[str, str]:
    """For the provenance of detections: flips other than none."""
    return {} if cfg.TEST.FLIPS == "none" else {"flips": cfg.TEST.FLIPS}


def flipped(sample: Sample, horizontally: bool, vertically: bool) -> Sample:
    """A sample whose input is mirrored; what is found in it still comes in original pixels.

    Its stored pixels stay as they are, and their map to the input is mirrored as well.
    """
    height, width = sample.image.shape[-2:]
    mirror = Frame(
        *((-1.0, float(width)) if horizontally else (1.0, 0.0)),
        *((-1.0, float(height)) if vertically else (1.0, 0.0)),
        height,
        width,
    )
    sides = [side for side, is_turned in ((-1, horizontally), (-2, vertically)) if is_turned]
    native = sample.native
    return dataclasses.replace(
        sample,
        image=sample.image.flip(sides),
        frame=sample.frame.then(mirror),
        native=native and dataclasses.replace(native, frame=native.frame.then(mirror)),
    )


def joined(found: Sequence[Detections], *, min_score: float, n_most: int) -> Detections:
    """What was found in the flips of one image, as one list by falling score.

    By falling score a box takes in those of its class that overlap it by :data:`SAME_IOU` or more
    and are not taken yet. The joint box is the mean of all of them, weighted by score. Its score is
    the mean over the flips of the best one among them, 0 of a flip that has none; so is the
    detector's own. The score of a second look is the mean over the flips whose best box was looked
    at, and the square that of the best of these.

    Args:
        found: One for each flip, without masks.
        min_score: Joint boxes below it are dropped, by the detector's own score.
        n_most: As many are kept.
    """
    flips = torch.cat([torch.full_like(one.labels, n) for n, one in enumerate(found)])
    boxes = torch.cat([one.boxes for one in found]).double()
    scores = torch.cat([one.scores for one in found]).double()
    labels = torch.cat([one.labels for one in found])
    groups = _groups(boxes, scores, labels)
    of_flips = [_best_of_flips(group, flips) for group in groups]

    def mean_over_flips(values: Tensor) -> Tensor:
        values = values.double()
        return _stacked([values[best].sum() / len(found) for best in of_flips], values)

    joint = own = mean_over_flips(scores)
    looks: dict[str, Tensor] = {}
    if found[0].first_scores is not None:
        looks = {name: torch.cat([getattr(one, name) for one in found]) for name in OF_SECOND_LOOK}
        own = mean_over_flips(looks["first_scores"])
    order = torch.argsort(joint, descending=True, stable=True)
    order = order[own[order] >= min_score][:n_most]
    more: dict[str, Any] = {}
    if looks:
        seen = [_looked_at(of_flips[index], looks["second_scores"]) for index in order]
        second = looks["second_scores"]
        more = {
            "first_scores": own[order].to(second),
            "second_scores": _stacked([second[each].mean() for each in seen], second),
            "squares": _stacked([looks["squares"][each[0]] for each in seen], looks["squares"]),
        }
    means = [_mean_box(boxes[groups[index]], scores[groups[index]]) for index in order]
    kinds = [labels[groups[index][0]] for index in order]
    return Detections(
        found[0].image_id,
        _stacked(means, boxes).to(found[0].boxes),
        joint[order].to(found[0].scores),
        _stacked(kinds, labels),
        **more,
    )


def _stacked(rows: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(rows)) if rows else like[:0]


def _looked_at(best: Tensor, second: Tensor) -> Tensor:
    """The indices that have a second look, or all of them if none has."""
    seen = best[~second[best].isnan()]
    return seen if len(seen) else best


def _groups(boxes: Tensor, scores: Tensor, labels: Tensor) -> list[Tensor]:
    """The indices of the boxes that become one, each group by falling score."""
    order = torch.argsort(scores, descending=True, stable=True)
    is_same = (iou(boxes, boxes) >= SAME_IOU) & (labels[:, None] == labels)
    is_same |= torch.eye(len(boxes), dtype=torch.bool)  # a box without area overlaps nothing
    is_free = torch.ones(len(boxes), dtype=torch.bool)
    groups: list[Tensor] = []
    for index in order:
        if is_free[index]:
            members = order[(is_free & is_same[index])[order]]
            is_free[members] = False
            groups.append(members)
    return groups


def _best_of_flips(group: Tensor, flips: Tensor) -> Tensor:
    """The indices of each flip's best box of a group, by falling score; of flips that have one."""
    firsts = [int((flips[group] == flip).nonzero()[0]) for flip in set(flips[group].tolist())]
    return group[sorted(firsts)]


def _mean_box(boxes: Tensor, scores: Tensor) -> Tensor:
    """(4,): with weights, unless all are 0."""
    weights = scores if scores.sum() > 0 else torch.ones_like(scores)
    return (boxes * weights[:, None]).sum(dim=0) / weights.sum()
