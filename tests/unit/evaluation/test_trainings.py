"""Intervals over trainings and patients, and verdicts: by hand, by another way, by simulation."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from scipy import stats

from simfrcnn.evaluation.bootstrap import Interval
from simfrcnn.evaluation.results import Figure
from simfrcnn.evaluation.trainings import (
    half_width,
    over_trainings,
    p_over_trainings,
    verdict_on,
    wider,
)
from support.commands import ROOT

PAGE = ROOT / "docs" / "evaluation.md"
Z = 1.959964
ENOUGH = {"positive": 20, "normal": 20}


def over_patients(value: float, error: float) -> Figure:
    """A figure with a normal interval over patients."""
    return Figure(value, value - Z * error, value + Z * error, "bootstrap")


@pytest.mark.parametrize(
    ("by_training", "patient_error", "expected"),
    [
        # s^2 / S = .0001 / 3; v = 13 times that; df = 2 * 13^2 = 338, t = 1.96702.
        ((0.10, 0.11, 0.12), 0.02, 1.96702 * math.sqrt(0.0013 / 3)),
        # s^2 / S = .0072 / 2 = .0036; v = .0100; df = (.01 / .0036)^2 = 7.716, t = 2.32051: .232.
        # Student's with one degree of freedom, 12.7062 * .06 = .762, is wider.
        ((0.10, 0.22), 0.08, 12.7062 * 0.06),
        # s^2 / S = .00025 / 5 = .00005; v = .0002; df = 4 * 4^2 = 64, t = 1.99773.
        ((0.08, 0.09, 0.10, 0.11, 0.12), math.sqrt(0.00015), 1.99773 * math.sqrt(0.0002)),
        # Trainings that do not differ leave the normal interval over patients.
        ((0.1, 0.1, 0.1), 0.02, Z * 0.02),
        # And patients that do not matter leave Student's interval of the trainings: t(2) = 4.30265.
        ((0.1, 0.2, 0.3), 0.0, 4.30265 * 0.1 / math.sqrt(3)),
        ((0.2, 0.2), 0.0, 0.0),
    ],
)
def test_the_half_width_by_hand(by_training, patient_error, expected):
    assert half_width(by_training, patient_error) == pytest.approx(expected, rel=1e-5)


def test_it_equals_another_implementation_on_many_drawn_figures():
    random = np.random.default_rng(3)
    for n in (2, 3, 5, 9):
        figures = random.normal(0.1, 0.05, (40, n))
        errors = random.uniform(0.001, 0.1, 40)
        ours = half_width(figures, errors)
        for row, error, half in zip(figures, errors, ours, strict=True):
            of_seeds = stats.sem(row) ** 2
            total = of_seeds + error**2
            freedom = total**2 / (of_seeds**2 / (n - 1) + error**4 / 1e12)
            _, high = stats.t.interval(0.95, freedom, loc=0, scale=math.sqrt(total))
            students = stats.ttest_1samp(row, 0).confidence_interval(0.95).high - row.mean()
            assert half == pytest.approx(max(high, students), rel=1e-6)


def documented_coverages() -> list[tuple[int, float, list[float]]]:
    """Seeds, spread, and the three coverages of each line of the table in the documents."""
    lines = re.findall(
        r"^\| (\d) \| ([\d.]+) \| (\.\d+) \| (\.\d+) \| (\.\d+) \|$", PAGE.read_text("utf-8"), re.M
    )
    return [(int(n), float(spread), [float(c) for c in rest]) for n, spread, *rest in lines]


def test_the_documented_coverages_are_those_of_a_simulation():
    """Half of a training's variance over patients is common to all trainings, half its own."""
    random = np.random.default_rng(0)
    table = documented_coverages()
    assert len(table) == 12
    for n, spread, documented in table:
        n_studies = 20_000
        common = random.normal(0, math.sqrt(0.5), (n_studies, 1))
        own = random.normal(0, math.sqrt(0.5), (n_studies, n))
        figures = random.normal(0, spread, (n_studies, n)) + common + own  # the truth is 0
        means, error = np.abs(figures.mean(axis=1)), math.sqrt(0.5 + 0.5 / n)
        over_both = half_width(figures, np.full(n_studies, error))
        patients_alone, bootstrap, both = documented
        assert (means <= Z * error).mean() == pytest.approx(patients_alone, abs=0.012)
        assert _hierarchical(figures[:2000], error, random) == pytest.approx(bootstrap, abs=0.03)
        assert (means <= over_both).mean() == pytest.approx(both, abs=0.006)
        assert both >= 0.94


