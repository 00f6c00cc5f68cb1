"""Which of several models is best, and which of them tie?

All models are judged on the same resamplings of the same patients. Two models tie where the 95%
interval of their paired difference contains 0, or where there is no interval; all of them tie where
the metric rests on too few patients for a test. Ties are not transitive: A can be better than C
while B ties with both. So each model has a range of ranks: at best one more than the number of
models that are better than it, at worst the number of models, itself among them, that it is not
better than.

Shapes: T tests.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import ConfigError
from simfrcnn.evaluation.afroc import LEVELS, lesions_of
from simfrcnn.evaluation.comparison import (
    Comparison,
    Resampled,
    compare,
    mean_over_seeds,
)
from simfrcnn.evaluation.metrics import ALL_METRICS, PRIMARY, metric_of, why_absent
from simfrcnn.evaluation.multilabel import is_multilabel
from simfrcnn.evaluation.results import NAN, Figure
from simfrcnn.evaluation.trainings import why_no_claim
from simfrcnn.evaluation.truth import located, views_of
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings


@dataclass(frozen=True)
class ModelPair:
    """``first - second`` on the same cases, in the order in which the models were named.

    ``p_holm`` is by level (``case``, ``breast`` ...): the p-value of that level's test of the AUC
    after Holm's adjustment for all pairs that were compared, also those without a test; NaN where
    there is none.
    """

    first: str
    second: str
    comparison: Comparison
    p_holm: Mapping[str, float]

    @property
    def name(self) -> str:
        """``sim - faster``."""
        return f"{self.first} - {self.second}"


@dataclass(frozen=True)
class Ranked:
    """One model's place: ``best_rank`` to ``worst_rank``, from 1, and the models it ties with."""

    name: str
    figure: Figure
    best_rank: int
    worst_rank: int
    ties: tuple[str, ...]

    @property
    def ranks(self) -> str:
        """``1`` or ``1-3``."""
        if self.best_rank == self.worst_rank:
            return str(self.best_rank)
        return f"{self.best_rank}-{self.worst_rank}"


@dataclass(frozen=True)
class ModelsCompared:
    """Several models on the same cases.

    ``figures`` are by model and metric; ``ranking`` goes by falling value of the metric
    ``primary``. ``too_few`` says why no model is called better than another, where ``primary``
    rests on fewer than :data:`~simfrcnn.evaluation.delong.FEWEST_CASES` patients of a kind.
    """

    primary: str
    models: Mapping[str, Resampled]
    figures: Mapping[str, Mapping[str, Figure]]
    pairs: tuple[ModelPair, ...]
    ranking: tuple[Ranked, ...]
    too_few: str | None = None

    @property
    def primary_name(self) -> str:
        """What the metric that ranks is called."""
        return metric_of(self.primary).name

    @property
    def metrics(self) -> tuple[str, ...]:
        """By what all models were judged."""
        return next(iter(self.models.values())).metrics

    def difference(self, first: str, second: str, key: str) -> Figure:
        """``first - second``, in either order of the two names."""
        for pair in self.pairs:
            figure = pair.comparison.differences[key].figure
            if (pair.first, pair.second) == (first, second):
                return figure
            if (pair.first, pair.second) == (second, first):
                return mirrored(figure)
        raise KeyError((first, second))


def compare_all(models: Mapping[str, Resampled], primary: str = PRIMARY) -> ModelsCompared:
    """Compare every two of several models, and rank them.

    Args:
        models: By name; two or more, in the order in which they are to be shown.
        primary: What they are ranked by, of :func:`~simfrcnn.evaluation.metrics.metric_of`.

    Raises:
        ConfigError: Fewer than two models, or a metric that is unknown or that one of them was not
            judged by.
        ArtifactError: They were not judged on the same patients with the same truth.
    """
    require_metric(primary)
    for name, model in models.items():
        if primary not in model.metrics:
            raise ConfigError(
                f"{name} was not judged by {metric_of(primary).name}; rank by one of "
                f"{', '.join(model.metrics)}"
            )
    if len(models) < 2:
        raise ConfigError(f"{len(models)} model to compare; two or more are legal")
    compared = [
        (first, second, compare([models[first]], [models[second]]))
        for first, second in itertools.combinations(models, 2)
    ]
    figures = {name: mean_over_seeds([model]) for name, model in models.items()}
    too_few = why_no_claim(next(iter(models.values())).n_patients[primary])
    return ModelsCompared(
        primary=primary,
        models=models,
        figures=figures,
        pairs=_pairs(compared),
        ranking=rank(
            {name: by_key[primary] for name, by_key in figures.items()},
            {
                (a, b): comparison.differences[primary].figure
                for a, b, comparison in compared
                if not too_few
            },
        ),
        too_few=too_few,
    )


