"""Does a score mean what it says: are 7 in 10 units with scores about .7 positive?

A detector's scores rank; nothing makes them probabilities of cancer, and the part of positives in a
test set is seldom that of practice. Calibration says how far they are from it, on this test set.

Shapes: U units of known truth of one level, P patients, R rows of bootstrap weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import Statistic, clopper_pearson, per_patient, ratio
from simfrcnn.evaluation.case import Units
from simfrcnn.evaluation.results import CalibrationBin

FloatArray = NDArray[np.float64]

N_BINS = 10


def brier_statistic(units: Units, n_patients: int, name: str = "brier") -> Statistic:
    """The mean squared distance of score and truth (1 positive, 0 normal): 0 is best.

    Always answering with the part q of positives gives q (1 - q). Units of unknown truth are left
    out.

    Reference:
        Brier 1950 (half of his sum over both outcomes, as is usual today).
    """
    patients, scores, is_positive = units.known()
    n_units = per_patient(patients, n_patients)
    errors = np.bincount(patients, (scores - is_positive) ** 2, n_patients)
    key = f"{units.level}/{name}"

    def compute(weights: FloatArray) -> FloatArray:
        return ratio(weights @ errors, weights @ n_units)[:, None]

    return Statistic(
        keys=(key,),
        compute=compute,
        n={key: units.n},
        why_undefined={key: f"needs a {units.level} of known truth; {units.found}"},
    )


def calibration_bins(units: Units) -> tuple[CalibrationBin, ...]:
    """Units of known truth by score, in ten bins of equal width; empty bins are left out.

    The interval of a bin is Clopper and Pearson's where each patient gives one unit in it. Where
    patients give several, the n units count as no more than n^2 / sum(n_p^2) independent ones, n_p
    of patient p: as if all units of a patient were copies of one another. So the interval is too
    wide rather than too narrow. Bins are judged one by one: among ten, one miss is not rare.

    Reference:
        Clopper and Pearson 1934; Kish 1965, section 11.7 (the effective number); Korn and Graubard
        1998 (an exact interval of an effective number).
    """
    patients, scores, is_positive = units.known()
    edges = np.arange(N_BINS + 1) / N_BINS
    places = np.minimum(np.searchsorted(edges, scores, side="right") - 1, N_BINS - 1)
    return tuple(
        _bin(
            (float(edges[place]), float(edges[place + 1])),
            *(values[places == place] for values in (patients, scores, is_positive)),
        )
        for place in np.unique(places)
    )


def _bin(
    ends: tuple[float, float],
    patients: NDArray[np.intp],
    scores: FloatArray,
    is_positive: NDArray[np.bool_],
) -> CalibrationBin:
    _, n_of_each = np.unique(patients, return_counts=True)
    n, observed = len(scores), float(is_positive.mean())
    n_effective = n**2 / float((n_of_each**2).sum())
    interval = clopper_pearson(observed * n_effective, n_effective)
    return CalibrationBin(
        low=ends[0],
        high=ends[1],
        n=n,
        mean_score=float(scores.mean()),
        observed=observed,
        observed_low=interval.low,
        observed_high=interval.high,
    )
