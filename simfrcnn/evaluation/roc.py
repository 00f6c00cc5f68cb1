"""How do sensitivity and specificity trade off over all thresholds: the ROC curve and its area?

Shapes: U units of one level, M positive and N normal ones, P patients, R rows of bootstrap weights,
Q heights of a band.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import Interval, LogitScale, Statistic, ratio
from simfrcnn.evaluation.case import KnownUnits, Units
from simfrcnn.evaluation.delong import auc_interval
from simfrcnn.evaluation.results import Curve

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

ROC_GRID = np.arange(101) / 100
"""Where the band round a ROC curve is drawn, in 1 - specificity."""


def roc_statistic(
    units: Units, *, with_band: bool = False, least_specificity: float | None = None
) -> Statistic:
    """AUC, and the sensitivity at every specificity of :data:`ROC_GRID` for a band.

    Units of unknown truth are left out. The interval of the AUC does not come from the bootstrap
    (see :func:`~simfrcnn.evaluation.delong.auc_interval`); the band does, and that of the partial
    AUC.

    Args:
        units: Of one level.
        with_band: Add the band ``roc/<level>``.
        least_specificity: Given, add ``partial_auc``: the area where specificity is at least this.
            It is standardised: .5 is chance and 1 is a perfect order, whatever the part of the
            curve. With 0 it is the AUC.

    Reference:
        McClish 1989 (the partial area, and its standard form).
    """
    known = units.known()
    ranking = _Ranking.of(known)
    key = f"{units.level}/auc"
    keys = (key,) if least_specificity is None else (key, f"{units.level}/partial_auc")

    def compute(weights: FloatArray) -> FloatArray:
        called = ranking.called(weights)
        columns = [ranking.auc(called)[:, None]]
        if least_specificity is not None:
            columns.append(_standardised(ranking.area, called, 1 - least_specificity)[:, None])
        if with_band:
            columns.append(ranking.sensitivity(called, ROC_GRID))
        return np.hstack(columns)

    return Statistic(
        keys=keys,
        compute=compute,
        n=dict.fromkeys(keys, units.n),
        why_undefined=dict.fromkeys(keys, units.needs_both),
        intervals={key: partial(auc_interval, *known), **_of_a_perfect_order(known, keys[1:])},
        bands={f"roc/{units.level}": ROC_GRID} if with_band else {},
        logit_scales=dict.fromkeys(keys[1:], _scale_of(known, 1 - (least_specificity or 0.0))),
    )


def _scale_of(known: KnownUnits, width: float) -> LogitScale:
    """Of a partial AUC: a quarter of one of the pairs it is made of, and its value at no area."""
    n_positive = int(known.is_positive.sum())
    n_top_normals = (len(known.scores) - n_positive) * width
    floor = 0.25 / max(1.0, n_positive * n_top_normals)
    chance = width**2 / 2
    return LogitScale(floor, least=(1 - chance / (width - chance)) / 2)


def _of_a_perfect_order(
    known: KnownUnits, keys: tuple[str, ...]
) -> dict[str, Callable[[], Interval]]:
    """No interval where the scores separate the kinds: resamplings are then all alike, which would
    give one of no width.
    """
    positives, normals = known.scores[known.is_positive], known.scores[~known.is_positive]
    both = len(positives) and len(normals)
    if not both or (positives.min() <= normals.max() and positives.max() >= normals.min()):
        return {}
    reason = (
        "no interval: the scores separate positive from normal units, so that resampling cannot "
        "vary the partial AUC"
    )
    return {key: partial(Interval.missing, reason) for key in keys}


def _standardised(
    area_of: Callable[[_Called, float], FloatArray], called: _Called, width: float
) -> FloatArray:
    """(R,) partial areas from 1 - specificity 0 to ``width``, in McClish's form."""
    chance = width**2 / 2
    return (1 + (area_of(called, width) - chance) / (width - chance)) / 2


