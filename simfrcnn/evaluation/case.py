"""What are the scores of images, breasts, exams and patients, and which are called positive?

Shapes: U units of one level, P patients, R rows of bootstrap weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import (
    CONFIDENCE,
    Interval,
    Statistic,
    clopper_pearson,
    exact_intervals,
    limits_of_sum,
    per_patient,
    ratio,
)
from simfrcnn.evaluation.results import Confusion, OperatingPoint, OperatingRule, UnitScore
from simfrcnn.evaluation.truth import Truth, View, unit_truth
from simfrcnn.records import ImageRecord
from simfrcnn.registry import look_up
from simfrcnn.settings import EvaluationSettings

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]


MAIN_RULES: tuple[OperatingRule, ...] = ("youden", "sensitivity", "specificity", "fixed")
"""Whose operating point is in the summary: the first of these that exists."""


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
    def n_patients(self) -> dict[str, int]:
        """How many patients have a positive and how many a normal one; some may have both."""
        return {
            name: len(np.unique(self.patients[self.truths == truth]))
            for name, truth in (("positive", Truth.POSITIVE), ("normal", Truth.NORMAL))
        }

    @property
    def found(self) -> str:
        """The same in words, for a reason."""
        return "there are {positive} positive and {normal} normal ones".format_map(self.n)

    @property
    def needs_both(self) -> str:
        """The reason why a figure of both kinds is undefined."""
        return f"needs a positive and a normal {self.level}; {self.found}"

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


CASES: Mapping[str, Callable[[ImageRecord], str]] = {
    "exam": lambda record: record.exam_id,
    "patient": lambda record: record.patient_id,
}
"""What a case can be, and how the images of one are known. A new one is an entry here, and a name
in :data:`simfrcnn.settings.CaseBy` if a config shall have it."""
_PARTS: Mapping[str, Callable[[ImageRecord], str]] = {
    "breast": lambda record: record.breast_id,
    "image": lambda record: str(record.image_id),
}


def levels_of(settings: EvaluationSettings) -> tuple[str, ...]:
    """At which levels units are judged: the case first, then what else could be one, then parts.

    With one exam per patient, exams and patients are the same.

    Raises:
        ConfigError: ``case_by`` is not among :data:`CASES`.
    """
    look_up(CASES, settings.case_by, "EVAL.CASE_BY")
    return ("case", *(name for name in CASES if name != settings.case_by), "breast", "image")


def units_of(views: Sequence[View], level: str, settings: EvaluationSettings) -> Units:
    """Group views into the units of ``level`` and pool their scores.

    A breast or case pools **all** its views, also those whose own truth is unknown: the reader of
    a case sees them too.
    """
    groups: dict[tuple[str, str], list[View]] = defaultdict(list)
    id_of = id_of_units(level, settings)
    for view in views:
        groups[view.record.patient_id, id_of(view.record)].append(view)
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


def _highest(scores: Sequence[float]) -> float:
    """Multiple-instance learning's (thesis eq. 3.2)."""
    return scores[-1]


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores).clip(scores[0], scores[-1]))


def _noisy_or(scores: Sequence[float]) -> float:
    """The probability that at least one view shows a cancer if the views were independent."""
    return float((1 - np.prod(1 - np.array(scores))).clip(scores[-1], 1))


POOLINGS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "max": _highest,
    "mean": _mean,
    "noisy_or": _noisy_or,
}
"""How the scores of a unit's views, two or more, rising, become the unit's. A new way is an entry
here, and a name in :data:`simfrcnn.settings.Pooling` if a config shall have it."""


def pool(scores: Sequence[float], pooling: str) -> float:
    """The score of a unit from those of its views.

    Equal scores, in whatever order of the views, give equal results, also in their last digit: a
    tie stays a tie, and a score at a threshold stays there.

    Args:
        scores: One for each view, at least one.
        pooling: One of :data:`POOLINGS`.

    Raises:
        ConfigError: There is no pooling of that name.
    """
    combine = look_up(POOLINGS, pooling, "EVAL.POOLING")
    if len(scores) == 1:
        return float(scores[0])
    return combine(sorted(map(float, scores)))


def fixed_point(level: str, settings: EvaluationSettings) -> OperatingPoint:
    """The threshold that was not chosen on data: ``EVAL.SCORE_THRESHOLD``."""
    return OperatingPoint(level, "fixed", settings.score_threshold)


