"""The report's page in a real browser: does it do what it shows, and say nothing on the console?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simfrcnn.artifacts import DetectionFile
from simfrcnn.evaluation import Report, evaluate, write_report
from simfrcnn.evaluation.results import OperatingPoint
from simfrcnn.images.hanging import HungPicture
from simfrcnn.outlines import rle_of_box
from simfrcnn.records import ImageRecord, Laterality, Supervision, ViewPosition
from simfrcnn.settings import EvaluationSettings
from simfrcnn.workflows.prediction_heat import encoded_map
from support.browser import opened
from support.evaluation_examples import detection_file, finding, found, grey_pictures, image

pytestmark = pytest.mark.browser

FEW = EvaluationSettings(bootstrap_replicates=20)
HOSTILE = "</script><img src=x onerror=alert(1)>"
VIEWS = [(side, view) for view in (ViewPosition.CC, ViewPosition.MLO) for side in Laterality]
POINT = OperatingPoint("case", "youden", 0.4375, chosen_on="val", sensitivity=0.9, specificity=0.8)


@pytest.fixture(autouse=True, scope="module")
def _no_files_for_papers() -> Iterator[None]:
    """Drawing them takes longer than all else here; other tests look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "simfrcnn.evaluation.reporting.report.draw_charts",
            lambda charts: {"png": b"", "svg": b""},
        )
        yield


def four_views(n_exams: int = 12) -> tuple[list[ImageRecord], DetectionFile]:
    """Exams of four views; every other one has a lesion in its left breast, which may be found."""
    random = np.random.default_rng(3)
    records, detections = [], []
    for exam in range(n_exams):
        has_lesion = exam % 2 == 0
        for side, view in VIEWS:
            number = len(records) + 1
            is_seen = has_lesion and side is Laterality.LEFT
            box = (20, 30, 40, 55)
            findings = [finding(box, number, lesion_id="L1")] if is_seen else []
            records.append(
                replace(
                    image(number, f"P{exam:02d}", *findings, laterality=side, view=view),
                    height=120,
                    width=80,
                )
            )
            boxes = [((50, 70, 65, 90), float(random.random() * 0.7))]
            if is_seen and exam != 4:
                boxes.append((box, float(0.3 + 0.7 * random.random())))
            detections.append(found(number, *boxes))
    return records, detection_file(*detections)


def breasts(records: list[ImageRecord]) -> list[HungPicture]:
    """Half ellipses; pictures of the fourth exam are mirrored."""
    pictures = []
    for record in records:
        pixels = np.full((record.height, record.width), 12, np.uint8)
        wall = record.width if record.laterality is Laterality.RIGHT else 0
        cv2.ellipse(pixels, (wall, 60), (50, 40), 0, 0, 360, 130, -1)
        content = cv2.imencode(".jpg", pixels)[1].tobytes()
        pictures.append(HungPicture(content, "image/jpeg", record.exam_id == "P03-exam"))
    return pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    records, detections = four_views()
    report = evaluate(records, detections, FEW, operating_points=(POINT,))
    page = write_report(
        tmp_path_factory.mktemp("report"),
        report,
        records=records,
        detections=detections,
        load_pictures=breasts,
        title="Four views",
    )
    return page, report


def confusion(report: Report, level: str, threshold: float) -> list[int]:
    units = report.units[level]
    return [
        sum(u.truth == truth and (u.score >= threshold) is called for u in units)
        for truth, called in (
            ("positive", True),
            ("positive", False),
            ("normal", True),
            ("normal", False),
        )
    ]


def shown_confusion(page: Any) -> list[int]:
    return [int(page.text_content(f"#{cell}")) for cell in ("tp", "fn", "fp", "tn")]


