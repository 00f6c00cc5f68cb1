"""How far is a score from a probability, and how does it become one?

The log-odds of a score are regressed on the truth. On a test set the slope and the intercept of
that line say how the score is wrong; fitted on a validation set, the line turns scores into
probabilities. A line on log-odds changes no rank: AUC and FROC stay what they are.

Shapes: U units of known truth of one level, P patients, R rows of bootstrap weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri

from simfrcnn.evaluation.bootstrap import CONFIDENCE, Interval, Statistic
from simfrcnn.evaluation.calibration import brier_statistic
from simfrcnn.evaluation.case import KnownUnits, Units
from simfrcnn.evaluation.delong import FEWEST_CASES
from simfrcnn.evaluation.results import NAN, UnitScore
from simfrcnn.evaluation.truth import Truth

FloatArray = NDArray[np.float64]

SCORE_FLOOR = 0.001
"""Scores nearer to 0 or 1 than this have no useful log-odds: detections are saved down to .001."""
_MAX_STEPS = 100
_MAX_HALVINGS = 30
_CONVERGED = 1e-10
_INFINITE = 60.0
"""A coefficient of standardised log-odds beyond this grows without end: the kinds are separated."""


@dataclass(frozen=True)
class Recalibration:
    """``P(positive) = expit(intercept + slope * logit(score))``, fitted on a validation set.

    ``prevalence`` is the part of positive units there, which the intercept contains.
    """

    level: str
    intercept: float
    slope: float
    prevalence: float
    chosen_on: str

    def log_odds(self, scores: FloatArray, prevalence: float | None = None) -> FloatArray:
        """(U,) log-odds of being positive, where ``prevalence`` of the units are.

        None is the validation set's own. Another one moves the intercept by the difference of the
        log-odds of both prevalences.

        Reference:
            Saerens, Latinne and Decaestecker 2002, eq. 2.4 (other priors, the same likelihoods).

        Examples:
            >>> line = Recalibration("case", 0.0, 1.0, 0.5, "val")
            >>> expit(line.log_odds(np.array([0.5]), prevalence=0.01)).round(4)
            array([0.01])
        """
        moved = 0.0 if prevalence is None else logit(prevalence) - logit(self.prevalence)
        return np.asarray(self.intercept + moved + self.slope * log_odds(scores), dtype=np.float64)


def log_odds(scores: FloatArray) -> FloatArray:
    """(U,) ``log(s / (1 - s))``, the scores first brought into [.001, .999].

    Examples:
        >>> log_odds(np.array([0.0, 0.5, 1.0])).round(2)
        array([-6.91,  0.  ,  6.91])
    """
    return np.asarray(logit(np.clip(scores, SCORE_FLOOR, 1 - SCORE_FLOOR)), dtype=np.float64)


def fit_recalibration(
    units: Sequence[UnitScore], level: str, *, chosen_on: str
) -> Recalibration | str:
    """The line from scores to probabilities, or the reason why there is none.

    The likelihood is penalised by Jeffreys' prior, so that the line is finite also where all
    positive units score above all normal ones.

    Args:
        units: Of one level, of validation sets; those of unknown truth do not count.
        level: ``case``, ``breast`` ...
        chosen_on: What the sets are called.

    Reference:
        Cox 1958 (the line); Firth 1993; Heinze and Schemper 2002 (the penalty, for separated data).
    """
    known = [unit for unit in units if unit.truth != Truth.UNKNOWN.label]
    is_positive = np.array([unit.truth == Truth.POSITIVE.label for unit in known], dtype=np.bool_)
    n_positive, n_normal = int(is_positive.sum()), int((~is_positive).sum())
    if min(n_positive, n_normal) < 2:
        return f"needs two positive and two normal ones; there are {n_positive} and {n_normal}"
    x = log_odds(np.array([unit.score for unit in known]))
    if np.ptp(x) == 0:
        return "all scores are equal"
    line = _firth(x, is_positive)
    if line is None:
        return f"no line was found in {_MAX_STEPS} steps"
    intercept, slope = line
    if not slope > 0:
        return f"higher scores are no likelier to be positive there (slope {slope:.3g})"
    return Recalibration(level, intercept, slope, n_positive / len(known), chosen_on)


def calibration_statistic(units: Units, line: Recalibration | None = None) -> Statistic:
    """Calibration slope and intercept, of the scores or of the probabilities made from them.

    The *slope* is that of a logistic regression of the truth on the log-odds: 1 is right, below 1
    the scores are too extreme. The *intercept* (calibration in the large) is that of the same
    regression with the slope held at 1: 0 is right, above 0 the scores are too low. Intervals
    are normal ones with a variance that sums what the units of a patient contribute before
    squaring.

    Args:
        units: Of one level; those of unknown truth are left out.
        line: Given, probabilities by it are judged, and keys begin with ``level/recalibrated``.

    Reference:
        Cox 1958; Steyerberg 2019, section 15.3 (both figures); Liang and Zeger 1986 (the variance).
    """
    known = units.known()
    x = log_odds(known.scores) if line is None else line.log_odds(known.scores)
    start = units.level if line is None else f"{units.level}/recalibrated"
    keys = (f"{start}/calibration_slope", f"{start}/calibration_intercept")
    why = _why_no_line(units, x)
    reasons = (
        f"no finite line: but for ties, the scores separate positive from normal {units.level}s",
        "no finite intercept",
    )
    fits: tuple[Callable[[FloatArray], FloatArray], ...] = (
        partial(_slope_fit, x, known.is_positive),
        partial(_intercept_fit, x, known.is_positive),
    )

    def compute(weights: FloatArray) -> FloatArray:
        if why:
            return np.full((len(weights), 2), NAN)
        of_units = weights[:, known.patients]
        return np.array([[fit(row)[-1] for fit in fits] for row in of_units])

    return Statistic(
        keys=keys,
        compute=compute,
        n=dict.fromkeys(keys, units.n),
        why_undefined={key: why or reason for key, reason in zip(keys, reasons, strict=True)},
        intervals={
            keys[0]: partial(_slope_interval, known, x),
            keys[1]: partial(_intercept_interval, known, x),
        },
    )


def recalibrated_brier_statistic(units: Units, n_patients: int, line: Recalibration) -> Statistic:
    """The mean squared distance of probability and truth, as
    :func:`~simfrcnn.evaluation.calibration.brier_statistic`."""
    probabilities = dataclasses.replace(units, scores=expit(line.log_odds(units.scores)))
    return brier_statistic(probabilities, n_patients, "recalibrated/brier")


def lines_from(document: Mapping[str, Any]) -> dict[str, Recalibration]:
    """Lines by level from JSON types.

    Raises:
        KeyError, TypeError, ValueError: It is damaged.
    """
    if not isinstance(document, Mapping):
        raise TypeError("recalibrations must be by level")
    lines = {level: Recalibration(**fields) for level, fields in document.items()}
    for level, line in lines.items():
        if line.level != level:
            raise ValueError(f"the recalibration by {level} says that it is by {line.level}")
        numbers = (line.intercept, line.slope, line.prevalence)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"the recalibration by {level} holds a number that is not finite")
        if not (line.slope > 0 and 0 < line.prevalence < 1):
            raise ValueError(
                f"the recalibration by {level} has slope {line.slope} and prevalence "
                f"{line.prevalence}; above 0, and in (0, 1), are legal"
            )
    return lines


# Fitting


def _why_no_line(units: Units, x: FloatArray) -> str | None:
    if min(units.n.values()) < 2:
        return f"needs two positive and two normal {units.level}s; {units.found}"
    return f"all {units.level}s have one score" if np.ptp(x) == 0 else None


def _slope_fit(x: FloatArray, is_positive: NDArray[np.bool_], weights: FloatArray) -> FloatArray:
    """(2,) intercept and slope of the greatest likelihood; NaN where it has no maximum."""
    if not weights[is_positive].any() or not weights[~is_positive].any():
        return np.full(2, NAN)
    design, centre, spread = _standardised(x)
    found = np.zeros(2)
    for _ in range(_MAX_STEPS):
        chance = expit(design @ found)
        score = design.T @ (weights * (is_positive - chance))
        information = (design * (weights * chance * (1 - chance))[:, None]).T @ design
        if not np.linalg.cond(information) < 1 / np.finfo(float).eps:
            break
        step = np.linalg.solve(information, score)
        # From a bad start a full step can overshoot where the curve is flat.
        found = found + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(found).max() > _INFINITE:
            break
        if np.abs(step).max() < _CONVERGED:
            slope = found[1] / spread
            return np.array([found[0] - slope * centre, slope])
    return np.full(2, NAN)


def _standardised(x: FloatArray) -> tuple[FloatArray, float, float]:
    """A column of ones and one of x (U, 2) with mean 0 and deviation 1; that mean and deviation.

    Scores of a young classifier all lie within a hundredth of one another: their own slope is then
    in the hundreds, and no sign of anything.
    """
    centre, spread = float(x.mean()), float(x.std())
    return np.stack([np.ones_like(x), (x - centre) / spread], axis=1), centre, spread


def _intercept_fit(
    x: FloatArray, is_positive: NDArray[np.bool_], weights: FloatArray
) -> FloatArray:
    """(1,) intercept of the greatest likelihood with the slope at 1: as many are expected to be
    positive as are.
    """
    n_positive = float(weights @ is_positive)
    if not 0 < n_positive < weights.sum():
        return np.full(1, NAN)

    def excess(intercept: float) -> float:
        return float(weights @ expit(x + intercept)) - n_positive

    base = float(logit(n_positive / weights.sum()))
    low, high = base - float(x.max()) - 1, base - float(x.min()) + 1
    return np.array([brentq(excess, low, high, xtol=1e-14)])


def _firth(x: FloatArray, is_positive: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Intercept and slope of the greatest likelihood times the root of its information; None where
    they were not found.

    The steps are those of the likelihood without the root. A full one can go so far beyond the
    maximum that the next leads back to where it began; so a step is halved until the slope at its
    end is no more than half as steep downwards as it was upwards at its start.
    """
    design, centre, spread = _standardised(x)
    found = np.zeros(2)
    score, inverse = _penalised_score(design, is_positive, found)
    for _ in range(_MAX_STEPS):
        step = inverse @ score
        size = float(np.abs(step).max())
        if size < _CONVERGED:
            slope = float(found[1] / spread)
            return float(found[0]) - slope * centre, slope
        part, rise = min(1.0, 1.0 / size), float(score @ step)
        for _ in range(_MAX_HALVINGS):
            score, inverse = _penalised_score(design, is_positive, found + part * step)
            if score @ step >= -rise / 2:
                break
            part /= 2
        found = found + part * step
    return None


