"""Pages with source pixels: every stored pixel, boxes where they lie, whole or not there."""

from __future__ import annotations

import base64
import json
import logging
import re
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import simfrcnn
from simfrcnn.artifacts import write_detections
from simfrcnn.cli.main import main
from simfrcnn.data.coco import write_coco
from simfrcnn.errors import ConfigError, DataError, OutputError
from simfrcnn.evaluation import evaluate, write_report
from simfrcnn.images.hanging import HungPicture, hung_pictures, source_pictures
from simfrcnn.images.reading import load_pixels
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import CATEGORIES, grey_pictures, random_set
from support.films import BOX, FALSE, HEIGHT, N_EXAMS, RING, WIDTH, film, films

pytestmark = pytest.mark.usefixtures("quick_charts")

NONE = EvaluationSettings(bootstrap_replicates=0)
HOSTILE = "</script><img src=x onerror=alert(1)>"


def block(page: Path, name: str) -> Any:
    """A block of JSON of a page."""
    text = page.read_text("utf-8")
    start = f'<script type="application/json" id="{name}">'
    return json.loads(text[text.index(start) + len(start) :].split("</script>")[0])


def pixels(page: Path, image_id: int) -> np.ndarray:
    """A picture of a page, which must be a PNG."""
    start, content = block(page, "report-pictures")[str(image_id)].split(",")
    assert start == "data:image/png;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)


def pages_of(report: Path) -> dict[str, Path]:
    """Exam -> its page, as the report links them."""
    exams = block(report, "report-data")["exams"]
    return {exam["id"]: report.parent / exam["link"]["page"] for exam in exams if "link" in exam}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[ImageRecord], Path]:
    """The films, and a report of them with pages."""
    folder = tmp_path_factory.mktemp("films")
    records, detections = films(folder)
    maps = {2: {"malignant": b"a map"}}
    report = write_report(
        folder / "report", evaluate(records, detections, NONE), records=records,
        detections=detections, load_pictures=hung_pictures, load_sources=source_pictures,
        load_maps=lambda some: [maps.get(record.image_id, {}) for record in some],
    )  # fmt: skip
    return records, report


def test_a_page_holds_every_stored_pixel_as_it_hangs(
    made: tuple[list[ImageRecord], Path],
) -> None:
    records, report = made
    pages = pages_of(report)
    assert sorted(pages) == ["P0-exam", "P1-exam", "P2-exam"]
    assert sorted(path.name for path in (report.parent / "exams").iterdir()) == [
        "1.html", "2.html", "3.html"
    ]  # fmt: skip
    for record in records:
        page = pages[record.exam_id]
        shown = pixels(page, record.image_id)
        is_right, is_dicom = record.image_id % 2 == 0, record.path.suffix == ".dcm"
        flip = np.s_[:: -1 if is_dicom else 1, :: -1 if is_right else 1]
        np.testing.assert_array_equal(shown, load_pixels(record)[flip])
        np.testing.assert_array_equal(shown, film(record.image_id)[flip])
        own = block(page, "report-pictures")
        others = {str(other.image_id) for other in records if other.exam_id != record.exam_id}
        assert not others & own.keys()
    assert "2 malignant" in block(pages["P0-exam"], "report-pictures")
    assert "2 malignant" not in block(pages["P1-exam"], "report-pictures")


def test_boxes_lie_on_a_page_where_they_lie_in_the_report_and_outlines_are_finer(
    made: tuple[list[ImageRecord], Path],
) -> None:
    _, report = made
    by_exam = {exam["id"]: exam for exam in block(report, "report-data")["exams"]}
    for exam, page in pages_of(report).items():
        data = block(page, "report-data")
        assert data["levels"] == data["charts"] == {}
        assert data["start"] == block(report, "report-data")["start"]
        (here,) = data["exams"]
        there = by_exam[exam]
        assert here["link"] == {**there["link"], "page": "../report.html", "words": "to the report"}
        assert page == report.parent / f"exams/{here['link']['exam']}.html"
        for own, small in zip(here["views"], there["views"], strict=True):
            assert (own["width"], own["height"]) == (WIDTH, HEIGHT)
            for key in ("id", "mirrored", "upside_down", "truth", "score", "heat", "left_out"):
                assert own[key] == small[key]
            assert [mark["box"] for mark in own["marked"]] == [
                mark["box"] for mark in small["marked"]
            ]
            assert [found[:6] for found in own["found"]] == [found[:6] for found in small["found"]]
    left, right = block(pages_of(report)["P0-exam"], "report-data")["exams"][0]["views"]
    assert left["marked"][0]["box"] == list(BOX)
    assert left["marked"][0]["outline"] == [[side for point in RING[0] for side in point]]
    assert left["found"][0][:4] == list(BOX)
    assert left["found"][0][6]["square"] == [150.0, 453.0, 371.0, 690.0]
    assert right["mirrored"]
    assert right["found"][0][:4] == [WIDTH - FALSE[2], FALSE[1], WIDTH - FALSE[0], FALSE[3]]
    small = by_exam["P0-exam"]["views"][0]["marked"][0]["outline"]
    assert len(small[0]) < 2 * len(RING[0])
    upside_down = block(pages_of(report)["P2-exam"], "report-data")["exams"][0]["views"][0]
    assert upside_down["upside_down"]
    assert upside_down["marked"][0]["box"] == [BOX[0], HEIGHT - BOX[3], BOX[2], HEIGHT - BOX[1]]


