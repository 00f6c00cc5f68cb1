"""The charts of a report for papers: PNG and SVG by matplotlib.

Every picture is returned as bytes; nothing is written, and matplotlib's global state (backend,
current figure) is not touched: it is imported inside the functions, and drawn to its own canvas.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from simfrcnn.evaluation.reporting.charts import (
    COLOURS,
    Chart,
    Line,
    calibration_charts,
    decision_charts,
    froc_charts,
    froc_line,
    precision_recall_charts,
    roc_charts,
)
from simfrcnn.evaluation.results import Curve, Report

Drawn = Mapping[Literal["png", "svg"], bytes]
"""One picture as files of both formats."""

PICTURES: Mapping[str, Callable[[Report], tuple[Chart, ...]]] = {
    "roc": roc_charts,
    "froc": froc_charts,
    "precision_recall": precision_recall_charts,
    "calibration": calibration_charts,
    "decision": decision_charts,
}
GREY = "#777777"
_STYLES = ("-", "--", ":", "-.")
_WIDTHS = (2.6, 2.1, 1.7, 1.3)
"""Falling, so that curves that coincide are all seen."""
_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle": "^"}
_PANEL_INCHES = 3.9
_MARGINS_INCHES = {"left": 0.62, "right": 0.12, "top": 0.32}
"""Around the square of a panel: room for its labels, which are all of one size."""
_DPI = 130


def pictures_of(report: Report) -> dict[str, tuple[Chart, ...]]:
    """The charts of a report by the name of their picture; those without data are left out."""
    pictures = {name: charts_of(report) for name, charts_of in PICTURES.items()}
    return {name: charts for name, charts in pictures.items() if charts}


def draw_charts(charts: Sequence[Chart]) -> Drawn:
    """Charts side by side, each with its legend below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    side = _PANEL_INCHES - _MARGINS_INCHES["left"] - _MARGINS_INCHES["right"]
    n_entries = max(len(chart.lines) for chart in charts)
    width = _PANEL_INCHES * len(charts)
    height = _MARGINS_INCHES["top"] + side + 0.62 + 0.19 * n_entries
    drawing = Drawing(figsize=(width, height))
    FigureCanvasAgg(drawing)
    for number, chart in enumerate(charts):
        left = number * _PANEL_INCHES + _MARGINS_INCHES["left"]
        bottom = height - _MARGINS_INCHES["top"] - side
        place = (left / width, bottom / height, side / width, side / height)
        _draw_chart(drawing.add_axes(place), chart)
    return rendered(drawing)


def _draw_chart(axes: Any, chart: Chart) -> None:
    if chart.has_diagonal:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for number, line in enumerate(chart.lines):
        _draw_line(axes, chart, number % len(COLOURS), line)
    if chart.x.is_logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(chart.x.ticks, [f"{tick:g}" for tick in chart.x.ticks])
    axes.minorticks_off()
    margin = 0.0 if chart.x.is_logarithmic else 0.01 * (chart.x.high - chart.x.low)
    height = chart.y.high - chart.y.low
    axes.set(
        xlim=(chart.x.low - margin, chart.x.high + margin),
        ylim=(chart.y.low - 0.01 * height, chart.y.high + 0.02 * height),
        xlabel=chart.x.label,
        ylabel=chart.y.label,
    )
    axes.set_box_aspect(1)
    axes.set_title(chart.title, fontsize=10)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=7.5, frameon=False)


def _draw_line(axes: Any, chart: Chart, series: int, line: Line) -> None:
    colour = COLOURS[series]
    style = {"color": colour, "linestyle": _STYLES[series], "linewidth": _WIDTHS[series]}
    if not line.x:
        axes.plot([], [], label=f"{line.label} (no curve)", **style)
        return
    if line.band is not None:
        band = line.band
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
    if line.low:
        below = [max(0.0, y - low) for y, low in zip(line.y, line.low, strict=True)]
        above = [max(0.0, high - y) for y, high in zip(line.y, line.high, strict=True)]
        axes.errorbar(line.x, line.y, (below, above), fmt="o", color=colour, capsize=2)
    drawn = "steps-post" if chart.shape == "steps" else "default"
    axes.plot(line.x, line.y, drawstyle=drawn, label=line.label, **style)
    for mark in line.marks:
        axes.plot(mark.x, mark.y, marker=_MARKERS[mark.shape], color=colour, zorder=3)


def froc_steps(curve: Curve) -> tuple[list[float], list[float]]:
    """The curve from the left edge of the (logarithmic) axis to its right edge."""
    line = froc_line("", "", curve)
    return list(line.x), list(line.y)


def canvas(width: float, height: float) -> tuple[Any, Any]:
    """A drawing of its own (inches) and its axes, apart from matplotlib's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing, drawing.add_subplot()


def rendered(drawing: Any) -> Drawn:
    """The picture without a time stamp, so that the same report gives the same files.

    The layout is found once, for it takes longer than drawing.
    """
    from matplotlib import rc_context

    drawing.set_dpi(_DPI)
    engine = drawing.get_layout_engine()
    if engine is not None:
        engine.execute(drawing)
        drawing.set_layout_engine("none")
    png, svg = io.BytesIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": "simfrcnn"}):
        drawing.savefig(png, format="png", dpi=_DPI)
        drawing.savefig(svg, format="svg", metadata={"Date": None})
    return {"png": png.getvalue(), "svg": svg.getvalue()}


def by_file_name(pictures: Mapping[str, Drawn]) -> dict[str, bytes]:
    """Pictures by name -> files by name."""
    return {
        f"{name}.{kind}": file for name, drawn in pictures.items() for kind, file in drawn.items()
    }
