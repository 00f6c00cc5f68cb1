"""The site of the documents: built strictly and offline, and it shows what the code host shows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from docs_site.markdown import for_python_markdown, links_of, with_links
from docs_site.reference import api_page, error_page, messages

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.docs
# What must be the same on both; paragraphs depend on how loose a list is.
_TAGS = {"li", "ul", "ol", "table", "tr", "pre", "h1", "h2", "h3", "h4", "img", "strong"}
_FETCHED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src")}


class _Elements(HTMLParser):
    """Counts elements, and collects what a browser would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _TAGS:
            self.counts[tag] += 1
        self.fetched += [value or "" for name, value in attrs if (tag, name) in _FETCHED]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a process that reaches for the net fails."""
    why = "is not installed: pip install 'simfrcnn[docs]'"
    pytest.importorskip("mkdocs", reason=f"mkdocs {why}")
    pytest.importorskip("material", reason=f"mkdocs-material {why}")
    pytest.importorskip("mkdocstrings", reason=f"mkdocstrings {why}")
    folder = tmp_path_factory.mktemp("site")
    offline = (
        "import socket, sys\n"
        "def refused(*_, **__): raise OSError('the build asked for the net')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused\n"
        "from mkdocs.__main__ import cli\n"
        "sys.exit(cli(['build', '--strict', '--quiet', '--site-dir', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", offline, str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_site_is_whole_and_fetches_nothing(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        for address in _Elements(page.read_text(encoding="utf-8")).fetched:
            assert not re.match(r"(https?:)?//", address), f"{page}: {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


@pytest.mark.slow
def test_pages_show_on_the_site_what_they_show_on_a_code_host(site: Path) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    code_host = markdown_it.MarkdownIt("commonmark").enable("table")
    seen = 0
    for path in [*ROOT.glob("docs/**/*.md"), ROOT / "datasets/README.md", ROOT / "CONTRIBUTING.md"]:
        is_inside = path.is_relative_to(ROOT / "docs")
        place = path.relative_to(ROOT / "docs") if is_inside else path.relative_to(ROOT)
        page = site / ("" if is_inside else "repository") / place.with_suffix(".html")
        if place.name == "README.md":
            page = page.with_name("index.html")
        html = page.read_text(encoding="utf-8")
        article = html[html.index("<article") : html.index("</article>")]
        expected = _Elements(code_host.render(path.read_text(encoding="utf-8"))).counts
        assert _Elements(article).counts == expected, path
        seen += 1
    assert seen > 40


@pytest.mark.slow
def test_the_api_and_the_errors_are_on_it(site: Path) -> None:
    api = (site / "reference" / "api.html").read_text(encoding="utf-8")
    assert "Find suspicious regions in one picture" in api  # the docstring of Detector.detect
    assert "choose its operating points" in api  # that of train
    page = (site / "reference" / "errors.html").read_text(encoding="utf-8")
    assert "give 0 (this process alone) or more" in page
    assert page.count("<tr>") > 600


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/]+\.md", text[text.index("\nnav:") :]))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    notebooks = {f"notebooks/{path.stem}.md" for path in ROOT.glob("docs/notebooks/*.ipynb")}
    assert named == pages | notebooks | {"reference/api.md", "reference/errors.md"}


def test_the_index_of_errors_holds_their_words() -> None:
    texts = {message.text for message in messages()}
    assert "--workers is …: give 0 (this process alone) or more" in texts  # simfrcnn/parallel.py
    assert len(texts) > 600
    assert "\\-\\-" not in error_page()
    for name in ("simfrcnn.detector.Detector", "simfrcnn.workflows.compare.compare"):
        assert f"::: {name}\n" in api_page()


def test_a_list_after_text_and_in_a_list() -> None:
    page = "Two:\n- one\n  more\n  - inner\n\n  a paragraph of one\n- two\n\nEnd.\n"
    assert for_python_markdown(page) == (
        "Two:\n\n- one\n    more\n    - inner\n\n    a paragraph of one\n\n- two\n\nEnd.\n"
    )


def test_code_is_left_alone() -> None:
    page = "```\ntext\n- no item [a](b)\n```\n    - code\n\n1. see\n   ```sh\n   a\n   ```\n"
    assert for_python_markdown(page) == page.replace("   ```", "    ```").replace("   a", "    a")
    assert links_of(page) == []


def test_links_are_changed_and_code_is_not() -> None:
    page = "[a](../x.md#y), [b](http://z), `[c](d.md)`, ![e](f.png), [g](#h)"
    assert links_of(page) == ["../x.md", "f.png"]
    assert with_links(page, lambda path: f"new/{path}").startswith("[a](new/../x.md#y), [b](http")


def test_make_and_git_know_where_the_site_goes() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "\nsite_dir: output/site" in text
    assert "/output/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "mkdocs build --strict" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert yaml.safe_load(text[text.index("\nnav:") :])["nav"]
