"""In how many positive images does the best detection lie on a finding?

CorLoc (correct localisation) is what weakly supervised detection reports: one box an image, its
highest. An image without detections counts as missed; of equal scores, the first in the order of
matching is the best. Ignored regions play no part: the image has a finding to be found.

Shapes: U positive images, P patients, R rows of bootstrap weights.

Reference:
    Deselaers, Alexe and Ferrari 2010 (the share of images whose object is localised at IoU .5).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import Statistic, clopper_pearson, per_patient, ratio
from simfrcnn.evaluation.matching import box_iou
from simfrcnn.evaluation.truth import View

FloatArray = NDArray[np.float64]

KEY = "finding/corloc"
IOU_THRESHOLD = 0.5


def corloc_statistic(views: Sequence[View], n_patients: int) -> Statistic:
    """The share of images with a finding whose highest detection meets one at IoU .5."""
    positive = [view for view in views if len(view.finding_boxes)]
    patients = np.array([view.patient for view in positive], dtype=np.intp)
    is_right = np.array([_is_localised(view) for view in positive], dtype=np.bool_)
    right, trials = per_patient(patients[is_right], n_patients), per_patient(patients, n_patients)

    def compute(weights: FloatArray) -> FloatArray:
        return ratio(weights @ right, weights @ trials)[:, None]

    has_one_each = len(np.unique(patients)) == len(patients)
    return Statistic(
        keys=(KEY,),
        compute=compute,
        n={KEY: {"localised": int(is_right.sum()), "images": len(positive)}},
        why_undefined={KEY: "there is no image with a finding"},
        intervals={KEY: partial(clopper_pearson, int(is_right.sum()), len(positive))}
        if has_one_each
        else {},
    )


def _is_localised(view: View) -> bool:
    best = view.boxes[:1]
    return bool((box_iou(best, view.finding_boxes) >= IOU_THRESHOLD).any())