def test_the_report_is_the_same_but_for_the_links(
    made: tuple[list[ImageRecord], Path], tmp_path: Path
) -> None:
    records, report = made
    _, detections = films(tmp_path / "again")
    without = write_report(
        tmp_path / "report", evaluate(records, detections, NONE), records=records,
        detections=detections, load_pictures=hung_pictures,
    )  # fmt: skip
    assert pages_of(without) == {}
    assert "exams" not in {path.name for path in without.parent.iterdir()}
    assert "source pixels" not in (without.parent / "report.md").read_text()
    assert "in the folder exams" in (report.parent / "report.md").read_text()
    own, other = (path.with_suffix(".json").read_text() for path in (report, without))
    assert own == other
    small = {key: text for key, text in block(report, "report-pictures").items() if " " not in key}
    assert small == block(without, "report-pictures")


def written(folder: Path, load_sources: Any, **changes: Any) -> Path:
    """A report of a random set; its pictures are grey."""
    records, detections = random_set(0)
    report = evaluate(records, detections, NONE)
    facts = {"load_pictures": grey_pictures, "load_sources": load_sources, **changes}
    return write_report(folder, report, records=records, detections=detections, **facts)


def test_a_later_report_leaves_no_page_of_an_earlier_one(tmp_path: Path) -> None:
    n_pages = len(pages_of(written(tmp_path, grey_pictures)))
    assert n_pages > 2
    mine = tmp_path / "exams" / "mine.html"
    mine.write_text("not ours")
    few = written(tmp_path, grey_pictures, n_gallery=1)
    pages = pages_of(few).values()
    assert 0 < len(pages) < n_pages
    assert set((tmp_path / "exams").iterdir()) == {*pages, mine}
    assert pages_of(written(tmp_path, None)) == {}
    assert list((tmp_path / "exams").iterdir()) == [mine]
    written(tmp_path, grey_pictures)
    mine.unlink()
    written(tmp_path, None)
    assert not (tmp_path / "exams").exists()
    assert pages_of(written(tmp_path, grey_pictures, n_gallery=0)) == {}
    assert not (tmp_path / "exams").exists()


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("n_whole", [0, 2])
def test_a_film_that_cannot_be_read_changes_nothing(tmp_path: Path, n_whole: int) -> None:
    left = n_whole

    def broken(records: Sequence[ImageRecord]) -> list[HungPicture]:
        nonlocal left
        if not left:
            raise DataError(f"{records[0].path} is damaged")
        left -= 1
        return grey_pictures(records)

    with pytest.raises(DataError, match="is damaged"):
        written(tmp_path / "new", broken)
    assert files_in(tmp_path) == {}
    assert not (tmp_path / "new" / "exams").exists()
    left = 100
    report = written(tmp_path / "old", broken)
    before, left = files_in(tmp_path), n_whole
    with pytest.raises(DataError, match="is damaged"):
        written(tmp_path / "old", broken)
    assert files_in(tmp_path) == before
    assert len(pages_of(report)) == len(list((tmp_path / "old" / "exams").iterdir())) > n_whole


def test_the_place_of_the_pages_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "exams").write_text("mine")
    with pytest.raises(OutputError, match=r"exams/1\.html: a part of that path is a file"):
        written(tmp_path, grey_pictures)
    assert files_in(tmp_path) == {"exams": b"mine"}


