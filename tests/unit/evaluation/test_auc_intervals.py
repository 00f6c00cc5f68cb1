"""The interval of an AUC: against its definition, published figures, and how often it holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import norm

from simfrcnn.evaluation.bootstrap import resampling_weights
from simfrcnn.evaluation.delong import auc_interval, disjoint_pairs, paired_delong
from simfrcnn.evaluation.roc import auc_function

# Albumin, total protein, K-G score and outcome of 43 patients: DeLong, DeLong and Clarke-Pearson
# 1988, as printed with their results in the example of SAS/STAT's PROC LOGISTIC.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0
1.6 5.6 5 1  3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1
4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1
3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1
3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1
3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1
3.6 6.6 5 1
"""


def standard_error(interval, auc: float) -> float:
    """That of the AUC, from the ends of a normal interval on its logit."""
    half = (logit(interval.high) - logit(interval.low)) / 2
    assert (logit(interval.high) + logit(interval.low)) / 2 == pytest.approx(logit(auc))
    return half / norm.isf(0.025) * auc * (1 - auc)


def patients_of_one_unit(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.intp)


def test_published_figures_of_delongs_own_data() -> None:
    data = np.array(OVARIAN.split(), dtype=float).reshape(43, 4)
    albumin, protein, score, outcome = data.T
    is_positive = outcome == 1
    own = patients_of_one_unit(43)
    published = {"score": (0.7258, 0.1028), "albumin": (0.7366, 0.0927), "protein": (0.6478, 0.1)}
    for (auc, error), scores in zip(published.values(), (-score, albumin, protein), strict=True):
        test = paired_delong(scores, -scores, is_positive)
        assert round(test.first, 4) == auc
        interval = auc_interval(own, scores, is_positive)
        assert round(standard_error(interval, test.first), 4) == error
        assert interval.method == "delong-logit"
    for scores, difference, error, chi_square, p_value in (
        (albumin, 0.0108, 0.0953, 0.0127, 0.9102),
        (protein, -0.0780, 0.1046, 0.5554, 0.4561),
    ):
        test = paired_delong(scores, -score, is_positive, fewest_cases=12)
        assert round(test.difference, 4) == difference
        assert round(test.standard_error, 4) == error
        assert round((test.difference / test.standard_error) ** 2, 4) == chi_square
        assert round(test.p_value, 4) == p_value


def test_published_figures_of_ratings_with_many_ties() -> None:
    # Five ratings of 58 normal and 51 abnormal CT images: Hanley and McNeil 1982, table 1. Stata's
    # manual ([R] roctab) gives the area .8932 and DeLong's standard error .0307.
    ratings = np.arange(1.0, 6.0)
    scores = np.concatenate(
        [np.repeat(ratings, [3, 2, 2, 11, 33]), np.repeat(ratings, [33, 6, 6, 11, 2])]
    )
    is_positive = np.arange(109) < 51
    interval = auc_interval(patients_of_one_unit(109), scores, is_positive)
    auc = float(auc_function(patients_of_one_unit(109), scores, is_positive)(np.ones((1, 109)))[0])
    assert round(auc, 4) == 0.8932
    assert round(standard_error(interval, auc), 4) == 0.0307


def slow_variance(patients, scores, is_positive) -> float:
    """Obuchowski 1997, sum by sum, over pairs of units."""
    positives, normals = np.flatnonzero(is_positive), np.flatnonzero(~is_positive)

    def win(x: int, y: int) -> float:
        return float(scores[x] > scores[y]) + float(scores[x] == scores[y]) / 2

    v10 = {x: np.mean([win(x, y) for y in normals]) for x in positives}
    v01 = {y: np.mean([win(x, y) for x in positives]) for y in normals}
    auc = np.mean(list(v10.values()))
    m, n = len(positives), len(normals)
    everyone = sorted(set(patients.tolist()))
    of_positives = [sum(v10[x] - auc for x in positives if patients[x] == p) for p in everyone]
    of_normals = [sum(v01[y] - auc for y in normals if patients[y] == p) for p in everyone]
    i10, i01 = len(set(patients[positives].tolist())), len(set(patients[normals].tolist()))
    s10 = i10 / ((i10 - 1) * m) * sum(x**2 for x in of_positives)
    s01 = i01 / ((i01 - 1) * n) * sum(y**2 for y in of_normals)
    s11 = sum(x * y for x, y in zip(of_positives, of_normals, strict=True))
    s11 *= len(everyone) / (len(everyone) - 1)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_levels", [None, 3])
