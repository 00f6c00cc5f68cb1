"""Net benefit by its definition, unit by unit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from simfrcnn.evaluation.bootstrap import values_of
from simfrcnn.evaluation.case import Units
from simfrcnn.evaluation.net_benefit import GRID, STATED, decision_curve, net_benefit_statistic
from simfrcnn.evaluation.recalibration import Recalibration
from simfrcnn.evaluation.truth import Truth

LINE = Recalibration("case", -0.5, 1.2, 0.4, "val")


def cases(seed: int = 0, n: int = 80) -> Units:
    generator = np.random.default_rng(seed)
    is_positive = generator.random(n) < 0.3
    truths = np.where(is_positive, Truth.POSITIVE, Truth.NORMAL).astype(np.intp)
    truths[:3] = Truth.UNKNOWN
    scores = expit(generator.normal(size=n) + is_positive)
    return Units("case", tuple(map(str, range(n))), np.arange(n) // 2, scores, truths)


def net_benefit(
    of: Units, weights: np.ndarray, threshold: float, prevalence: float | None
) -> float:
    """Cancers found, less needless recalls at the rate of the threshold, per case."""
    chances = expit(LINE.log_odds(of.scores, prevalence))
    found = recalled = n_positive = n_normal = 0.0
    for chance, truth, patient in zip(chances, of.truths, of.patients, strict=True):
        if truth == Truth.POSITIVE:
            n_positive += weights[patient]
            found += weights[patient] * (chance >= threshold)
        elif truth == Truth.NORMAL:
            n_normal += weights[patient]
            recalled += weights[patient] * (chance >= threshold)
    if prevalence is not None:  # each kind as often as the prevalence asks
        found, recalled = found * prevalence / n_positive, recalled * (1 - prevalence) / n_normal
        n_positive, n_normal = prevalence, 1 - prevalence
    return (found - recalled * threshold / (1 - threshold)) / (n_positive + n_normal)


@pytest.mark.parametrize("prevalence", [None, 0.01, 0.3])
def test_figures_and_curve_are_those_of_the_definition(prevalence: float | None) -> None:
    of = cases()
    weights = np.vstack([np.ones(40), np.random.default_rng(1).integers(0, 3, 40)])
    statistic = net_benefit_statistic(of, 40, LINE, prevalence, with_band=True)
    assert statistic.keys == tuple(f"case/net_benefit_at_{p:g}" for p in STATED)
    values = values_of(statistic, weights.astype(np.int32))
    for row, value in zip(weights, values, strict=True):
        expected = [net_benefit(of, row, p, prevalence) for p in (*STATED, *GRID)]
        assert value == pytest.approx(expected, abs=1e-12)
    curve = decision_curve(of, LINE, prevalence)
    assert curve is not None
    assert curve.model == pytest.approx(tuple(values[0, len(STATED) :]))


def test_recalling_everybody_is_a_model_that_calls_all() -> None:
    of = cases()
    everybody = Recalibration("case", 50.0, 1e-9, 0.4, "val")
    curve = decision_curve(of, everybody, None)
    assert curve is not None
    assert curve.model == pytest.approx(curve.recall_all)
    nobody = decision_curve(of, Recalibration("case", -50.0, 1e-9, 0.4, "val"), None)
    assert nobody is not None
    assert nobody.model == tuple(0.0 for _ in GRID)


def test_one_kind_alone_has_no_curve() -> None:
    of = cases()
    truths = np.where(of.truths == Truth.POSITIVE, Truth.UNKNOWN, of.truths)
    alone = Units("case", of.ids, of.patients, of.scores, truths)
    assert decision_curve(alone, LINE, None) is None
    statistic = net_benefit_statistic(alone, 40, LINE, 0.01)
    assert np.isnan(values_of(statistic, np.ones((1, 40), np.int32))).all()
    assert "0 positive" in statistic.why_undefined["case/net_benefit_at_0.1"]