def auc_function(
    patients: IntArray,
    scores: FloatArray,
    is_positive: BoolArray,
    unit_weights: FloatArray | None = None,
) -> Callable[[FloatArray], FloatArray]:
    """The area under the ROC curve as a function of weights (R, P) -> (R,).

    It is the part of (positive, normal) pairs in which the positive unit scores higher; a tie
    counts half. With ``unit_weights`` (U,) a pair counts by the product of its two weights. NaN
    without positives or without normals.

    Reference:
        Mann and Whitney 1947; Bamber 1975 (equality with the trapezoidal area).
    """
    ranking = _Ranking.of(KnownUnits(patients, scores, is_positive), unit_weights)
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

    ``positives`` (M,) and ``normals`` (N,) are their patients, ``positive_weights`` and
    ``normal_weights`` their own weights, None where all count alike. For each normal unit:
    ``n_above`` and ``n_reached`` positives score above it, and at or above it; the normals from
    ``first`` to before ``last`` score as it does. ``normals_before`` are, for each positive unit,
    the normals above it, and those at or above it.
    """

    positives: IntArray
    normals: IntArray
    positive_weights: FloatArray | None
    normal_weights: FloatArray | None
    n_above: IntArray
    n_reached: IntArray
    first: IntArray
    last: IntArray
    normals_before: tuple[IntArray, IntArray]

    @classmethod
    def of(cls, known: KnownUnits, unit_weights: FloatArray | None = None) -> _Ranking:
        patients, scores, is_positive = known
        order = np.argsort(-scores, kind="stable")
        patients, falling, is_positive = patients[order], -scores[order], is_positive[order]
        positive, normal = falling[is_positive], falling[~is_positive]
        own = None if unit_weights is None else unit_weights[order]
        return cls(
            positives=patients[is_positive],
            normals=patients[~is_positive],
            positive_weights=None if own is None else own[is_positive],
            normal_weights=None if own is None else own[~is_positive],
            n_above=np.searchsorted(positive, normal, side="left"),
            n_reached=np.searchsorted(positive, normal, side="right"),
            first=np.searchsorted(normal, normal, side="left"),
            last=np.searchsorted(normal, normal, side="right"),
            normals_before=(
                np.searchsorted(normal, positive, side="left"),
                np.searchsorted(normal, positive, side="right"),
            ),
        )

    def called(self, weights: FloatArray) -> _Called:
        """For rows of weights (R, P)."""
        positives, normals = weights[:, self.positives], weights[:, self.normals]
        if self.positive_weights is not None and self.normal_weights is not None:
            positives, normals = positives * self.positive_weights, normals * self.normal_weights
        return _Called(_cumulated(positives), _cumulated(normals))

    def auc(self, called: _Called) -> FloatArray:
        """(R,) the part of pairs that the positive unit wins, summed over the fewer units."""
        positives, normals = called
        n_pairs = positives[:, -1] * normals[:, -1]
        if len(self.positives) < len(self.normals):
            above, reached = (normals[:, each] for each in self.normals_before)
            losses = np.einsum("rm,rm->r", np.diff(positives), above + reached) / 2
            wins = np.maximum(n_pairs - losses, 0)  # by rounding of own weights below 0
        else:
            above, reached = positives[:, self.n_above], positives[:, self.n_reached]
            wins = np.einsum("rn,rn->r", np.diff(normals), above + reached) / 2
        return ratio(wins, n_pairs)

    def area(self, called: _Called, width: float) -> FloatArray:
        """(R,) area below the curve from 1 - specificity 0 to ``width``; NaN if undefined."""
        areas = np.full(len(called.normals), np.nan)
        for row, (positives, normals) in enumerate(zip(*called, strict=True)):
            n_positive, n_normal = positives[-1], normals[-1]
            if not n_positive or not n_normal:
                continue
            end = np.round(width * n_normal, 9)
            place = int(np.searchsorted(normals[1:], end, side="right"))
            # Beyond this normal unit, on the line of whose ties the end lies, nothing counts.
            first = self.first[place] if place < len(self.normals) else place
            steps = np.diff(normals[: first + 1])
            heights = positives[self.n_above[:first]] + positives[self.n_reached[:first]]
            area = steps @ heights / 2
            if place < len(self.normals):
                run = end - normals[first]
                low, high = positives[self.n_above[place]], positives[self.n_reached[place]]
                slope = (high - low) / (normals[self.last[place]] - normals[first])
                area += run * (low + slope * run / 2)
            areas[row] = area / (n_positive * n_normal)
        return areas

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
