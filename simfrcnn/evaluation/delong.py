"""Do two scores of the same cases differ in AUC by more than chance?

A check on the bootstrap by another way: the variance comes from how each case fares against all
cases of the other kind, without resampling. Cases must be independent: one per patient.

Shapes: M positive cases, N normal cases, U = M + N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.results import NAN

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class DeLong:
    """Two AUCs of the same cases, ``difference = first - second`` and its standard error.

    ``p_value`` is two-sided. What cannot be computed is NaN, and ``reason`` says why.
    """

    first: float
    second: float
    difference: float
    standard_error: float
    p_value: float
    reason: str | None = None


def paired_delong(first: FloatArray, second: FloatArray, is_positive: BoolArray) -> DeLong:
    """Compare the AUCs of two scores of the same cases.

    Args:
        first: (U,) scores of one model.
        second: (U,) scores of the other, of the same cases in the same order.
        is_positive: (U,).

    Reference:
        DeLong, DeLong and Clarke-Pearson 1988 (the covariance of AUCs from structural components);
        Sun and Xu 2014 (those components from midranks, in U log U).
    """
    n_positive, n_normal = int(is_positive.sum()), int((~is_positive).sum())
    if n_positive < 2 or n_normal < 2:
        reason = f"needs two positive and two normal cases; there are {n_positive} and {n_normal}"
        return DeLong(NAN, NAN, NAN, NAN, NAN, reason)
    wins = [_components(scores, is_positive) for scores in (first, second)]
    auc_first, auc_second = (float(positive.mean()) for positive, _ in wins)
    difference = auc_first - auc_second
    positive, normal = (one - other for one, other in zip(*wins, strict=True))
    error = math.sqrt(positive.var(ddof=1) / n_positive + normal.var(ddof=1) / n_normal)
    if error == 0:
        reason = "no case fares otherwise under the other model: the difference has no variance"
        return DeLong(auc_first, auc_second, difference, 0.0, NAN, reason)
    p_value = math.erfc(abs(difference) / error / math.sqrt(2))
    return DeLong(auc_first, auc_second, difference, error, p_value)


def _components(scores: FloatArray, is_positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """How each case fares: (M,) part of the normals below each positive; (N,) of positives above.

    A tie counts half. Among all cases a positive one's midrank is its midrank among the positives
    plus the number of normals below it; for a normal one likewise.
    """
    positives, normals = scores[is_positive], scores[~is_positive]
    ranks = _midranks(np.concatenate([positives, normals]))
    n_positive, n_normal = len(positives), len(normals)
    below = (ranks[:n_positive] - _midranks(positives)) / n_normal
    above = 1 - (ranks[n_positive:] - _midranks(normals)) / n_positive
    return below, above


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=np.float64)
