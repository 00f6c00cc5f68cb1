"""The pictures of a report: ROC, FROC, and a sheet of test images with truth and detections.

Every picture is returned as bytes; nothing is written, and matplotlib's global state (backend,
current figure) is not touched: it is imported inside the functions, and drawn to its own canvas.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simfrcnn.artifacts import ImageDetections
from simfrcnn.evaluation.matching import falling_order
from simfrcnn.evaluation.results import Curve, Report
from simfrcnn.evaluation.truth import Truth, image_truth
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings

LoadPixels = Callable[[ImageRecord], NDArray[np.uint8]]
ImageFormat = Literal["png", "svg"]

# Colours of Okabe and Ito 2008: distinct also with colour-blindness.
_BLUE, _ORANGE, _GREEN, _PINK, GREY = "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#777777"
_COLOURS = ("#0072B2", _ORANGE, _GREEN)
_WIDTHS = (3.2, 2.2, 1.2)
"""Falling, so that curves that coincide are all seen."""
FPPI_RANGE = (0.05, 10.0)
_PANEL_SIDE_PX = 700
_PANEL_INCHES = 2.7
_DETECTIONS_SHOWN = 3


@dataclass(frozen=True)
class SheetRow:
    """One row of the sheet: what its images have in common, and which they are."""

    title: str
    records: tuple[ImageRecord, ...]


def draw_roc(report: Report, image_format: ImageFormat) -> bytes:
    """The ROC curves by case, breast and image, with the operating point of the score threshold."""
    figure, axes = canvas(5.2, 5.2)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for colour, width, (level, curve) in zip(_COLOURS, _WIDTHS, report.roc.items(), strict=True):
        auc = report.figures[f"{level}/auc"]
        if not curve.x:
            axes.plot([], [], color=colour, label=f"by {level}: undefined")
            continue
        axes.plot(
            (0.0, *curve.x),
            (0.0, *curve.y),
            color=colour,
            linewidth=width,
            label=f"by {level}: AUC {auc}",
        )
        axes.plot(
            1 - report.figures[f"{level}/specificity"].value,
            report.figures[f"{level}/sensitivity"].value,
            marker="o",
            color=colour,
            zorder=3,
        )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 - specificity", ylabel="sensitivity")
    axes.set_aspect("equal")
    axes.set_title(f"ROC; dots: score >= {report.settings.score_threshold:g}", fontsize=10)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.grid(color="#dddddd", linewidth=0.5)
    return rendered(figure, image_format)


def draw_froc(report: Report, image_format: ImageFormat) -> bytes:
    """The FROC curves per finding; false positives over all images, and over normal ones.

    Steps, not interpolation: between two points the lower sensitivity holds.
    """
    figure, axes = canvas(6.4, 5.0)
    for index, (name, curve) in enumerate(report.froc.items()):
        criterion, population = name.split("/")
        style = "-" if population == "all" else "--"
        label = f"{_CRITERION_LABELS[criterion]}, FPs over {population} images"
        colour = _COLOURS[index // 2]
        if not curve.x:
            axes.plot([], [], color=colour, linestyle=style, label=f"{label}: undefined")
            continue
        x, y = froc_steps(curve)
        axes.plot(x, y, drawstyle="steps-post", color=colour, linestyle=style, label=label)
    ticks = (0.1, 0.25, 0.5, 1, 2, 4, 8)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlim=FPPI_RANGE, ylim=(0, 1.02))
    axes.set(xlabel="false positives per image", ylabel="sensitivity per finding")
    axes.set_title("FROC", fontsize=10)
    figure.legend(loc="outside lower center", fontsize=6.5, frameon=False, ncols=3)
    axes.grid(color="#dddddd", linewidth=0.5)
    return rendered(figure, image_format)


def choose_sheet(
    records: Sequence[ImageRecord],
    detections: Mapping[int, ImageDetections],
    settings: EvaluationSettings,
    *,
    n_per_row: int = 4,
) -> list[SheetRow]:
    """Which images to show: the extremes, so that nobody can pick the pretty ones.

    Positive images with the highest and the lowest score, normal images likewise; where there are
    few, each image is shown once.
    """
    rows: list[SheetRow] = []
    for truth in (Truth.POSITIVE, Truth.NORMAL):
        chosen = [record for record in records if image_truth(record, settings) is truth]
        chosen.sort(
            key=lambda record: (-_score(detections[record.image_id], settings), record.image_id)
        )
        top = chosen[:n_per_row]
        bottom = chosen[max(n_per_row, len(chosen) - n_per_row) :][::-1]
        for title, some in (("highest scores", top), ("lowest scores", bottom)):
            if some:
                rows.append(SheetRow(f"{truth.label} images, {title}", tuple(some)))
    return rows


def draw_sheet(
    rows: Sequence[SheetRow],
    detections: Mapping[int, ImageDetections],
    settings: EvaluationSettings,
    load_pixels: LoadPixels,
) -> bytes:
    """A PNG with one panel per image.

    Boxes of target classes are solid green, other annotated boxes dotted pink; the three highest
    detections of target classes are dashed, with their scores: orange from the score threshold on,
    blue below it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    n_columns = max(len(row.records) for row in rows)
    tallest = max(record.height / record.width for row in rows for record in row.records)
    row_inches = _PANEL_INCHES * min(max(tallest, 0.6), 2.0) + 0.55
    drawing = Drawing(
        figsize=(_PANEL_INCHES * max(n_columns, 3), row_inches * len(rows) + 0.3),
        layout="constrained",
    )
    FigureCanvasAgg(drawing)
    strips = drawing.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for strip, row in zip(strips, rows, strict=True):
        strip.suptitle(row.title, fontsize=10, x=0.01, ha="left", fontweight="bold")
        panels = strip.subplots(1, n_columns, squeeze=False)[0]
        for panel in panels:
            panel.set_axis_off()
        for panel, record in zip(panels, row.records, strict=False):
            _draw_panel(panel, record, detections[record.image_id], settings, load_pixels(record))
    drawing.supxlabel(
        "solid: target annotated   dotted: other annotated   dashed: detected, with score "
        f"(orange: at least {settings.score_threshold:g}, blue: below)",
        fontsize=8,
    )
    return rendered(drawing, "png")


