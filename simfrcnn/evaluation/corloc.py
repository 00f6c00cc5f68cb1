"""In how many positive images does the best detection lie on a finding?

CorLoc (correct localisation) is what weakly supervised detection reports: one box an image, its
highest. An image without detections counts as missed; of equal scores, the first in the order of
matching is the best. Ignored regions play no part: the image has a finding to be found.

Some count an image as right if *any* box from a score on lies right, which many boxes make easy.
That is a figure of its own, to compare with theirs.

Shapes: U positive images, P patients, R rows of bootstrap weights.

Reference:
    Deselaers, Alexe and Ferrari 2010 (the share of images whose object is localised at IoU .5).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import Statistic, exact_intervals, per_patient, ratio
from simfrcnn.evaluation.matching import box_iou
from simfrcnn.evaluation.truth import View

FloatArray = NDArray[np.float64]

KEY = "finding/corloc"
KEY_OF_ANY = "finding/corloc_any"
IOU_THRESHOLD = 0.5


def corloc_statistic(views: Sequence[View], n_patients: int, score_threshold: float) -> Statistic:
    """The shares of images with a finding that are localised at IoU .5, by both rules.

    Args:
        views: Images in which it is known where findings lie.
        n_patients: P.
        score_threshold: From which score on any detection counts, by the second rule.
    """
    positive = [view for view in views if len(view.finding_boxes)]
    patients = np.array([view.patient for view in positive], dtype=np.intp)
    n_right, columns = {}, []
    for key, n_best in ((KEY, _highest), (KEY_OF_ANY, partial(_from, score_threshold))):
        is_right = np.array([_is_localised(v, n_best(v)) for v in positive], dtype=np.bool_)
        n_right[key] = int(is_right.sum())
        columns.append(per_patient(patients[is_right], n_patients))
    trials = per_patient(patients, n_patients)

    def compute(weights: FloatArray) -> FloatArray:
        return np.stack([ratio(weights @ right, weights @ trials) for right in columns], axis=1)

    return Statistic(
        keys=tuple(n_right),
        compute=compute,
        n={key: {"localised": n, "images": len(positive)} for key, n in n_right.items()},
        why_undefined=dict.fromkeys(n_right, "there is no image with a finding"),
        intervals=exact_intervals(tuple(n_right), columns, trials),
    )


def _highest(_: View) -> int:
    return 1


def _from(score_threshold: float, view: View) -> int:
    return int((view.scores >= score_threshold).sum())


def _is_localised(view: View, n_best: int) -> bool:
    """Whether one of the best detections meets a finding."""
    overlaps = box_iou(view.boxes[:n_best], view.finding_boxes)
    return bool((overlaps >= IOU_THRESHOLD).any())
