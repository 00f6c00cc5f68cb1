"""Pictures of several models over each other: ROC, FROC and paired differences.

Every model may have several trainings (a thin line each). As in
:mod:`simfrcnn.evaluation.reporting.figures`, pictures are returned as bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from simfrcnn.evaluation.comparison import Comparison, Difference
from simfrcnn.evaluation.metrics import metric_of
from simfrcnn.evaluation.reporting.charts import FPPI_RANGE
from simfrcnn.evaluation.reporting.figures import GREY, Drawn, canvas, froc_steps, rendered
from simfrcnn.evaluation.results import Curve

# Paul Tol's "muted" and "bright" colours, alternating with line styles when they run out.
_COLOURS = (
    *("#332288", "#CC3311", "#117733", "#EE7733", "#0077BB", "#AA4499"),
    *("#999933", "#33BBEE", "#882255", "#44AA99"),
)
_STYLES = ("-", "--", ":")


@dataclass(frozen=True)
class Model:
    """One model of an overlay: what the legend calls it, and a curve for each training."""

    label: str
    curves: tuple[Curve, ...]


def draw_roc_overlay(models: Sequence[Model], title: str) -> Drawn:
    """ROC by case: one colour per model."""
    drawing, axes = canvas(8.8, 5.4)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for model, style in _styled(models):
        lines = [((0.0, *curve.x), (0.0, *curve.y)) for curve in model.curves if curve.x]
        _draw(axes, lines, model.label, **style)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 - specificity", ylabel="sensitivity")
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=9)
    return _finished(drawing, axes)


def draw_froc_overlay(models: Sequence[Model], title: str) -> Drawn:
    """FROC per finding: one colour per model."""
    drawing, axes = canvas(8.2, 5.0)
    for model, style in _styled(models):
        lines = [froc_steps(curve) for curve in model.curves if curve.x]
        _draw(axes, lines, model.label, drawstyle="steps-post", **style)
    ticks = (0.1, 0.25, 0.5, 1, 2, 4, 8)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlim=FPPI_RANGE, ylim=(0, 1.02))
    axes.set(xlabel="false positives per image", ylabel="sensitivity per finding")
    axes.set_title(title, fontsize=9)
    return _finished(drawing, axes)


def draw_differences(
    pairs: Sequence[tuple[str, Comparison | None]],
    metrics: Sequence[str],
) -> Drawn:
    """Paired differences; the thick interval is over patients, small marks are trainings.

    Of several trainings a thin interval is over trainings and patients.

    Args:
        pairs: What each row is called, and its differences; None where they are missing.
        metrics: A panel for each, by its key.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(10, 1.2 + 0.28 * len(pairs)), layout="constrained")
    FigureCanvasAgg(drawing)
    panels = drawing.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, key in zip(panels, metrics, strict=True):
        panel.axvline(0, color=GREY, linewidth=0.8)
        for row, (_, comparison) in enumerate(pairs):
            if comparison is not None:
                _draw_difference(panel, comparison.differences[key], row)
        panel.set_title(metric_of(key).name, fontsize=9)
        panel.grid(axis="x", color="#dddddd", linewidth=0.5)
    panels[0].set_yticks(range(len(pairs)), [label for label, _ in pairs], fontsize=8)
    panels[0].set_ylim(max(len(pairs), 1) - 0.5, -0.5)  # one model alone has no pair
    has_seeds = any(_n_trainings(comparison) > 1 for _, comparison in pairs)
    marks = " over patients (thick), over trainings and patients (thin); marks: seeds"
    marks = marks if has_seeds else ""
    drawing.supxlabel(f"difference on the same cases, 95% interval{marks}", fontsize=8)
    return rendered(drawing)


def _n_trainings(comparison: Comparison | None) -> int:
    return 0 if comparison is None else len(comparison.delong)


def _draw_difference(panel: Any, difference: Difference, row: int) -> None:
    figure = difference.figure
    if math.isnan(figure.value):
        return
    if not math.isnan(figure.low):
        panel.plot([figure.low, figure.high], [row, row], color=_COLOURS[0], linewidth=1.6)
    whole = difference.over_trainings
    if whole.reason is None:
        panel.plot([whole.low, whole.high], [row, row], color=_COLOURS[0], linewidth=0.7)
    panel.plot([figure.value], [row], marker="o", markersize=5, color=_COLOURS[0])
    seeds = list(difference.by_seed) if len(difference.by_seed) > 1 else []
    panel.plot(
        seeds, [row + 0.25] * len(seeds), linestyle="", marker="|", markersize=5, color=_COLOURS[1]
    )


def _styled(models: Sequence[Model]) -> Iterator[tuple[Model, dict[str, str]]]:
    for index, model in enumerate(models):
        turn, place = divmod(index, len(_COLOURS))
        yield model, {"color": _COLOURS[place], "linestyle": _STYLES[turn % len(_STYLES)]}


def _draw(axes: Any, lines: Sequence[Any], label: str, **style: Any) -> None:
    """Thin where a model has several lines; the legend's line is always bold."""
    axes.plot([], [], label=label, linewidth=1.6, **style)
    for x, y in lines:
        axes.plot(x, y, linewidth=0.8 if len(lines) > 1 else 1.3, alpha=0.8, **style)


def _finished(drawing: Any, axes: Any) -> Drawn:
    axes.grid(color="#dddddd", linewidth=0.5)
    drawing.legend(loc="outside right upper", fontsize=7, frameon=False)
    return rendered(drawing)