def slide(page: Any, value: float) -> None:
    page.evaluate(
        "value => { const s = document.getElementById('threshold'); s.value = value;"
        " s.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def n_boxes(page: Any, kind: str = "") -> int:
    return page.locator(f"#stage rect.found{kind}").count()


def test_the_slider_moves_boxes_and_the_table(browser: Any, made: tuple[Path, Report]) -> None:
    path, report = made
    with opened(browser, path) as page:
        assert page.input_value("#exact") == "0.4375"
        assert shown_confusion(page) == confusion(report, "case", POINT.score_threshold)
        c = report.confusions["case/youden"]
        assert shown_confusion(page) == [
            c.true_positives, c.false_negatives, c.false_positives, c.true_negatives
        ]  # fmt: skip
        counted = []
        for level in report.units:
            page.select_option("#level", level)
            for threshold in (0.0, 0.25, 0.5, 0.625, 1.0):
                slide(page, threshold)
                assert shown_confusion(page) == confusion(report, level, threshold), level
                counted.append(n_boxes(page))
        assert counted[0] > counted[3] > counted[4] == 0
        # An exact score is at its own threshold positive, just above it negative.
        page.select_option("#level", "image")
        score = max(unit.score for unit in report.units["image"])
        for threshold in (score, float(np.nextafter(score, 1))):
            page.fill("#exact", repr(threshold))
            assert shown_confusion(page) == confusion(report, "image", threshold)
        page.select_option("#level", "case")
        page.click("#points >> text=fixed")
        assert shown_confusion(page) == confusion(report, "case", 0.5)
        assert page.get_attribute("#points >> text=fixed", "aria-pressed") == "true"
        figures = report.figures["case/sensitivity"], report.figures["case/specificity"]
        assert page.text_content("#sensitivity") == f"{figures[0].value:.3f}"
        assert page.text_content("#specificity") == f"{figures[1].value:.3f}"
        dot = page.locator("#small-roc .moving")
        assert float(dot.get_attribute("cx")) == pytest.approx(5 + 100 * (1 - figures[1].value))
        assert float(dot.get_attribute("cy")) == pytest.approx(105 - 100 * figures[0].value)


GREYS = """[...document.querySelectorAll('#stage canvas')].map((canvas, i) => {
  const x = Math.round(canvas.width * (i % 2 ? 0.2 : 0.8)), y = Math.round(canvas.height / 2);
  return canvas.getContext('2d').getImageData(x, y, 1, 1).data[0];
})"""


def greys(page: Any) -> list[int]:
    """What is drawn beside the chest wall of each view."""
    return [int(grey) for grey in page.evaluate(GREYS)]


def test_four_views_hang_with_chest_walls_facing(browser: Any, made: tuple[Path, Report]) -> None:
    path, _ = made
    with opened(browser, path) as page:
        page.fill("#search", "P03")
        labels = page.locator("#stage .slot .label b").all_text_contents()
        assert labels == ["R CC", "L CC", "R MLO", "L MLO"]
        boxes = [page.locator("#stage .view").nth(i).bounding_box() for i in range(4)]
        for right, left in ((0, 1), (2, 3)):  # right breasts end where left ones begin
            gap = boxes[left]["x"] - boxes[right]["x"] - boxes[right]["width"]
            assert 0 <= gap < 12
        assert page.locator("#stage canvas").count() == 4
        page.wait_for_selector("#stage[data-painted=all]")
        assert all(125 <= grey <= 135 for grey in greys(page))  # of the half ellipses
        slide(page, 0)
        # Mirrored pictures: 50..65 of 80 pixels becomes 15..30.
        assert page.get_attribute("#stage rect.found", "x") == "15"
        label = page.locator("#stage .label").first.text_content()
        assert label.startswith("R CC · mirrored ·")  # first, so that a narrow page does not cut it
        page.fill("#search", "P01")
        assert page.get_attribute("#stage rect.found", "x") == "50"


def test_filters_and_keys(browser: Any, made: tuple[Path, Report]) -> None:
    path, _ = made
    with opened(browser, path) as page:
        listed = page.locator("#exam-list button")
        n_all = listed.count()
        assert n_all == 12
        page.select_option("#group", "missed")
        assert page.text_content("#n-shown") == f"{listed.count()} of {n_all} exams"
        assert 1 <= listed.count() < n_all
        assert "P04-exam" in page.text_content("#exam-list")
        page.select_option("#group", "")
        page.select_option("#truth", "normal")
        assert listed.count() == 6
        page.fill("#search", "p03")
        assert page.text_content("#exam-title") == "P03-exam (patient P03)"
        page.fill("#search", "nobody")
        assert "none passes the filters" in page.text_content("#n-shown")
        assert not page.is_visible("#reading")
        page.fill("#search", "")
        page.select_option("#truth", "positive")
        slide(page, 0.9)
        page.select_option("#side", "R")
        assert listed.count() == 0  # lesions are in left breasts, no detection is that high
        slide(page, 0)
        assert listed.count() == 6
        page.select_option("#truth", "")
        page.select_option("#side", "")
        page.click("#exam-list button >> nth=0")
        titles = [page.text_content("#exam-title")]
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
            titles.append(page.text_content("#exam-title"))
        assert titles[0] != titles[1] == titles[3] != titles[2]
        assert page.locator("#exam-list button[aria-current=true]").count() == 1
        assert page.locator("#stage rect.found").first.is_visible()
        page.keyboard.press("d")
        assert not page.locator("#stage rect.found").first.is_visible()
        page.keyboard.press("d")
        page.fill("#search", "P00")
        page.click("#exam-list button")
        assert page.locator("#stage rect.truth").first.is_visible()
        page.keyboard.press("t")
        assert not page.locator("#stage rect.truth").first.is_visible()
        page.keyboard.press("t")
        page.keyboard.press("+")
        assert page.is_visible("#large")
        width = page.locator("#large .view").bounding_box()["width"]
        page.keyboard.press("+")
        assert page.locator("#large .view").bounding_box()["width"] > 1.3 * width
        page.keyboard.press("Escape")
        assert not page.is_visible("#large")
        page.click("#stage .view >> nth=1")
        assert "L CC" in page.text_content("#large-title")


def scrolls(page: Any, node: Any, key: str) -> bool:
    """Whether the key moves what the node holds; the page's own policy forbids wait_for_function.

    Browsers move it little by little, so it is waited for.
    """
    place = "node => node.scrollLeft + node.scrollTop"
    start = node.evaluate(place)
    page.keyboard.press(key)
    for _ in range(100):
        if node.evaluate(place) > start:
            return True
        page.wait_for_timeout(50)
    return False


def test_arrow_keys_scroll_what_has_the_focus(browser: Any, made: tuple[Path, Report]) -> None:
    path, _ = made
    with opened(browser, path, width=700) as page:
        title = page.text_content("#exam-title")
        table = page.locator("#findings .table").nth(1)  # wider than the page
        table.focus()
        assert scrolls(page, table, "ArrowRight")
        page.click("#stage .view >> nth=0")
        for _ in range(4):
            page.keyboard.press("+")
        assert scrolls(page, page.locator("#large-stage"), "ArrowDown")
        page.keyboard.press("Escape")
        assert page.text_content("#exam-title") == title


def test_light_dark_narrow_and_paper(browser: Any, made: tuple[Path, Report]) -> None:
    path, _ = made
    paper = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, path) as page:
        light = page.evaluate(paper)
        page.click("#theme")
        page.click("#theme")
        assert page.text_content("#theme") == "dark"
        dark = page.evaluate(paper)
        assert dark != light == "rgb(255, 255, 255)"
        page.emulate_media(media="print")
        page.wait_for_selector("#paper .sheet")
        assert page.evaluate(paper) == light
        assert page.locator("#paper .sheet").count() == 12
        assert not page.is_visible("nav")
        assert not page.is_visible("#stage")
    with opened(browser, path, width=800, scheme="dark") as page:
        assert page.evaluate(paper) == dark
        assert page.evaluate("document.documentElement.scrollWidth") <= 800


