"""A wrong name is an error that says what is legal; a new way is one entry."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from simfrcnn.errors import ConfigError
from simfrcnn.evaluation.bootstrap import Statistic
from simfrcnn.evaluation.case import CASES, POOLINGS, pool
from simfrcnn.evaluation.comparison import resample
from simfrcnn.evaluation.matching import HIT_CRITERIA, hit_criterion
from simfrcnn.evaluation.metrics import METRICS, Judged, Metric
from simfrcnn.evaluation.ranking import require_metric
from simfrcnn.evaluation.results import OperatingRule
from simfrcnn.evaluation.thresholds import RULES, choose_point
from simfrcnn.settings import CaseBy, EvaluationSettings, Pooling
from support.evaluation_examples import random_set

PLAIN = EvaluationSettings(bootstrap_replicates=0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"pooling": "noisyor"},
            "EVAL.POOLING is 'noisyor'; legal is max | mean | noisy_or. Did you mean noisy_or?",
        ),
        ({"pooling": "top"}, "EVAL.POOLING is 'top'; legal is max"),
        (
            {"case_by": "patients"},
            "EVAL.CASE_BY is 'patients'; legal is exam | patient. Did you mean patient?",
        ),
        (
            {"unknown_images": "normals"},
            "EVAL.UNKNOWN_IMAGES is 'normals'; legal is exclude | normal. Did you mean normal?",
        ),
        (
            {"boxes_outside": "cut"},
            "EVAL.BOXES_OUTSIDE is 'cut'; legal is refuse | clip",
        ),
    ],
)
def test_a_wrong_name_in_the_settings_is_refused(setting: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        EvaluationSettings(bootstrap_replicates=0, **setting)  # type: ignore[arg-type]
    assert str(refused.value).startswith(message)


def test_a_wrong_criterion_metric_or_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hit criterion is 'center'.*Did you mean centre\?"):
        hit_criterion("center")
    with pytest.raises(ConfigError, match=r"metric is 'case/au'.*Did you mean case/auc\?"):
        require_metric("case/au")
    with pytest.raises(ConfigError, match=r"rule is 'Youden'.*Did you mean youden\?"):
        choose_point([], "case", "Youden", PLAIN, chosen_on="val")  # type: ignore[arg-type]


def test_what_a_config_may_say_is_what_there_is() -> None:
    assert set(get_args(Pooling)) == set(POOLINGS)
    assert set(get_args(CaseBy)) == set(CASES)
    assert set(get_args(OperatingRule)) == {"fixed", *RULES}


def test_poolings_by_hand() -> None:
    scores = [0.5, 0.1, 0.2]
    assert pool(scores, "max") == 0.5
    assert pool(scores, "mean") == pytest.approx(0.8 / 3)
    assert pool(scores, "noisy_or") == pytest.approx(1 - 0.5 * 0.9 * 0.8)
    for name in POOLINGS:
        assert pool([0.3], name) == 0.3


def test_a_new_metric_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def n_cases(judged: Judged) -> Statistic:
        return Statistic(
            keys=("case/count",),
            compute=lambda weights: np.full((len(weights), 1), len(judged.cases.ids), float),
            n={"case/count": {"cases": len(judged.cases.ids)}},
            why_undefined={"case/count": ""},
        )

    entry = Metric("case/count", "number of cases", "n", n_cases)
    monkeypatch.setitem(METRICS, "case/count", entry)  # type: ignore[arg-type]
    records, detections = random_set(0)
    judged = resample(records, detections, PLAIN)
    assert judged.values["case/count"].tolist() == [len(judged.cases.ids)]


def test_criteria_have_names_of_their_own() -> None:
    assert [hit_criterion(each.name) for each in HIT_CRITERIA] == list(HIT_CRITERIA)
    assert len({each.label for each in HIT_CRITERIA}) == len(HIT_CRITERIA)
