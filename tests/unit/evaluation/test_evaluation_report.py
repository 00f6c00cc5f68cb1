"""The report as files, and the command that makes it."""

from __future__ import annotations

import argparse
import json
import re
import xml.etree.ElementTree as ET
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
from simfrcnn.evaluation.figures import choose_sheet, draw_froc, draw_roc, draw_sheet
from simfrcnn.evaluation.report import DISCLAIMER, summary_lines
from simfrcnn.records import ImageRecord
from simfrcnn.settings import EvaluationSettings
from support.evaluation_examples import (
    CATEGORIES,
    detection_file,
    finding,
    found,
    image,
    random_set,
)

FEW = EvaluationSettings(bootstrap_replicates=40)
BOX = (10, 10, 30, 30)
FILES = {
    "report.json",
    "report.md",
    "report.html",
    "roc.svg",
    "roc.png",
    "froc.svg",
    "froc.png",
}


def grey(record: ImageRecord) -> np.ndarray:
    return np.full((record.height, record.width), 90, dtype=np.uint8)


class Page(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_files_of_a_report(tmp_path: Path) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW, provenance={"annotations": "test.json"})
    page = write_report(
        tmp_path / "new" / "report",
        report,
        records=records,
        detections=detections,
        load_pixels=grey,
        title="A <test>",
    )
    assert {path.name for path in page.parent.iterdir()} == FILES | {"images.png"}
    assert json.loads((page.parent / "report.json").read_text()) == json.loads(
        json.dumps(report.to_json(), allow_nan=False)
    )
    html = Page(page.read_text())
    assert len(html.sources) == 3
    assert all(source.startswith("data:image/") for source in html.sources)
    text, markdown = " ".join(html.words), (page.parent / "report.md").read_text()
    auc = report.figures["case/auc"]
    for words in (text, markdown):
        assert f"{auc.value:.3f}" in words
        assert f"{auc.low:.3f} to {auc.high:.3f}" in words
        assert DISCLAIMER in words
        assert "test.json" in words
        assert words.index("Summary") < words.index("Rules")
    assert "A <test>" in text  # escaped in the source, whole on the page
    for name in ("roc.svg", "froc.svg"):
        assert ET.parse(page.parent / name).getroot().tag.endswith("svg")
        assert f"]({name})" in markdown


def test_without_pixels_there_is_no_sheet_and_the_page_says_so(tmp_path: Path) -> None:
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    arguments = {"records": records, "detections": detections}
    write_report(tmp_path, report, load_pixels=grey, **arguments)
    page = write_report(tmp_path, report, load_pixels=None, **arguments)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert "No sheet of images was drawn" in page.read_text()


def test_a_report_of_undefined_figures_is_written_all_the_same(tmp_path: Path) -> None:
    records, detections = [image(1, "A")], detection_file(found(1))
    report = evaluate(records, detections, FEW)
    page = write_report(tmp_path, report, records=records, detections=detections, load_pixels=grey)
    text = " ".join(Page(page.read_text()).words)
    assert "needs a positive and a normal case" in text
    assert "nan" not in text.lower().split()
    assert summary_lines(report)[0].startswith("AUC by case          undefined")


def test_an_image_that_cannot_be_read_leaves_nothing_half_written(tmp_path: Path) -> None:
    def broken(record: ImageRecord) -> np.ndarray:
        raise DataError(f"{record.path} is damaged")

    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    with pytest.raises(DataError, match="is damaged"):
        write_report(tmp_path, report, records=records, detections=detections, load_pixels=broken)
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    records, detections = random_set(0)
    report = evaluate(records, detections, FEW)
    with pytest.raises(OutputError, match="report is a file"):
        write_report(
            tmp_path / "report", report, records=records, detections=detections, load_pixels=None
        )
    assert (tmp_path / "report").read_text() == "mine"


def test_drawing_is_deterministic_and_leaves_matplotlib_as_it_was() -> None:
    records, detections = random_set(1)
    report = evaluate(records, detections, FEW)
    before = dict(matplotlib.rcParams)
    assert draw_roc(report, "svg") == draw_roc(report, "svg")
    assert draw_froc(report, "svg") == draw_froc(report, "svg")
    assert dict(matplotlib.rcParams) == before