def test_charts_read_values_and_hide_lines(browser: Any, made: tuple[Path, Report]) -> None:
    path, report = made
    with opened(browser, path) as page:
        chart = page.locator("[data-chart='froc-centre']")
        chart.locator("> svg").hover()
        readout = chart.locator(".readout").text_content()
        assert readout.startswith("false positives per image 0.")
        curve = report.froc["centre/all"]
        x = float(readout.split("\n")[0].split()[-1])
        found_at = {  # x is shown to two digits
            max((y for at, y in zip(curve.x, curve.y, strict=True) if at <= end), default=0)
            for end in (x - 0.005, x + 0.005)
        }
        assert any(f"all images: {value:.3f}" in readout for value in found_at)
        chart.locator(".legend").first.click()
        assert not chart.locator("g.line").first.is_visible()
        assert chart.locator("g.line").last.is_visible()


def test_heat_maps_squares_and_outlines_over_the_exams(browser: Any, tmp_path: Path) -> None:
    records, detections = four_views(4)
    ring = ((20.0, 30.0), (40.0, 30.0), (40.0, 55.0), (20.0, 55.0))
    records = [
        replace(r, findings=tuple(replace(f, outline=(ring,)) for f in r.findings)) for r in records
    ]
    images = [
        replace(
            one,
            looks=np.full((len(one.scores), 2), 0.25),
            squares=one.boxes + np.array([-5, -5, 5, 5]),
            masks=tuple(rle_of_box(tuple(box), 120, 80) for box in one.boxes),
        )
        for one in detections.images.values()
    ]
    detections = detection_file(*images)

    def maps(some: list[ImageRecord]) -> list[dict[str, bytes]]:
        """None of the first film; `benign` is everywhere, `malignant` in the upper left corner."""
        corner, full = np.zeros((12, 8), np.float32), np.ones((12, 8), np.float32)
        corner[:2, :2] = 1
        both = {"malignant": encoded_map(corner), "benign": encoded_map(full)}
        return [{} if record.image_id == 1 else both for record in some]

    path = write_report(
        tmp_path, evaluate(records, detections, FEW), records=records, detections=detections,
        load_pictures=breasts, load_maps=maps, title="Layers",
    )  # fmt: skip
    alpha = """[...document.querySelectorAll('#stage canvas.heat')].map(canvas => {
      if (!canvas.width) return 0;
      const copy = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      return copy.getImageData(7, 11, 1, 1).data[3];
    })"""  # of copies: Chromium remarks on reading a canvas back
    turns = "[...document.querySelectorAll('#stage canvas.heat')].map(c => c.style.transform)"
    with opened(browser, path) as page:
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
        assert {"outlines", "layer-outlines"} <= set(ids)  # a section of the report, and a button
        assert len(ids) == len(set(ids))
        page.fill("#search", "P00")
        page.click("#exam-list button")
        page.wait_for_selector("#stage[data-painted=all]")
        slide(page, 0)
        assert page.locator("#stage path.outline.truth").count() == 2
        assert page.locator("#stage path.outline.truth").first.is_visible()
        assert n_boxes(page) == 6
        assert page.locator("#stage path.outline.found").count() == n_boxes(page)
        page.keyboard.press("t")
        assert not page.locator("#stage path.outline.truth").first.is_visible()
        page.keyboard.press("t")
        assert not page.locator("#stage rect.square").first.is_visible()
        page.click("#layer-squares")
        assert page.locator("#stage rect.square").first.is_visible()
        page.keyboard.press("h")
        page.wait_for_selector("#stage canvas.heat[width='8'] >> nth=2")
        assert page.input_value("#heat-class") == "malignant"
        assert page.evaluate(alpha) == [0, 0, 0, 0]
        notes = page.locator("#stage .note:visible").all_text_contents()
        assert notes == ["no heat map"]  # the first film has none
        page.select_option("#heat-class", "benign")
        page.wait_for_timeout(200)
        assert page.evaluate(alpha) == [255, 0, 255, 255]  # a right film hangs first
        assert page.evaluate(turns) == ["scale(1, 1)"] * 4
        page.fill("#search", "P03")  # its pictures are mirrored, and it stays on
        page.click("#exam-list button")
        page.wait_for_selector("#stage canvas.heat[width='8'] >> nth=3")
        assert page.evaluate(turns) == ["scale(-1, 1)"] * 4
        assert page.input_value("#heat-class") == "benign"
        page.keyboard.press("2")
        page.wait_for_selector("#large canvas.heat[width='8']")
        assert page.is_visible("#large canvas.heat")


