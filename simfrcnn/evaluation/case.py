"""How well are images, breasts, exams and patients told apart?

Shapes: U units of one level, M positive and N normal ones, P patients, R rows of bootstrap weights,
Q heights of a band.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import (
    CONFIDENCE,
    Interval,
    Statistic,
    clopper_pearson,
    per_patient,
    ratio,
)
from simfrcnn.evaluation.delong import auc_interval
from simfrcnn.evaluation.results import Confusion, Curve, OperatingPoint, UnitScore
from simfrcnn.evaluation.truth import Truth, View, unit_truth
from simfrcnn.settings import EvaluationSettings, Pooling

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

ROC_GRID = np.arange(101) / 100
"""Where the band round a ROC curve is drawn, in 1 - specificity."""


class KnownUnits(NamedTuple):
    """The units of known truth, (U,) each."""

    patients: IntArray
    scores: FloatArray
    is_positive: BoolArray


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

    @property
    def n(self) -> dict[str, int]:
        """How many are positive and normal."""
        return {"positive": self.n_of(Truth.POSITIVE), "normal": self.n_of(Truth.NORMAL)}

    @property
    def found(self) -> str:
        """The same in words, for a reason."""
        return "there are {positive} positive and {normal} normal ones".format_map(self.n)

    def known(self) -> KnownUnits:
        """Those whose truth is known."""
        is_known = self.truths != Truth.UNKNOWN
        return KnownUnits(
            self.patients[is_known],
            self.scores[is_known],
            self.truths[is_known] == Truth.POSITIVE,
        )

    def table(self, patient_ids: Sequence[str]) -> tuple[UnitScore, ...]:
        """The units one by one, for the report."""
        rows = zip(self.ids, self.patients, self.truths, self.scores, strict=True)
        return tuple(
            UnitScore(unit_id, patient_ids[patient], Truth(truth).label, float(score))
            for unit_id, patient, truth, score in rows
        )


def levels_of(settings: EvaluationSettings) -> tuple[str, ...]:
    """At which levels units are judged: the case first, then exams or patients, whichever it isn't.

    With one exam per patient the first two are the same.
    """
    return ("case", "exam" if settings.case_by == "patient" else "patient", "breast", "image")


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
    at least one view shows a cancer if the views were independent. Equal scores, in whatever order
    of the views, give equal results, also in their last digit: a tie stays a tie, and a score at a
    threshold stays there.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    lowest, highest = values[0], values[-1]
    if pooling == "max" or len(values) == 1:
        return float(highest)
    if pooling == "mean":
        return float(values.mean().clip(lowest, highest))
    return float((1 - np.prod(1 - values)).clip(highest, 1))


def roc_statistic(units: Units, *, with_band: bool = False) -> Statistic:
    """AUC, and the sensitivity at every specificity of :data:`ROC_GRID` for a band.

    Units of unknown truth are left out. The interval of the AUC does not come from the bootstrap
    (see :func:`~simfrcnn.evaluation.delong.auc_interval`); the band does.
    """
    known = units.known()
    ranking = _Ranking.of(known)
    key = f"{units.level}/auc"

    def compute(weights: FloatArray) -> FloatArray:
        called = ranking.called(weights)
        auc = ranking.auc(called)[:, None]
        return np.hstack([auc, ranking.sensitivity(called, ROC_GRID)]) if with_band else auc

    return Statistic(
        keys=(key,),
        compute=compute,
        n={key: units.n},
        why_undefined={key: f"needs a positive and a normal {units.level}; {units.found}"},
        intervals={key: partial(auc_interval, *known)},
        bands={f"roc/{units.level}": ROC_GRID} if with_band else {},
    )


def fixed_point(level: str, settings: EvaluationSettings) -> OperatingPoint:
    """The threshold that was not chosen on data: ``EVAL.SCORE_THRESHOLD``."""
    return OperatingPoint(level, "fixed", settings.score_threshold)


def threshold_statistic(
    units: Units, n_patients: int, point: OperatingPoint, prevalence: float | None = None
) -> Statistic:
    """Accuracy, sensitivity and specificity at a score, and what a call then means.

    Units of unknown truth are left out. A unit is called positive if its score is at least
    ``point.score_threshold``. Keys begin with ``point.key``.

    Args:
        units: Of the level of ``point``.
        n_patients: P.
        point: The threshold.
        prevalence: Part of positive units of this level where the model is to be used; given, there
            are predictive values, ``ppv`` and ``npv``. The part in the test set does not enter.
    """
    patients, scores, is_positive = units.known()
    is_called = scores >= point.score_threshold
    trials = {
        "accuracy": (is_called == is_positive, np.ones_like(is_positive)),
        "sensitivity": (is_called & is_positive, is_positive),
        "specificity": (~is_called & ~is_positive, ~is_positive),
    }
    counts = [
        tuple(per_patient(patients[mask], n_patients) for mask in pair) for pair in trials.values()
    ]
    n_of = {name: (int(won.sum()), int(all_.sum())) for name, (won, all_) in trials.items()}

    def compute(weights: FloatArray) -> FloatArray:
        shares = [ratio(weights @ won, weights @ all_) for won, all_ in counts]
        if prevalence is not None:
            shares += predictive_values(shares[1], shares[2], prevalence)
        return np.stack(shares, axis=1)

    key, level = point.key, units.level
    denominators = {"accuracy": "known", "sensitivity": "positive", "specificity": "normal"}
    n = {
        f"{key}/{name}": {"right": n_of[name][0], of: n_of[name][1]}
        for name, of in denominators.items()
    }
    why = {
        f"{key}/accuracy": f"needs a {level} of known truth; {units.found}",
        f"{key}/sensitivity": f"needs a positive {level}; {units.found}",
        f"{key}/specificity": f"needs a normal {level}; {units.found}",
    }
    # Exact where no patient gives two trials: of breasts, say, one positive each.
    has_one_each = {name: _are_distinct(patients[all_]) for name, (_, all_) in trials.items()}
    intervals = {
        f"{key}/{name}": partial(clopper_pearson, *n_of[name])
        for name in trials
        if has_one_each[name]
    }
    if prevalence is not None:
        for name, call in (("ppv", "positive"), ("npv", "negative")):
            n[f"{key}/{name}"] = units.n
            why[f"{key}/{name}"] = (
                f"needs a positive and a normal {level}, and one that is called {call}; "
                f"{units.found}"
            )
            if has_one_each["accuracy"]:
                intervals[f"{key}/{name}"] = partial(
                    _predictive_interval,
                    name == "ppv",
                    n_of["sensitivity"],
                    n_of["specificity"],
                    prevalence,
                )
    return Statistic(
        keys=tuple(n),
        compute=compute,
        n=n,
        why_undefined=why,
        intervals=intervals,
    )


def predictive_values(
    sensitivity: FloatArray, specificity: FloatArray, prevalence: float
) -> tuple[FloatArray, FloatArray]:
    """Of the units called positive the part that is, and of those called negative the part that is.

    By Bayes, so that the prevalence is the stated one, not the test set's. NaN where nothing is
    called so.
    """
    called_right, called_wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    cleared_right, cleared_wrong = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return (
        ratio(called_right, called_right + called_wrong),
        ratio(cleared_right, cleared_right + cleared_wrong),
    )


def confusion_of(units: Units, point: OperatingPoint) -> Confusion:
    """How many units of known truth are called what at an operating point."""
    _, scores, is_positive = units.known()
    is_called = scores >= point.score_threshold
    return Confusion(
        true_positives=int((is_called & is_positive).sum()),
        false_negatives=int((~is_called & is_positive).sum()),
        false_positives=int((is_called & ~is_positive).sum()),
        true_negatives=int((~is_called & ~is_positive).sum()),
    )


def auc_function(
    patients: IntArray, scores: FloatArray, is_positive: BoolArray
) -> Callable[[FloatArray], FloatArray]:
    """The area under the ROC curve as a function of weights (R, P) -> (R,).

    It is the part of (positive, normal) pairs in which the positive unit scores higher; a tie
    counts half. NaN without positives or without normals.

    Reference:
        Mann and Whitney 1947; Bamber 1975 (equality with the trapezoidal area).
    """
    ranking = _Ranking.of(KnownUnits(patients, scores, is_positive))
    return lambda weights: ranking.auc(ranking.called(weights))


def roc_curve(units: Units) -> Curve:
    """Sensitivity against 1 - specificity at every score; empty if one kind is missing."""
    _, scores, is_positive = units.known()
    if not is_positive.any() or is_positive.all():
        return Curve((), (), ())
    levels = np.unique(scores)[::-1]
    positives, normals = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    sensitivity = 1 - np.searchsorted(positives, levels, side="left") / len(positives)
    one_minus_specificity = 1 - np.searchsorted(normals, levels, side="left") / len(normals)
    return Curve(
        tuple(levels.tolist()), tuple(one_minus_specificity.tolist()), tuple(sensitivity.tolist())
    )


class _Called(NamedTuple):
    """Weights of the highest units, cumulated: positives (R, 1 + M) and normals (R, 1 + N)."""

    positives: FloatArray
    normals: FloatArray


@dataclass(frozen=True)
class _Ranking:
    """Units by falling score, sorted once for all rows of weights.

    ``positives`` (M,) and ``normals`` (N,) are their patients. For each normal unit: ``n_above``
    and ``n_reached`` positives score above it, and at or above it; the normals from ``first`` to
    before ``last`` score as it does.
    """

    positives: IntArray
    normals: IntArray
    n_above: IntArray
    n_reached: IntArray
    first: IntArray
    last: IntArray

    @classmethod
    def of(cls, known: KnownUnits) -> _Ranking:
        patients, scores, is_positive = known
        order = np.argsort(-scores, kind="stable")
        patients, falling, is_positive = patients[order], -scores[order], is_positive[order]
        positive, normal = falling[is_positive], falling[~is_positive]
        return cls(
            positives=patients[is_positive],
            normals=patients[~is_positive],
            n_above=np.searchsorted(positive, normal, side="left"),
            n_reached=np.searchsorted(positive, normal, side="right"),
            first=np.searchsorted(normal, normal, side="left"),
            last=np.searchsorted(normal, normal, side="right"),
        )

    def called(self, weights: FloatArray) -> _Called:
        """For rows of weights (R, P)."""
        return _Called(*(_cumulated(weights[:, own]) for own in (self.positives, self.normals)))

    def auc(self, called: _Called) -> FloatArray:
        """(R,) the part of pairs that the positive unit wins."""
        positives, normals = called
        wins = np.einsum(
            "rn,rn->r",
            np.diff(normals),
            positives[:, self.n_above] + positives[:, self.n_reached],
        )
        return ratio(wins / 2, positives[:, -1] * normals[:, -1])

    def sensitivity(self, called: _Called, one_minus_specificity: FloatArray) -> FloatArray:
        """(R, Q) heights of the ROC curve, its points joined by straight lines; NaN if undefined.

        Where the curve is vertical, the upper end.
        """
        heights = np.full((len(called.normals), len(one_minus_specificity)), np.nan)
        for row, (positives, normals) in enumerate(zip(*called, strict=True)):
            n_positive, n_normal = positives[-1], normals[-1]
            if not n_positive or not n_normal:
                continue
            # How many normals are called is whole on the points of the curve: undo rounding.
            n_called = np.round(one_minus_specificity * n_normal, 9)
            place = np.searchsorted(normals[1:], n_called, side="right")
            is_inside = place < len(self.normals)
            own = place[is_inside]
            start, end = normals[self.first[own]], normals[self.last[own]]
            low, high = positives[self.n_above[own]], positives[self.n_reached[own]]
            share = (n_called[is_inside] - start) / (end - start)
            heights[row] = 1.0
            heights[row, is_inside] = (low + share * (high - low)) / n_positive
        return heights


def _cumulated(values: FloatArray) -> FloatArray:
    """(R, 1 + n) sums of the first 0, 1, ... n of values (R, n)."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _are_distinct(patients: IntArray) -> bool:
    return len(np.unique(patients)) == len(patients)


def _predictive_interval(
    is_ppv: bool, sensitivity: tuple[int, int], specificity: tuple[int, int], prevalence: float
) -> Interval:
    """From the exact limits of sensitivity and specificity, which a predictive value rises with.

    Positives and normals are independent, so limits of sqrt(95%) each hold together in 95%. It is
    wider than need be, but does not shrink to nothing where no normal unit is called positive.
    """
    found, spared = (clopper_pearson(*each, CONFIDENCE**0.5) for each in (sensitivity, specificity))
    limits = predictive_values(
        np.array([found.low, found.high]), np.array([spared.low, spared.high]), prevalence
    )
    low, high = limits[0 if is_ppv else 1].tolist()
    return Interval(low, high, "clopper-pearson")


def _unit_id(view: View, level: str, settings: EvaluationSettings) -> str:
    record = view.record
    if level == "image":
        return str(record.image_id)
    if level == "breast":
        return record.breast_id
    by = settings.case_by if level == "case" else level
    return record.patient_id if by == "patient" else record.exam_id
