"""What an evaluation says: every figure with its interval, the curves, and the counts behind them.

A figure that cannot be computed is NaN in Python and ``null`` with a reason in JSON; never 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from simfrcnn.settings import EvaluationSettings

REPORT_SCHEMA_VERSION = 1
NAN = float("nan")

Method = Literal["bootstrap", "clopper-pearson"]


@dataclass(frozen=True)
class Figure:
    """One number with its 95% interval.

    ``n`` says over what it was counted (``{"positive": 60, "normal": 83}``). ``method`` is how the
    interval was made, None where there is none. ``n_dropped`` counts bootstrap replicates in which
    the figure was undefined. ``reason`` says why the value or, if there is a value, the interval
    is missing.
    """

    value: float
    low: float = NAN
    high: float = NAN
    method: Method | None = None
    n: Mapping[str, int] = field(default_factory=dict)
    n_dropped: int = 0
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The figure in JSON types, ``null`` for NaN."""
        return {
            "value": _number(self.value),
            "low": _number(self.low),
            "high": _number(self.high),
            "method": self.method,
            "n": dict(self.n),
            "n_dropped": self.n_dropped,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        """``.912 (.853 to .957)``, or ``undefined``."""
        if math.isnan(self.value):
            return "undefined"
        if math.isnan(self.low):
            return f"{self.value:.3f} (no interval)"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Curve:
    """The points of a ROC or FROC curve, by falling score.

    Element i is the operating point "positive if score >= ``scores[i]``". ``y`` is sensitivity.
    ``x`` is 1 - specificity (ROC) or false positives per image (FROC). A FROC curve holds the
    points at which sensitivity rises, and the last; between them it is flat.
    """

    scores: tuple[float, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]

    def to_json(self, x_name: str) -> dict[str, list[float]]:
        """The curve in JSON types."""
        return {"score": list(self.scores), x_name: list(self.x), "sensitivity": list(self.y)}


@dataclass(frozen=True)
class UnitScore:
    """One image, breast or case: its score and truth (``positive``, ``normal``, ``unknown``)."""

    unit_id: str
    patient_id: str
    truth: str
    score: float


@dataclass(frozen=True)
class Report:
    """The result of one evaluation.

    ``figures`` is keyed by name, for instance ``case/auc``, ``finding/ap50``,
    ``froc/centre/all/sensitivity_at_1``. ``counts`` is nested by what is counted. ``roc`` is keyed
    by level (``image``, ``breast``, ``case``), ``froc`` by ``<criterion>/<false positives over>``,
    ``units`` by level. ``notes`` are things that a reader must know.
    """

    settings: EvaluationSettings
    counts: Mapping[str, Any]
    figures: Mapping[str, Figure]
    roc: Mapping[str, Curve]
    froc: Mapping[str, Curve]
    units: Mapping[str, tuple[UnitScore, ...]]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    def scalars(self) -> dict[str, float]:
        """The values of all defined figures, flat: for logs and for choosing a checkpoint."""
        values = {name: figure.value for name, figure in self.figures.items()}
        return {name: value for name, value in values.items() if not math.isnan(value)}

    def to_json(self) -> dict[str, Any]:
        """The whole report in JSON types, without NaN."""
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            "settings": dataclasses.asdict(self.settings),
            "counts": dict(self.counts),
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "roc": {name: c.to_json("one_minus_specificity") for name, c in self.roc.items()},
            "froc": {name: c.to_json("false_positives_per_image") for name, c in self.froc.items()},
            "units": {
                level: [dataclasses.asdict(unit) for unit in units]
                for level, units in self.units.items()
            },
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