def test_without_layers_their_controls_are_hidden(browser: Any, made: tuple[Path, Report]) -> None:
    path, _ = made
    with opened(browser, path) as page:
        for key in "hso":
            page.keyboard.press(key)
        for name in ("layers", "layer-heat", "layer-squares", "layer-outlines", "heat-opacity"):
            assert page.locator(f"#{name}").count() == 1
            assert not page.is_visible(f"#{name}")


def test_a_hostile_id_is_inert(browser: Any, tmp_path: Path) -> None:
    records, detections = four_views(4)
    records = [
        replace(r, exam_id=HOSTILE + r.exam_id, patient_id=HOSTILE + r.patient_id) for r in records
    ]
    settings = replace(FEW, subgroups=("hostile",))
    records = [replace(r, attributes={"hostile": HOSTILE}) for r in records]
    path = write_report(
        tmp_path,
        evaluate(records, detections, settings, provenance={"annotations": HOSTILE}),
        records=records,
        detections=detections,
        load_pictures=None,
        title=HOSTILE,
    )
    with opened(browser, path) as page:
        assert page.title() == HOSTILE
        assert HOSTILE in page.text_content("#exam-title")
        assert HOSTILE in page.text_content("#subgroups")
        assert page.locator("img").count() == 0
        # Even if a tag came through, the page's own policy would not run it.
        assert "script-src 'sha256-" in page.get_attribute("meta[http-equiv]", "content")


