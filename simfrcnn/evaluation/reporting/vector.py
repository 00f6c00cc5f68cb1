"""How is a chart drawn in the page itself?

As inline SVG whose colours are the page's own variables, so that it follows light, dark and print;
and as numbers for the script that reads values under the pointer. Curves are thinned to what the
eye can see: a ROC curve of 100,000 units has as many points.

Shapes: N points of a line.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from simfrcnn.evaluation.reporting.charts import DASHES, Axis, Chart, Line
from simfrcnn.evaluation.results import Band

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 42
_PLOT_HEIGHT = 300
_LEAST_STEP = 0.4
"""A point nearer than this (px) to the last one is left out."""
_MARK_PATHS = {
    "circle": "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z",
    "square": "M-4.5 -4.5H4.5V4.5H-4.5Z",
    "diamond": "M0 -6L6 0L0 6L-6 0Z",
    "triangle": "M0 -6L5.5 4H-5.5Z",
}


def chart_html(chart: Chart, *, plot_width: int = 300) -> str:
    """The chart with its legend, as a ``<figure>``; all words in it are escaped."""
    frame = _Frame(chart, plot_width)
    lines = "\n".join(_line_svg(frame, number, line) for number, line in enumerate(chart.lines))
    diagonal = ""
    if chart.has_diagonal:
        x1, y1, x2, y2 = frame.x(chart.x.low), frame.y(0), frame.x(chart.x.high), frame.y(1)
        diagonal = f'<path class="diagonal" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
    title = html.escape(chart.title)
    return (
        f'<figure class="chart" data-chart="{html.escape(chart.name)}">\n'
        f"<figcaption>{title}</figcaption>\n"
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{title}: '
        f'{html.escape("; ".join(line.label for line in chart.lines))}">\n'
        f"{_axes_svg(frame)}\n{diagonal}\n{lines}\n"
        f'<line class="cursor" y1="{_TOP}" y2="{_TOP + _PLOT_HEIGHT}" visibility="hidden"/>\n'
        '<circle class="moving" r="6" visibility="hidden"/>\n</svg>\n'
        f"{_legend(chart)}\n"
        '<p class="readout" hidden=""></p>\n</figure>'
    )


def chart_data(chart: Chart, *, plot_width: int = 300) -> dict[str, Any]:
    """What the script needs to read values off the chart: its frame and the thinned points."""
    frame = _Frame(chart, plot_width)
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
        "plot": [_LEFT, _TOP, plot_width, _PLOT_HEIGHT],
        "x": [chart.x.low, chart.x.high, chart.x.is_logarithmic, chart.x.label],
        "y": [chart.y.low, chart.y.high, chart.y.label],
        "steps": chart.shape == "steps",
        "lines": lines,
    }


class _Frame:
    """Where values lie in the picture, px."""

    def __init__(self, chart: Chart, plot_width: int) -> None:
        self.chart = chart
        self.plot_width = plot_width
        self.width = _LEFT + plot_width + _RIGHT
        self.height = _TOP + _PLOT_HEIGHT + _BOTTOM

    def x(self, value: float) -> float:
        return _LEFT + self.plot_width * _share(self.chart.x, value)

    def y(self, value: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - _share(self.chart.y, value))


def _share(axis: Axis, value: float) -> float:
    """Where ``value`` lies on the axis, 0 to 1; what lies beyond is at the end."""
    if axis.is_logarithmic:
        value = max(value, axis.low)
        share = math.log(value / axis.low) / math.log(axis.high / axis.low)
    else:
        share = (value - axis.low) / (axis.high - axis.low)
    return min(max(share, 0.0), 1.0)


def _axes_svg(frame: _Frame) -> str:
    chart, bottom = frame.chart, _TOP + _PLOT_HEIGHT
    right = _LEFT + frame.plot_width
    parts = []
    for tick in chart.x.ticks:
        x = frame.x(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}">{tick:g}</text>')
    for tick in chart.y.ticks:
        y = frame.y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="tick y" x="{_LEFT - 7}" y="{y + 4:.1f}">{tick:g}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
    middle_x, middle_y = (_LEFT + right) / 2, (_TOP + bottom) / 2
    x_name, y_name = html.escape(chart.x.label), html.escape(chart.y.label)
    parts.append(f'<text class="name" x="{middle_x}" y="{bottom + 35}">{x_name}</text>')
    parts.append(
        f'<text class="name" transform="translate(12 {middle_y}) rotate(-90)">{y_name}</text>'
    )
    return "\n".join(parts)


def _line_svg(frame: _Frame, number: int, line: Line) -> str:
    """The band, the curve (or single points with error bars) and the marks of one line."""
    series = number % len(DASHES)
    parts = []
    if line.band is not None and line.band.x:
        parts.append(f'<path class="band" d="{_band_path(frame, line.band)}"/>')
    if line.low:
        for x, y, low, high in zip(line.x, line.y, line.low, line.high, strict=True):
            bar = f"M{frame.x(x):.1f} {frame.y(low):.1f}V{frame.y(high):.1f}"
            parts.append(f'<path class="bar" d="{bar}"/>')
            parts.append(f'<circle class="dot" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="4"/>')
    if line.x:
        kept = _thinned(frame, line.x, line.y)
        points = [(frame.x(line.x[i]), frame.y(line.y[i])) for i in kept]
        path = _path(points, is_stepped=frame.chart.shape == "steps")
        dash = f' stroke-dasharray="{DASHES[series]}"' if DASHES[series] else ""
        parts.append(f'<path class="curve" d="{path}"{dash}/>')
    for mark in line.marks:
        shape = _MARK_PATHS[mark.shape]
        place = f"translate({frame.x(mark.x):.1f} {frame.y(mark.y):.1f})"
        label = html.escape(f"{line.label.split(':')[0]}, {mark.label}")
        parts.append(f'<path class="mark" d="{shape}" transform="{place}">')
        parts.append(f"<title>{label}</title></path>")
    body = "\n".join(parts)
    return f'<g class="line series-{series}" data-line="{html.escape(line.key)}">\n{body}\n</g>'


def _legend(chart: Chart) -> str:
    items = []
    for number, line in enumerate(chart.lines):
        series = number % len(DASHES)
        dash = f' stroke-dasharray="{DASHES[series]}"' if DASHES[series] else ""
        swatch = f'<svg viewBox="0 0 28 8" aria-hidden="true"><path d="M0 4H28"{dash}/></svg>'
        label = html.escape(line.label if line.x else f"{line.label} (undefined)")
        items.append(
            f'<li><button type="button" class="legend series-{series}" aria-pressed="true" '
            f'data-line="{html.escape(line.key)}">{swatch}<span>{label}</span></button></li>'
        )
    return f"<ul class='legends'>{''.join(items)}</ul>"


def _thinned(frame: _Frame, x: Sequence[float], y: Sequence[float]) -> list[int]:
    """Indices of the points that can be told apart in the picture; the ends are always kept."""
    kept: list[int] = []
    last = (-math.inf, -math.inf)
    for index in range(len(x)):
        place = (frame.x(x[index]), frame.y(y[index]))
        if max(abs(place[0] - last[0]), abs(place[1] - last[1])) >= _LEAST_STEP:
            kept.append(index)
            last = place
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
