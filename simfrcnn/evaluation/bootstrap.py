"""How sure is a figure, given that patients, not boxes, are what was sampled?

A resampled test set is a row of weights: how often each patient was drawn. Every figure is
therefore a function of such rows, and matching, pooling and sorting happen once. Row 0 is the test
set itself (every patient once), so that the value and its replicates come from one piece of code.

Shapes: P patients, R rows of weights, F figures of a statistic; weights (R, P), values (R, F).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.results import NAN, Figure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

CONFIDENCE = 0.95
MAX_DROPPED = 0.05
"""The largest part of undefined replicates with which an interval is still given."""
_ROWS_AT_ONCE = 128


@dataclass(frozen=True)
class Statistic:
    """One or more figures that are computed together.

    ``compute`` maps weights (R, P) to values (R, F), NaN where undefined. For each key, ``n`` says
    over what it is counted, and ``why_undefined`` the reason for a NaN of the test set itself.
    ``proportions`` holds (successes, trials) of those figures for which each patient gives at most
    one trial: these get exact intervals.
    """

    keys: tuple[str, ...]
    compute: Callable[[FloatArray], FloatArray]
    n: Mapping[str, Mapping[str, int]]
    why_undefined: Mapping[str, str]
    proportions: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def figures_of(
    statistics: Iterable[Statistic], strata: IntArray, *, n_replicates: int, seed: int
) -> dict[str, Figure]:
    """Compute every statistic with 95% intervals.

    Intervals are percentiles of a bootstrap over patients, stratified; Clopper-Pearson where each
    patient gives one unit. The same replicates serve all figures.

    Args:
        statistics: What to compute.
        strata: (P,) stratum of each patient (its truth; negative where unknown).
        n_replicates: 0 gives no intervals.
        seed: Of the resampling; the intervals are a function of it.

    Reference:
        Efron and Tibshirani 1993, chapters 8 and 13 (resampling the independent unit; percentile
        interval). Stratification keeps the numbers of positive and normal patients as they are.
    """
    weights = all_weights(strata, n_replicates, seed)
    no_resampling = why_no_resampling(strata, n_replicates)
    figures: dict[str, Figure] = {}
    for statistic in statistics:
        values = values_of(statistic, weights)
        for column, key in enumerate(statistic.keys):
            figures[key] = _figure(statistic, key, values[:, column], no_resampling, n_replicates)
    return figures


def all_weights(strata: IntArray, n_replicates: int, seed: int) -> NDArray[np.int32]:
    """The test set itself (every patient once), then its resamplings: (1 + n_replicates, P)."""
    itself = np.ones((1, len(strata)), np.int32)
    return np.vstack([itself, resampling_weights(strata, n_replicates, seed)])


def values_of(statistic: Statistic, weights: NDArray[np.int32]) -> FloatArray:
    """The figures of a statistic for each row of weights: (R, F)."""
    return _by_rows(statistic.compute, weights, len(statistic.keys))


def resampling_weights(strata: IntArray, n_replicates: int, seed: int) -> NDArray[np.int32]:
    """How often each patient is drawn in each replicate: (n_replicates, P).

    Within each stratum as many patients are drawn, with replacement, as it has.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((n_replicates, len(strata)), np.int32)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        n = len(members)
        weights[:, members] = generator.multinomial(n, np.full(n, 1 / n), size=n_replicates)
    return weights


def bootstrap_figure(
    values: FloatArray, *, n: Mapping[str, int], why_undefined: str, no_resampling: str | None
) -> Figure:
    """A figure from its value on the test set and on the resamplings of it.

    Args:
        values: (1 + n_replicates,), NaN where undefined; the test set itself first.
        n: Over what it is counted.
        why_undefined: The reason for a NaN of the test set itself.
        no_resampling: From :func:`why_no_resampling`; given, there is no interval, for this reason.
    """
    value, replicates = float(values[0]), values[1:]
    if math.isnan(value):
        return Figure(value, n=n, reason=why_undefined)
    if no_resampling:
        return Figure(value, n=n, reason=no_resampling)
    is_defined = ~np.isnan(replicates)
    n_dropped = int((~is_defined).sum())
    if n_dropped > MAX_DROPPED * len(replicates):
        reason = (
            f"no interval: undefined in {n_dropped} of {len(replicates)} bootstrap replicates, "
            f"more than {MAX_DROPPED:.0%}"
        )
        return Figure(value, n=n, n_dropped=n_dropped, reason=reason)
    low, high = percentile_interval(replicates[is_defined])
    return Figure(value, low, high, "bootstrap", n, n_dropped)


def percentile_interval(replicates: FloatArray) -> tuple[float, float]:
    """The central 95% of defined replicates (linear interpolation between order statistics)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def clopper_pearson(n_successes: int, n_trials: int) -> tuple[float, float]:
    """The exact 95% interval of a proportion of independent trials.

    Reference:
        Clopper and Pearson 1934: the ends are where the binomial tail is 2.5%. Found by bisection.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = 0.0, 1.0
    if n_successes > 0:
        low = _bisect(lambda p: _upper_tail(n_successes, n_trials, p) - tail)
    if n_successes < n_trials:
        high = _bisect(lambda p: _upper_tail(n_successes + 1, n_trials, p) - (1 - tail))
    return low, high


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """``numerator / denominator``, NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    values = np.full(numerator.shape, NAN)
    np.divide(numerator, denominator, out=values, where=denominator > 0)
    return values


def per_patient(patients: IntArray, n_patients: int) -> FloatArray:
    """How many units each patient has, (P,), from the patients of the units."""
    return np.bincount(patients, minlength=n_patients).astype(np.float64)


def _figure(
    statistic: Statistic, key: str, values: FloatArray, no_resampling: str | None, n_replicates: int
) -> Figure:
    n = statistic.n[key]
    if n_replicates and key in statistic.proportions and not math.isnan(values[0]):
        low, high = clopper_pearson(*statistic.proportions[key])
        return Figure(float(values[0]), low, high, "clopper-pearson", n)
    return bootstrap_figure(
        values, n=n, why_undefined=statistic.why_undefined[key], no_resampling=no_resampling
    )


def why_no_resampling(strata: IntArray, n_replicates: int) -> str | None:
    """Why a bootstrap over these patients gives no interval; None where it does."""
    if n_replicates == 0:
        return "no interval: none was asked for (0 bootstrap replicates)"
    known = strata[strata >= 0]
    if any((known == stratum).sum() == 1 for stratum in np.unique(known)):
        return (
            "no interval: there is a single positive or a single normal patient, whom resampling "
            "cannot vary"
        )
    return None


def _by_rows(
    compute: Callable[[FloatArray], FloatArray], weights: NDArray[np.int32], n_figures: int
) -> FloatArray:
    """Apply ``compute`` to a few rows at a time, which bounds the memory it takes."""
    values = np.empty((len(weights), n_figures))
    for start in range(0, len(weights), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        values[rows] = compute(weights[rows].astype(np.float64))
    return values


def _upper_tail(n_successes: int, n_trials: int, p: float) -> float:
    """P(X >= n_successes) for X ~ Binomial(n_trials, p), 0 < p < 1."""
    log_n = math.lgamma(n_trials + 1)
    terms = (
        log_n
        - math.lgamma(k + 1)
        - math.lgamma(n_trials - k + 1)
        + k * math.log(p)
        + (n_trials - k) * math.log1p(-p)
        for k in range(n_successes, n_trials + 1)
    )
    return math.fsum(math.exp(term) for term in terms)


def _bisect(rising: Callable[[float], float]) -> float:
    """Where a rising function of p in (0, 1) crosses 0."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
