"""How often does a 95% interval hold the true value: of units, AFROC and LROC, and over readers?

Studies are drawn from a normal model of which the true value is known (or, for AFROC and LROC,
counted on a very large set), and each is analysed as the evaluation does it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from simfrcnn.evaluation.bootstrap import figures_of
from simfrcnn.evaluation.case import KnownUnits, Units, threshold_statistic
from simfrcnn.evaluation.delong import auc_interval, paired_delong
from simfrcnn.evaluation.interaction import auc_interaction
from simfrcnn.evaluation.net_benefit import net_benefit_statistic
from simfrcnn.evaluation.readers.obuchowski_rockette import (
    Cells,
    Estimate,
    auc_cells,
    compare_modalities,
    components_of,
    of_one,
    over_readers,
    share_cells,
)
from simfrcnn.evaluation.recalibration import Recalibration, calibration_statistic
from simfrcnn.evaluation.results import OperatingPoint
from simfrcnn.evaluation.roc import roc_statistic
from simfrcnn.evaluation.truth import Truth

FloatArray = NDArray[np.float64]
NEVER = -np.inf
_LARGE = 200_000


@dataclass(frozen=True)
class Readers:
    """A study of ``n_readers`` on positive and normal cases; ``auc`` is the mean of all readers.

    Half of a rating's variance is the case's, common to all; readers differ in how far they tell
    the kinds apart by ``spread`` standard deviations of a rating, and as much in where they recall.
    """

    n_readers: int
    n_positive: int
    n_normal: int
    auc: float
    spread: float = 0.3
    sensitivity: float = 0.85


@dataclass(frozen=True)
class Marks:
    """A study of positive patients with lesions, and normal ones, two images each by image."""

    n_positive: int
    n_normal: int
    separation: float
    by_image: bool


READERS = (
    Readers(3, 60, 83, 0.85),
    Readers(5, 60, 83, 0.85),
    Readers(10, 60, 83, 0.85),
    Readers(5, 60, 83, 0.95),
    Readers(5, 20, 20, 0.85),
    Readers(5, 100, 400, 0.90, sensitivity=0.95),
    Readers(5, 60, 83, 0.85, spread=0.0),
)
MARKS = (
    Marks(60, 83, 1.5, False),
    Marks(60, 83, 2.5, False),
    Marks(20, 20, 1.5, False),
    Marks(60, 83, 1.5, True),
)


def reader_rows(n_studies: int, seed: int) -> Iterator[str]:
    """Lines of Markdown: coverage over readers and cases, and for single readers over cases."""
    yield (
        "| readers, cases, AUC, spread, SEN | mean AUC | model less readers, AUC | two modalities, "
        "AUC | mean sensitivity | model less readers, sensitivity | model less one, AUC |"
    )
    yield "|---|---|---|---|---|---|---|"
    for study in READERS:
        random = np.random.default_rng(seed)
        held = np.array([_reader_study(study, random) for _ in range(n_studies)])
        cells = " | ".join(f"{part:.3f}" for part in np.nanmean(held, axis=0))
        yield (
            f"| {study.n_readers}, {study.n_positive} + {study.n_normal}, {study.auc:g}, "
            f"{study.spread:g}, {study.sensitivity:g} | {cells} |"
        )


def _reader_study(study: Readers, random: np.random.Generator) -> list[float]:
    """Which intervals of one study hold the true value; NaN where there is none."""
    n = study.n_positive + study.n_normal
    truth = np.arange(n) < study.n_positive
    # Two modalities and a model, all equally good in the mean of the population.
    widest = np.sqrt(2 + study.spread**2)
    apart = norm.ppf(study.auc) * widest
    of_readers = apart + study.spread * random.normal(size=(2, study.n_readers, 1))
    case = np.sqrt(0.5) * random.normal(size=n)
    own = np.sqrt(0.5) * random.normal(size=(2, study.n_readers, n))
    ratings = case + own + truth * of_readers
    model = case + np.sqrt(0.5) * random.normal(size=n) + truth * norm.ppf(study.auc) * np.sqrt(2)
    deviation = np.sqrt(1 + 2 * study.spread**2)
    limit = apart - norm.ppf(study.sensitivity) * deviation
    limits = limit + study.spread * random.normal(size=(study.n_readers, 1))
    readers, its = auc_cells(ratings.reshape(-1, n), truth), auc_cells(model[None], truth)
    first = readers[slice(0, study.n_readers)]
    found = share_cells(ratings[0] >= limits, truth, 1, 0)
    own_limit = norm.ppf(study.auc) * np.sqrt(2) - norm.ppf(study.sensitivity)
    by_model = share_cells((model >= own_limit)[None], truth, 1, 0)
    modalities = compare_modalities(
        readers.values.reshape(2, -1),
        components_of(readers.covariance("jackknife"), 2, study.n_readers),
    )
    aucs = norm.cdf(of_readers[0, :, 0] / np.sqrt(2))
    one = of_one(its - first[slice(0, 1)], "jackknife")
    return [
        _holds(over_readers(first, "jackknife"), study.auc),
        _holds(_less(first, its), 0),
        _holds(modalities.differences[0, 1], 0),
        _holds(over_readers(found, "jackknife").as_share(), study.sensitivity),
        _holds(_less(found, by_model), 0),
        _holds(one, study.auc - float(aucs[0])),
    ]


def _less(cells: Cells, other: Cells) -> Estimate:
    return over_readers(cells - other, "jackknife")


def _holds(estimate: Estimate, true: float) -> float:
    if np.isnan(estimate.low):
        return np.nan
    return float(estimate.low <= true <= estimate.high)


def mark_rows(n_studies: int, seed: int) -> Iterator[str]:
    """Lines of Markdown: coverage of AFROC, wAFROC and LROC."""
    yield "| patients, separation, by | AFROC | wAFROC | LROC |"
    yield "|---|---|---|---|"
    for study in MARKS:
        random = np.random.default_rng(seed)
        large = Marks(_LARGE, _LARGE, study.separation, study.by_image)
        true = [value for value, _, _ in _areas(_drawn_marks(large, random))]
        held = []
        for _ in range(n_studies):
            areas = _areas(_drawn_marks(study, random), with_intervals=True)
            held.append([low <= t <= high for (_, low, high), t in zip(areas, true, strict=True)])
        cells = " | ".join(
            f"{part:.3f} (of {t:.2f})" for part, t in zip(np.mean(held, axis=0), true, strict=True)
        )
        by = "image" if study.by_image else "case"
        size = f"{study.n_positive} + {study.n_normal}"
        yield f"| {size}, {study.separation:g}, {by} | {cells} |"


Drawn = tuple[FloatArray, NDArray[np.intp], NDArray[np.intp], FloatArray, FloatArray]


def _drawn_marks(study: Marks, random: np.random.Generator) -> Drawn:
    """Lesions' scores, units and patients; then the units' highest false positives, by kind."""
    n_images = 2 if study.by_image else 1
    n_units, n_normal = n_images * study.n_positive, n_images * study.n_normal
    hard = np.repeat(random.normal(size=study.n_positive), n_images) * np.sqrt(0.5)
    n_lesions = 1 + (random.random(n_units) < 0.4)
    units = np.repeat(np.arange(n_units), n_lesions)
    scores = study.separation + hard[units] + np.sqrt(0.5) * random.normal(size=len(units))
    scores[random.random(len(units)) < 0.05] = NEVER
    false = [_false(size, random) for size in (n_units, n_normal)]
    busy = np.repeat(random.normal(size=study.n_normal), n_images) * np.sqrt(0.5)
    return scores, units, units // n_images, false[0], false[1] + busy


def _false(n: int, random: np.random.Generator) -> FloatArray:
    """The highest of a Poisson number of false positives of each unit."""
    counts = random.poisson(1.0, n)
    draws = np.sqrt(0.5) * random.normal(size=(n, int(counts.max())))
    draws[np.arange(draws.shape[1]) >= counts[:, None]] = NEVER
    return np.asarray(draws.max(axis=1))


def _areas(drawn: Drawn, *, with_intervals: bool = False) -> list[tuple[float, float, float]]:
    """Value and interval of AFROC, wAFROC and LROC, as the evaluation compares them."""
    scores, units, patients, false, normal = drawn
    n_units = len(false)
    n_images = round(n_units / (patients.max() + 1))
    of_normals = patients.max() + 1 + np.arange(len(normal)) // n_images
    best = np.full(n_units, NEVER)
    np.maximum.at(best, units, scores)
    localised = np.where(best > false, best, NEVER)
    weights = 1 / np.bincount(units)[units]
    compared = (
        (patients, scores, normal, None),
        (patients, scores, normal, np.concatenate([weights, np.ones(len(normal))])),
        (np.arange(n_units) // n_images, localised, np.where(normal == NEVER, -1e9, normal), None),
    )
    found = []
    for owners, positive, negative, own in compared:
        is_positive = np.arange(len(positive) + len(negative)) < len(positive)
        joined = np.concatenate([positive, negative])
        value = _area(positive, negative, None if own is None else own[: len(positive)])
        low = high = np.nan
        if with_intervals:
            interval = auc_interval(np.concatenate([owners, of_normals]), joined, is_positive, own)
            low, high = interval.low, interval.high
        found.append((value, low, high))
    return found


def _area(positive: FloatArray, negative: FloatArray, weights: FloatArray | None) -> float:
    ordered = np.sort(negative)
    below = [np.searchsorted(ordered, positive, side=side) for side in ("left", "right")]
    return float(np.average((below[0] + below[1]) / 2 / len(negative), weights=weights))


def missed_rows(n_studies: int, seed: int) -> Iterator[str]:
    """Lines of Markdown: coverage of the AUC where a part of the positives is missed outright."""
    yield "| missed | AUC of all | 60 + 83 | 100 + 400 |"
    yield "|---|---|---|---|"
    for missed, auc in ((0.02, 0.97), (0.02, 0.95), (0.05, 0.92)):
        random = np.random.default_rng(seed)
        apart = np.sqrt(2) * norm.ppf(auc / (1 - missed))
        held = []
        for n_positive, n_normal in ((60, 83), (100, 400)):
            truth = np.arange(n_positive + n_normal) < n_positive
            inside = 0
            for _ in range(n_studies):
                scores = random.normal(size=len(truth)) + truth * apart
                scores[truth & (random.random(len(truth)) < missed)] = -1e9
                interval = auc_interval(np.arange(len(truth)), scores, truth)
                inside += interval.low <= auc <= interval.high
            held.append(f"{inside / n_studies:.3f}")
        yield f"| {missed:.0%} | {auc:g} | {' | '.join(held)} |"


@dataclass(frozen=True)
class Cases:
    """Binormal scores of so many positive and normal patients on average, ``of_each`` units each.

    Units of a patient are correlated by .5. Scores are the probabilities of being positive at the
    prevalence of the study, so that slope 1 and intercept 0 are true.
    """

    n_positive: int
    n_normal: int
    separation: float
    of_each: int = 1

    def drawn(self, random: np.random.Generator) -> tuple[Units, FloatArray]:
        """The units, and scores of a second, equally good model."""
        n = self.n_positive + self.n_normal
        truth = random.random(n) < self.n_positive / n
        patient = np.sqrt(0.5) * random.normal(size=(n, 1))
        own = np.sqrt(0.5) * random.normal(size=(2, n, self.of_each))
        x = patient + own + truth[:, None] * self.separation
        odds = np.log(self.n_positive / self.n_normal) - self.separation**2 / 2
        one, other = expit(odds + self.separation * x).reshape(2, -1)
        patients = np.repeat(np.arange(n), self.of_each)
        truths = np.where(np.repeat(truth, self.of_each), Truth.POSITIVE, Truth.NORMAL)
        ids = tuple(map(str, range(len(patients))))
        return Units("case", ids, patients, one, truths.astype(np.intp)), other


CASES = (
    Cases(60, 83, 1.5),
    Cases(60, 83, 2.5),
    Cases(30, 300, 1.5),
    Cases(25, 25, 1.5),
    Cases(60, 83, 1.5, of_each=2),
)
_REPLICATES = 500
_PREVALENCE, _THRESHOLD = 0.1, 0.1


def unit_rows(n_studies: int, seed: int) -> Iterator[str]:
    """Lines of Markdown: coverage of figures of units, and how often tests err at 5%."""
    yield (
        "| cases, separation, units a patient | slope | intercept | partial AUC | net benefit at "
        ".1 | recalls per 1,000 | paired test errs | interaction errs |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for study in CASES:
        random = np.random.default_rng(seed)
        area = _true_partial_auc(study)
        rows = np.array([_unit_study(study, area, random) for _ in range(n_studies)])
        cells = " | ".join(
            "-" if np.isnan(column).all() else f"{np.nanmean(column):.3f}" for column in rows.T
        )
        yield (
            f"| {study.n_positive} + {study.n_normal}, {study.separation:g}, {study.of_each} "
            f"| {cells} |"
        )


def _true_partial_auc(study: Cases) -> float:
    """McClish's, of specificities from .9 on, by integration."""
    rates = (np.arange(100_000) + 0.5) / 1_000_000
    area = norm.cdf(study.separation + norm.ppf(rates)).mean() * 0.1
    return float((1 + (area - 0.005) / (0.1 - 0.005)) / 2)


