"""How do sections, charts and the gallery become one HTML file that needs nothing else?

Style and script lie in ``page_files`` and are written into the page. Data for the script stand in
JSON blocks in which no character can end the block; the script puts words into the page as text
only; and a content policy admits no script but ours, so that an id in an annotation file stays an
id. All scores of the test set are in the page, so that the table under the slider counts what
Python counts: 8 bytes each, sorted, without ids.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simfrcnn.evaluation.reporting.charts import Chart
from simfrcnn.evaluation.reporting.documents import Section, html_sections
from simfrcnn.evaluation.reporting.vector import chart_data, chart_html
from simfrcnn.evaluation.results import Report, UnitScore
from simfrcnn.evaluation.truth import Truth

_FILES = Path(__file__).parent / "page_files"


def html_page(
    title: str,
    sections: Sequence[Section],
    drawings: Mapping[str, str],
    data: Mapping[str, Any],
    pictures: Mapping[str, str] | None = None,
) -> str:
    """One self-contained page.

    Args:
        title: Heading; escaped.
        sections: Text and tables; escaped.
        drawings: HTML in place of the pictures of the sections, by file name. Taken as it is.
        data: For the script: what :func:`page_data` makes, or a part of it.
        pictures: Data URL of each picture of the gallery, by image id.
    """
    style, script = (_FILES / "page.css").read_text("utf-8"), _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    links = "".join(
        f'<li><a href="#{section.anchor}">{html.escape(section.heading)}</a></li>'
        for section in sections
    )
    name = html.escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the report</a>\n'
        f'<header><h1>{name}</h1>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        '<div class="tools"><button type="button" id="theme" aria-label="Colours: as the system">'
        'auto</button><button type="button" id="print">Print</button></div></header>\n'
        f'<main id="main">\n{html_sections(sections, drawings)}\n</main>\n'
        f"{json_block('report-data', data)}\n{json_block('report-pictures', pictures or {})}\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def page_data(
    report: Report,
    charts: Sequence[Chart],
    exams: Sequence[Mapping[str, Any]],
    *,
    score_threshold: float,
) -> dict[str, Any]:
    """All that the script needs, in JSON types."""
    return {
        "charts": {chart.name: chart_data(chart) for chart in charts},
        "levels": {level: _level_data(units) for level, units in report.units.items()},
        "points": [
            {"level": point.level, "rule": point.rule, "threshold": point.score_threshold}
            for point in report.operating_points
        ],
        "start": score_threshold,
        "exams": list(exams),
    }


def charts_html(charts: Sequence[Chart]) -> str:
    """All charts of one picture."""
    return "\n".join(map(chart_html, charts))


def page_part(name: str) -> str:
    """A piece of HTML of ours."""
    return (_FILES / name).read_text("utf-8")


def json_block(block_id: str, content: Any) -> str:
    """JSON inside a page: nothing in it can end the block or begin a comment or tag."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))  # ASCII only
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{block_id}">{text}</script>'


def _level_data(units: Sequence[UnitScore]) -> dict[str, Any]:
    scores = {
        truth: np.sort(
            np.array([unit.score for unit in units if unit.truth == truth.label], dtype="<f8")
        )
        for truth in (Truth.POSITIVE, Truth.NORMAL)
    }
    return {
        **{
            truth.label: base64.b64encode(array.tobytes()).decode("ascii")
            for truth, array in scores.items()
        },
        "unknown": sum(unit.truth == Truth.UNKNOWN.label for unit in units),
    }


def _script() -> str:
    """With the line ends that a reader of the page sees: its hash is in the policy."""
    return (_FILES / "page.js").read_text("utf-8").replace("\r\n", "\n")
