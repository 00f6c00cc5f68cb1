"""By which figures are models compared, and what are these called?

A metric is an entry of :data:`METRICS`: its name in full, the heading of its column, and what
computes it. Tables, pictures and JSON follow the order of the table.

Shapes: R rows of bootstrap weights, P patients, U cases, K thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.afroc import Lesions, level_of, localised_key, localised_statistic
from simfrcnn.evaluation.average_precision import ap_key, ap_statistic, coco_matches
from simfrcnn.evaluation.bootstrap import Statistic, ratio
from simfrcnn.evaluation.case import Units, fixed_point, levels_of, threshold_statistic
from simfrcnn.evaluation.froc import Events, froc_statistic
from simfrcnn.evaluation.multilabel import MEAN, LabelScores, label_statistics
from simfrcnn.evaluation.results import NAN
from simfrcnn.evaluation.roc import roc_statistic
from simfrcnn.evaluation.truth import View
from simfrcnn.registry import look_up
from simfrcnn.settings import EvaluationSettings

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

FIXED_SENSITIVITY = 0.9
SPECIFICITY_AT_SENSITIVITY = f"case/specificity_at_sensitivity_{FIXED_SENSITIVITY:g}"
_AP_IOU = 0.5


@dataclass(frozen=True)
class Judged:
    """One model's detections on the test set, pooled and matched once for all metrics.

    ``located`` are the views in which it is known where findings lie; ``units`` are by level;
    ``events`` are those of centre in box; ``lesions`` are by level, for localised figures.
    ``labels`` is there where images state several labels.
    """

    located: Sequence[View]
    units: Mapping[str, Units]
    events: Events
    settings: EvaluationSettings
    lesions: Mapping[str, Lesions] = field(default_factory=dict)
    labels: LabelScores | None = None

    @property
    def cases(self) -> Units:
        """The units of the level ``case``."""
        return self.units["case"]


@dataclass(frozen=True)
class Metric:
    """What models are compared by.

    ``key`` is that of the figure in a report; ``name`` is for text, ``heading`` for the head of a
    table's column. ``statistic`` computes it, perhaps with other figures; metrics that share one
    are computed together.
    """

    key: str
    name: str
    heading: str
    statistic: Callable[[Judged], Statistic]


def specificity_at_sensitivity(
    patients: IntArray, scores: FloatArray, is_positive: NDArray[np.bool_], sensitivity: float
) -> Callable[[FloatArray], FloatArray]:
    """The highest specificity at a sensitivity of at least ``sensitivity``: weights (R, P) -> (R,).

    The threshold is chosen again for each row of weights, among the scores of positive units: from
    such a score down to the next, sensitivity stays and specificity can only fall. A unit is called
    positive if its score is at least the threshold. NaN without positives or without normals.
    """
    levels = np.unique(scores[is_positive])[::-1]  # K thresholds, falling
    order = np.argsort(-scores[is_positive], kind="stable")
    positive_patients = patients[is_positive][order]
    last_of_level = np.searchsorted(-scores[is_positive][order], -levels, side="right") - 1
    order = np.argsort(-scores[~is_positive], kind="stable")
    normal_patients = patients[~is_positive][order]
    n_called_normals = np.searchsorted(-scores[~is_positive][order], -levels, side="right")

    def specificity(weights: FloatArray) -> FloatArray:
        rows = len(weights)
        if not len(positive_patients) or not len(normal_patients):
            return np.full(rows, NAN)
        found = np.cumsum(weights[:, positive_patients], axis=1)
        called = np.cumsum(weights[:, normal_patients], axis=1)
        called = np.concatenate([np.zeros((rows, 1)), called], axis=1)
        n_positive, n_normal = found[:, -1], called[:, -1]
        # The slack is for products such as .9 * 70, which are not whole in floating point.
        is_enough = found[:, last_of_level] >= sensitivity * n_positive[:, None] - 1e-9
        level = np.argmax(is_enough, axis=1)
        n_false = called[np.arange(rows), n_called_normals[level]]
        return np.where(n_positive > 0, 1 - ratio(n_false, n_normal), NAN)

    return specificity


def patients_behind(key: str, judged: Judged) -> dict[str, int]:
    """On how many patients a metric rests: those who give a positive, and those a normal unit.

    Of figures of boxes, those with a finding, and those with an image without one; of a mean over
    labels, those who show one of them, and those who lack one.
    """
    start = key.split("/")[0]
    if start == "localised":
        lesions = judged.lesions[level_of(key)]
        patients, is_positive = lesions.patients, ~lesions.is_normal
    elif key == MEAN:
        assert judged.labels is not None
        known = [judged.labels.known(name) for name in judged.labels.judged]
        patients = np.concatenate([np.zeros(0, np.intp), *(each[0] for each in known)])
        is_positive = np.concatenate([np.zeros(0, np.bool_), *(each[2] for each in known)])
    elif start in ("finding", "froc"):
        patients = np.array([view.patient for view in judged.located], dtype=np.intp)
        is_positive = np.array([bool(v.findings) for v in judged.located], dtype=np.bool_)
    else:
        return judged.units[start].n_patients
    return {
        "positive": len(np.unique(patients[is_positive])),
        "normal": len(np.unique(patients[~is_positive])),
    }


def _auc(level: str, judged: Judged) -> Statistic:
    return roc_statistic(judged.units[level])


def _at_threshold(judged: Judged) -> Statistic:
    point = fixed_point("case", judged.settings)
    return threshold_statistic(judged.cases, judged.events.n_patients, point)


def _average_precision(judged: Judged) -> Statistic:
    matches = coco_matches(judged.located, np.array([_AP_IOU]))
    return ap_statistic(matches, judged.events.n_patients, len(judged.located), _AP_IOU)


def _froc(judged: Judged) -> Statistic:
    return froc_statistic(judged.events, populations=("all",))


def _localised_by_case(judged: Judged) -> Statistic:
    return localised_statistic(judged.lesions["case"], judged.events)


def _localised_by_image(judged: Judged) -> Statistic:
    return localised_statistic(judged.lesions["image"], judged.events)


def _mean_of_labels(judged: Judged) -> Statistic:
    assert judged.labels is not None
    *_, mean = label_statistics(judged.labels)
    return mean


def _specificity_at_sensitivity(judged: Judged) -> Statistic:
    cases, key = judged.cases, SPECIFICITY_AT_SENSITIVITY
    compute = specificity_at_sensitivity(*cases.known(), FIXED_SENSITIVITY)
    return Statistic(
        keys=(key,),
        compute=lambda weights: compute(weights)[:, None],
        n={key: cases.n},
        why_undefined={key: cases.needs_both},
    )


METRICS: Mapping[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("case/auc", "AUC by case", "AUC by case", partial(_auc, "case")),
        Metric("image/auc", "AUC by image", "AUC by image", partial(_auc, "image")),
        Metric(
            SPECIFICITY_AT_SENSITIVITY,
            "specificity at sensitivity .90, by case",
            "SPE at SEN .90",
            _specificity_at_sensitivity,
        ),
        Metric("case/sensitivity", "sensitivity by case", "SEN", _at_threshold),
        Metric("case/specificity", "specificity by case", "SPE", _at_threshold),
        Metric(ap_key(_AP_IOU), "AP50", "AP50", _average_precision),
        Metric(
            "froc/centre/all/sensitivity_at_1",
            "sensitivity per finding at 1 FP/image",
            "found at 1 FP/image",
            _froc,
        ),
    )
}
"""By key; the first is the primary one."""


def metric_of(key: str) -> Metric:
    """One of :data:`ALL_METRICS`.

    Raises:
        ConfigError: There is none of that key; names those that exist.
    """
    return look_up(ALL_METRICS, key, "metric")


LOCALISED: Mapping[str, Metric] = {
    metric.key: metric
    for level, statistic in (("case", _localised_by_case), ("image", _localised_by_image))
    for metric in (
        Metric(
            localised_key("centre", level, name),
            f"{words} by {level}",
            f"{words} by {level}",
            statistic,
        )
        for name, words in (("wafroc", "wAFROC"), ("afroc", "AFROC"), ("lroc", "LROC"))
    )
}
"""Whether lesions are found where they are; compared only where lesions and normal units exist."""
BY_LEVEL: Mapping[str, Metric] = {
    f"{level}/auc": Metric(
        f"{level}/auc", f"AUC by {level}", f"AUC by {level}", partial(_auc, level)
    )
    for level in ("exam", "patient", "breast")
}
"""The AUC by the levels that are neither a case nor an image; compared where the settings know
them."""
OF_LABELS: Mapping[str, Metric] = {
    MEAN: Metric(MEAN, "mean AUC over the labels", "mean label AUC", _mean_of_labels)
}
"""Of models that answer several labels; compared only where images state them."""
ALL_METRICS: Mapping[str, Metric] = {**METRICS, **BY_LEVEL, **OF_LABELS, **LOCALISED}
PRIMARY = next(iter(METRICS))


def why_absent(
    key: str, settings: EvaluationSettings, *, has_labels: bool, lesions: Mapping[str, Lesions]
) -> str | None:
    """Why models are not compared by a metric on a test set; None where they are.

    Args:
        key: One of :data:`ALL_METRICS`.
        settings: What a case is.
        has_labels: Whether images state several labels
            (:func:`~simfrcnn.evaluation.multilabel.is_multilabel`).
        lesions: Of the test set, by level.
    """
    level = key.split("/")[0]
    if key in BY_LEVEL and level not in levels_of(settings):
        return f"the {level} is the case already (EVAL.CASE_BY {level}): rank by case/auc"
    if key in OF_LABELS and not has_labels:
        return "it needs two target classes or more, and images that state by labels what they show"
    if key in LOCALISED and not lesions[level_of(key)].is_defined:
        found = lesions[level_of(key)]
        return (
            f"it needs a lesion and a normal {found.level}, where it is known of all images where "
            f"lesions lie; there are {len(found.lesion_units)} and {int(found.is_normal.sum())}"
        )
    return None