def _penalised_score(
    design: FloatArray, is_positive: NDArray[np.bool_], line: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(2,) Firth's modified score, and (2, 2) the inverse of the information."""
    chance = expit(design @ line)
    spreads = chance * (1 - chance)
    inverse = np.linalg.inv((design * spreads[:, None]).T @ design)
    leverage = spreads * np.einsum("ui,ij,uj->u", design, inverse, design)
    return design.T @ (is_positive - chance + leverage * (0.5 - chance)), inverse


def _slope_interval(known: KnownUnits, x: FloatArray) -> Interval:
    found = _slope_fit(x, known.is_positive, np.ones(len(x)))
    design, centre, spread = _standardised(x)
    own = np.array([found[0] + found[1] * centre, found[1] * spread])
    return _interval(known, design, np.zeros_like(x), own, 1 / spread)


def _intercept_interval(known: KnownUnits, x: FloatArray) -> Interval:
    found = _intercept_fit(x, known.is_positive, np.ones(len(x)))
    return _interval(known, np.ones((len(x), 1)), x, found)


def _interval(
    known: KnownUnits,
    design: FloatArray,
    offset: FloatArray,
    found: FloatArray,
    scale: float = 1.0,
) -> Interval:
    """Of the last parameter times ``scale``: normal, with the variance over patients."""
    patients, _, is_positive = known
    n_positive = len(np.unique(patients[is_positive]))
    n_normal = len(np.unique(patients[~is_positive]))
    if min(n_positive, n_normal) < FEWEST_CASES:
        return Interval.missing(
            f"no interval: it needs {FEWEST_CASES} patients with a positive unit and "
            f"{FEWEST_CASES} with a normal one; there are {n_positive} and {n_normal}"
        )
    chance = expit(design @ found + offset)
    information = (design * (chance * (1 - chance))[:, None]).T @ design
    if not np.linalg.cond(information) < 1 / np.finfo(float).eps:
        return Interval.missing("no interval: every probability is 0 or 1 but for rounding")
    inverse = np.linalg.inv(information)
    own, place = np.unique(patients, return_inverse=True)
    scores = design * (is_positive - chance)[:, None]
    by_patient = np.zeros((len(own), design.shape[1]))
    np.add.at(by_patient, place, scores)
    covariance = inverse @ (by_patient.T @ by_patient) @ inverse * len(own) / (len(own) - 1)
    half = -ndtri((1 - CONFIDENCE) / 2) * math.sqrt(covariance[-1, -1])
    low, high = scale * (found[-1] - half), scale * (found[-1] + half)
    return Interval(float(low), float(high), "cluster-robust")
