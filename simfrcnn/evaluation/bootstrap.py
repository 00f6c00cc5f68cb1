"""How sure is a figure, given that patients, not boxes, are what was sampled?

A resampled test set is a row of weights: how often each patient was drawn. Every figure is
therefore a function of such rows, and matching, pooling and sorting happen once. Row 0 is the test
set itself (every patient once), so that the value and its replicates come from one piece of code.

Shapes: P patients, R rows of weights, F figures of a statistic; weights (R, P), values (R, F).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import betaincinv, expit, logit, ndtri

from simfrcnn.evaluation.results import NAN, Band, Figure, Method

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

CONFIDENCE = 0.95
MAX_DROPPED = 0.05
"""The largest part of undefined replicates with which an interval is still given."""
_ROWS_AT_ONCE = 128
_NO_SPREAD = "no interval: no resampled set gave another value"


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``, by ``method``; without an interval NaN, None and the ``reason``."""

    low: float
    high: float
    method: Method | None
    reason: str | None = None

    @classmethod
    def missing(cls, reason: str) -> Interval:
        """There is none, for this reason."""
        return cls(NAN, NAN, None, reason)

    def to_json(self) -> dict[str, Any]:
        """The interval in JSON types, ``null`` for NaN."""
        is_there = self.reason is None
        return {
            "low": self.low if is_there else None,
            "high": self.high if is_there else None,
            "method": self.method,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class LogitScale:
    """For figures near 1 in small sets, whose percentiles are too narrow: intervals on the logit.

    Values nearer to 0 or 1 than ``floor`` count as so near, as a logit has no end; ``least`` is the
    lowest value that the figure can have.
    """

    floor: float
    least: float = 0.0


@dataclass(frozen=True)
class Statistic:
    """One or more figures that are computed together.

    ``compute`` maps weights (R, P) to values (R, F), NaN where undefined. For each key, ``n`` says
    over what it is counted, and ``why_undefined`` the reason for a NaN of the test set itself.
    ``intervals`` makes the interval of those figures that have a better one than the bootstrap's;
    it is called where intervals are wanted and the figure is defined. ``logit_scales`` are those of
    figures with a :func:`logit_interval`.
    """

    keys: tuple[str, ...]
    compute: Callable[[FloatArray], FloatArray]
    n: Mapping[str, Mapping[str, int]]
    why_undefined: Mapping[str, str]
    intervals: Mapping[str, Callable[[], Interval]] = field(default_factory=dict)
    bands: Mapping[str, FloatArray] = field(default_factory=dict)
    logit_scales: Mapping[str, LogitScale] = field(default_factory=dict)

    @property
    def n_columns(self) -> int:
        """How many values ``compute`` gives for each row of weights."""
        return len(self.keys) + sum(len(x) for x in self.bands.values())


def figures_of(
    statistics: Iterable[Statistic], strata: IntArray, *, n_replicates: int, seed: int
) -> dict[str, Figure]:
    """Compute every statistic with 95% intervals.

    Intervals are a statistic's own where it brings them (Clopper-Pearson, DeLong), else percentiles
    of a bootstrap over patients, stratified. The same replicates serve all figures; a statistic
    that needs none of them is computed on the test set alone.

    Args:
        statistics: The figures to compute.
        strata: (P,) stratum of each patient (its truth; negative where unknown).
        n_replicates: Number of resamplings; 0 gives no intervals.
        seed: Seed of the resampling; the intervals are a function of it.

    Reference:
        Efron and Tibshirani 1993, chapters 8 and 13 (resampling the independent unit; percentile
        interval). Stratification keeps the numbers of positive and normal patients as they are.
    """
    return figures_and_bands(statistics, strata, n_replicates=n_replicates, seed=seed)[0]


def figures_and_bands(
    statistics: Iterable[Statistic], strata: IntArray, *, n_replicates: int, seed: int
) -> tuple[dict[str, Figure], dict[str, Band]]:
    """As :func:`figures_of`, with the bands round the curves; none where there is no interval."""
    weights = all_weights(strata, n_replicates, seed)
    no_resampling = why_no_resampling(strata, n_replicates)
    figures: dict[str, Figure] = {}
    bands: dict[str, Band] = {}
    for statistic in statistics:
        is_enough = set(statistic.keys) <= set(statistic.intervals) and not statistic.bands
        needed = weights[:1] if is_enough else weights
        values = values_of(statistic, needed)
        for column, key in enumerate(statistic.keys):
            figures[key] = _figure(statistic, key, values[:, column], no_resampling, n_replicates)
        start = len(statistic.keys)
        for name, x in statistic.bands.items():
            heights = values[:, start : start + len(x)]
            start += len(x)
            if not no_resampling and not np.isnan(heights[0]).any():
                is_defined = ~np.isnan(heights[1:]).any(axis=1)
                if is_defined.mean() >= 1 - MAX_DROPPED:
                    bands[name] = band_of(x, heights[1:][is_defined])
    return figures, bands


def band_of(x: FloatArray, heights: FloatArray) -> Band:
    """The central 95% of resampled curves (R, Q), all defined, at each ``x`` (Q,) by itself."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(heights, [tail, 1 - tail], axis=0)
    return Band(tuple(x.tolist()), tuple(low.tolist()), tuple(high.tolist()))


def all_weights(strata: IntArray, n_replicates: int, seed: int) -> NDArray[np.int32]:
    """The test set itself (every patient once), then its resamplings: (1 + n_replicates, P)."""
    itself = np.ones((1, len(strata)), np.int32)
    return np.vstack([itself, resampling_weights(strata, n_replicates, seed)])


def values_of(statistic: Statistic, weights: NDArray[np.int32]) -> FloatArray:
    """The figures of a statistic for each row of weights: (R, F)."""
    return _by_rows(statistic.compute, weights, statistic.n_columns)


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
    values: FloatArray,
    *,
    n: Mapping[str, int],
    why_undefined: str,
    no_resampling: str | None,
    logit_scale: LogitScale | None = None,
) -> Figure:
    """A figure from its value on the test set and on the resamplings of it.

    Args:
        values: (1 + n_replicates,), NaN where undefined; the test set itself first.
        n: Over what it is counted.
        why_undefined: The reason for a NaN of the test set itself.
        no_resampling: From :func:`why_no_resampling`; given, there is no interval, for this reason.
        logit_scale: Given, the interval is :func:`logit_interval`'s, not of percentiles.
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
    if logit_scale is not None:
        if is_defined.sum() < 2 or np.ptp(replicates[is_defined]) == 0:
            return Figure(value, n=n, n_dropped=n_dropped, reason=_NO_SPREAD)
        low, high = logit_interval(value, replicates[is_defined], logit_scale)
        return Figure(value, low, high, "bootstrap-logit", n, n_dropped)
    low, high = percentile_interval(replicates[is_defined])
    return Figure(value, low, high, "bootstrap", n, n_dropped)


def logit_interval(value: float, replicates: FloatArray, scale: LogitScale) -> tuple[float, float]:
    """The normal 95% interval on the logit, with the standard deviation of the replicates there.

    Args:
        value: On the test set itself, in [0, 1].
        replicates: Of it, all defined.
        scale: Of the figure.

    Examples:
        >>> low, high = logit_interval(0.9, np.array([0.8, 0.9, 0.95]), LogitScale(floor=0.01))
        >>> print(round(low, 2), round(high, 2))
        0.66 0.98
    """
    around = logit(np.clip(np.append(replicates, value), scale.floor, 1 - scale.floor))
    half = float(ndtri(0.5 + CONFIDENCE / 2) * around[:-1].std(ddof=1))
    low, high = float(expit(around[-1] - half)), float(expit(around[-1] + half))
    return min(max(low, scale.least), value), max(high, value)


def percentile_interval(replicates: FloatArray) -> tuple[float, float]:
    """The central 95% of defined replicates (linear interpolation between order statistics)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def clopper_pearson(
    n_successes: float, n_trials: float, confidence: float = CONFIDENCE
) -> Interval:
    """The exact interval of a proportion of independent trials.

    Counts need not be whole: an effective number of trials is less than their number.

    Reference:
        Clopper and Pearson 1934: the ends are where a binomial tail is 2.5% (of a 95% interval), by
        quantiles of the beta distribution; Korn and Graubard 1998 (effective numbers).
    """
    tail = (1 - confidence) / 2
    n_failures = n_trials - n_successes
    low = float(betaincinv(n_successes, n_failures + 1, tail)) if n_successes > 0 else 0.0
    high = float(betaincinv(n_successes + 1, n_failures, 1 - tail)) if n_failures > 0 else 1.0
    return Interval(low, high, "clopper-pearson")


def exact_intervals(
    keys: Sequence[str], won: Sequence[FloatArray], trials: FloatArray
) -> dict[str, Callable[[], Interval]]:
    """The exact intervals of proportions of the same trials, where there are such.

    Where each patient gives at most one trial, Clopper and Pearson's. Where a patient gives
    several, only for a proportion of 0 or 1, of which all resamplings are alike: with one trial a
    patient, as if all of a patient's were one, which is wider than need be.

    Args:
        keys: Of the figures.
        won: Of each, how many trials of each patient are won, (P,).
        trials: How many each patient gives, (P,).
    """
    n_patients = int((trials > 0).sum())
    n_trials = int(trials.sum())
    intervals: dict[str, Callable[[], Interval]] = {}
    for key, own in zip(keys, won, strict=True):
        n_won = int(own.sum())
        if n_trials > n_patients and n_won not in (0, n_trials):
            continue
        n_won = n_patients if n_won == n_trials else n_won
        intervals[key] = partial(clopper_pearson, n_won, n_patients)
    return intervals


def limits_of_sum(parts: Iterable[tuple[float, int, int]]) -> Interval:
    """The interval of a sum of independent proportions, each times a constant.

    The distances of the sum to its limits are the roots of the summed squares of those of its
    parts, whose limits are exact.

    Args:
        parts: Constant (it may be negative), successes and trials of each.

    Reference:
        Zou and Donner 2008 (MOVER: limits of a sum from those of its parts).

    Examples:
        >>> limits = limits_of_sum([(1.0, 5, 5), (-0.5, 0, 5)])
        >>> print(round(limits.low, 3), limits.high)
        0.417 1.0
    """
    value, below, above = 0.0, 0.0, 0.0
    for scale, n_successes, n_trials in parts:
        limits = clopper_pearson(n_successes, n_trials)
        at = scale * n_successes / n_trials
        low, high = sorted((scale * limits.low, scale * limits.high))
        value, below, above = value + at, math.hypot(below, at - low), math.hypot(above, high - at)
    return Interval(value - below, value + above, "mover")


def limits_of_difference(first: Figure, second: Figure, correlation: float = 0.0) -> Interval:
    """The interval of a difference of two figures, from their own.

    The distances of the difference to its limits are those of independent (or correlated) errors:
    below it that of the first to its lower and that of the second to its upper limit, above it the
    other two. So each side is as wide as the figures' own intervals on that side.

    Args:
        first: With an interval.
        second: With an interval.
        correlation: Of the two; 0 where they are independent.

    Reference:
        Zou and Donner 2008 (MOVER); Zou 2007 (correlated figures).

    Examples:
        >>> one, other = Figure(0.8, 0.7, 0.9), Figure(0.9, 0.8, 0.95)
        >>> limits = limits_of_difference(one, other)
        >>> print(round(limits.low, 4), round(limits.high, 4))  # -.1 -+ sqrt(.1^2 + .05^2 or .1^2)
        -0.2118 0.0414
        >>> print(round(limits_of_difference(one, other, 0.5).low, 4))
        -0.1866
    """
    value = first.value - second.value
    below, above = (
        math.sqrt(max(one * one - 2 * correlation * one * two + two * two, 0.0))
        for one, two in (
            (max(first.value - first.low, 0.0), max(second.high - second.value, 0.0)),
            (max(first.high - first.value, 0.0), max(second.value - second.low, 0.0)),
        )
    )
    return Interval(value - below, value + above, "mover")


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """``numerator / denominator``, NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    values = np.full(numerator.shape, NAN)
    np.divide(numerator, denominator, out=values, where=denominator > 0)
    return values


def cumulated(by_place: csr_array, weights: FloatArray) -> FloatArray:
    """(R, K): how many events of the re-weighted patients there are down to each of K places.

    Args:
        by_place: (K, P) how many each patient has between one place and the next higher one.
        weights: (R, P).
    """
    return np.ascontiguousarray(np.cumsum(by_place @ weights.T, axis=0).T)


def per_patient(patients: IntArray, n_patients: int) -> FloatArray:
    """How many units each patient has, (P,), from the patients of the units."""
    return np.bincount(patients, minlength=n_patients).astype(np.float64)


def _figure(
    statistic: Statistic, key: str, values: FloatArray, no_resampling: str | None, n_replicates: int
) -> Figure:
    n = statistic.n[key]
    if n_replicates and key in statistic.intervals and not math.isnan(values[0]):
        own = statistic.intervals[key]()
        return Figure(float(values[0]), own.low, own.high, own.method, n, reason=own.reason)
    return bootstrap_figure(
        values,
        n=n,
        why_undefined=statistic.why_undefined[key],
        no_resampling=no_resampling,
        logit_scale=statistic.logit_scales.get(key),
    )


def why_no_resampling(strata: IntArray, n_replicates: int) -> str | None:
    """Why a bootstrap over these patients gives no interval; None where it does."""
    if n_replicates == 0:
        return "no interval: none was asked for (0 bootstrap replicates)"
    known = strata[strata >= 0]
    if len(strata) == 1 or any((known == stratum).sum() == 1 for stratum in np.unique(known)):
        return (
            "no interval: there is a single patient, a single positive or a single normal one, "
            "whom resampling cannot vary"
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
