"""The page of `serve` and its viewer in a real browser."""

import json
import shutil

import numpy as np
import pytest

from simfrcnn.service.web_guard import Access
from support.browser import visited
from support.data_examples import write_dicom
from support.studies import VIEWS, write_study
from support.web import app_of, marking, served, studies_in, wait_until_done

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"
HEIGHT, WIDTH = 240, 160
GREY = """i => { const canvas = document.querySelectorAll('#stage canvas[role=img]')[i];
  const at = [Math.round(canvas.width / 2), Math.round(canvas.height / 2)];
  return canvas.getContext('2d').getImageData(...at, 1, 1).data[0]; }"""


def write_grey_study(folder):
    """Four films of one value in the middle; the right ones are stored mirrored."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = (columns / (0.7 * WIDTH)) ** 2 + ((rows - HEIGHT / 2) / (HEIGHT / 2)) ** 2 < 0.8
    for number, (side, view) in enumerate(VIEWS):
        noise = np.random.default_rng(number).integers(0, 400, inside.shape)
        stored = (1300 * inside + noise).astype(np.uint16)  # chest wall at the left
        stored[100:140, 60:100] = 1500
        stored[120, 20] = 4000  # beyond the window
        write_dicom(
            folder / "grey" / f"{side}{view}.dcm", stored, WindowCenter=1200, WindowWidth=2400,
            ImageLaterality=side, ViewPosition=view, StudyInstanceUID="1.2.3.9",
            SOPInstanceUID=f"1.2.3.9.{number}", PatientID="Grey",
        )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address, and the ids of two judged studies by patient; a third is not judged."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "grey").mkdir()
    write_grey_study(folder)
    write_study(folder, 1, n_views=2, PatientID=HOSTILE)
    write_study(folder, 2, PatientID="P2")
    with studies_in(folder) as studies:
        ids = {one.plan.patient_id: one.id for one in studies.listed()}
        for name in ("Grey", HOSTILE):
            studies.submit(ids[name])
        wait_until_done(studies, 2)
        with served(app_of(studies)) as url:
            yield url, ids


@pytest.fixture
def open_page(browser, site):
    """Visit the page, and in the end see that it asked nobody but its server."""
    url, ids = site

    def visit(patient=None, **options):
        return visited(browser, f"{url}/results/{ids[patient]}" if patient else url, fetched,
                       **options)  # fmt: skip

    fetched = []
    yield visit
    assert fetched
    assert all(one.startswith(f"{url}/") for one in fetched)


def painted(page):
    page.wait_for_selector("#stage[data-painted=all]")


def n_marks(page):
    return page.locator("#stage rect.found").count()


def slide(page, value):
    page.evaluate(
        "value => { const s = document.getElementById('threshold'); s.value = value;"
        " s.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def test_an_exam_hangs_with_its_marks(open_page):
    with open_page("Grey") as page:
        painted(page)
        labels = page.locator("#stage .slot .label b").all_text_contents()
        assert labels == ["R CC", "L CC", "R MLO", "L MLO"]
        assert page.text_content("#exam-title") == "Grey"
        assert page.text_content("#call") == "called positive, score 0.800"
        assert n_marks(page) == 4
        slide(page, 0.2)
        assert n_marks(page) == 8
        assert page.text_content("#counts") == "8 marked in 4 films"
        slide(page, 0.9)
        assert n_marks(page) == 0
        page.click("#to-point")
        assert n_marks(page) == 4
        looks = page.locator("#stage .score .looks").first.text_content()
        assert looks == " (detector 0.700, second look 0.900)"
        page.keyboard.press("d")
        assert not page.locator("#stage rect.found").first.is_visible()
        label = page.get_attribute("#stage .view >> nth=0", "aria-label")
        assert label == "Enlarge R CC: 1 marked, the highest 0.800"


def test_marks_turn_with_films_that_are_stored_mirrored(open_page):
    with open_page("Grey") as page:
        painted(page)
        slide(page, 0.2)
        corners = [  # of the second mark of each view: the corner at the left of the stored film
            float(page.locator(f"#stage .view >> nth={i} >> rect.found").first.get_attribute("x"))
            for i in range(4)
        ]
        assert corners == [
            WIDTH - WIDTH / 5,
            0,
            WIDTH - WIDTH / 5,
            0,
        ]  # a right breast's chest wall is to hang at the right
        boxes = [page.locator("#stage .view").nth(i).bounding_box() for i in range(4)]
        assert len({round(box["width"]) for box in boxes}) == 1  # one scale
        for right, left in ((0, 1), (2, 3)):
            gap = boxes[left]["x"] - boxes[right]["x"] - boxes[right]["width"]
            assert 0 <= gap < 12


def test_the_window_is_laid_over_the_source(open_page):
    with open_page("Grey", silent=False) as page:  # Chromium remarks on reading a canvas back
        painted(page)
        page.wait_for_timeout(200)
        expected = round(255 * (1500 - 1199.5) / 2399 + 127.5)  # PS3.3 C.11.2.1.2
        assert abs(page.evaluate(GREY, 0) - expected) <= 1
        page.keyboard.press("i")
        page.wait_for_timeout(100)
        assert abs(page.evaluate(GREY, 3) - (255 - expected)) <= 1
        page.keyboard.press("r")
        page.keyboard.press("i")
        for _ in range(4):
            page.keyboard.press("]")  # the window goes up, the film gets darker
        page.wait_for_timeout(100)
        higher = round(255 * (1500 - 1199.5 - 0.2 * 2400) / 2399 + 127.5)
        assert abs(page.evaluate(GREY, 1) - higher) <= 1
        assert page.text_content("#window-text") == "+0.20, \u00d7 1.00"
        page.click("#window-reset")
        place = page.locator("#stage .view").nth(2).bounding_box()
        x, y = place["x"] + place["width"] / 2, place["y"] + 30
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 150, y, steps=3)  # to the right: twice as wide
        page.mouse.up()
        page.wait_for_timeout(100)
        wide = round(255 * (1500 - 1199.5) / (2 * 2399) + 127.5)
        assert abs(page.evaluate(GREY, 0) - wide) <= 2
        assert not page.is_visible("#large")  # it was a drag, not a click


def test_a_view_is_enlarged_moved_and_put_back(open_page):
    with open_page("Grey") as page:
        painted(page)
        page.keyboard.press("2")
        assert page.text_content("#large-title").startswith("L CC")
        view = page.locator("#large .view")
        before = view.bounding_box()
        x, y = before["x"] + before["width"] * 0.3, before["y"] + before["height"] * 0.3
        page.mouse.move(x, y)
        page.mouse.wheel(0, -800)  # four times
        page.wait_for_timeout(300)
        after = view.bounding_box()
        assert after["width"] == pytest.approx(4 * before["width"], rel=0.01)
        assert (x - after["x"]) / after["width"] == pytest.approx(0.3, abs=0.02)
        assert (y - after["y"]) / after["height"] == pytest.approx(0.3, abs=0.02)
        canvas = page.locator("#large canvas[role=img]").bounding_box()
        room = page.locator("#large-stage").bounding_box()
        assert canvas["width"] <= room["width"]  # only what is in sight is drawn
        page.keyboard.down("Shift")
        page.mouse.down()
        page.mouse.move(x - 90, y - 40, steps=3)
        page.mouse.up()
        page.keyboard.up("Shift")
        moved = view.bounding_box()
        assert (moved["x"] - after["x"], moved["y"] - after["y"]) == pytest.approx((-90, -40), 1)
        assert page.text_content("#window-text") == "+0.00, \u00d7 1.00"
        page.keyboard.press("Escape")
        assert not page.is_visible("#large")
        assert page.is_visible("#window-reset")
        page.keyboard.press("?")
        assert page.is_visible("#keys")
        assert "invert" in page.text_content("#keys")
        page.click("#keys button")
        assert not page.is_visible("#keys")


HEAT = """i => { const canvas = document.querySelectorAll('#stage canvas.heat')[i];
  const place = canvas.getBoundingClientRect(), view = canvas.parentElement.getBoundingClientRect();
  const near = (a, b) => Math.abs(a - b) < 1, right = canvas.width - 1, below = canvas.height - 1;
  const at = (x, y) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data];
  return { size: [canvas.width, canvas.height], transform: canvas.style.transform,
           covers: near(place.width, view.width) && near(place.height, view.height),
           corners: [at(0, 0), at(0, below), at(right, below)] }; }"""


def opacity(page, selector="#stage canvas.heat >> nth=0"):
    return float(page.locator(selector).evaluate("node => getComputedStyle(node).opacity"))


def test_a_heat_map_is_laid_over_and_switched(open_page):
    with open_page("Grey", silent=False) as page:  # Chromium remarks on reading a canvas back
        painted(page)
        heat = page.locator("#stage canvas.heat")
        assert heat.count() == 4
        assert not heat.first.is_visible()
        assert page.get_attribute("#layer-heat", "aria-pressed") == "false"
        assert not page.is_visible("#heat-opacity")
        page.keyboard.press("h")
        page.wait_for_selector("#stage canvas.heat[width='16'] >> nth=3")
        assert heat.first.is_visible()
        assert page.get_attribute("#layer-heat", "aria-pressed") == "true"
        assert page.is_visible("#heat-legend")
        assert not page.is_visible("#heat-class")  # there is one class
        for number, is_mirrored in enumerate((True, False, True, False)):  # as films are stored
            seen = page.evaluate(HEAT, number)
            assert seen["size"] == [16, 24]
            assert seen["covers"]
            assert seen["transform"] == f"scale({-1 if is_mirrored else 1}, 1)"
            clear, low, high = seen["corners"]
            assert clear[3] == 0
            assert low[3] == pytest.approx(51, abs=1)
            assert low[2] > 200 > low[0]  # blue
            assert high == [128, 0, 0, 255]  # red, as in the pictures of predict
        assert opacity(page) == 0.6
        page.focus("#heat-opacity")
        page.keyboard.press("ArrowRight")
        assert opacity(page) == 0.65
        assert page.get_attribute("#heat-opacity", "aria-valuetext") == "65%"
        page.keyboard.press("1")
        page.wait_for_selector("#large canvas.heat[width='16']")
        assert opacity(page, "#large canvas.heat") == 0.65
        page.click("#large #layer-heat")
        assert not page.locator("#large canvas.heat").is_visible()
        page.keyboard.press("Escape")
        assert not heat.first.is_visible()
        page.keyboard.press("?")
        for words in ("heat map", "what the second look saw", "outlines"):
            assert words in page.text_content("#keys")


CLASSES = ("malignant", "10", "2", "constructor", "a  b", HOSTILE)
"""Names that an object of JavaScript would put into another order, knows already, or an element
would shorten."""
OPAQUE = """[...document.querySelectorAll('#stage canvas.heat')].map(canvas => {
  if (!canvas.width) return null;
  const copy = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return copy.getImageData(15, 0, 1, 1).data[3]; })"""


def as_before_layers(folder, patient):
    """Write the result of a patient as it was before there were layers."""
    for path in folder.glob("results/exams/*/*.json"):
        content = json.loads(path.read_text())
        if content["patient_id"] == patient:
            for image in content["images"]:
                del image["class_maps"]
                for one in image["detections"]:
                    for name in ("second_look_xyxy_px", "segmentation"):
                        one.pop(name, None)
            path.write_text(json.dumps(content))


def test_a_class_has_its_own_map_and_stays_chosen(browser, tmp_path):
    for number in range(3):
        write_study(tmp_path, number, n_views=1, PatientID=f"P{number}")
    with studies_in(tmp_path, marking(tmp_path, CLASSES)) as studies:
        for study in studies.listed():
            studies.submit(study.id)
        wait_until_done(studies, 3)
        as_before_layers(tmp_path, "P2")
        first = studies.listed()[0].id
        with (
            served(app_of(studies)) as url,
            visited(browser, f"{url}/results/{first}", []) as page,
        ):
            painted(page)
            page.keyboard.press("h")
            assert page.locator("#heat-class option").all_text_contents() == list(CLASSES)
            for number, name in enumerate(CLASSES):
                page.select_option("#heat-class", index=number)
                page.wait_for_selector("#stage canvas.heat[width='16']")
                assert page.evaluate(OPAQUE) == [round(255 * number / 10)], name
                assert page.input_value("#heat-class") == name
            page.select_option("#heat-class", index=2)
            page.evaluate("document.activeElement.blur()")
            page.keyboard.press("ArrowRight")
            page.wait_for_selector("#exam-title >> text=P1")
            page.wait_for_selector("#stage canvas.heat[width='16']")
            assert page.input_value("#heat-class") == "2"
            assert page.evaluate(OPAQUE) == [51]
            held = []
            page.route("**/maps/*", lambda route: held.append(route))
            page.select_option("#heat-class", index=4)
            page.wait_for_selector("#stage canvas.heat[width='0']", state="attached")
            while not held:
                page.wait_for_timeout(20)
            assert page.evaluate(OPAQUE) == [None]  # not the map of the class before
            (route,) = held
            route.continue_()
            page.wait_for_selector("#stage canvas.heat[width='16']")
            assert page.evaluate(OPAQUE) == [102]
            page.click("#next")
            page.wait_for_selector("#exam-title >> text=P2")
            painted(page)
            assert n_marks(page) == 1
            for key in "hso":  # they are not switched off where there are none
                page.keyboard.press(key)
            assert page.locator("#layers").count() == 1
            assert not page.is_visible("#layers")
            assert page.locator("#stage canvas.heat").count() == 0
            assert page.locator("img").count() == 0
            page.unroute("**/maps/*")
            page.keyboard.press("ArrowLeft")
            page.wait_for_selector("#stage canvas.heat[width='16']")
            assert page.input_value("#heat-class") == "a  b"
            assert page.evaluate(OPAQUE) == [102]


def test_a_map_that_does_not_come_is_said_and_asked_for_again(open_page):
    with open_page("Grey", silent=False) as page:  # the browser itself remarks on a failure
        painted(page)
        page.route("**/films/1/maps/0", lambda route: route.abort())
        page.keyboard.press("h")
        page.wait_for_selector("#stage .view.no-map")
        assert page.locator("#stage .note:visible").all_text_contents() == ["heat map not loaded"]
        page.wait_for_selector("#stage canvas.heat[width='16'] >> nth=2")
        page.unroute("**/films/1/maps/0")
        page.focus("#heat-opacity")
        page.keyboard.press("ArrowRight")
        assert page.locator("#stage .no-map").count() == 1
        page.keyboard.press("h")
        page.keyboard.press("h")
        page.wait_for_selector("#stage canvas.heat[width='16'] >> nth=3")
        assert page.locator("#stage .note:visible").count() == 0


def test_squares_of_the_second_look_and_outlines_are_switched(open_page):
    with open_page("Grey") as page:
        painted(page)
        square = page.locator("#stage rect.square")
        assert square.count() == 4  # of the region that was looked at, none of the other
        assert not square.first.is_visible()
        page.keyboard.press("s")
        assert square.nth(1).is_visible()
        assert page.get_attribute("#layer-squares", "aria-pressed") == "true"
        # Stored from -10 to the middle; the first film hangs mirrored.
        assert float(square.nth(1).get_attribute("x")) == -10
        assert float(square.nth(0).get_attribute("x")) == WIDTH / 2
        assert float(square.nth(0).get_attribute("width")) == WIDTH / 2 + 10
        words = page.locator("#stage .score.square").first.text_content()
        assert words == "detector 0.700, second look 0.900"
        slide(page, 0.9)  # what is not marked was looked at all the same
        assert page.locator("#stage rect.square.below").count() == 4
        slide(page, 0.5)
        page.keyboard.press("d")
        assert not square.nth(1).is_visible()
        page.keyboard.press("d")
        page.click("#layer-squares")
        assert not square.nth(1).is_visible()

        outline = page.locator("#stage path.outline.suspicious")
        assert outline.count() == 4
        assert outline.first.is_visible()
        path = outline.nth(1).get_attribute("d")
        points = sorted(tuple(map(float, point.split())) for point in path[1:-1].split("L"))
        left, right, top, bottom = WIDTH / 4, 3 * WIDTH / 4, HEIGHT / 4, HEIGHT / 2
        assert points == [(left, top), (left, bottom), (right, top), (right, bottom)]
        page.keyboard.press("o")
        assert not outline.first.is_visible()
        assert page.get_attribute("#layer-outlines", "aria-pressed") == "false"


def test_a_study_is_picked_judged_and_shown(open_page):
    with open_page() as page:
        page.click("#studies button >> text=P2")
        assert page.text_content("#state") == "This study has not been judged."
        page.click("#judge")
        painted(page)
        assert n_marks(page) == 4
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#exam-title >> text=Grey")
        page.fill("#search", "p2")
        assert page.locator("#studies button").count() == 1
        with page.expect_download() as download:
            page.click("#as-json")
        content = json.loads(download.value.path().read_text())
        assert content["patient_id"] == "Grey"


def test_films_are_added_on_the_page(open_page, tmp_path):
    with open_page() as page:
        films = write_study(tmp_path, 5, n_views=2, PatientID="added")
        page.set_input_files("#files", [str(path) for path in films])
        page.wait_for_selector("#exam-title >> text=added")
        painted(page)
        assert page.locator("#stage canvas[role=img]").count() == 2
        assert page.locator("#stage .empty").count() == 2
    with open_page(silent=False) as page:  # the browser itself remarks on a refusal
        (tmp_path / "notes.txt").write_text("no film")
        page.set_input_files("#files", str(tmp_path / "notes.txt"))
        page.wait_for_selector("#message.bad")
        assert "the upload holds no image; legal: DICOM" in page.text_content("#message")


def test_a_hostile_patient_is_text(open_page):
    with open_page(HOSTILE) as page:
        painted(page)
        assert page.text_content("#exam-title") == HOSTILE
        assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1900])
def test_phone_to_workstation_light_and_dark(open_page, width, scheme):
    with open_page("Grey", width=width, scheme=scheme) as page:
        painted(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        tops = [page.locator("#stage .view").nth(i).bounding_box()["y"] for i in range(4)]
        assert len(set(map(round, tops))) == (2 if width < 700 else 1)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
        names = page.evaluate(
            "[...document.querySelectorAll('button, input, select')].filter(n => n.offsetParent)"
            ".filter(n => !(n.textContent.trim() || n.ariaLabel || n.labels?.length)).length"
        )
        assert names == 0  # every control has a name
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the exam"


def test_the_token_is_asked_for_once(browser, tmp_path):
    write_study(tmp_path / "folder", 3, PatientID="P3")
    token = "0123456789abcdef0123"
    with (
        studies_in(tmp_path / "folder") as studies,
        served(app_of(studies, Access(token.encode()))) as url,
        visited(browser, url, [], silent=False) as page,
    ):
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
        page.fill("#token", token)
        page.click("#give button")
        page.wait_for_selector("#studies button >> text=P3")
        assert token not in page.content()
        page.reload()
        page.wait_for_selector("#studies button >> text=P3")
        assert not page.is_visible("#ask")
    shutil.rmtree(tmp_path / "folder")