def _pairs(compared: Sequence[tuple[str, str, Comparison]]) -> tuple[ModelPair, ...]:
    """Each level is a family of its own: one test a pair."""
    adjusted = {
        level: holm([comparison.tests[level][0].p_value for *_, comparison in compared])
        for level in compared[0][2].tests
    }
    return tuple(
        ModelPair(*each, {level: values[number] for level, values in adjusted.items()})
        for number, each in enumerate(compared)
    )


def require_metric(key: str) -> None:
    """Refuse what models are not compared by.

    Raises:
        ConfigError: An unknown metric; names those that exist.
    """
    metric_of(key)


def require_metric_of(
    key: str,
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    settings: EvaluationSettings,
) -> None:
    """Refuse a metric that a test set does not have, before any model is judged on it.

    Args:
        key: The metric by which models are to be ranked.
        records: The test set.
        detections: Of any of the models: whether there is such a metric does not depend on them.
        settings: The rules.

    Raises:
        ConfigError: Says what the metric needs, and names the metrics that the test set has.
    """
    views, _ = views_of(records, detections.images, settings)
    placed = located(views)
    lesions = {level: lesions_of(views, placed, level, settings) for level in LEVELS}
    has_labels = is_multilabel(records, settings)
    absent = {
        each: why_absent(each, settings, has_labels=has_labels, lesions=lesions)
        for each in ALL_METRICS
    }
    if reason := absent[key]:
        there = ", ".join(each for each, why in absent.items() if not why)
        raise ConfigError(
            f"{metric_of(key).name} ({key}) is not there to rank by: {reason}. These data have "
            f"{there}"
        )


def rank(
    figures: Mapping[str, Figure], differences: Mapping[tuple[str, str], Figure]
) -> tuple[Ranked, ...]:
    """The models by falling value, undefined ones last, each with the ranks that it can have.

    Args:
        figures: The value of each model, by name.
        differences: ``first - second`` of the pairs, in one order of the two; a pair that is not
            there ties.
    """
    better: dict[str, set[str]] = {name: set() for name in figures}  # name -> those it beats
    for (first, second), difference in differences.items():
        if difference.low > 0:  # false for NaN: without an interval they tie
            better[first].add(second)
        elif difference.high < 0:
            better[second].add(first)
    ranked = []
    for name, figure in figures.items():
        beaten_by = {other for other in figures if name in better[other]}
        ties = [o for o in figures if o != name and o not in beaten_by | better[name]]
        worst = len(figures) - len(better[name])
        ranked.append(Ranked(name, figure, 1 + len(beaten_by), worst, tuple(ties)))
    return tuple(
        sorted(ranked, key=lambda each: (math.isnan(each.figure.value), -each.figure.value))
    )


def holm(p_values: Sequence[float], n_planned: int | None = None) -> list[float]:
    """(T,) p-values adjusted for their number; NaN is a comparison without a test, and stays.

    A comparison without a test counts like the others: it was looked at, and had it had a p-value,
    that would have been one more chance of a small one.

    Args:
        p_values: Of T comparisons.
        n_planned: For how many to adjust, where more were planned than these T; None for T.

    Reference:
        Holm 1979: the smallest of T p-values is multiplied by T, the next by T - 1 ..., and none
        may be below one that was smaller before.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
        >>> holm([0.01, float("nan")])
        [0.02, nan]
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), NAN)
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    n_tests = len(p) if n_planned is None else n_planned
    factors = n_tests - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return [float(value) for value in adjusted]


def mirrored(difference: Figure) -> Figure:
    """``second - first`` from ``first - second``."""
    return Figure(
        value=-difference.value,
        low=-difference.high,
        high=-difference.low,
        method=difference.method,
        n=difference.n,
        n_dropped=difference.n_dropped,
        reason=difference.reason,
    )