def _hierarchical(figures: np.ndarray, error: float, random: np.random.Generator) -> float:
    """How often percentiles of a bootstrap over trainings, then patients, hold the truth of 0."""
    n_studies, n = figures.shape
    drawn = random.integers(0, n, (n_studies, 300, n))
    means = np.take_along_axis(figures[:, None, :], drawn, axis=2).mean(axis=2)
    low, high = np.quantile(means + random.normal(0, error, means.shape), [0.025, 0.975], axis=1)
    return float(((low <= 0) & (high >= 0)).mean())


def test_it_holds_a_true_difference_of_auc_that_patients_alone_miss():
    """Scores of cases, real AUCs and a real bootstrap over patients; three trainings each."""
    random = np.random.default_rng(1)
    n_studies, n_trainings, n_cases, n_draws = 150, 3, 60, 100
    skill, spread = 1.2, 0.3  # of a method, and of its trainings: binormal separation
    truth = stats.norm.expect(lambda d: stats.norm.cdf(d / math.sqrt(2)), loc=skill, scale=spread)
    held, held_by_patients = 0, 0
    for _ in range(n_studies):
        separations = random.normal(skill, spread, (n_trainings, 1))
        shared = random.normal(0, math.sqrt(0.7), (2, n_cases))  # what makes a patient hard
        noise = random.normal(0, math.sqrt(0.3), (2, n_trainings, n_cases))
        normals, positives = shared[:, None, :] + noise
        wins = (positives + separations)[:, :, None] > normals[:, None, :]
        draws = random.multinomial(n_cases, np.full(n_cases, 1 / n_cases), (2, n_draws)) / n_cases
        of_mean = wins.mean(axis=0)
        replicates = np.einsum("rp,pn,rn->r", draws[0], of_mean, draws[1])
        by_training = wins.mean(axis=(1, 2))
        low, high = np.quantile(replicates, [0.025, 0.975])
        figure = Figure(float(by_training.mean()), float(low), float(high), "bootstrap")
        interval = over_trainings(list(by_training), figure, 0, 1)
        held += interval.low <= truth <= interval.high
        held_by_patients += figure.low <= truth <= figure.high
    assert 0.93 <= held / n_studies <= 1
    assert held_by_patients / n_studies <= 0.9


def test_an_interval_ends_where_the_figure_must():
    auc = over_patients(0.95, 0.01)
    interval = over_trainings([0.99, 0.97, 0.89], auc, 0, 1)
    half = 4.30265 * np.std([0.99, 0.97, 0.89], ddof=1) / math.sqrt(3)
    assert interval == Interval(pytest.approx(0.95 - half, rel=1e-5), 1.0, "satterthwaite")


@pytest.mark.parametrize(
    ("by_training", "low", "high"),
    [
        ([0.989, 0.989, 0.980], 0.928, 0.997),  # near 1 patients leave more room below
        ([0.011, 0.011, 0.020], 0.003, 0.072),
        ([1.0, 1.0, 1.0], 0.996, 1.0),
        ([0.7, 0.8, 0.9], 0.79, 0.95),
        ([0.80, 0.81], 0.81, 0.86),  # percentiles of a bootstrap need not hold the figure
    ],
)
def test_it_holds_the_interval_over_patients_on_either_side(by_training, low, high):
    figure = Figure(float(np.mean(by_training)), low, high, "bootstrap")
    interval = over_trainings(by_training, figure, 0, 1)
    assert interval.low <= low + 1e-12
    assert interval.high >= high - 1e-12
    assert wider(figure, interval).low == pytest.approx(interval.low)
    below = max(figure.value - low, 0) / Z
    assert interval.low == pytest.approx(figure.value - half_width(by_training, below))


