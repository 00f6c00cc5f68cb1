"""How often do intervals of differences of subgroups hold the truth, and how often do tests err?

PYTHONPATH=tools python -m benchmarks.coverage_groups --studies 600
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from simfrcnn.evaluation.bootstrap import figures_of
from simfrcnn.evaluation.case import KnownUnits, Units, threshold_statistic
from simfrcnn.evaluation.delong import auc_components, auc_interval
from simfrcnn.evaluation.group_differences import correlation_of, less, trials_of
from simfrcnn.evaluation.interaction import (
    auc_influence,
    auc_interaction,
    share_influence,
    share_interaction,
)
from simfrcnn.evaluation.results import Figure, OperatingPoint
from simfrcnn.evaluation.truth import Truth

FloatArray = NDArray[np.float64]
_KINDS = {"sensitivity": "positive", "specificity": "normal"}
_REPLICATES = 400


@dataclass(frozen=True)
class Groups:
    """Two groups of positive and normal patients, ``of_each`` units a patient, binormal scores.

    ``separations`` are those of the two groups. Half of a score's variance is the patient's; with
    ``are_shared`` the two groups are views of the same patients.
    """

    first: tuple[int, int]
    second: tuple[int, int]
    separations: tuple[float, float] = (2.3, 2.3)
    sensitivity: float = 0.85
    of_each: int = 1
    are_shared: bool = False

    @property
    def name(self) -> str:
        """For a row."""
        sizes = [f"{n_positive} + {n_normal}" for n_positive, n_normal in (self.first, self.second)]
        what = " and ".join(sizes)
        if self.are_shared:
            what = f"two views of {sizes[0]}"
        return f"{what}, units a patient {self.of_each}"

    @property
    def threshold(self) -> float:
        """At which the first group has the sensitivity."""
        return float(self.separations[0] - norm.ppf(self.sensitivity))

    def truths(self, group: int) -> dict[str, float]:
        """The figures of a group of infinitely many patients."""
        apart = self.separations[group]
        return {
            "auc": float(norm.cdf(apart / np.sqrt(2))),
            "sensitivity": float(norm.cdf(apart - self.threshold)),
            "specificity": float(norm.cdf(self.threshold)),
        }


STUDIES = (
    Groups((60, 83), (60, 83)),
    Groups((60, 83), (60, 83), (2.3, 1.8)),
    Groups((60, 83), (60, 83), (3.0, 3.0), 0.95),
    Groups((100, 400), (20, 20)),
    Groups((60, 83), (10, 10)),
    Groups((60, 83), (60, 83), of_each=2),
    Groups((60, 83), (60, 83), are_shared=True),
    Groups((60, 83), (60, 83), (2.3, 1.8), are_shared=True),
)


def rows(n_studies: int, seed: int, studies: tuple[Groups, ...] = STUDIES) -> Iterator[str]:
    """Lines of Markdown: coverage of each difference, then how often each test errs.

    A dash where most studies have no interval, or no test.
    """
    yield (
        "| groups (positive + normal patients) | true difference of AUC | AUC | sensitivity | "
        "specificity | test of the AUC | of sensitivity | of specificity |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for study in studies:
        random = np.random.default_rng(seed)
        found = np.array([_study(study, random) for _ in range(n_studies)])
        cells = " | ".join(
            "-" if np.isnan(column).mean() > 0.5 else f"{np.nanmean(column):.3f}"
            for column in found.T
        )
        apart = study.truths(0)["auc"] - study.truths(1)["auc"]
        yield f"| {study.name} | {apart:.3f} | {cells} |"


def _study(study: Groups, random: np.random.Generator) -> list[float]:
    """Which intervals hold the true difference, and which tests err; NaN without one."""
    groups = _drawn(study, random)
    n_patients = 1 + max(int(units.patients.max()) for units in groups)
    point = OperatingPoint("case", "fixed", study.threshold)
    figures = [_figures(units, point, random) for units in groups]
    known = {str(place): units.known() for place, units in enumerate(groups)}
    held, errs = [], []
    for name in ("auc", *_KINDS):
        influences = [_influence(units, name, point, n_patients) for units in known.values()]
        difference = less(figures[1][name], figures[0][name], correlation_of(*influences[::-1]))
        true = study.truths(1)[name] - study.truths(0)[name]
        is_there = not np.isnan(difference.low)
        held.append(difference.low <= true <= difference.high if is_there else np.nan)
        if name == "auc":
            test = auc_interaction("k", name, known)
        else:
            trials = {key: trials_of(units, name, point) for key, units in known.items()}
            test = share_interaction("k", name, trials, kind=_KINDS[name])
        is_tested = true == 0 and not np.isnan(test.p_value)
        errs.append(test.p_value < 0.05 if is_tested else np.nan)
    return [float(each) for each in (*held, *errs)]


def _influence(units: KnownUnits, name: str, point: OperatingPoint, n_patients: int) -> FloatArray:
    if name == "auc":
        return auc_influence(units, n_patients)[1]
    return share_influence(trials_of(units, name, point), n_patients)[1]


def _figures(units: Units, point: OperatingPoint, random: np.random.Generator) -> dict[str, Figure]:
    """As the report has them for a group by itself."""
    patients, scores, is_positive = units.known()
    interval = auc_interval(patients, scores, is_positive)
    auc = float(auc_components(scores, is_positive)[0].mean())
    own = np.unique(patients, return_inverse=True)[1]
    alone = Units(units.level, units.ids, own, units.scores, units.truths)
    strata = np.zeros(own.max() + 1, np.intp)
    strata[own] = is_positive
    shares = figures_of(
        [threshold_statistic(alone, len(strata), point)],
        strata,
        n_replicates=_REPLICATES,
        seed=int(random.integers(2**31)),
    )
    found = {name: shares[f"case/{name}"] for name in _KINDS}
    return {"auc": Figure(auc, interval.low, interval.high, interval.method), **found}


def _drawn(study: Groups, random: np.random.Generator) -> list[Units]:
    """The units of both groups, their patients numbered over both."""
    groups: list[Units] = []
    patient = np.zeros(0)
    for place, (n_positive, n_normal) in enumerate((study.first, study.second)):
        n = n_positive + n_normal
        if not (study.are_shared and place):
            patient = random.normal(size=(n, 1))
        own = random.normal(size=(n, study.of_each))
        is_positive = np.arange(n) < n_positive
        apart = is_positive[:, None] * study.separations[place]
        scores = (np.sqrt(0.5) * (patient + own) + apart).ravel()
        truths = np.where(np.repeat(is_positive, study.of_each), Truth.POSITIVE, Truth.NORMAL)
        first = 0 if study.are_shared else place * sum(study.first)
        patients = np.repeat(np.arange(n) + first, study.of_each)
        ids = tuple(map(str, range(len(scores))))
        groups.append(Units("case", ids, patients, scores, truths.astype(np.intp)))
    return groups


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=600, help="drawn of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for row in rows(arguments.studies, arguments.seed):
        print(row, flush=True)


if __name__ == "__main__":
    main()
