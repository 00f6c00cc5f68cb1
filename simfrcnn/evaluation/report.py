"""The report as files: JSON for programs, Markdown and one self-contained HTML page for people.

``report.json`` holds every number; the two pages hold the same text, the summary first.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simfrcnn.artifacts import DetectionFile
from simfrcnn.errors import OutputError
from simfrcnn.evaluation.average_precision import MAX_DETECTIONS
from simfrcnn.evaluation.case import LEVELS
from simfrcnn.evaluation.figures import (
    LoadPixels,
    choose_sheet,
    draw_froc,
    draw_roc,
    draw_sheet,
)
from simfrcnn.evaluation.froc import POPULATIONS, RATES
from simfrcnn.evaluation.matching import HIT_CRITERIA
from simfrcnn.evaluation.results import Figure, Report
from simfrcnn.files import as_json, write_files
from simfrcnn.records import ImageRecord

DISCLAIMER = (
    "simfrcnn is research software. It is not a medical device and must not be used for diagnosis."
)
HEADLINES = {
    "case/auc": "AUC by case",
    "case/sensitivity": "Sensitivity by case",
    "case/specificity": "Specificity by case",
}
_METHODS = {"bootstrap": "bootstrap", "clopper-pearson": "Clopper-Pearson", None: "-"}


@dataclass(frozen=True)
class Table:
    """Rows of text under column names."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A picture of the report: its file beside the page, and what it shows."""

    file_name: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    heading: str
    blocks: Sequence[str | Table | Picture | Sequence[str]]