def test_pages_are_made_one_after_the_other(tmp_path: Path) -> None:
    earlier: list[weakref.ref[HungPicture]] = []
    on_disk: list[list[int]] = []

    def one_exam(records: Sequence[ImageRecord]) -> Iterator[HungPicture]:
        assert len({record.exam_id for record in records}) == 1
        assert [ref() for ref in earlier] == [None] * len(earlier)  # nothing holds them any more
        sizes = [path.stat().st_size for path in tmp_path.glob("exams/.*.html.*.part")]
        on_disk.append(sizes)
        for picture in grey_pictures(records):
            earlier.append(weakref.ref(picture))
            yield picture
            del picture

    pages = pages_of(written(tmp_path, one_exam))
    assert [len(sizes) for sizes in on_disk] == list(range(len(pages)))  # none has its name yet
    assert min(on_disk[-1]) > 10_000


def test_names_of_files_are_numbers_and_a_hostile_name_stays_a_word(tmp_path: Path) -> None:
    records, detections = random_set(0)
    records = [
        replace(r, exam_id=HOSTILE + r.exam_id, patient_id=HOSTILE + r.patient_id) for r in records
    ]
    report = write_report(
        tmp_path, evaluate(records, detections, NONE), records=records, detections=detections,
        load_pictures=grey_pictures, load_sources=grey_pictures,
    )  # fmt: skip
    pages = pages_of(report)
    assert len(pages) > 2
    for exam, page in pages.items():
        assert re.fullmatch(r"[1-9]\d*\.html", page.name)
        assert "<img" not in page.read_text()
        (own,) = block(page, "report-data")["exams"]
        assert own["id"] == exam
        assert own["id"].startswith(HOSTILE)
        assert own["patient"].startswith(HOSTILE)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """What ``evaluate`` needs to judge the films."""
    records, detections = films(tmp_path / "films")
    write_coco(tmp_path / "test.json", records, CATEGORIES, {})
    found = tmp_path / "detections.json"
    write_detections(found, detections.images.values(), categories=CATEGORIES)
    words = ["--annotations", str(tmp_path / "test.json"), "--detections", str(found)]
    return [*words, "--output", str(tmp_path / "out"), "--replicates", "0"]


def test_the_command_writes_the_pages_and_says_how_large_they_are(
    paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *paths]) == 0
    assert "source pixels" not in capsys.readouterr().out
    assert not (tmp_path / "out" / "exams").exists()
    assert main(["evaluate", *paths, "--source-pictures"]) == 0
    pages = pages_of(tmp_path / "out" / "report.html")
    sizes = [page.stat().st_size / 1e6 for page in pages.values()]
    assert len(sizes) == N_EXAMS
    said = re.search(
        r"source pixels: 3 pages of (\d+\.\d) MB together, the largest (\d+\.\d) MB, in (.+)",
        capsys.readouterr().out,
    )
    assert said
    assert [float(said[1]), float(said[2])] == [round(sum(sizes), 1), round(max(sizes), 1)]
    assert said[3] == str(tmp_path / "out" / "exams")
    assert float(said[1]) > 1
    assert (pixels(pages["P1-exam"], 3) == film(3)).all()


def test_pages_without_pixels_are_refused(
    paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *paths, "--source-pictures", "--no-images"]) == 2
    said = capsys.readouterr().err
    assert "--source-pictures (source_pictures=True) shows the pixels of the films" in said
    assert "--no-images (pictures=False) does not read; give one of the two" in said
    for judge in (simfrcnn.evaluate, simfrcnn.compare):
        with pytest.raises(ConfigError, match="give one of the two"):
            judge("a.json", {}, output=tmp_path / "out", pictures=False, source_pictures=True)
    assert main(["evaluate", *paths, "--gallery", "-1"]) == 2
    assert "--gallery is -1; legal is 0 (no exams) or more" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_comparison_has_pages_beside_each_report(
    paths: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = tmp_path / "detections.json"
    with caplog.at_level(logging.INFO, "simfrcnn"):
        simfrcnn.compare(
            tmp_path / "test.json", {"one": found, "other": found}, output=tmp_path / "both",
            settings=replace(NONE, bootstrap_replicates=20), gallery=1, source_pictures=True,
        )  # fmt: skip
    for name in ("one", "other"):
        pages = pages_of(tmp_path / "both" / name / "report.html")
        assert 0 < len(pages) < N_EXAMS
        assert set(pages.values()) == set((tmp_path / "both" / name / "exams").iterdir())
        assert f"in {tmp_path / 'both' / name / 'exams'}" in caplog.text
