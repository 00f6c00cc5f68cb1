"""How well are images, breasts and cases told apart?

Shapes: U units (images, breasts or cases) of one level, P patients, R rows of bootstrap weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import Statistic, per_patient, ratio
from simfrcnn.evaluation.results import Curve, UnitScore
from simfrcnn.evaluation.truth import Truth, View, unit_truth
from simfrcnn.settings import EvaluationSettings, Pooling

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

LEVELS = ("case", "breast", "image")


@dataclass(frozen=True)
class Units:
    """The units of one level; ``patients``, ``scores`` and ``truths`` are (U,)."""

    level: str
    ids: tuple[str, ...]
    patients: IntArray
    scores: FloatArray
    truths: IntArray

    def n_of(self, truth: Truth) -> int:
        """How many units have this truth."""
        return int((self.truths == truth).sum())

    def table(self, patient_ids: Sequence[str]) -> tuple[UnitScore, ...]:
        """The units one by one, for the report."""
        rows = zip(self.ids, self.patients, self.truths, self.scores, strict=True)
        return tuple(
            UnitScore(unit_id, patient_ids[patient], Truth(truth).label, float(score))
            for unit_id, patient, truth, score in rows
        )


def units_of(views: Sequence[View], level: str, settings: EvaluationSettings) -> Units:
    """Group views into the units of ``level`` and pool their scores.

    A breast or case pools **all** its views, also those whose own truth is unknown: the reader of
    a case sees them too.
    """
    groups: dict[tuple[str, str], list[View]] = defaultdict(list)
    for view in views:
        groups[view.record.patient_id, _unit_id(view, level, settings)].append(view)
    keys = sorted(groups)
    is_image = level == "image"
    return Units(
        level=level,
        ids=tuple(unit_id for _, unit_id in keys),
        patients=np.array([groups[key][0].patient for key in keys], dtype=np.intp),
        scores=np.array([pool([v.score for v in groups[key]], settings.pooling) for key in keys]),
        truths=np.array(
            [
                groups[key][0].truth if is_image else unit_truth(groups[key], settings)
                for key in keys
            ],
            dtype=np.intp,
        ),
    )


def pool(scores: Sequence[float], pooling: Pooling) -> float:
    """The score of a unit from those of its views.

    ``max`` is multiple-instance learning's (thesis eq. 3.2); ``noisy_or`` is the probability that
    at least one view shows a cancer if the views were independent.
    """
    values = np.asarray(scores, dtype=np.float64)
    if pooling == "max":
        return float(values.max())
    if pooling == "mean":
        return float(values.mean())
    return float(1 - np.prod(1 - values))


def unit_statistic(units: Units, n_patients: int, score_threshold: float) -> Statistic:
    """AUC, and accuracy, sensitivity and specificity at a fixed score; unknown units left out.

    A unit is called positive if its score is at least ``score_threshold``.
    """
    is_known = units.truths != Truth.UNKNOWN
    patients, scores = units.patients[is_known], units.scores[is_known]
    is_positive = units.truths[is_known] == Truth.POSITIVE
    is_called = scores >= score_threshold
    n_positive, n_normal = int(is_positive.sum()), int((~is_positive).sum())
    masks = {
        "accuracy": (is_called == is_positive, np.ones_like(is_positive)),
        "sensitivity": (is_called & is_positive, is_positive),
        "specificity": (~is_called & ~is_positive, ~is_positive),
    }
    counts = {
        name: tuple(per_patient(patients[mask], n_patients) for mask in pair)
        for name, pair in masks.items()
    }
    n_right = {name: int(right.sum()) for name, (right, _) in masks.items()}
    auc = auc_function(patients, scores, is_positive)

    def compute(weights: FloatArray) -> FloatArray:
        shares = [ratio(weights @ right, weights @ trials) for right, trials in counts.values()]
        return np.stack([auc(weights), *shares], axis=1)

    has_one_each = len(np.unique(patients)) == len(patients)
    level = units.level
    found = f"there are {n_positive} positive and {n_normal} normal ones"
    return Statistic(
        keys=(f"{level}/auc", *(f"{level}/{name}" for name in masks)),
        compute=compute,
        n={
            f"{level}/auc": {"positive": n_positive, "normal": n_normal},
            f"{level}/accuracy": {"right": n_right["accuracy"], "known": len(patients)},
            f"{level}/sensitivity": {"right": n_right["sensitivity"], "positive": n_positive},
            f"{level}/specificity": {"right": n_right["specificity"], "normal": n_normal},
        },
        why_undefined={
            f"{level}/auc": f"needs a positive and a normal {level}; {found}",
            f"{level}/accuracy": f"needs a {level} of known truth; {found}",
            f"{level}/sensitivity": f"needs a positive {level}; {found}",
            f"{level}/specificity": f"needs a normal {level}; {found}",
        },
        proportions={
            f"{level}/{name}": (int(right.sum()), int(trials.sum()))
            for name, (right, trials) in masks.items()
            if has_one_each
        },
    )


def auc_function(
    patients: IntArray, scores: FloatArray, is_positive: NDArray[np.bool_]
) -> Callable[[FloatArray], FloatArray]:
    """The area under the ROC curve as a function of weights (R, P) -> (R,).

    It is the part of (positive, normal) pairs in which the positive unit scores higher; a tie
    counts half. NaN without positives or without normals.

    Reference:
        Mann and Whitney 1947; Bamber 1975 (equality with the trapezoidal area).
    """
    order = np.argsort(scores, kind="stable")
    patients, scores, is_positive = patients[order], scores[order], is_positive[order]
    is_new = np.ones(len(scores), dtype=bool)
    is_new[1:] = scores[1:] != scores[:-1]
    starts = np.flatnonzero(is_new)

    def auc(weights: FloatArray) -> FloatArray:
        if not len(scores):
            return np.full(len(weights), np.nan)
        unit_weights = weights[:, patients]
        positive = np.add.reduceat(unit_weights * is_positive, starts, axis=1)
        normal = np.add.reduceat(unit_weights * ~is_positive, starts, axis=1)
        below = np.cumsum(normal, axis=1) - normal
        wins = (positive * (below + normal / 2)).sum(axis=1)
        return ratio(wins, positive.sum(axis=1) * normal.sum(axis=1))

    return auc


def roc_curve(units: Units) -> Curve:
    """Sensitivity against 1 - specificity at every score; empty if one kind is missing."""
    is_known = units.truths != Truth.UNKNOWN
    scores, is_positive = units.scores[is_known], units.truths[is_known] == Truth.POSITIVE
    if not is_positive.any() or is_positive.all():
        return Curve((), (), ())
    levels = np.unique(scores)[::-1]
    positives, normals = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    sensitivity = 1 - np.searchsorted(positives, levels, side="left") / len(positives)
    one_minus_specificity = 1 - np.searchsorted(normals, levels, side="left") / len(normals)
    return Curve(
        tuple(levels.tolist()), tuple(one_minus_specificity.tolist()), tuple(sensitivity.tolist())
    )


def _unit_id(view: View, level: str, settings: EvaluationSettings) -> str:
    record = view.record
    if level == "image":
        return str(record.image_id)
    if level == "breast":
        return record.breast_id
    return record.patient_id if settings.case_by == "patient" else record.exam_id
