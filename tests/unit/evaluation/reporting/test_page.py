"""Documents, charts and the data of the page, without a browser."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.reporting.charts import Axis, Chart, Line, Mark, froc_line, roc_charts
from simfrcnn.evaluation.reporting.documents import (
    DISCLAIMER,
    Drawn,
    Picture,
    Section,
    Table,
    Tables,
    html_sections,
    markdown_page,
)
from simfrcnn.evaluation.reporting.page import json_block, page_data
from simfrcnn.evaluation.reporting.vector import chart_data, chart_html
from simfrcnn.evaluation.results import Band, Curve, UnitScore
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import random_set

HOSTILE = "</script><img src=x onerror=alert(1)>"
UNIT = Axis("share", 0.0, 1.0, (0.0, 0.5, 1.0))
SECTIONS = [
    Section(
        "One & two",
        [
            "Text < text",
            Table(("a", "b|c"), [("x|y", "0.912 (0.853 to 0.957)"), ("line\nbreak", "12")], "T"),
            Tables([Table(("p",), [("1",)]), Table(("q",), [("2",)])]),
            Picture("one.svg", "First"),
            Picture("two.svg", "Second"),
            Drawn("only", "Words instead"),
            ["item <b>"],
            DISCLAIMER,
        ],
    )
]


def test_sections_as_markdown() -> None:
    assert markdown_page("T <t>", SECTIONS) == (
        "# T &lt;t>\n\n## One & two\n\nText &lt; text\n\nT\n\n"
        "| a | b\\|c |\n| --- | --- |\n| x\\|y | 0.912 (0.853 to 0.957) |\n| line break | 12 |\n\n"
        "| p |\n| --- |\n| 1 |\n\n| q |\n| --- |\n| 2 |\n\n"
        "![First](one.svg)\n\n![Second](two.svg)\n\nWords instead\n\n- item &lt;b>\n\n"
        f"{DISCLAIMER}\n"
    )


def test_sections_as_html() -> None:
    drawings = {"one.svg": "<i>1</i>", "two.svg": "<i>2</i>", "only": "<i>3</i>"}
    text = html_sections(SECTIONS, drawings)
    root = ET.fromstring(text)
    assert root.get("id") == "one-two"
    assert root.find("h2").text == "One & two"
    assert root.find("p").text == "Text < text"
    assert [cell.text for cell in root.iter("th")] == ["a", "b|c", "p", "q"]
    assert root.find(".//small").text == "0.853 to 0.957"
    (charts,) = [div for div in root.iter("div") if div.get("class") == "charts"]
    assert [i.text for i in charts] == ["1", "2"]
    assert root.findall("i")[0].text == "3"
    assert root.findall("p")[-1].get("class") == "notice"


def test_json_in_a_page_cannot_end_its_block() -> None:
    content = {"id": HOSTILE, "comment": "<!-- <script>", "line": "\u2028"}
    block = json_block("name", content)
    head, tail = '<script type="application/json" id="name">', "</script>"
    inside = block.removeprefix(head).removesuffix(tail)
    assert not set("<>&") & set(inside)
    assert inside.isascii()
    assert json.loads(inside) == content


def test_a_chart_lies_where_its_numbers_say() -> None:
    line = Line(
        "k",
        HOSTILE,
        (0.0, 0.5, 1.0),
        (0.0, 1.0, 1.0),
        band=Band((0.0, 0.5, 1.0), (0.0, float("nan"), 0.5), (0.5, 1.0, 1.0)),
        marks=(Mark(0.5, 0.5, "here", "square"),),
    )
    text = chart_html(Chart("c", HOSTILE, UNIT, UNIT, (line,), has_diagonal=True))
    root = ET.fromstring(text)  # well formed, so that nothing hostile came through as a tag
    assert root.find("figcaption").text == HOSTILE
    paths = {path.get("class"): path.get("d") for path in root.iter("path")}
    assert paths["curve"] == "M46.0 310.0L196.0 10.0L346.0 10.0"
    assert paths["diagonal"] == "M46.0 310.0L346.0 10.0"
    assert paths["band"] == "M46.0 160.0L346.0 10.0L346.0 160.0L46.0 310.0Z"  # without the NaN
    (mark,) = [path for path in root.iter("path") if path.get("class") == "mark"]
    assert mark.get("transform") == "translate(196.0 160.0)"
    assert mark.find("title").text == f"{HOSTILE}, here"


def test_steps_and_a_logarithmic_axis() -> None:
    curve = Curve((0.9, 0.5, 0.1), (0.01, 1.0, 3.0), (0.2, 0.6, 0.9))
    line = froc_line("all", "all images", curve)
    assert line.x == (0.05, 1.0, 3.0, 10.0)
    assert line.y == (0.2, 0.6, 0.9, 0.9)
    assert line.scores == (0.9, 0.5, 0.1, 0.1)
    axis = Axis("FPs", 0.1, 10.0, (0.1, 1.0, 10.0), is_logarithmic=True)
    chart = Chart("f", "F", axis, UNIT, (Line("k", "l", (0.1, 1.0), (0.0, 1.0)),), shape="steps")
    (curve_path,) = [
        p for p in ET.fromstring(chart_html(chart)).iter("path") if p.get("class") == "curve"
    ]
    assert curve_path.get("d") == "M46.0 310.0H196.0V10.0"


def test_a_line_without_points_is_called_undefined() -> None:
    chart = Chart("c", "C", UNIT, UNIT, (Line("k", "by case", (), ()),))
    assert "by case (undefined)" in chart_html(chart)
    assert chart_data(chart)["lines"][0]["x"] == []


@pytest.fixture(scope="module")
def large() -> dict[str, tuple[UnitScore, ...]]:
    random = np.random.default_rng(0)
    scores = random.random((3, 100_000)).tolist()
    return {
        level: tuple(
            UnitScore(f"{level}-with-a-long-name-{i}", "P", ("normal", "positive")[i % 2], score)
            for i, score in enumerate(scores[number])
        )
        for number, level in enumerate(("case", "breast", "image"))
    }


def test_a_hundred_thousand_units_stay_small(large: dict[str, tuple[UnitScore, ...]]) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, EvaluationSettings(bootstrap_replicates=0))
    steps = tuple(np.linspace(0, 1, 100_000).tolist())
    roc = {level: Curve(steps[::-1], steps, steps) for level in large}
    report = replace(report, units=large, roc=roc)
    charts = roc_charts(report)
    data = page_data(report, charts, [], score_threshold=0.5)
    n_bytes = {name: len(json.dumps(part)) for name, part in data.items()}
    assert n_bytes["levels"] < 3 * 100_000 * 11  # 8 bytes each, in base64
    assert n_bytes["charts"] < 80_000
    assert len(chart_html(charts[0])) < 80_000
    for line in data["charts"]["roc"]["lines"]:
        assert line["x"][0] == 0.0
        assert line["x"][-1] == 1.0
        # Thinned points are nearer to one another than can be seen: 0.8 of 300 pixels.
        assert max(np.diff(line["x"])) <= 0.8 / 300
