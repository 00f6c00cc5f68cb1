"""Which of two models is better on the same cases, and how sure is that?

Every model is judged on the same resamplings of the same patients (:func:`resample`). A difference
of two models is then a difference of their values, resampling by resampling, in which the luck of
the draw of patients cancels; a mean over training seeds is a mean of values. Any two sets of
detections of one test set can be compared, one seed each or several.

Shapes: R resamplings; values (1 + R,), the test set itself first; U cases.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation.afroc import LEVELS, lesions_of
from simfrcnn.evaluation.bootstrap import (
    Interval,
    all_weights,
    bootstrap_figure,
    percentile_interval,
    values_of,
    why_no_resampling,
)
from simfrcnn.evaluation.case import Units, levels_of, units_of
from simfrcnn.evaluation.delong import DeLong, paired_delong
from simfrcnn.evaluation.froc import events_of, froc_curve
from simfrcnn.evaluation.inputs import check_inputs, check_settings
from simfrcnn.evaluation.matching import hit_criterion
from simfrcnn.evaluation.metrics import (
    ALL_METRICS,
    METRICS,
    Judged,
    patients_behind,
    why_absent,
)
from simfrcnn.evaluation.multilabel import is_multilabel, label_scores
from simfrcnn.evaluation.results import Curve, Figure
from simfrcnn.evaluation.roc import auc_function, roc_curve
from simfrcnn.evaluation.trainings import Verdict, over_trainings, p_over_trainings, verdict_on
from simfrcnn.evaluation.truth import located, patient_strata, views_of
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Resampled:
    """One model on the test set and on every resampling of its patients.

    ``values`` (1 + R,) by metric, NaN where undefined; ``n`` and ``why_undefined`` by metric, as in
    :class:`~simfrcnn.evaluation.bootstrap.Statistic`. ``n_patients`` is by metric, too, see
    :func:`~simfrcnn.evaluation.metrics.patients_behind`. ``no_resampling`` says why there are no
    intervals, if so. ``units`` are by level. ``roc`` is by case; ``froc`` per finding, centre in
    box, over all images. ``settings`` are the rules and resamplings that it was judged by.
    """

    values: Mapping[str, FloatArray]
    n: Mapping[str, Mapping[str, int]]
    why_undefined: Mapping[str, str]
    n_patients: Mapping[str, Mapping[str, int]]
    no_resampling: str | None
    patient_ids: tuple[str, ...]
    strata: IntArray
    units: Mapping[str, Units]
    roc: Curve
    froc: Curve
    settings: EvaluationSettings

    @property
    def cases(self) -> Units:
        """The units of the level ``case``."""
        return self.units["case"]

    @property
    def metrics(self) -> tuple[str, ...]:
        """By what it was judged, in the order of the tables."""
        return tuple(key for key in ALL_METRICS if key in self.values)


@dataclass(frozen=True)
class Difference:
    """One model less another, on the same cases.

    ``figure`` is the mean over seeds with its interval over patients, for these trainings;
    ``by_seed`` the difference of each seed. ``n_patients`` says how many patients have a
    ``positive`` and how many a ``normal`` unit; None where that is not known.
    """

    figure: Figure
    by_seed: tuple[float, ...]
    n_patients: Mapping[str, int] | None

    @property
    def over_trainings(self) -> Interval:
        """The interval over trainings and patients."""
        return over_trainings(self.by_seed, self.figure, -1, 1)

    @property
    def p_value(self) -> float:
        """Of no difference, over trainings and patients; NaN where there is no test."""
        return p_over_trainings(self.by_seed, self.figure, self.n_patients)

    def verdict(self, margin: float | None = None) -> Verdict:
        """What may be claimed of it; ``margin`` as in :func:`verdict_on`."""
        return verdict_on(self.by_seed, self.figure, self.n_patients, margin)

    @property
    def lowest(self) -> float:
        """The smallest difference of a seed; NaN where one is undefined."""
        return float(np.min(self.by_seed))

    @property
    def highest(self) -> float:
        """The largest difference of a seed; NaN where one is undefined."""
        return float(np.max(self.by_seed))

    def to_json(self) -> dict[str, Any]:
        """The difference in JSON types, ``null`` for NaN."""
        return {
            **self.figure.to_json(),
            "by_seed": [without_nan(value) for value in self.by_seed],
            "lowest": without_nan(self.lowest),
            "highest": without_nan(self.highest),
            "over_trainings": self.over_trainings.to_json(),
            "n_patients": None if self.n_patients is None else dict(self.n_patients),
        }


@dataclass(frozen=True)
class Comparison:
    """Differences by metric, and by level (``breast``) a test of the AUC for each seed."""

    differences: Mapping[str, Difference]
    tests: Mapping[str, tuple[DeLong, ...]]

    @property
    def delong(self) -> tuple[DeLong, ...]:
        """The tests of the AUC by case."""
        return self.tests["case"]


@dataclass(frozen=True)
class PermutedTruth:
    """AUC by case after the truth was shuffled among the patients, many times.

    ``mean`` must be .5, but for chance, and 95% of the draws lie between ``low`` and ``high``.
    ``p_value`` is the part of draws that reach the AUC under the real truth (one-sided, the real
    one counted in).
    """

    mean: float
    low: float
    high: float
    p_value: float


def resample(
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    settings: EvaluationSettings,
    *,
    categories: Mapping[int, str] | None = None,
    with_further: bool = False,
) -> Resampled:
    """Judge a model on the test set and on ``settings.bootstrap_replicates`` resamplings of it.

    Two models on the same records and settings get the same resamplings: they are a function of
    the patients, their truth and the seed. ``with_further`` adds the AUC by the other levels
    (:data:`~simfrcnn.evaluation.metrics.BY_LEVEL`), the mean AUC over the labels where images state
    several, and :data:`~simfrcnn.evaluation.metrics.LOCALISED` where there are lesions and normal
    units.

    Raises:
        DataError, ArtifactError, ConfigError: As :func:`simfrcnn.evaluation.evaluate`.
    """
    check_settings(settings, categories)
    check_inputs(records, detections, settings)
    views, patient_ids = views_of(records, detections.images, settings)
    placed = located(views)
    strata = patient_strata(views, len(patient_ids), settings)
    weights = all_weights(strata, settings.bootstrap_replicates, settings.bootstrap_seed)
    units = {level: units_of(views, level, settings) for level in levels_of(settings)}
    events = events_of(placed, hit_criterion("centre"), len(patient_ids), settings)
    values: dict[str, FloatArray] = {}
    n: dict[str, Mapping[str, int]] = {}
    reasons: dict[str, str] = {}
    lesions = {level: lesions_of(views, placed, level, settings) for level in LEVELS * with_further}
    has_labels = with_further and is_multilabel(records, settings)
    labels = label_scores(records, detections.images, settings) if has_labels else None
    judged = Judged(placed, units, events, settings, lesions, labels)
    metrics = METRICS
    if with_further:
        metrics = {
            key: metric
            for key, metric in ALL_METRICS.items()
            if not why_absent(key, settings, has_labels=has_labels, lesions=lesions)
        }
    for make in dict.fromkeys(metric.statistic for metric in metrics.values()):
        statistic = make(judged)  # dropped, with its arrays, before the next is made
        by_row = values_of(statistic, weights)
        for column, key in enumerate(statistic.keys):
            if key in metrics:
                values[key] = by_row[:, column]
                n[key], reasons[key] = statistic.n[key], statistic.why_undefined[key]
    return Resampled(
        values=values,
        n=n,
        why_undefined=reasons,
        n_patients={key: patients_behind(key, judged) for key in values},
        no_resampling=why_no_resampling(strata, settings.bootstrap_replicates),
        patient_ids=tuple(patient_ids),
        strata=strata,
        units=units,
        roc=roc_curve(units["case"]),
        froc=froc_curve(events, "all"),
        settings=settings,
    )


def mean_over_seeds(models: Sequence[Resampled]) -> dict[str, Figure]:
    """The mean of each metric over trainings that differ in the seed only.

    The interval is over patients: each resampling gives the mean of all seeds on it.
    """
    _require_same_cases(models)
    return {
        key: _figure([model.values[key] for model in models], models[0], key)
        for key in models[0].metrics
    }


def compare(first: Sequence[Resampled], second: Sequence[Resampled]) -> Comparison:
    """``first - second``, metric by metric, on the same cases.

    Each resampling gives the mean of the same-seed differences.

    Args:
        first: One model, one entry per seed; a model of a single training has one.
        second: The other, with the same seeds in the same order.

    Raises:
        ArtifactError: They were not judged on the same patients with the same truth.
        ValueError: Another number of seeds, or none.
    """
    if not first or len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} seeds: as many of each, at least one")
    _require_same_cases([*first, *second])
    differences = {}
    for key in first[0].metrics:
        by_seed = [
            one.values[key] - two.values[key] for one, two in zip(first, second, strict=True)
        ]
        differences[key] = Difference(
            _figure(by_seed, first[0], key),
            tuple(float(values[0]) for values in by_seed),
            first[0].n_patients[key],
        )
    tests = {
        level: tuple(_delong(one, two, level) for one, two in zip(first, second, strict=True))
        for level in first[0].units
    }
    return Comparison(differences, tests)


def auc_under_permuted_truth(
    cases: Units, *, n_draws: int = 2000, seed: int = 0
) -> PermutedTruth | None:
    """A negative control of the evaluation: shuffled truth cannot be predicted.

    The truths of a patient's cases go together to a patient with as many cases of known truth, and
    there to cases drawn at random. So every case of such patients is as likely to be positive as
    any other. The mean is one half only where that holds of all cases: None where the part of
    positive cases differs between patients with other numbers of cases, and where the AUC is
    undefined.
    """
    patients, scores, is_positive = cases.known()
    if not is_positive.any() or is_positive.all():
        return None
    own, row = np.arange(len(scores), dtype=np.intp), np.ones((1, len(scores)))
    real = float(auc_function(own, scores, is_positive)(row)[0])
    members = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    groups = [
        np.array([cases_of for cases_of in members if len(cases_of) == size])
        for size in sorted({len(cases_of) for cases_of in members})
    ]
    n_positive, n_cases = int(is_positive.sum()), len(scores)
    if any(is_positive[group].sum() * n_cases != n_positive * group.size for group in groups):
        return None
    generator = np.random.default_rng(seed)
    draws = np.empty(n_draws)
    for draw in range(n_draws):
        permuted = is_positive.copy()
        for group in groups:
            moved = is_positive[group[generator.permutation(len(group))]]
            permuted[group] = generator.permuted(moved, axis=1) if group.shape[1] > 1 else moved
        draws[draw] = auc_function(own, scores, permuted)(row)[0]
    low, high = percentile_interval(draws)
    p_value = (1 + int((draws >= real - 1e-12).sum())) / (1 + n_draws)
    return PermutedTruth(float(draws.mean()), low, high, p_value)


def delong_json(test: DeLong) -> dict[str, Any]:
    """DeLong's test in JSON types, ``null`` for NaN."""
    return {
        key: without_nan(value) if isinstance(value, float) else value
        for key, value in dataclasses.asdict(test).items()
    }


