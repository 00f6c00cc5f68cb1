"""Which detections of one image become pseudo-boxes?

Those of a target class with a high score that do not repeat one another. Shapes: D detections, S
boxes that are settled already, K boxes kept; boxes (D, 4) XYXY in pixels of the stored image, half
open.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import ImageDetections
from simfrcnn.evaluation.matching import box_iou, falling_order
from simfrcnn.records import Box, ImageRecord

SUSPECTED = "suspected"
"""The class of pseudo-boxes."""

SMALLEST_SIDE_PX = 1.0
"""A detection narrower or lower than this, inside the image, is no region to learn from."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Suspect:
    """A detection that may become a pseudo-box: where, and how sure the model was."""

    box: Box
    score: float


def suspects_of(
    record: ImageRecord,
    detections: ImageDetections,
    *,
    target_classes: Collection[str],
    nms_threshold: float,
) -> list[Suspect]:
    """The detections of target classes that no higher one overlaps, by falling score.

    No score is too low here: in greedy suppression a box is removed by higher ones alone, so that
    a score threshold may come after it (and the histogram can say what another one would give).
    A pseudo-box that the image carries already suppresses detections as a higher one would.

    Args:
        record: The image; boxes are clipped to it.
        detections: What the model found in this image.
        target_classes: Classes that the model was trained to find.
        nms_threshold: Boxes that overlap by an IoU above this are one.
    """
    limits = [record.width, record.height, record.width, record.height]
    boxes = np.clip(detections.boxes, 0, np.asarray(limits, dtype=np.float64))
    is_wanted = np.asarray([name in target_classes for name in detections.categories], dtype=bool)
    is_wanted &= (boxes[:, 2:] - boxes[:, :2] >= SMALLEST_SIDE_PX).all(axis=1)
    boxes, scores = boxes[is_wanted], detections.scores[is_wanted]
    settled = np.asarray(
        [finding.box for finding in record.findings_of((SUSPECTED,))], dtype=np.float64
    ).reshape(-1, 4)
    kept = suppress(boxes, scores, iou_threshold=nms_threshold, settled=settled)
    return [
        Suspect((float(x1), float(y1), float(x2), float(y2)), float(score))
        for (x1, y1, x2, y2), score in zip(boxes[kept], scores[kept], strict=True)
    ]


def suppress(
    boxes: FloatArray,
    scores: FloatArray,
    *,
    iou_threshold: float,
    settled: FloatArray | None = None,
) -> IntArray:
    """Greedy non-maximum suppression: by falling score, keep what overlaps nothing kept before.

    Equal scores go by coordinates, so that the result does not depend on the order in a file.

    Args:
        boxes: (D, 4) in pixels.
        scores: (D,) of each box.
        iou_threshold: An overlap above this suppresses.
        settled: (S, 4) boxes that suppress too, as if kept first.

    Returns:
        (K,) indices into ``boxes``, by falling score.
    """
    overlap = box_iou(boxes, boxes)
    is_open: NDArray[np.bool_] = np.ones(len(boxes), dtype=bool)
    if settled is not None and len(settled):
        is_open = np.asarray((box_iou(boxes, settled) <= iou_threshold).all(axis=1))
    kept: list[int] = []
    for index in falling_order(boxes, scores):
        if is_open[index]:
            kept.append(int(index))
            is_open &= overlap[index] <= iou_threshold
    return np.asarray(kept, dtype=np.intp)