SETS = {
    "one image": ([image(1, "A")], [found(1)]),
    "no positives": ([image(1, "A"), image(2, "B")], [found(1, ((1, 1, 9, 9), 0.4)), found(2)]),
    "no normals": (
        [image(1, "A", finding((1, 1, 9, 9)))],
        [found(1, ((1, 1, 9, 9), 0.4))],
    ),
    "nothing known": ([image(1, "A", supervision=Supervision.UNLABELLED)], [found(1)]),
    "views without a name, several of one view": (
        [
            *(image(i, "A", finding((1, 1, 9, 9), i)) for i in (1, 2, 3)),
            replace(image(4, "A"), laterality=None, view_position=None),
            image(5, "A", view=ViewPosition.OTHER),
        ],
        [found(i, ((1, 1, 9, 9), 0.4)) for i in range(1, 6)],
    ),
    "no view with a name": (
        [replace(image(i, "A"), laterality=None, view_position=None) for i in (1, 2)],
        [found(1), found(2, ((1, 1, 9, 9), 0.4))],
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_small_sets(browser: Any, tmp_path: Path, name: str) -> None:
    records, images = SETS[name]
    detections = detection_file(*images)
    report = evaluate(records, detections, FEW)
    path = write_report(
        tmp_path, report, records=records, detections=detections, load_pictures=grey_pictures
    )
    with opened(browser, path) as page:
        for threshold in (0.0, 0.7):
            slide(page, threshold)
            assert shown_confusion(page) == confusion(report, "case", threshold)
        shown = page.locator("#stage .view").count()
        n_views = len(records) if "A-exam" in page.text_content("#exam-list") else 0
        assert shown == (1 if name == "no positives" else n_views)
        n_exams = page.locator("#exam-list button").count()
        assert page.is_visible(".filters") is page.is_visible(".viewer") is (n_exams > 0)
        has_frames = page.locator("#stage .empty").count() > 0  # for the views that are not there
        assert has_frames is (shown > 0 and name != "no view with a name")
