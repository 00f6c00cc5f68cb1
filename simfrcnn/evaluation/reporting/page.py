"""How do sections, charts and the gallery become one HTML file that needs nothing else?

Templates, style and script lie in ``page_files``. Data for the script stand in JSON blocks in which
no character can end the block; the script puts words into the page as text only; and a content
policy admits no script but ours, so that an id in an annotation file stays an id. All scores of the
test set are in the page, so that the table under the slider counts what Python counts: 8 bytes
each, sorted, without ids.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simfrcnn.evaluation.reporting.charts import Chart
from simfrcnn.evaluation.reporting.documents import Section, html_sections
from simfrcnn.evaluation.reporting.templates import page_file, render
from simfrcnn.evaluation.reporting.vector import chart_data, chart_html
from simfrcnn.evaluation.results import Report, UnitScore
from simfrcnn.evaluation.truth import Truth
from simfrcnn.viewer import VIEWER_FILES, viewer_file

if TYPE_CHECKING:
    from markupsafe import Markup

NO_DATA: Mapping[str, Any] = {"charts": {}, "levels": {}, "points": [], "start": 0, "exams": []}
"""For the script of the page: no chart that answers the pointer, and no exams."""


def html_page(
    title: str,
    sections: Sequence[Section],
    drawings: Mapping[str, Markup],
    data: Mapping[str, Any],
    pictures: Mapping[str, str] | None = None,
) -> str:
    """One self-contained page.

    Args:
        title: Heading of the page and its name in the browser.
        sections: Text and tables, in their order.
        drawings: HTML in place of the pictures of the sections, by file name.
        data: For the script: what :func:`page_data` makes, or a part of it.
        pictures: Data URL of each picture of the gallery, by image id.
    """
    from markupsafe import Markup

    scripts = [viewer_file(name) for name in VIEWER_FILES if name.endswith(".js")]
    script = Markup("\n").join(map(Markup, scripts)) + page_file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return render(
        "page.html",
        title=title,
        sections=sections,
        content=html_sections(sections, drawings),
        policy=policy,
        style=page_file("page.css") + Markup(viewer_file("viewer.css")),
        script=script,
        data=data,
        pictures=pictures or {},
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
        "points": points_data(report),
        "start": score_threshold,
        "exams": list(exams),
    }


def points_data(report: Report) -> list[dict[str, Any]]:
    """The operating points, which are buttons under the slider."""
    return [
        {"level": point.level, "rule": point.rule, "threshold": point.score_threshold}
        for point in report.operating_points
    ]


def picture_drawings(pictures: Mapping[str, bytes]) -> dict[str, Markup]:
    """The SVGs among these files as images of the page: inline, their ids would be one another's.

    Args:
        pictures: Content of each file, by its name.

    Returns:
        HTML by file name, as :func:`html_page` takes it.
    """
    return {
        name: render(
            "picture.html",
            name=name.removesuffix(".svg"),
            content=base64.b64encode(content).decode("ascii"),
        )
        for name, content in pictures.items()
        if name.endswith(".svg")
    }


def charts_html(charts: Sequence[Chart]) -> Markup:
    """All charts of one picture."""
    from markupsafe import Markup

    return Markup("\n").join(map(chart_html, charts))


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
