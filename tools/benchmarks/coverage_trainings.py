"""How often does the interval over trainings and patients hold a method's true AUC?

Run as ``PYTHONPATH=tools python -m benchmarks.coverage_trainings``. Each training draws how far it
tells positive and normal patients apart, and is tested on the same patients as the others. The
method's value is the mean of all trainings on all patients. The interval over patients is DeLong's
of the mean AUC, on the logit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from simfrcnn.evaluation.results import Figure
from simfrcnn.evaluation.trainings import over_trainings

FloatArray = NDArray[np.float64]
_QUANTILE = norm.ppf(0.975)
_COMMON = 0.7
"""The part of a score's variance that is the patient's and common to all trainings."""
_LARGE = 200_000


@dataclass(frozen=True)
class Method:
    """Trainings on positive and normal patients.

    ``separation`` is how far the kinds lie apart, in standard deviations of a score; it varies by
    ``spread`` between trainings.
    """

    separation: float
    spread: float
    n_trainings: int
    n_positive: int = 60
    n_normal: int = 90


METHODS = (
    *(Method(1.0, spread, n) for spread in (0.0, 0.2, 0.5) for n in (3, 5)),
    *(Method(3.0, spread, n) for spread in (0.0, 0.2, 0.5) for n in (3, 5)),
    Method(3.0, 0.0, 3, n_positive=20, n_normal=20),
)


def rows(n_studies: int, seed: int) -> Iterator[str]:
    """Lines of Markdown: the parts of the studies whose intervals hold the method's AUC."""
    yield "| AUC | spread | trainings | cases | over patients | over trainings and patients |"
    yield "|---|---|---|---|---|---|"
    for method in METHODS:
        random = np.random.default_rng(seed)
        drawn = random.normal(method.separation, method.spread, _LARGE)
        auc = float(norm.cdf(drawn / np.sqrt(2)).mean())
        held = np.mean([_study(method, auc, random) for _ in range(n_studies)], axis=0)
        yield (
            f"| {auc:.3f} | {method.spread:g} | {method.n_trainings} | {method.n_positive} + "
            f"{method.n_normal} | {held[0]:.3f} | {held[1]:.3f} |"
        )


def _study(method: Method, auc: float, random: np.random.Generator) -> tuple[bool, bool]:
    """Whether each of the two intervals holds the method's AUC."""
    shape = (method.n_trainings, 1)
    apart = random.normal(method.separation, method.spread, shape)
    positives = apart + _scores(method.n_trainings, method.n_positive, random)
    normals = _scores(method.n_trainings, method.n_normal, random)
    wins = positives[:, :, None] > normals[:, None, :]
    by_training = wins.mean(axis=(1, 2))
    by_pair = wins.mean(axis=0)
    variance = (
        by_pair.mean(axis=1).var(ddof=1) / method.n_positive
        + by_pair.mean(axis=0).var(ddof=1) / method.n_normal
    )
    figure = _over_patients(float(by_training.mean()), float(variance) ** 0.5, method)
    wider = over_trainings(by_training.tolist(), figure, 0.0, 1.0)
    return figure.low <= auc <= figure.high, wider.low <= auc <= wider.high


def _scores(n_trainings: int, n: int, random: np.random.Generator) -> FloatArray:
    """(S, n) standard normal scores of n patients by each training."""
    patient, own = random.normal(size=n), random.normal(size=(n_trainings, n))
    return np.asarray(np.sqrt(_COMMON) * patient + np.sqrt(1 - _COMMON) * own)


def _over_patients(mean: float, error: float, method: Method) -> Figure:
    """The mean AUC with DeLong's interval on the logit; of a perfect order, the exact one."""
    if error == 0:
        least = 0.025 ** (1 / min(method.n_positive, method.n_normal))
        return Figure(mean, least, 1.0, "disjoint-pairs")
    half = _QUANTILE * error / (mean * (1 - mean))
    low, high = (float(expit(logit(mean) + step)) for step in (-half, half))
    return Figure(mean, low, high, "delong-logit")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000, help="drawn of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for row in rows(arguments.studies, arguments.seed):
        print(row, flush=True)


if __name__ == "__main__":
    main()
