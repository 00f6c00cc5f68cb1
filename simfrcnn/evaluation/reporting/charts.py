"""Which curves does a report show?

A chart is described once; ``figures`` draws it for papers (matplotlib) and ``vector`` for the page
(SVG that follows light and dark).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from simfrcnn.evaluation.average_precision import ap_key
from simfrcnn.evaluation.matching import hit_criterion
from simfrcnn.evaluation.results import (
    Band,
    CalibrationBin,
    Curve,
    Figure,
    OperatingPoint,
    OperatingRule,
    Report,
)

# Colours of Okabe and Ito 2008: distinct also with colour-blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DASHES = ("", "7 3", "2 2", "9 3 2 3")
"""As well as colours, so that a grey print can be read."""
FPPI_RANGE = (0.05, 10.0)
FPPI_TICKS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
POPULATION_LABELS = {
    "all": "all images",
    "normal": "normal images",
    "positive": "positive images",
    "gap": "positive less all",
}


@dataclass(frozen=True)
class Axis:
    """From ``low`` to ``high``; logarithmic or even."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    is_logarithmic: bool = False


MarkShape = Literal["circle", "square", "diamond", "triangle"]
MARKS: dict[OperatingRule, MarkShape] = {
    "fixed": "circle",
    "youden": "square",
    "sensitivity": "diamond",
    "specificity": "triangle",
}
"""What an operating point looks like on a curve."""
SENSITIVITY = Axis("sensitivity", 0.0, 1.0, _SHARES)


@dataclass(frozen=True)
class Mark:
    """A single point of a line, with what it stands for."""

    x: float
    y: float
    label: str
    shape: MarkShape