def without_nan(value: float) -> float | None:
    """What JSON takes."""
    return None if math.isnan(value) else float(value)


def _figure(by_seed: Sequence[FloatArray], model: Resampled, key: str) -> Figure:
    # How many are right is one model's own, not the difference's or the mean's.
    n = {what: count for what, count in model.n[key].items() if what != "right"}
    return bootstrap_figure(
        np.mean(by_seed, axis=0),
        n=n,
        why_undefined=model.why_undefined[key],
        no_resampling=model.no_resampling,
    )


def _delong(first: Resampled, second: Resampled, level: str) -> DeLong:
    patients, scores, is_positive = first.units[level].known()
    others = second.units[level].known().scores
    return paired_delong(scores, others, is_positive, patients=patients)


def _are_same(units: Units, others: Units) -> bool:
    return units.ids == others.ids and np.array_equal(units.truths, others.truths)


def _require_same_cases(models: Sequence[Resampled]) -> None:
    """The same patients, cases and truths, rules and resamplings."""
    first = models[0]
    for other in models[1:]:
        is_same = (
            first.patient_ids == other.patient_ids
            and np.array_equal(first.strata, other.strata)
            and first.settings == other.settings
            and all(_are_same(each, other.units[level]) for level, each in first.units.items())
        )
        if not is_same:
            raise ArtifactError(
                "the models were not judged on the same cases with the same truth and "
                "resamplings; judge both on one annotation file with the same EVAL settings"
            )
