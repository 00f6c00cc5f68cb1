"""Calibration slope and intercept, and probabilities, against independent implementations."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from simfrcnn.errors import ArtifactError
from simfrcnn.evaluation import recalibration
from simfrcnn.evaluation.bootstrap import figures_of, values_of
from simfrcnn.evaluation.case import Units
from simfrcnn.evaluation.operating import points_from
from simfrcnn.evaluation.recalibration import (
    Recalibration,
    _firth,
    calibration_statistic,
    fit_recalibration,
    lines_from,
    log_odds,
    recalibrated_brier_statistic,
)
from simfrcnn.evaluation.results import UnitScore
from simfrcnn.evaluation.truth import Truth

CASES, OF_EACH = 300, 2


def units(seed: int = 0, n: int = CASES, slope: float = 1.0, of_each: int = 1) -> Units:
    """Cases whose log-odds of being positive are a line of the scores' log-odds."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=n)
    is_positive = generator.random(n) < expit(slope * x - 0.5)
    return Units(
        level="case",
        ids=tuple(f"E{number}" for number in range(n)),
        patients=np.arange(n) // of_each,
        scores=expit(x),
        truths=np.where(is_positive, Truth.POSITIVE, Truth.NORMAL).astype(np.intp),
    )


def table(of: Units) -> list[UnitScore]:
    return list(of.table([f"P{number}" for number in range(len(of.ids))]))


@pytest.mark.parametrize("seed", range(3))
def test_slope_and_intercept_are_those_of_a_logistic_regression(seed: int) -> None:
    cases = units(seed)
    weights = np.random.default_rng(seed).integers(0, 3, size=(2, CASES)).astype(np.int32)
    statistic = calibration_statistic(cases)
    assert statistic.keys == ("case/calibration_slope", "case/calibration_intercept")
    x, is_positive = log_odds(cases.scores), cases.truths == Truth.POSITIVE
    for row, (slope, intercept) in zip(weights, values_of(statistic, weights), strict=True):
        theirs = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
        theirs.fit(x[:, None], is_positive, sample_weight=row)
        assert slope == pytest.approx(theirs.coef_[0, 0], rel=1e-5)
        # With the slope at 1 as many are expected to be positive as are.
        expected = row @ expit(x + intercept)
        assert expected == pytest.approx(row @ is_positive, rel=1e-9)


def test_the_fit_maximises_the_penalised_likelihood_and_recovers_a_line() -> None:
    cases = units(1, n=4000, slope=0.7)
    line = fit_recalibration(table(cases), "case", chosen_on="val")
    assert isinstance(line, Recalibration)
    assert (line.intercept, line.slope) == (
        pytest.approx(-0.5, abs=0.12),
        pytest.approx(0.7, abs=0.1),
    )
    assert line.prevalence == (cases.truths == Truth.POSITIVE).mean()
    few = units(2, n=25)
    found = fit_recalibration(table(few), "case", chosen_on="val")
    assert isinstance(found, Recalibration)
    x, is_positive = log_odds(few.scores), few.truths == Truth.POSITIVE
    design = np.stack([np.ones_like(x), x], axis=1)

    def less_likely(line: np.ndarray) -> float:
        chance = expit(design @ line)
        information = (design * (chance * (1 - chance))[:, None]).T @ design
        likelihood = np.log(np.where(is_positive, chance, 1 - chance)).sum()
        return -float(likelihood + np.linalg.slogdet(information)[1] / 2)

    best = minimize(less_likely, [0.0, 1.0], method="Nelder-Mead", tol=1e-10).x
    assert (found.intercept, found.slope) == pytest.approx(tuple(best), abs=1e-4)


def of_one_patient_each(scores: np.ndarray, is_positive: np.ndarray) -> Units:
    n = len(scores)
    truths = np.where(is_positive, Truth.POSITIVE, Truth.NORMAL).astype(np.intp)
    return Units("case", tuple(f"E{k}" for k in range(n)), np.arange(n), scores, truths)