def main_point(points: Sequence[OperatingPoint], settings: EvaluationSettings) -> OperatingPoint:
    """The one by case of the report's summary: chosen on a validation set, else the fixed one."""
    by_rule = {point.rule: point for point in points if point.level == "case"}
    fixed = fixed_point("case", settings)
    return next((by_rule[rule] for rule in MAIN_RULES if rule in by_rule), fixed)


def threshold_statistic(
    units: Units, n_patients: int, point: OperatingPoint, prevalence: float | None = None
) -> Statistic:
    """Accuracy, sensitivity and specificity at a score, and what a call then means.

    Units of unknown truth are left out. A unit is called positive if its score is at least
    ``point.score_threshold``. Keys begin with ``point.key``.

    Args:
        units: Of the level of ``point``.
        n_patients: P, also those without a unit of known truth.
        point: Whose threshold is applied.
        prevalence: Part of positive units of this level where the model is to be used; given, there
            are predictive values, ``ppv`` and ``npv``, and of 1,000 units how many are called
            positive (``recalls_per_1000``) and how many are and are positive
            (``cancers_per_1000``). The part in the test set does not enter.
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
            shares += per_1000(shares[1], shares[2], prevalence)
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
    intervals: dict[str, Callable[[], Interval]] = {}
    for name, (won, all_) in zip(trials, counts, strict=True):
        intervals |= exact_intervals([f"{key}/{name}"], [won], all_)
    if prevalence is not None:
        for name, call in (("ppv", "positive"), ("npv", "negative")):
            n[f"{key}/{name}"] = units.n
            why[f"{key}/{name}"] = (
                f"needs a positive and a normal {level}, and one that is called {call}; "
                f"{units.found}"
            )
        for name in ("recalls_per_1000", "cancers_per_1000"):
            n[f"{key}/{name}"] = units.n
            why[f"{key}/{name}"] = units.needs_both
        if of_sensitivity := intervals.get(f"{key}/sensitivity"):
            intervals[f"{key}/cancers_per_1000"] = partial(
                _cancers_interval, of_sensitivity, prevalence
            )
        if len(np.unique(patients)) == len(patients):  # positives and normals are independent
            facts = n_of["sensitivity"], n_of["specificity"], prevalence
            intervals[f"{key}/ppv"] = partial(_predictive_interval, True, *facts)
            intervals[f"{key}/npv"] = partial(_predictive_interval, False, *facts)
            intervals[f"{key}/recalls_per_1000"] = partial(_recalls_interval, *facts)
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


def per_1000(
    sensitivity: FloatArray, specificity: FloatArray, prevalence: float
) -> tuple[FloatArray, FloatArray]:
    """Of 1,000 units at this prevalence: those called positive, and the positive ones among them.

    Examples:
        >>> recalls, cancers = per_1000(np.array([0.8]), np.array([0.9]), prevalence=0.01)
        >>> print(recalls.round(1), cancers)
        [107.] [8.]
    """
    cancers = 1000 * sensitivity * prevalence
    recalls = cancers + 1000 * (1 - specificity) * (1 - prevalence)
    # Both are of a set with units of both kinds: NaN where one is.
    return recalls, cancers + 0 * specificity


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


def _cancers_interval(of_sensitivity: Callable[[], Interval], prevalence: float) -> Interval:
    """Of the sensitivity's, of which the figure is a multiple."""
    found = of_sensitivity()
    return replace(found, low=1000 * prevalence * found.low, high=1000 * prevalence * found.high)


def _recalls_interval(
    sensitivity: tuple[int, int], specificity: tuple[int, int], prevalence: float
) -> Interval:
    """From the exact limits of both kinds."""
    n_spared, n_normal = specificity
    return limits_of_sum(
        [
            (1000 * prevalence, *sensitivity),
            (1000 * (1 - prevalence), n_normal - n_spared, n_normal),
        ]
    )


def id_of_units(level: str, settings: EvaluationSettings) -> Callable[[ImageRecord], str]:
    """What the images of one unit have in common."""
    if level == "case":
        return look_up(CASES, settings.case_by, "EVAL.CASE_BY")
    return look_up({**CASES, **_PARTS}, level, "level")
