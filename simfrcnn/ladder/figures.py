"""The pictures of a ladder: ROC and FROC of all rungs over each other, and the differences."""

from __future__ import annotations

from simfrcnn.evaluation.metrics import PRIMARY
from simfrcnn.evaluation.reporting.figures import Drawn
from simfrcnn.evaluation.reporting.overlays import (
    Model,
    draw_differences,
    draw_froc_overlay,
    draw_roc_overlay,
)
from simfrcnn.ladder.results import LadderResult, RungResult

_SHOWN = (PRIMARY, "case/specificity_at_sensitivity_0.9")


def draw_ladder_rocs(result: LadderResult) -> Drawn:
    """ROC by case: one thin line per seed, one colour per rung."""
    models = []
    for rung in result.rungs:
        auc = rung.quoted(PRIMARY) if rung.models else "missing"
        label = f"{_label(rung)}: {auc}"
        models.append(Model(label, tuple(model.roc for model in rung.models.values())))
    title = "ROC by case, a line per seed; mean AUC with the wider 95% interval"
    return draw_roc_overlay(models, title)


def draw_ladder_frocs(result: LadderResult) -> Drawn:
    """FROC per finding (centre in box, all images): one thin line per seed."""
    models = [
        Model(_label(rung), tuple(model.froc for model in rung.models.values()))
        for rung in result.rungs
    ]
    return draw_froc_overlay(models, "FROC, centre in box, a line per seed")


def draw_ladder_differences(result: LadderResult) -> Drawn:
    """Paired differences with both intervals; small marks are the seeds."""
    rows = [
        (f"{p.first} - {p.second}{'' if p.comparison else ' (missing)'}", p.comparison)
        for p in result.pairs
    ]
    return draw_differences(rows, _SHOWN)


def _label(rung: RungResult) -> str:
    n = len(rung.models)
    return f"{rung.rung.name} ({n} seed{'' if n == 1 else 's'})"