def test_scores_of_two_values_have_the_line_through_both_adjusted_log_odds() -> None:
    """There the penalty adds half a case of each kind to each value. Full steps never end here."""
    scores, is_positive = np.zeros(30), np.arange(30) < 10
    scores[0] = 0.262
    line = fit_recalibration(table(of_one_patient_each(scores, is_positive)), "case", chosen_on="v")
    assert isinstance(line, Recalibration)
    low, high = log_odds(np.array([0.0, 0.262]))
    at_low, at_high = math.log(9.5 / 20.5), math.log(1.5 / 0.5)
    assert line.slope == pytest.approx((at_high - at_low) / (high - low), rel=1e-9)
    assert line.intercept + line.slope * high == pytest.approx(at_high, rel=1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_of_awkward_scores_the_fit_is_the_maximum_too(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(10, 80))
    is_positive = random.permutation(n) < max(2, n // 6)
    scores = [
        np.where(random.random(n) < 0.95, 0.0, random.random(n)),  # nearly all without a detection
        random.beta(0.1, 0.1, n),  # at both ends
        0.5 + random.normal(0, 1e-4, n) * (1 + is_positive),  # of a young classifier
    ][seed % 3]
    scores[0] = 0.3
    x = log_odds(scores)
    found = _firth(x, is_positive)
    assert found is not None
    centre, spread = x.mean(), x.std()
    design = np.stack([np.ones(n), (x - centre) / spread], axis=1)

    def less_likely(line: np.ndarray) -> float:
        chance = expit(design @ line)
        information = (design * (chance * (1 - chance))[:, None]).T @ design
        likelihood = np.log(np.where(is_positive, chance, 1 - chance)).sum()
        return -float(likelihood + np.linalg.slogdet(information)[1] / 2)

    own = less_likely(np.array([found[0] + found[1] * centre, found[1] * spread]))
    best = minimize(less_likely, [0.0, 0.0], method="Nelder-Mead", tol=1e-9)
    assert own <= best.fun + 1e-9


def test_what_does_not_converge_is_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalibration, "_MAX_STEPS", 2)
    found = fit_recalibration(table(units(2, n=25)), "case", chosen_on="val")
    assert found == "no line was found in 2 steps"


def test_separated_scores_have_a_finite_line_and_no_slope_of_their_own() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    truths = np.where(scores > 0.5, Truth.POSITIVE, Truth.NORMAL).astype(np.intp)
    cases = Units("case", tuple("abcdef"), np.arange(6), scores, truths)
    line = fit_recalibration(table(cases), "case", chosen_on="val")
    assert isinstance(line, Recalibration)
    assert 0 < line.slope < 10
    slope, intercept = values_of(calibration_statistic(cases), np.ones((1, 6), np.int32))[0]
    assert math.isnan(slope)
    assert intercept == pytest.approx(0, abs=1e-9)  # symmetrical


@pytest.mark.parametrize(
    ("scores", "positive", "reason"),
    [
        ([0.2, 0.4, 0.9], [0, 0, 1], "there are 1 and 2"),
        ([0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1], "all scores are equal"),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], "no likelier to be positive"),
    ],
)
def test_no_line_without_what_it_needs(scores, positive, reason) -> None:
    truths = np.where(positive, Truth.POSITIVE, Truth.NORMAL).astype(np.intp)
    n = len(scores)
    cases = Units("case", tuple("abcd"[:n]), np.arange(n), np.array(scores), truths)
    found = fit_recalibration(table(cases), "case", chosen_on="val")
    assert isinstance(found, str)
    assert reason in found


def test_a_line_changes_no_rank_and_another_prevalence_moves_it_evenly() -> None:
    line = Recalibration("case", -1.0, 0.8, 0.4, "val")
    scores = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    chances = expit(line.log_odds(scores))
    assert (np.diff(chances) > 0).all()
    # By Bayes: the likelihood ratio of a score is the same at any prevalence.
    odds = chances / (1 - chances)
    ratio = odds / (0.4 / 0.6)
    rare = ratio * (0.01 / 0.99)
    assert expit(line.log_odds(scores, 0.01)) == pytest.approx(rare / (1 + rare))


def test_probabilities_are_judged_as_scores_are() -> None:
    line = Recalibration("case", -0.4, 2.0, 0.4, "val")
    cases = units(3)
    row = np.ones((1, CASES), np.int32)
    own = calibration_statistic(cases, line)
    assert own.keys == (
        "case/recalibrated/calibration_slope",
        "case/recalibrated/calibration_intercept",
    )
    raw_slope = values_of(calibration_statistic(cases), row)[0, 0]
    assert values_of(own, row)[0, 0] == pytest.approx(raw_slope / 2)
    (brier,) = values_of(recalibrated_brier_statistic(cases, CASES, line), row)[0]
    chances = expit(-0.4 + 2 * logit(cases.scores))
    assert brier == pytest.approx(((chances - (cases.truths == Truth.POSITIVE)) ** 2).mean())


