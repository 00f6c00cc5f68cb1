"""Net benefit by its definition, unit by unit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.special import expit

from simfrcnn.evaluation.bootstrap import figures_of, values_of
from simfrcnn.evaluation.case import Units
from simfrcnn.evaluation.evaluator import evaluate
from simfrcnn.evaluation.net_benefit import (
    GRID,
    STATED,
    DecisionCurve,
    decision_curve,
    net_benefit_statistic,
)
from simfrcnn.evaluation.recalibration import Recalibration
from simfrcnn.evaluation.reporting.charts import decision_charts
from simfrcnn.evaluation.results import Report
from simfrcnn.evaluation.truth import Truth
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import random_set

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


def test_the_interval_where_each_patient_is_one_case_by_hand() -> None:
    """40 of 40 positives and 0 of 60 normals are recalled: resampling would give no width."""
    truths = np.array([1] * 40 + [0] * 60, dtype=np.intp)
    of = Units("case", tuple(map(str, range(100))), np.arange(100), 0.1 + 0.8 * truths, truths)
    line = Recalibration("case", 0.0, 1.0, 0.4, "val")
    statistic = net_benefit_statistic(of, 100, line, None)
    figure = figures_of([statistic], truths, n_replicates=50, seed=0)["case/net_benefit_at_0.2"]
    assert (figure.value, figure.method) == (pytest.approx(0.4), "mover")
    found_low, recalled_high = 0.025 ** (1 / 40), 1 - 0.025 ** (1 / 60)
    below = math.hypot(0.4 * (1 - found_low), 0.6 * 0.25 * recalled_high)
    assert (figure.low, figure.high) == (pytest.approx(0.4 - below), pytest.approx(0.4))
    several = net_benefit_statistic(cases(), 40, LINE, 0.01)
    assert several.intervals == {}  # resampled


def test_the_interval_holds_the_truth() -> None:
    generator = np.random.default_rng(0)
    truths = np.array([1] * 40 + [0] * 60, dtype=np.intp)
    line = Recalibration("case", 0.0, 1.0, 0.4, "val")
    prevalence, p, n_held = 0.4, 0.1, 0
    true = 0.9 * prevalence - 0.2 * (1 - prevalence) * p / (1 - p)
    for _ in range(400):
        called = generator.random(100) < np.where(truths, 0.9, 0.2)
        of = Units("case", ("",) * 100, np.arange(100), np.where(called, 0.5, 0.01), truths)
        interval = net_benefit_statistic(of, 100, line, None).intervals["case/net_benefit_at_0.1"]()
        n_held += interval.low <= true <= interval.high
    assert 0.94 <= n_held / 400 < 1


def report_at(prevalence: float, model: tuple[float, ...] | None = None) -> Report:
    harm = GRID / (1 - GRID)
    everybody = tuple((prevalence - (1 - prevalence) * harm).tolist())
    curve = DecisionCurve(tuple(GRID.tolist()), model or everybody, everybody, prevalence)
    records, detections = random_set(1)
    settings = EvaluationSettings(bootstrap_replicates=0)
    return dataclasses.replace(evaluate(records, detections, settings), decisions={"case": curve})


@pytest.mark.parametrize(("prevalence", "end"), [(0.006, 0.05), (0.03, 0.2), (0.4, 0.5)])
def test_the_chart_shows_all_of_the_model_and_where_everybody_crosses_nobody(
    prevalence: float, end: float
) -> None:
    (chart,) = decision_charts(report_at(prevalence))
    model, everybody, nobody = chart.lines
    assert (chart.x.high, max(model.x), max(nobody.x)) == (end, end, end)
    assert min(model.y) >= chart.y.low  # not drawn along the axis
    crossing = np.interp(0, everybody.y[::-1], everybody.x[::-1])
    assert crossing == pytest.approx(prevalence, abs=1e-3)
    assert chart.y.high == pytest.approx(1000 * prevalence)
    (low, *_), top = chart.y.ticks, chart.y.ticks[-1]
    assert low == 0
    assert chart.y.high / 2 < top <= chart.y.high + 1e-9


def test_recalling_everybody_ends_on_the_axis() -> None:
    nothing = (0.0,) * len(GRID)
    (chart,) = decision_charts(report_at(0.3, nothing))
    everybody = chart.lines[1]
    assert everybody.y[-1] == pytest.approx(chart.y.low) == pytest.approx(-75)
    harm = (0.3 + 0.075) / 0.7
    assert everybody.x[-1] == pytest.approx(harm / (1 + harm), abs=1e-3)
    assert chart.y.ticks == (0.0, 150.0, 300.0)
