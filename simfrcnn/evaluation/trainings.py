"""What would another training of a method do, on other patients? And is a difference a result?

A trained model is one draw from its method: another seed gives another model. An interval over
patients alone takes the trainings as given and says nothing about the method.

Shapes: S trainings of a method, which differ in the seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from simfrcnn.evaluation.bootstrap import CONFIDENCE, Interval
from simfrcnn.evaluation.delong import why_too_few
from simfrcnn.evaluation.results import NAN, Figure

FloatArray = NDArray[np.float64]
VerdictWord = Literal["result", "equivalent", "not a result", "one training", "undefined"]

FEWEST_TRAININGS = 2
NOT_STATED = "it is not stated on how many patients it rests"
"""Why nothing is claimed of a difference without the numbers of patients."""
_TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Verdict:
    """What may be claimed of a difference between methods, and why.

    ``result``: it is not 0. ``equivalent``: it lies within the stated margin. ``not a result``:
    neither is shown. ``one training``: nothing can be said about methods. ``undefined``: there is
    no difference.
    """

    word: VerdictWord
    reason: str

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}"


def half_width(by_training: ArrayLike, patient_error: ArrayLike) -> FloatArray:
    """Half the 95% interval of a method's mean over trainings, over trainings and patients.

    The figure of training s on a sample of patients is taken to be ``truth + a_s + b + e_s``: what
    the training did (variance A), what these patients do to every training alike (B), and what
    they do to this one (E). Their mean over S trainings has the variance ``A/S + B + E/S``. Known
    are the variance s^2 between the trainings, whose expectation is ``A + E``, and the variance u^2
    over patients of the mean of the given trainings, ``B + E/S``. The interval takes::

        v = s^2 / S + u^2
        df = (S - 1) * (v / (s^2 / S))^2
        half = t(.975, df) * sqrt(v), or t(.975, S - 1) * sqrt(s^2 / S) if that is more

    E/S is in both terms, so that v is a little too large rather than too small. The degrees of
    freedom are Satterthwaite's, with u^2 taken as known (infinitely many): where the trainings
    dominate they are S - 1, where they hardly differ t becomes the normal quantile. The second
    value is Student's interval of the trainings alone, which patients cannot make narrower: with
    few trainings Satterthwaite's would, by chance, and hold the truth in 92% of three trainings and
    87% of two where these dominate. How often this one does stands in docs/evaluation.md.

    Args:
        by_training: (..., S) the figure of each training; S at least 2.
        patient_error: (...) u, the standard error over patients of their mean.

    Returns:
        (...) half the width of the interval.

    Reference:
        Satterthwaite 1946, An approximate distribution of estimates of variance components. The
        lower limit by Student's interval is ours.

    Examples:
        >>> print(half_width([0.1, 0.11, 0.12], 0.02).round(4))  # t of 2 * 13^2 degrees of freedom
        0.0409
        >>> print(half_width([0.1, 0.1, 0.1], 0.008).round(4))  # 1.96 errors
        0.0157
    """
    figures, error = np.asarray(by_training, float), np.asarray(patient_error, float)
    n = figures.shape[-1]
    if n < FEWEST_TRAININGS:
        raise ValueError(f"{n} training: a variance between trainings takes {FEWEST_TRAININGS}")
    between = figures.var(axis=-1, ddof=1) / n
    variance = between + error**2
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (n - 1) * (variance / between) ** 2
    is_finite = np.isfinite(freedom)
    quantile = np.where(
        is_finite, -stdtrit(np.where(is_finite, freedom, 1.0), _TAIL), -ndtri(_TAIL)
    )
    students = -stdtrit(n - 1, _TAIL) * np.sqrt(between)
    return np.asarray(np.maximum(quantile * np.sqrt(variance), students))


def over_trainings(
    by_training: Sequence[float], over_patients: Figure, lowest: float, highest: float
) -> Interval:
    """The 95% interval of a method's figure over trainings and patients.

    Each side is :func:`half_width` with the standard error of that side: the distance from the
    figure to that end of the interval over patients, over the normal quantile. So where patients
    leave more room below than above, as near 1, this does too, and it always holds the interval
    over patients. Half the width of that on both sides would not: near 1 it would end above its
    lower end.

    Args:
        by_training: The figure of each training.
        over_patients: Their mean, with its interval over patients for these trainings.
        lowest: The least value that the figure can have: the interval ends there at the latest.
        highest: Likewise the largest.

    Returns:
        The interval; without one, the reason: fewer than two trainings, a figure that is undefined
        or has no interval over patients.

    Reference:
        Zou 2008, Construction of confidence limits about effect measures: each limit by the
        variance that is recovered from its own side.

    Examples:
        >>> auc = Figure(0.8, 0.77, 0.83, "bootstrap")
        >>> interval = over_trainings([0.82, 0.83, 0.75], auc, 0, 1)
        >>> print(f"{interval.low:.3f} to {interval.high:.3f}")
        0.692 to 0.908
        >>> over_trainings([0.8], auc, 0, 1).reason
        'one training: no interval over trainings'
    """
    if len(by_training) < FEWEST_TRAININGS:
        return Interval.missing("one training: no interval over trainings")
    if math.isnan(over_patients.value) or np.isnan(by_training).any():
        return Interval.missing("no interval over trainings: a training's figure is undefined")
    if math.isnan(over_patients.low):
        why = over_patients.reason or "unknown why"
        return Interval.missing(f"no interval over trainings: there is none over patients ({why})")
    value, errors = over_patients.value, _errors(over_patients)
    below, above = half_width([by_training, by_training], errors)
    low, high = float(value - below), float(value + above)
    return Interval(max(low, lowest), min(high, highest), "satterthwaite")


def _errors(over_patients: Figure) -> tuple[float, float]:
    """The standard error over patients below and above the figure.

    0 on a side on which the interval does not reach the figure, as percentiles of a bootstrap may
    not.
    """
    value, quantile = over_patients.value, -ndtri(_TAIL)
    below, above = value - over_patients.low, over_patients.high - value
    return max(below, 0.0) / quantile, max(above, 0.0) / quantile


def why_no_claim(n_patients: Mapping[str, int] | None) -> str | None:
    """Why no test is made on so many patients; None where there are enough.

    The bound is that of a comparison of models, for the same reason: on fewer patients intervals
    over patients exclude 0 too often.

    Args:
        n_patients: How many have a ``positive`` and how many a ``normal`` unit; None where nobody
            says.

    Examples:
        >>> why_no_claim({"positive": 60, "normal": 83})
        >>> why_no_claim(None)
        'it is not stated on how many patients it rests'
    """
    if n_patients is None:
        return NOT_STATED
    return why_too_few(n_patients["positive"], n_patients["normal"])


def p_over_trainings(
    by_training: Sequence[float], over_patients: Figure, n_patients: Mapping[str, int] | None
) -> float:
    """The p-value of a difference of methods being 0, over trainings and patients.

    Two-sided, and of the interval of :func:`over_trainings`: below .05 exactly where that excludes
    0. NaN where there is no such interval, and where :func:`why_no_claim` has a reason.

    Args:
        by_training: The difference of each pair of trainings.
        over_patients: Their mean, with its interval over patients.
        n_patients: How many patients have a ``positive`` and how many a ``normal`` unit.

    Examples:
        >>> mean = Figure(0.031, 0.018, 0.046, "bootstrap")
        >>> f"{p_over_trainings([0.076, 0.022, -0.005], mean, {'positive': 60, 'normal': 83}):.3f}"
        '0.323'
    """
    interval = over_trainings(by_training, over_patients, -math.inf, math.inf)
    if interval.reason is not None or why_no_claim(n_patients) is not None:
        return NAN
    below, above = _errors(over_patients)
    error = below if over_patients.value > 0 else above  # of the side on which 0 lies
    n = len(by_training)
    between = float(np.var(by_training, ddof=1)) / n
    variance = between + error**2
    size = abs(over_patients.value)
    if variance == 0:
        return NAN
    if between == 0:
        return 2 * float(ndtr(-size / error))
    freedom = (n - 1) * (variance / between) ** 2
    of_both = 2 * stdtr(freedom, -size / math.sqrt(variance))
    of_trainings = 2 * stdtr(n - 1, -size / math.sqrt(between))
    return float(max(of_both, of_trainings))


def wider(over_patients: Figure, interval: Interval) -> Figure:
    """The figure with the wider of its two intervals: what to quote of a method."""
    width = over_patients.high - over_patients.low
    if math.isnan(interval.low) or interval.high - interval.low < width:
        return over_patients
    return dataclasses.replace(
        over_patients, low=interval.low, high=interval.high, method=interval.method
    )


def verdict_on(
    by_training: Sequence[float],
    over_patients: Figure,
    n_patients: Mapping[str, int] | None,
    margin: float | None = None,
) -> Verdict:
    """What may be claimed of a difference between two methods.

    Judged by the wider of the two intervals. Equivalence is shown where that interval lies inside
    ``-margin`` to ``margin``: two one-sided tests, each at 2.5%. Nothing is claimed where
    :func:`why_no_claim` has a reason.

    Args:
        by_training: The difference of each pair of trainings.
        over_patients: Their mean, with its interval over patients.
        n_patients: How many patients have a ``positive`` and how many a ``normal`` unit.
        margin: The largest difference that does not matter, stated beforehand; None tests no
            equivalence.

    Reference:
        Schuirmann 1987 (two one-sided tests; that they reject where the interval lies inside).

    Examples:
        >>> mean = Figure(0.031, 0.018, 0.046, "bootstrap")
        >>> n_patients = {"positive": 60, "normal": 83}
        >>> print(verdict_on([0.076, 0.022, -0.005], mean, n_patients))
        not a result: seeds disagree in sign
        >>> print(verdict_on([0.030, 0.031, 0.032], mean, n_patients))
        result: the interval excludes 0
        >>> print(verdict_on([0.030, 0.031, 0.032], mean, n_patients, margin=0.05))
        equivalent: differs from 0, by less than 0.05
        >>> print(verdict_on([0.031], mean, n_patients))
        one training: no interval over trainings
    """
    if math.isnan(over_patients.value) or np.isnan(by_training).any():
        return Verdict("undefined", over_patients.reason or "a training's figure is undefined")
    if len(by_training) < FEWEST_TRAININGS:
        return Verdict("one training", "no interval over trainings")
    too_few = why_no_claim(n_patients)
    if too_few is not None:
        return Verdict("not a result", too_few)
    interval = over_trainings(by_training, over_patients, -1, 1)
    if interval.reason is not None:
        return Verdict("not a result", interval.reason)
    quoted = wider(over_patients, interval)
    disagree = min(by_training) < 0 < max(by_training)
    is_apart = not disagree and (quoted.low > 0 or quoted.high < 0)
    if margin is not None and -margin < quoted.low and quoted.high < margin:
        apart = "differs from 0, by" if is_apart else "differs by"
        return Verdict("equivalent", f"{apart} less than {margin:g}")
    if is_apart:
        return Verdict("result", "the interval excludes 0")
    return Verdict("not a result", "seeds disagree in sign" if disagree else "the interval holds 0")
