"""Documents, charts and the data of the page, without a browser."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from simfrcnn.evaluation import evaluate
from simfrcnn.evaluation.reporting.charts import Axis, Chart, Line, Mark, froc_line, roc_charts
from simfrcnn.evaluation.reporting.documents import (
    DISCLAIMER,
    Drawn,
    Links,
    Picture,
    Section,
    Table,
    Tables,
    html_sections,
    markdown_page,
)
from simfrcnn.evaluation.reporting.page import html_page, page_data
from simfrcnn.evaluation.reporting.templates import render, safe_json
from simfrcnn.evaluation.reporting.vector import chart_data, chart_html
from simfrcnn.evaluation.results import Band, Curve, UnitScore
from simfrcnn.files import as_utf8
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
    text = html_sections(SECTIONS, {name: Markup(html) for name, html in drawings.items()})
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
    content = {"id": HOSTILE, "comment": "<!-- <script>", "line": "\u2028", "half": "\udce4"}
    inside = safe_json(content)
    assert not set("<>&") & set(inside)
    assert inside.isascii()
    assert json.loads(inside) == content


NAMES = (
    HOSTILE,
    "\"><svg onload='x'>",
    "' onclick='alert(1)",
    "{{ 7 * 7 }}{% for %}",
    "& &lt; &#39;",
    "M\udce4rz",  # of a file's name that is not UTF-8
)


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_stays_a_word_wherever_it_stands(name: str) -> None:
    line = Line(name, name, (0.0, 1.0), (0.0, 1.0), marks=(Mark(0.5, 0.5, name, "square"),))
    axis = replace(UNIT, label=name)
    section = Section(
        name,
        [
            name,
            [name],
            Table((name,), [(name,)], name),
            Tables([Table((name,), [(name,)])]),
            Picture("p.svg", name),
            Drawn("d", name),
            Links({name: name}),
        ],
    )
    chart = chart_html(Chart(name, name, axis, axis, (line,)))
    page = html_page(name, [section], {"p.svg": chart, "d": Markup("<i>ours</i>")}, {name: name})
    content = as_utf8(page).decode("utf-8")
    parser = Tags(content)
    assert parser.tags <= set(TAGS.split())
    assert parser.attributes <= set(ATTRIBUTES.split())
    shown = as_utf8(name).decode("utf-8")
    # title and h1, link and h2 of the section, p, li, caption, th, td, th, td, link;
    # of the chart: figcaption, two axes, the mark, the legend.
    n_words = sum(shown in word for word in parser.words)
    assert n_words == 17
    assert name in parser.data["report-data"]


class Tags(HTMLParser):
    """Which tags and attributes a page has, its words, and its blocks of JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.data: dict[str, Any] = {}
        self._block: str | None = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag in ("script", "style"):
            self._block = dict(attrs).get("id")
        else:
            self._block = ""

    def handle_endtag(self, tag: str) -> None:
        self._block = ""

    def handle_data(self, data: str) -> None:
        if self._block:
            self.data[self._block] = json.loads(data)
        elif self._block == "":
            self.words.append(data)


TAGS = """
    html head meta title style body a header h1 nav ul li div button main section h2 p table caption
    thead tbody tr th td figure figcaption svg path text g line circle span i script
"""
ATTRIBUTES = """
    lang charset http-equiv content name class href id aria-label aria-labelledby type tabindex role
    scope data-chart viewbox d x y transform data-line stroke-dasharray y1 y2 visibility r
    aria-pressed aria-hidden hidden
"""


def test_a_value_that_a_template_needs_must_be_there() -> None:
    with pytest.raises(UndefinedError, match="tiles"):
        render("headlines.html")


def test_half_a_pair_in_json_is_read_back() -> None:
    assert json.loads(as_utf8(json.dumps({"a": "M\udce4rz"}, ensure_ascii=False))) == {
        "a": "M\udce4rz"
    }


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


def test_a_line_without_points_says_so() -> None:
    chart = Chart("c", "C", UNIT, UNIT, (Line("k", "by case", (), ()),))
    assert "by case (no curve)" in chart_html(chart)
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
