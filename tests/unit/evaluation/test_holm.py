"""Are the tests of every level adjusted for all the pairs that were compared?"""

from __future__ import annotations

import math

import numpy as np
import pytest

from simfrcnn.evaluation.comparison import resample
from simfrcnn.evaluation.ranking import ModelsCompared, compare_all, holm
from simfrcnn.evaluation.reporting.auc_tests import auc_test_table, auc_tests_json
from simfrcnn.evaluation.reporting.wording import p_of
from simfrcnn.evaluation.results import NAN
from simfrcnn.records import Laterality
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import detection_file, finding, found, image

SETTINGS = EvaluationSettings(bootstrap_replicates=30)
BOX = (10, 10, 40, 40)
SKILLS = {"a": 0.0, "b": 0.15, "c": 0.3}


def compared_by(primary: str, n_patients: int = 60) -> ModelsCompared:
    """Four models on patients of two breasts, of whom half have a positive one; two are alike."""
    random = np.random.default_rng(2)
    records, images = [], {name: [] for name in (*SKILLS, "twin of c")}
    for number in range(2 * n_patients):
        is_positive = number % 4 == 0
        side = Laterality.RIGHT if number % 2 else Laterality.LEFT
        boxes = [finding(BOX, number + 1)] * is_positive
        records.append(image(number + 1, f"p{number // 2:02}", *boxes, laterality=side))
        for name, skill in SKILLS.items():
            score = float(0.6 * random.random() + skill * is_positive)
            images[name].append(found(number + 1, (BOX, score)))
    images["twin of c"] = images["c"]
    models = {
        name: resample(records, detection_file(*each), SETTINGS, with_further=True)
        for name, each in images.items()
    }
    return compare_all(models, primary)


def test_holm_as_worked_out_by_hand() -> None:
    """Of .01, .04, .03, .005: x 4 = .02, x 3 = .03, x 2 = .06, x 1 = .04, raised to .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([0.6, NAN, 0.7])  # .6 x 3 is 1, and .7 may not be below it
    assert (adjusted[0], adjusted[2]) == (1, 1)
    assert math.isnan(adjusted[1])
    # A pair without a p counts: three were compared, so .01 x 3 and .02 x 2.
    assert holm([0.01, NAN, 0.02]) == pytest.approx([0.03, NAN, 0.04], nan_ok=True)
    assert holm([0.01, 0.02], n_planned=5) == pytest.approx([0.05, 0.08])
    assert holm([]) == []


@pytest.mark.parametrize("primary", ["case/auc", "breast/auc"])
def test_every_level_is_adjusted_for_all_pairs(primary: str) -> None:
    """Also for the pair of twins, which has no p: six pairs at each level, whatever ranks."""
    compared = compared_by(primary)
    written = [auc_tests_json(pair) for pair in compared.pairs]
    for level in ("case", "patient", "breast", "image"):
        tests = [pair["delong"] if level == "case" else pair["tests"][level] for pair in written]
        p_values = sorted(test["p_value"] for test in tests if test["p_value"] is not None)
        assert len(p_values) == 5
        adjusted, largest = {}, 0.0
        for place, p in enumerate(p_values):
            largest = max(largest, (6 - place) * p)
            adjusted[p] = min(largest, 1)
        for test in tests:
            if test["p_value"] is None:
                assert test["p_holm"] is None
            else:
                assert test["p_holm"] == pytest.approx(adjusted[test["p_value"]])


def test_the_table_shows_the_adjusted_p_of_every_level() -> None:
    compared = compared_by("breast/auc")
    rows = {(row[0], row[1]): row[-1] for row in auc_test_table(compared).rows}
    assert len(rows) == 6 * 4
    for pair in compared.pairs:
        for level, p_holm in pair.p_holm.items():
            is_twins = pair.name == "c - twin of c"
            assert rows[pair.name, level] == ("-" if is_twins else p_of(p_holm))
