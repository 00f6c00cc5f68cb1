"""DeLong's paired test against its definition, written out pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from simfrcnn.evaluation.delong import paired_delong


def slow_delong(first, second, is_positive):
    """DeLong et al. 1988, equations 3 to 6: structural components, their covariance, the test."""
    n_positive, n_normal = int(is_positive.sum()), int((~is_positive).sum())
    v10, v01, aucs = [], [], []
    for scores in (first, second):
        positives, normals = scores[is_positive], scores[~is_positive]
        wins = np.array([[(x > y) + (x == y) / 2 for y in normals] for x in positives], float)
        v10.append(wins.mean(axis=1))
        v01.append(wins.mean(axis=0))
        aucs.append(wins.mean())
    covariance = np.cov(v10) / n_positive + np.cov(v01) / n_normal
    contrast = np.array([1.0, -1.0])
    error = math.sqrt(contrast @ covariance @ contrast)
    difference = aucs[0] - aucs[1]
    return aucs, difference, error, 2 * norm.sf(abs(difference) / error)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n_levels", [None, 4])
def test_equals_the_definition(seed, n_levels):
    random = np.random.default_rng(seed)
    is_positive = random.random(60) < 0.4
    first = random.normal(is_positive * 1.0)
    second = first + random.normal(0, 1.0, 60)
    if n_levels:  # ties, within and between the kinds
        first, second = np.round(first * n_levels / 4), np.round(second * n_levels / 4)
    test = paired_delong(first, second, is_positive, fewest_cases=2)
    aucs, difference, error, p_value = slow_delong(first, second, is_positive)
    assert (test.first, test.second) == pytest.approx(tuple(aucs))
    assert test.difference == pytest.approx(difference)
    assert test.standard_error == pytest.approx(error)
    assert test.p_value == pytest.approx(p_value)
    assert test.reason is None


def test_a_case_by_hand():
    """Positives 3 and 1, normals 2 and 0; the other score puts the positives on top.

    Components of the first: positives 1 and 1/2, normals 1/2 and 1; of the second all 1. The
    differences are 0, -1/2 and -1/2, 0, of variance 1/8 each: error sqrt(1/16 + 1/16).
    """
    is_positive = np.array([True, True, False, False])
    first, second = np.array([3.0, 1.0, 2.0, 0.0]), np.array([3.0, 2.0, 1.0, 0.0])
    test = paired_delong(first, second, is_positive, fewest_cases=2)
    assert (test.first, test.second, test.difference) == (0.75, 1.0, -0.25)
    assert test.standard_error == pytest.approx(math.sqrt(1 / 8))
    assert test.p_value == pytest.approx(2 * norm.sf(0.25 / math.sqrt(1 / 8)))


def test_exchanging_the_models_turns_the_sign_alone():
    random = np.random.default_rng(3)
    is_positive = np.arange(45) < 20
    first, second = random.random(45), random.random(45)
    one, other = (
        paired_delong(first, second, is_positive),
        paired_delong(second, first, is_positive),
    )
    assert one.difference == -other.difference
    assert one.p_value == pytest.approx(other.p_value)


def test_the_p_value_is_uniform_without_a_difference():
    random = np.random.default_rng(0)
    is_positive = np.arange(120) < 60
    p_values = []
    for _ in range(600):
        shared = random.normal(is_positive * 1.0)
        noisy = (shared + random.normal(0, 1, 120) for _ in range(2))
        p_values.append(paired_delong(*noisy, is_positive).p_value)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.025)
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("n_positive", "n_normal"), [(5, 5), (19, 500), (500, 19)])
def test_few_cases_have_a_difference_but_no_p_value(n_positive, n_normal):
    random = np.random.default_rng(0)
    is_positive = np.arange(n_positive + n_normal) < n_positive
    first, second = random.random((2, len(is_positive)))
    few = paired_delong(first, second, is_positive)
    tested = paired_delong(first, second, is_positive, fewest_cases=2)
    assert math.isnan(few.p_value)
    assert 0 < tested.p_value < 1
    assert (few.difference, few.standard_error) == (tested.difference, tested.standard_error)
    assert few.reason == (
        "no test with fewer than 20 patients with a positive and 20 with a normal unit; there are "
        f"{n_positive} and {n_normal}"
    )


def test_two_and_two_cases_would_look_significant():
    """The reason for a minimum: four cases, p = .034."""
    is_positive = np.array([True, True, False, False])
    first, second = np.array([0.9, 0.8, 0.3, 0.1]), np.array([0.2, 0.5, 0.6, 0.4])
    tested = paired_delong(first, second, is_positive, fewest_cases=2)
    assert tested.difference == 0.75
    assert tested.p_value == pytest.approx(0.0339, abs=1e-4)
    assert math.isnan(paired_delong(first, second, is_positive).p_value)


@pytest.mark.parametrize(
    ("n_positive", "errs_at_least", "errs_at_most"), [(5, 0.08, 0.14), (20, 0.03, 0.08)]
)
def test_how_often_the_test_errs_with_few_positives(n_positive, errs_at_least, errs_at_most):
    """The numbers behind FEWEST_CASES: equally good models (AUC .75), 200 normal cases."""
    random = np.random.default_rng(1)
    is_positive = np.arange(n_positive + 200) < n_positive
    mean = is_positive * norm.ppf(0.75) * math.sqrt(2)
    n_wrong = 0
    for _ in range(2000):
        first, second = mean + random.standard_normal((2, len(is_positive)))
        n_wrong += paired_delong(first, second, is_positive, fewest_cases=5).p_value < 0.05
    assert errs_at_least < n_wrong / 2000 < errs_at_most


def test_what_cannot_be_tested_is_nan_with_a_reason():
    scores = np.array([0.9, 0.8, 0.3, 0.1])
    same = paired_delong(scores, scores, np.array([True, True, False, False]))
    assert math.isnan(same.p_value)
    assert "no variance" in same.reason
    # Perfect against blind: every case fares better by one half.
    blind = paired_delong(scores, np.zeros(4), np.array([True, True, False, False]))
    assert (blind.difference, math.isnan(blind.p_value)) == (0.5, True)
    assert "all cases differ alike" in blind.reason
    for is_positive, numbers in (([1, 0, 0, 0], "1 and 3"), ([1, 1, 1, 0], "3 and 1")):
        few = paired_delong(scores, scores, np.array(is_positive, dtype=bool))
        assert math.isnan(few.difference)
        assert numbers in few.reason


def test_copies_of_the_cases_of_a_patient_add_nothing():
    random = np.random.default_rng(4)
    is_positive = np.arange(45) < 20
    first, second = random.random((2, 45))
    once = paired_delong(first, second, is_positive)
    thrice = paired_delong(
        *(np.repeat(values, 3) for values in (first, second, is_positive)),
        patients=np.repeat(np.arange(45), 3),
    )
    assert 0 < once.p_value < 1
    assert thrice.standard_error == pytest.approx(once.standard_error)
    assert thrice.p_value == pytest.approx(once.p_value)
