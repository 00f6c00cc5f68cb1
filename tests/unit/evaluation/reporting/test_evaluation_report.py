"""The report as files, and the command that makes it."""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from simfrcnn.artifacts import sidecar_of, write_detections
from simfrcnn.cli import evaluate as command
from simfrcnn.errors import ArtifactError, ConfigError, DataError, OutputError, SimFrcnnError
from simfrcnn.evaluation import Figure, evaluate, write_report
from simfrcnn.evaluation.reporting.documents import DISCLAIMER
from simfrcnn.evaluation.reporting.figures import draw_charts, pictures_of
from simfrcnn.evaluation.reporting.gallery import HungPicture
from simfrcnn.evaluation.reporting.report import main_point, summary_lines
from simfrcnn.evaluation.reporting.wording import label_of
from simfrcnn.evaluation.results import OperatingPoint
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import (
    CATEGORIES,
    detection_file,
    found,
    grey_pictures,
    image,
    random_set,
)

FEW = EvaluationSettings(bootstrap_replicates=40)
BOX = (10, 10, 30, 30)
FILES = {
    "report.json",
    "checklist.md",
    "report.md",
    "report.html",
    *(
        f"{name}.{kind}"
        for name in ("roc", "froc", "precision_recall", "calibration")
        for kind in ("svg", "png")
    ),
}


class Page(HTMLParser):
    """What a page loads, the text that a reader sees, and the data for its script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.data: dict[str, object] = {}
        self.tags: set[str] = set()
        self._inside: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        facts = dict(attrs)
        self.sources += [
            facts[name] or "" for name in ("src", "href") if name in facts and tag != "a"
        ]
        if tag in ("script", "style"):
            self._inside = [(tag, facts.get("id"))]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = []

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)
        elif self._inside[0][1]:
            self.data[self._inside[0][1]] = json.loads(data)


@pytest.fixture
def real_charts() -> None:
    """Of a test that looks at the files for papers."""


@pytest.fixture(autouse=True)
def _no_files_for_papers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than all else here."""
    if "real_charts" not in request.fixturenames:
        monkeypatch.setattr(
            "simfrcnn.evaluation.reporting.report.draw_charts",
            lambda charts: {"png": b"", "svg": b""},
        )


def test_the_files_of_a_report(tmp_path: Path, real_charts: None) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW, provenance={"annotations": "test.json"})
    page = write_report(
        tmp_path / "new" / "report",
        report,
        records=records,
        detections=detections,
        load_pictures=grey_pictures,
        title="A <test>",
    )
    assert {path.name for path in page.parent.iterdir()} == FILES
    assert json.loads((page.parent / "report.json").read_text()) == json.loads(
        json.dumps(report.to_json(), allow_nan=False)
    )
    html = Page(page.read_text())
    assert html.sources == []  # not one file, not one address
    text, markdown = " ".join(html.words), (page.parent / "report.md").read_text()
    auc = report.figures["case/auc"]
    for words in (text, markdown):
        assert f"{auc.value:.3f}" in words
        assert f"{auc.low:.3f} to {auc.high:.3f}" in words
        assert DISCLAIMER in words
        assert "test.json" in words
        assert words.index("Summary") < words.index("Curves") < words.index("Rules")
        assert "exams are shown, at most 12 for each reason" in words
    assert "A <test>" in text  # escaped in the source, whole on the page
    assert "test" not in html.tags
    for name in ("roc", "froc", "precision_recall", "calibration"):
        assert ET.parse(page.parent / f"{name}.svg").getroot().tag.endswith("svg")
        assert f"]({name}.svg)" in markdown


def test_what_is_in_the_page_for_its_script(tmp_path: Path) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    page = write_report(
        tmp_path, report, records=records, detections=detections, load_pictures=grey_pictures
    )
    data = Page(page.read_text()).data
    assert data["report-data"]["start"] == 0.5
    for level, units in report.units.items():
        held = data["report-data"]["levels"][level]
        for truth in ("positive", "normal"):
            scores = np.frombuffer(base64.b64decode(held[truth]), dtype="<f8")
            assert scores.tolist() == sorted(u.score for u in units if u.truth == truth)
        assert held["unknown"] == sum(unit.truth == "unknown" for unit in units)
    shown = {view["id"] for exam in data["report-data"]["exams"] for view in exam["views"]}
    assert {int(image_id) for image_id in data["report-pictures"]} == shown
    assert len(shown) > 5


