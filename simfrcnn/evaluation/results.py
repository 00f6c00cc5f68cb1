"""What an evaluation says: every figure with its interval, the curves, and the counts behind them.

A figure that cannot be computed is NaN in Python and ``null`` with a reason in JSON; never 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from simfrcnn.settings import EvaluationSettings

if TYPE_CHECKING:
    from simfrcnn.evaluation.group_differences import GroupDifference
    from simfrcnn.evaluation.interaction import Interaction
    from simfrcnn.evaluation.net_benefit import DecisionCurve
    from simfrcnn.evaluation.recalibration import Recalibration

REPORT_SCHEMA_VERSION = 2
NAN = float("nan")

Method = Literal[
    "bootstrap",
    "bootstrap-logit",
    "clopper-pearson",
    "delong-logit",
    "obuchowski-logit",
    "disjoint-pairs",
    "satterthwaite",
    "cluster-robust",
    "mover",
]
OperatingRule = Literal["fixed", "youden", "sensitivity", "specificity"]


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
    """The points of a ROC, FROC or precision-recall curve, by falling score.

    Element i is the operating point "positive if score >= ``scores[i]``". ROC: x is 1 - specificity
    and y sensitivity. FROC: x is false positives per image and y sensitivity; it holds the points
    at which sensitivity rises, and the last; between them it is flat. Precision-recall: x is recall
    and y precision.
    """

    scores: tuple[float, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]

    def to_json(self, x_name: str, y_name: str) -> dict[str, list[float]]:
        """The curve in JSON types."""
        return {"score": list(self.scores), x_name: list(self.x), y_name: list(self.y)}


@dataclass(frozen=True)
class Band:
    """Between which heights 95% of the resampled curves run, at each ``x`` by itself."""

    x: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class OperatingPoint:
    """From which score on a unit of ``level`` is called positive, and who says so.

    ``rule`` ``fixed`` is EVAL.SCORE_THRESHOLD; the others were chosen on the data set
    ``chosen_on``, where they had the ``sensitivity`` and ``specificity`` given here. ``target`` is
    the sensitivity or specificity that was asked for.
    """

    level: str
    rule: OperatingRule
    score_threshold: float
    target: float | None = None
    chosen_on: str | None = None
    sensitivity: float | None = None
    specificity: float | None = None

    @property
    def key(self) -> str:
        """How its figures begin: ``case`` for the fixed rule, else ``case/youden`` ..."""
        return self.level if self.rule == "fixed" else f"{self.level}/{self.rule}"


@dataclass(frozen=True)
class Confusion:
    """How many units of known truth are called positive and negative at an operating point."""

    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int


@dataclass(frozen=True)
class CalibrationBin:
    """Units whose score lies in [``low``, ``high``): what the score says and what was so.

    ``observed`` is the part of positive units, with its 95% interval (how it is made:
    :func:`~simfrcnn.evaluation.calibration.calibration_bins`). The last bin holds score 1 as well.
    Empty bins are left out.
    """

    low: float
    high: float
    n: int
    mean_score: float
    observed: float
    observed_low: float
    observed_high: float


@dataclass(frozen=True)
class Subgroup:
    """The figures of a part of the test set: records (or findings) whose ``key`` is ``value``."""

    key: str
    value: str
    counts: Mapping[str, Any]
    figures: Mapping[str, Figure]


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
    ``froc/centre/all/sensitivity_at_1``, ``case/youden/specificity``. ``counts`` is nested by what
    is counted. ``roc`` and ``calibration`` are keyed by level (``case``, ``breast`` ...), ``froc``
    by ``<criterion>/<false positives over>``, ``precision_recall`` by IoU threshold (``"0.5"``),
    ``units`` by level. ``bands`` are keyed ``roc/<level>``, ``froc/...``,
    ``precision_recall/...``; missing where there are no intervals. ``confusions`` has one entry for
    each of ``operating_points``, by :attr:`OperatingPoint.key`. ``recalibrations`` turn the scores
    of a level into probabilities, and ``decisions`` hold the net benefit of acting on these; both
    are keyed by level and empty where no line was fitted on a validation set. ``interactions`` test
    the subgroups of a key against one another, and ``group_differences`` set them against its
    largest. ``notes`` are things that a reader must know.
    """

    settings: EvaluationSettings
    counts: Mapping[str, Any]
    figures: Mapping[str, Figure]
    roc: Mapping[str, Curve]
    froc: Mapping[str, Curve]
    precision_recall: Mapping[str, Curve]
    bands: Mapping[str, Band]
    operating_points: tuple[OperatingPoint, ...]
    confusions: Mapping[str, Confusion]
    calibration: Mapping[str, tuple[CalibrationBin, ...]]
    subgroups: tuple[Subgroup, ...]
    units: Mapping[str, tuple[UnitScore, ...]]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    recalibrations: Mapping[str, Recalibration] = field(default_factory=dict)
    decisions: Mapping[str, DecisionCurve] = field(default_factory=dict)
    interactions: tuple[Interaction, ...] = ()
    group_differences: tuple[GroupDifference, ...] = ()

    def scalars(self) -> dict[str, float]:
        """The values of all defined figures, flat: for logs and for choosing a checkpoint."""
        values = {name: figure.value for name, figure in self.figures.items()}
        return {name: value for name, value in values.items() if not math.isnan(value)}

    def to_json(self) -> dict[str, Any]:
        """The whole report in JSON types, without NaN."""
        roc = ("one_minus_specificity", "sensitivity")
        froc = ("false_positives_per_image", "sensitivity")
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            "settings": dataclasses.asdict(self.settings),
            "counts": dict(self.counts),
            "figures": _figures_json(self.figures),
            "roc": {name: curve.to_json(*roc) for name, curve in self.roc.items()},
            "froc": {n: curve.to_json(*froc) for n, curve in self.froc.items()},
            "precision_recall": {
                name: curve.to_json("recall", "precision")
                for name, curve in self.precision_recall.items()
            },
            "bands": {name: dataclasses.asdict(band) for name, band in self.bands.items()},
            "operating_points": [dataclasses.asdict(point) for point in self.operating_points],
            "confusions": {name: dataclasses.asdict(c) for name, c in self.confusions.items()},
            "calibration": {
                level: [dataclasses.asdict(one) for one in bins]
                for level, bins in self.calibration.items()
            },
            "subgroups": [
                {
                    "key": group.key,
                    "value": group.value,
                    "counts": dict(group.counts),
                    "figures": _figures_json(group.figures),
                }
                for group in self.subgroups
            ],
            "interactions": [test.to_json() for test in self.interactions],
            "group_differences": [each.to_json() for each in self.group_differences],
            "recalibrations": {
                level: dataclasses.asdict(line) for level, line in self.recalibrations.items()
            },
            "decisions": {
                level: dataclasses.asdict(curve) for level, curve in self.decisions.items()
            },
            "units": {
                level: [dict(vars(unit)) for unit in units] for level, units in self.units.items()
            },
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }


def _figures_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in figures.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