_CRITERION_LABELS = {"iou_0.1": "IoU >= 0.1", "iou_0.5": "IoU >= 0.5", "centre": "centre in box"}


def _draw_panel(
    panel: Any,
    record: ImageRecord,
    found: ImageDetections,
    settings: EvaluationSettings,
    pixels: NDArray[np.uint8],
) -> None:
    step = max(1, max(pixels.shape) // _PANEL_SIDE_PX)
    panel.imshow(
        pixels[::step, ::step],
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(0, record.width, record.height, 0),
    )
    for finding in record.findings:
        is_target = finding.category in settings.target_classes
        colour, style = (_GREEN, "-") if is_target else (_PINK, ":")
        _draw_box(panel, finding.box, colour, style, width=2.0)
    boxes, scores = _of_targets(found, settings)
    for index in falling_order(boxes, scores)[:_DETECTIONS_SHOWN][::-1]:  # the highest on top
        score = float(scores[index])
        colour = _ORANGE if score >= settings.score_threshold else _BLUE
        box = tuple(boxes[index].tolist())
        _draw_box(panel, box, colour, "--", width=1.1)
        panel.annotate(
            f"{score:.2f}",
            (box[0], box[1]),
            xytext=(0, 2.5),
            textcoords="offset points",
            color=colour,
            fontsize=6.5,
            bbox={"facecolor": "black", "edgecolor": "none", "alpha": 0.6, "pad": 0.8},
            annotation_clip=False,
        )
    view = "-".join(
        part.value for part in (record.laterality, record.view_position) if part is not None
    )
    panel.set_title(f"image {record.image_id} {view}".strip(), fontsize=7.5)


def _draw_box(panel: Any, box: Sequence[float], colour: str, style: str, *, width: float) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box
    panel.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=colour,
            linestyle=style,
            linewidth=width,
        )
    )


def _of_targets(
    found: ImageDetections, settings: EvaluationSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    keep = np.array([name in settings.target_classes for name in found.categories], dtype=bool)
    return found.boxes[keep], found.scores[keep]


def _score(found: ImageDetections, settings: EvaluationSettings) -> float:
    _, scores = _of_targets(found, settings)
    return float(scores.max(initial=0.0))


def froc_steps(curve: Curve) -> tuple[list[float], list[float]]:
    """The curve from the left edge of the (logarithmic) axis to its right edge."""
    left, right = FPPI_RANGE
    before = [y for x, y in zip(curve.x, curve.y, strict=True) if x <= left]
    later = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if x > left]
    x = [left, *(x for x, _ in later), max(right, curve.x[-1])]
    y = [max(before, default=0.0), *(y for _, y in later), curve.y[-1]]
    return x, y


def canvas(width: float, height: float) -> tuple[Any, Any]:
    """A drawing of its own (inches) and its axes, apart from matplotlib's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing, drawing.add_subplot()


def rendered(drawing: Any, image_format: ImageFormat) -> bytes:
    """The picture without a time stamp, so that the same report gives the same file."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    metadata = {"Date": None} if image_format == "svg" else {}
    with rc_context({"svg.hashsalt": "simfrcnn"}):
        drawing.savefig(stream, format=image_format, dpi=130, metadata=metadata)
    return stream.getvalue()
