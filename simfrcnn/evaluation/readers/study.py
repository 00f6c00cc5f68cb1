"""A model and the readers of the same cases: who finds more, with which certainty?

Shapes: I modalities, J readers, K cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.bootstrap import Interval, clopper_pearson
from simfrcnn.evaluation.delong import FEWEST_CASES, auc_interval
from simfrcnn.evaluation.margins import claims_of
from simfrcnn.evaluation.ranking import holm
from simfrcnn.evaluation.readers.obuchowski_rockette import (
    Cells,
    CovarianceBy,
    Estimate,
    Modalities,
    auc_cells,
    compare_modalities,
    components_of,
    of_one,
    over_readers,
    share_cells,
)
from simfrcnn.evaluation.readers.pathways import Pathway, pathways_of, ways_of
from simfrcnn.evaluation.readers.readings import Readings

BoolArray = NDArray[np.bool_]

AUC, SENSITIVITY, SPECIFICITY = "auc", "sensitivity", "specificity"
FEWEST_READERS = 3
"""For a p-value over readers; with two, how they differ is a guess from one difference."""

_FEW = f"no test with fewer than {FEWEST_CASES} positive and {FEWEST_CASES} normal cases"
_FEW_READERS = f"no test with fewer than {FEWEST_READERS} readers"


@dataclass(frozen=True)
class AgainstReaders:
    """One figure of the model and of the readers with one modality.

    ``difference`` is the model less the mean of the readers, with readers and cases random;
    ``by_reader`` are the model less each of them, over cases alone, with Holm's adjustment in
    ``p_holm`` (NaN where there is no test).
    """

    figure: str
    modality: str
    model: Estimate
    readers: dict[str, Estimate]
    mean: Estimate
    difference: Estimate
    by_reader: dict[str, Estimate]
    p_holm: dict[str, float]


@dataclass(frozen=True)
class ReaderStudy:
    """What :func:`study_of` found.

    ``modalities`` compares the modalities of the readers by figure, where there are several;
    ``pathways`` are by modality, where there are recalls. The model recalls from
    ``score_threshold`` on.
    """

    readings: Readings
    covariance: CovarianceBy
    score_threshold: float
    prevalence: float | None
    margin: float | None
    against: tuple[AgainstReaders, ...]
    modalities: dict[str, Modalities]
    pathways: dict[str, list[Pathway]]

    def claim_on(self, each: AgainstReaders) -> str | None:
        """What is shown of the model against the readers by the margin; None without one."""
        if self.margin is None:
            return None
        if math.isnan(each.difference.p_value):
            return each.difference.reason
        return str(claims_of(each.difference.low, each.difference.high, self.margin))

    def to_json(self) -> dict[str, Any]:
        """Every number, in JSON types, without NaN."""
        readings = self.readings
        return {
            "schema_version": 1,
            "covariance": self.covariance,
            "score_threshold": self.score_threshold,
            "prevalence": self.prevalence,
            "readers": list(readings.readers),
            "modalities": list(readings.modalities),
            "cases": {
                "positive": int(readings.is_positive.sum()),
                "normal": int((~readings.is_positive).sum()),
                "read_but_of_unknown_truth": readings.n_unknown,
                "not_read": readings.n_unread,
            },
            "margin": self.margin,
            "model_against_readers": [
                {**_against_json(each), "shown": self.claim_on(each)} for each in self.against
            ],
            "modalities_compared": {
                figure: self._modalities_json(each) for figure, each in self.modalities.items()
            },
            "pathways": {
                modality: [
                    {
                        "name": one.name,
                        "figures": _all_json(one.figures),
                        "differences": _all_json(one.differences),
                    }
                    for one in ways
                ]
                for modality, ways in self.pathways.items()
            },
        }

    def _modalities_json(self, compared: Modalities) -> dict[str, Any]:
        names = self.readings.modalities
        test = Estimate(compared.f_value, df=compared.df_within, p_value=compared.p_value).to_json()
        return {
            "f_value": test["value"],
            "df_between": compared.df_between,
            "df_within": test["df"],
            "p_value": test["p_value"],
            "components": vars(compared.components),
            "differences": [
                {"first": names[one], "second": names[other], **estimate.to_json()}
                for (one, other), estimate in compared.differences.items()
            ],
        }


def study_of(
    readings: Readings,
    *,
    score_threshold: float,
    triage_below: Sequence[float] = (),
    prevalence: float | None = None,
    covariance: CovarianceBy = "jackknife",
    margin: float | None = None,
) -> ReaderStudy:
    """Compare a model with readers: AUC where there are ratings, calls where there are recalls.

    There is no p-value with fewer than 20 cases of a kind, nor over fewer than three readers.

    Args:
        readings: From :func:`~simfrcnn.evaluation.readers.readings.joined`.
        score_threshold: The model recalls from this score on; chosen on other cases.
        triage_below: Scores below which a case would not be read.
        prevalence: Of positive cases where the model is to be used, for parts recalled and read.
        covariance: How the covariance of figures over cases is estimated.
        margin: The largest difference that does not matter, stated beforehand, for claims of
            non-inferiority and equivalence.
    """
    figures = list(_figures_of(readings, score_threshold))
    n_modalities, n_readers = len(readings.modalities), len(readings.readers)
    kinds = readings.is_positive
    few_cases = _FEW if min(int(kinds.sum()), int((~kinds).sum())) < FEWEST_CASES else None
    few = few_cases or (_FEW_READERS if n_readers < FEWEST_READERS else None)
    against = tuple(
        _against(readings, place, *each, covariance, few_cases, few)
        for place in range(n_modalities)
        for each in figures
    )
    compared = {}
    if n_modalities > 1 and n_readers > 1:
        for name, cells, _, _ in figures:
            own = cells.covariance(covariance)
            result = compare_modalities(
                cells.values.reshape(n_modalities, n_readers),
                components_of(own, n_modalities, n_readers),
            )
            compared[name] = result.without_tests(few)
    pathways = {}
    if readings.recalls is not None:
        limits = triage_below or (score_threshold,)
        for name, recalls in zip(readings.modalities, readings.recalls, strict=True):
            ways = list(ways_of(recalls, readings.scores, score_threshold, limits))
            why = few_cases if n_readers == 1 else few  # one reader: over cases alone
            pathways[name] = pathways_of(ways, kinds, prevalence, covariance, why)
    return ReaderStudy(
        readings, covariance, score_threshold, prevalence, margin, against, compared, pathways
    )


Alone = Callable[[int | None], Interval]
"""The interval of one reader's figure (the cell's number) or of the model's (None) by itself."""