def _unit_study(study: Cases, partial_auc: float, random: np.random.Generator) -> list[float]:
    """Which intervals of one study hold the true value, and which tests err."""
    units, other = study.drawn(random)
    n_patients = study.n_positive + study.n_normal
    line = Recalibration(
        "case", 0.0, 1.0, study.n_positive / n_patients, "the study's own true probabilities"
    )
    point = OperatingPoint("case", "fixed", 0.5)
    statistics = (
        calibration_statistic(units),
        roc_statistic(units, least_specificity=0.9),
        net_benefit_statistic(units, n_patients, line, _PREVALENCE),
        threshold_statistic(units, n_patients, point, _PREVALENCE),
    )
    strata = (units.truths[:: study.of_each] == Truth.POSITIVE).astype(np.intp)
    figures = figures_of(
        statistics, strata, n_replicates=_REPLICATES, seed=int(random.integers(2**31))
    )
    odds = np.log(study.n_positive / study.n_normal) - study.separation**2 / 2

    def rates(probability: float, prevalence: float | None) -> tuple[float, float]:
        """True sensitivity and false positive rate where probabilities of a prevalence are cut."""
        moved = 0.0 if prevalence is None else logit(prevalence) - logit(line.prevalence)
        cut = (logit(probability) - odds - moved) / study.separation
        return float(norm.sf(cut - study.separation)), float(norm.sf(cut))

    found, false = rates(_THRESHOLD, _PREVALENCE)
    harm = _THRESHOLD / (1 - _THRESHOLD)
    recalled = rates(0.5, None)
    truths = {
        "case/calibration_slope": 1.0,
        "case/calibration_intercept": 0.0,
        "case/partial_auc": partial_auc,
        "case/net_benefit_at_0.1": found * _PREVALENCE - false * (1 - _PREVALENCE) * harm,
        "case/recalls_per_1000": 1000
        * (recalled[0] * _PREVALENCE + recalled[1] * (1 - _PREVALENCE)),
    }
    held = [
        np.nan if np.isnan(figures[key].low) else figures[key].low <= value <= figures[key].high
        for key, value in truths.items()
    ]
    patients, scores, is_positive = units.known()
    paired = paired_delong(scores, other, is_positive, patients=patients)
    groups = {
        name: KnownUnits(patients[part], scores[part], is_positive[part])
        for name, part in (("even", patients % 2 == 0), ("odd", patients % 2 == 1))
    }
    tested = auc_interaction("half", "case/auc", groups)
    errs = [np.nan if np.isnan(p) else p < 0.05 for p in (paired.p_value, tested.p_value)]
    return [float(each) for each in (*held, *errs)]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="drawn of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for rows in (unit_rows, missed_rows, mark_rows, reader_rows):
        for row in rows(arguments.studies, arguments.seed):
            print(row, flush=True)
        print()


if __name__ == "__main__":
    main()
