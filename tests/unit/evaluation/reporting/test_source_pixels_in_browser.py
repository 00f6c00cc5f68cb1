"""Pages with source pixels in a real browser: the link, the pixels, the layers, the way back."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simfrcnn.evaluation import evaluate, write_report
from simfrcnn.images.hanging import hung_pictures, source_pictures
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings
from simfrcnn.workflows.prediction_heat import encoded_map
from support.browser import opened, visited
from support.films import BOX, HEIGHT, WIDTH, film, films

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("quick_charts")]

FEW = EvaluationSettings(bootstrap_replicates=0)
PAINTED = "#stage[data-painted=all]"
# The middle row of a canvas, from a copy: Chromium remarks on reading a canvas back.
ROW = """selector => {
  const canvas = document.querySelector(selector);
  const copy = document.createElement('canvas');
  Object.assign(copy, { width: canvas.width, height: 1 });
  const context = copy.getContext('2d', { willReadFrequently: true });
  context.drawImage(canvas, 0, -Math.floor(canvas.height / 2));
  return [...context.getImageData(0, 0, copy.width, 1).data].filter((_, i) => i % 4 === 0);
}"""
DECODED = """async id => {
  const pictures = JSON.parse(document.getElementById('report-pictures').textContent);
  const pixels = await simfrcnnViewer.pixelsOfPicture(pictures[id]);
  let text = '';
  for (const value of pixels.values) text += String.fromCharCode(value);
  return [pixels.width, pixels.height, btoa(text)];
}"""


def maps(some: list[ImageRecord]) -> list[dict[str, bytes]]:
    return [{"malignant": encoded_map(np.ones((12, 7), np.float32))} for _ in some]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    records, detections = films(folder)
    return write_report(
        folder / "report", evaluate(records, detections, FEW),
        records=records, detections=detections, load_pictures=hung_pictures,
        load_sources=source_pictures, load_maps=maps,
    )  # fmt: skip


def page_of(patient: str, report: Path) -> Path:
    """The page of an exam."""
    pages = (report.parent / "exams").iterdir()
    (own,) = [page for page in pages if f'"{patient}-exam"' in page.read_text()]
    return own


def contrast(page: Any) -> float:
    """How much the greys differ within 80 pixels of the screen in the middle of the view."""
    row = np.array(page.evaluate(ROW, "#large-stage canvas"))
    part = row[len(row) // 2 - 40 : len(row) // 2 + 40]
    return float(part.max() - part.min())


def enlarged(page: Any) -> None:
    """The left view, enlarged until its box fills the window."""
    page.click("#stage .slot:not(.right) .view")
    for _ in range(8):
        page.keyboard.press("+")
    page.wait_for_timeout(200)


def test_the_link_opens_the_page_and_it_shows_more_pixels(browser: Any, report: Path) -> None:
    fetched: list[str] = []
    with visited(browser, report.as_uri(), fetched) as page:
        page.fill("#search", "P1")
        page.wait_for_selector(PAINTED)
        page.fill("#exact", "0.625")
        enlarged(page)
        assert contrast(page) < 40  # columns of 60 and 180 that are no columns any more
        assert page.text_content("#large-link") == "source pixels"
        name = page.get_attribute("#large-link", "href").split("#")[0]
        page.click("#large-link")
        page.wait_for_selector(PAINTED)
        assert page.url.split("#")[0] == (report.parent / name).as_uri()
        assert page.text_content("#exam-title") == "P1-exam (patient P1)"
        assert page.input_value("#exact") == "0.625"  # the threshold comes along, and the view
        assert "L CC" in page.text_content("#large-title")
        for _ in range(8):
            page.keyboard.press("+")
        page.wait_for_timeout(200)
        assert contrast(page) > 80  # drawn smoothly between the stored pixels
        page.click("#large-link")
        page.wait_for_selector(PAINTED)
        assert page.url.split("#")[0] == report.as_uri()
        assert "L CC" in page.text_content("#large-title")
        page.keyboard.press("Escape")
        assert page.text_content("#exam-title") == "P1-exam (patient P1)"
        assert page.input_value("#exact") == "0.625"
        page.click("#exam-link")
        page.wait_for_selector(PAINTED)
        assert not page.is_visible("#large")
        page.click("#exam-link")
        page.wait_for_selector(PAINTED)
        assert page.text_content("#exam-title") == "P1-exam (patient P1)"
        assert page.locator("#exam-title").bounding_box()["y"] > 0
    places = [url.split("#")[0] for url in fetched]
    there, back = (report.parent / name).as_uri(), report.as_uri()
    assert places == [back, there, back, there, back]  # and nothing else was asked for


def test_the_browser_has_every_stored_pixel(browser: Any, report: Path) -> None:
    pages = sorted((report.parent / "exams").iterdir())
    n_compared = 0
    for path in pages:
        with opened(browser, path) as page:
            page.wait_for_selector(PAINTED)
            for number in range(1, 7):
                pictures = page.text_content("#report-pictures")
                if f'"{number}":' not in pictures:
                    continue
                width, height, values = page.evaluate(DECODED, str(number))
                shown = np.frombuffer(base64.b64decode(values), np.uint8).reshape(height, width)
                flip = np.s_[:: -1 if number == 5 else 1, :: -1 if number % 2 == 0 else 1]
                np.testing.assert_array_equal(shown, film(number)[flip])
                n_compared += 1
    assert n_compared == 6


def test_a_page_has_boxes_threshold_and_layers(browser: Any, report: Path) -> None:
    with opened(browser, page_of("P0", report)) as page:
        page.wait_for_selector(PAINTED)
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
        assert len(ids) == len(set(ids))
        assert not page.is_visible("#confusion")
        assert not page.is_visible("#exam-list")
        assert not page.is_visible(".filters")
        layer = page.locator("#stage svg").nth(1)  # a right view hangs first
        assert layer.get_attribute("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
        box = page.locator("#stage rect.truth")
        x1, y1, x2, y2 = BOX
        assert [float(box.get_attribute(key)) for key in ("x", "y", "width", "height")] == [
            x1, y1, x2 - x1, y2 - y1
        ]  # fmt: skip
        assert page.locator("#stage rect.found.hit").count() == 1
        assert "called positive" in page.text_content("#verdict")
        page.fill("#exact", "0.95")
        assert page.locator("#stage rect.found").count() == 0
        assert "called negative" in page.text_content("#verdict")
        page.click("#points button")  # back to where the report begins
        assert page.locator("#stage rect.found.hit").count() == 1
        assert page.get_attribute("#points button", "aria-pressed") == "true"
        assert page.is_visible("#stage path.outline.truth")
        page.keyboard.press("s")
        assert page.is_visible("#stage rect.square")
        page.keyboard.press("h")
        page.wait_for_selector("#stage canvas.heat[width='7'] >> nth=1")
        page.keyboard.press("ArrowRight")  # there is no other exam
        assert page.locator("#stage .view").count() == 2
        page.keyboard.press("?")
        assert "exams" not in page.locator("#keys dd").all_text_contents()


@pytest.mark.parametrize("width", [390, 800, 1300])
def test_a_page_is_as_wide_as_the_window_and_prints(browser: Any, report: Path, width: int) -> None:
    with opened(browser, report.parent / "exams" / "1.html", width=width) as page:
        page.wait_for_selector(PAINTED)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.is_visible("#exam-link")
        page.keyboard.press("+")
        assert page.is_visible("#large-link")
        page.keyboard.press("Escape")
        page.emulate_media(media="print")
        page.wait_for_selector("#paper .sheet img >> nth=1")
        shown = page.locator("#paper .sheet img").first.bounding_box()
        assert 0.3 * width < shown["width"] < 0.6 * width
        assert shown["height"] == pytest.approx(shown["width"] * HEIGHT / WIDTH, rel=0.02)


def test_without_pages_there_is_no_link(browser: Any, report: Path, tmp_path: Path) -> None:
    records, detections = films(tmp_path / "films")
    without = write_report(
        tmp_path, evaluate(records, detections, FEW),
        records=records, detections=detections, load_pictures=hung_pictures,
    )  # fmt: skip
    with opened(browser, without) as page:
        page.wait_for_selector(PAINTED)
        assert not page.is_visible("#exam-link")
        page.keyboard.press("+")
        assert page.is_visible("#large")
        assert not page.is_visible("#large-link")
