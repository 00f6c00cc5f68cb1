"""How is a chart drawn in the page itself?

As inline SVG (``page_files/chart.html``) whose colours are the page's own variables, so that it
follows light, dark and print; and as numbers for the script that reads values under the pointer.
Curves are thinned to what the eye can see: a ROC curve of 100,000 units has as many points.

Shapes: N points of a line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simfrcnn.evaluation.reporting.charts import DASHES, Axis, Chart, Line
from simfrcnn.evaluation.reporting.templates import render
from simfrcnn.evaluation.results import Band

if TYPE_CHECKING:
    from markupsafe import Markup

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 42
_PLOT_WIDTH = _PLOT_HEIGHT = 300
_LEAST_STEP = 0.4
"""A point nearer than this (px) to the last one is left out."""
_MARK_PATHS = {
    "circle": "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z",
    "square": "M-4.5 -4.5H4.5V4.5H-4.5Z",
    "diamond": "M0 -6L6 0L0 6L-6 0Z",
    "triangle": "M0 -6L5.5 4H-5.5Z",
}


def chart_html(chart: Chart) -> Markup:
    """The chart with its legend, as a ``<figure>``; all words in it are escaped."""
    frame = _Frame(chart)
    diagonal = ""
    if chart.has_diagonal:
        ends = ((chart.x.low, 0.0), (chart.x.high, 1.0))
        diagonal = _path([(frame.x(x), frame.y(y)) for x, y in ends], is_stepped=False)
    return render(
        "chart.html",
        chart=chart,
        frame=frame,
        x_ticks=[_Tick(frame.x(tick), tick) for tick in chart.x.ticks],
        y_ticks=[_Tick(frame.y(tick), tick) for tick in chart.y.ticks],
        diagonal=diagonal,
        lines=[_drawn(frame, number, line) for number, line in enumerate(chart.lines)],
    )


def chart_data(chart: Chart) -> dict[str, Any]:
    """What the script needs to read values off the chart: its frame and the thinned points."""
    frame = _Frame(chart)
    lines = []
    for line in chart.lines:
        kept = _thinned(frame, line.x, line.y)
        lines.append(
            {
                "key": line.key,
                "label": line.label,
                "x": [_rounded(line.x[i]) for i in kept],
                "y": [_rounded(line.y[i]) for i in kept],
                "score": [_rounded(line.scores[i]) for i in kept] if line.scores else [],
            }
        )
    return {
        "plot": [_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT],
        "x": [chart.x.low, chart.x.high, chart.x.is_logarithmic, chart.x.label],
        "y": [chart.y.low, chart.y.high, chart.y.label],
        "steps": chart.shape == "steps",
        "lines": lines,
    }


class _Frame:
    """Where values lie in the picture, px."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.width = _LEFT + _PLOT_WIDTH + _RIGHT
        self.height = _TOP + _PLOT_HEIGHT + _BOTTOM
        self.left, self.right = _LEFT, _LEFT + _PLOT_WIDTH
        self.top, self.bottom = _TOP, _TOP + _PLOT_HEIGHT

    def x(self, value: float) -> float:
        return _LEFT + _PLOT_WIDTH * _share(self.chart.x, value)

    def y(self, value: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - _share(self.chart.y, value))


def _share(axis: Axis, value: float) -> float:
    """Where ``value`` lies on the axis, 0 to 1; what lies beyond is at the end."""
    return float(_shares(axis, [value])[0])


def _shares(axis: Axis, values: Sequence[float]) -> NDArray[np.float64]:
    """Where each of the values lies on the axis, see :func:`_share`."""
    places = np.array(values, dtype=np.float64)
    if axis.is_logarithmic:
        share = np.log(np.maximum(places, axis.low) / axis.low) / math.log(axis.high / axis.low)
    else:
        share = (places - axis.low) / (axis.high - axis.low)
    return np.asarray(share.clip(0.0, 1.0))


@dataclass(frozen=True)
class _Tick:
    place: float
    value: float


@dataclass(frozen=True)
class _Bar:
    """A single point with its error bar, px."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class _DrawnMark:
    x: float
    y: float
    path: str
    label: str


@dataclass(frozen=True)
class _DrawnLine:
    """One line in px: the band, the curve (or single points with error bars) and the marks."""

    key: str
    label: str
    series: int
    dash: str
    band: str
    bars: Sequence[_Bar]
    path: str
    marks: Sequence[_DrawnMark]


def _drawn(frame: _Frame, number: int, line: Line) -> _DrawnLine:
    series = number % len(DASHES)
    path = ""
    if line.x:
        kept = _thinned(frame, line.x, line.y)
        points = [(frame.x(line.x[i]), frame.y(line.y[i])) for i in kept]
        path = _path(points, is_stepped=frame.chart.shape == "steps")
    with_bars = zip(line.x, line.y, line.low, line.high, strict=True) if line.low else ()
    name = line.label.split(":")[0]
    return _DrawnLine(
        key=line.key,
        label=line.label,
        series=series,
        dash=DASHES[series],
        band=_band_path(frame, line.band) if line.band is not None and line.band.x else "",
        bars=[
            _Bar(frame.x(x), frame.y(y), frame.y(low), frame.y(high))
            for x, y, low, high in with_bars
        ],
        path=path,
        marks=[
            _DrawnMark(
                frame.x(mark.x), frame.y(mark.y), _MARK_PATHS[mark.shape], f"{name}, {mark.label}"
            )
            for mark in line.marks
        ],
    )


def _thinned(frame: _Frame, x: Sequence[float], y: Sequence[float]) -> list[int]:
    """Indices of the points that differ in the picture; the ends are always kept."""
    kept: list[int] = []
    last_x = last_y = -math.inf
    # All points at once: there may be a hundred thousand.
    places = (
        _PLOT_WIDTH * _shares(frame.chart.x, x),
        _PLOT_HEIGHT * _shares(frame.chart.y, y),
    )
    for index, (at_x, at_y) in enumerate(zip(*(one.tolist() for one in places), strict=True)):
        if abs(at_x - last_x) >= _LEAST_STEP or abs(at_y - last_y) >= _LEAST_STEP:
            kept.append(index)
            last_x, last_y = at_x, at_y
    if kept and kept[-1] != len(x) - 1:
        kept.append(len(x) - 1)
    return kept


def _path(points: Sequence[tuple[float, float]], *, is_stepped: bool) -> str:
    (x, y), *others = points
    parts = [f"M{x:.1f} {y:.1f}"]
    for x, y in others:
        parts.append(f"H{x:.1f}V{y:.1f}" if is_stepped else f"L{x:.1f} {y:.1f}")
    return "".join(parts)


def _band_path(frame: _Frame, band: Band) -> str:
    """There along the upper edge, and back along the lower one."""
    pairs = [
        (x, low, high)
        for x, low, high in zip(band.x, band.low, band.high, strict=True)
        if low == low and high == high
    ]
    if not pairs:
        return ""
    there = [f"{frame.x(x):.1f} {frame.y(high):.1f}" for x, _, high in pairs]
    back = [f"{frame.x(x):.1f} {frame.y(low):.1f}" for x, low, _ in reversed(pairs)]
    return "M" + "L".join(there + back) + "Z"


def _rounded(value: float) -> float | None:
    """Four significant digits; JSON knows no infinity."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