@pytest.mark.parametrize("n_patients", [12, 200])
def test_the_variance_equals_its_definition(
    seed: int, n_levels: int | None, n_patients: int
) -> None:
    random = np.random.default_rng(seed)
    patients = random.integers(0, n_patients, 40).astype(np.intp)
    is_positive = random.random(40) < 0.4
    scores = random.normal(is_positive * 1.0)
    if n_levels:
        scores = np.round(scores * n_levels / 3)
    interval = auc_interval(patients, scores, is_positive)
    auc = float(auc_function(patients, scores, is_positive)(np.ones((1, n_patients)))[0])
    expected = math.sqrt(slow_variance(patients, scores, is_positive))
    assert standard_error(interval, auc) == pytest.approx(expected, rel=1e-9)
    assert interval.method == "obuchowski-logit"


def test_the_variance_is_that_of_all_resamplings_of_a_small_set() -> None:
    """DeLong's variance, with divisors M and N, is close to that of the bootstrap without noise."""
    random = np.random.default_rng(3)
    is_positive = np.arange(90) < 40
    scores = random.normal(is_positive * 1.2)
    own = patients_of_one_unit(90)
    auc = auc_function(own, scores, is_positive)
    weights = resampling_weights(is_positive.astype(np.intp), 20_000, seed=1).astype(float)
    bootstrap = auc(weights).std()
    value = float(auc(np.ones((1, 90)))[0])
    error = standard_error(auc_interval(own, scores, is_positive), value)
    assert error == pytest.approx(bootstrap, rel=0.03)


def test_copies_of_units_in_a_patient_add_nothing() -> None:
    random = np.random.default_rng(0)
    is_positive = np.arange(50) < 20
    scores = random.normal(is_positive * 1.0)
    own = patients_of_one_unit(50)
    once = auc_interval(own, scores, is_positive)
    thrice = auc_interval(*(np.repeat(values, 3) for values in (own, scores, is_positive)))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), rel=1e-12)
    assert (once.method, thrice.method) == ("delong-logit", "obuchowski-logit")


def test_a_weight_is_as_many_copies_of_a_unit() -> None:
    random = np.random.default_rng(0)
    is_positive = np.arange(50) < 20
    scores = np.round(random.normal(is_positive * 1.0), 1)  # with ties
    patients = random.integers(0, 30, 50).astype(np.intp)
    weights = random.integers(1, 4, 50)
    weighted = auc_interval(patients, scores, is_positive, weights.astype(float))
    copies = auc_interval(*(np.repeat(each, weights) for each in (patients, scores, is_positive)))
    assert (weighted.low, weighted.high) == pytest.approx((copies.low, copies.high), rel=1e-9)
    own = patients_of_one_unit(50)
    perfect = auc_interval(own, is_positive.astype(float), is_positive, 0.1 * weights)
    assert perfect == auc_interval(own, is_positive.astype(float), is_positive)


def test_a_perfect_order_is_bounded_by_its_disjoint_pairs() -> None:
    is_positive = np.array([True] * 3 + [False] * 5)
    scores = is_positive.astype(float)
    best = auc_interval(patients_of_one_unit(8), scores, is_positive)
    # Three disjoint pairs, all won: p^3 = .025.
    assert (best.low, best.high) == (pytest.approx(0.025 ** (1 / 3)), 1.0)
    worst = auc_interval(patients_of_one_unit(8), -scores, is_positive)
    assert (worst.low, worst.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 3)))
    assert best.method == worst.method == "disjoint-pairs"