def write_report(
    folder: Path,
    report: Report,
    *,
    records: Sequence[ImageRecord],
    detections: DetectionFile,
    load_pixels: LoadPixels | None,
    title: str = "simfrcnn evaluation",
) -> Path:
    """Write ``report.json``, ``report.md``, ``report.html`` and the pictures into ``folder``.

    An earlier report there is replaced as a whole, or not at all.

    Args:
        folder: Made if missing.
        report: What :func:`simfrcnn.evaluation.evaluate` returned.
        records: The images it was made from; only for the sheet of images.
        detections: The detections it was made from; only for the sheet.
        load_pixels: Gives the (H, W) uint8 pixels of a record. None: no sheet, and the page says
            so.
        title: Heading of the page.

    Returns:
        The path of ``report.html``.

    Raises:
        OutputError: ``folder`` is a file, or cannot be written.
        DataError: An image of the sheet cannot be read.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; a folder for the report is needed")
    pictures = {
        "roc.svg": draw_roc(report, "svg"),
        "roc.png": draw_roc(report, "png"),
        "froc.svg": draw_froc(report, "svg"),
        "froc.png": draw_froc(report, "png"),
    }
    rows = choose_sheet(records, detections.images, report.settings) if load_pixels else []
    if load_pixels and rows:
        pictures["images.png"] = draw_sheet(rows, detections.images, report.settings, load_pixels)
    sections = _sections(report, has_sheet="images.png" in pictures)
    is_newer_report = (folder / "report.json").exists()
    write_files(
        folder,
        {
            **pictures,
            "report.md": markdown_page(title, sections).encode(),
            "report.html": _html(title, sections, pictures).encode(),
            "report.json": as_json(report.to_json()).encode(),
        },
    )
    if is_newer_report and "images.png" not in pictures:
        (folder / "images.png").unlink(missing_ok=True)
    return folder / "report.html"


def summary_lines(report: Report) -> list[str]:
    """The three figures that matter, one line each, for a terminal."""
    width = max(len(label) for label in HEADLINES.values())
    return [f"{label:<{width}}  {_text(report.figures[key])}" for key, label in HEADLINES.items()]


def _sections(report: Report, *, has_sheet: bool) -> list[Section]:
    sheet: str | Picture = "No sheet of images was drawn: the pixels were not asked for."
    if has_sheet:
        sheet = Picture("images.png", "The test images with the highest and the lowest scores")
    return [
        Section("Summary", [_what_was_tested(report), _headline_table(report), DISCLAIMER]),
        Section("Notes", [list(report.notes) or ["None."]]),
        Section("By case, breast and image", [_unit_table(report), Picture("roc.svg", "ROC")]),
        Section("By finding", [_finding_table(report)]),
        *_froc_sections(report),
        Section("Images", [sheet]),
        Section("What was counted", [_count_table(report)]),
        Section("Rules", [_rules(report)]),
        Section("Provenance", [_provenance_table(report)]),
    ]


def _what_was_tested(report: Report) -> str:
    counts, settings = report.counts, report.settings
    cases = counts["cases"]
    return (
        f"{cases['total']} cases ({cases['positive']} positive, {cases['normal']} normal, "
        f"{cases['unknown']} of unknown truth) of {counts['patients']['total']} patients, with "
        f"{counts['images']['total']} images and {counts['findings']} findings of class "
        f"{', '.join(settings.target_classes)}. Sensitivity and specificity are at score >= "
        f"{settings.score_threshold:g}. Intervals are 95%."
    )


def _headline_table(report: Report) -> Table:
    rows = [(label, *_cells(report.figures[key])) for key, label in HEADLINES.items()]
    return Table(("figure", "value", "95% interval", "counted over", "interval by"), rows)


def _unit_table(report: Report) -> Table:
    rows = [
        (level, name, *_cells(report.figures[f"{level}/{name}"]))
        for level in LEVELS
        for name in ("auc", "accuracy", "sensitivity", "specificity")
    ]
    columns = ("by", "figure", "value", "95% interval", "counted over", "interval by")
    return Table(columns, rows)


def _finding_table(report: Report) -> Table:
    rows = [
        (_ap_label(key), *_cells(figure))
        for key, figure in report.figures.items()
        if key.startswith("finding/")
    ]
    return Table(("figure", "value", "95% interval", "counted over", "interval by"), rows)


def _ap_label(key: str) -> str:
    name = key.removeprefix("finding/")
    if name == "coco_ap":
        return "COCO AP (mean over IoU .50:.05:.95)"
    return f"AP at IoU {float(name.removeprefix('ap')) / 100:g}"


def _froc_sections(report: Report) -> list[Section]:
    has_lesions = report.counts["lesions"] > 0
    sections = [
        Section(
            "FROC: sensitivity per finding at false positives per image",
            [_froc_table(report, ""), Picture("froc.svg", "FROC per finding")],
        )
    ]
    heading = "FROC: sensitivity per lesion (hit in any view)"
    if has_lesions:
        return [*sections, Section(heading, [_froc_table(report, "lesion_")])]
    key = f"froc/{HIT_CRITERIA[0].name}/all/lesion_sensitivity_at_1"
    return [*sections, Section(heading, [f"Undefined: {report.figures[key].reason}."])]


def _froc_table(report: Report, prefix: str) -> Table:
    """One row a criterion and population; a cell is the sensitivity with its interval."""
    rows = []
    for criterion in HIT_CRITERIA:
        for population in POPULATIONS:
            key = f"froc/{criterion.name}/{population}/{prefix}sensitivity_at_"
            figures = [report.figures[f"{key}{rate:g}"] for rate in RATES]
            rows.append((criterion.name, population, *(_short(figure) for figure in figures)))
    columns = ("hit by", "FPs over images", *(f"{rate:g}" for rate in RATES))
    return Table(columns, rows)


def _count_table(report: Report) -> Table:
    rows: list[tuple[str, str]] = []
    for name, count in report.counts.items():
        label = name.replace("_", " ")
        if isinstance(count, Mapping):
            parts = ", ".join(f"{part.replace('_', ' ')} {n}" for part, n in count.items())
            rows.append((label, parts))
        else:
            rows.append((label, str(count)))
    return Table(("what", "how many"), rows)


def _rules(report: Report) -> list[str]:
    settings = report.settings
    repeats = "a false positive" if settings.count_repeats_as_false_positives else "ignored"
    unknown = "left out" if settings.unknown_images == "exclude" else "counted as normal"
    return [
        f"Target classes: {', '.join(settings.target_classes)}. Detections of other classes are "
        "dropped.",
        "The score of an image is its highest detection, 0 without any. The score of a breast or "
        f"case pools all its images by {settings.pooling}. A case is one {settings.case_by}.",
        "An image is positive if it has a target box, normal if it is known to be. A breast or "
        "case is positive if an image is, or if its record says so; normal if all its images are; "
        "else unknown, and left out.",
        f"Images of unknown truth are {unknown} in FROC and AP.",
        *(f"Hit criterion {c.name}: {c.description}." for c in HIT_CRITERIA),
        "FROC: detections go down by score; each takes the finding, not yet found, that it meets "
        f"best; one that meets only findings already found is {repeats}. Equal scores are one "
        "threshold. The sensitivity at a rate is the highest at no more false positives per image "
        "than that, without interpolation; beyond the last point the last value holds.",
        "AP: matched by pycocotools over all evaluated images, with all target classes as one, at "
        f"most {MAX_DETECTIONS} detections an image; a second box on a finding is a false positive "
        "there.",
        f"Bootstrap: {settings.bootstrap_replicates} resamplings of patients (seed "
        f"{settings.bootstrap_seed}), stratified by the patient's truth, percentiles 2.5 and 97.5; "
        "replicates in which a figure is undefined are dropped, and more than 5% of them give no "
        "interval. Accuracy, sensitivity and specificity have exact (Clopper-Pearson) intervals "
        "where every patient gives one unit. AUC has the bootstrap's in every case.",
    ]


def _provenance_table(report: Report) -> Table:
    rows = [
        (str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in report.provenance.items()
    ]
    return Table(("fact", "value"), rows or [("-", "none was given")])


def _text(figure: Figure) -> str:
    counted = ", ".join(f"{count} {name}" for name, count in figure.n.items())
    reason = f"; {figure.reason}" if figure.reason else ""
    return f"{figure}  [{counted}{reason}]"


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    """Value, interval, what it was counted over, method."""
    counted = ", ".join(f"{count} {name}" for name, count in figure.n.items())
    if figure.reason:
        value = "undefined" if figure.value != figure.value else f"{figure.value:.3f}"
        return value, figure.reason, counted, "-"
    interval = f"{figure.low:.3f} to {figure.high:.3f}"
    return f"{figure.value:.3f}", interval, counted, _METHODS[figure.method]


def _short(figure: Figure) -> str:
    if figure.value != figure.value:
        return "undefined"
    if figure.reason:
        return f"{figure.value:.2f}"
    return f"{figure.value:.2f} ({figure.low:.2f}-{figure.high:.2f})"


def markdown_page(title: str, sections: Sequence[Section]) -> str:
    """Sections as one Markdown page."""
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.heading}")
        parts.extend(_markdown_block(block) for block in section.blocks)
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: str | Table | Picture | Sequence[str]) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, Picture):
        return f"![{block.caption}]({block.file_name})"
    if isinstance(block, Table):
        lines = [block.columns, ["---"] * len(block.columns), *block.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
            for line in lines
        )
    return "\n".join(f"- {item}" for item in block)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0;
        font-size: 13px }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: left;
         vertical-align: top }
th { border-bottom: 2px solid #888 }
img { max-width: 100%; height: auto }
h2 { margin-top: 2rem }
"""


def _html(title: str, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    body = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        body.append(f"<h2>{html.escape(section.heading)}</h2>")
        body.extend(_html_block(block, pictures) for block in section.blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _html_block(block: str | Table | Picture | Sequence[str], pictures: Mapping[str, bytes]) -> str:
    if isinstance(block, str):
        return f"<p>{html.escape(block)}</p>"
    if isinstance(block, Picture):
        kind = "svg+xml" if block.file_name.endswith(".svg") else "png"
        data = base64.b64encode(pictures[block.file_name]).decode("ascii")
        caption = html.escape(block.caption)
        return f'<img alt="{caption}" src="data:image/{kind};base64,{data}">'
    if isinstance(block, Table):
        head = "".join(f"<th>{html.escape(name)}</th>" for name in block.columns)
        rows = (
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in block.rows
        )
        return f"<table>\n<tr>{head}</tr>\n" + "\n".join(rows) + "\n</table>"
    items = "".join(f"<li>{html.escape(item)}</li>" for item in block)
    return f"<ul>{items}</ul>"
