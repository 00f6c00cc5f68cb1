"""The pictures of a ladder: ROC and FROC of all rungs over each other, and the differences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from simfrcnn.evaluation.comparison import METRICS, PRIMARY
from simfrcnn.evaluation.figures import FPPI_RANGE, GREY, ImageFormat, canvas, froc_steps, rendered
from simfrcnn.evaluation.results import Curve
from simfrcnn.ladder.results import LadderResult, RungResult

# Paul Tol's "muted" and "bright" colours, alternating with line styles when they run out.
_COLOURS = (
    *("#332288", "#CC3311", "#117733", "#EE7733", "#0077BB", "#AA4499"),
    *("#999933", "#33BBEE", "#882255", "#44AA99"),
)
_STYLES = ("-", "--", ":")
_SHOWN = (PRIMARY, "case/specificity_at_sensitivity_0.9")


def draw_rocs(result: LadderResult, image_format: ImageFormat) -> bytes:
    """ROC by case: one thin line per seed, one colour per rung."""
    drawing, axes = canvas(8.8, 5.4)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for rung, colour, style in _styled(result):
        auc = rung.figures.get(PRIMARY)
        label = f"{_label(rung)}: {auc}" if auc else f"{_label(rung)}: missing"
        curves = [model.roc for model in rung.models.values() if model.roc.x]
        lines = [((0.0, *curve.x), (0.0, *curve.y)) for curve in curves]
        _draw(axes, lines, label, color=colour, linestyle=style)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 - specificity", ylabel="sensitivity")
    axes.set_aspect("equal")
    axes.set_title("ROC by case, a line per seed; mean AUC with 95% interval", fontsize=9)
    return _finished(drawing, axes, image_format)


def draw_frocs(result: LadderResult, image_format: ImageFormat) -> bytes:
    """FROC per finding (centre in box, all images): one thin line per seed."""
    drawing, axes = canvas(8.2, 5.0)
    for rung, colour, style in _styled(result):
        curves: list[Curve] = [model.froc for model in rung.models.values() if model.froc.x]
        lines = [froc_steps(curve) for curve in curves]
        _draw(axes, lines, _label(rung), color=colour, linestyle=style, drawstyle="steps-post")
    ticks = (0.1, 0.25, 0.5, 1, 2, 4, 8)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlim=FPPI_RANGE, ylim=(0, 1.02))
    axes.set(xlabel="false positives per image", ylabel="sensitivity per finding")
    axes.set_title("FROC, centre in box, a line per seed", fontsize=9)
    return _finished(drawing, axes, image_format)


def draw_differences(result: LadderResult) -> bytes:
    """Paired differences with intervals over patients; small marks are the seeds. A PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    pairs = result.pairs
    drawing = Drawing(figsize=(10, 1.2 + 0.28 * len(pairs)), layout="constrained")
    FigureCanvasAgg(drawing)
    panels = drawing.subplots(1, len(_SHOWN), sharey=True, squeeze=False)[0]
    for panel, key in zip(panels, _SHOWN, strict=True):
        panel.axvline(0, color=GREY, linewidth=0.8)
        for row, pair in enumerate(pairs):
            if pair.comparison is not None:
                _draw_difference(panel, pair.comparison.differences[key], row)
        panel.set_title(METRICS[key], fontsize=9)
        panel.grid(axis="x", color="#dddddd", linewidth=0.5)
    labels = [f"{p.first} - {p.second}{'' if p.comparison else ' (missing)'}" for p in pairs]
    panels[0].set_yticks(range(len(pairs)), labels, fontsize=8)
    panels[0].set_ylim(max(len(pairs), 1) - 0.5, -0.5)  # a ladder of one rung has no pair
    drawing.supxlabel("difference on the same cases, 95% interval; marks: seeds", fontsize=8)
    return rendered(drawing, "png")


def _draw_difference(panel: Any, difference: Any, row: int) -> None:
    figure = difference.figure
    if math.isnan(figure.value):
        return
    if not math.isnan(figure.low):
        panel.plot([figure.low, figure.high], [row, row], color=_COLOURS[0], linewidth=1.6)
    panel.plot([figure.value], [row], marker="o", markersize=5, color=_COLOURS[0])
    seeds = list(difference.by_seed)
    panel.plot(
        seeds, [row + 0.25] * len(seeds), linestyle="", marker="|", markersize=5, color=_COLOURS[1]
    )


def _styled(result: LadderResult) -> Iterator[tuple[RungResult, str, str]]:
    for index, rung in enumerate(result.rungs):
        turn, place = divmod(index, len(_COLOURS))
        yield rung, _COLOURS[place], _STYLES[turn % len(_STYLES)]


def _draw(axes: Any, lines: list[Any], label: str, **style: Any) -> None:
    axes.plot([], [], label=label, linewidth=1.6, **style)
    for x, y in lines:
        axes.plot(x, y, linewidth=0.8, alpha=0.8, **style)


def _label(rung: RungResult) -> str:
    n = len(rung.models)
    return f"{rung.rung.name} ({n} seed{'' if n == 1 else 's'})"


def _finished(drawing: Any, axes: Any, image_format: ImageFormat) -> bytes:
    axes.grid(color="#dddddd", linewidth=0.5)
    drawing.legend(loc="outside right upper", fontsize=7, frameon=False)
    return rendered(drawing, image_format)