def test_without_pixels_there_are_boxes_in_empty_frames_and_the_page_says_so(
    tmp_path: Path,
) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    arguments = {"records": records, "detections": detections}
    write_report(tmp_path, report, load_pictures=grey_pictures, **arguments)
    page = write_report(tmp_path, report, load_pictures=None, **arguments)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    html = Page(page.read_text())
    assert "boxes are shown in empty frames" in " ".join(html.words)
    assert html.data["report-pictures"] == {}
    assert any(v["found"] for exam in html.data["report-data"]["exams"] for v in exam["views"])


def test_an_earlier_report_leaves_no_picture_behind(tmp_path: Path) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    arguments = {"records": records, "detections": detections, "load_pictures": None}
    write_report(tmp_path, report, **arguments)
    (tmp_path / "images.png").write_bytes(b"of the first versions")
    (tmp_path / "mine.png").write_bytes(b"not ours")
    write_report(tmp_path, replace(report, calibration={}), **arguments)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == FILES - {"calibration.svg", "calibration.png"} | {"mine.png"}


def test_a_report_of_undefined_figures_is_written_all_the_same(tmp_path: Path) -> None:
    records, detections = [image(1, "A")], detection_file(found(1))
    report = evaluate(records, detections, FEW)
    page = write_report(
        tmp_path, report, records=records, detections=detections, load_pictures=grey_pictures
    )
    text = " ".join(Page(page.read_text()).words)
    assert "needs a positive and a normal case" in text
    assert "nan" not in text.lower().split()
    assert summary_lines(report)[0].startswith("AUC by case          undefined")


def test_a_report_without_intervals_says_why(tmp_path: Path) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, replace(FEW, bootstrap_replicates=0))
    page = write_report(
        tmp_path, report, records=records, detections=detections, load_pictures=None
    )
    text = " ".join(Page(page.read_text()).words)
    assert "no interval: none was asked for" in text
    assert "Intervals by" not in text
    assert "Bands round curves" not in text


def test_a_report_says_when_its_figures_rest_on_few_cases() -> None:
    records, detections = random_set(0)
    note = "The figures by case rest on {positive} positive and {normal} normal cases."
    report = evaluate(records, detections, FEW)
    n = report.figures["case/auc"].n
    assert min(n.values()) < 20
    assert any(one.startswith(note.format_map(n)) for one in report.notes)
    without = evaluate(records, detections, replace(FEW, bootstrap_replicates=0))
    assert not any("rest on" in one for one in without.notes)  # there is no interval to doubt
    records, detections = random_set(0, n_patients=100)
    assert not any("rest on" in one for one in evaluate(records, detections, FEW).notes)


def test_the_rules_name_the_methods_that_were_used_and_no_other(tmp_path: Path) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    page = write_report(
        tmp_path, report, records=records, detections=detections, load_pictures=None
    )
    text = " ".join(Page(page.read_text()).words)
    used = {figure.method for figure in report.figures.values()}
    for method, words in (
        ("bootstrap", "Intervals by bootstrap: 40 (seed 0) resamplings"),
        ("clopper-pearson", "Intervals by Clopper-Pearson:"),
        ("delong-logit", "Intervals by DeLong, logit:"),
        ("obuchowski-logit", "Intervals by Obuchowski, logit:"),
        ("disjoint-pairs", "Intervals by disjoint pairs:"),
    ):
        assert (words in text) == (method in used)
    assert len(used - {None}) >= 2


def test_the_summary_stands_at_the_point_that_was_chosen_on_validation(tmp_path: Path) -> None:
    records, detections = random_set(0)
    chosen = OperatingPoint("case", "sensitivity", 0.3, 0.9, "val", 0.95, 0.5)
    report = evaluate(records, detections, FEW, operating_points=(chosen,))
    assert main_point(report) == chosen
    assert main_point(evaluate(records, detections, FEW)).rule == "fixed"
    page = write_report(
        tmp_path, report, records=records, detections=detections, load_pictures=None
    )
    html = Page(page.read_text())
    text = " ".join(html.words)
    assert "at score >= 0.3, an operating point chosen on val (by sensitivity)" in text
    assert html.data["report-data"]["start"] == 0.3
    confusion = report.confusions["case/sensitivity"]
    table = f"| positive | {confusion.true_positives} | {confusion.false_negatives} |"
    assert table in (tmp_path / "report.md").read_text()


HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("iou", [0.5, 0.55, 0.575, 0.75, 0.1, 0.07, 0.123456789])
def test_every_iou_threshold_has_its_ap_in_the_chart_and_the_table(iou: float) -> None:
    records, detections = random_set(0)
    settings = EvaluationSettings(bootstrap_replicates=0, iou_threshold=iou)
    report = evaluate(records, detections, settings)
    key = {0.5: "ap50", 0.55: "ap55", 0.575: "ap57.5", 0.75: "ap75", 0.1: "ap10", 0.07: "ap7"}
    name = f"finding/{key.get(iou, 'ap12.3457')}"
    value = report.figures[name].value
    assert 0 < value < 1
    (chart,) = pictures_of(report)["precision_recall"]
    assert [line.label for line in chart.lines] == [f"IoU >= {iou:g}: AP {value:.3f}"]
    assert label_of(name) == f"AP at IoU {iou:g}"


def test_a_hostile_id_stays_a_word(tmp_path: Path) -> None:
    records, detections = random_set(0)
    records = [replace(record, exam_id=HOSTILE + record.exam_id) for record in records]
    report = evaluate(records, detections, FEW, provenance={"annotations": HOSTILE})
    page = write_report(
        tmp_path,
        report,
        records=records,
        detections=detections,
        load_pictures=grey_pictures,
        title=HOSTILE,
    )
    html = Page(page.read_text())
    assert "img" not in html.tags
    assert html.data["report-data"]["exams"][0]["id"].startswith(HOSTILE)
    assert HOSTILE in " ".join(html.words)
    assert "<img" not in (tmp_path / "report.md").read_text()


def test_a_file_name_that_is_not_utf_8_is_written(tmp_path: Path) -> None:
    records, detections = random_set(0)
    records = [replace(record, exam_id="M\udce4rz" + record.exam_id) for record in records]
    report = evaluate(records, detections, FEW, provenance={"annotations": "M\udce4rz.json"})
    page = write_report(
        tmp_path, report, records=records, detections=detections, load_pictures=None
    )
    assert "On M\\udce4rz.json" in (tmp_path / "report.md").read_text("utf-8")
    html = Page(page.read_text("utf-8"))
    assert "On M\\udce4rz.json" in " ".join(html.words)
    assert html.data["report-data"]["exams"][0]["id"].startswith("M\udce4rz")
    document = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert document["provenance"]["annotations"] == "M\udce4rz.json"


def test_an_image_that_cannot_be_read_leaves_nothing_half_written(tmp_path: Path) -> None:
    def broken(records: Sequence[ImageRecord]) -> list[HungPicture]:
        raise DataError(f"{records[0].path} is damaged")

    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    with pytest.raises(DataError, match="is damaged"):
        write_report(tmp_path, report, records=records, detections=detections, load_pictures=broken)
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    with pytest.raises(OutputError, match="report is a file"):
        write_report(
            tmp_path / "report", report, records=records, detections=detections, load_pictures=None
        )
    assert (tmp_path / "report").read_text() == "mine"


def test_a_gallery_of_less_than_nothing(tmp_path: Path) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    with pytest.raises(ConfigError, match="--gallery is -1; 0"):
        write_report(
            tmp_path,
            report,
            records=records,
            detections=detections,
            load_pictures=None,
            n_gallery=-1,
        )


def test_drawing_is_deterministic_and_leaves_matplotlib_as_it_was() -> None:
    records, detections = random_set(1)
    report = evaluate(records, detections, FEW)
    before = dict(matplotlib.rcParams)
    charts = pictures_of(report)["roc"]
    drawn = draw_charts(charts)
    assert drawn["png"].startswith(b"\x89PNG")
    assert b"<svg" in drawn["svg"]
    assert drawn == draw_charts(charts)
    assert dict(matplotlib.rcParams) == before


def test_figures_in_words() -> None:
    assert str(Figure(0.9123, 0.85, 0.957)) == "0.912 (0.850 to 0.957)"
    assert str(Figure(0.5)) == "0.500 (no interval)"
    assert str(Figure(float("nan"))) == "undefined"