def test_intervals_hold_the_truth_and_copies_of_a_patient_add_nothing() -> None:
    n_held = 0
    for seed in range(200):
        cases = units(seed, n=120)
        interval = calibration_statistic(cases).intervals["case/calibration_slope"]()
        assert interval.method == "cluster-robust"
        n_held += interval.low <= 1 <= interval.high
    assert 0.90 <= n_held / 200 <= 0.99
    once = units(1, n=120)
    twice = Units(
        "case",
        once.ids * 2,
        np.tile(once.patients, 2),
        np.tile(once.scores, 2),
        np.tile(once.truths, 2),
    )
    for key in calibration_statistic(once).keys:
        one, other = (calibration_statistic(each).intervals[key]() for each in (once, twice))
        assert (other.low, other.high) == pytest.approx((one.low, one.high))


def test_few_patients_have_no_interval() -> None:
    interval = calibration_statistic(units(1, n=30)).intervals["case/calibration_slope"]()
    assert interval.method is None
    assert "it needs 20 patients with a positive unit" in interval.reason


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"slope": -1.0}, "above 0"),
        ({"prevalence": 1.0}, "in (0, 1)"),
        ({"intercept": float("nan")}, "not finite"),
        ({"colour": 1}, "colour"),
        ({"level": "breast"}, "says that it is by breast"),
    ],
)
def test_a_damaged_line_is_refused(change, word, tmp_path) -> None:
    line = {"level": "case", "intercept": 0.0, "slope": 1.0, "prevalence": 0.4, "chosen_on": "val"}
    document = {
        "kind": "simfrcnn-operating-points",
        "schema_version": 1,
        "points": [],
        "missing": {},
        "settings": {
            "target_classes": ["malignant"],
            "pooling": "max",
            "case_by": "exam",
            "unknown_images": "exclude",
            "operating_sensitivity": 0.9,
            "operating_specificity": 0.9,
        },
        "chosen_on": [],
        "checkpoint_sha256": None,
    }
    path = tmp_path / "points.json"
    assert points_from(document, source=path).recalibrations == {}  # of an earlier version
    kept = points_from({**document, "recalibrations": {"case": line}}, source=path)
    assert kept.recalibrations == {"case": Recalibration(**line)}
    damaged = json.loads(json.dumps({**document, "recalibrations": {"case": {**line, **change}}}))
    with pytest.raises(ArtifactError, match="damaged") as caught:
        points_from(damaged, source=path)
    assert word in str(caught.value)


@pytest.mark.parametrize("document", [[], None, "case", 5, {"case": []}])
def test_lines_that_are_not_by_level_are_refused(document) -> None:
    with pytest.raises(TypeError):
        lines_from(document)


@pytest.mark.parametrize("width", [0.01, 0.001])
def test_scores_close_together_have_a_steep_slope_and_are_not_called_separated(
    width: float,
) -> None:
    """As scikit-learn's on the standardised log-odds; those of a young classifier are such."""
    generator = np.random.default_rng(0)
    is_positive = generator.random(CASES) < 0.4
    scores = 0.5 + width * (generator.normal(size=CASES) + 1.5 * is_positive)
    truths = np.where(is_positive, Truth.POSITIVE, Truth.NORMAL).astype(np.intp)
    of = Units("case", tuple(map(str, range(CASES))), np.arange(CASES), scores, truths)
    figure = figures_of([calibration_statistic(of)], truths, n_replicates=10, seed=0)[
        "case/calibration_slope"
    ]
    x = log_odds(scores)
    theirs = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    theirs.fit((x / x.std())[:, None], is_positive)
    assert figure.value == pytest.approx(theirs.coef_[0, 0] / x.std(), rel=1e-5)
    assert figure.value > 30
    assert 0 < figure.low < figure.value < figure.high < 2 * figure.value


def test_an_intercept_is_found_however_far_the_probabilities_are_off() -> None:
    of = units(0)
    line = Recalibration("case", -300.0, 600.0, 0.4, "val")
    row = np.ones((1, CASES), np.int32)
    _, intercept = values_of(calibration_statistic(of, line), row)[0]
    expected = expit(line.log_odds(of.scores) + intercept).sum()
    assert expected == pytest.approx((of.truths == Truth.POSITIVE).sum(), abs=1e-6)


def test_only_the_slope_is_undefined_for_separated_scores() -> None:
    scores = np.array([0.1, 0.2, 0.5, 0.5, 0.8, 0.9])  # two ties between the kinds
    truths = np.array([0, 0, 0, 1, 1, 1], dtype=np.intp)
    of = Units("case", tuple("abcdef"), np.arange(6), scores, truths)
    figures = figures_of([calibration_statistic(of)], truths, n_replicates=0, seed=0)
    assert "but for ties" in str(figures["case/calibration_slope"].reason)
    assert figures["case/calibration_intercept"].value == pytest.approx(0, abs=1e-6)
