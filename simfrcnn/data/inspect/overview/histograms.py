"""How large and how long are the boxes, and how bright the inputs: three histograms."""

from __future__ import annotations

import io

import numpy as np

from simfrcnn.data.inspect.overview.anchors import Anchors
from simfrcnn.data.inspect.overview.statistics import Statistics

_GREY, _BLUE, _ORANGE = "#777777", "#56B4E9", "#D55E00"
_N_BINS = 24
_TICKS = (*(0.25, 0.35, 0.5, 0.7, 1, 1.4, 2, 2.8, 4), *(2**power for power in range(3, 13)))
_WITHOUT_VERSION = {"Software": None}


def draw_histograms(statistics: Statistics, c4: Anchors, fpn: Anchors) -> bytes:
    """Box size, aspect ratio and grey values, with the anchors suggested as lines, as PNG.

    Args:
        statistics: Of the training set's inputs.
        c4: Anchors of one feature map: full lines.
        fpn: Anchors of a pyramid: dotted lines.
    """
    # Not pyplot: the program's backend and current figure are left alone; and only when drawn.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    by_size, by_ratio, by_grey = figure.subplots(1, 3)
    width, height = statistics.sides_px.T
    sizes, ratios = np.sqrt(width * height), height / width
    for axes, values, c4_marks, fpn_marks, label in (
        (by_size, sizes, c4.all_sizes, fpn.all_sizes, "box size: root of its area, input pixels"),
        (by_ratio, ratios, c4.ratios, fpn.ratios, "aspect ratio: height / width"),
    ):
        low, high = values.min() / 1.2, values.max() * 1.2
        axes.hist(values, bins=np.geomspace(low, high, _N_BINS), color=_BLUE)
        axes.set_xscale("log", base=2)
        axes.set_xticks([tick for tick in _TICKS if low <= tick <= high])
        axes.xaxis.set_major_formatter("{x:g}")
        for mark in c4_marks:
            axes.axvline(mark, color=_ORANGE, linewidth=1.2)
        for mark in fpn_marks:
            axes.axvline(mark, color=_GREY, linewidth=1.2, linestyle=":")
        axes.set_xlabel(label)
        axes.set_ylabel("boxes")
    by_size.set_title("full: anchors for C4; dotted: for a pyramid", fontsize=9)
    by_grey.bar(np.arange(256), statistics.greys / statistics.greys.sum(), width=1, color=_BLUE)
    by_grey.set_yscale("log")
    by_grey.axvline(statistics.mean, color=_ORANGE, linewidth=1.2)
    by_grey.set_title(f"mean {statistics.mean:.1f}, deviation {statistics.std:.1f}", fontsize=9)
    by_grey.set_xlabel("grey value of the inputs, padding included")
    by_grey.set_ylabel("share of pixels")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata=_WITHOUT_VERSION)
    return stream.getvalue()