@pytest.fixture
def test_set(tmp_path: Path) -> dict[str, Path]:
    """Four PNG images of two patients, their annotation file and detections."""
    images, annotations = [], []
    for number in range(1, 5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((80, 60), 100, np.uint8))
        is_positive = number <= 2
        images.append(
            {
                "id": number,
                "file_name": f"{number}.png",
                "height": 80,
                "width": 60,
                "patient_id": f"P{(number + 1) // 2}",
                "exam_id": f"E{(number + 1) // 2}",
                "laterality": "L",
                "view_position": "CC" if number % 2 else "MLO",
                "pixel_spacing_mm": None,
                "pathology": "malignant" if is_positive else "normal",
                "supervision": "boxes" if is_positive else "normal",
                "split": "test",
            }
        )
        if is_positive:
            annotations.append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [10, 10, 20, 20],
                    "area": 400,
                    "iscrowd": 0,
                    "pathology": "malignant",
                    "lesion_id": "L1",
                    "source": "radiologist",
                }
            )
    paths = {name: tmp_path / f"{name}.json" for name in ("annotations", "detections")}
    paths["annotations"].write_text(
        json.dumps(
            {
                "info": {"description": "four images", "version": "1"},
                "images": images,
                "annotations": annotations,
                "categories": [{"id": 1, "name": "malignant"}, {"id": 2, "name": "benign"}],
            }
        )
    )
    write_detections(
        paths["detections"],
        [found(1, (BOX, 0.9)), found(2), found(3, (BOX, 0.4)), found(4)],
        categories=CATEGORIES,
    )
    return paths


def arguments(paths: dict[str, Path], output: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(
        [
            "--annotations",
            str(paths["annotations"]),
            "--detections",
            str(paths["detections"]),
            "--output",
            str(output),
            *more,
        ]
    )


def test_the_command(
    test_set: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert command.run(arguments(test_set, output, "--replicates", "20")) == 0
    printed = capsys.readouterr().out
    assert re.search(r"AUC by case +1\.000", printed)
    # One positive case, found: p = .025 at the lower end.
    assert re.search(r"Sensitivity by case +1\.000 \(0\.025 to 1\.000\)", printed)
    assert f"report: {output / 'report.html'}" in printed
    document = json.loads((output / "report.json").read_text())
    assert document["schema_version"] == 2
    assert document["settings"]["bootstrap_replicates"] == 20
    assert document["figures"]["froc/centre/all/sensitivity_at_1"]["value"] == 0.5
    assert document["figures"]["froc/centre/all/lesion_sensitivity_at_1"]["value"] == 1.0
    assert len(document["provenance"]["annotations_sha256"]) == 64
    page = Page((output / "report.html").read_text())
    assert page.data["report-pictures"]["1"].startswith("data:image/jpeg;base64,")


def test_the_command_passes_its_options_on(test_set: dict[str, Path], tmp_path: Path) -> None:
    options = (
        "--score-threshold .3 --iou-threshold .25 --pooling mean --case-by patient "
        "--unknown-images normal --count-repeats --replicates 0 --seed 4 --target-classes "
        "malignant benign --no-images"
    )
    args = arguments(test_set, tmp_path / "out", *options.split())
    assert command.run(args) == 0
    written = json.loads((tmp_path / "out" / "report.json").read_text())["settings"]
    expected = EvaluationSettings(
        target_classes=("malignant", "benign"),
        score_threshold=0.3,
        iou_threshold=0.25,
        pooling="mean",
        case_by="patient",
        unknown_images="normal",
        count_repeats_as_false_positives=True,
        bootstrap_replicates=0,
        bootstrap_seed=4,
    )
    assert written == json.loads(json.dumps(dataclasses.asdict(expected)))
    assert '"report-pictures">{}<' in (tmp_path / "out" / "report.html").read_text()


def test_the_command_accepts_a_list_of_another_tool(
    test_set: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sidecar_of(test_set["detections"]).unlink()
    args = arguments(test_set, tmp_path / "out", "--replicates", "0", "--no-images")
    assert command.run(args) == 0
    assert "note: The detections came without a sidecar" in capsys.readouterr().out


def refused(args: argparse.Namespace, error: type[SimFrcnnError], words: str) -> None:
    with pytest.raises(error, match=words):
        command.run(args)
    assert not args.output.exists() or args.output.is_file()


def test_the_command_refuses_bad_input_and_writes_nothing(
    test_set: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    missing = {**test_set, "detections": tmp_path / "nowhere.json"}
    refused(arguments(missing, output), ArtifactError, r"nowhere\.json does not exist")
    options = ["--target-classes", "cancer"]
    refused(arguments(test_set, output, *options), ConfigError, "'cancer' is not among")
    refused(arguments(test_set, output, "--score-threshold", "50"), ConfigError, "is 50.0")
    write_detections(test_set["detections"], [found(1)], categories=CATEGORIES)
    refused(arguments(test_set, output), ArtifactError, r"image 2 \(2\.png\) was not run")
    write_detections(test_set["detections"], [found(1), found(901)], categories=CATEGORIES)
    others = r"is of other images: it covers 1 .* such as image 901, and lacks \d+ .* such as 2 \("
    refused(arguments(test_set, output), ArtifactError, others)
    output.write_text("a file")
    refused(arguments(test_set, output), OutputError, "out is a file")