def test_disjoint_pairs_of_patients() -> None:
    def pairs(positives: str, normals: str) -> int:
        return disjoint_pairs(*(np.array([ord(p) for p in each]) for each in (positives, normals)))

    assert pairs("abc", "defgh") == 3
    assert pairs("aab", "bcd") == 2  # b is in one pair only
    assert pairs("abc", "abc") == 1  # three patients: one pair, and one left over
    assert pairs("abcd", "abcd") == 2
    assert pairs("a", "a") == 0


def test_why_there_is_no_interval() -> None:
    one_positive = np.array([True, False, False, False])
    interval = auc_interval(patients_of_one_unit(4), np.array([2.0, 1.0, 3.0, 4.0]), one_positive)
    assert (interval.method, math.isnan(interval.low)) == (None, True)
    assert "there are 1 and 3" in str(interval.reason)
    interval = auc_interval(patients_of_one_unit(4), np.array([2.0, 1.0, 3.0, 4.0]), ~one_positive)
    assert "there are 3 and 1" in str(interval.reason)
    half = np.array([True, True, False, False])
    interval = auc_interval(patients_of_one_unit(4), np.zeros(4), half)
    assert "every patient fares alike" in str(interval.reason)
    interval = auc_interval(np.zeros(4, np.intp), half.astype(float), half)
    assert "all units are one patient's" in str(interval.reason)


def binormal(random, n_positive: int, n_normal: int, auc: float, units: int, correlation: float):
    """(patients, scores, is_positive): ``units`` of each patient; one of a positive is positive."""
    n = n_positive + n_normal
    patients = np.repeat(np.arange(n, dtype=np.intp), units)
    is_positive = np.zeros(n * units, dtype=bool)
    is_positive[: n_positive * units : units] = True
    shared = np.repeat(random.normal(size=n), units)
    noise = correlation**0.5 * shared + (1 - correlation) ** 0.5 * random.normal(size=n * units)
    return patients, noise + is_positive * math.sqrt(2) * norm.ppf(auc), is_positive


@pytest.mark.parametrize(
    ("n_positive", "n_normal", "auc", "units"),
    [
        (100, 100, 0.85, 1),
        (60, 83, 0.95, 1),
        (60, 83, 0.97, 1),
        (20, 20, 0.9, 1),
        (60, 83, 0.97, 2),
    ],
)
def test_19_of_20_intervals_hold_the_truth(
    n_positive: int, n_normal: int, auc: float, units: int
) -> None:
    random = np.random.default_rng(0)
    n_held = 0
    for _ in range(1000):
        study = binormal(random, n_positive, n_normal, auc, units, correlation=0.5)
        interval = auc_interval(*study)
        n_held += interval.low <= auc <= interval.high
    assert 0.925 < n_held / 1000 < 0.975


def percentiles_hold(study, auc: float, weights: np.ndarray) -> bool:
    replicates = auc_function(*study)(weights)
    low, high = np.quantile(replicates, [0.025, 0.975])
    return bool(low <= auc <= high)


def test_the_percentile_interval_that_it_replaces_holds_too_seldom() -> None:
    # Why this method is there: few patients and an AUC near 1.
    random = np.random.default_rng(0)
    strata = (np.arange(40) < 20).astype(np.intp)
    weights = resampling_weights(strata, 500, seed=0).astype(float)
    studies = [binormal(random, 20, 20, 0.97, 1, 0.0) for _ in range(1000)]
    own = [auc_interval(*study) for study in studies]
    assert np.mean([i.low <= 0.97 <= i.high for i in own]) > 0.95
    assert np.mean([percentiles_hold(study, 0.97, weights) for study in studies]) < 0.9
