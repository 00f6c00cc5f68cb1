"""How do the detections of several models become one list? By union, with greedy suppression."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from simfrcnn.artifacts import ImageDetections
from simfrcnn.errors import ConfigError
from simfrcnn.evaluation.matching import box_iou, falling_order


def union(inputs: Sequence[ImageDetections], iou_threshold: float = 0.5) -> ImageDetections:
    """The boxes of all models for one image, each with the models' mean score.

    By falling score a box is kept and stands for the boxes of its class that overlap it by at least
    ``iou_threshold`` and are not taken yet, its own model's as well. Its score is the mean over the
    models of their best score among the boxes that it stands for; 0 of a model that has none there.
    The order of ``inputs`` is irrelevant, to the last bit. A kept box keeps its mask, where all
    models have masks; else there are none.

    >>> import numpy as np
    >>> def found(box, score):
    ...     return ImageDetections(1, np.array([box], float), np.array([score]), ("malignant",))
    >>> joint = union([found((0, 0, 10, 10), 0.9), found((0, 0, 10, 9), 0.5)])
    >>> joint.boxes.tolist(), joint.scores.tolist()
    ([[0.0, 0.0, 10.0, 10.0]], [0.7])

    Args:
        inputs: One entry for each of at least two models, all of one image.
        iou_threshold: In (0, 1].

    Raises:
        ConfigError: Fewer than two models.
    """
    if len(inputs) < 2:
        raise ConfigError(f"a union is of two or more models; given: {len(inputs)}")
    boxes = np.concatenate([one.boxes for one in inputs])
    scores = np.concatenate([one.scores for one in inputs])
    models = np.concatenate([np.full(len(one.scores), n) for n, one in enumerate(inputs)])
    names = [name for one in inputs for name in one.categories]
    masks = [mask for one in inputs for mask in one.masks or ()]
    kept: list[tuple[int, float]] = []
    for name in sorted(set(names)):
        members = np.flatnonzero([other == name for other in names])
        order = members[falling_order(boxes[members], scores[members])]
        overlap = box_iou(boxes[order], boxes[order])
        is_free = np.ones(len(order), dtype=bool)
        for place, index in enumerate(order):
            if not is_free[place]:
                continue
            # A box without area overlaps nothing, itself included.
            stands_for = is_free & (overlap[place] >= iou_threshold)
            stands_for[place] = True
            is_free &= ~stands_for
            taken = order[stands_for]
            best = [scores[taken[models[taken] == n]].max(initial=0.0) for n in range(len(inputs))]
            kept.append((int(index), math.fsum(best) / len(inputs)))
    indices = [index for index, _ in kept]
    return ImageDetections(
        image_id=inputs[0].image_id,
        boxes=boxes[indices].reshape(-1, 4),
        scores=np.array([score for _, score in kept], dtype=np.float64),
        categories=tuple(names[index] for index in indices),
        masks=None
        if any(one.masks is None for one in inputs)
        else tuple(masks[index] for index in indices),
    )
