"""Which detection hits which finding, in one image?

Shapes: D detections, G findings; boxes (D, 4) and (G, 4) XYXY in pixels, half open; ``overlap``
    (D, G).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simfrcnn.registry import look_up

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

FALSE_POSITIVE = -1
"""The detection meets no finding."""
REPEAT = -2
"""The detection meets only findings that a higher one found already."""
IGNORED = -3
"""The detection hits nothing but lies on a region that does not count: neither hit nor false
positive."""


@dataclass(frozen=True)
class HitCriterion:
    """When a detection counts as having met a finding.

    ``name`` is part of the names of figures, ``label`` is what tables call it. ``meets(detections,
    findings, overlap)`` gives (D, G) booleans.
    """

    name: str
    label: str
    description: str
    meets: Callable[[FloatArray, FloatArray, FloatArray], BoolArray]


def _iou_at_least(
    iou_threshold: float,
) -> Callable[[FloatArray, FloatArray, FloatArray], BoolArray]:
    def meets(detections: FloatArray, findings: FloatArray, overlap: FloatArray) -> BoolArray:
        return overlap >= iou_threshold

    return meets


def _centre_in_box(detections: FloatArray, findings: FloatArray, overlap: FloatArray) -> BoolArray:
    centre = (detections[:, :2] + detections[:, 2:]) / 2
    return np.asarray(
        (centre[:, None] >= findings[None, :, :2]).all(axis=2)
        & (centre[:, None] < findings[None, :, 2:]).all(axis=2)
    )


HIT_CRITERIA = (
    HitCriterion(
        "iou_0.1", "IoU >= 0.1", "IoU with the finding is at least 0.1", _iou_at_least(0.1)
    ),
    HitCriterion(
        "iou_0.5", "IoU >= 0.5", "IoU with the finding is at least 0.5", _iou_at_least(0.5)
    ),
    HitCriterion(
        "centre",
        "centre in box",
        "the detection's centre lies in the finding's box",
        _centre_in_box,
    ),
)
"""Every finding is judged by all of them. A new one is an entry here."""


def hit_criterion(name: str) -> HitCriterion:
    """One of :data:`HIT_CRITERIA`.

    Raises:
        ConfigError: There is none of that name.
    """
    return look_up({each.name: each for each in HIT_CRITERIA}, name, "hit criterion")


def box_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Intersection over union of every box of ``first`` (D, 4) with every one of ``second`` (G, 4).

    Two boxes without area have IoU 0.
    """
    intersection = _intersection(first, second)
    union = _area(first)[:, None] + _area(second)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def falling_order(boxes: FloatArray, scores: FloatArray) -> IntArray:
    """The order in which the detections of one image are matched: by falling score.

    Equal scores go by the box's coordinates, so that no figure depends on the order in a file.
    """
    order: IntArray = np.argsort(-scores)
    falling = scores[order]
    if (falling[1:] < falling[:-1]).all():
        return order
    return np.lexsort((boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], -scores))


def match_image(
    detections: FloatArray,
    findings: FloatArray,
    criterion: HitCriterion,
    crowds: FloatArray | None = None,
    ignored: FloatArray | None = None,
) -> IntArray:
    """Give each detection of one image the finding that it hits, or say why it hits none.

    Detections are taken in the order given. Each takes, of the findings that it meets and that are
    not yet found, the one with the highest IoU (also where the criterion is the centre).

    Args:
        detections: (D, 4), by falling score (see :func:`falling_order`).
        findings: (G, 4), in any order.
        criterion: When a detection meets a finding.
        crowds: (C, 4) regions that hold an unknown number of findings; what lies in one
            (intersection over the detection's own area, as COCO has it, in place of IoU) is
            ignored unless it is a hit.
        ignored: (I, 4) boxes of findings that do not count, a benign mass for instance; what meets
            one is ignored unless it is a hit.

    Returns:
        (D,) index of the finding hit, or ``FALSE_POSITIVE``, ``REPEAT`` or ``IGNORED``.
    """
    return match_by_all(detections, findings, (criterion,), crowds, ignored)[0]


def match_by_all(
    detections: FloatArray,
    findings: FloatArray,
    criteria: Sequence[HitCriterion],
    crowds: FloatArray | None = None,
    ignored: FloatArray | None = None,
) -> list[IntArray]:
    """:func:`match_image` by each of ``criteria``; boxes are laid over each other once."""
    overlap = box_iou(detections, findings)
    regions = [
        (boxes, overlap_with(detections, boxes))
        for boxes, overlap_with in ((crowds, _covered_by), (ignored, box_iou))
        if boxes is not None and len(boxes)
    ]
    return [_matched(detections, findings, overlap, regions, each) for each in criteria]


def _matched(
    detections: FloatArray,
    findings: FloatArray,
    overlap: FloatArray,
    regions: Sequence[tuple[FloatArray, FloatArray]],
    criterion: HitCriterion,
) -> IntArray:
    """What :func:`match_image` returns, from the overlaps with findings and with regions."""
    meets = criterion.meets(detections, findings, overlap)
    outcome = np.full(len(detections), FALSE_POSITIVE, dtype=np.intp)
    outcome[meets.any(axis=1)] = REPEAT
    is_found = np.zeros(len(findings), dtype=bool)
    for index in np.flatnonzero(outcome == REPEAT):
        open_findings = meets[index] & ~is_found
        if open_findings.any():
            best = int(np.argmax(np.where(open_findings, overlap[index], -1.0)))
            outcome[index] = best
            is_found[best] = True
    for boxes, part in regions:
        meets_region = criterion.meets(detections, boxes, part).any(axis=1)
        outcome[meets_region & (outcome < 0)] = IGNORED
    return outcome


def _intersection(first: FloatArray, second: FloatArray) -> FloatArray:
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def _area(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _covered_by(detections: FloatArray, crowds: FloatArray) -> FloatArray:
    """(D, C): the part of each detection's area that lies in each crowd region."""
    intersection = _intersection(detections, crowds)
    area = np.broadcast_to(_area(detections)[:, None], intersection.shape)
    return np.divide(intersection, area, out=np.zeros_like(intersection), where=area > 0)