@dataclass(frozen=True)
class Line:
    """A curve: points, the score of each (or none), a band round it and marks on it.

    ``low`` and ``high`` are error bars at the points, given where the line is one of single points.
    """

    key: str
    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    scores: tuple[float, ...] = ()
    band: Band | None = None
    marks: tuple[Mark, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Lines over two axes. ``shape``: points joined, or steps that hold to the next point."""

    name: str
    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    shape: Literal["joined", "steps"] = "joined"
    has_diagonal: bool = False


def roc_charts(report: Report) -> tuple[Chart, ...]:
    """Sensitivity against 1 - specificity of every level, with the operating points."""
    lines = []
    for level, curve in report.roc.items():
        x, y = ((0.0, *curve.x), (0.0, *curve.y)) if curve.x else ((), ())
        scores = (float("inf"), *curve.scores) if curve.x else ()
        label = f"by {level}: AUC {_short(report.figures.get(f'{level}/auc'))}"
        band = report.bands.get(f"roc/{level}")
        lines.append(Line(level, label, x, y, scores, band, _roc_marks(report, level)))
    axis = Axis("1 - specificity", 0.0, 1.0, _SHARES)
    return (Chart("roc", "ROC", axis, SENSITIVITY, tuple(lines), has_diagonal=True),)


def froc_charts(report: Report) -> tuple[Chart, ...]:
    """Sensitivity per finding against false positives per image: a chart for each criterion."""
    axis = Axis("false positives per image", *FPPI_RANGE, FPPI_TICKS, is_logarithmic=True)
    charts = []
    for criterion in dict.fromkeys(name.split("/")[0] for name in report.froc):
        lines = []
        for name, curve in report.froc.items():
            of_criterion, population = name.split("/", 1)
            if of_criterion == criterion:
                label = POPULATION_LABELS.get(population, population)
                lines.append(froc_line(population, label, curve, report.bands.get(f"froc/{name}")))
        title = f"FROC: {hit_criterion(criterion).label}"
        charts.append(
            Chart(f"froc-{criterion}", title, axis, SENSITIVITY, tuple(lines), shape="steps")
        )
    return tuple(charts)


def precision_recall_charts(report: Report) -> tuple[Chart, ...]:
    """Precision against recall per finding, a line for each IoU threshold."""
    lines = []
    for name, curve in report.precision_recall.items():
        figure = report.figures.get(ap_key(float(name)))
        label = f"IoU >= {name}" + (f": AP {_short(figure)}" if figure else "")
        band = report.bands.get(f"precision_recall/{name}")
        lines.append(Line(name, label, curve.x, curve.y, curve.scores, band))
    recall = Axis("recall of findings", 0.0, 1.0, _SHARES)
    precision = Axis("precision", 0.0, 1.0, _SHARES)
    chart = Chart("precision-recall", "Precision and recall", recall, precision, tuple(lines))
    return (chart,) if lines else ()


def calibration_charts(report: Report) -> tuple[Chart, ...]:
    """What was so against what the score says, by bins of the score: a chart for each level."""
    score = Axis("mean score", 0.0, 1.0, _SHARES)
    observed = Axis("part that is positive", 0.0, 1.0, _SHARES)
    return tuple(
        Chart(
            f"calibration-{level}",
            f"Calibration by {level}",
            score,
            observed,
            (_calibration_line(level, bins),),
            has_diagonal=True,
        )
        for level, bins in report.calibration.items()
    )


def decision_charts(report: Report) -> tuple[Chart, ...]:
    """Net benefit per 1,000 against threshold probability, by level; none without probabilities.

    The axis of thresholds ends where it matters: a hundred women of whom one has cancer are not
    recalled from .5 on.
    """
    charts = []
    for level, curve in report.decisions.items():
        end = next((x for x in _ENDS if x >= 5 * curve.prevalence), _ENDS[-1])
        model, everybody = (
            _until(end, curve.thresholds, [1000 * each for each in heights])
            for heights in (curve.model, curve.recall_all)
        )
        highest = max(1000 * curve.prevalence, *model[1])
        lowest = min(-highest / 4, *model[1])
        y = Axis("net benefit per 1,000", lowest, highest, _ticks_to(highest))
        band = report.bands.get(f"net_benefit/{level}")
        lines = (
            Line("model", "the model", *model, band=_per_1000(band, end)),
            Line("all", "recall everybody", *_from(lowest, *everybody)),
            Line("none", "recall nobody", (0.0, end), (0.0, 0.0)),
        )
        x = Axis("threshold probability", 0.0, end, tuple(end * n / 5 for n in range(6)))
        charts.append(Chart(f"decision-{level}", f"Net benefit by {level}", x, y, lines))
    return tuple(charts)


_ENDS = (0.05, 0.1, 0.2, 0.5)


def _ticks_to(highest: float) -> tuple[float, ...]:
    """0, half and all of the largest round number that is not above ``highest``."""
    size = 10 ** math.floor(math.log10(highest))
    top = math.floor(highest / size + 1e-9) * size
    return (0.0, top / 2, top)


Points = tuple[tuple[float, ...], tuple[float, ...]]


def _until(end: float, x: Sequence[float], y: Sequence[float]) -> Points:
    """The points up to ``end``, which is one of ``x``."""
    kept = [(one, other) for one, other in zip(x, y, strict=True) if one <= end]
    return tuple(one for one, _ in kept), tuple(other for _, other in kept)


def _from(low: float, x: Sequence[float], y: Sequence[float]) -> Points:
    """A falling line down to the height ``low``: below the axis it would cross the labels."""
    n = sum(height >= low for height in y)
    if n in (0, len(y)):
        return tuple(x[:n]), tuple(y[:n])
    share = (y[n - 1] - low) / (y[n - 1] - y[n])
    return (*x[:n], x[n - 1] + share * (x[n] - x[n - 1])), (*y[:n], low)


def _per_1000(band: Band | None, end: float) -> Band | None:
    if band is None:
        return None
    x, low = _until(end, band.x, [1000 * each for each in band.low])
    return Band(x, low, _until(end, band.x, [1000 * each for each in band.high])[1])


def froc_line(key: str, label: str, curve: Curve, band: Band | None = None) -> Line:
    """A FROC curve from the left edge of the (logarithmic) axis to its right edge."""
    if not curve.x:
        return Line(key, label, (), ())
    left, right = FPPI_RANGE
    points = list(zip(curve.x, curve.y, curve.scores, strict=True))
    before = [(y, score) for x, y, score in points if x <= left]
    later = [point for point in points if point[0] > left]
    start, start_score = before[-1] if before else (0.0, float("inf"))
    x = (left, *(x for x, _, _ in later), max(right, curve.x[-1]))
    y = (start, *(y for _, y, _ in later), curve.y[-1])
    return Line(
        key, label, x, y, (start_score, *(s for _, _, s in later), curve.scores[-1]), band=band
    )


def _calibration_line(level: str, bins: Sequence[CalibrationBin]) -> Line:
    return Line(
        level,
        f"by {level}",
        tuple(one.mean_score for one in bins),
        tuple(one.observed for one in bins),
        low=tuple(one.observed_low for one in bins),
        high=tuple(one.observed_high for one in bins),
    )


def _roc_marks(report: Report, level: str) -> tuple[Mark, ...]:
    """Where the operating points lie; the score threshold's own where there is none."""
    points = [point for point in report.operating_points if point.level == level]
    if all(point.rule != "fixed" for point in points):
        points.insert(0, OperatingPoint(level, "fixed", report.settings.score_threshold))
    marks = []
    for point in points:
        sensitivity = report.figures.get(f"{point.key}/sensitivity")
        specificity = report.figures.get(f"{point.key}/specificity")
        if sensitivity is None or specificity is None:
            continue
        x, y = 1 - specificity.value, sensitivity.value
        if x == x and y == y:
            label = f"{point.rule}, score >= {point.score_threshold:.3g}"
            marks.append(Mark(x, y, label, MARKS[point.rule]))
    return tuple(marks)


def _short(figure: Figure | None) -> str:
    if figure is None or figure.value != figure.value:
        return "undefined"
    if figure.low != figure.low:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f}-{figure.high:.3f})"