def _figures_of(readings: Readings, threshold: float) -> Iterator[tuple[str, Cells, Cells, Alone]]:
    """Each figure: its name, its cells of the readers (modality by modality) and of the model."""
    truth, n_cases = readings.is_positive, len(readings.cases)
    if readings.ratings is not None:
        ratings = readings.ratings.reshape(-1, n_cases)

        def of_auc(cell: int | None) -> Interval:
            scores = readings.scores if cell is None else ratings[cell]
            return auc_interval(np.arange(n_cases), scores, truth)

        yield AUC, auc_cells(ratings, truth), auc_cells(readings.scores[None], truth), of_auc
    if readings.recalls is not None:
        recalls = readings.recalls.reshape(-1, n_cases)
        by_model = readings.scores >= threshold
        for name, kind, weights in (
            (SENSITIVITY, truth, (1.0, 0.0)),
            (SPECIFICITY, ~truth, (0.0, 1.0)),
        ):

            def of_share(cell: int | None, name: str = name, kind: BoolArray = kind) -> Interval:
                called = by_model if cell is None else recalls[cell]
                right = called if name == SENSITIVITY else ~called
                return clopper_pearson(float(right[kind].sum()), float(kind.sum()))

            right = recalls if name == SENSITIVITY else ~recalls
            right_model = (by_model if name == SENSITIVITY else ~by_model)[None]
            yield (
                name,
                share_cells(right, truth, *weights),
                share_cells(right_model, truth, *weights),
                of_share,
            )


def _against(
    readings: Readings,
    place: int,
    name: str,
    cells: Cells,
    model: Cells,
    alone: Alone,
    by: CovarianceBy,
    few_cases: str | None,
    few: str | None,
) -> AgainstReaders:
    n = len(readings.readers)
    own = cells[slice(place * n, place * n + n)]
    less = model - own
    singles = [of_one(less[slice(j, j + 1)], by).without_test(few_cases) for j in range(n)]
    return AgainstReaders(
        figure=name,
        modality=readings.modalities[place],
        model=_alone(float(model.values[0]), alone(None)),
        readers={
            reader: _alone(float(own.values[j]), alone(place * n + j))
            for j, reader in enumerate(readings.readers)
        },
        mean=over_readers(own, by).as_share(),
        difference=over_readers(less, by).without_test(few),
        by_reader=dict(zip(readings.readers, singles, strict=True)),
        p_holm=dict(zip(readings.readers, holm([each.p_value for each in singles]), strict=True)),
    )


def _alone(value: float, interval: Interval) -> Estimate:
    return Estimate(value, interval.low, interval.high, reason=interval.reason)


def _against_json(each: AgainstReaders) -> dict[str, Any]:
    holm_json = {name: Estimate(p).to_json()["value"] for name, p in each.p_holm.items()}
    return {
        "figure": each.figure,
        "modality": each.modality,
        "model": each.model.to_json(),
        "readers": _all_json(each.readers),
        "mean_of_readers": each.mean.to_json(),
        "model_less_mean": each.difference.to_json(),
        "model_less_reader": {
            name: {**estimate.to_json(), "p_holm": holm_json[name]}
            for name, estimate in each.by_reader.items()
        },
    }


def _all_json(estimates: dict[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in estimates.items()}
