"""Which score threshold is best by one rule, on the units of one level?

Thresholds lie midway between two neighbouring scores of the set, not at one: the called units are
the same, but a score that is computed again with another rounding stays on its side, and neither
neighbour is favoured in new cases. Only a threshold that finds at least one positive unit and
spares at least one normal one is an operating point: calling nobody or everybody positive is no
test.

Shapes: U units of known truth of one level, C candidate thresholds, by falling score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.results import OperatingPoint, OperatingRule, UnitScore
from simfrcnn.evaluation.truth import Truth
from simfrcnn.registry import look_up
from simfrcnn.settings import EvaluationSettings

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Candidates:
    """Thresholds (C,), with the positive units found and the normal ones spared at each (C,)."""

    thresholds: FloatArray
    found: IntArray
    spared: IntArray
    n_positive: int
    n_normal: int


@dataclass(frozen=True)
class Judgement:
    """What a rule says of candidates.

    ``order`` (C,) holds their places, the best last; ``is_allowed`` (C,) which fulfil the rule.
    ``target`` is what was asked for, and ``none`` the reason, on some data set, if none does.
    """

    order: IntArray
    is_allowed: NDArray[np.bool_]
    target: float | None
    none: str


Rule = Callable[[Candidates, EvaluationSettings], Judgement]


def _youden(candidates: Candidates, settings: EvaluationSettings) -> Judgement:
    """The highest sensitivity + specificity - 1, of equal ones that of the highest sensitivity.

    A missed cancer weighs more than a recall.

    Reference:
        Youden 1950 (the index).
    """
    n_positive, n_normal = candidates.n_positive, candidates.n_normal
    # In whole numbers, so that equal indices are equal.
    index = candidates.found * n_normal + candidates.spared * n_positive - n_positive * n_normal
    return Judgement(
        order=np.lexsort((candidates.found, index)),
        is_allowed=index > 0,
        target=None,
        none="no score threshold tells positive from normal better than chance",
    )


def _given_sensitivity(candidates: Candidates, settings: EvaluationSettings) -> Judgement:
    """The highest specificity at this sensitivity, of equal ones the more sensitive."""
    target = settings.operating_sensitivity
    return Judgement(
        order=np.lexsort((candidates.found, candidates.spared)),
        is_allowed=candidates.found / candidates.n_positive >= target,
        target=target,
        none=f"a sensitivity of {target:g} or more is reached only where every normal one is "
        "called positive",
    )


def _given_specificity(candidates: Candidates, settings: EvaluationSettings) -> Judgement:
    """The highest sensitivity at this specificity, of equal ones the more specific."""
    target = settings.operating_specificity
    return Judgement(
        order=np.lexsort((candidates.spared, candidates.found)),
        is_allowed=candidates.spared / candidates.n_normal >= target,
        target=target,
        none=f"a specificity of {target:g} or more is kept only where no positive one is found",
    )


RULES: Mapping[OperatingRule, Rule] = {
    "youden": _youden,
    "sensitivity": _given_sensitivity,
    "specificity": _given_specificity,
}
"""By which a threshold can be chosen. A new one is an entry here, and a name in
:data:`~simfrcnn.evaluation.results.OperatingRule`."""


def choose_point(
    units: Sequence[UnitScore],
    level: str,
    rule: OperatingRule,
    settings: EvaluationSettings,
    *,
    chosen_on: str,
) -> OperatingPoint | str:
    """The best threshold by one rule, or the reason why there is none.

    Args:
        units: Of one level; those of unknown truth do not count.
        level: ``case``, ``breast``, ``image`` ...
        rule: One of :data:`RULES`.
        settings: Which sensitivity and specificity are asked for.
        chosen_on: The name of the data set, for the point and the reason.

    Raises:
        ConfigError: There is no such rule.
    """
    judge = look_up(RULES, rule, "rule")
    known = [unit for unit in units if unit.truth != Truth.UNKNOWN.label]
    scores = np.array([unit.score for unit in known], dtype=np.float64)
    is_positive = np.array([unit.truth == Truth.POSITIVE.label for unit in known], dtype=bool)
    n_positive, n_normal = int(is_positive.sum()), int((~is_positive).sum())
    if not n_positive or not n_normal:
        return (
            f"needs positive and normal units of this level; {chosen_on} has {n_positive} positive "
            f"and {n_normal} normal ones"
        )
    candidates = _candidates(scores, is_positive)
    judgement = judge(candidates, settings)
    allowed = judgement.order[judgement.is_allowed[judgement.order]]
    if not len(allowed):
        return f"on {chosen_on}, {judgement.none}"
    best = int(allowed[-1])
    return OperatingPoint(
        level=level,
        rule=rule,
        score_threshold=float(candidates.thresholds[best]),
        target=judgement.target,
        chosen_on=chosen_on,
        sensitivity=float(candidates.found[best] / n_positive),
        specificity=float(candidates.spared[best] / n_normal),
    )


def _candidates(scores: FloatArray, is_positive: NDArray[np.bool_]) -> Candidates:
    """Every threshold that finds a positive unit and spares a normal one.

    Args:
        scores: (U,) of each unit.
        is_positive: (U,) which are positive; the others are normal.
    """
    levels = np.unique(scores)[::-1]
    positives, normals = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    found = len(positives) - np.searchsorted(positives, levels, side="left")
    spared = np.searchsorted(normals, levels, side="left")
    below = np.append(levels[1:], 0.0)
    middle = levels / 2 + below / 2
    # Between two neighbouring floats there is no middle: rounding could call the lower one too.
    thresholds = np.where(middle > below, middle, levels)
    is_point = (found > 0) & (spared > 0)
    return Candidates(
        thresholds[is_point], found[is_point], spared[is_point], len(positives), len(normals)
    )
