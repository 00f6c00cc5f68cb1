"""How sure is an AUC, and do two scores of the same cases differ in it by more than chance?

No resampling: the variance comes from how each unit fares against all units of the other kind.
It serves the interval of one AUC, where percentiles of a bootstrap are too narrow near 1, and the
paired test of two, as a check on the bootstrap by another way.

Shapes: M positive units, N normal units, U = M + N; P patients among them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from simfrcnn.evaluation.bootstrap import CONFIDENCE, Interval
from simfrcnn.evaluation.results import NAN, Method

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

FEWEST_CASES = 20
"""Of each kind, for a p-value: with fewer the test finds differences that are not there.

Where two models are equally good, p < .05 (p < .01) comes out this often at worst, over binormal
scores with AUC .6 to .95 and correlation 0 to .8: 12% (6%) with 5 positive and 200 normal cases, 8%
(3%) with 10 and 200, 7% (2%) with 20 and 200 to 1,000, 6% (1.5%) with 30 and 1,000. See
docs/evaluation.md.
"""
_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_SMALL = 1e-12
_TAIL = (1 - CONFIDENCE) / 2
_ROUNDING = 1e-24
"""Variances below this are 0 but for rounding: that of one lost pair in 10^10 is 10^-20."""


@dataclass(frozen=True)
class DeLong:
    """Two AUCs of the same cases, ``difference = first - second`` and its standard error.

    ``p_value`` is two-sided; NaN with fewer than :data:`FEWEST_CASES` of a kind, although the
    difference and its error are known. What cannot be computed is NaN, and ``reason`` says why.
    """

    first: float
    second: float
    difference: float
    standard_error: float
    p_value: float
    reason: str | None = None


def auc_interval(
    patients: IntArray,
    scores: FloatArray,
    is_positive: BoolArray,
    unit_weights: FloatArray | None = None,
) -> Interval:
    """The 95% interval of one AUC; patients may give several units, also of both kinds.

    A normal interval on the logit of the AUC, which keeps it inside (0, 1) and as skew as it has to
    be near 1. Its variance sums what a patient's units contribute before squaring, so that units of
    a patient may depend on one another. An AUC of exactly 1 has no variance; there the limit comes
    from :func:`disjoint_pairs` of patients, all of them won. In between the two lies a jump: a
    single lost pair gives a narrower interval than none (see docs/evaluation.md).

    Args:
        patients: (U,) whose each unit is.
        scores: (U,) of each unit.
        is_positive: (U,) both kinds are there.
        unit_weights: (U,) how much each unit counts; None where all count alike.

    Reference:
        DeLong, DeLong and Clarke-Pearson 1988 (the variance from structural components); Obuchowski
        1997, eq. 2 to 5 (several units of a patient; DeLong's where each gives one); Pepe 2003,
        section 5.2.4 (the interval on the logit).
    """
    below, above = auc_components(scores, is_positive, unit_weights)
    own = None if unit_weights is None else (unit_weights[is_positive], unit_weights[~is_positive])
    auc = float(below.mean()) if own is None else float(np.average(below, weights=own[0]))
    if own is not None and min(auc, 1 - auc) < _SMALL:  # of sums of weights, but for rounding
        auc = float(round(auc))
    positives, normals = patients[is_positive], patients[~is_positive]
    if auc in (0.0, 1.0):
        return _interval_of_a_perfect_order(auc, disjoint_pairs(positives, normals))
    n_positive, n_normal = len(np.unique(positives)), len(np.unique(normals))
    if n_positive < 2 or n_normal < 2:
        return Interval.missing(
            f"no interval: it needs two patients with a positive unit and two with a normal one; "
            f"there are {n_positive} and {n_normal}"
        )
    variance = auc_variance(below, above, positives, normals, own)
    if variance < _ROUNDING:
        return Interval.missing(
            "no interval: every patient fares alike, so that the AUC has no variance in this set"
        )
    half = -ndtri(_TAIL) * math.sqrt(variance) / (auc * (1 - auc))
    low, high = expit([logit(auc) - half, logit(auc) + half])
    has_one_each = n_positive + n_normal == len(patients) == len(np.unique(patients))
    method: Method = "delong-logit" if has_one_each else "obuchowski-logit"
    return Interval(float(low), float(high), method)


def auc_variance(
    below: FloatArray,
    above: FloatArray,
    positives: IntArray,
    normals: IntArray,
    unit_weights: tuple[FloatArray, FloatArray] | None = None,
) -> float:
    """The variance of an AUC over patients, from the components of its units.

    Args:
        below: (M,) part of the normal units that score below each positive one.
        above: (N,) part of the positive units that score above each normal one.
        positives: (M,) patients of the positive units; at least two.
        normals: (N,) patients of the normal units; at least two.
        unit_weights: (M,) and (N,) how much each unit counts; None where all count alike. The AUC
            is then a ratio of weighted sums, and a patient contributes by its weighted deviations.

    Reference:
        Obuchowski 1997, eq. 2 to 5.
    """
    own, place = np.unique(np.concatenate([positives, normals]), return_inverse=True)
    n_patients, n_positive = len(own), len(below)
    if unit_weights is None:
        auc = below.mean()
        gains = np.bincount(place[:n_positive], below - auc, n_patients) / n_positive
        others = np.bincount(place[n_positive:], above - auc, n_patients) / len(above)
    else:
        of_positives, of_normals = (each / each.sum() for each in unit_weights)
        auc = of_positives @ below
        gains, others = (
            np.bincount(owners, parts, n_patients).astype(np.float64)
            for owners, parts in (
                (place[:n_positive], of_positives * (below - auc)),
                (place[n_positive:], of_normals * (above - auc)),
            )
        )
    return float(
        _bessel(len(np.unique(positives))) * gains @ gains
        + _bessel(len(np.unique(normals))) * others @ others
        + 2 * _bessel(n_patients) * gains @ others
    )


def disjoint_pairs(positives: IntArray, normals: IntArray) -> int:
    """How many pairs of a patient with a positive and another one with a normal unit there are.

    Each patient is in one pair at most: the pairs are independent of one another.
    """
    n_all = len(np.unique(np.concatenate([positives, normals])))
    return min(len(np.unique(positives)), len(np.unique(normals)), n_all // 2)


def paired_delong(
    first: FloatArray,
    second: FloatArray,
    is_positive: BoolArray,
    *,
    patients: IntArray | None = None,
    fewest_cases: int = FEWEST_CASES,
) -> DeLong:
    """Compare the AUCs of two scores of the same cases (or breasts, or images).

    Args:
        first: (U,) scores of one model.
        second: (U,) scores of the other, of the same cases in the same order.
        is_positive: (U,) which cases are positive; the others are normal.
        patients: (U,) whose each case is, where a patient may give several, also of both kinds:
            what these contribute to the difference is summed before it is squared. None: each case
            is a patient of its own.
        fewest_cases: Patients with a case of each kind, for a p-value; see :data:`FEWEST_CASES`.

    Reference:
        DeLong, DeLong and Clarke-Pearson 1988 (the covariance of AUCs from structural components);
        Sun and Xu 2014 (those components from midranks, in U log U); Obuchowski 1997, eq. 6 to 8
        (several cases of a patient; DeLong's where each gives one).
    """
    owners = np.arange(len(first)) if patients is None else patients
    n_positive, n_normal = (len(np.unique(owners[is_positive == kind])) for kind in (True, False))
    if n_positive < 2 or n_normal < 2:
        reason = (
            "needs two patients with a positive unit and two with a normal one; "
            f"there are {n_positive} and {n_normal}"
        )
        return DeLong(NAN, NAN, NAN, NAN, NAN, reason)
    wins = [auc_components(scores, is_positive) for scores in (first, second)]
    auc_first, auc_second = (float(positive.mean()) for positive, _ in wins)
    difference = auc_first - auc_second
    positive, normal = (one - other for one, other in zip(*wins, strict=True))
    variance = auc_variance(positive, normal, owners[is_positive], owners[~is_positive])
    error = math.sqrt(variance) if variance > _ROUNDING else 0.0
    if error == 0:
        reason = "all cases differ alike under the two models: the difference has no variance"
        return DeLong(auc_first, auc_second, difference, 0.0, NAN, reason)
    too_few = why_too_few(n_positive, n_normal, fewest_cases)
    if too_few:
        return DeLong(auc_first, auc_second, difference, error, NAN, too_few)
    p_value = math.erfc(abs(difference) / error / math.sqrt(2))
    return DeLong(auc_first, auc_second, difference, error, p_value)


def why_too_few(n_positive: int, n_normal: int, fewest_cases: int = FEWEST_CASES) -> str | None:
    """Why two models are not told apart by a test; None where they can be.

    Args:
        n_positive: Patients with a positive unit.
        n_normal: Patients with a normal one.
        fewest_cases: See :data:`FEWEST_CASES`.
    """
    if min(n_positive, n_normal) >= fewest_cases:
        return None
    return (
        f"no test with fewer than {fewest_cases} patients with a positive and {fewest_cases} "
        f"with a normal unit; there are {n_positive} and {n_normal}"
    )


def _interval_of_a_perfect_order(auc: float, n_pairs: int) -> Interval:
    """The exact interval where all of ``n_pairs`` independent pairs were won (or all lost).

    The limit is the chance of winning at which so many wins in a row have a chance of 2.5%. It is
    wider than need be: of all pairs it uses the disjoint ones alone. Where patients give several
    units, a pair is one drawn unit of each, and how many units a patient gives is taken to have
    nothing to do with their scores.

    Reference:
        Clopper and Pearson 1934, for as many successes as trials.
    """
    if not n_pairs:
        return Interval.missing("no interval: all units are one patient's")
    limit = _TAIL ** (1 / n_pairs)
    low, high = (limit, 1.0) if auc == 1 else (0.0, 1 - limit)
    return Interval(low, high, "disjoint-pairs")


def _bessel(n: int) -> float:
    return n / (n - 1)


def auc_components(
    scores: FloatArray, is_positive: BoolArray, unit_weights: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """How each unit fares: (M,) part of the normals below each positive; (N,) of positives above.

    A tie counts half. Among all units a positive one's midrank is its midrank among the positives
    plus the number of normals below it; for a normal one likewise. With ``unit_weights`` (U,) a
    part is one of the others' weights.
    """
    positives, normals = scores[is_positive], scores[~is_positive]
    if unit_weights is not None:
        of_positives, of_normals = unit_weights[is_positive], unit_weights[~is_positive]
        return (
            _part_below(positives, normals, of_normals),
            1 - _part_below(normals, positives, of_positives),
        )
    ranks = _midranks(np.concatenate([positives, normals]))
    n_positive, n_normal = len(positives), len(normals)
    below = (ranks[:n_positive] - _midranks(positives)) / n_normal
    above = 1 - (ranks[n_positive:] - _midranks(normals)) / n_positive
    return below, above


def _part_below(scores: FloatArray, others: FloatArray, weights: FloatArray) -> FloatArray:
    """The part of the others' weights that lies below each score, ties counting half."""
    order = np.argsort(others, kind="stable")
    sums = np.concatenate([np.zeros(1), np.cumsum(weights[order])])
    ends = [sums[np.searchsorted(others[order], scores, side=side)] for side in _SIDES]
    return np.asarray((ends[0] + ends[1]) / 2 / sums[-1], dtype=np.float64)


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=np.float64)