def test_the_sheet_shows_extremes_and_each_image_once() -> None:
    records = [image(i, f"P{i}", *([finding(BOX, i)] if i <= 3 else [])) for i in range(1, 9)]
    scores = {1: 0.2, 2: 0.9, 3: 0.5, 4: 0.1, 5: 0.8, 6: 0.3, 7: 0.0, 8: 0.6}
    detections = detection_file(*(found(i, (BOX, score)) for i, score in scores.items()))
    rows = choose_sheet(records, detections.images, FEW, n_per_row=2)
    assert [(row.title, [r.image_id for r in row.records]) for row in rows] == [
        ("positive images, highest scores", [2, 3]),
        ("positive images, lowest scores", [1]),
        ("normal images, highest scores", [5, 8]),
        ("normal images, lowest scores", [7, 4]),
    ]


def test_the_sheet_draws_truth_and_detections_where_they_are() -> None:
    records = [image(1, "A", finding((20, 20, 40, 40)))]
    rows = choose_sheet(records, {1: found(1)}, FEW)
    without = draw_sheet(rows, {1: found(1)}, FEW, grey)
    with_one = draw_sheet(rows, {1: found(1, ((60, 60, 90, 90), 0.75))}, FEW, grey)
    pictures = [
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        for data in (without, with_one)
    ]
    is_green = (pictures[0] == (0x73, 0x9E, 0x00)).all(axis=2)  # BGR of the target's colour
    panel = (abs(pictures[0].astype(int) - 90) <= 2).all(axis=2)
    # The soft edges of letters hold a few pixels of the same grey.
    left, right = np.flatnonzero(panel.sum(axis=0) > 50)[[0, -1]]
    top, bottom = np.flatnonzero(panel.sum(axis=1) > 50)[[0, -1]]
    columns, lines = np.flatnonzero(is_green.any(axis=0)), np.flatnonzero(is_green.any(axis=1))
    placed = [
        (columns[0] - left) / (right - left),
        (columns[-1] - left) / (right - left),
        (lines[0] - top) / (bottom - top),
        (lines[-1] - top) / (bottom - top),
    ]
    assert placed == pytest.approx([0.2, 0.4, 0.2, 0.4], abs=0.02)
    changed = (pictures[0] != pictures[1]).any(axis=2)
    columns, lines = np.flatnonzero(changed.any(axis=0)), np.flatnonzero(changed.any(axis=1))
    assert (columns[0] - left) / (right - left) == pytest.approx(0.6, abs=0.02)
    assert (lines[-1] - top) / (bottom - top) == pytest.approx(0.9, abs=0.02)


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
    assert document["schema_version"] == 1
    assert document["settings"]["bootstrap_replicates"] == 20
    assert document["figures"]["froc/centre/all/sensitivity_at_1"]["value"] == 0.5
    assert document["figures"]["froc/centre/all/lesion_sensitivity_at_1"]["value"] == 1.0
    assert len(document["provenance"]["annotations_sha256"]) == 64
    assert (output / "images.png").exists()


def test_the_command_passes_its_options_on(test_set: dict[str, Path], tmp_path: Path) -> None:
    options = (
        "--score-threshold .3 --iou-threshold .25 --pooling mean --case-by patient "
        "--unknown-images normal --count-repeats --replicates 0 --seed 4 --target-classes "
        "malignant benign --no-images"
    )
    args = arguments(test_set, tmp_path / "out", *options.split())
    assert command.settings_of(args) == EvaluationSettings(
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
    assert command.run(args) == 0
    assert not (tmp_path / "out" / "images.png").exists()


def test_the_command_without_options_uses_the_default_settings(
    test_set: dict[str, Path], tmp_path: Path
) -> None:
    assert command.settings_of(arguments(test_set, tmp_path)) == EvaluationSettings()


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
    output.write_text("a file")
    refused(arguments(test_set, output), OutputError, "out is a file")
