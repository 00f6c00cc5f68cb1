"""Is acting on the model better than recalling everybody, or nobody?

A *threshold probability* is the chance of cancer from which on a woman is recalled; it says how
many needless recalls one found cancer is worth, (1 - p) / p. The net benefit counts cancers found,
less needless recalls at that rate, per case. It needs probabilities, so it is given for scores that
were recalibrated on a validation set.

Shapes: U cases of known truth, P patients, R rows of bootstrap weights, T threshold probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from simfrcnn.evaluation.bootstrap import (
    Interval,
    Statistic,
    limits_of_sum,
    per_patient,
    ratio,
)
from simfrcnn.evaluation.case import Units
from simfrcnn.evaluation.recalibration import Recalibration

FloatArray = NDArray[np.float64]

STATED = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Threshold probabilities whose net benefit is a figure; the curve has more."""
GRID = np.concatenate([np.arange(1, 101) / 2000, np.arange(11, 101) / 200])
"""Those of the curve: .0005 to .05 in steps of .0005, as screening needs, then to .5 by .005."""


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit per case at each threshold probability (T,).

    ``model`` acts on the model, ``recall_all`` recalls everybody; to recall nobody is 0.
    ``prevalence`` is the part of positive cases that both assume.
    """

    thresholds: tuple[float, ...]
    model: tuple[float, ...]
    recall_all: tuple[float, ...]
    prevalence: float


def net_benefit_statistic(
    units: Units,
    n_patients: int,
    line: Recalibration,
    prevalence: float | None,
    *,
    with_band: bool = False,
) -> Statistic:
    """Net benefit at :data:`STATED` threshold probabilities, and a band at those of :data:`GRID`.

    Where each patient is one case, intervals of the figures come from the exact limits of
    sensitivity and specificity: those by resampling have no width where every case is recalled, or
    all are called right. The part of positives is taken as given.

    ``sensitivity * prevalence - (1 - specificity) * (1 - prevalence) * p / (1 - p)``.

    Args:
        units: Of one level; those of unknown truth are left out.
        n_patients: P, also those without a unit of known truth.
        line: From scores to probabilities; fitted on other patients.
        prevalence: Part of positive units where the model is to be used; probabilities are moved to
            it. None: that of this set, and of the validation set.
        with_band: Add the band ``net_benefit/<level>``.

    Reference:
        Vickers and Elkin 2006 (net benefit, decision curve); Vickers et al. 2008 (intervals by
        resampling, for the band and for patients with several cases).
    """
    stated = np.array(STATED)
    thresholds = np.concatenate([stated, GRID]) if with_band else stated
    counts = _counts(units, n_patients, line, prevalence, thresholds)

    def compute(weights: FloatArray) -> FloatArray:
        return _net_benefit(weights, counts, thresholds, prevalence)

    keys = tuple(f"{units.level}/net_benefit_at_{p:g}" for p in STATED)
    own = units.known().patients
    intervals = {
        key: partial(_interval, units.n, counts, place, prevalence)
        for place, key in enumerate(keys)
        if len(np.unique(own)) == len(own)
    }
    return Statistic(
        keys=keys,
        compute=compute,
        n=dict.fromkeys(keys, units.n),
        why_undefined=dict.fromkeys(keys, units.needs_both),
        intervals=intervals,
        bands={f"net_benefit/{units.level}": GRID} if with_band else {},
    )


def decision_curve(
    units: Units, line: Recalibration, prevalence: float | None
) -> DecisionCurve | None:
    """The net benefit of the model and of recalling everybody; None without both kinds."""
    if not all(units.n.values()):
        return None
    n_patients = int(units.patients.max()) + 1
    counts = _counts(units, n_patients, line, prevalence, GRID)
    model = _net_benefit(np.ones((1, n_patients)), counts, GRID, prevalence)[0]
    part = units.n["positive"] / sum(units.n.values()) if prevalence is None else prevalence
    recall_all = part - (1 - part) * GRID / (1 - GRID)
    return DecisionCurve(
        tuple(GRID.tolist()), tuple(model.tolist()), tuple(recall_all.tolist()), part
    )


@dataclass(frozen=True)
class _Counts:
    """By patient: recalled positive and normal units (P, T), and all of each kind (P,)."""

    found: FloatArray
    recalled: FloatArray
    positives: FloatArray
    normals: FloatArray


def _counts(
    units: Units,
    n_patients: int,
    line: Recalibration,
    prevalence: float | None,
    thresholds: FloatArray,
) -> _Counts:
    patients, scores, is_positive = units.known()
    is_recalled = expit(line.log_odds(scores, prevalence))[:, None] >= thresholds  # (U, T)
    found, recalled = (np.zeros((n_patients, len(thresholds))) for _ in range(2))
    np.add.at(found, patients[is_positive], is_recalled[is_positive])
    np.add.at(recalled, patients[~is_positive], is_recalled[~is_positive])
    return _Counts(
        found,
        recalled,
        per_patient(patients[is_positive], n_patients),
        per_patient(patients[~is_positive], n_patients),
    )


def _interval(
    n: Mapping[str, int], counts: _Counts, place: int, prevalence: float | None
) -> Interval:
    """At the threshold of this place among :data:`STATED`."""
    harm = STATED[place] / (1 - STATED[place])
    part = n["positive"] / (n["positive"] + n["normal"]) if prevalence is None else prevalence
    found, recalled = (int(each[:, place].sum()) for each in (counts.found, counts.recalled))
    return limits_of_sum(
        [(part, found, n["positive"]), (-(1 - part) * harm, recalled, n["normal"])]
    )


def _net_benefit(
    weights: FloatArray, counts: _Counts, thresholds: FloatArray, prevalence: float | None
) -> FloatArray:
    n_positive, n_normal = weights @ counts.positives, weights @ counts.normals
    sensitivity = ratio(weights @ counts.found, n_positive[:, None])
    false_positives = ratio(weights @ counts.recalled, n_normal[:, None])
    part: FloatArray | float
    part = ratio(n_positive, n_positive + n_normal)[:, None] if prevalence is None else prevalence
    harm = thresholds / (1 - thresholds)
    return np.asarray(sensitivity * part - false_positives * (1 - part) * harm, dtype=np.float64)