def test_the_demo_quotes_what_follows_from_its_six_trainings():
    """Mean and mean interval of three trainings of an engine, over trainings and patients."""
    trainings = json.loads((ROOT / "simfrcnn" / "zoo" / "trained.json").read_text("utf-8"))
    for engine, name in (("torchvision", "torchvision"), ("detectron2", "Detectron2")):
        aucs = [
            each["figures"]["case/auc"]
            for each in trainings["trainings"]
            if each["config"] == "demo/second_look" and each["engine"] == engine
        ]
        assert len(aucs) == 3
        mean, low, high = (
            float(np.mean([a[key] for a in aucs])) for key in ("value", "low", "high")
        )
        interval = over_trainings([a["value"] for a in aucs], Figure(mean, low, high, "mean"), 0, 1)
        shown = "{} ({}-{})".format(
            *(f"{number:.3f}".lstrip("0") for number in (mean, interval.low, interval.high))
        )
        for page in ("README.md", "docs/results/demo.md"):
            assert f"{shown} with {name}" in (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize(
    ("by_training", "figure", "reason"),
    [
        ([0.8], over_patients(0.8, 0.1), "one training: no interval over trainings"),
        (
            [0.8, math.nan],
            Figure(math.nan, reason="no normals"),
            "a training's figure is undefined",
        ),
        ([0.8, math.nan], over_patients(0.8, 0.1), "a training's figure is undefined"),
        ([0.8, 0.9], Figure(0.85, reason="none was asked for"), "over patients (none was asked"),
    ],
)
def test_why_there_is_no_interval(by_training, figure, reason):
    interval = over_trainings(by_training, figure, 0, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert reason in interval.reason
    assert interval.to_json()["low"] is None
    assert wider(figure, interval) is figure


def test_a_variance_takes_two_trainings():
    with pytest.raises(ValueError, match="1 training"):
        half_width([0.8], 0.1)


def test_the_wider_interval_is_quoted():
    figure = Figure(0.5, 0.4, 0.6, "bootstrap", {"positive": 3})
    quoted = wider(figure, Interval(0.3, 0.7, "satterthwaite"))
    assert quoted == Figure(0.5, 0.3, 0.7, "satterthwaite", {"positive": 3})
    assert wider(figure, Interval(0.45, 0.55, "satterthwaite")) is figure


@pytest.mark.parametrize(
    ("by_training", "patient_error", "margin", "verdict"),
    [
        ([0.10, 0.11, 0.12], 0.01, None, "result: the interval excludes 0"),
        ([-0.10, -0.11, -0.12], 0.01, 0.05, "result: the interval excludes 0"),
        ([0.02, 0.10, 0.18], 0.01, None, "not a result: the interval holds 0"),
        ([0.02, -0.01, 0.02], 0.001, None, "not a result: seeds disagree in sign"),
        # Ten seeds whose interval excludes 0, one of them below 0.
        ([0.05] * 9 + [-0.01], 0.001, None, "not a result: seeds disagree in sign"),
        # A seed without a difference has no sign.
        ([0.05] * 9 + [0.0], 0.001, None, "result: the interval excludes 0"),
        ([-0.05] * 9 + [0.0], 0.001, None, "result: the interval excludes 0"),
        ([0.00, 0.01, 0.01], 0.002, 0.03, "equivalent: differs by less than 0.03"),
        ([0.002, -0.002, 0.001], 0.002, 0.02, "equivalent: differs by less than 0.02"),
        ([0.010, 0.011, 0.012], 0.002, 0.02, "equivalent: differs from 0, by less than 0.02"),
        # Over patients alone it would be equivalent.
        ([0.015, -0.015, 0.001], 0.002, 0.02, "not a result: seeds disagree in sign"),
        ([0.0, 0.0, 0.0], 0.0, 0.02, "equivalent: differs by less than 0.02"),
        ([0.10], 0.01, 0.02, "one training: no interval over trainings"),
        ([0.10, math.nan], 0.01, 0.02, "undefined: a training's figure is undefined"),
    ],
)
def test_what_may_be_claimed(by_training, patient_error, margin, verdict):
    figure = over_patients(float(np.mean(by_training)), patient_error)
    assert str(verdict_on(by_training, figure, ENOUGH, margin)) == verdict


def test_without_an_interval_nothing_is_claimed():
    figure = Figure(0.11, reason="none was asked for")
    verdict = verdict_on([0.10, 0.12], figure, ENOUGH, 0.5)
    assert verdict.word == "not a result"
    assert "none was asked for" in verdict.reason


@pytest.mark.parametrize("n_trainings", [2, 3, 5])
def test_the_p_value_is_that_of_the_interval(n_trainings: int) -> None:
    """Where an end of the interval over trainings lies on 0, p is .05."""
    generator = np.random.default_rng(n_trainings)
    for _ in range(50):
        by_training = generator.normal(0.1, 0.04, n_trainings)
        mean, half = float(by_training.mean()), float(generator.uniform(0.005, 0.2))
        other = float(generator.uniform(0.005, 0.2))
        figure = Figure(mean, mean - half, mean + other, "bootstrap")
        interval = over_trainings(by_training.tolist(), figure, -10, 10)
        for end in (interval.low, interval.high):
            moved, value = (by_training - end).tolist(), mean - end
            at_edge = Figure(value, value - half, value + other, "bootstrap")
            assert p_over_trainings(moved, at_edge, ENOUGH) == pytest.approx(0.05, rel=1e-6)
    assert math.isnan(p_over_trainings([0.1], Figure(0.1, 0.05, 0.15, "bootstrap"), ENOUGH))


def test_the_p_value_where_trainings_or_patients_do_not_vary() -> None:
    alike = p_over_trainings([0.1, 0.1], over_patients(0.1, 0.05), ENOUGH)
    assert alike == pytest.approx(2 * stats.norm.sf(2), rel=1e-6)
    fixed = p_over_trainings([0.1, 0.2, 0.3], over_patients(0.2, 0.0), ENOUGH)
    assert fixed == pytest.approx(stats.ttest_1samp([0.1, 0.2, 0.3], 0).pvalue)
    assert math.isnan(p_over_trainings([0.1, 0.1], over_patients(0.1, 0.0), ENOUGH))


@pytest.mark.parametrize(
    ("n_patients", "reason"),
    [
        ({"positive": 2, "normal": 2}, "there are 2 and 2"),
        ({"positive": 19, "normal": 500}, "there are 19 and 500"),
        ({"positive": 500, "normal": 19}, "there are 500 and 19"),
        (None, "it is not stated on how many patients it rests"),
    ],
)
@pytest.mark.parametrize("margin", [None, 0.5])
def test_on_too_few_patients_nothing_is_claimed(n_patients, reason, margin) -> None:
    """From two and two patients this was p = .0255 and a result."""
    figure, by_training = Figure(0.25, 0.1, 0.4, "bootstrap"), [0.24, 0.26]
    assert p_over_trainings(by_training, figure, ENOUGH) < 0.05
    assert verdict_on(by_training, figure, ENOUGH, margin).word in ("result", "equivalent")
    assert math.isnan(p_over_trainings(by_training, figure, n_patients))
    verdict = verdict_on(by_training, figure, n_patients, margin)
    assert verdict.word == "not a result"
    assert reason in verdict.reason
    # What is said first stays: one training, and no figure at all.
    assert verdict_on([0.1], figure, n_patients).word == "one training"
    assert verdict_on([0.1, math.nan], figure, n_patients).word == "undefined"
