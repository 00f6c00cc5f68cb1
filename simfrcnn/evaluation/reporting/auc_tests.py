"""How is the paired test of two AUCs shown, level by level?"""

from __future__ import annotations

import math
from typing import Any

from simfrcnn.evaluation.comparison import delong_json, without_nan
from simfrcnn.evaluation.delong import FEWEST_CASES
from simfrcnn.evaluation.ranking import ModelPair, ModelsCompared
from simfrcnn.evaluation.reporting.documents import Table
from simfrcnn.evaluation.reporting.wording import number, p_of

RULE_OF_TESTS = (
    "DeLong: paired test of the AUC, two-sided; where a patient gives several units, Obuchowski's "
    f"(1997). It needs {FEWEST_CASES} patients with a positive and {FEWEST_CASES} with a normal "
    "unit. Holm: the p-values of a level, adjusted for all pairs compared, also those without one. "
    "Nothing is adjusted for the number of levels, and neither intervals nor ranks are adjusted."
)


def auc_test_table(compared: ModelsCompared) -> Table:
    """A row for each pair of models and each level."""
    rows = []
    for pair in compared.pairs:
        for level, (test,) in pair.comparison.tests.items():
            p_holm = pair.p_holm[level]
            rows.append(
                (
                    pair.name,
                    level,
                    number(test.difference, signed=True),
                    number(test.standard_error),
                    test.reason or p_of(test.p_value),
                    "-" if math.isnan(p_holm) else p_of(p_holm),
                )
            )
    columns = ("difference", "by", "AUC", "standard error", "p", "p, Holm")
    return Table(columns, rows, caption="Paired test of the AUC (DeLong, Obuchowski)")


def auc_tests_json(pair: ModelPair) -> dict[str, Any]:
    """``delong`` by case, and ``tests`` by the other levels, in JSON types."""
    tests = {
        level: {**delong_json(test), "p_holm": without_nan(pair.p_holm[level])}
        for level, (test,) in pair.comparison.tests.items()
    }
    return {"delong": tests.pop("case"), "tests": tests}
