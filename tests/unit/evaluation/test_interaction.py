"""Do the AUCs of subgroups differ by more than chance?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import chi2

from simfrcnn.evaluation.case import KnownUnits
from simfrcnn.evaluation.delong import auc_components, auc_variance
from simfrcnn.evaluation.interaction import auc_interaction


def group(seed: int, gain: float, n: int = 60, first_patient: int = 0) -> KnownUnits:
    generator = np.random.default_rng(seed)
    is_positive = np.arange(n) < n // 2
    scores = generator.normal(size=n) + gain * is_positive
    return KnownUnits(np.arange(n) + first_patient, scores, is_positive)


def test_two_groups_of_other_patients_are_compared_by_their_own_variances() -> None:
    one, other = group(0, 1.0), group(1, 2.0, first_patient=60)
    test = auc_interaction("density", "case/auc", {"a": one, "b": other})
    aucs, variances = [], []
    for each in (one, other):
        below, above = auc_components(each.scores, each.is_positive)
        owners = each.patients[each.is_positive], each.patients[~each.is_positive]
        auc = below.mean()
        aucs.append(auc)
        variances.append(auc_variance(below, above, *owners) / (auc * (1 - auc)) ** 2)
    z = (logit(aucs[1]) - logit(aucs[0])) / math.sqrt(sum(variances))
    assert test.statistic == pytest.approx(z**2)
    assert test.degrees == 1
    assert test.p_value == pytest.approx(chi2.sf(z**2, 1))
    assert test.to_json()["p_value"] == test.p_value


def test_a_group_against_itself_with_noise_is_paired() -> None:
    """Views of the same patients: their luck cancels, so that a small difference is seen."""
    one = group(2, 1.0, n=200)
    worse = one.scores - 0.3 * one.is_positive + np.random.default_rng(5).normal(size=200) * 0.05
    apart = auc_interaction(
        "view", "image/auc", {"CC": one, "MLO": KnownUnits(one.patients, worse, one.is_positive)}
    )
    others = KnownUnits(one.patients + 200, worse, one.is_positive)
    unpaired = auc_interaction("view", "image/auc", {"CC": one, "MLO": others})
    assert apart.p_value < 1e-6 < unpaired.p_value


def test_the_size_of_the_test_is_what_it_says() -> None:
    n_wrong = 0
    for seed in range(400):
        groups = {
            name: group(1000 + 3 * seed + k, 1.0, first_patient=60 * k)
            for k, name in enumerate("abc")
        }
        n_wrong += auc_interaction("k", "case/auc", groups).p_value < 0.05
    assert 0.02 <= n_wrong / 400 <= 0.08


def test_small_groups_are_left_out_and_said_so() -> None:
    groups = {"a": group(0, 1.0), "b": group(1, 1.0, first_patient=60), "c": group(2, 1.0, n=38)}
    test = auc_interaction("density", "case/auc", groups)
    assert (test.groups, test.left_out, test.degrees) == (("a", "b"), ("c",), 1)
    alone = auc_interaction("density", "case/auc", {"a": groups["a"], "c": groups["c"]})
    assert math.isnan(alone.p_value)
    assert "it needs two groups with 20 patients of either kind; there is 1" in str(alone.reason)
    assert alone.to_json()["p_value"] is None


def test_a_perfect_group_has_no_test() -> None:
    perfect = group(0, 100.0)
    other = group(1, 1.0, first_patient=60)
    test = auc_interaction("density", "case/auc", {"a": perfect, "b": other})
    assert "exactly 1 or 0" in str(test.reason)
    same = auc_interaction("density", "case/auc", {"a": other, "b": other})
    assert "do not vary independently" in str(same.reason)
